# SPDX-License-Identifier: Apache-2.0
"""Time in the simulated world: trio's, which a mock clock moves, plus what synchronous code has slept since."""

from __future__ import annotations

import trio

from vferry.ports.clock import Clock

__all__ = ["EPOCH", "WorldClock"]

EPOCH = 1_700_000_000.0
"""2023-11-14T22:13:20Z, the wall time at which every world begins."""


class WorldClock(Clock):
    """The clock of one process.

    Synchronous code cannot await: what it sleeps becomes a debt, and the process's next asynchronous call pays it.
    """

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        """Return the simulated seconds since the world began."""
        return max(trio.current_time(), self._ahead)

    def wall(self) -> float:
        """Return the simulated seconds since 1970-01-01T00:00Z."""
        return EPOCH + self.monotonic()

    def sleep(self, seconds: float) -> None:
        """Owe ``seconds``."""
        self._ahead = self.monotonic() + seconds

    async def pay(self) -> None:
        """Wait until the world is as late as this process believes."""
        if self._ahead > trio.current_time():
            await trio.sleep_until(self._ahead)
