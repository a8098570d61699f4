# SPDX-License-Identifier: Apache-2.0
"""A change of several VFs that is carried out as a whole, taken back as a whole, and survives a crash at any point.

The order is always: compare identities, write undo records, change, read back, and only then (for everything but a
fence) remove the records, the lead's first. What went wrong before the last step is undone by reading and sending
what differs from the snapshot; an undo that fails leaves the records and says so.

Every error but a :class:`~vferry.core.errors.PersonNeededError` means that the NIC *and* the journal are as before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from vferry.core.compare import Difference, change_needed, overlay
from vferry.core.model import AdminState, FunctionState, PciState
from vferry.core.undo import IdentityChangedError, UndoKind, UndoRecord, VfKey, identity_changes
from vferry.verbs.context import Context, VfRef, utc
from vferry.verbs.converge import Converged
from vferry.verbs.pending import (
    PendingChangeError,
    forget,
    journal_must_not_fail,
    open_record,
    refuse_part,
    unwrite_records,
    write_records,
)
from vferry.verbs.places import Place, survey
from vferry.verbs.undo import bring_back, converge_all, overlay_function, set_function

__all__ = ["Applied", "Change", "Transaction"]


class Change(NamedTuple):
    """What one VF is to become; what is absent is left alone."""

    vf: VfRef
    wanted: AdminState
    function: FunctionState | None = None
    pci: PciState | None = None
    reset: bool = False
    """Reset the function before anything is set: what the guest had asked for is dropped."""


class Applied(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one VF."""

    pf: str
    vf: int
    before: AdminState
    shown: AdminState
    """Read back after the change."""
    changed: bool
    """False: everything already read as wanted, nothing was sent."""
    not_shown: tuple[Difference, ...] = ()
    """Accepted by the driver and not reported by it, so it cannot be verified."""


