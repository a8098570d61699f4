# SPDX-License-Identifier: Apache-2.0
"""``vferry check``."""

from __future__ import annotations

from vferry.cli import DONE, REFUSED
from vferry.cli.names import pair_up
from vferry.cli.records import read_record, terms
from vferry.cli.session import Session
from vferry.cli.text import admin_text, finding_lines
from vferry.verbs.check import check_record

__all__ = ["run"]


def run(session: Session) -> int:
    """Print the findings of a check."""
    arguments = session.arguments
    record = read_record(arguments.file)
    pairs = pair_up(session.context.nic, record, arguments.vfs)
    preflight = check_record(session.context, record, pairs, terms(session))
    result = {
        "refused": preflight.refused,
        "findings": preflight.findings,
        "losses": preflight.losses,
        "wanted": [
            {"saved": saved.name, "vf": str(ref), "admin": wanted}
            for (saved, ref), wanted in zip(pairs, preflight.wanted, strict=True)
        ],
    }
    lines = finding_lines(preflight.findings)
    if preflight.refused:
        lines.append("refused: nothing was changed")
    else:
        lines += [
            f"{saved.name} may live on {ref}: {admin_text(wanted)}"
            for (saved, ref), wanted in zip(pairs, preflight.wanted, strict=True)
        ]
    session.print(result, *lines)
    return REFUSED if preflight.refused else DONE
