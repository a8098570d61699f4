# SPDX-License-Identifier: Apache-2.0
"""Who owns a VM: one entry in the registry, changed by compare-and-swap only.

The entry is the authority on which host may run the VM. A migration moves it through these stages; each arrow is one
compare-and-swap of the whole entry, so of two that race exactly one wins:

.. code-block:: text

                          open                        commit                      settle
    SETTLED, owner A ------------> OPEN, owner A ------------> COMMITTED, owner B ------> SETTLED, owner B
          ^                          |       |                     |
          |        settle            | recall|                     | settle back (reverse commit)
          +--------------------------+       v                     |
          +<------------------------- ABORTING, owner A            |
          +<-------------------------------------------------------+

An entry that names another migration than ours is never changed by us.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from vferry.core.errors import RefusedError, UsageError
from vferry.core.model import Mac, Name, VfIndex

__all__ = [
    "Identity",
    "NotOursError",
    "OwnedVf",
    "Ownership",
    "Stage",
    "Token",
    "adopted",
    "committed",
    "opened",
    "recalled",
    "resolved",
    "settled",
]


class Stage(enum.Enum):
    """How far a VM's migration is, as far as ownership goes."""

    SETTLED = "settled"
    """No migration is under way; the owner runs the VM, or may."""
    OPEN = "open"
    """A migration is under way and undecided; only the owner (the source) may run the VM."""
    ABORTING = "aborting"
    """The source has called it off and waits until the destination is silent."""
    COMMITTED = "committed"
    """Decided for the destination, which is the owner now; it may not have started the VM yet."""


class Token(msgspec.Struct, frozen=True, order=True, forbid_unknown_fields=True):
    """Proves which state of the entry was seen: it grows with every change.

    ``epoch`` is an operator's number that survives a restored backup, ``revision`` the registry's own.
    """

    epoch: Annotated[int, msgspec.Meta(ge=0, le=0x7FFF_FFFF)]
    revision: Annotated[int, msgspec.Meta(ge=0, le=0x7FFF_FFFF_FFFF_FFFF)]

    def __str__(self) -> str:
        return f"{self.epoch}.{self.revision}"


class Identity(msgspec.Struct, frozen=True, kw_only=True, order=True, omit_defaults=True, forbid_unknown_fields=True):
    """An address on a network that at most one VM may have."""

    segment: Name
    """The physical network, from the operator's map of PFs."""
    vlan: Annotated[int, msgspec.Meta(ge=0, le=4094)] = 0
    """Port VLAN; 0: untagged."""
    mac: Mac
    shared: bool = False
    """Lives on several hosts on purpose (VRRP)."""


class OwnedVf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One VF of the VM on its owner's host."""

    pf: Name
    vf: VfIndex


