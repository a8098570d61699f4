# SPDX-License-Identifier: Apache-2.0
"""``vferry probe``."""

from __future__ import annotations

from vferry.cli import DONE
from vferry.cli.names import find_pf, resolve
from vferry.cli.progress import progress
from vferry.cli.session import Session
from vferry.cli.text import admin_text
from vferry.core.capability import CapabilityTable, Feature, Learned
from vferry.verbs.probe import plan_probe, probe, trials

__all__ = ["run"]


def run(session: Session) -> int:
    """Learn what a PF's driver can do, or say what would be tried."""
    arguments = session.arguments
    pf = find_pf(session.context.nic, arguments.pf).name
    vf = None if arguments.vf is None else resolve(session.context.nic, f"{pf}/{arguments.vf}").vf
    if arguments.dry_run:
        return _plan(session, pf, vf)
    with progress(f"probing {pf}"):
        table = probe(session.context, pf, vf=vf)
    session.keep((table,))
    lines = [f"{feature.value:<20} {_verdict(learned)}" for feature, learned in table.features.items()]
    lines += [f"{name:<20} not tried: {_why_not_tried(session, pf)}" for name in _not_tried(table)]
    session.print(table, f"{pf}: {table.key.driver} on {table.key.kernel_release}", *lines)
    return DONE


def _not_tried(table: CapabilityTable) -> list[str]:
    return [feature.value for feature in Feature if feature not in table.features]


def _why_not_tried(session: Session, pf: str) -> str:
    facts = session.context.nic.pf(pf)
    if facts.admin_up is False or facts.carrier is False:
        return "the PF has no link"
    return "the VF's other settings do not allow it, or the driver was busy"


def _plan(session: Session, pf: str, vf: int | None) -> int:
    place = plan_probe(session.context, pf, vf=vf)
    names = [feature.value for feature in trials(place)]
    session.print(
        {"dry_run": True, "vf": str(place.ref), "try": names, "undo": place.reading.admin},
        f"would try on {place.ref}: {', '.join(names)}",
        f"undo: {admin_text(place.reading.admin)}",
    )
    return DONE


def _verdict(learned: Learned) -> str:
    errno = "" if learned.errno is None else f" (error {learned.errno})"
    return f"{learned.verdict.value}{errno}" + (f": {learned.shown}" if learned.shown else "")
