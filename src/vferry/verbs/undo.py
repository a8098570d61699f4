# SPDX-License-Identifier: Apache-2.0
"""Bring VFs back to what their undo records say, and prove it by reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from vferry.core.compare import DifferenceKind, differences
from vferry.core.errors import PersonNeededError, VferryError
from vferry.core.model import AdminState, FunctionState
from vferry.core.undo import IdentityChangedError, UndoRecord, identity_changes
from vferry.ports.nic import NicError, NoSuchFunctionError
from vferry.verbs.context import Context, VfRef
from vferry.verbs.converge import Converged, ReloadedError, converge
from vferry.verbs.pending import first_words, forget, journal_must_not_fail, way_out
from vferry.verbs.places import Place, survey

__all__ = ["bring_back", "converge_all", "overlay_function", "set_function", "undo"]


def undo(context: Context, records: Sequence[UndoRecord], *, cause: Exception | None = None) -> list[Converged]:
    """Bring VFs back to what their undo records say, prove it by reading, and remove the records.

    :param cause: why a change is being taken back; named in the error if that fails.
    :raise IdentityChangedError: a VF is not the one that its record speaks of.
    :raise PersonNeededError: a VF is not as before; its record is kept.
    """
    converged = bring_back(context, records, cause)
    with journal_must_not_fail("the VFs are as they were before", records[0], cause):
        forget(context, records)
    return converged


def bring_back(context: Context, records: Sequence[UndoRecord], cause: Exception | None) -> list[Converged]:
    """Bring VFs back to what their undo records say, and prove it; the records stay. Raises as :func:`undo`."""
    try:
        return _bring_back(context, records, cause)
    except VferryError:
        raise
    except Exception as error:
        raise _undo_failed(records[0], error, cause) from error


def _bring_back(context: Context, records: Sequence[UndoRecord], cause: Exception | None) -> list[Converged]:
    places = _places_of(context, records, cause)
    for record, place in zip(records, places, strict=True):
        changes = identity_changes(record.identity, place.identity)
        if changes:
            raise IdentityChangedError(record, changes, host=place.host.hostname) from cause
    wanted = {place.ref: record.before for record, place in zip(records, places, strict=True)}
    converged = converge_all(context, wanted, {place.ref: place for place in places})
    for record, place in zip(records, places, strict=True):
        try:
            _undo_beside_settings(context, record, place)
        except NicError as error:
            raise _undo_failed(record, error, cause) from error
    for record, place in zip(records, places, strict=True):
        _check_undone(record, converged[place.ref], cause)
    return [converged[place.ref] for place in places]


def _places_of(context: Context, records: Sequence[UndoRecord], cause: Exception | None) -> list[Place]:
    """Find the VFs of undo records, whose PFs may have another name by now."""
    try:
        names = {pf.device: pf.name for pf in context.nic.pfs()}
        refs = [VfRef(names.get(record.key.device, record.identity.pf), record.key.index) for record in records]
        return survey(context, refs)
    except (NoSuchFunctionError, ReloadedError) as error:
        raise IdentityChangedError(records[0], (error.why or str(error),), host=error.host) from (cause or error)
    except NicError as error:
        raise _undo_failed(records[0], error, cause) from error


def _undo_beside_settings(context: Context, record: UndoRecord, place: Place) -> None:
    if record.before_function is not None:
        set_function(context, place.ref, record.before_function)
    if record.before_pci is None or place.facts.driver is not None:
        return  # PCI words belong to the driver that is bound
    if context.nic.read_pci(*place.ref) != record.before_pci:
        context.nic.write_pci(place.pf.name, place.facts.index, record.before_pci)
    shown = context.nic.read_pci(*place.ref)
    if shown != record.before_pci:
        raise NicError("write PCI words", pf=place.pf.name, vf=place.facts.index, why=f"they read {shown}")


def set_function(context: Context, ref: VfRef, wanted: FunctionState) -> None:
    """Set what differs of a VF's port function, and read it back.

    :raise NicError: it was refused, or does not read as wanted.
    """
    needed = _function_change(wanted, context.nic.read_function(*ref))
    if needed == FunctionState():
        return
    context.nic.program_function(ref.pf, ref.vf, needed)
    missing = _function_change(wanted, context.nic.read_function(*ref))
    if missing != FunctionState():
        names = [name for name in missing.__struct_fields__ if getattr(missing, name) is not None]
        why = f"the driver accepted it and shows something else: {', '.join(names)}"
        raise NicError("program the port function", pf=ref.pf, vf=ref.vf, why=why)


def _function_change(wanted: FunctionState, shown: FunctionState | None) -> FunctionState:
    fields = {name: getattr(wanted, name) for name in wanted.__struct_fields__}
    return FunctionState(
        **{name: value for name, value in fields.items() if value is not None and value != getattr(shown, name, None)}
    )


def overlay_function(base: FunctionState, change: FunctionState) -> FunctionState:
    """Return ``base`` as it is once ``change`` is applied."""
    fields = {name: getattr(change, name) for name in change.__struct_fields__}
    return msgspec.structs.replace(base, **{name: value for name, value in fields.items() if value is not None})


def _check_undone(record: UndoRecord, converged: Converged, cause: Exception | None) -> None:
    """Everything that was shown before must be shown again, with the same value."""
    if isinstance(converged.error, ReloadedError):
        raise IdentityChangedError(record, (converged.error.why,)) from (cause or converged.error)
    if converged.error is not None:
        raise _undo_failed(record, converged.error, cause) from converged.error
    shown = AdminState() if converged.shown is None else converged.shown
    lost = [d for d in differences(record.before, shown) if d.kind is not DifferenceKind.NOT_SHOWN]
    if lost:
        names = ", ".join(difference.attribute.value for difference in lost)
        error = NicError("undo", pf=record.identity.pf, vf=record.key.index, why=f"not as before: {names}")
        raise _undo_failed(record, error, cause)


def _undo_failed(record: UndoRecord, error: Exception, cause: Exception | None) -> PersonNeededError:
    why = error.why or error.what if isinstance(error, VferryError) else f"{type(error).__name__}: {error}"
    return PersonNeededError(
        "bring the VF back to what it was before",
        host=error.host if isinstance(error, VferryError) else None,
        pf=record.identity.pf,
        vf=record.key.index,
        why=f"{first_words(cause)}the undo failed: {why}; it is between the old state and the new",
        next_step=f"mend the cause, then {way_out(record)}; the old settings are kept in the undo record",
    )


def converge_all(
    context: Context, wanted: Mapping[VfRef, AdminState], places: Mapping[VfRef, Place]
) -> dict[VfRef, Converged]:
    """Bring the VFs of every PF to what is wanted; a PF that cannot be read does not keep the others from it."""
    by_pf: dict[str, dict[int, AdminState]] = {}
    for ref, state in wanted.items():
        by_pf.setdefault(ref.pf, {})[ref.vf] = state
    found: dict[VfRef, Converged] = {}
    for pf, states in by_pf.items():
        known = places[VfRef(pf, next(iter(states)))].pf_reading
        try:
            results = converge(context, pf, states, known=known)
        except NicError as error:
            results = dict.fromkeys(states, Converged(shown=None, sent=False, error=error))
        found |= {VfRef(pf, index): result for index, result in results.items()}
    return found