class Transaction:
    """One change of several VFs by one verb."""

    def __init__(
        self,
        context: Context,
        kind: UndoKind,
        changes: Sequence[Change],
        *,
        name: str,
        details: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a change; nothing is read or sent.

        :param name: names the transaction, unique on this host; used unless an interrupted one is taken up again.
        :param details: for people, kept in the undo records.
        """
        self._context = context
        self._kind = kind
        self._changes = list(changes)
        self._name = name
        self._details = dict(details or {})
        self._places: dict[VfRef, Place] = {}
        self._old: dict[VfRef, UndoRecord] = {}
        """What an earlier run left in the journal."""
        self._records: dict[VfRef, UndoRecord] = {}

    def run(self) -> list[Applied]:
        """Carry out the change.

        :raise PendingChangeError: one of the VFs is in the hands of another verb; nothing was changed.
        :raise IdentityChangedError: an interrupted change is about VFs that no longer exist.
        :raise FailedError: it failed and every VF is as it was before.
        :raise PersonNeededError: it failed and could not be undone; the undo records are kept.
        """
        places = survey(self._context, [change.vf for change in self._changes])
        self._places = {change.vf: place for change, place in zip(self._changes, places, strict=True)}
        self._take_up(places)
        self._make_records(places)
        write_records(self._context, list(self._records.values()), old=list(self._old.values()))
        try:
            converged = self._apply()
            applied = [self._applied(change, converged[change.vf]) for change in self._changes]
            if self._kind is UndoKind.FENCE:
                self._complete_fence()
        except Exception as error:  # whatever it is, the VFs must not stay in between
            self._take_back(error)
            raise
        if self._kind is not UndoKind.FENCE:
            self._end()
        return applied

    def _take_up(self, places: Sequence[Place]) -> None:
        """Find the records of an interrupted run of this verb on these VFs; refuse any other record."""
        for change, place in zip(self._changes, places, strict=True):
            record = open_record(self._context, place.key)
            if record is None:
                continue
            changes = identity_changes(record.identity, place.identity)
            if changes:
                raise IdentityChangedError(record, changes, host=place.host.hostname)
            if record.kind is not self._kind:
                raise PendingChangeError(record, host=place.host.hostname, wanted=self._kind)
            self._old[change.vf] = record
        if self._kind is not UndoKind.FENCE:
            refuse_part(self._context, self._kind, [place.key for place in places], host=places[0].host.hostname)

    def _make_records(self, places: Sequence[Place]) -> None:
        first = next(iter(self._old.values()), None)
        lead, name = (places[0].key, self._name) if first is None else (first.lead, first.transaction)
        for position, (change, place) in enumerate(zip(self._changes, places, strict=True)):
            old = self._old.get(change.vf)
            if old is not None:
                change = self._changes[position] = _together(self._kind, change, old)  # noqa: PLW2901 -- it replaces it
            self._records[change.vf] = self._record(change, place, lead, name, old)

    def _record(self, change: Change, place: Place, lead: VfKey, name: str, old: UndoRecord | None) -> UndoRecord:
        nic = self._context.nic
        before_function = None if old is None else old.before_function
        before_pci = None if old is None else old.before_pci
        if change.function is not None and before_function is None:
            before_function = nic.read_function(*change.vf)
        if change.pci is not None and before_pci is None:
            before_pci = nic.read_pci(*change.vf)
        return UndoRecord(
            kind=self._kind,
            transaction=name if old is None else old.transaction,
            lead=lead if old is None else old.lead,
            identity=place.identity if old is None else old.identity,
            before=place.reading.admin if old is None else old.before,
            wanted=change.wanted,
            before_function=before_function,
            before_pci=before_pci,
            started=utc(self._context.clock) if old is None else old.started,
            details=self._details,
        )

    def _apply(self) -> dict[VfRef, Converged]:
        for change in self._changes:
            if change.reset and not self._was_reset(change):
                self._context.nic.reset_vf(*change.vf)
        converged = self._converge()
        for change in self._changes:
            if change.function is not None:
                set_function(self._context, change.vf, change.function)
            if change.pci is not None:
                self._context.nic.write_pci(change.vf.pf, change.vf.vf, change.pci)
        return converged

    def _was_reset(self, change: Change) -> bool:
        """Whether an interrupted run got past the reset: some of what follows it stands.

        A second reset would do harm: a VF driver that sets up its VF again takes the MAC that it finds for its own.
        """
        shown = self._places[change.vf].reading.admin
        return change.vf in self._old and change_needed(change.wanted, shown) != change.wanted

    def _converge(self) -> dict[VfRef, Converged]:
        wanted = {change.vf: change.wanted for change in self._changes}
        converged = converge_all(self._context, wanted, self._places)
        _raise_first(converged)
        return converged

    def _applied(self, change: Change, converged: Converged) -> Applied:
        assert converged.shown is not None  # noqa: S101 -- _raise_first() let it pass
        return Applied(
            pf=change.vf.pf,
            vf=change.vf.vf,
            before=self._records[change.vf].before,
            shown=converged.shown,
            changed=converged.sent,
            not_shown=converged.not_shown,
        )

    def _complete_fence(self) -> None:
        for ref, record in self._records.items():
            self._records[ref] = msgspec.structs.replace(record, completed=True)
            self._context.journal.put(self._records[ref])

    def _take_back(self, cause: Exception) -> None:
        """Bring every VF back; one whose fence stood before this run is fenced still."""
        standing = {ref: record for ref, record in self._old.items() if record.completed}
        records = [
            msgspec.structs.replace(record, before=self._places[ref].reading.admin) if ref in standing else record
            for ref, record in self._records.items()
        ]
        bring_back(self._context, records, cause)
        with journal_must_not_fail("the VFs are as they were before", records[0], cause):
            forget(self._context, [record for ref, record in self._records.items() if ref not in standing])
            unwrite_records(self._context, list(standing.values()), old=list(standing.values()))

    def _end(self) -> None:
        records = list(self._records.values())
        with journal_must_not_fail("the change is complete and was read back", records[0]):
            forget(self._context, records)


def _together(kind: UndoKind, change: Change, old: UndoRecord) -> Change:
    """Return the change that makes of an interrupted one what ``change`` alone would have made.

    What the interrupted one has set and this one does not set goes back to what it was; a fence keeps it, so that it
    never gets weaker.
    """
    if kind is UndoKind.FENCE:
        return change._replace(wanted=overlay(old.wanted, change.wanted))
    fields = [name for name in AdminState.__struct_fields__ if getattr(old.wanted, name) is not None]
    base = AdminState(**{name: getattr(old.before, name) for name in fields})
    function = change.function
    if old.before_function is not None:
        function = overlay_function(old.before_function, function or FunctionState())
    return change._replace(wanted=overlay(base, change.wanted), function=function, pci=change.pci or old.before_pci)


def _raise_first(converged: Mapping[VfRef, Converged]) -> None:
    for result in converged.values():
        if result.error is not None:
            raise result.error
