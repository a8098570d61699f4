# SPDX-License-Identifier: Apache-2.0
"""Rounds: every contender has a short turn, then the next one, A B C A B C, so that a busy moment hits all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any, NamedTuple

MOST_PER_TURN = 50


class Sample(NamedTuple):
    series: str
    wall_ns: int
    cpu_ns: int = 0
    """Of the process that was started; 0 where none was."""


class Contender(NamedTuple):
    name: str
    turn: Callable[[int], Sequence[Sample]]
    """Do it so many times."""
    check: Callable[[], object] = lambda: None
    """Make sure that it does what it is measured for, before the first round."""


def loop(name: str, *acts: Callable[[], object]) -> Callable[[int], list[Sample]]:
    """Return a turn that times each act, several of them in turn."""
    clock = time.perf_counter_ns
    following = cycle(acts)

    def turn(count: int) -> list[Sample]:
        samples = []
        for _ in range(count):
            act = next(following)
            begin = clock()
            act()
            samples.append(Sample(name, clock() - begin))
        return samples

    return turn


def run_rounds(contenders: Sequence[Contender], rounds: int, seconds: float) -> dict[str, Any]:
    """Measure.

    :param seconds: about how long each contender may take over all rounds; one sample a round it takes at least.
    """
    for contender in contenders:
        contender.check()
    gc.collect()
    gc.freeze()
    gc.disable()
    counts = {contender.name: _count(contender, seconds / rounds) for contender in contenders}
    series: dict[str, dict[str, list[int]]] = {}
    for _ in range(rounds):
        for contender in contenders:
            for sample in _turn(contender, counts[contender.name]):
                found = series.setdefault(sample.series, {"wall": [], "cpu": []})
                found["wall"].append(sample.wall_ns)
                found["cpu"].append(sample.cpu_ns)
            gc.collect()
    gc.enable()
    return {name: {key: values for key, values in found.items() if any(values)} for name, found in series.items()}


def _count(contender: Contender, seconds: float) -> int:
    contender.turn(1)
    longest = max(sum(sample.wall_ns for sample in contender.turn(1)), 1)
    return max(1, min(MOST_PER_TURN, int(seconds * 1e9 / longest)))


def _turn(contender: Contender, count: int) -> Sequence[Sample]:
    """Give a contender its turn, warm: the others have had the processor's caches meanwhile."""
    if count > 1:  # what takes so long that it has one sample a turn does not depend on them
        contender.turn(1)
    return contender.turn(count)
