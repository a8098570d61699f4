# SPDX-License-Identifier: Apache-2.0
"""The registry as one host sees it over a bad network: slow, away for a spell, unclear about what it has done."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import trio

from vferry.core.ownership import Ownership, Token
from vferry.ports.registry import Entry, Registry, RegistryUnreachableError, UnclearOutcomeError
from vferry.testing.memory_registry import Failure, MemoryRegistry, RegistryStorage

__all__ = ["RegistryWeather", "WorldRegistry"]


class RegistryWeather(NamedTuple):
    """How bad the way to the registry is."""

    away: float = 0.0
    """Share of requests that are certainly not carried out, 0 to 1."""
    unclear: float = 0.0
    """Share of changes whose answer is lost; a third of them was made, a third is made later, a third never."""
    latency: float = 0.002
    """Seconds for a request and its answer."""


_UNCLEAR = (Failure.UNCLEAR_APPLIED, Failure.UNCLEAR_NOT_APPLIED, Failure.UNCLEAR_LATE)


class WorldRegistry(Registry):
    """What one host asks; all hosts of a world share the storage.

    :param changed: called with the new entry's VM whenever something was changed.
    """

    def __init__(
        self, host: str, storage: RegistryStorage, seed: object, nursery: trio.Nursery, changed: Callable[[str], None]
    ) -> None:
        self.weather = RegistryWeather()
        self.down = False
        """Nothing gets through for now."""
        self._host = host
        self._inner = MemoryRegistry(storage)
        self._random = random.Random(f"{seed}/registry/{host}")  # noqa: S311 -- a simulation
        self._nursery = nursery
        self._changed = changed

    def fail_next(self, failure: Failure, *, on: str) -> None:
        """Let the next call of a method fail, after those that were told to before."""
        self._inner.fail_next(failure, on=on)

    def deliver(self) -> None:
        """Let the requests under way arrive now."""
        if self._inner.deliver():
            for vm in self._inner.storage.values:
                self._changed(vm)

    async def read(self, vm: str) -> Entry | None:
        """Return a VM's entry."""
        await self._travel("read", vm)
        found = await self._inner.read(vm)
        await trio.sleep(self.weather.latency / 2)
        return found

    async def entries(self) -> tuple[Entry, ...]:
        """Return all entries."""
        await self._travel("entries", "")
        return await self._inner.entries()

    async def create(self, ownership: Ownership) -> Entry:
        """Store the first entry of a VM."""
        await self._travel("create", ownership.vm)
        entry = await self._inner.create(ownership)
        self._changed(ownership.vm)
        return entry

    async def replace(self, ownership: Ownership, expected: Token) -> Entry:
        """Replace a VM's entry."""
        await self._travel("replace", ownership.vm)
        if self._random.random() < self.weather.unclear:
            failure = self._random.choice(_UNCLEAR)
            self._inner.fail_next(failure, on="replace")
            if failure is Failure.UNCLEAR_LATE:
                self._nursery.start_soon(self._deliver_late, self._random.uniform(0.0, 1.0))
        before = self._inner.storage.revision
        try:
            entry = await self._inner.replace(ownership, expected)
        except UnclearOutcomeError:
            if self._inner.storage.revision != before:
                self._changed(ownership.vm)  # at once: others see it while the answer is awaited
            await trio.sleep(self.weather.latency * 10)
            raise
        self._changed(ownership.vm)
        await trio.sleep(self.weather.latency / 2)
        return entry

    async def delete(self, vm: str, expected: Token) -> None:
        """Remove a VM's entry."""
        await self._travel("delete", vm)
        await self._inner.delete(vm, expected)
        self._changed(vm)

    async def _travel(self, method: str, vm: str) -> None:
        await trio.sleep(self.weather.latency / 2)
        if self.down or self._random.random() < self.weather.away:
            raise RegistryUnreachableError(f"{method} {vm}", host=self._host, why="the simulated registry is away")

    async def _deliver_late(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self.deliver()