class Ownership(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The registry's value for one VM."""

    vm: Name
    owner: Name
    """The host that may run the VM."""
    generation: Annotated[int, msgspec.Meta(ge=0, le=0x7FFF_FFFF_FFFF_FFFF)] = 0
    """How often the VM has changed hosts."""
    stage: Stage = Stage.SETTLED
    migration: Name | None = None
    """The migration under way; absent when settled."""
    source: Name | None = None
    destination: Name | None = None
    vfs: tuple[OwnedVf, ...] = ()
    """The VM's VFs on its owner."""
    identities: tuple[Identity, ...] = ()


class NotOursError(RefusedError):
    """The entry is in another migration's hands, or is not in the stage that the step starts from."""

    def __init__(self, step: str, entry: Ownership) -> None:
        self.entry = entry
        under_way = f"migration {entry.migration} is {entry.stage.value}" if entry.migration else "no migration is open"
        super().__init__(
            f"{step} the migration of VM {entry.vm}",
            host=entry.owner,
            why=f"{entry.owner} owns the VM, and {under_way}",
            next_step="'vferry recover' shows what is under way and what ends it",
        )


def adopted(vm: str, owner: str, *, vfs: tuple[OwnedVf, ...] = (), identities: tuple[Identity, ...] = ()) -> Ownership:
    """Return the first entry of a VM that runs on ``owner``."""
    return Ownership(vm=vm, owner=owner, vfs=vfs, identities=identities)


def opened(entry: Ownership, migration: str, *, source: str, destination: str) -> Ownership:
    """Return the entry with a migration under way; the owner stays.

    :raise NotOursError: the source is not the owner, or another migration is under way.
    :raise UsageError: source and destination are one host.
    """
    if source == destination:
        raise UsageError(f"open the migration of VM {entry.vm}", host=source, why="source and destination are one host")
    if (entry.migration, entry.stage, entry.source, entry.destination) == (migration, Stage.OPEN, source, destination):
        return entry
    if entry.stage is not Stage.SETTLED or entry.owner != source:
        raise NotOursError("open", entry)
    return msgspec.structs.replace(entry, stage=Stage.OPEN, migration=migration, source=source, destination=destination)


def committed(
    entry: Ownership, migration: str, *, host: str | None = None, vfs: tuple[OwnedVf, ...] | None = None
) -> Ownership:
    """Return the entry owned by the destination.

    :param host: who commits; None: whoever the entry says.
    :param vfs: the VM's VFs on the destination; None: left as they are.
    :raise NotOursError: the migration is not open (any more), or is another host's to commit.
    """
    if host is not None and entry.destination != host:
        raise NotOursError("commit", entry)
    if entry.migration == migration and entry.stage is Stage.COMMITTED:
        return entry
    if entry.migration != migration or entry.stage is not Stage.OPEN or entry.destination is None:
        raise NotOursError("commit", entry)
    return msgspec.structs.replace(
        entry,
        stage=Stage.COMMITTED,
        owner=entry.destination,
        generation=entry.generation + 1,
        vfs=entry.vfs if vfs is None else vfs,
    )


def recalled(entry: Ownership, migration: str) -> Ownership:
    """Return the entry called off by the source, which waits for the destination's silence.

    :raise NotOursError: the migration is not open (any more).
    """
    if entry.migration == migration and entry.stage is Stage.ABORTING:
        return entry
    if entry.migration != migration or entry.stage is not Stage.OPEN:
        raise NotOursError("call off", entry)
    return msgspec.structs.replace(entry, stage=Stage.ABORTING)


def settled(entry: Ownership, migration: str, *, owner: str, vfs: tuple[OwnedVf, ...] | None = None) -> Ownership:
    """Return the entry with the migration over and ``owner`` owning the VM.

    Not idempotent: an entry that is settled has forgotten its migration; whoever ends one reads the owner.

    :raise NotOursError: the migration is not under way, ``owner`` is neither its source nor its destination, or it is
        the destination and nothing was committed.
    """
    may_own = {entry.source, entry.destination} if entry.stage is Stage.COMMITTED else {entry.source}
    if entry.migration != migration or owner not in may_own:
        raise NotOursError("end", entry)
    return msgspec.structs.replace(
        entry,
        stage=Stage.SETTLED,
        owner=owner,
        generation=entry.generation + (owner != entry.owner),
        migration=None,
        source=None,
        destination=None,
        vfs=entry.vfs if vfs is None else vfs,
    )


def resolved(entry: Ownership, *, owner: str, fenced: str | None = None) -> Ownership:
    """Return the entry as a person decides it, whatever migration is under way.

    Where the owner changes, nobody here knows which VFs the VM has there: they are absent until its next move.

    :param fenced: the other host of the migration, on which, as the person says, nothing of the VM runs or receives.
    :raise UsageError: ``owner`` has no part in the VM, or the other host is not the one that is said to be fenced.
    """
    parties = {entry.owner, entry.source, entry.destination} - {None}
    others = parties - {owner}
    what = f"resolve who owns VM {entry.vm}"
    if owner not in parties:
        raise UsageError(what, why=f"{owner} has no part in it; it is between {', '.join(sorted(map(str, parties)))}")
    if others - {fenced}:
        names = ", ".join(sorted(map(str, others)))
        raise UsageError(
            what,
            why=f"{names} may still run the VM, or receive for it",
            next_step=f"make sure that it does neither, then say so: --i-have-fenced {names}",
        )
    return msgspec.structs.replace(
        entry,
        stage=Stage.SETTLED,
        owner=owner,
        generation=entry.generation + (owner != entry.owner),
        migration=None,
        source=None,
        destination=None,
        vfs=entry.vfs if owner == entry.owner else (),
    )
