# SPDX-License-Identifier: Apache-2.0
"""Draws a report as one self-contained page: inline SVG, no script, no other resource, readable in light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from itertools import groupby
from typing import NamedTuple

from vferry.demo.report import Fate, Mark, Report, Run, Talker
from vferry.demo.terminal import LEGEND, attribute_words

__all__ = ["page"]

WIDTH, LABEL, ROW = 1000, 110, 18
"""Of a drawing: the time axis in units of the view box, the names before it, a talker's row."""
CHARACTER = 6.5
"""The width of a character of a mark's name, about: names that would overlap stand in different rows."""
AROUND = 8.0
"""Milliseconds around the stopped window in the second, finer drawing."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --line: #c9ced6; --soft: #59636e;
 --a: #9ec9f5; --b: #7ccf9a; --d: #d1242f; --x: #8250df; --w: #d0d7de; --h: #f2cc60; --m: #fb8f44; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --line: #30363d; --soft: #9198a1;
 --a: #1f6feb; --b: #238636; --d: #ff7b72; --x: #d2a8ff; --w: #484f58; --h: #d29922; --m: #db6d28; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
 max-width: 72rem; padding: 0 1rem; }
svg { width: 100%; height: auto; display: block; margin: .5rem 0 1rem; } svg text { fill: var(--ink); font-size: 11px; }
svg .soft { fill: var(--soft); } svg line { stroke: var(--ink); stroke-width: .7; stroke-dasharray: 3 2; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .15rem .7rem; text-align: right; font-weight: normal; }
th { color: var(--soft); } td:first-child, th:first-child { text-align: left; }
.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.5rem; }
.legend i { display: inline-block; width: 1em; height: 1em; margin-right: .4em; vertical-align: -.12em; }
""" + "".join(f".{fate.value} {{ fill: var(--{fate.value}); background: var(--{fate.value}); }}\n" for fate in Fate)


def page(report: Report) -> str:
    """Return the page."""
    title = f"A VM moves from A to B: {', '.join(run.name for run in report.runs)}"
    legend = "".join(f'<li><i class="{fate.value}"></i>{escape(words)}</li>' for fate, words in LEGEND)
    body = "".join(_run(run) for run in report.runs)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p>Software NICs on one learning switch, virtual time; mode {escape(report.mode)}, seed {report.seed}. Every talker
sends the VM a frame each millisecond and gets one back. Each frame to the VM has one colour:</p>
<ul class="legend">{legend}</ul>
{body}</body></html>
"""


def _run(run: Run) -> str:
    first = min(talker.first for talker in run.talkers)
    end = max(run.sent_at(talker, len(talker.frames)) for talker in run.talkers)
    drawings = _drawing(run, _Axis(first, end))
    stop, resume = run.at("stop"), run.at("resume")
    if stop is not None and resume is not None:
        drawings += "<p>Around the stopped window:</p>"
        drawings += _drawing(run, _Axis(max(first, stop - AROUND), min(end, resume + AROUND)))
    return (
        f"<h2>{escape(run.name)}</h2><p>{escape(run.what)}; {escape(run.stopped_words)}.</p>"
        f"{drawings}{_table(run)}{_list(_findings(run))}"
    )


class _Axis(NamedTuple):
    """The time that a drawing shows; milliseconds."""

    begin: float
    end: float

    def x(self, at: float) -> float:
        """Return where a time is drawn; what is outside is at the edge."""
        inside = min(max(at, self.begin), self.end)
        return LABEL + (inside - self.begin) * WIDTH / (self.end - self.begin)


def _drawing(run: Run, axis: _Axis) -> str:
    """Return the frames of a time, a row for each talker."""
    places = _places(run.marks, axis)
    above = 1 + max((place.row for place in places), default=0)
    height = (above + len(run.talkers) + 1) * ROW
    rows = "".join(_row(run, talker, axis, (above + index) * ROW) for index, talker in enumerate(run.talkers))
    marks = "".join(_mark(place, height - ROW) for place in places)
    foot = "".join(
        f'<text class="soft" x="{axis.x(at):.1f}" y="{height - 4}" text-anchor="{anchor}">{at:.0f} ms</text>'
        for at, anchor in ((axis.begin, "start"), (axis.end, "end"))
    )
    view = f"0 0 {LABEL + WIDTH} {height}"
    return f'<svg viewBox="{view}" role="img" aria-label="{escape(run.name)}">{rows}{marks}{foot}</svg>'


def _row(run: Run, talker: Talker, axis: _Axis, top: int) -> str:
    boxes = "".join(
        f'<rect class="{letter}" x="{axis.x(at):.1f}" y="{top + 2}" '
        f'width="{axis.x(until) - axis.x(at):.1f}" height="{ROW - 4}">'
        f"<title>{escape(talker.name)}: {count} frames from {at:.1f} ms: {escape(_WORDS[letter])}</title></rect>"
        for letter, at, until, count in _stretches(run, talker)
        if until > axis.begin and at < axis.end
    )
    return f'<text x="0" y="{top + ROW - 5}">{escape(talker.name)}</text>{boxes}'


def _stretches(run: Run, talker: Talker) -> Iterator[tuple[str, float, float, int]]:
    """Yield (letter, from, until, frames) for frames in a row with one fate."""
    number = 0
    for letter, group in groupby(talker.frames):
        count = len(list(group))
        yield letter, run.sent_at(talker, number), run.sent_at(talker, number + count), count
        number += count


_WORDS = {fate.value: words for fate, words in LEGEND}


class _Place(NamedTuple):
    """Where the name of a mark stands."""

    x: float
    left: float
    right: float
    row: int
    words: str


def _places(marks: Iterable[Mark], axis: _Axis) -> list[_Place]:
    """Give every mark that is shown a place above the talkers, so that no two names overlap."""
    places: list[_Place] = []
    for mark in marks:
        if axis.begin <= mark.at <= axis.end:
            words = f"{mark.name} {mark.host} {mark.at:.1f}"
            width = len(words) * CHARACTER
            left = min(axis.x(mark.at), LABEL + WIDTH - width)
            taken = {one.row for one in places if one.left < left + width and left < one.right}
            row = next(row for row in range(len(places) + 1) if row not in taken)
            places.append(_Place(axis.x(mark.at), left, left + width, row, words))
    return places


def _mark(place: _Place, bottom: int) -> str:
    y = (place.row + 1) * ROW - 6
    return (
        f'<line x1="{place.x:.1f}" x2="{place.x:.1f}" y1="{y}" y2="{bottom}"/>'
        f'<text x="{place.left + 2:.1f}" y="{y}">{escape(place.words)}</text>'
    )


def _table(run: Run) -> str:
    fates = (Fate.DEAD, Fate.SWALLOWED, Fate.STOPPED, Fate.HELD, Fate.MISLED)
    heads = ("talker", "frames", "to a dead VF", "swallowed", "while stopped", "VF not ready", "misled", "lost")
    rows = [
        (talker.name, len(talker.frames), *(talker.count(fate) for fate in fates), talker.lost, talker.lost_from_vm)
        for talker in run.talkers
    ]
    head = "".join(f"<th>{cell}</th>" for cell in (*heads, "lost on the way back"))
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _findings(run: Run) -> list[str]:
    lost = run.lost_attributes()
    return [
        f"{len(run.attributes) - len(lost)} of {len(run.attributes)} attributes kept",
        *(attribute_words(one) for one in lost),
        *(f"swallowed in {one.host}, {one.pool}: {one.frames} ({one.why})" for one in run.swallowed),
        *(claim.words for claim in run.claims),
    ]


def _list(words: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in words)}</ul>"
