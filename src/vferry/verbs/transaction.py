# SPDX-License-Identifier: Apache-2.0
"""A change of several VFs that is carried out as a whole, taken back as a whole, and survives a crash at any point.

The order is always: compare identities, write undo records, change, read back, and only then (for everything but a
fence) remove the records, the lead's first. What went wrong before the last step is undone by reading and sending
what differs from the snapshot; an undo that fails leaves the records and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from vferry.core.compare import Difference, DifferenceKind, differences
from vferry.core.errors import FailedError, PersonNeededError, RefusedError
from vferry.core.model import AdminState, FunctionState, HostFacts, PciState, PfFacts, PfReading, VfFacts, VfReading
from vferry.core.undo import (
    IdentityChangedError,
    UndoKind,
    UndoRecord,
    VfIdentity,
    VfKey,
    identity_changes,
    vf_identity,
)
from vferry.ports.nic import NicError, NoSuchFunctionError
from vferry.verbs.context import Context, VfRef, utc
from vferry.verbs.converge import Converged, converge

__all__ = ["Applied", "Change", "PendingChangeError", "Place", "Transaction", "survey", "sweep", "undo", "unfinished"]


class Change(NamedTuple):
    """What one VF is to become; what is absent is left alone."""

    vf: VfRef
    wanted: AdminState
    function: FunctionState | None = None
    pci: PciState | None = None
    reset: bool = False
    """Reset the function once the settings stand: what the guest had asked for is dropped."""


class Place(NamedTuple):
    """A VF as found: its PF's facts, its own, and one reading."""

    host: HostFacts
    pf: PfFacts
    facts: VfFacts
    pf_reading: PfReading
    reading: VfReading

    @property
    def ref(self) -> VfRef:
        """How verbs name the VF."""
        return VfRef(self.pf.name, self.facts.index)

    @property
    def identity(self) -> VfIdentity:
        """What must stay the same for an undo record to be about this VF."""
        return vf_identity(self.host, self.pf, self.pf_reading, self.facts)

    @property
    def key(self) -> VfKey:
        """The VF's name in the journal."""
        return VfKey(device=self.pf.device, index=self.facts.index)


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


class PendingChangeError(RefusedError):
    """Another change of the VF is not over yet."""

    def __init__(self, record: UndoRecord, *, host: str, wanted: UndoKind) -> None:
        pf, vf = record.identity.pf, record.key.index
        state = "is" if record.completed else "was being changed and that was interrupted: it is"
        super().__init__(
            f"{wanted.value} a VF",
            host=host,
            pf=pf,
            vf=vf,
            why=f"it {state} in the hands of '{record.kind.value}' since {record.started}",
            next_step=_way_out(record),
        )
        self.record = record


def _way_out(record: UndoRecord) -> str:
    name = f"{record.identity.pf}/{record.key.index}"
    ways = {
        UndoKind.FENCE: f"'vferry unfence {name}' brings it back, 'vferry release {name}' gives it up",
        UndoKind.RESTORE: f"the same restore again completes it, 'vferry restore --undo {name}' takes it back",
        UndoKind.RELEASE: f"'vferry release {name}' completes it",
        UndoKind.PROBE: f"'vferry probe {record.identity.pf}' takes it back and probes again",
    }
    return ways[record.kind]


def survey(context: Context, refs: Sequence[VfRef], *, statistics: bool = False) -> list[Place]:
    """Read every VF named, each PF once.

    :raise NoSuchFunctionError: a PF or a VF is not there.
    :raise NicError: a PF cannot be read.
    """
    host = context.nic.host()
    pfs = {name: context.nic.pf(name) for name in dict.fromkeys(ref.pf for ref in refs)}
    vfs = {name: context.nic.vfs(name) for name in pfs}
    readings = {name: context.nic.read(name, statistics=statistics) for name in pfs}
    return [_place(host, pfs[ref.pf], vfs[ref.pf], readings[ref.pf], ref.vf) for ref in refs]


def _place(host: HostFacts, pf: PfFacts, vfs: Sequence[VfFacts], reading: PfReading, index: int) -> Place:
    facts = next((vf for vf in vfs if vf.index == index), None)
    if facts is None:
        raise NoSuchFunctionError(
            "find the VF",
            host=host.hostname,
            pf=pf.name,
            vf=index,
            why=f"the PF has {len(vfs)} VFs, counted from 0",
            next_step="'vferry list' shows what there is",
        )
    read = next((vf for vf in reading.vfs if vf.index == index), VfReading(index=index, admin=AdminState()))
    return Place(host, pf, facts, reading, read)


