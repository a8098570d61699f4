# SPDX-License-Identifier: Apache-2.0
"""A registry in memory that several simulated hosts share, and that fails as a registry far away does."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TypeVar

from vferry.core.ownership import Ownership, Token
from vferry.ports.registry import (
    Entry,
    IdentityTakenError,
    Registry,
    RegistryUnreachableError,
    StaleTokenError,
    TakenError,
    UnclearOutcomeError,
)
from vferry.registry import Address, claims, decode_value, encode_value

__all__ = ["Failure", "MemoryRegistry", "RegistryStorage"]

T = TypeVar("T")


class Failure(enum.Enum):
    """How a call fails."""

    UNREACHABLE = "unreachable"
    """Certainly not done."""
    UNCLEAR_APPLIED = "unclear, applied"
    """Done, and the answer is lost."""
    UNCLEAR_NOT_APPLIED = "unclear, not applied"
    """The request is lost; the caller cannot tell."""
    UNCLEAR_LATE = "unclear, applied later"
    """The request is on its way until :meth:`MemoryRegistry.deliver`; its token may be stale by then."""


class RegistryStorage:
    """What outlives every process: values by VM with their revisions, and whose each address is."""

    def __init__(self) -> None:
        self.revision = 0
        self.values: dict[str, tuple[int, bytes]] = {}
        self.addresses: dict[Address, dict[str, bool]] = {}
        """For each address the VMs that have it, and whether they share it."""


class MemoryRegistry(Registry):
    """A :class:`~vferry.ports.registry.Registry` over a dictionary of bytes.

    :param storage: shared by all that use the registry; a new one where it is left out.
    :param epoch: the operator's number.
    """

    def __init__(self, storage: RegistryStorage | None = None, *, epoch: int = 1) -> None:
        self.storage = RegistryStorage() if storage is None else storage
        self.calls: list[str] = []
        """Every call so far: its method and VM."""
        self._epoch = epoch
        self._failures: list[tuple[Failure, str | None]] = []
        self._under_way: list[Callable[[], object]] = []

    # What tests do to it

    def fail_next(self, failure: Failure, *, on: str | None = None, times: int = 1) -> None:
        """Let the next calls fail, after those that were told to before.

        An unclear outcome waits for a change, since a read has none; UNREACHABLE meets the next call of any kind.

        :param on: only calls of this method ("read", "entries", "create", "replace", "delete").
        :param times: how many calls.
        """
        self._failures += [(failure, on)] * times

    def deliver(self) -> int:
        """Let the requests under way arrive, in their order; return how many still changed something."""
        before = self.storage.revision
        under_way, self._under_way = self._under_way, []
        for change in under_way:
            _unheard(change)
        return self.storage.revision - before

    # What the port says

    async def read(self, vm: str) -> Entry | None:
        """Return a VM's entry, or None."""
        self._ask("read", vm)
        return self._find(vm)

    async def entries(self) -> tuple[Entry, ...]:
        """Return all entries, in the order of their VMs' names."""
        self._ask("entries", "")
        return tuple(self._entry(vm) for vm in sorted(self.storage.values))

    async def create(self, ownership: Ownership) -> Entry:
        """Store the first entry of a VM."""
        value = encode_value(ownership)

        def change() -> Entry:
            found = self._find(ownership.vm)
            if found is not None:
                raise TakenError(found)
            return self._store(ownership, value)

        return self._change("create", ownership.vm, change)

    async def replace(self, ownership: Ownership, expected: Token) -> Entry:
        """Replace a VM's entry if its token still is ``expected``."""
        value = encode_value(ownership)

        def change() -> Entry:
            self._expect(ownership.vm, expected)
            return self._store(ownership, value)

        return self._change("replace", ownership.vm, change)

    async def delete(self, vm: str, expected: Token) -> None:
        """Remove a VM's entry if its token still is ``expected``."""

        def change() -> None:
            self._expect(vm, expected)
            self.storage.revision += 1
            self._release(vm)
            del self.storage.values[vm]

        self._change("delete", vm, change)

    # How it fails

    def _ask(self, method: str, vm: str) -> Failure | None:
        """Note a call; return how its change is to fail."""
        self.calls.append(f"{method} {vm}".rstrip())
        for number, (failure, on) in enumerate(self._failures):
            fits = failure is Failure.UNREACHABLE or method not in ("read", "entries")
            if on in (None, method) and fits:
                del self._failures[number]
                if failure is Failure.UNREACHABLE:
                    raise RegistryUnreachableError(f"{method} {vm}".rstrip(), why="the simulated registry is away")
                return failure
        return None

    def _change(self, method: str, vm: str, change: Callable[[], T]) -> T:
        failure = self._ask(method, vm)
        if failure is None:
            return change()
        if failure is Failure.UNCLEAR_APPLIED:
            _unheard(change)
        if failure is Failure.UNCLEAR_LATE:
            self._under_way.append(change)
        raise UnclearOutcomeError(f"{method} {vm}", why="no answer of the simulated registry", next_step="read")

    # How it is stored

    def _find(self, vm: str) -> Entry | None:
        return self._entry(vm) if vm in self.storage.values else None

    def _entry(self, vm: str) -> Entry:
        revision, value = self.storage.values[vm]
        token = Token(self._epoch, revision)
        return Entry(ownership=decode_value(vm, value, token), token=token)

    def _expect(self, vm: str, expected: Token) -> None:
        if vm not in self.storage.values:
            raise StaleTokenError(vm, expected, None)
        if Token(self._epoch, self.storage.values[vm][0]) != expected:
            raise StaleTokenError(vm, expected, self._entry(vm))

    def _store(self, ownership: Ownership, value: bytes) -> Entry:
        vm, wanted = ownership.vm, claims(ownership)
        for address, identity in wanted.items():
            others = self.storage.addresses.get(address, {})
            for other in sorted(others):
                if other != vm and not (identity.shared and others[other]):
                    raise IdentityTakenError(identity, vm, other)
        self._release(vm)
        for address, identity in wanted.items():
            self.storage.addresses.setdefault(address, {})[vm] = identity.shared
        self.storage.revision += 1
        self.storage.values[vm] = (self.storage.revision, value)
        return Entry(ownership=ownership, token=Token(self._epoch, self.storage.revision))

    def _release(self, vm: str) -> None:
        for owners in self.storage.addresses.values():
            owners.pop(vm, None)


def _unheard(change: Callable[[], object]) -> None:
    """Do what was asked; nobody hears that it was refused."""
    try:
        change()
    except (TakenError, StaleTokenError, IdentityTakenError):
        return
