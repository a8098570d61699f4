# SPDX-License-Identifier: Apache-2.0
"""Time as an argument."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Clock"]


class Clock(Protocol):
    """Tells the time and waits."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never goes back."""
        ...

    def wall(self) -> float:
        """Return seconds since 1970-01-01T00:00Z."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...
