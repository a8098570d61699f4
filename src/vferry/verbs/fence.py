# SPDX-License-Identifier: Apache-2.0
"""``fence``, ``unfence`` and ``release``: keep frames from a VF, take that back, or give the VF up."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vferry.core.capability import CapabilityTable, capability_key, find_table
from vferry.core.compare import Difference
from vferry.core.errors import RefusedError
from vferry.core.fence import (
    ASSUMED_PARKING_VID,
    Column,
    Evidence,
    FencePlan,
    Grade,
    Lever,
    Mode,
    is_parking_mac,
    parking_mac,
    plan_fence,
)
from vferry.core.levers import lever_rows
from vferry.core.model import ZERO_MAC, AdminState, LinkState, Rate
from vferry.core.undo import IdentityChangedError, UndoKind, UndoRecord, identity_changes
from vferry.ports.nic import NicError
from vferry.verbs.context import Context, VfRef, utc
from vferry.verbs.converge import converge
from vferry.verbs.observe import Observer, Sighting
from vferry.verbs.transaction import Applied, Change, PendingChangeError, Place, Transaction, survey, undo

__all__ = [
    "FenceRequest",
    "FencedVf",
    "NotFencedError",
    "ReleasedVf",
    "UnfencedVf",
    "fence",
    "plan",
    "plan_release",
    "plan_unfence",
    "release",
    "unfence",
]


class FenceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How to fence."""

    mode: Mode = Mode.DEVICE_STATE
    required: frozenset[Column] = frozenset()
    """Columns that must be covered, beside ``ADMIN_UNICAST``."""
    parking_vid: int = ASSUMED_PARKING_VID
    tables: tuple[CapabilityTable, ...] = ()


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


