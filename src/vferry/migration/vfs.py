# SPDX-License-Identifier: Apache-2.0
"""The VFs of one side of a migration, as its entry names them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vferry.core.errors import FailedError
from vferry.core.migration.phases import Role
from vferry.core.model import ZERO_MAC, AdminState
from vferry.core.ownership import OwnedVf
from vferry.core.record import Record, RecordError, SavedVf, decode_msgpack
from vferry.core.undo import UndoKind, VfIdentity, identity_changes
from vferry.migration.host import MigrationHost
from vferry.ports.migrations import MigrationEntry
from vferry.ports.nic import Nic, NicError
from vferry.verbs.check import Pair
from vferry.verbs.context import Context, VfRef, utc
from vferry.verbs.places import Place, survey
from vferry.verbs.release import drop_record
from vferry.verbs.transaction import Applied, Change, Transaction

__all__ = [
    "StillForwardedError",
    "VfsChangedError",
    "changed_identities",
    "destination_refs",
    "forget_earlier_life",
    "identities_of",
    "mac_of",
    "macs_by_pf",
    "own_refs",
    "owned_vfs",
    "program",
    "record_of",
    "refuse_changed",
    "saved_pairs",
    "source_pairs",
    "source_refs",
    "stop_forwarding",
    "without_mac",
]


def record_of(entry: MigrationEntry) -> Record:
    """Return the newest record of a migration.

    :raise RecordError: it is damaged, or not a record at all.
    """
    return decode_msgpack(entry.record or b"")


def source_refs(entry: MigrationEntry) -> list[VfRef]:
    """Return the VM's VFs on the source, in the order of the targets: a saved VF is named PF/index."""
    return [_parse(target.saved) for target in entry.targets]


def _parse(name: str) -> VfRef:
    pf, slash, index = name.rpartition("/")
    if not slash or not index.isdecimal():
        raise RecordError(f"'{name}' names no VF: it takes PF/index", field="saved")
    return VfRef(pf, int(index))


def destination_refs(entry: MigrationEntry) -> list[VfRef]:
    """Return the VM's VFs on the destination, in the order of the targets."""
    return [VfRef(target.pf, target.vf) for target in entry.targets]


def own_refs(entry: MigrationEntry) -> list[VfRef]:
    """Return the VM's VFs on the host that wrote the entry."""
    return source_refs(entry) if entry.role is Role.SOURCE else destination_refs(entry)


def mac_of(saved: SavedVf) -> str | None:
    """Return the VM's MAC as far as it can be known: the one that was declared, else the one shown."""
    return saved.declared.mac or saved.admin.mac


def saved_pairs(entry: MigrationEntry, record: Record) -> list[Pair]:
    """Return every saved VF with the VF that it is to live on.

    :raise KeyError: the record does not have a VF that the offer names.
    """
    saved: dict[str, SavedVf] = {vf.name: vf for vf in record.vfs}
    return [(saved[target.saved], VfRef(target.pf, target.vf)) for target in entry.targets]


def source_pairs(entry: MigrationEntry) -> list[Pair]:
    """Return every saved VF with the VF of the source that it is; empty before anything was saved."""
    if entry.record is None:
        return []
    saved: dict[str, SavedVf] = {vf.name: vf for vf in record_of(entry).vfs}
    return [(saved[target.saved], ref) for target, ref in zip(entry.targets, source_refs(entry), strict=True)]


def macs_by_pf(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    """Return (PF, MAC) of every VF that has one: what a standby's forwarding entries are about."""
    found = [(ref.pf, mac_of(saved)) for saved, ref in pairs]
    return sorted({(pf, mac) for pf, mac in found if mac not in (None, ZERO_MAC) and mac is not None})


def stop_forwarding(nic: Nic, macs: Sequence[tuple[str, str]]) -> None:
    """Take a standby's forwarding entries out, and prove it.

    :raise StillForwardedError: something else on the host holds the same address.
    """
    for pf, mac in macs:
        nic.remove_fdb(pf, mac)
        if mac in nic.read_fdb(pf):
            raise StillForwardedError(pf, mac)


class StillForwardedError(NicError):
    """A PF still takes frames for the VM's MAC after its forwarding entry was taken out.

    The kernel's list has no owners: an interface above the PF, as a macvtap, holds its own address there.
    """

    def __init__(self, pf: str, mac: str) -> None:
        super().__init__(
            f"stop forwarding {mac} to a standby",
            pf=pf,
            why="the PF still takes frames for it: an interface above it holds the same address",
            next_step=f"'bridge fdb show dev {pf}' and 'ip link' find it; a standby belongs behind a bridge",
        )


def identities_of(places: Sequence[Place]) -> tuple[bytes, ...]:
    """Return what must stay the same for the entry still to be about these VFs."""
    return tuple(msgspec.msgpack.encode(place.identity) for place in places)


def changed_identities(
    context: Context, entry: MigrationEntry, refs: Sequence[VfRef]
) -> list[tuple[VfIdentity, VfIdentity]]:
    """Return (then, now) for every VF that is not the one that the entry is about."""
    now = [place.identity for place in survey(context, refs)]
    then = [msgspec.msgpack.decode(data, type=VfIdentity) for data in entry.identities]
    return [(old, new) for old, new in zip(then, now, strict=False) if identity_changes(old, new)]


class VfsChangedError(FailedError):
    """The VFs are not those that the migration began with; their settings are gone, and nothing was changed now."""

    def __init__(self, old: VfIdentity, changes: Sequence[str], host: str) -> None:
        super().__init__(
            "go on with a migration",
            host=host,
            pf=old.pf,
            vf=old.key.index,
            why="the PF's driver was reloaded, or its VFs were made anew: " + "; ".join(changes),
            next_step="begin the migration again",
        )


def refuse_changed(context: Context, entry: MigrationEntry, refs: Sequence[VfRef]) -> None:
    """See that the VFs still are those that the journal speaks of; to be asked before they are changed.

    :raise VfsChangedError: one of them is not.
    """
    for old, new in changed_identities(context, entry, refs):
        raise VfsChangedError(old, identity_changes(old, new), context.nic.host().hostname)


def forget_earlier_life(host: MigrationHost, refs: Sequence[VfRef]) -> None:
    """Drop the undo records of VFs whose host was booted again since: what they could bring back is gone."""
    for place in survey(host.context, refs):
        record = host.context.journal.get(place.key)
        if record is not None and record.identity.boot_id != place.host.boot_id:
            drop_record(host.context, record)


def owned_vfs(refs: Sequence[VfRef]) -> tuple[OwnedVf, ...]:
    """Return VFs as the registry names them."""
    return tuple(OwnedVf(pf=ref.pf, vf=ref.vf) for ref in refs)


def without_mac(state: AdminState) -> AdminState:
    """Return what harms nobody while the VM is elsewhere: everything but its MAC."""
    return msgspec.structs.replace(state, mac=None)


def program(host: MigrationHost, wanted: Sequence[tuple[VfRef, AdminState]], name: str) -> list[Applied]:
    """Program VFs as a whole, read everything back; on any failure all are as before.

    :raise FailedError: it failed, and every VF is as it was before.
    :raise PersonNeededError: it failed and could not be undone.
    """
    changes = [Change(vf=ref, wanted=state) for ref, state in wanted]
    name = f"{name} {utc(host.context.clock)}"
    return Transaction(host.context, UndoKind.RESTORE, changes, name=name).run()
