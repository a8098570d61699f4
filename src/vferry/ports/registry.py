# SPDX-License-Identifier: Apache-2.0
"""Where ownership of VMs is kept: one key for each VM, changed by compare-and-swap.

An implementation never retries a change. Where an answer is lost it raises :class:`UnclearOutcomeError`, and the
caller reads: the value names its migration, so reading decides.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from vferry.core.errors import FailedError, RefusedError
from vferry.core.ownership import Identity, Ownership, Token

__all__ = [
    "Entry",
    "IdentityTakenError",
    "Registry",
    "RegistryError",
    "RegistryUnreachableError",
    "StaleTokenError",
    "TakenError",
    "UnclearOutcomeError",
]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A VM's value, and the token of the moment it was seen."""

    ownership: Ownership
    token: Token


class RegistryError(FailedError):
    """The registry did not do what it was asked."""


class RegistryUnreachableError(RegistryError):
    """The request was certainly not carried out: it never left, or was refused unseen."""


class UnclearOutcomeError(RegistryError):
    """No answer came: the change may have been made. Read the key, then decide."""


class TakenError(RefusedError):
    """The VM has an entry already.

    :param entry: what is there.
    """

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        super().__init__(
            f"take VM {entry.ownership.vm} under ownership",
            host=entry.ownership.owner,
            why=f"{entry.ownership.owner} owns it already (token {entry.token})",
            next_step="if that host is gone for good, 'vferry resolve' moves the ownership",
        )


class StaleTokenError(RefusedError):
    """The entry was changed since its token was seen; nothing was changed now.

    :param entry: what is there, or None where the entry has gone.
    """

    def __init__(self, vm: str, expected: Token, entry: Entry | None) -> None:
        self.expected = expected
        self.entry = entry
        now = "it has gone" if entry is None else f"it is at {entry.token} now"
        super().__init__(
            f"change the ownership of VM {vm}",
            why=f"the entry was seen at {expected}, and {now}",
            next_step="read it again and decide anew",
        )


class IdentityTakenError(RefusedError):
    """Another VM has the same MAC on the same network."""

    def __init__(self, identity: Identity, vm: str, owner_vm: str) -> None:
        self.identity = identity
        self.owner_vm = owner_vm
        super().__init__(
            f"take VM {vm} under ownership",
            why=f"{identity.mac} in VLAN {identity.vlan} of segment {identity.segment} belongs to VM {owner_vm}",
            next_step="give one of them another MAC, or declare the address as shared for both",
        )


class Registry(Protocol):
    """Ownership of VMs; every change is atomic and ordered."""

    async def read(self, vm: str) -> Entry | None:
        """Return a VM's entry, or None; sees every change that was answered before.

        :raise RegistryUnreachableError: no answer.
        """
        ...

    async def entries(self) -> tuple[Entry, ...]:
        """Return all entries, in the order of their VMs' names."""
        ...

    async def create(self, ownership: Ownership) -> Entry:
        """Store the first entry of a VM.

        :raise TakenError: the VM has one.
        :raise IdentityTakenError: one of its addresses belongs to another VM.
        :raise UnclearOutcomeError: no answer; read.
        """
        ...

    async def replace(self, ownership: Ownership, expected: Token) -> Entry:
        """Replace a VM's entry if its token still is ``expected``.

        :raise StaleTokenError: it is not; nothing was changed.
        :raise IdentityTakenError: one of its addresses belongs to another VM; nothing was changed.
        :raise UnclearOutcomeError: no answer; read.
        """
        ...

    async def delete(self, vm: str, expected: Token) -> None:
        """Remove a VM's entry if its token still is ``expected``.

        :raise StaleTokenError: it is not, or there is none; nothing was changed.
        :raise UnclearOutcomeError: no answer; read.
        """
        ...
