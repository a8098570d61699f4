# SPDX-License-Identifier: Apache-2.0
"""Draws a report in the terminal: for each run a timeline, one row for each talker, then what was counted."""

from __future__ import annotations

import textwrap
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vferry.demo.report import AttributeFate, Fate, Report, Run, Talker, Verdict

__all__ = ["LEGEND", "attribute_words", "lines_of"]

LABEL = 13
"""Columns of the names before each row."""
MIN_COLUMNS, MAX_COLUMNS = 60, 160
_BEFORE, _AFTER = 5.0, 15.0
"""Milliseconds around the stopped window that are drawn as finely."""
_FINE = 1.0
"""Milliseconds of a column in the stopped window, where there is room."""

_WORST_FIRST = (Fate.DEAD, Fate.SWALLOWED, Fate.MISLED, Fate.STOPPED, Fate.HELD, Fate.ON_B, Fate.ON_A)
"""Which of a column's frames is shown."""

LEGEND = (
    (Fate.ON_A, "received by the VM on A"),
    (Fate.ON_B, "received by the VM on B"),
    (Fate.DEAD, "delivered to a dead VF: the VM has left it, or has not come yet"),
    (Fate.SWALLOWED, "swallowed inside a NIC"),
    (Fate.STOPPED, "left by the wire while the VM was stopped on both hosts"),
    (Fate.HELD, "came to the VM's own new VF, which was not ready yet"),
    (Fate.MISLED, "led to where the VM is not, while it runs elsewhere"),
)

_EVENTS = {
    "program": "P",
    "unplug": "U",
    "stop": "S",
    "fence": "F",
    "switch": "W",
    "copy": "T",
    "commit": "C",
    "activate": "A",
    "resume": "R",
    "reset": "G",
    "plug": "V",
    "release": "L",
}
"""The letter of each mark."""


class Axis(NamedTuple):
    """Which time each column stands for: the stopped window is drawn finer than the rest."""

    edges: tuple[float, ...]
    """Where each column begins, and where the last one ends; milliseconds."""

    @property
    def columns(self) -> int:
        """How many columns there are."""
        return len(self.edges) - 1

    def column(self, at: float) -> int:
        """Return the column of a time; what is outside is in the first or last."""
        return min(max(bisect_right(self.edges, at) - 1, 0), self.columns - 1)


