# SPDX-License-Identifier: Apache-2.0
"""``vferry list``."""

from __future__ import annotations

from vferry.cli import DONE
from vferry.cli.names import find_pf
from vferry.cli.session import Session
from vferry.cli.text import pf_text, vf_text
from vferry.verbs.inventory import ListedPf, list_pfs

__all__ = ["run"]


def run(session: Session) -> int:
    """Print every PF and VF."""
    name = session.arguments.pf
    if name is not None:
        name = find_pf(session.context.nic, name).name
    listed = list_pfs(session.context, name)
    lines = [line for entry in listed for line in _lines(entry)]
    session.print({"pfs": listed}, *(lines or ["no device of this host can have VFs"]))
    return DONE


def _lines(entry: ListedPf) -> list[str]:
    admin = {reading.index: reading.admin for reading in entry.readings}
    lines = [pf_text(entry.pf)]
    if entry.problem:
        lines.append(f"  the VFs cannot be read: {entry.problem}")
    elif entry.pf.num_vfs and not entry.has_settings:
        lines.append("  (the driver offers no VF settings)")
    return lines + [vf_text(entry.pf, vf, admin.get(vf.index) if entry.has_settings else None) for vf in entry.vfs]
