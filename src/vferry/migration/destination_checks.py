# SPDX-License-Identifier: Apache-2.0
"""What a destination looks at before it takes part: registry, journal, hypervisor, NICs, policy, and the record."""

from __future__ import annotations

from vferry.core.errors import RefusedError
from vferry.core.fence import Lever, Mode, UndoCost
from vferry.core.levers import lever_rows
from vferry.core.model import PfFacts
from vferry.core.ownership import NotOursError, Stage
from vferry.core.preflight import Preflight
from vferry.core.record import RecordError
from vferry.migration.coordinator import Coordinator
from vferry.migration.entries import is_blocked, is_over
from vferry.migration.ownership import read_entry
from vferry.migration.vfs import destination_refs, own_refs, record_of, saved_pairs
from vferry.ports.hypervisor import VmState
from vferry.verbs.check import CheckRefusedError, Pair, Terms, check_record
from vferry.verbs.context import VfRef

__all__ = [
    "NotSilentError",
    "ReservedError",
    "mac_resets_vf",
    "pairs_of",
    "preflight",
    "refuse_foreign",
    "refuse_reserved",
    "terms_of",
    "validated",
]


class ReservedError(RefusedError):
    """A VF belongs to another VM, or is promised to another migration."""

    def __init__(self, ref: VfRef, whom: str, host: str) -> None:
        super().__init__(
            "reserve a VF",
            host=host,
            pf=ref.pf,
            vf=ref.vf,
            why=f"it belongs to {whom}",
            next_step="offer another VF, or wait until that one is free",
        )


class NotSilentError(RefusedError):
    """A VM of that name is here already, in a state in which it cannot receive a migration."""

    def __init__(self, vm: str, state: VmState, host: str) -> None:
        super().__init__(
            f"make room for VM {vm}",
            host=host,
            why=f"a VM of that name is {state.value} here",
            next_step="end it, or give it another name",
        )


async def refuse_foreign(side: Coordinator) -> None:
    """The offer must be what the registry says is under way, and the VM must not be here.

    :raise NotOursError: it is not.
    :raise NotSilentError: a VM of that name is here.
    """
    entry, host = side.entry, side.host
    found = await read_entry(host.registry, entry.vm)
    under_way = (found.ownership.migration, found.ownership.stage, found.ownership.source, found.ownership.destination)
    if under_way != (entry.migration, Stage.OPEN, entry.source, host.name) or found.token != entry.token:
        raise NotOursError("accept", found.ownership)
    state = await host.hypervisor.state(entry.vm)
    if state is not VmState.ABSENT:
        raise NotSilentError(entry.vm, state, host.name)


async def refuse_reserved(side: Coordinator) -> None:
    """VFs that another VM owns here are taken, and so are those that an unfinished migration here names.

    :raise ReservedError: one of ours is among them.
    """
    ours = set(destination_refs(side.entry))
    taken: list[tuple[VfRef, str]] = []
    for found in await side.host.registry.entries():
        other = found.ownership
        if other.owner == side.host.name and other.vm != side.entry.vm:
            taken += [(VfRef(vf.pf, vf.vf), f"VM {other.vm}, which owns it") for vf in other.vfs]
    for entry in side.host.migrations.entries():
        if entry.migration != side.entry.migration and (is_blocked(entry) or not is_over(entry)):
            taken += [(ref, f"migration {entry.migration}") for ref in own_refs(entry)]
    for ref, whom in taken:
        if ref in ours:
            raise ReservedError(ref, whom, side.host.name)


def preflight(side: Coordinator) -> Preflight:
    """Check the newest record against the VFs that it is to live on.

    :raise RecordError: it is damaged, or does not have the VFs that the offer names.
    :raise CheckRefusedError: the VFs cannot hold it, or the policy forbids it.
    """
    record = record_of(side.entry)
    found = check_record(side.host.context, record, pairs_of(side), terms_of(side))
    if found.refused:
        raise CheckRefusedError(found, host=side.host.name)
    return found


def mac_resets_vf(pf: PfFacts) -> bool:
    """Whether setting a MAC resets the VF there: it would destroy a state that was loaded before."""
    return any(row.lever is Lever.PARKING_MAC and row.undo_cost is UndoCost.VF_RESET for row in lever_rows(pf))


def validated(side: Coordinator) -> Preflight:
    """Check the final record, and every VF's own state, whole; nothing is applied.

    :raise RecordError: the record is damaged or not final, or a state is missing.
    :raise BadStateError: a state does not fit its VF.
    :raise CheckRefusedError: the VFs cannot hold the record, or the policy forbids it.
    """
    if not record_of(side.entry).final:
        raise RecordError("the record is not final: the VM may have changed since", field="final")
    found = preflight(side)
    if side.host.carrier is not None and side.entry.mode is Mode.DEVICE_STATE:
        refs = destination_refs(side.entry)
        if len(side.entry.states) != len(refs):
            raise RecordError(f"{len(side.entry.states)} VF states came for {len(refs)} VFs", field="states")
        for ref, state in zip(refs, side.entry.states, strict=True):
            side.host.carrier.validate(*ref, state)
    return found


def pairs_of(side: Coordinator) -> list[Pair]:
    """Return every saved VF with its target.

    :raise RecordError: the record does not have the VFs that the offer names.
    """
    try:
        return saved_pairs(side.entry, record_of(side.entry))
    except KeyError as error:
        raise RecordError(f"it has no VF {error}, which the offer names", field="vfs") from error


def terms_of(side: Coordinator) -> Terms:
    """Return what this host allows and knows."""
    return Terms(policy=side.host.policy, tables=side.host.tables)
