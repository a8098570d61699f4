# SPDX-License-Identifier: Apache-2.0
"""Simulated migrations a second: two software hosts, guests, traffic, and the faults that the seed brings.

Everything is in one process and on a clock of its own; a migration is built, carried out, disturbed and examined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bench.rates import Work
from vferry.testing.world.run import MODES, simulate

SEEDS: Final = 4
"""The same ones in each round, so that all rounds have the same work to do."""


def works() -> list[Work]:
    """Return each mode of migration."""
    return [Work(f"{mode}", _migrations(mode)) for mode in MODES]


def _migrations(mode: str) -> Callable[[], int]:
    def run_it() -> int:
        for seed in range(SEEDS):
            outcome = simulate(seed, mode)
            assert not outcome.wrong, f"seed {seed}, {mode}: {outcome.wrong}"
        return SEEDS

    return run_it
