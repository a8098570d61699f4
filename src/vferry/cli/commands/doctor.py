# SPDX-License-Identifier: Apache-2.0
"""``vferry doctor``."""

from __future__ import annotations

from vferry.cli import DONE, REFUSED
from vferry.cli.session import Session
from vferry.cli.text import finding_lines
from vferry.core.findings import has_errors
from vferry.verbs.doctor import examine

__all__ = ["run"]


def run(session: Session) -> int:
    """Print the hazards of this host."""
    findings = examine(session.context, session.tables())
    session.print({"findings": findings}, *(finding_lines(findings) or ["no hazard found"]))
    return REFUSED if has_errors(findings) else DONE
