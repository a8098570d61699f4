# SPDX-License-Identifier: Apache-2.0
"""``vferry unfence``."""

from __future__ import annotations

from vferry.cli import DONE
from vferry.cli.names import record_of_missing_vf, resolve_all
from vferry.cli.progress import progress
from vferry.cli.session import Session
from vferry.cli.text import admin_text
from vferry.core.undo import IdentityChangedError
from vferry.verbs.fence import UnfencedVf, plan_unfence, unfence

__all__ = ["run"]


def run(session: Session) -> int:
    """Bring fenced VFs back."""
    for text in session.arguments.vfs:
        record = record_of_missing_vf(session.context, text)
        if record is not None:
            raise IdentityChangedError(record, ("there is no such VF any more",))
    refs = resolve_all(session.context.nic, session.arguments.vfs)
    if session.arguments.dry_run:
        records = plan_unfence(session.context, refs)
        found = dict(zip(refs, records, strict=True))
        rows = [{"vf": str(ref), "set": None if one is None else one.before} for ref, one in found.items()]
        lines = [
            f"{ref}: is not fenced" if one is None else f"{ref}: would set {admin_text(one.before)}"
            for ref, one in found.items()
        ]
        session.print({"dry_run": True, "vfs": rows}, *lines)
        return DONE
    with progress(f"unfencing {', '.join(map(str, refs))}"):
        done = unfence(session.context, refs, anyway=session.arguments.anyway)
    session.print({"vfs": done}, *(_line(one) for one in done))
    return DONE


def _line(one: UnfencedVf) -> str:
    what = "as before" if one.was_fenced else "was not fenced"
    return f"{one.pf}/{one.vf}: {what}: {admin_text(one.shown)}"
