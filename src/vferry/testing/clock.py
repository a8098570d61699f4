# SPDX-License-Identifier: Apache-2.0
"""Time that moves only when somebody sleeps."""

from __future__ import annotations

from vferry.ports.clock import Clock

__all__ = ["SimClock"]


class SimClock(Clock):
    """A clock that stands still until :meth:`sleep` or :meth:`advance` is called.

    :param start: what :meth:`monotonic` says first.
    :param wall: what :meth:`wall` says first; the default is 2023-11-14T22:13:20Z.
    """

    def __init__(self, *, start: float = 0.0, wall: float = 1_700_000_000.0) -> None:
        self._now = start
        self._wall_offset = wall - start
        self.sleeps: list[float] = []
        """Every duration that was slept, in order."""

    def monotonic(self) -> float:
        """Return the simulated seconds."""
        return self._now

    def wall(self) -> float:
        """Return the simulated seconds since 1970-01-01T00:00Z."""
        return self._now + self._wall_offset

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass at once, and note that somebody slept."""
        self.advance(seconds)
        self.sleeps.append(seconds)

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass although nobody sleeps: something took that long.

        :raise ValueError: time would go back.
        """
        if seconds < 0:
            raise ValueError(f"time does not go back (by {-seconds} s)")
        self._now += seconds
