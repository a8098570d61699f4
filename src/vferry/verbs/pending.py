# SPDX-License-Identifier: Apache-2.0
"""What is on record: changes that are not over, and how their records come and go.

A transaction is over when the record of its lead is gone; what is left of it is swept away by the next verb.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import msgspec

from vferry.core.errors import PersonNeededError, RefusedError, VferryError
from vferry.core.undo import UndoKind, UndoRecord, VfKey
from vferry.ports.journal import JournalError
from vferry.verbs.context import Context

__all__ = [
    "PendingChangeError",
    "first_words",
    "forget",
    "journal_must_not_fail",
    "leave_transaction",
    "open_record",
    "refuse_part",
    "same_transaction",
    "sweep",
    "unfinished",
    "unwrite_records",
    "way_out",
    "write_records",
]


class PendingChangeError(RefusedError):
    """Another change of the VF is not over yet."""

    def __init__(self, record: UndoRecord, *, host: str, wanted: UndoKind | str) -> None:
        pf, vf = record.identity.pf, record.key.index
        state = "is" if record.completed else "was being changed and that was interrupted: it is"
        super().__init__(
            f"{wanted.value if isinstance(wanted, UndoKind) else wanted} a VF",
            host=host,
            pf=pf,
            vf=vf,
            why=f"it {state} in the hands of '{record.kind.value}' since {record.started}",
            next_step=way_out(record),
        )
        self.record = record


def way_out(record: UndoRecord) -> str:
    """Say what brings a VF out of the state that its record is about."""
    name = f"{record.identity.pf}/{record.key.index}"
    ways = {
        UndoKind.FENCE: f"'vferry unfence {name}' brings it back, 'vferry release {name}' gives it up",
        UndoKind.RESTORE: f"the same restore again completes it, 'vferry restore --undo {name}' takes it back",
        UndoKind.RELEASE: f"'vferry release {name}' completes it",
        UndoKind.PROBE: f"'vferry probe {record.identity.pf}' takes it back and probes again",
    }
    return ways[record.kind]


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


def open_record(context: Context, key: VfKey) -> UndoRecord | None:
    """Return the record of a VF unless its transaction is over.

    :raise JournalError: it cannot be read.
    """
    record = context.journal.get(key)
    if record is None or record.kind is UndoKind.FENCE or record.lead == key:
        return record
    lead = context.journal.get(record.lead)
    return record if lead is not None and lead.transaction == record.transaction else None


def same_transaction(one: UndoRecord, other: UndoRecord) -> bool:
    """Return whether two records belong to one transaction."""
    return (one.lead, one.transaction) == (other.lead, other.transaction)


def refuse_part(context: Context, kind: UndoKind, keys: Sequence[VfKey], *, host: str) -> None:
    """Take up an interrupted transaction of ``kind`` whole, and alone, or not at all.

    :raise PendingChangeError: ``keys`` name a part of one, or VFs of two.
    """
    pending = [record for record in unfinished(context.journal.records()) if record.kind is kind]
    named = [record for record in pending if record.key in keys]
    for record in pending:
        if named and same_transaction(record, named[0]) != (record.key in keys):
            raise PendingChangeError(record, host=host, wanted=kind)


def leave_transaction(context: Context, record: UndoRecord) -> None:
    """Give the other VFs of a transaction another lead, so that it stays open when ``record`` goes.

    :raise JournalError: a record cannot be written.
    """
    if record.key != record.lead or record.kind is UndoKind.FENCE:
        return
    others = [one for one in context.journal.records() if same_transaction(one, record) and one.key != record.key]
    for one in others:
        context.journal.put(msgspec.structs.replace(one, lead=others[0].key))


def write_records(context: Context, records: Sequence[UndoRecord], *, old: Sequence[UndoRecord]) -> None:
    """Write undo records; if one cannot be written, leave the journal as it was.

    :param old: the records that are replaced.
    :raise JournalError: one cannot be written; nothing was changed.
    :raise PersonNeededError: one cannot be written, and another not be taken away again.
    """
    for count, record in enumerate(records, 1):
        try:
            context.journal.put(record)
        except JournalError as error:
            with journal_must_not_fail("nothing was changed on the NIC", record, error):
                unwrite_records(context, records[:count], old=old)
            raise


def unwrite_records(context: Context, records: Sequence[UndoRecord], *, old: Sequence[UndoRecord]) -> None:
    """Put the journal back to what it was before ``records`` were written over ``old``.

    :raise JournalError: that failed.
    """
    before = {record.key: record for record in old}
    for record in records:
        earlier = before.get(record.key)
        if context.journal.get(record.key) == earlier:
            continue
        if earlier is None:
            context.journal.remove(record.key)
        else:
            context.journal.put(earlier)


def forget(context: Context, records: Sequence[UndoRecord]) -> None:
    """Remove records, those of the leads first: that ends the transaction.

    What is left of a transaction without its lead is swept away later, so it does not matter if that cannot be removed
    now; a fence is open as long as it is on record.

    :raise JournalError: a record that matters cannot be removed.
    """
    is_lead: Callable[[UndoRecord], bool] = lambda record: record.key == record.lead  # noqa: E731 -- a sort key with a name
    for record in sorted(records, key=is_lead, reverse=True):
        try:
            context.journal.remove(record.key)
        except JournalError:
            if is_lead(record) or record.kind is UndoKind.FENCE:
                raise


def first_words(cause: Exception | None) -> str:
    """Say what went wrong first, ready to go on with."""
    if cause is None:
        return ""
    words = f"{cause.what}: {cause.why}" if isinstance(cause, VferryError) else f"{type(cause).__name__}: {cause}"
    return f"{words}; then "


@contextlib.contextmanager
def journal_must_not_fail(state: str, record: UndoRecord, cause: Exception | None = None) -> Iterator[None]:
    """Say what the state is if the journal cannot be brought into line with it."""
    try:
        yield
    except JournalError as error:
        raise PersonNeededError(
            f"end '{record.kind.value}'",
            pf=record.identity.pf,
            vf=record.key.index,
            why=f"{first_words(cause)}{state}, and the journal cannot be brought into line: {error.what}: {error.why}",
            next_step=f"mend the state directory, then {way_out(record)}",
        ) from error
