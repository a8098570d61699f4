# SPDX-License-Identifier: Apache-2.0
"""Steps in the registry: each one compare-and-swap, and an unclear answer is resolved by reading."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from vferry.core.errors import RefusedError
from vferry.core.ownership import Ownership
from vferry.ports.registry import Entry, Registry, StaleTokenError, UnclearOutcomeError

__all__ = ["NoEntryError", "Transition", "read_entry", "step"]


Transition: TypeAlias = Callable[[Ownership], Ownership]
"""Returns the entry after a step; raises :class:`~vferry.core.ownership.NotOursError` where it may not be taken."""


class NoEntryError(RefusedError):
    """The registry does not know the VM."""

    def __init__(self, vm: str) -> None:
        super().__init__(
            f"find the owner of VM {vm}",
            why="the registry has no entry for it",
            next_step="take the VM under ownership before it is moved",
        )


async def read_entry(registry: Registry, vm: str) -> Entry:
    """Read a VM's entry.

    :raise NoEntryError: there is none.
    :raise RegistryError: the registry does not answer.
    """
    entry = await registry.read(vm)
    if entry is None:
        raise NoEntryError(vm)
    return entry


async def step(registry: Registry, vm: str, transition: Transition, *, renew: bool = False) -> Entry:
    """Take one step; return the entry after it.

    :param renew: replace the entry even by itself: requests that are still under way then find a stale token.

    Taking it again after a lost answer is harmless: a transition returns an entry unchanged that it has made already.

    :raise NotOursError: the entry is in a stage from which the step may not be taken, or another migration's.
    :raise NoEntryError: the VM has no entry.
    :raise RegistryError: the registry does not answer; the step may have been taken, and the next try finds out.
    """
    while True:
        entry = await read_entry(registry, vm)
        wanted = transition(entry.ownership)
        if wanted == entry.ownership and not renew:
            return entry
        try:
            return await registry.replace(wanted, entry.token)
        except (StaleTokenError, UnclearOutcomeError):
            continue  # somebody was faster, or it may be done: the next reading says
