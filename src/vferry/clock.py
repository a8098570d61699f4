# SPDX-License-Identifier: Apache-2.0
"""The machine's clock."""

from __future__ import annotations

import time

__all__ = ["SystemClock"]


class SystemClock:
    """Implements :class:`vferry.ports.clock.Clock` by the machine's clock."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never goes back."""
        return time.monotonic()

    def wall(self) -> float:
        """Return seconds since 1970-01-01T00:00Z."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
