# SPDX-License-Identifier: Apache-2.0
"""``fence`` and ``unfence``: keep frames from a VF, and take that back."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vferry.core.capability import CapabilityTable, capability_key, find_table
from vferry.core.compare import Difference, DifferenceKind, differences
from vferry.core.errors import PersonNeededError, RefusedError
from vferry.core.fence import (
    ASSUMED_PARKING_VID,
    Column,
    Evidence,
    FenceImpossibleError,
    FencePlan,
    Grade,
    Lever,
    Mode,
    is_parking_mac,
    parking_mac,
    plan_fence,
)
from vferry.core.levers import lever_rows
from vferry.core.model import AdminState
from vferry.core.undo import IdentityChangedError, UndoKind, UndoRecord, identity_changes
from vferry.verbs.context import Context, VfRef, utc
from vferry.verbs.converge import Converged
from vferry.verbs.observe import Observer, Sighting
from vferry.verbs.pending import PendingChangeError, open_record, sweep, write_records
from vferry.verbs.places import Place, survey
from vferry.verbs.transaction import Applied, Change, Transaction
from vferry.verbs.undo import undo

__all__ = [
    "FenceBrokenError",
    "FenceRequest",
    "FencedVf",
    "NotFencedError",
    "UnfencedVf",
    "fence",
    "fence_differences",
    "plan",
    "plan_unfence",
    "unfence",
]


class FenceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How to fence."""

    mode: Mode = Mode.DEVICE_STATE
    required: frozenset[Column] = frozenset()
    """Columns that must be covered, beside ``ADMIN_UNICAST``."""
    parking_vid: int = ASSUMED_PARKING_VID
    tables: tuple[CapabilityTable, ...] = ()
    guest_stopped: bool = False
    """The guest does not run, and will not before the VF is unfenced: taking its trust away is not needed."""


class FencedVf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fenced VF."""

    pf: str
    vf: int
    plan: FencePlan
    evidence: Evidence
    before: AdminState
    already: bool = False
    """True: it was fenced before, and still is."""


class UnfencedVf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One VF that is as it was before its fence."""

    pf: str
    vf: int
    shown: AdminState
    was_fenced: bool = True
    """False: no fence was on record for it, as when an earlier ``unfence`` was interrupted after it."""


class NotFencedError(RefusedError):
    """No fence is on record for a VF."""


def plan(context: Context, refs: Sequence[VfRef], request: FenceRequest) -> list[FencePlan]:
    """Say which levers would fence each VF; changes nothing.

    :raise FenceImpossibleError: a NIC offers no lever for what is required.
    """
    places = survey(context, refs)
    return [_plan_one(place, _open_fence(context, place), request) for place in places]


def fence(
    context: Context, refs: Sequence[VfRef], request: FenceRequest, observer: Observer | None = None
) -> list[FencedVf]:
    """Fence VFs, read everything back, and collect evidence; on any failure all are as before.

    A VF whose fence was interrupted is fenced to the end; one that is fenced already is proven again.

    :raise FenceImpossibleError: a NIC offers no lever for what is required; nothing was changed.
    :raise PendingChangeError: a VF is in the hands of another verb; nothing was changed.
    :raise FailedError: it failed, and every VF is as it was before.
    :raise PersonNeededError: it failed and could not be undone.
    """
    sweep(context)
    places = survey(context, refs)
    old = [_open_fence(context, place) for place in places]
    plans = [_plan_one(place, record, request) for place, record in zip(places, old, strict=True)]
    changes = [
        Change(vf=place.ref, wanted=chosen.change, reset=Lever.RESET in chosen.levers)
        for place, chosen in zip(places, plans, strict=True)
    ]
    applied = Transaction(
        context, UndoKind.FENCE, changes, name=f"fence {utc(context.clock)}", details=_details(plans[0], request)
    ).run()
    return [
        _fenced(place, chosen, done, record, (observer or Observer()).observe(context, place, done.before))
        for place, chosen, done, record in zip(places, plans, applied, old, strict=True)
    ]


class FenceBrokenError(PersonNeededError):
    """A fenced VF was set to something else meanwhile: it may belong to somebody else by now."""

    def __init__(self, place: Place, found: Sequence[Difference]) -> None:
        name = str(place.ref)
        super().__init__(
            "unfence a VF",
            host=place.host.hostname,
            pf=place.pf.name,
            vf=place.facts.index,
            why="its fence no longer stands, somebody else has set it: "
            + "; ".join(f"{d.attribute.value} is {d.shown}, the fence had set {d.wanted}" for d in found),
            next_step=f"look at it with 'vferry show {name}'; if it is the VM's, 'vferry unfence --anyway {name}' "
            "brings it back; if it is somebody else's by now, leave it",
        )


def fence_differences(record: UndoRecord, place: Place) -> list[Difference]:
    """Return in what a VF no longer shows what its completed fence has set; empty for one that stands."""
    if not record.completed:
        return []
    found = differences(record.wanted, place.reading.admin)
    return [difference for difference in found if difference.kind is DifferenceKind.DIFFERS]


