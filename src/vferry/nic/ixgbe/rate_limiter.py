# SPDX-License-Identifier: Apache-2.0
"""The transmit rate limiter of each pool: RTTBCNRC against a clock that is given.

The hardware limits transmit queues, not pools (RTTDQSEL selects one). A pool is limited as a whole here, by the last
value written for any of its queues. ixgbe writes the same rate for each queue of a VF, so a VF with n queues at work
gets out up to n times its ``max_tx_rate`` on a real device, and just that rate here: a rate that is measured here says
nothing of a guest with several queues there.

Frames that come too early wait, in order, in the pool's backlog, and start at the instant the rate allows. A frame
that is asked for late still counts from the instant at which it could have started, so what comes out does not depend
on how often :meth:`RateLimiter.pop` is called.

The scheduler is the one that "maximum memory window" suggests: each frame moves the pool's *due* time by what it takes
at the pool's rate, and a frame may start up to the window before it is due. The unit of the window, 1024 octets, is
derived from the values that ixgbe writes (0x4 without jumbo frames, 0x14 with frames of 9728 octets: two frames each),
not read in a datasheet; that the FCS counts, and preamble and gap do not, is an assumption.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from vferry.nic.ixgbe.frame import FCS_SIZE
from vferry.nic.ixgbe.registers import pf

__all__ = ["BACKLOG", "DEFAULT_SPEED", "FACTOR_MASK", "FACTOR_ONE", "WINDOW_UNIT", "RateLimiter"]

FACTOR_MASK: Final = pf.RTTBCNRC_RF_INT_MASK | pf.RTTBCNRC_RF_DEC_MASK
"""RTTBCNRC 27:0: link speed / rate, 14 bits before and 14 behind the point."""
FACTOR_ONE: Final = 1 << pf.RTTBCNRC_RF_INT_SHIFT
WINDOW_UNIT: Final = 1024
"""Octets in one unit of RTTBCNRM.MMW_SIZE (derived, see above)."""
BACKLOG: Final = 1024
"""The most frames that wait in a pool: the default length of ixgbevf's transmit ring."""
DEFAULT_SPEED: Final = 10_000
"""Mb/s of the link until told otherwise."""


class _Bucket:
    """One pool."""

    __slots__ = ("backlog", "due", "rate", "value")

    def __init__(self) -> None:
        self.value = 0
        self.rate = 0.0
        self.due = 0.0
        self.backlog: deque[tuple[float, bytes]] = deque()


class RateLimiter:
    """Holds back the frames of pools that are limited. All times are seconds of one clock."""

    def __init__(self, pools: int = 64) -> None:
        self._buckets = [_Bucket() for _ in range(pools)]
        self._waiting: dict[int, _Bucket] = {}
        self._speed = DEFAULT_SPEED
        self._window = 0

    def set_rate(self, pool: int, value: int) -> None:
        """Take what was written to RTTBCNRC for a queue of a pool.

        A changed value starts anew: what was sent before does not count. A factor below 1 is 1, the link's speed.
        """
        bucket = self._buckets[pool]
        if value == bucket.value:
            return
        bucket.value, bucket.due = value, 0.0
        bucket.rate = self._rate(value)

    def set_link_speed(self, megabits: int) -> None:
        """Take the link's speed in Mb/s, which every factor is relative to.

        :raise ValueError: if it is not positive.
        """
        if megabits <= 0:
            raise ValueError(f"a link speed of {megabits} Mb/s limits nothing")
        self._speed = megabits
        for bucket in self._buckets:
            bucket.rate = self._rate(bucket.value)

    def set_window(self, value: int) -> None:
        """Take RTTBCNRM: how far a pool may run ahead of its rate, in units of 1024 octets; 0: not at all."""
        self._window = value * WINDOW_UNIT

    def is_limited(self, pool: int) -> bool:
        """Return whether a pool's frames go through :meth:`offer`: it has a rate, or frames that still wait."""
        return self._buckets[pool].rate > 0 or pool in self._waiting

    def offer(self, pool: int, frame: bytes, now: float) -> bool:
        """Put a frame behind those that wait in its pool; return whether there was room."""
        bucket = self._buckets[pool]
        if len(bucket.backlog) >= BACKLOG:
            return False
        bucket.backlog.append((now, frame))
        self._waiting[pool] = bucket
        return True

    def next_release(self) -> float | None:
        """Return when the next waiting frame may start, which may be past; ``None`` while none waits."""
        return min((self._start(bucket) for bucket in self._waiting.values()), default=None)

    def pop(self, now: float) -> tuple[int, bytes] | None:
        """Take the frame whose turn it is, with its pool, if it may start by now.

        The earliest comes first; of two at the same instant, that of the lower pool.
        """
        if not self._waiting:
            return None
        start, pool = min((self._start(bucket), pool) for pool, bucket in self._waiting.items())
        if start > now:
            return None
        bucket = self._waiting[pool]
        _, frame = bucket.backlog.popleft()
        if not bucket.backlog:
            del self._waiting[pool]
        if bucket.rate > 0:
            bucket.due = max(bucket.due, start) + (len(frame) + FCS_SIZE) / bucket.rate
        return pool, frame

    def discard(self, pool: int) -> list[bytes]:
        """Take all frames that wait in a pool, as its reset does."""
        frames = [frame for _, frame in self._buckets[pool].backlog]
        self._buckets[pool].backlog.clear()
        self._waiting.pop(pool, None)
        return frames

    def _rate(self, value: int) -> float:
        """Return octets a second; 0: not limited."""
        if not value & pf.RTTBCNRC_RS_ENA:
            return 0.0
        return self._speed * 1e6 / 8 * FACTOR_ONE / max(value & FACTOR_MASK, FACTOR_ONE)

    def _start(self, bucket: _Bucket) -> float:
        offered, _ = bucket.backlog[0]
        if bucket.rate <= 0:
            return offered
        return max(offered, bucket.due - self._window / bucket.rate)
