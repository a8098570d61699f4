# SPDX-License-Identifier: Apache-2.0
"""How the registry in memory fails when it is told to."""

from __future__ import annotations

import pytest

from vferry.ports.registry import (
    Entry,
    Registry,
    RegistryUnreachableError,
    StaleTokenError,
    UnclearOutcomeError,
)
from vferry.testing.memory_registry import Failure, MemoryRegistry
from vferry.testing.registry_contract import identity, owned

pytestmark = pytest.mark.anyio


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


async def change(registry: Registry, act: str, entry: Entry) -> None:
    if act == "create":
        await registry.create(owned("vm2", identity(2)))
    elif act == "replace":
        await registry.replace(owned("vm1", owner="b"), entry.token)
    else:
        await registry.delete("vm1", entry.token)


ACTS = ("create", "replace", "delete")


@pytest.mark.parametrize("act", ACTS)
async def test_unreachable_is_certainly_not_done(registry: MemoryRegistry, act: str) -> None:
    entry = await registry.create(owned("vm1"))
    registry.fail_next(Failure.UNREACHABLE)
    with pytest.raises(RegistryUnreachableError):
        await change(registry, act, entry)
    assert await registry.entries() == (entry,)
    await change(registry, act, entry)
    assert await registry.entries() != (entry,)


@pytest.mark.parametrize("failure", [Failure.UNCLEAR_APPLIED, Failure.UNCLEAR_NOT_APPLIED, Failure.UNCLEAR_LATE])
@pytest.mark.parametrize("act", ACTS)
async def test_an_unclear_outcome_is_told_by_reading(registry: MemoryRegistry, act: str, failure: Failure) -> None:
    entry = await registry.create(owned("vm1"))
    registry.fail_next(failure)
    assert await registry.entries() == (entry,), "a read has no unclear outcome"
    with pytest.raises(UnclearOutcomeError):
        await change(registry, act, entry)
    assert (await registry.entries() != (entry,)) == (failure is Failure.UNCLEAR_APPLIED)
    assert registry.deliver() == (failure is Failure.UNCLEAR_LATE)
    assert (await registry.entries() != (entry,)) == (failure is not Failure.UNCLEAR_NOT_APPLIED)


async def test_the_unheard_may_have_been_refused(registry: MemoryRegistry) -> None:
    entry = await registry.create(owned("vm1"))
    newer = await registry.replace(owned("vm1"), entry.token)
    registry.fail_next(Failure.UNCLEAR_APPLIED)
    with pytest.raises(UnclearOutcomeError):
        await registry.replace(owned("vm1", owner="b"), entry.token)
    assert await registry.entries() == (newer,)


async def test_a_late_request_meets_what_happened_meanwhile(registry: MemoryRegistry) -> None:
    entry = await registry.create(owned("vm1"))
    registry.fail_next(Failure.UNCLEAR_LATE)
    with pytest.raises(UnclearOutcomeError):
        await registry.replace(owned("vm1", owner="b"), entry.token)
    newer = await registry.replace(owned("vm1", owner="c"), entry.token)
    assert registry.deliver() == 0
    assert await registry.entries() == (newer,)


async def test_failures_wait_for_their_method_and_number(registry: MemoryRegistry) -> None:
    registry.fail_next(Failure.UNREACHABLE, on="replace")
    registry.fail_next(Failure.UNREACHABLE, on="read", times=2)
    entry = await registry.create(owned("vm1"))
    for _ in range(2):
        with pytest.raises(RegistryUnreachableError):
            await registry.read("vm1")
    assert await registry.read("vm1") == entry
    with pytest.raises(RegistryUnreachableError):
        await registry.replace(owned("vm1"), entry.token)
    await registry.replace(owned("vm1"), entry.token)
    with pytest.raises(StaleTokenError):
        await registry.delete("vm1", entry.token)
    assert registry.calls == ["create vm1", *["read vm1"] * 3, *["replace vm1"] * 2, "delete vm1"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
