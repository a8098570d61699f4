# SPDX-License-Identifier: Apache-2.0
"""``restore`` and ``verify``: make VFs what a record says, by operations, and read everything back."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vferry.core.capability import CapabilityTable, capability_key, find_table
from vferry.core.compare import Difference, DifferenceKind, differences
from vferry.core.errors import FailedError, RefusedError
from vferry.core.findings import Finding
from vferry.core.model import AdminState, FunctionState, PciState
from vferry.core.preflight import Preflight
from vferry.core.record import Record
from vferry.core.undo import UndoKind, UndoRecord
from vferry.ports.nic import NicError
from vferry.verbs.check import CheckRefusedError, Pair, Terms, check_record
from vferry.verbs.context import Context, VfRef, utc
from vferry.verbs.converge import Converged
from vferry.verbs.pending import open_record, same_transaction, sweep, way_out
from vferry.verbs.places import Place, survey
from vferry.verbs.probe import probe_vf
from vferry.verbs.transaction import Applied, Change, Transaction
from vferry.verbs.undo import undo

__all__ = [
    "NothingToUndoError",
    "RestoreReport",
    "RestoredVf",
    "VerifyFailedError",
    "VerifyReport",
    "plan_restore",
    "restore",
    "undo_restore",
    "verify",
]


class RestoredVf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one saved VF."""

    saved: str
    vf: str
    admin: AdminState
    """Read back."""
    changed: bool
    not_shown: tuple[Difference, ...] = ()
    """Accepted by the driver, which does not report it: it cannot be verified."""
    pci: str = ""
    """What was done about the VF's PCI words."""


class RestoreReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a restore did."""

    vfs: tuple[RestoredVf, ...]
    findings: tuple[Finding, ...]
    losses: tuple[Finding, ...]
    """What the destination does not hold, accepted by the operator."""
    learned: tuple[CapabilityTable, ...] = ()
    """Capability tables learned on the way, to be kept."""


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How VFs compare with a record."""

    vfs: tuple[RestoredVf, ...]
    differences: tuple[str, ...] = ()
    losses: tuple[Finding, ...] = ()


class VerifyFailedError(FailedError):
    """A VF is not what the record says.

    :param report: everything that was compared.
    """

    def __init__(self, report: VerifyReport, *, host: str) -> None:
        super().__init__(
            "verify the VFs against the record",
            host=host,
            why="; ".join(report.differences),
            next_step="'vferry restore' with the same arguments sets what differs",
        )
        self.report = report

    def to_dict(self) -> dict[str, object]:
        """Return the error as JSON-ready data, with all that was compared."""
        return {**super().to_dict(), **msgspec.to_builtins(self.report)}


class NothingToUndoError(RefusedError):
    """No interrupted restore is on record for these VFs."""


def plan_restore(
    context: Context, record: Record, pairs: Sequence[Pair], terms: Terms
) -> tuple[Preflight, list[Change]]:
    """Check, and return what a restore would set; nothing is changed, nothing is probed.

    :raise CheckRefusedError: the destination cannot hold the record.
    """
    preflight = check_record(context, record, pairs, terms)
    if preflight.refused:
        raise CheckRefusedError(preflight, host=context.nic.host().hostname)
    places = survey(context, [ref for _, ref in pairs])
    changes = [
        Change(
            vf=place.ref,
            wanted=wanted,
            function=function,
            pci=saved.pci if _may_write_pci(place, saved.pci) else None,
        )
        for (saved, _), place, wanted, function in zip(
            pairs, places, preflight.wanted, preflight.wanted_function, strict=True
        )
    ]
    return preflight, changes


def restore(context: Context, record: Record, pairs: Sequence[Pair], terms: Terms) -> RestoreReport:
    """Check, learn what is unknown on the still free targets, program, read back; undo everything on any failure.

    :raise CheckRefusedError: the destination cannot hold the record; nothing was changed.
    :raise PendingChangeError: a VF is in the hands of another verb; nothing was changed.
    :raise FailedError: it failed, and every VF is as it was before.
    :raise PersonNeededError: it failed and could not be undone.
    """
    _take_back_probes(context, sweep(context), survey(context, [ref for _, ref in pairs]))
    learned = _learn(context, pairs, terms)
    terms = msgspec.structs.replace(terms, tables=(*learned, *terms.tables))
    preflight, changes = plan_restore(context, record, pairs, terms)
    applied = Transaction(
        context,
        UndoKind.RESTORE,
        changes,
        name=f"restore {utc(context.clock)}",
        details={"vm": record.vm or "", "saved_at": record.saved_at, "source": record.host.hostname},
    ).run()
    return RestoreReport(
        vfs=tuple(
            _restored(context, pair, done, change) for pair, done, change in zip(pairs, applied, changes, strict=True)
        ),
        findings=preflight.findings,
        losses=preflight.losses,
        learned=learned,
    )


