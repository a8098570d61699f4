# SPDX-License-Identifier: Apache-2.0
"""The registry's contract, in memory and in a file; and that the two cannot be told apart."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vferry.core.errors import VferryError
from vferry.core.ownership import Ownership, Token
from vferry.ports.registry import Entry, Registry
from vferry.registry.sqlite import SqliteRegistry
from vferry.testing.memory_registry import MemoryRegistry, RegistryStorage
from vferry.testing.registry_contract import Registries, RegistryContract, identity, owned


class InMemory:
    def __init__(self) -> None:
        self.storage = RegistryStorage()

    def open(self, *, epoch: int = 1) -> Registry:
        return MemoryRegistry(self.storage, epoch=epoch)

    async def value(self, vm: str) -> bytes:
        return self.storage.values[vm][1]

    async def put_value(self, vm: str, value: bytes) -> None:
        self.storage.values[vm] = (self.storage.values[vm][0], value)


class InFile:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.registries: list[SqliteRegistry] = []

    def open(self, *, epoch: int = 1) -> Registry:
        self.registries.append(SqliteRegistry(str(self.path), epoch=epoch))
        return self.registries[-1]

    async def value(self, vm: str) -> bytes:
        return bytes(self._execute("SELECT value FROM entries WHERE vm = ?", vm)[0][0])

    async def put_value(self, vm: str, value: bytes) -> None:
        self._execute("UPDATE entries SET value = ? WHERE vm = ?", value, vm)

    def _execute(self, query: str, *parameters: bytes | str) -> list[tuple[bytes]]:
        db = sqlite3.connect(self.path, isolation_level=None)
        try:
            return db.execute(query, parameters).fetchall()
        finally:
            db.close()

    def close(self) -> None:
        for registry in self.registries:
            registry.close()


class TestMemoryRegistry(RegistryContract):
    @pytest.fixture
    def registries(self) -> Registries:
        return InMemory()


class TestSqliteRegistry(RegistryContract):
    @pytest.fixture
    def registries(self, tmp_path: Path) -> Iterator[Registries]:
        store = InFile(tmp_path / "registry.sqlite")
        yield store
        store.close()


# Both, step by step

ENTRIES = st.builds(
    lambda vm, addresses, owner: owned(vm, *addresses, owner=owner),
    st.sampled_from(["vm1", "vm2", "vm3"]),
    st.lists(st.builds(lambda number, shared: identity(number, shared=shared), st.integers(1, 2), st.booleans())),
    st.sampled_from(["a", "b"]),
)
STEPS = st.lists(
    st.tuples(st.sampled_from(["create", "replace", "replace", "delete"]), ENTRIES, st.integers(0, 3)), max_size=16
)


async def _outcome(registry: Registry, act: str, ownership: Ownership, token: Token) -> Entry | str | None:
    try:
        if act == "create":
            return await registry.create(ownership)
        if act == "replace":
            return await registry.replace(ownership, token)
        await registry.delete(ownership.vm, token)
    except VferryError as error:
        return str(error)
    return None


async def _walk(registry: Registry, steps: list[tuple[str, Ownership, int]]) -> list[object]:
    """Tokens mostly fit: what is asked for is the newest, minus a little now and then."""
    seen: list[object] = []
    for act, ownership, late in steps:
        entry = await registry.read(ownership.vm)
        revision = 0 if entry is None else entry.token.revision
        seen.append(await _outcome(registry, act, ownership, Token(1, max(0, revision - late // 3))))
        seen.append(await registry.entries())
    return seen


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_memory_and_file_answer_alike(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Ownership, int]]
) -> None:
    file = SqliteRegistry(str(tmp_path_factory.mktemp("registry") / "registry.sqlite"))
    try:
        assert asyncio.run(_walk(file, steps)) == asyncio.run(_walk(MemoryRegistry(), steps))
    finally:
        file.close()
