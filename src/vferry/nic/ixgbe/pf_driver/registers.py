# SPDX-License-Identifier: Apache-2.0
"""The PF's BAR as the driver's parts use it: elements of register arrays, and single bits of them."""

from __future__ import annotations

from vferry.nic.ixgbe.bar import PfBar
from vferry.nic.ixgbe.registers.declare import Register

__all__ = ["Registers"]


class Registers:
    """Reads and writes by register instead of by offset."""

    def __init__(self, bar: PfBar) -> None:
        self._bar = bar

    def read(self, register: Register, index: int = 0) -> int:
        """Return element `index` of `register`."""
        return self._bar.read(register.address(index))

    def write(self, register: Register, value: int, index: int = 0) -> None:
        """Write element `index` of `register`."""
        self._bar.write(register.address(index), value)

    def update(self, register: Register, index: int = 0, *, on: int = 0, off: int = 0) -> None:
        """Set the bits `on` and clear the bits `off`, in one read and one write."""
        self.write(register, (self.read(register, index) & ~off) | on, index)

    def bit(self, register: Register, number: int) -> bool:
        """Return bit `number` of an array of 32-bit words seen as one bitmap."""
        return bool(self.read(register, number // 32) >> number % 32 & 1)

    def set_bit(self, register: Register, number: int, *, on: bool) -> None:
        """Set or clear bit `number` of an array of 32-bit words seen as one bitmap; write only if it changes."""
        word = self.read(register, number // 32)
        wanted = word | 1 << number % 32 if on else word & ~(1 << number % 32)
        if wanted != word:
            self.write(register, wanted, number // 32)