def undo_restore(context: Context, refs: Sequence[VfRef]) -> dict[VfRef, Converged]:
    """Take an interrupted restore back: all VFs of it, also those not named.

    A VF that the restore had not come to yet is as before, and needs no undo.

    :raise NothingToUndoError: no restore of any of these VFs is on record, or another verb has one in its hands.
    :raise PersonNeededError: it could not be undone; the records are kept.
    """
    open_records = sweep(context)
    places = survey(context, refs)
    on_record = {record.key: record for record in open_records}
    named = [on_record[place.key] for place in places if place.key in on_record]
    other = next((record for record in named if record.kind not in (UndoKind.RESTORE, UndoKind.PROBE)), None)
    if other is not None or not named:
        raise _nothing_to_undo(places[0], other)
    undone = [record for record in open_records if any(same_transaction(record, one) for one in named)]
    refs_now = [VfRef(record.identity.pf, record.key.index) for record in undone]
    return dict(zip(refs_now, undo(context, undone), strict=True))


def _nothing_to_undo(place: Place, other: UndoRecord | None) -> NothingToUndoError:
    pf, vf = place.ref if other is None else (other.identity.pf, other.key.index)
    return NothingToUndoError(
        "take a restore back",
        host=place.host.hostname,
        pf=pf,
        vf=vf,
        why="no interrupted restore is on record for this VF"
        + ("" if other is None else f": '{other.kind.value}' of {other.started} is"),
        next_step=f"'vferry show {pf}/{vf}' says what is; "
        + (f"'vferry release {pf}/{vf}' brings it back to defaults" if other is None else way_out(other)),
    )


def _take_back_probes(context: Context, open_records: Sequence[UndoRecord], places: Sequence[Place]) -> None:
    """Undo probes of the targets that an interrupted restore has left: they were part of it."""
    keys = {place.key for place in places}
    for record in open_records:
        if record.kind is UndoKind.PROBE and record.key in keys:
            undo(context, [record])


def verify(context: Context, record: Record, pairs: Sequence[Pair], terms: Terms) -> VerifyReport:
    """Compare VFs with a record; changes nothing.

    :raise VerifyFailedError: something differs.
    :raise NicError: a PF cannot be read.
    """
    places = survey(context, [ref for _, ref in pairs])
    preflight = check_record(context, record, pairs, terms)
    found: list[str] = []
    vfs: list[RestoredVf] = []
    for (saved, _), place, wanted, function in zip(
        pairs, places, preflight.wanted, preflight.wanted_function, strict=True
    ):
        compared = differences(wanted, place.reading.admin)
        found += [_in_words(place, d) for d in compared if d.kind is DifferenceKind.DIFFERS]
        found += _function_differences(context, place, function)
        vfs.append(
            RestoredVf(
                saved=saved.name,
                vf=str(place.ref),
                admin=place.reading.admin,
                changed=False,
                not_shown=tuple(d for d in compared if d.kind is DifferenceKind.NOT_SHOWN),
                pci=_pci_in_words(saved.pci, context.nic.read_pci(*place.ref), written=False),
            )
        )
    report = VerifyReport(vfs=tuple(vfs), differences=tuple(found), losses=preflight.losses)
    if found:
        raise VerifyFailedError(report, host=places[0].host.hostname)
    return report


def _learn(context: Context, pairs: Sequence[Pair], terms: Terms) -> tuple[CapabilityTable, ...]:
    """Probe the targets of PFs that no table knows, as long as they are free."""
    learned: list[CapabilityTable] = []
    for place in survey(context, [ref for _, ref in pairs]):
        key = capability_key(place.host, place.pf)
        known = find_table(key, (*learned, *terms.tables))
        interrupted = open_record(context, place.key) is not None
        if known is not None or key is None or place.facts.user is not None or interrupted:
            continue
        if place.pf_reading.has_settings:
            learned.append(probe_vf(context, place))
    return tuple(learned)


def _may_write_pci(place: Place, saved: PciState | None) -> bool:
    """PCI words belong to the driver that is bound; of an unbound VF they are ours to write."""
    return saved is not None and place.facts.address is not None and place.facts.driver is None


def _restored(context: Context, pair: Pair, done: Applied, change: Change) -> RestoredVf:
    saved, ref = pair
    try:
        pci = _pci_in_words(saved.pci, context.nic.read_pci(*ref), written=change.pci is not None)
    except NicError as error:  # the restore is complete all the same
        pci = f"cannot be read: {error.why or error.what}"
    return RestoredVf(
        saved=saved.name,
        vf=str(ref),
        admin=done.shown,
        changed=done.changed,
        not_shown=done.not_shown,
        pci=pci,
    )


def _pci_in_words(saved: PciState | None, shown: PciState | None, *, written: bool) -> str:
    if saved is None or shown is None:
        return ""
    if saved == shown:
        return "written and read back" if written else "as saved"
    words = f"COMMAND {shown.command:#06x} (saved {saved.command:#06x})"
    if saved.msix_control is not None and shown.msix_control is not None:
        words += f", MSI-X control {shown.msix_control:#06x} (saved {saved.msix_control:#06x})"
    return f"written, reads {words}" if written else f"left to the VF's driver: {words}"


def _in_words(place: Place, difference: Difference) -> str:
    return f"{place.ref} {difference.attribute.value} is {difference.shown}, the record says {difference.wanted}"


def _function_differences(context: Context, place: Place, wanted: FunctionState | None) -> list[str]:
    if wanted is None:
        return []
    shown = context.nic.read_function(*place.ref) or FunctionState()
    pairs = {name: (getattr(wanted, name), getattr(shown, name)) for name in wanted.__struct_fields__}
    return [
        f"{place.ref} function {name} is {is_now}, the record says {want}"
        for name, (want, is_now) in pairs.items()
        if want is not None and want != is_now
    ]