def unfence(context: Context, refs: Sequence[VfRef], *, anyway: bool = False) -> list[UnfencedVf]:
    """Bring fenced VFs back to exactly what they were.

    :param anyway: also a VF that somebody else has set meanwhile.
    :raise FenceBrokenError: a VF no longer shows what its fence has set; nothing was changed.
    :raise NotFencedError: none of the VFs is fenced, or one shows a parking MAC without a record; nothing was changed.
    :raise IdentityChangedError: the VF is not the one that was fenced.
    :raise PersonNeededError: it could not be undone; the record is kept.
    """
    sweep(context)
    places = survey(context, refs)
    records = _fences(context, places)
    for place, record in zip(places, records, strict=True):
        if record is not None:
            _refuse_broken(record, place, anyway=anyway)
    fenced = [record for record in records if record is not None]
    # From now on no record says that its VF is completely fenced.
    opened = [msgspec.structs.replace(record, completed=False) for record in fenced if record.completed]
    write_records(context, opened, old=[record for record in fenced if record.completed])
    shown = dict(zip((record.key for record in fenced), undo(context, fenced), strict=True))
    return [_unfenced(place, shown.get(place.key)) for place in places]


def _refuse_broken(record: UndoRecord, place: Place, *, anyway: bool) -> None:
    changes = identity_changes(record.identity, place.identity)
    if changes:
        raise IdentityChangedError(record, changes, host=place.host.hostname)
    found = fence_differences(record, place)
    if found and not anyway:
        raise FenceBrokenError(place, found)


def _unfenced(place: Place, converged: Converged | None) -> UnfencedVf:
    pf, vf = place.ref
    if converged is None:
        return UnfencedVf(pf=pf, vf=vf, shown=place.reading.admin, was_fenced=False)
    return UnfencedVf(pf=pf, vf=vf, shown=converged.shown or AdminState())


def plan_unfence(context: Context, refs: Sequence[VfRef]) -> list[UndoRecord | None]:
    """Return the undo records of fenced VFs; None for one that is not fenced. Changes nothing.

    :raise NotFencedError: none of the VFs is fenced, or one shows a parking MAC without a record.
    :raise IdentityChangedError: the VF is not the one that was fenced.
    """
    return _fences(context, survey(context, refs))


def _fences(context: Context, places: Sequence[Place]) -> list[UndoRecord | None]:
    records = [_open_fence(context, place) for place in places]
    missing = [place for place, record in zip(places, records, strict=True) if record is None]
    strange = [place for place in missing if is_parking_mac(place.reading.admin.mac)]
    if strange or len(missing) == len(places):
        place = (strange or missing)[0]
        raise NotFencedError(
            "unfence a VF",
            host=place.host.hostname,
            pf=place.pf.name,
            vf=place.facts.index,
            why="no fence is on record for it" + (", though it shows a parking MAC" if strange else ""),
            next_step=f"'vferry show {place.ref}' says what it is set to; 'vferry doctor' looks for hazards",
        )
    return records


def _open_fence(context: Context, place: Place) -> UndoRecord | None:
    """Return the fence on record for a VF.

    :raise PendingChangeError: another verb's record.
    :raise IdentityChangedError: the record is about another life of the VF.
    """
    record = open_record(context, place.key)
    if record is None:
        return None
    if record.kind is not UndoKind.FENCE:
        raise PendingChangeError(record, host=place.host.hostname, wanted=UndoKind.FENCE)
    changes = identity_changes(record.identity, place.identity)
    if changes:
        raise IdentityChangedError(record, changes, host=place.host.hostname)
    return record


def _plan_one(place: Place, record: UndoRecord | None, request: FenceRequest) -> FencePlan:
    """Plan from the settings before the fence, so that the same command again makes the same plan."""
    if not place.pf_reading.has_settings:
        raise NotFencedError(
            "fence a VF",
            host=place.host.hostname,
            pf=place.pf.name,
            vf=place.facts.index,
            why="its PF's driver offers no VF settings, so there is no lever",
            next_step="unplug the VF from the VM and unbind it",
        )
    if record is None and is_parking_mac(place.reading.admin.mac):
        raise NotFencedError(
            "fence a VF",
            host=place.host.hostname,
            pf=place.pf.name,
            vf=place.facts.index,
            why=f"it shows the parking MAC {place.reading.admin.mac}, and its fence is not on record in this state "
            "directory: what it was before is not known here",
            next_step="name the state directory that has the record with --state-dir, or 'vferry release' the VF",
        )
    try:
        return plan_fence(
            lever_rows(place.pf),
            mode=request.mode,
            now=place.reading.admin if record is None else record.before,
            can_reset=place.facts.address is not None,
            capabilities=find_table(capability_key(place.host, place.pf), request.tables),
            parking=parking_mac(place.pf.permanent_address or place.pf.device, place.facts.index),
            parking_vid=request.parking_vid,
            required=request.required,
            guest_stopped=request.guest_stopped,
        )
    except FenceImpossibleError as error:
        error.host, error.pf, error.vf = place.host.hostname, place.pf.name, place.facts.index
        raise


def _details(chosen: FencePlan, request: FenceRequest) -> dict[str, str]:
    return {"levers": ", ".join(lever.value for lever in chosen.levers), "mode": request.mode.value}


def _grade(levers: tuple[Lever, ...], done: Applied) -> Grade:
    """A reset leaves nothing that could be read back, and neither does a setting that the driver does not show."""
    return Grade.ASSERTED if done.not_shown or set(levers) == {Lever.RESET} else Grade.READ_BACK


def _fenced(place: Place, chosen: FencePlan, done: Applied, record: UndoRecord | None, sighting: Sighting) -> FencedVf:
    claims = {column: _grade(levers, done) for column, levers in chosen.covered.items()}
    if sighting.proves:
        claims[Column.ADMIN_UNICAST] = Grade.OBSERVED
    return FencedVf(
        pf=place.pf.name,
        vf=place.facts.index,
        plan=chosen,
        evidence=Evidence(claims=claims, uncovered=chosen.uncovered, shown=done.shown, observation=sighting.in_words),
        before=done.before,
        already=record is not None and record.completed and not done.changed,
    )
