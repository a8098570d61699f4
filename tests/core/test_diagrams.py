# SPDX-License-Identifier: Apache-2.0
"""The drawn tables, and the page that has them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vferry.core.migration.diagrams import blocks, recovery_table, renewed, state_diagram, transition_table
from vferry.core.migration.phases import Event, Role
from vferry.core.migration.recovery import ROWS
from vferry.core.migration.tables import TABLES, Order

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"
EVERY = [pytest.param(order, role, id=f"{order.name.lower()}-{role.value}") for order, role in TABLES]
AFTER_CRASH = {Event.RESTARTED, Event.VM_GONE, Event.VM_RUNS}


def test_the_page_has_what_the_tables_say() -> None:
    page = PAGE.read_text()
    assert renewed(page) == page, "run: python -m vferry.core.migration.diagrams < docs/migration.md"


def test_the_page_has_every_block_once() -> None:
    names = re.findall(r"<!-- generated: (.+?) -->", PAGE.read_text())
    assert sorted(names) == sorted(blocks())
    assert PAGE.read_text().count("<!-- end -->") == len(names)


@pytest.mark.parametrize(("order", "role"), EVERY)
def test_a_diagram_has_every_arrow_and_no_other(order: Order, role: Role) -> None:
    drawn = {
        (start, event, end)
        for start, end, events in re.findall(r"^    (\w+) --> (\w+): (.+)$", state_diagram(order, role), re.MULTILINE)
        for event in events.split(" / ")
    }
    expected = {
        (phase.name, event.value, after.name)
        for phase, step in TABLES[order, role].items()
        for event, after in step.on.items()
        if event not in AFTER_CRASH and after is not phase
    }
    assert drawn == expected


@pytest.mark.parametrize(("order", "role"), EVERY)
def test_a_restart_table_has_every_phase(order: Order, role: Role) -> None:
    lines = transition_table(order, role).splitlines()
    assert len(lines) == 2 + len(TABLES[order, role])
    assert {line.count("|") for line in lines} == {6}


def test_the_recovery_table_has_every_row_in_its_order() -> None:
    lines = recovery_table().splitlines()
    assert len(lines) == 2 + len(ROWS)
    assert {line.count("|") for line in lines} == {11}
    assert [line.split(" | ")[-1].removesuffix(" |") for line in lines[2:]] == [row.why for row in ROWS]


def test_a_changed_block_is_renewed_and_the_rest_is_left() -> None:
    page = "before\n<!-- generated: recovery -->\nold\n<!-- end -->\nafter\n"
    assert renewed(page) == f"before\n<!-- generated: recovery -->\n{recovery_table()}\n<!-- end -->\nafter\n"


def test_an_unknown_block_is_an_error() -> None:
    with pytest.raises(KeyError):
        renewed("<!-- generated: nothing -->\n<!-- end -->\n")