def sweep(context: Context) -> tuple[UndoRecord, ...]:
    """Remove the records of finished transactions; return what is left.

    :raise JournalError: the journal cannot be read.
    """
    records = context.journal.records()
    still_open = unfinished(records)
    for record in records:
        if record not in still_open:
            context.journal.remove(record.key)
    return still_open


def unfinished(records: Sequence[UndoRecord]) -> tuple[UndoRecord, ...]:
    """Return the records whose transaction is not over: a fence's, and those whose lead is still on record."""
    keys = {(record.key, record.transaction) for record in records}
    return tuple(
        record for record in records if record.kind is UndoKind.FENCE or (record.lead, record.transaction) in keys
    )


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
        self._records: dict[VfRef, UndoRecord] = {}

    def run(self) -> list[Applied]:
        """Carry out the change.

        :raise PendingChangeError: one of the VFs is in the hands of another verb; nothing was changed.
        :raise IdentityChangedError: an interrupted change is about VFs that no longer exist.
        :raise FailedError: it failed and every VF is as it was before.
        :raise PersonNeededError: it failed and could not be undone; the undo records are kept.
        """
        self._write_records(survey(self._context, [change.vf for change in self._changes]))
        try:
            converged = self._apply()
        except FailedError as error:
            self._take_back(error)
            raise
        applied = [self._applied(change, converged[change.vf]) for change in self._changes]
        self._finish()
        return applied

    def _write_records(self, places: Sequence[Place]) -> None:
        old = self._interrupted(places)
        lead, name = (old[0].lead, old[0].transaction) if old else (places[0].key, self._name)
        before = {record.key: record for record in old}
        for change, place in zip(self._changes, places, strict=True):
            self._records[change.vf] = self._record(change, place, lead, name, before.get(place.key))
        for record in self._records.values():
            self._context.journal.put(record)

    def _interrupted(self, places: Sequence[Place]) -> list[UndoRecord]:
        """Return the records of an interrupted run of this verb on these VFs; refuse any other record."""
        old: list[UndoRecord] = []
        for place in places:
            record = self._context.journal.get(place.key)
            if record is None:
                continue
            changes = identity_changes(record.identity, place.identity)
            if changes:
                raise IdentityChangedError(record, changes, host=place.host.hostname)
            if record.kind is not self._kind:
                raise PendingChangeError(record, host=place.host.hostname, wanted=self._kind)
            old.append(record)
        if old and self._kind is not UndoKind.FENCE:
            self._refuse_part(old, places)
        return old

    def _refuse_part(self, old: Sequence[UndoRecord], places: Sequence[Place]) -> None:
        """An interrupted transaction is taken up whole, or not at all."""
        keys = {place.key for place in places}
        for record in self._context.journal.records():
            same = any(record.transaction == known.transaction for known in old)
            if (same and record.key not in keys) or (record.key in keys and record.transaction != old[0].transaction):
                raise PendingChangeError(record, host=places[0].host.hostname, wanted=self._kind)

    def _record(self, change: Change, place: Place, lead: VfKey, name: str, old: UndoRecord | None) -> UndoRecord:
        nic = self._context.nic
        if old is not None:
            return msgspec.structs.replace(old, wanted=change.wanted, completed=False)
        return UndoRecord(
            kind=self._kind,
            transaction=name,
            lead=lead,
            identity=place.identity,
            before=place.reading.admin,
            wanted=change.wanted,
            before_function=None if change.function is None else nic.read_function(*change.vf),
            before_pci=None if change.pci is None else nic.read_pci(*change.vf),
            started=utc(self._context.clock),
            details=self._details,
        )

    def _apply(self) -> dict[VfRef, Converged]:
        converged = _converge_all(self._context, {change.vf: change.wanted for change in self._changes})
        _raise_first(converged)
        for change in self._changes:
            if change.reset:
                self._context.nic.reset_vf(*change.vf)
            if change.function is not None:
                self._context.nic.program_function(change.vf.pf, change.vf.vf, change.function)
            if change.pci is not None:
                self._context.nic.write_pci(change.vf.pf, change.vf.vf, change.pci)
        if any(change.reset for change in self._changes):
            converged = _converge_all(self._context, {change.vf: change.wanted for change in self._changes})
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

    def _take_back(self, cause: FailedError) -> None:
        undo(self._context, list(self._records.values()), cause=cause)

    def _finish(self) -> None:
        if self._kind is UndoKind.FENCE:
            for record in self._records.values():
                self._context.journal.put(msgspec.structs.replace(record, completed=True))
        else:
            _forget(self._context, list(self._records.values()))


