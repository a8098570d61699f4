# SPDX-License-Identifier: Apache-2.0
"""``restore``: make VFs what a record says, by operations, and read everything back."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vferry.core.capability import CapabilityTable, capability_key, find_table
from vferry.core.errors import RefusedError
from vferry.core.findings import Finding
from vferry.core.model import PciState
from vferry.core.preflight import Preflight
from vferry.core.record import Record
from vferry.core.undo import IdentityChangedError, UndoKind, UndoRecord, identity_changes
from vferry.ports.nic import NicError
from vferry.verbs.check import CheckRefusedError, Pair, Terms, check_places
from vferry.verbs.context import Context, VfRef, utc
from vferry.verbs.converge import Converged
from vferry.verbs.pending import PendingChangeError, open_record, refuse_part, same_transaction, sweep, way_out
from vferry.verbs.places import Place, survey
from vferry.verbs.probe import probe_vf
from vferry.verbs.transaction import Applied, Change, Transaction
from vferry.verbs.undo import undo
from vferry.verbs.verify import RestoredVf, pci_in_words

__all__ = [
    "NothingToUndoError",
    "RestoreReport",
    "plan_restore",
    "restore",
    "undo_restore",
]


class RestoreReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a restore did."""

    vfs: tuple[RestoredVf, ...]
    findings: tuple[Finding, ...]
    losses: tuple[Finding, ...]
    """What the destination does not hold, accepted by the operator."""
    learned: tuple[CapabilityTable, ...] = ()
    """Capability tables learned on the way, to be kept."""


class NothingToUndoError(RefusedError):
    """No interrupted restore is on record for these VFs."""


def plan_restore(
    context: Context, record: Record, pairs: Sequence[Pair], terms: Terms
) -> tuple[Preflight, list[Change]]:
    """Check, and return what a restore would set; nothing is changed, nothing is probed.

    :raise CheckRefusedError: the destination cannot hold the record.
    """
    places = survey(context, [ref for _, ref in pairs])
    preflight = check_places(record, pairs, places, terms)
    if preflight.refused:
        raise CheckRefusedError(preflight, host=context.nic.host().hostname)
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
    open_records = sweep(context)
    _refuse_pending(context, survey(context, [ref for _, ref in pairs]))
    plan_restore(context, record, pairs, terms)  # what is refused anyway is refused before anything is tried
    _take_back_probes(context, open_records, survey(context, [ref for _, ref in pairs]))
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


def _refuse_pending(context: Context, places: Sequence[Place]) -> None:
    for place in places:
        record = open_record(context, place.key)
        if record is None:
            continue
        changes = identity_changes(record.identity, place.identity)
        if changes:
            raise IdentityChangedError(record, changes, host=place.host.hostname)
        if record.kind not in (UndoKind.RESTORE, UndoKind.PROBE):
            raise PendingChangeError(record, host=place.host.hostname, wanted=UndoKind.RESTORE)
    keys = [place.key for place in places]
    refuse_part(context, UndoKind.RESTORE, keys, host=places[0].host.hostname)


def _take_back_probes(context: Context, open_records: Sequence[UndoRecord], places: Sequence[Place]) -> None:
    """Undo probes of the targets that an interrupted restore has left: they were part of it."""
    keys = {place.key for place in places}
    probes = [record for record in open_records if record.kind is UndoKind.PROBE and record.key in keys]
    if probes:
        undo(context, probes)


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
        pci = pci_in_words(saved.pci, context.nic.read_pci(*ref), written=change.pci is not None)
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
