# SPDX-License-Identifier: Apache-2.0
"""Asks the four witnesses of a recovery, and has them judged."""

from __future__ import annotations

from collections.abc import Sequence

from vferry.core.errors import VferryError
from vferry.core.migration.phases import Role
from vferry.core.migration.recovery import (
    DeviceSays,
    RegistrySays,
    Verdict,
    VmSays,
    Witnesses,
    judge,
    registry_says,
)
from vferry.core.model import ZERO_MAC
from vferry.core.undo import UndoKind
from vferry.migration.entries import phase_of
from vferry.migration.host import MigrationHost
from vferry.migration.vfs import (
    changed_identities,
    mac_of,
    own_refs,
    record_of,
    saved_pairs,
    source_pairs,
)
from vferry.ports.hypervisor import HypervisorError
from vferry.ports.migrations import MigrationEntry
from vferry.ports.registry import RegistryError
from vferry.verbs.context import Context, VfRef
from vferry.verbs.pending import unfinished
from vferry.verbs.places import survey

__all__ = ["device_says", "gather", "witnessed"]


async def witnessed(host: MigrationHost, entry: MigrationEntry, *, there: VmSays = VmSays.UNKNOWN) -> Verdict:
    """Gather what the witnesses say on this side, and judge it; changes nothing.

    :param there: what the other host's hypervisor says, where somebody asked it.
    """
    return judge(await gather(host, entry, there=there))


async def gather(host: MigrationHost, entry: MigrationEntry, *, there: VmSays = VmSays.UNKNOWN) -> Witnesses:
    """Return what the four witnesses say on this side; changes nothing."""
    return Witnesses(
        order=entry.order,
        role=entry.role,
        phase=phase_of(entry),
        registry=await _registry_says(host, entry),
        device=device_says(host.context, entry),
        here=await _vm_says(host, entry.vm),
        there=there,
    )


async def _registry_says(host: MigrationHost, entry: MigrationEntry) -> RegistrySays:
    try:
        found = await host.registry.read(entry.vm)
    except RegistryError:
        return RegistrySays.UNREACHABLE
    ownership = None if found is None else found.ownership
    return registry_says(ownership, entry.migration, entry.source, entry.destination)


async def _vm_says(host: MigrationHost, vm: str) -> VmSays:
    try:
        return VmSays((await host.hypervisor.state(vm)).value)
    except HypervisorError:
        return VmSays.UNKNOWN


def device_says(context: Context, entry: MigrationEntry) -> DeviceSays:
    """Return whether this host's VFs, or a standby's forwarding entry, receive for the VM."""
    if context.nic.host().boot_id != (entry.seen_boot_id or entry.boot_id):
        return DeviceSays.REBOOTED
    refs = own_refs(entry)
    try:
        if entry.identities and changed_identities(context, entry, refs):
            return DeviceSays.RELOADED
        return DeviceSays.RECEIVING if _receives(context, entry, refs) else DeviceSays.SILENT
    except VferryError:
        return DeviceSays.UNKNOWN


def _receives(context: Context, entry: MigrationEntry, refs: Sequence[VfRef]) -> bool:
    macs = _macs(entry)
    for pf in sorted({ref.pf for ref in refs}):
        if macs & set(context.nic.read_fdb(pf)):
            return True
    fenced = {
        record.key
        for record in unfinished(context.journal.records())
        if record.kind is UndoKind.FENCE and record.completed
    }
    places = survey(context, refs)
    return any(place.reading.admin.mac in macs and place.key not in fenced for place in places)


def _macs(entry: MigrationEntry) -> set[str]:
    """Return the VM's addresses; empty before anything was saved."""
    if entry.record is None:
        return set()
    pairs = source_pairs(entry) if entry.role is Role.SOURCE else saved_pairs(entry, record_of(entry))
    found = {mac_of(saved) for saved, _ in pairs}
    return {mac for mac in found if mac is not None and mac != ZERO_MAC}
