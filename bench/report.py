# SPDX-License-Identifier: Apache-2.0
"""What people read: tables for the terminal and for ``docs/performance.md``, and all of it as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.aims import Aim
from bench.groups import Table
from bench.run import Measured
from bench.summary import Summary, duration, three_digits

BEGIN = "<!-- measured: begin (written by `make bench`) -->"
END = "<!-- measured: end -->"

_NAMES = {
    "date": "date",
    "machine": "machine",
    "host": "virtual host",
    "python": "CPython on the machine",
    "iproute2": "iproute2",
    "pyroute2": "pyroute2",
    "rounds": "rounds",
}


def rows(table: Table) -> list[list[str]]:
    """Return the cells of a table, its head first."""
    head = ["", "median", "p99", "samples"]
    if table.floor is not None:
        head.append(f"x {table.floor}")
    if table.cpu:
        head += ["processor", "x"]
    return [head, *(_row(table, name, summary) for name, summary in table.wall.items())]


def _row(table: Table, name: str, summary: Summary) -> list[str]:
    high = duration(summary.high) if summary.has_p99 else f"most {duration(summary.high)}"
    cells = [name, duration(summary.median), high, str(summary.samples)]
    if table.floor is not None:
        cells.append(three_digits(table.ratio(name)))
    if table.cpu:
        assert table.floor is not None
        cells += [duration(table.cpu[name].median), three_digits(table.cpu_ratio(name, table.floor))]
    return cells


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return lines whose columns stand under each other."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return [
        "  ".join(cell.ljust(width) if not column else cell.rjust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in cells)
    ]


def markdown(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in cells]
    rule = f"| --- |{' ---: |' * (len(cells[0]) - 1)}"
    return [lines[0], rule, *lines[1:]]


def terminal(measured: Measured, aims: Sequence[Aim]) -> str:
    """Return everything for the terminal."""
    lines: list[str] = []
    for table in measured.tables.values():
        lines += ["", table.title, *(f"  {line}" for line in aligned(rows(table)))]
    lines += ["", "Aims"]
    lines += [f"  {line}" for line in aligned([[aim.what, aim.aimed, aim.found, verdict(aim)] for aim in aims])]
    return "\n".join(lines)


def verdict(aim: Aim) -> str:
    """Return whether an aim was met."""
    return "met" if aim.met else "NOT met"


def section(measured: Measured, aims: Sequence[Aim]) -> str:
    """Return the measured section of the document."""
    lines = ["| | |", "| --- | --- |", *(f"| {_NAMES[key]} | {measured.facts[key]} |" for key in _NAMES), ""]
    cells = [["", "aim", "found", ""], *([aim.what, aim.aimed, aim.found, verdict(aim)] for aim in aims)]
    lines += ["### Aims", "", *markdown(cells)]
    for table in measured.tables.values():
        lines += ["", f"### {table.title}", "", *markdown(rows(table))]
    lines += ["", "### Imports, in the lab", "", *markdown(_imports(measured))]
    return "\n".join(lines)


def _imports(measured: Measured) -> list[list[str]]:
    cells = [["", "modules", "time of their own"]]
    for name, found in measured.imports.items():
        cells.append([name, str(found["modules"]), duration(found["microseconds"] * 1000)])
    return cells


def write_document(path: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Replace what is between the markers.

    :raise ValueError: the document has no markers.
    """
    document = path.read_text()
    if begin not in document or end not in document:
        raise ValueError(f"{path.name} has no markers around its measured section")
    before, rest = document.split(begin)
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}")


def as_json(measured: Measured, aims: Sequence[Aim]) -> dict[str, Any]:
    """Return everything, with all samples in nanoseconds."""
    return {
        "facts": measured.facts,
        "aims": [aim._asdict() for aim in aims],
        "tables": {
            key: {
                "title": table.title,
                "floor": table.floor,
                "wall": {name: summary._asdict() for name, summary in table.wall.items()},
                "cpu": {name: summary._asdict() for name, summary in table.cpu.items()},
                "ratios": {name: table.ratio(name) for name in table.wall} if table.floor else {},
            }
            for key, table in measured.tables.items()
        },
        "imports": measured.imports,
        "samples": measured.samples,
    }
