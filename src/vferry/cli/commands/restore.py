# SPDX-License-Identifier: Apache-2.0
"""``vferry restore``."""

from __future__ import annotations

import sys

from vferry.cli import DONE
from vferry.cli.names import pair_up, resolve_all
from vferry.cli.progress import progress
from vferry.cli.records import read_record, terms
from vferry.cli.session import Session
from vferry.cli.text import admin_text, finding_lines, not_shown_lines, worth_saying
from vferry.core.compare import change_needed
from vferry.core.errors import UsageError
from vferry.core.model import AdminState
from vferry.verbs.check import CheckRefusedError
from vferry.verbs.places import survey
from vferry.verbs.restore import plan_restore, restore, undo_restore

__all__ = ["run"]


def run(session: Session) -> int:
    """Restore a record, plan it, or take an interrupted restore back."""
    if session.arguments.undo:
        return _undo(session)
    try:
        return _plan(session) if session.arguments.dry_run else _restore(session)
    except CheckRefusedError as refusal:
        if not session.json:
            print(*finding_lines(refusal.findings), sep="\n", file=sys.stderr)
        raise


def _restore(session: Session) -> int:
    arguments = session.arguments
    record = read_record(arguments.file)
    pairs = pair_up(session.context.nic, record, arguments.vfs)
    with progress(f"restoring {', '.join(str(ref) for _, ref in pairs)}"):
        report = restore(session.context, record, pairs, terms(session))
    session.keep_if_possible(report.learned)
    lines = finding_lines(worth_saying(report.findings))
    for vf in report.vfs:
        what = "restored and read back" if vf.changed else "was already as saved"
        lines.append(f"{vf.saved} on {vf.vf}: {what}: {admin_text(vf.admin)}")
        lines += not_shown_lines(vf.vf, vf.not_shown)
        if vf.pci:
            lines.append(f"  PCI words {vf.pci}")
    session.print(report, *lines)
    return DONE


def _plan(session: Session) -> int:
    arguments = session.arguments
    record = read_record(arguments.file)
    pairs = pair_up(session.context.nic, record, arguments.vfs)
    preflight, changes = plan_restore(session.context, record, pairs, terms(session))
    places = survey(session.context, [change.vf for change in changes])
    steps = [
        {
            "saved": saved.name,
            "vf": str(change.vf),
            "set": change_needed(change.wanted, place.reading.admin),
            "function": change.function,
            "pci": change.pci,
            "undo": place.reading.admin,
        }
        for (saved, _), change, place in zip(pairs, changes, places, strict=True)
    ]
    lines = finding_lines(preflight.findings)
    for (saved, _), change, place in zip(pairs, changes, places, strict=True):
        needed = change_needed(change.wanted, place.reading.admin)
        lines.append(f"{saved.name} on {change.vf}: would set {admin_text(needed)}")
        lines.append(f"  undo: {admin_text(_undo_of(needed, place.reading.admin))}")
    session.print({"dry_run": True, "findings": preflight.findings, "plan": steps}, *lines)
    return DONE


def _undo_of(change: AdminState, before: AdminState) -> AdminState:
    fields = [name for name in change.__struct_fields__ if getattr(change, name) is not None]
    return AdminState(**{name: getattr(before, name) for name in fields})


def _undo(session: Session) -> int:
    arguments = session.arguments
    if arguments.dry_run:
        raise UsageError("take a restore back", why="--undo and --dry-run exclude each other")
    # With --undo every positional argument is a VF.
    refs = resolve_all(session.context.nic, [arguments.file, *arguments.vfs])
    with progress("taking the restore back"):
        undone = undo_restore(session.context, refs)
    lines = [f"{ref}: as before: {admin_text(result.shown or AdminState())}" for ref, result in undone.items()]
    session.print({"vfs": [{"vf": str(ref), "shown": result.shown} for ref, result in undone.items()]}, *lines)
    return DONE
