# SPDX-License-Identifier: Apache-2.0
"""A descriptor ring as its registers describe it, and what can be wrong with one.

The registers are looked at anew each time: the guest writes them through its BAR and the PF through its views.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple, NewType

from vferry.core.errors import FailedError
from vferry.nic.ixgbe.descriptors import DESCRIPTOR
from vferry.nic.ixgbe.register_file import RegisterFile
from vferry.nic.ixgbe.registers import vf
from vferry.nic.ixgbe.registers.declare import Register

__all__ = ["ENABLE", "RECEIVE", "TRANSMIT", "QueueFault", "QueueFaultError", "Ring", "RingRegisters"]

ENABLE: Final = vf.TXDCTL_ENABLE
"""Bit 25 of TXDCTL and of RXDCTL alike."""
_BASE_ALIGN: Final = ~127 & 0xFFFFFFFF
"""Low seven bits of RDBAL and TDBAL read as 0 (82599 datasheet, 8.2.3.8.1)."""
_LENGTH_ALIGN: Final = 128
"""RDLEN and TDLEN are multiples of eight descriptors (same, 8.2.3.8.3)."""
_LENGTH_MAX: Final = 1 << 20
"""LEN is 20 bits wide."""

Bounds = NewType("Bounds", tuple[int, int, int, int])
"""Address, descriptors, head, tail. No descriptors: there is no ring."""


class QueueFault(enum.Enum):
    """Why a queue was taken off a driver that told it nonsense."""

    MEMORY = "address outside of memory"
    RING = "ring registers contradict each other"
    DESCRIPTOR = "no such kind of descriptor"
    CONTEXT = "offload that does not fit its packet"
    LENGTH = "packet too short or too long"
    CHAIN = "packet of too many descriptors"
    BUFFER = "no such kind or size of buffer"


class QueueFaultError(FailedError):
    """What a queue was told cannot be done: the guest's mistake, or its malice."""

    def __init__(self, fault: QueueFault, why: str) -> None:
        self.fault = fault
        super().__init__("work a queue", why=f"{fault.value}: {why}")


class RingRegisters(NamedTuple):
    """The registers of a ring."""

    base_low: Register
    base_high: Register
    length: Register
    head: Register
    tail: Register
    control: Register


RECEIVE: Final = RingRegisters(vf.VFRDBAL, vf.VFRDBAH, vf.VFRDLEN, vf.VFRDH, vf.VFRDT, vf.VFRXDCTL)
TRANSMIT: Final = RingRegisters(vf.VFTDBAL, vf.VFTDBAH, vf.VFTDLEN, vf.VFTDH, vf.VFTDT, vf.VFTXDCTL)


class Ring:
    """One queue's ring.

    :param bar: the VF's registers.
    :param queue: 0 to 7; the VF may not have it.
    """

    __slots__ = ("_base_high", "_base_low", "_control", "_head", "_length", "_tail", "exists", "queue", "words")

    def __init__(self, bar: RegisterFile, queue: int, registers: RingRegisters) -> None:
        self.words: Final[list[int]] = bar.words
        self.queue: Final[int] = queue
        slots = [bar.slot(register.addresses[queue]) for register in registers]
        self._base_low, self._base_high, self._length, self._head, self._tail, self._control = slots
        self.exists: Final[bool] = self._control >= 0

    @property
    def control(self) -> int:
        """RXDCTL or TXDCTL; 0 where the VF has no such queue."""
        return self.words[self._control] if self.exists else 0

    @property
    def enabled(self) -> bool:
        """Whether the driver, or a fault, has not disabled the queue."""
        return self.exists and bool(self.words[self._control] & ENABLE)

    @property
    def head(self) -> int:
        """The descriptor that the device looks at next."""
        return self.words[self._head]

    @head.setter
    def head(self, value: int) -> None:
        self.words[self._head] = value

    @property
    def tail(self) -> int:
        """The first descriptor that is not the device's."""
        return self.words[self._tail]

    def disable(self) -> None:
        """Clear the enable bit, as a fault does."""
        if self.exists:
            self.words[self._control] &= ~ENABLE

    def bounds(self) -> Bounds:
        """Return where the ring is and what of it is the device's.

        :raises QueueFaultError: the length is none that a ring can have, or head or tail are outside.
        """
        words = self.words
        length, head, tail = words[self._length], words[self._head], words[self._tail]
        count = length // DESCRIPTOR
        if not length:
            return Bounds((0, 0, 0, 0))
        if length % _LENGTH_ALIGN or length >= _LENGTH_MAX:
            raise QueueFaultError(QueueFault.RING, f"{length} octets")
        if head >= count or tail >= count:
            raise QueueFaultError(QueueFault.RING, f"head {head} or tail {tail} of {count} descriptors")
        return Bounds((words[self._base_high] << 32 | words[self._base_low] & _BASE_ALIGN, count, head, tail))
