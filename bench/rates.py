# SPDX-License-Identifier: Apache-2.0
"""Operations a second: contenders that take turns, each beside the floor of the same round.

What is counted is processor time, which other programs on the machine do not shorten; they still take the caches, so
a ratio is that of two neighbours in one round, and the median over all rounds is what is told.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

Found = Mapping[str, Sequence[float]]
"""By contender: operations a second of processor time, in each round."""


class Work(NamedTuple):
    """One contender."""

    name: str
    batch: Callable[[], int]
    """Does it some times, and returns how often: some milliseconds of it, so that the clock costs nothing."""
    floor: str | None = None
    """The contender that this one is divided by."""


class Size(NamedTuple):
    """How much to measure."""

    rounds: int
    seconds: float
    """Of processor time, for each turn; one batch it takes at least."""


def measure(works: Sequence[Work], size: Size) -> dict[str, list[float]]:
    """Let contenders take turns, A B C A B C; each turn begins with a batch that is not counted."""
    found: dict[str, list[float]] = {work.name: [] for work in works}
    gc.collect()
    gc.disable()
    try:
        for _ in range(size.rounds):
            for work in works:
                work.batch()
                found[work.name].append(_rate(work.batch, size.seconds))
                gc.collect()
    finally:
        gc.enable()
    return found


def _rate(batch: Callable[[], int], seconds: float) -> float:
    start = time.process_time()
    count, spent = 0, 0.0
    while not count or spent < seconds:
        count += batch()
        spent = max(time.process_time() - start, 1e-9)
    return count / spent


def ratio(found: Found, name: str, floor: str) -> float:
    """Return the median over the rounds of what a contender reaches of its floor in the same round."""
    return statistics.median(one / other for one, other in zip(found[name], found[floor], strict=True))


def rows(works: Iterable[Work], found: Found) -> list[list[str]]:
    """Return the cells of a table, its head first."""
    cells = [["", "a second, median", "lowest", "highest", "of its floor"]]
    for work in works:
        rates = found[work.name]
        share = "" if work.floor is None else f"{ratio(found, work.name, work.floor):.3f}"
        cells.append([work.name, *map(amount, (statistics.median(rates), min(rates), max(rates))), share])
    return cells


def amount(number: float) -> str:
    """Return a number for people, with three digits."""
    for limit, divisor, unit in ((1e3, 1.0, ""), (1e6, 1e3, " k"), (float("inf"), 1e6, " M")):
        if number < limit:
            return f"{number / divisor:.3g}{unit}"
    raise AssertionError
