# SPDX-License-Identifier: Apache-2.0
"""``python -m vferry.testing.world``: simulate many migrations, say what became of them."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import Pool

from vferry.testing.world.run import MODES, Outcome, simulate

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Simulate, and print what became of it; return 1 where something did not hold."""
    options = _parser().parse_args(arguments)
    seeds = range(options.seed, options.seed + options.runs)
    began, endings, failed = time.perf_counter(), Counter[str](), 0
    for outcome in _outcomes(seeds, options.mode, options.jobs):
        endings[f"{outcome.mode}: {outcome.ended}"] += 1
        if outcome.wrong:
            failed += 1
            _print_violation(outcome, with_log=failed <= options.logs)
        elif options.show:
            print(outcome.log)
    seconds = time.perf_counter() - began
    for ending, count in sorted(endings.items()):
        print(f"{count:7} {ending}")
    print(f"{options.runs} runs, {failed} with violations, {options.runs / seconds:.1f} runs/s")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vferry.testing.world", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="how many migrations")
    parser.add_argument("--seed", type=int, default=0, help="the first seed; the others follow it")
    parser.add_argument("--mode", choices=MODES, default=None, help="only this mode; else all in turn")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--logs", type=int, default=1, help="how many violations are printed with their whole log")
    parser.add_argument("--show", action="store_true", help="print the log of every run")
    return parser


def _outcomes(seeds: range, mode: str | None, jobs: int) -> Iterator[Outcome]:
    if jobs == 1:
        for seed in seeds:
            yield simulate(seed, mode)
        return
    with Pool(jobs) as pool:
        yield from pool.imap_unordered(_Simulation(mode), seeds, chunksize=16)


class _Simulation:
    """A call that can be sent to another process."""

    def __init__(self, mode: str | None) -> None:
        self._mode = mode

    def __call__(self, seed: int) -> Outcome:
        return simulate(seed, self._mode)


def _print_violation(outcome: Outcome, *, with_log: bool) -> None:
    print(f"seed {outcome.seed}, {outcome.mode}: {'; '.join(outcome.wrong)}")
    if with_log:
        print(outcome.log)
        print(f"again: python -m vferry.testing.world --runs 1 --seed {outcome.seed} --mode {outcome.mode}")


if __name__ == "__main__":
    sys.exit(main())
