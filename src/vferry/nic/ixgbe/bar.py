# SPDX-License-Identifier: Apache-2.0
"""What a driver model may touch: the 32-bit registers of one function's BAR0, and nothing behind them."""

from __future__ import annotations

from typing import Protocol

__all__ = ["PfBar", "VfBar"]


class PfBar(Protocol):
    """BAR0 of the physical function."""

    def read(self, offset: int, /) -> int:
        """Return the 32-bit word at `offset` (octets, a multiple of 4), with the side effects of a real read."""
        ...

    def write(self, offset: int, value: int, /) -> None:
        """Write the 32-bit word `value` at `offset` (octets, a multiple of 4)."""
        ...


class VfBar(Protocol):
    """BAR0 of one virtual function."""

    def read(self, offset: int, /) -> int:
        """Return the 32-bit word at `offset` (octets, a multiple of 4), with the side effects of a real read."""
        ...

    def write(self, offset: int, value: int, /) -> None:
        """Write the 32-bit word `value` at `offset` (octets, a multiple of 4)."""
        ...
