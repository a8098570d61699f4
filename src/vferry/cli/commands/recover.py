# SPDX-License-Identifier: Apache-2.0
"""``vferry recover``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from vferry.cli import DONE, PERSON_NEEDED
from vferry.cli.session import Session
from vferry.core.errors import UsageError
from vferry.core.migration.diagrams import recovery_table
from vferry.core.migration.recovery import (
    ROWS,
    RegistrySays,
    Row,
    Verdict,
    VmSays,
    Witnesses,
    judge,
    registry_says,
)
from vferry.migration.entries import is_blocked, is_over, phase_of
from vferry.migration.witnesses import device_says
from vferry.ports.migrations import MigrationEntry
from vferry.ports.registry import RegistryError
from vferry.registry.sqlite import SqliteRegistry
from vferry.state.migrations import SqliteMigrationJournal

__all__ = ["run"]


def run(session: Session) -> int:
    """Print the truth table, or judge every migration that is not over on this host; changes nothing."""
    if session.arguments.table:
        session.print({"rows": [_row(row) for row in ROWS]}, *recovery_table().splitlines())
        return DONE
    here, there = _said(session.arguments.here, "--here"), _said(session.arguments.there, "--there")
    found = [
        (entry, seen, judge(seen))
        for entry in _open_entries(session)
        for seen in [_witnesses(session, entry, here, there)]
    ]
    session.print(
        {"migrations": [_data(*one) for one in found]},
        *(line for one in found for line in _lines(*one)),
        *(() if found else ("no migration is under way on this host",)),
    )
    return PERSON_NEEDED if any(verdict.alarm for _, _, verdict in found) else DONE


def _open_entries(session: Session) -> list[MigrationEntry]:
    path = session.arguments.journal or os.path.join(session.arguments.state_dir, "migrations.sqlite")
    if not os.path.exists(path):
        if session.arguments.journal:
            raise UsageError("read the migration journal", why=f"there is no {path}")
        return []
    journal = SqliteMigrationJournal(path)
    try:
        return [entry for entry in journal.entries() if is_blocked(entry) or not is_over(entry)]
    finally:
        journal.close()


def _witnesses(session: Session, entry: MigrationEntry, here: dict[str, VmSays], there: dict[str, VmSays]) -> Witnesses:
    return Witnesses(
        order=entry.order,
        role=entry.role,
        phase=phase_of(entry),
        device=device_says(session.context, entry),
        here=here.get(entry.vm, VmSays.UNKNOWN),
        there=there.get(entry.vm, VmSays.UNKNOWN),
        registry=_ask_registry(session, entry),  # last: what it says may follow from the others
    )


def _ask_registry(session: Session, entry: MigrationEntry) -> RegistrySays:
    path = session.arguments.registry or os.path.join(session.arguments.state_dir, "registry.sqlite")
    if not os.path.exists(path):
        return RegistrySays.UNREACHABLE
    registry = SqliteRegistry(path)
    try:
        found = asyncio.run(registry.read(entry.vm))
    except RegistryError:
        return RegistrySays.UNREACHABLE
    finally:
        registry.close()
    ownership = None if found is None else found.ownership
    return registry_says(ownership, entry.migration, entry.source, entry.destination)


def _said(words: Sequence[str], option: str) -> dict[str, VmSays]:
    states = {state.value: state for state in VmSays}
    found: dict[str, VmSays] = {}
    for word in words:
        vm, equals, state = word.rpartition("=")
        if not equals or not vm or state not in states:
            raise UsageError(
                f"read {option} {word}", why=f"it takes VM=STATE, and STATE is one of {', '.join(sorted(states))}"
            )
        found[vm] = states[state]
    return found


def _data(entry: MigrationEntry, seen: Witnesses, verdict: Verdict) -> dict[str, object]:
    return {
        "migration": entry.migration,
        "vm": entry.vm,
        "role": entry.role.value,
        "order": entry.order.value,
        "journal": entry.phase,
        "registry": seen.registry.value,
        "device": seen.device.value,
        "here": seen.here.value,
        "there": seen.there.value,
        "alarm": verdict.alarm,
        "event": None if verdict.event is None else verdict.event.value,
        "why": verdict.why,
    }


def _lines(entry: MigrationEntry, seen: Witnesses, verdict: Verdict) -> list[str]:
    what = "ALARM" if verdict.alarm else f"goes on with '{verdict.event.value if verdict.event else 'nothing'}'"
    return [
        f"{entry.migration}: VM {entry.vm}, {entry.role.value} of {entry.source} -> {entry.destination}: {what}",
        f"  {verdict.why}",
        f"  journal: {entry.phase}; registry: {seen.registry.value}; device: {seen.device.value}",
        f"  VM here: {seen.here.value}, there: {seen.there.value}",
        *([f"  last: {entry.why}"] if entry.why else []),
    ]


def _row(row: Row) -> dict[str, object]:
    columns = ("roles", "orders", "phases", "registry", "device", "here", "there")
    return {
        "why": row.why,
        "alarm": row.alarm,
        "event": None if row.event is None else row.event.value,
        **{
            name: sorted(str(value.value) for value in getattr(row, name))
            for name in columns
            if getattr(row, name) is not None
        },
    }