def axis_of(run: Run, columns: int) -> Axis:
    """Return a run's axis."""
    first = min(talker.first for talker in run.talkers)
    end = max(run.sent_at(talker, len(talker.frames)) for talker in run.talkers)
    stop, resume = run.at("stop"), run.at("resume")
    if stop is None or resume is None or (stop - _BEFORE <= first and end <= resume + _AFTER):
        return Axis((*_edges(first, end, columns), end))
    left, right = max(first, stop - _BEFORE), min(end, resume + _AFTER)
    fine = min(round((right - left) / _FINE), columns // 2)
    rest = columns - fine
    before = max(1, min(rest - 1, round(rest * (left - first) / (left - first + end - right))))
    parts = (_edges(first, left, before), _edges(left, right, fine), _edges(right, end, rest - before))
    return Axis((*(edge for part in parts for edge in part), end))


def _edges(begin: float, end: float, columns: int) -> Iterator[float]:
    return (begin + (end - begin) * index / columns for index in range(columns))


def lines_of(report: Report, *, columns: int = 100) -> list[str]:
    """Return a report as lines.

    :param columns: of the terminal.
    """
    columns = min(max(columns, MIN_COLUMNS), MAX_COLUMNS)
    lines = _filled(_head(report), columns)
    for fate, words in LEGEND:
        lines += _filled(f"  {fate.value}  {words}", columns, indent=5)
    for run in report.runs:
        lines += ["", *_run_lines(run, columns)]
    return [line.rstrip() for line in [*lines, "", *_summary(report, columns)]]


def _filled(text: str, columns: int, *, indent: int = 0) -> list[str]:
    """Break a text at spaces, or where there is none in a whole line anywhere."""
    return textwrap.wrap(text, columns, subsequent_indent=" " * indent, break_on_hyphens=False)


def _head(report: Report) -> str:
    return (
        f"A VM moves from A to B under traffic; software NICs, virtual time; mode {report.mode}, seed {report.seed}. "
        "Every talker sends it a frame each ms and gets one back. Each letter is what became of frames to the VM:"
    )


def _run_lines(run: Run, columns: int) -> list[str]:
    axis = axis_of(run, columns - LABEL - 1)
    lines = [*_filled(f"{run.name}: {run.what}", columns, indent=2), f"{'':{LABEL}} {_events(run, axis)}"]
    lines += [f"{talker.name:{LABEL}} {_row(run, talker, axis)}" for talker in run.talkers]
    lines += [f"{'':{LABEL}} {_scale(run, axis)}", *_wrapped(_marks_text(run), columns)]
    return lines + [line for words in _findings(run) for line in _filled(f"  {words}", columns, indent=4)]


def _events(run: Run, axis: Axis) -> str:
    """Return the marks' letters, each in its column, or in the next that is free."""
    row = [" "] * axis.columns
    for mark in run.marks:
        column = axis.column(mark.at)
        free = [index for index in range(column, axis.columns) if row[index] == " "]
        if free:
            row[free[0]] = _EVENTS[mark.name]
    return "".join(row)


def _row(run: Run, talker: Talker, axis: Axis) -> str:
    """Return one talker's row: of each column's frames the worst."""
    found: list[set[str]] = [set() for _ in range(axis.columns)]
    for number, letter in enumerate(talker.frames):
        found[axis.column(run.sent_at(talker, number))].add(letter)
    row: list[str] = []
    for letters in found:
        worst = [fate.value for fate in _WORST_FIRST if fate.value in letters]
        row.append(worst[0] if worst else (row[-1] if row else " "))
    return "".join(row)


def _scale(run: Run, axis: Axis) -> str:
    """Return the times of some columns, in ms."""
    row = ""
    stop, resume = run.at("stop") or 0.0, run.at("resume") or 0.0
    for at in (axis.edges[0], 0.0, stop, resume, axis.edges[-1]):
        text, column = f"{at:.0f}", axis.column(at)
        column = min(column, axis.columns - len(text) - 3)
        if column >= len(row) + bool(row):
            row = row.ljust(column) + text
    return f"{row} ms"


def _marks_text(run: Run) -> list[str]:
    return [f"{_EVENTS[mark.name]} {mark.name} {mark.host} {mark.at:.1f}" for mark in run.marks]


def _wrapped(words: Sequence[str], width: int) -> list[str]:
    lines = [""]
    for word in words:
        joined = f"{lines[-1]}   {word}" if lines[-1] else word
        if len(joined) + LABEL + 1 > width:
            lines.append(word)
        else:
            lines[-1] = joined
    return [f"{'':{LABEL}} {line}" for line in lines]


def _findings(run: Run) -> list[str]:
    lost = run.lost_attributes()
    return [
        f"{len(run.attributes) - len(lost)} of {len(run.attributes)} attributes kept",
        *(attribute_words(one) for one in lost),
        *(f"swallowed in {one.host}, {one.pool}: {one.frames} ({one.why})" for one in run.swallowed),
        *(claim.words for claim in run.claims),
    ]


def attribute_words(one: AttributeFate) -> str:
    """Return what became of an attribute that is not kept."""
    if one.verdict is Verdict.ON_RECORD:
        return f"on record only: VF {one.vf} {one.name} {one.after}: the PF shows it, its registers do not have it"
    return f"lost: VF {one.vf} {one.name} {one.before}, now {one.after}"


_HEADS = (
    ("", "sent"),
    ("dead", "VF"),
    ("swal-", "lowed"),
    ("VM", "stop"),
    ("not", "ready"),
    ("mis-", "led"),
    ("", "lost"),
    ("ms", "deaf"),
    ("lost", "back"),
)
"""Of the table's columns, in two lines."""
_NAMES = 12
"""Columns of the names before the table's rows."""


def _summary(report: Report, columns: int) -> list[str]:
    """Return the table of all talkers in all runs: as wide as its heads, and wider where there is room."""
    least = [max(map(len, head)) + 1 for head in _HEADS]
    more = min((columns - _NAMES - sum(least)) // len(least), 4)
    widths = [width + more for width in least]
    lines = [_table_row("", cells, widths) for cells in zip(*_HEADS, strict=True)]
    for run in report.runs:
        lines += _filled(f"{run.name}: {run.stopped_words}", columns, indent=2)
        lines += [_table_row(talker.name, _cells(run, talker), widths) for talker in run.talkers]
    return lines


def _table_row(name: str, cells: Sequence[str], widths: Sequence[int]) -> str:
    return f"{name:<{_NAMES}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _cells(run: Run, talker: Talker) -> tuple[str, ...]:
    fates = (Fate.DEAD, Fate.SWALLOWED, Fate.STOPPED, Fate.HELD, Fate.MISLED)
    return (
        str(len(talker.frames)),
        *(str(talker.count(fate)) for fate in fates),
        str(talker.lost),
        f"{talker.longest_gap * run.interval:.0f}",
        f"{talker.lost_from_vm}",
    )
