# SPDX-License-Identifier: Apache-2.0
"""Draws the tables for the documentation: each machine as a Mermaid diagram, the recovery as a table.

``python -m vferry.core.migration.diagrams < docs/migration.md`` prints the page with its generated blocks renewed; each
stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import enum
import re
import sys
from collections.abc import Iterable

from vferry.core.migration.phases import Event, Phase, Role
from vferry.core.migration.recovery import ROWS, Row
from vferry.core.migration.tables import FINAL_PHASES, TABLES, Order, Table, first_phase

__all__ = ["blocks", "recovery_table", "renewed", "state_diagram", "transition_table"]

_BLOCK = re.compile(r"(<!-- generated: (?P<name>[^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
_AFTER_CRASH = (Event.RESTARTED, Event.VM_GONE, Event.VM_RUNS)


def state_diagram(order: Order, role: Role) -> str:
    """Return a machine as Mermaid ``stateDiagram-v2``, without what follows a crash: the table says that."""
    table = TABLES[order, role]
    lines = ["stateDiagram-v2", f"    [*] --> {_identifier(first_phase(role))}"]
    for phase, step in table.items():
        lines.append(f"    {_identifier(phase)}: {phase.value}<br/>{step.act.value}")
    lines += [f"    {_identifier(phase)}: {phase.value}" for phase in _ends(table)]
    for phase in table:
        lines += [
            f"    {_identifier(phase)} --> {_identifier(after)}: {' / '.join(event.value for event in events)}"
            for after, events in _grouped(table, phase).items()
        ]
    lines += [f"    {_identifier(phase)} --> [*]" for phase in _ends(table)]
    return "\n".join(lines)


def _grouped(table: Table, phase: Phase) -> dict[Phase, list[Event]]:
    grouped: dict[Phase, list[Event]] = {}
    for event, after in table[phase].on.items():
        if event not in _AFTER_CRASH and after is not phase:
            grouped.setdefault(after, []).append(event)
    return grouped


def _ends(table: Table) -> list[Phase]:
    """Return the final phases of a table, in the order of their first mention."""
    return list(dict.fromkeys(after for step in table.values() for after in step.on.values() if after in FINAL_PHASES))


def _identifier(phase: Phase) -> str:
    return phase.name


def transition_table(order: Order, role: Role) -> str:
    """Return what each phase does, and where each event of a restart leads, as a Markdown table."""
    lines = [
        "| phase | act | restarted | VM gone | VM runs |",
        "| --- | --- | --- | --- | --- |",
    ]
    for phase, step in TABLES[order, role].items():
        after = (step.on.get(event) for event in _AFTER_CRASH)
        cells = [target.value if target else "alarm" for target in after]
        lines.append(f"| {' | '.join((phase.value, step.act.value, *cells))} |")
    return "\n".join(lines)


def recovery_table() -> str:
    """Return the rows of the recovery as a Markdown table; an empty cell fits everything."""
    columns = ("side", "order", "journal", "registry", "device", "VM here", "VM there")
    lines = [
        f"| # | {' | '.join(columns)} | then | because |",
        f"|{' --- |' * (len(columns) + 3)}",
    ]
    lines += [f"| {number} | {' | '.join(_cells(row))} |" for number, row in enumerate(ROWS, 1)]
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    goes_on = row.event.value if row.event else "nothing is left to do"
    then = "**alarm**" if row.alarm else goes_on
    named = (row.roles, row.orders, row.phases, row.registry, row.device, row.here, row.there)
    return (*(_any_of(allowed) for allowed in named), then, row.why)


def _any_of(allowed: Iterable[enum.Enum] | None) -> str:
    """Return the values that a cell allows, in the order of their definition."""
    if allowed is None:
        return ""
    ordered = sorted(allowed, key=lambda value: (type(value).__name__ != "SourcePhase", _place(value)))
    return ", ".join(dict.fromkeys(str(value.value) for value in ordered))


def _place(value: enum.Enum) -> int:
    return tuple(type(value).__members__).index(value.name)


def blocks() -> dict[str, str]:
    """Return every generated block, by its name."""
    found = {"recovery": recovery_table()}
    for order, role in TABLES:
        name = f"{order.name.lower().replace('_', '-')} {role.value}"
        found[f"{name} diagram"] = f"```mermaid\n{state_diagram(order, role)}\n```"
        found[f"{name} restart"] = transition_table(order, role)
    return found


def renewed(page: str) -> str:
    """Return a page with its generated blocks renewed; the rest is left as it is.

    :raise KeyError: the page names a block that there is not.
    """
    found = blocks()
    return _BLOCK.sub(lambda match: f"{match[1]}{found[match['name']]}\n{match[3]}", page)


if __name__ == "__main__":
    sys.stdout.write(renewed(sys.stdin.read()))
