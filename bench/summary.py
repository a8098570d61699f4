# SPDX-License-Identifier: Apache-2.0
"""Samples in a few numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

FEWEST_FOR_P99 = 100


class Summary(NamedTuple):
    """Nanoseconds."""

    median: float
    high: float
    """The 99th percentile; the largest where there are fewer than 100 samples."""
    lowest: float
    samples: int

    @classmethod
    def of(cls, samples: Sequence[int]) -> Summary:
        """Summarize samples, at least one."""
        ordered = sorted(samples)
        count = len(ordered)
        high = ordered[-1] if count < FEWEST_FOR_P99 else ordered[-(count // 100) - 1]
        return cls(median=statistics.median(ordered), high=float(high), lowest=float(ordered[0]), samples=count)

    @property
    def has_p99(self) -> bool:
        """Whether there are enough samples to call :attr:`high` a percentile."""
        return self.samples >= FEWEST_FOR_P99


def duration(nanoseconds: float) -> str:
    """Return a duration for people, with three digits."""
    for limit, divisor, unit in ((1e6, 1e3, "us"), (1e9, 1e6, "ms"), (float("inf"), 1e9, "s")):
        if nanoseconds < limit:
            return f"{three_digits(nanoseconds / divisor)} {unit}"
    raise AssertionError


def three_digits(number: float) -> str:
    """Return a number with three digits, or with all that are before its point."""
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}"
