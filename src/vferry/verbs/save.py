# SPDX-License-Identifier: Apache-2.0
"""``save``: read what the PFs hold for a VM's VFs. A pure read: nothing on the host changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vferry.core.errors import RefusedError, UsageError
from vferry.core.fence import is_parking_mac
from vferry.core.model import DeclaredState, EswitchMode
from vferry.core.record import Record, SavedVf
from vferry.verbs.context import Context, VfRef, utc
from vferry.verbs.pending import PendingChangeError, open_record
from vferry.verbs.places import Place, survey

__all__ = ["NothingToSaveError", "save"]


class NothingToSaveError(RefusedError):
    """The PF's driver holds no settings for its VFs that could be read."""


def save(
    context: Context,
    refs: Sequence[VfRef],
    *,
    vm: str | None = None,
    declared: Mapping[VfRef, DeclaredState] | None = None,
    statistics: bool = False,
) -> Record:
    """Return a record of the VFs of one VM.

    All VFs of one PF are taken from one reading, so they are of one moment.

    :param vm: the VM's name.
    :param statistics: keep the VFs' counters too, as facts.
    :param declared: what the operator declares of a VF because no reading can tell it.
    :raise UsageError: a VF is named twice, or a declaration is about a VF that is not saved.
    :raise NothingToSaveError: a PF's driver offers no VF settings, or a VF shows a parking MAC.
    :raise PendingChangeError: a VF is fenced, or another change of it is not over.
    :raise NicError: a PF cannot be read.
    """
    declarations = dict(declared or {})
    places = survey(context, refs, statistics=statistics)
    _check_request(places, refs, declarations)
    for place in places:
        _refuse_fenced(context, place)
    return Record(
        saved_at=utc(context.clock),
        host=places[0].host,
        vm=vm,
        vfs=tuple(_saved(context, place, declarations.get(place.ref)) for place in places),
    )


def _check_request(places: Sequence[Place], refs: Sequence[VfRef], declarations: Mapping[VfRef, DeclaredState]) -> None:
    if len(set(refs)) != len(refs):
        raise UsageError("save VFs", why="a VF is named twice")
    strange = [ref for ref in declarations if ref not in refs]
    if strange:
        raise UsageError(
            "save VFs",
            pf=strange[0].pf,
            vf=strange[0].vf,
            why="something is declared of this VF, and it is not among those to save",
        )
    for place in places:
        if not place.pf_reading.has_settings:
            raise NothingToSaveError(
                "save a VF",
                host=place.host.hostname,
                pf=place.pf.name,
                vf=place.facts.index,
                why="its PF's driver offers no VF settings (no IFLA_VFINFO_LIST), so the PF holds nothing to carry",
                next_step="nothing needs to be carried for this VF; the MAC and VLAN are set elsewhere",
            )


def _refuse_fenced(context: Context, place: Place) -> None:
    """What a fence has set is not the VM's: a parking VLAN must not travel."""
    record = open_record(context, place.key)
    if record is not None:
        raise PendingChangeError(record, host=place.host.hostname, wanted="save")
    if is_parking_mac(place.reading.admin.mac):
        raise NothingToSaveError(
            "save a VF",
            host=place.host.hostname,
            pf=place.pf.name,
            vf=place.facts.index,
            why=f"it shows the parking MAC {place.reading.admin.mac}, and no fence is on record here",
            next_step="'vferry doctor' looks for hazards; unfence it where its undo record is, or release it",
        )


def _saved(context: Context, place: Place, declared: DeclaredState | None) -> SavedVf:
    switchdev = place.pf.eswitch_mode not in (None, EswitchMode.LEGACY)
    return SavedVf(
        name=str(place.ref),
        pf=place.pf,
        facts=place.facts,
        admin=place.reading.admin,
        broadcast=place.reading.broadcast,
        statistics=place.reading.statistics,
        pci=context.nic.read_pci(*place.ref),
        function=context.nic.read_function(*place.ref) if switchdev else None,
        declared=declared or DeclaredState(),
    )
