# SPDX-License-Identifier: Apache-2.0
"""``vferry unfence``."""

from __future__ import annotations

from vferry.cli.names import resolve_all
from vferry.cli.progress import progress
from vferry.cli.session import DONE, Session
from vferry.cli.text import admin_text
from vferry.verbs.fence import plan_unfence, unfence

__all__ = ["run"]


def run(session: Session) -> int:
    """Bring fenced VFs back."""
    refs = resolve_all(session.context.nic, session.arguments.vfs)
    if session.arguments.dry_run:
        records = plan_unfence(session.context, refs)
        rows = [{"vf": str(ref), "set": one.before} for ref, one in zip(refs, records, strict=True)]
        lines = [f"{ref}: would set {admin_text(one.before)}" for ref, one in zip(refs, records, strict=True)]
        session.print({"dry_run": True, "vfs": rows}, *lines)
        return DONE
    with progress(f"unfencing {len(refs)} VFs"):
        done = unfence(session.context, refs)
    session.print({"vfs": done}, *(f"{one.pf}/{one.vf}: as before: {admin_text(one.shown)}" for one in done))
    return DONE
