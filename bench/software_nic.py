# SPDX-License-Identifier: Apache-2.0
"""``python -m bench.software_nic``: how fast the software NIC is, on this machine, without the lab.

Each figure stands beside a floor of the same round. What matters are the ratios; see ``docs/performance.md``.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import platform
import pstats
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench import compiled, registers, veb
from bench.aims import Aim
from bench.nic_groups import BY_KEY, GROUPS, Samples
from bench.rates import Size, Work, amount, measure, ratio, rows
from bench.report import aligned, markdown, verdict, write_document
from bench.run import machine

FULL: Final = Size(rounds=10, seconds=0.2)
QUICK: Final = Size(rounds=1, seconds=0.0)
COMPILED_TURNS: Final = Size(rounds=3, seconds=0.2)
COMPILED_GROUPS: Final = ("registers", "mailbox", "veb", "simulation")
DOCUMENT: Final = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
BEGIN: Final = "<!-- software NIC: begin (written by `make bench-nic`) -->"
END: Final = "<!-- software NIC: end -->"


class Results(NamedTuple):
    """What came of a run."""

    works: dict[str, list[Work]]
    samples: Samples
    plain: Samples
    """Of the groups that were measured compiled too, by turns with that."""
    fast: Samples
    not_compiled: str
    """Why nothing was compiled."""
    facts: dict[str, str]


def judge(samples: Samples) -> list[Aim]:
    """Compare one run with the aims."""
    accesses, frames = samples["registers"], samples["veb"]
    return [
        _share(
            f"register accesses, {registers.MIX}, uncompiled, of bare storage",
            ratio(accesses, registers.MIX, f"{registers.MIX}: {registers.STORAGE}"),
            0.45,
        ),
        _rate("register accesses a second, the same, as a smoke limit", accesses[registers.MIX], 3e6),
        _rate("frames of 64 octets a second, pool to pool, the switch with 64 pools", frames[veb.LOCAL], 1e6),
        _rate("the same through the whole device", frames[veb.DEVICE], 1e6),
    ]


def _share(what: str, found: float, limit: float) -> Aim:
    return Aim(what, f"at least {limit:g}", f"{found:.3f}", found >= limit)


def _rate(what: str, rates: Sequence[float], limit: float) -> Aim:
    found = statistics.median(rates)
    return Aim(what, f"at least {amount(limit)}", amount(found), found >= limit)


def run(size: Size, turns: Size | None) -> Results:
    """Carry out a run.

    :param turns: how much to measure of what mypyc made; None: nothing is compiled.
    """
    begin = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - begin:6.1f}  {line}", file=sys.stderr, flush=True)

    works: dict[str, list[Work]] = {}
    samples: Samples = {}
    facts = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{machine()}; shared",
        "CPython": platform.python_version(),
        "rounds": f"{size.rounds}, {size.seconds:g} s of processor time for each contender",
    }
    for group in GROUPS:
        say(group.title)
        works[group.key] = group.works()
        samples[group.key] = measure(works[group.key], size)
    plain, fast, why = ({}, {}, "it was not asked for") if turns is None else _compiled(turns, say)
    return Results(works, samples, plain, fast, why, facts)


def _compiled(turns: Size, say: Any) -> tuple[Samples, Samples, str]:
    try:
        return *compiled.measure_both(turns, COMPILED_GROUPS, say), ""
    except compiled.CannotCompileError as error:
        say(f"not compiled: {error}")
        return {}, {}, str(error)


def tables(results: Results) -> dict[str, list[list[str]]]:
    """Return the cells of each table, by its title."""
    found = {
        "Aims for the software NIC": [
            ["", "aim", "found", ""],
            *([*aim[:3], verdict(aim)] for aim in judge(results.samples)),
        ]
    }
    for key, works in results.works.items():
        found[f"{BY_KEY[key].title}, a second"] = rows(works, results.samples[key])
    if results.fast:
        found["The same, compiled by mypyc"] = compiled.rows(results.plain, results.fast, _floors(results))
    return found


def _floors(results: Results) -> set[str | None]:
    return {work.floor for works in results.works.values() for work in works}


def section(results: Results) -> str:
    """Return the measured section of the document."""
    lines = ["| | |", "| --- | --- |", *(f"| {name} | {fact} |" for name, fact in results.facts.items())]
    for title, cells in tables(results).items():
        lines += ["", f"### {title}", "", *markdown(cells)]
    if results.not_compiled:
        lines += ["", f"mypyc: nothing was compiled. {results.not_compiled}"]
    return "\n".join(lines)


def terminal(results: Results) -> str:
    """Return everything for the terminal."""
    lines: list[str] = []
    for title, cells in tables(results).items():
        lines += ["", title, *(f"  {line}" for line in aligned(cells))]
    if results.not_compiled:
        lines += ["", f"mypyc: nothing was compiled. {results.not_compiled}"]
    return "\n".join(lines)


def profile(key: str, name: str, batches: int = 20) -> None:
    """Print where the time of one contender goes, by cProfile, which makes calls look dearer than they are."""
    work = next(work for work in BY_KEY[key].works() if work.name == name)
    work.batch()
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(batches):
        work.batch()
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(20)


def main(arguments: list[str]) -> int:
    """Measure, print, and write the document; the exit code says whether it could be measured, not what came of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.software_nic", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only see that it works; the document stays as it is")
    parser.add_argument("--no-compile", action="store_true", help="leave mypyc out")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all samples to FILE")
    parser.add_argument("--profile", nargs=2, metavar=("GROUP", "NAME"), help="print where one contender's time goes")
    options = parser.parse_args(arguments)
    if options.profile:
        profile(*options.profile)
        return 0
    turns = None if options.no_compile else COMPILED_TURNS
    if turns is not None and options.quick:
        turns = QUICK
    results = run(QUICK if options.quick else FULL, turns)
    print(terminal(results))
    if options.json:
        options.json.write_text(json.dumps({"samples": results.samples, "plain": results.plain, "fast": results.fast}))
    if not options.quick:
        write_document(DOCUMENT, section(results), BEGIN, END)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
