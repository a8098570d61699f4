# SPDX-License-Identifier: Apache-2.0
"""``release``: give VFs up; the next tenant inherits nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vferry.core.capability import CapabilityTable, capability_key, find_table
from vferry.core.compare import Difference
from vferry.core.errors import RefusedError
from vferry.core.model import ZERO_MAC, AdminState, LinkState, Rate
from vferry.core.undo import UndoKind, UndoRecord, identity_changes
from vferry.ports.nic import NicError, NoSuchFunctionError, NotPermittedError
from vferry.verbs.context import Context, VfRef, utc
from vferry.verbs.converge import PASSING, Converged, ReloadedError, converge
from vferry.verbs.pending import (
    PendingChangeError,
    journal_must_not_fail,
    leave_transaction,
    open_record,
    sweep,
    unwrite_records,
    write_records,
)
from vferry.verbs.places import Place, survey
from vferry.verbs.transaction import Change

__all__ = ["ReleasedVf", "plan_release", "release"]

SAFEST = AdminState(
    mac=ZERO_MAC,
    vlans=(),
    rate=Rate(min_tx=0, max_tx=0),
    spoofchk=True,
    link_state=LinkState.AUTO,
    rss_query=False,
    trust=False,
)
"""What a VF gets of which no table knows the driver's own defaults."""

MAY_PASS = (*PASSING, NotPermittedError, NoSuchFunctionError, ReloadedError)
"""Errors that say nothing about what the driver takes."""


class ReleasedVf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One VF with default settings."""

    pf: str
    vf: int
    shown: AdminState
    not_shown: tuple[Difference, ...] = ()
    kept: tuple[str, ...] = ()
    """Settings that are not back at their default, in words."""
    again: bool = False
    """True: what kept them may pass; the VF stays on record until it is released again."""
    user: str | None = None
    """Who still uses the VF."""


def plan_release(context: Context, refs: Sequence[VfRef], tables: tuple[CapabilityTable, ...]) -> list[Change]:
    """Say what ``release`` would set; changes nothing.

    :raise PendingChangeError: a restore or a probe of a VF is not over.
    """
    return [Change(vf=place.ref, wanted=_defaults(place, tables)) for place in _releasable(context, refs)]


def release(context: Context, refs: Sequence[VfRef], tables: tuple[CapabilityTable, ...]) -> list[ReleasedVf]:
    """Bring VFs back to defaults and forget their fences: the next tenant inherits nothing.

    A setting whose default the driver refuses is reported, and the rest is set all the same.

    :raise PendingChangeError: a restore or a probe of a VF is not over; nothing was changed.
    :raise FailedError: nothing could be set at all; everything is as before.
    :raise PersonNeededError: the VFs are released, and the journal cannot be brought into line.
    """
    sweep(context)
    places = _releasable(context, refs)
    for place in places:
        record = context.journal.get(place.key)
        if record is not None:
            leave_transaction(context, record)
    old = [record for place in places if (record := context.journal.get(place.key)) is not None]
    records = [_record(context, place, _defaults(place, tables)) for place in places]
    write_records(context, records, old=old)
    attempts = [_Attempt(context, place, record) for place, record in zip(places, records, strict=True)]
    for attempt in attempts:
        attempt.run()
    failed = next((attempt.errors[0][1] for attempt in attempts if attempt.errors), None)
    if failed is not None and all(attempt.untouched for attempt in attempts):
        with journal_must_not_fail("nothing was changed on the NIC", records[0], failed):
            unwrite_records(context, records, old=old)
        raise failed
    for attempt in attempts:
        if not attempt.again:
            with journal_must_not_fail("the VF is released", attempt.record):
                context.journal.remove(attempt.place.key)
    return [attempt.result() for attempt in attempts]


def drop_record(context: Context, record: UndoRecord) -> None:
    """Forget the undo record of a VF that is not there any more: nothing is left that it could bring back.

    :raise JournalError: it cannot be removed.
    """
    leave_transaction(context, record)
    context.journal.remove(record.key)


class _Attempt:
    """Set one attribute after the other: a default that is refused must not keep the others from being set."""

    def __init__(self, context: Context, place: Place, record: UndoRecord) -> None:
        self.place = place
        self.record = record
        self.errors: list[tuple[str, NicError]] = []
        self._context = context
        self._shown = place.reading.admin
        self._not_shown: list[Difference] = []
        self._accepted = False

    @property
    def untouched(self) -> bool:
        """Nothing was accepted, and the VF shows what it showed."""
        return not self._accepted and self._shown == self.place.reading.admin

    @property
    def again(self) -> bool:
        """The same command may succeed later."""
        return any(isinstance(error, MAY_PASS) for _, error in self.errors)

    def run(self) -> None:
        """Bring the VF back to the defaults, as far as that can be done."""
        wanted = self.record.wanted
        for name in wanted.__struct_fields__:
            if getattr(wanted, name) is not None:
                self._set(name, AdminState(**{name: getattr(wanted, name)}))

    def _set(self, name: str, wanted: AdminState) -> None:
        index = self.place.facts.index
        try:
            found = converge(self._context, self.place.pf.name, {index: wanted}, known=self.place.pf_reading)[index]
        except NicError as error:
            found = Converged(shown=None, sent=False, error=error)
        self._shown = found.shown or self._shown
        self._not_shown += found.not_shown
        if found.error is not None:
            self.errors.append((name, found.error))
        elif found.sent:
            self._accepted = True

    def result(self) -> ReleasedVf:
        """Say what became of the VF."""
        return ReleasedVf(
            pf=self.place.pf.name,
            vf=self.place.facts.index,
            shown=self._shown,
            not_shown=tuple(self._not_shown),
            kept=tuple(f"{name}: {error.why or error.what}" for name, error in self.errors),
            again=self.again,
            user=self.place.facts.user,
        )


def _releasable(context: Context, refs: Sequence[VfRef]) -> list[Place]:
    places = survey(context, refs)
    for place in places:
        if not place.pf_reading.has_settings:
            raise RefusedError(
                "release a VF",
                host=place.host.hostname,
                pf=place.pf.name,
                vf=place.facts.index,
                why="its PF's driver offers no VF settings, so there is nothing to bring back",
                next_step="'vferry show' says what is known of it",
            )
        record = open_record(context, place.key)
        another_verb = record is not None and record.kind in (UndoKind.RESTORE, UndoKind.PROBE)
        if record is not None and another_verb and not identity_changes(record.identity, place.identity):
            raise PendingChangeError(record, host=place.host.hostname, wanted=UndoKind.RELEASE)
    return places


def _record(context: Context, place: Place, wanted: AdminState) -> UndoRecord:
    """A release is not undone: its record only says that it is not over."""
    now = utc(context.clock)
    return UndoRecord(
        kind=UndoKind.RELEASE,
        transaction=f"release {now}",
        lead=place.key,
        identity=place.identity,
        before=place.reading.admin,
        wanted=wanted,
        started=now,
    )


def _defaults(place: Place, tables: tuple[CapabilityTable, ...]) -> AdminState:
    """Return the driver's own defaults where a table knows them, else the safest; only what the driver reports."""
    table = find_table(capability_key(place.host, place.pf), tables)
    known = SAFEST if table is None or table.defaults is None else table.defaults
    shown = place.reading.admin
    fields = {
        name: getattr(known, name) if getattr(known, name) is not None else getattr(SAFEST, name)
        for name in SAFEST.__struct_fields__
        if getattr(shown, name) is not None
    }
    return AdminState(**fields)
