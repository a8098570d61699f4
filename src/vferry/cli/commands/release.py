# SPDX-License-Identifier: Apache-2.0
"""``vferry release``."""

from __future__ import annotations

from vferry.cli.names import resolve_all
from vferry.cli.progress import progress
from vferry.cli.session import DONE, PERSON_NEEDED, Session
from vferry.cli.text import admin_text, not_shown_lines
from vferry.verbs.release import ReleasedVf, plan_release, release

__all__ = ["run"]


def run(session: Session) -> int:
    """Bring VFs back to defaults."""
    refs = resolve_all(session.context.nic, session.arguments.vfs)
    if session.arguments.dry_run:
        changes = plan_release(session.context, refs, session.tables())
        rows = [{"vf": str(change.vf), "set": change.wanted} for change in changes]
        lines = [f"{change.vf}: would set {admin_text(change.wanted)}; no undo" for change in changes]
        session.print({"dry_run": True, "vfs": rows}, *lines)
        return DONE
    with progress(f"releasing {', '.join(map(str, refs))}"):
        released = release(session.context, refs, session.tables())
    session.print({"vfs": released}, *(line for one in released for line in _lines(one)))
    return PERSON_NEEDED if any(one.kept for one in released) else DONE


def _lines(one: ReleasedVf) -> list[str]:
    name = f"{one.pf}/{one.vf}"
    lines = [f"{name}: {'NOT all of it ' if one.kept else ''}released: {admin_text(one.shown)}"]
    lines += [f"  NOT brought back to its default: {what}" for what in one.kept]
    lines += [f"  next: 'vferry release {name}' again, once that has passed"] if one.again else []
    lines += not_shown_lines(name, one.not_shown)
    if one.user is not None:
        lines.append(f"  still in use: {one.user}")
    return lines