class ReleasedVf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One VF with default settings."""

    pf: str
    vf: int
    shown: AdminState
    not_shown: tuple[Difference, ...] = ()
    kept: tuple[str, ...] = ()
    """Settings that the driver would not bring back to their default, in words."""
    user: str | None = None
    """Who still uses the VF."""


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


def unfence(context: Context, refs: Sequence[VfRef]) -> list[UnfencedVf]:
    """Bring fenced VFs back to exactly what they were.

    :raise NotFencedError: no fence is on record for a VF; nothing was changed.
    :raise IdentityChangedError: the VF is not the one that was fenced.
    :raise PersonNeededError: it could not be undone; the record is kept.
    """
    records = plan_unfence(context, refs)
    places = survey(context, refs)
    converged = undo(context, records)
    return [
        UnfencedVf(pf=place.pf.name, vf=place.facts.index, shown=result.shown or AdminState())
        for place, result in zip(places, converged, strict=True)
    ]


def plan_unfence(context: Context, refs: Sequence[VfRef]) -> list[UndoRecord]:
    """Return the undo records of fenced VFs; changes nothing.

    :raise NotFencedError: no fence is on record for a VF.
    :raise IdentityChangedError: the VF is not the one that was fenced.
    """
    places = survey(context, refs)
    records = [_open_fence(context, place) for place in places]
    found = [record for record in records if record is not None]
    if len(found) != len(places):
        place = next(place for place, record in zip(places, records, strict=True) if record is None)
        raise NotFencedError(
            "unfence a VF",
            host=place.host.hostname,
            pf=place.pf.name,
            vf=place.facts.index,
            why="no fence is on record for it" + _hint_of_parking(place),
            next_step=f"'vferry show {place.ref}' says what it is set to; 'vferry doctor' looks for hazards",
        )
    return found


def plan_release(context: Context, refs: Sequence[VfRef], tables: tuple[CapabilityTable, ...]) -> list[Change]:
    """Say what ``release`` would set; changes nothing.

    :raise PendingChangeError: a restore or a probe of a VF is not over.
    """
    return [Change(vf=place.ref, wanted=_defaults(place, tables)) for place in _releasable(context, refs)]


def release(context: Context, refs: Sequence[VfRef], tables: tuple[CapabilityTable, ...]) -> list[ReleasedVf]:
    """Bring VFs back to defaults and forget their fences: the next tenant inherits nothing.

    A setting whose default the driver refuses is reported, and the rest is set all the same.

    :raise PendingChangeError: a restore or a probe of a VF is not over; nothing was changed.
    :raise FailedError: a VF cannot be set; the others were.
    """
    places = _releasable(context, refs)
    return [_release_one(context, place, _defaults(place, tables)) for place in places]


def _open_fence(context: Context, place: Place) -> UndoRecord | None:
    """Return the fence on record for a VF.

    :raise PendingChangeError: another verb's record.
    :raise IdentityChangedError: the record is about another life of the VF.
    """
    record = context.journal.get(place.key)
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
    return plan_fence(
        lever_rows(place.pf),
        mode=request.mode,
        now=place.reading.admin if record is None else record.before,
        can_reset=place.facts.address is not None,
        capabilities=find_table(capability_key(place.host, place.pf), request.tables),
        parking=parking_mac(place.pf.permanent_address or place.pf.device, place.facts.index),
        parking_vid=request.parking_vid,
        required=request.required,
    )


def _details(chosen: FencePlan, request: FenceRequest) -> dict[str, str]:
    return {"levers": ", ".join(lever.value for lever in chosen.levers), "mode": request.mode.value}


def _fenced(place: Place, chosen: FencePlan, done: Applied, record: UndoRecord | None, sighting: Sighting) -> FencedVf:
    not_shown = {difference.attribute for difference in done.not_shown}
    grade = Grade.ASSERTED if not_shown else Grade.READ_BACK
    claims = dict.fromkeys(chosen.covered, grade)
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


def _hint_of_parking(place: Place) -> str:
    return ", though it shows a parking MAC" if is_parking_mac(place.reading.admin.mac) else ""


def _releasable(context: Context, refs: Sequence[VfRef]) -> list[Place]:
    places = survey(context, refs)
    for place in places:
        record = context.journal.get(place.key)
        unfinished = record is not None and record.kind in (UndoKind.RESTORE, UndoKind.PROBE)
        if record is not None and unfinished and not identity_changes(record.identity, place.identity):
            raise PendingChangeError(record, host=place.host.hostname, wanted=UndoKind.RELEASE)
    return places


def _defaults(place: Place, tables: tuple[CapabilityTable, ...]) -> AdminState:
    """Return the driver's own defaults where a table knows them, else the safest; only what the driver reports."""
    table = find_table(capability_key(place.host, place.pf), tables)
    safest = AdminState(
        mac=ZERO_MAC,
        vlans=(),
        rate=Rate(min_tx=0, max_tx=0),
        spoofchk=True,
        link_state=LinkState.AUTO,
        rss_query=False,
        trust=False,
    )
    known = safest if table is None or table.defaults is None else table.defaults
    shown = place.reading.admin
    fields = {
        name: getattr(known, name) if getattr(known, name) is not None else getattr(safest, name)
        for name in safest.__struct_fields__
        if getattr(shown, name) is not None
    }
    return AdminState(**fields)


def _release_one(context: Context, place: Place, wanted: AdminState) -> ReleasedVf:
    """Set one attribute after the other: a default that the driver refuses must not keep the others from being set."""
    kept: list[str] = []
    not_shown: list[Difference] = []
    shown = place.reading.admin
    for name in wanted.__struct_fields__:
        value = getattr(wanted, name)
        if value is None:
            continue
        applied, error = _release_setting(context, place, AdminState(**{name: value}))
        if error is not None:
            kept.append(f"{name}: {error.why}")
        shown = applied or shown
    context.journal.remove(place.key)
    return ReleasedVf(
        pf=place.pf.name,
        vf=place.facts.index,
        shown=shown,
        not_shown=tuple(not_shown),
        kept=tuple(kept),
        user=place.facts.user,
    )


def _release_setting(context: Context, place: Place, wanted: AdminState) -> tuple[AdminState | None, NicError | None]:
    result = converge(context, place.pf.name, {place.facts.index: wanted})[place.facts.index]
    return result.shown, result.error
