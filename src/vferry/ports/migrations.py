# SPDX-License-Identifier: Apache-2.0
"""The migration journal: what this host's side of every migration had come to, before it acts."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

from vferry.core.errors import FailedError
from vferry.core.fence import Mode
from vferry.core.migration.messages import VfTarget
from vferry.core.migration.phases import Role
from vferry.core.migration.tables import Order
from vferry.core.model import AdminState, Name
from vferry.core.ownership import Token

__all__ = ["MigrationEntry", "MigrationJournal", "MigrationJournalError"]


class MigrationJournalError(FailedError):
    """The migration journal cannot be read or written; nothing was done."""


class MigrationEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One side of one migration, complete: a process that starts anew goes on from it alone."""

    migration: Name
    vm: Name
    role: Role
    order: Order
    phase: str
    """The value of a :class:`~vferry.core.migration.phases.SourcePhase` or ``DestinationPhase``."""
    source: Name
    destination: Name
    mode: Mode
    boot_id: Name
    """Of the host when the migration began."""
    seen_boot_id: Name | None = None
    """Of the host when it was last taken up after a crash; absent: never."""
    token: Token | None = None
    """Of the registry's entry as this side last saw it."""
    targets: tuple[VfTarget, ...] = ()
    uri: str = ""
    """Where the VM is sent."""
    carried: bool = False
    record: bytes | None = None
    """The newest record, MessagePack."""
    final_record: bytes | None = None
    """The record that came with the last word of the source, until it has been validated."""
    states: tuple[bytes, ...] = ()
    """The VFs' own states, in the order of ``targets``."""
    before: tuple[AdminState, ...] = ()
    """What the destination's VFs were set to before anything was staged, in the order of ``targets``."""
    identities: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=256)] = ()
    """:class:`~vferry.core.undo.VfIdentity` of each VF of this side, MessagePack."""
    shut_down: bool = False
    """The guest was asked to shut down for this migration, or may have been."""
    why: str = ""
    """Why it was called off or is blocked, for people."""
    history: Annotated[tuple[str, ...], msgspec.Meta(max_length=256)] = ()
    """Phases so far, each with its time."""


class MigrationJournal(Protocol):
    """One entry for each migration and role."""

    def write(self, entry: MigrationEntry) -> None:
        """Store an entry, replacing what was there for the same migration and role.

        When this returns, it survives a crash of the host; a crash inside leaves the old one or the new.

        :raise MigrationJournalError: it could not be stored.
        """
        ...

    def read(self, migration: str, role: Role) -> MigrationEntry | None:
        """Return an entry, or None.

        :raise MigrationJournalError: there is one and it cannot be read or is damaged.
        """
        ...

    def entries(self) -> tuple[MigrationEntry, ...]:
        """Return all entries, oldest first.

        :raise MigrationJournalError: one of them cannot be read or is damaged.
        """
        ...

    def forget(self, migration: str, role: Role) -> None:
        """Remove an entry; nothing happens if there is none."""
        ...