def undo(context: Context, records: Sequence[UndoRecord], *, cause: FailedError | None = None) -> list[Converged]:
    """Bring VFs back to what their undo records say, prove it by reading, and remove the records.

    :param cause: why a change is being taken back; named in the error if that fails.
    :raise IdentityChangedError: a VF is not the one that its record speaks of.
    :raise PersonNeededError: a VF is not as before; its record is kept.
    """
    places = _places_of(context, records, cause)
    for record, place in zip(records, places, strict=True):
        changes = identity_changes(record.identity, place.identity)
        if changes:
            raise IdentityChangedError(record, changes, host=place.host.hostname) from cause
    try:
        converged = _converge_all(
            context, {place.ref: record.before for record, place in zip(records, places, strict=True)}
        )
        for record, place in zip(records, places, strict=True):
            _undo_beside_settings(context, record, place)
    except NicError as error:
        raise _undo_failed(records[0], error, cause) from error
    for record, place in zip(records, places, strict=True):
        _check_undone(record, converged[place.ref], cause)
    _forget(context, records)
    return [converged[place.ref] for place in places]


def _places_of(context: Context, records: Sequence[UndoRecord], cause: FailedError | None) -> list[Place]:
    """Find the VFs of undo records, whose PFs may have another name by now."""
    names = {pf.device: pf.name for pf in context.nic.pfs()}
    refs = [VfRef(names.get(record.key.device, record.identity.pf), record.key.index) for record in records]
    try:
        return survey(context, refs)
    except NoSuchFunctionError as error:
        raise IdentityChangedError(records[0], (str(error),), host=context.nic.host().hostname) from (cause or error)
    except NicError as error:
        raise _undo_failed(records[0], error, cause) from error


def _undo_beside_settings(context: Context, record: UndoRecord, place: Place) -> None:
    if record.before_function is not None:
        context.nic.program_function(place.pf.name, place.facts.index, record.before_function)
    if record.before_pci is not None and place.facts.driver is None:
        context.nic.write_pci(place.pf.name, place.facts.index, record.before_pci)


def _check_undone(record: UndoRecord, converged: Converged, cause: FailedError | None) -> None:
    """Everything that was shown before must be shown again, with the same value."""
    if converged.error is not None:
        raise _undo_failed(record, converged.error, cause) from converged.error
    shown = AdminState() if converged.shown is None else converged.shown
    lost = [d for d in differences(record.before, shown) if d.kind is not DifferenceKind.NOT_SHOWN]
    if lost:
        names = ", ".join(difference.attribute.value for difference in lost)
        error = NicError("undo", pf=record.identity.pf, vf=record.key.index, why=f"not as before: {names}")
        raise _undo_failed(record, error, cause)


def _undo_failed(record: UndoRecord, error: FailedError, cause: FailedError | None) -> PersonNeededError:
    first = f"{cause.what}: {cause.why}; then " if cause is not None else ""
    return PersonNeededError(
        "bring the VF back to what it was before",
        host=error.host,
        pf=record.identity.pf,
        vf=record.key.index,
        why=f"{first}the undo failed: {error.why or error.what}; the VF is between the old state and the new one",
        next_step=f"mend the cause, then {_way_out(record)}; the old settings are kept in the undo record",
    )


def _converge_all(context: Context, wanted: Mapping[VfRef, AdminState]) -> dict[VfRef, Converged]:
    by_pf: dict[str, dict[int, AdminState]] = {}
    for ref, state in wanted.items():
        by_pf.setdefault(ref.pf, {})[ref.vf] = state
    found: dict[VfRef, Converged] = {}
    for pf, states in by_pf.items():
        for index, converged in converge(context, pf, states).items():
            found[VfRef(pf, index)] = converged
    return found


def _raise_first(converged: Mapping[VfRef, Converged]) -> None:
    for result in converged.values():
        if result.error is not None:
            raise result.error


def _forget(context: Context, records: Sequence[UndoRecord]) -> None:
    """Remove records, those of the leads first: that ends the transaction."""
    is_lead: Callable[[UndoRecord], bool] = lambda record: record.key == record.lead  # noqa: E731 -- a sort key with a name
    for record in sorted(records, key=is_lead, reverse=True):
        context.journal.remove(record.key)
