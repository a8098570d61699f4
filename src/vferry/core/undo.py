# SPDX-License-Identifier: Apache-2.0
"""Undo records: what a VF's settings were before vferry touched them, and which VF that was.

A record is written before the first request reaches the NIC. While it exists, the same command again completes the
change and its undo takes it back. A change of several VFs is one *transaction*: every VF's record is written before
the first request is sent, and the record of the *lead* VF is removed first when the change is over. So a record whose
lead is gone belongs to a finished transaction and only needs to be swept away.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from vferry.core.errors import PersonNeededError
from vferry.core.model import AdminState, FunctionState, HostFacts, Name, PciState, PfFacts, PfReading, VfFacts, VfIndex

__all__ = ["IdentityChangedError", "UndoKind", "UndoRecord", "VfIdentity", "VfKey", "identity_changes", "vf_identity"]

UNDO_VERSION = 1
"""Version of the undo record's format."""


class VfKey(msgspec.Struct, frozen=True, order=True, forbid_unknown_fields=True):
    """Names a VF on its host: the PF's bus address and the VF's index, which survive a renamed interface."""

    device: Name
    index: VfIndex

    def __str__(self) -> str:
        return f"{self.device}/{self.index}"


class VfIdentity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What must be unchanged for an undo record still to speak of the same VF.

    A PF driver that was reloaded, or VFs that were created anew, have forgotten every setting; a host that was booted
    again too.
    """

    boot_id: Name
    pf: Name
    key: VfKey
    ifindex: int | None = None
    permanent_address: str | None = None
    num_vfs: int
    vf_address: str | None = None


class UndoKind(enum.Enum):
    """The verb that changed, or is changing, the VF."""

    FENCE = "fence"
    RESTORE = "restore"
    RELEASE = "release"
    PROBE = "probe"


class UndoRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How to bring one VF back to what it was."""

    version: Annotated[int, msgspec.Meta(ge=1, le=UNDO_VERSION)] = UNDO_VERSION
    kind: UndoKind
    transaction: Name
    """The same for all VFs that change together."""
    lead: VfKey
    """The VF whose record ends the transaction when it is removed."""
    identity: VfIdentity
    before: AdminState
    """Every setting as read before the first change."""
    wanted: AdminState
    """What the change aims at: only the attributes that it sets."""
    before_function: FunctionState | None = None
    before_pci: PciState | None = None
    completed: bool = False
    """True for a fence that was applied and read back; its record stays until ``unfence`` or ``release``."""
    started: str
    """UTC time, ISO 8601."""
    details: dict[str, str] = {}
    """For people: levers used, the record's file, and the like."""

    @property
    def key(self) -> VfKey:
        """The VF that this record is about."""
        return self.identity.key


class IdentityChangedError(PersonNeededError):
    """An undo record no longer speaks of the VF that is there now.

    :param changes: what differs, in words.
    """

    def __init__(self, record: UndoRecord, changes: tuple[str, ...], *, host: str | None = None) -> None:
        super().__init__(
            f"the undo record of this VF ({record.kind.value}, {record.started}) is about another life of it",
            host=host,
            pf=record.identity.pf,
            vf=record.key.index,
            why="; ".join(changes) + "; settings made before that are gone from the NIC",
            next_step=(
                f"look at the VF with 'vferry show {record.identity.pf}/{record.key.index}', then drop the record with "
                f"'vferry release {record.identity.pf}/{record.key.index}'"
            ),
        )
        self.record = record
        self.changes = changes


def vf_identity(host: HostFacts, pf: PfFacts, reading: PfReading, vf: VfFacts) -> VfIdentity:
    """Return the identity of a VF as it is now."""
    return VfIdentity(
        boot_id=host.boot_id,
        pf=pf.name,
        key=VfKey(device=pf.device, index=vf.index),
        ifindex=reading.ifindex,
        permanent_address=reading.permanent_address,
        num_vfs=reading.num_vfs,
        vf_address=vf.address,
    )


def identity_changes(then: VfIdentity, now: VfIdentity) -> tuple[str, ...]:
    """Say what makes ``now`` another VF than ``then``; empty if it is the same one.

    The PF's interface name may change freely: the ifindex stands for it.
    """
    watched = {
        "boot id": (then.boot_id, now.boot_id),
        "PF's ifindex": (then.ifindex, now.ifindex),
        "PF's permanent address": (then.permanent_address, now.permanent_address),
        "number of VFs": (then.num_vfs, now.num_vfs),
        "VF's PCI address": (then.vf_address, now.vf_address),
    }
    return tuple(f"{name} was {old}, is {new}" for name, (old, new) in watched.items() if old != new)
