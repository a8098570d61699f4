# SPDX-License-Identifier: Apache-2.0
"""``vferry verify``."""

from __future__ import annotations

from vferry.cli import DONE
from vferry.cli.names import pair_up
from vferry.cli.records import read_record, terms
from vferry.cli.session import Session
from vferry.cli.text import admin_text, finding_lines, not_shown_lines
from vferry.verbs.verify import verify

__all__ = ["run"]


def run(session: Session) -> int:
    """Compare VFs with a record."""
    record = read_record(session.arguments.file)
    pairs = pair_up(session.context.nic, record, session.arguments.vfs)
    report = verify(session.context, record, pairs, terms(session))
    lines = finding_lines(report.losses)
    for vf in report.vfs:
        lines.append(f"{vf.saved} on {vf.vf}: as saved: {admin_text(vf.admin)}")
        lines += not_shown_lines(vf.vf, vf.not_shown, sent=False)
        if vf.pci:
            lines.append(f"  PCI words {vf.pci}")
    session.print(report, *lines)
    return DONE
