# SPDX-License-Identifier: Apache-2.0
"""``vferry release``."""

from __future__ import annotations

from vferry.cli import DONE, PERSON_NEEDED
from vferry.cli.names import record_of_missing_vf, resolve_all
from vferry.cli.progress import progress
from vferry.cli.session import Session
from vferry.cli.text import admin_text, not_shown_lines
from vferry.core.undo import UndoRecord
from vferry.verbs.context import VfRef
from vferry.verbs.places import survey
from vferry.verbs.release import ReleasedVf, drop_record, plan_release, release

__all__ = ["run"]


def run(session: Session) -> int:
    """Bring VFs back to defaults."""
    missing = {text: record_of_missing_vf(session.context, text) for text in session.arguments.vfs}
    stale = [record for record in missing.values() if record is not None]
    refs = resolve_all(session.context.nic, [text for text, record in missing.items() if record is None])
    if session.arguments.dry_run:
        return _plan(session, refs, stale)
    for record in stale:
        drop_record(session.context, record)
    with progress(f"releasing {', '.join(map(str, refs))}"):
        released = release(session.context, refs, session.tables())
    dropped = [f"{record.identity.pf}/{record.key.index}" for record in stale]
    lines = [f"{name}: there is no such VF any more; its undo record is dropped" for name in dropped]
    session.print(
        {"vfs": released, **({"dropped": dropped} if dropped else {})},
        *lines,
        *(line for one in released for line in _lines(one)),
    )
    return PERSON_NEEDED if any(one.kept for one in released) else DONE


def _plan(session: Session, refs: list[VfRef], stale: list[UndoRecord]) -> int:
    changes = plan_release(session.context, refs, session.tables())
    places = survey(session.context, refs)
    rows: list[dict[str, object]] = []
    lines: list[str] = []
    for change, place in zip(changes, places, strict=True):
        rows.append({"vf": str(change.vf), "set": change.wanted, "user": place.facts.user})
        lines.append(f"{change.vf}: would set {admin_text(change.wanted)}; no undo")
        lines += [f"  in use: {place.facts.user}"] if place.facts.user else []
    dropped = [f"{record.identity.pf}/{record.key.index}" for record in stale]
    lines += [f"{name}: there is no such VF any more; would drop its undo record" for name in dropped]
    session.print({"dry_run": True, "vfs": rows, **({"dropped": dropped} if dropped else {})}, *lines)
    return DONE


def _lines(one: ReleasedVf) -> list[str]:
    name = f"{one.pf}/{one.vf}"
    lines = [f"{name}: {'NOT all of it ' if one.kept else ''}released: {admin_text(one.shown)}"]
    lines += [f"  NOT brought back to its default: {what}" for what in one.kept]
    lines += [f"  next: 'vferry release {name}' again, once that has passed"] if one.again else []
    lines += not_shown_lines(name, one.not_shown)
    if one.user is not None:
        lines.append(f"  still in use: {one.user}")
    return lines
