# SPDX-License-Identifier: Apache-2.0
"""``vferry fence``."""

from __future__ import annotations

import shlex
import sys

from vferry.cli import DONE
from vferry.cli.names import resolve_all
from vferry.cli.progress import progress
from vferry.cli.records import columns
from vferry.cli.session import Session
from vferry.cli.text import admin_text
from vferry.core.errors import UsageError
from vferry.core.fence import FencePlan, Grade, Mode
from vferry.core.model import AdminState
from vferry.verbs.fence import FencedVf, FenceRequest, fence, plan
from vferry.verbs.observe import Observer
from vferry.verbs.places import survey

__all__ = ["run"]


def run(session: Session) -> int:
    """Fence VFs, or print the plan."""
    arguments = session.arguments
    if not 1 <= arguments.parking_vlan <= 4094:
        raise UsageError("fence VFs", why="--parking-vlan takes 1 to 4094")
    refs = resolve_all(session.context.nic, arguments.vfs)
    request = FenceRequest(
        mode=Mode(arguments.mode),
        required=columns(arguments.require),
        parking_vid=arguments.parking_vlan,
        tables=session.tables(),
        guest_stopped=arguments.guest_stopped,
    )
    if arguments.dry_run:
        plans = plan(session.context, refs, request)
        places = survey(session.context, refs)
        result = [
            {"vf": str(ref), "plan": _plan_data(one), "undo": place.reading.admin}
            for ref, one, place in zip(refs, plans, places, strict=True)
        ]
        lines = [
            line
            for ref, one, place in zip(refs, plans, places, strict=True)
            for line in (f"{ref}: would fence:", *_plan_lines(one, place.reading.admin))
        ]
        session.print({"dry_run": True, "vfs": result}, *lines)
        return DONE
    with progress(f"fencing {', '.join(map(str, refs))}"):
        fenced = fence(session.context, refs, request, _observer(session))
    for one in fenced:
        if session.arguments.witness is not None and Grade.OBSERVED not in one.evidence.claims.values():
            print(f"vferry: {one.pf}/{one.vf} is fenced, not observed: {one.evidence.observation}", file=sys.stderr)
    session.print({"vfs": [_data(one) for one in fenced]}, *(line for one in fenced for line in _lines(one)))
    return DONE


def _observer(session: Session) -> Observer:
    from vferry.witness import FrameProber, RemoteWitness  # noqa: PLC0415 -- sockets and processes, only when fencing

    name = session.arguments.witness
    if name is None:
        return Observer(FrameProber())
    host, _, interface = name.partition("%")
    if not host or host.startswith("-"):
        raise UsageError("ask a witness", why=f"{name!r} names no host")
    command = shlex.split(session.arguments.witness_command)
    if not command:
        raise UsageError("ask a witness", why="--witness-command is empty")
    return Observer(FrameProber(), RemoteWitness(command, host, interface or None), witness_name=host)


def _plan_data(one: FencePlan) -> dict[str, object]:
    return {
        "levers": [lever.value for lever in one.levers],
        "set": one.change,
        "covered": {column.value: [lever.value for lever in levers] for column, levers in one.covered.items()},
        "uncovered": {column.value: why for column, why in one.uncovered.items()},
        "undo_cost": one.undo_cost.name.lower(),
        "loses": one.loses,
        "sources": one.sources,
    }


def _data(one: FencedVf) -> dict[str, object]:
    evidence = one.evidence
    return {
        "vf": f"{one.pf}/{one.vf}",
        "plan": _plan_data(one.plan),
        "evidence": {
            "claims": {column.value: grade.name.lower().replace("_", "-") for column, grade in evidence.claims.items()},
            "uncovered": {column.value: why for column, why in evidence.uncovered.items()},
            "shown": evidence.shown,
            "observation": evidence.observation,
        },
        "before": one.before,
        "already": one.already,
    }


def _plan_lines(one: FencePlan, before: AdminState) -> list[str]:
    return [
        f"  levers: {', '.join(lever.value for lever in one.levers)} (undo costs: {_cost(one)})",
        f"  sets: {admin_text(one.change)}",
        *(f"  covers {column.value} by {', '.join(x.value for x in by)}" for column, by in one.covered.items()),
        *(f"  does NOT cover {column.value}: {why}" for column, why in one.uncovered.items()),
        *(f"  the undo does not bring back: {loss}" for loss in one.loses),
        f"  undo: {admin_text(before)}",
    ]


def _cost(one: FencePlan) -> str:
    return one.undo_cost.name.lower().replace("_", " ")


def _lines(one: FencedVf) -> list[str]:
    name = f"{one.pf}/{one.vf}"
    evidence = one.evidence
    claims = ", ".join(f"{c.value} ({g.name.lower().replace('_', ' ')})" for c, g in evidence.claims.items())
    return [
        f"{name}: {'is still fenced' if one.already else 'fenced'}; covered: {claims}",
        *(f"  NOT covered: {column.value}: {why}" for column, why in evidence.uncovered.items()),
        f"  evidence: {evidence.observation}; the PF shows {admin_text(evidence.shown)}",
        *(f"  the undo does not bring back: {loss}" for loss in one.plan.loses),
        f"  undo: vferry unfence {name}",
    ]
