# SPDX-License-Identifier: Apache-2.0
"""A VF's receive queue: from a frame to the guest's buffers and the descriptors that tell of it.

A frame that does not fit the descriptors that the driver gave is dropped whole. Without DROP_EN (and without QDE) the
hardware would hold it, and all behind it, until there are descriptors; here it is dropped as well.

Data is written first, then each descriptor's low word, then the high one: it holds the length, by which ixgbevf knows
that a descriptor is its own again, and DD.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

from vferry.nic.ixgbe.descriptors import (
    DESCRIPTOR,
    STAT_DD,
    STAT_EOP,
    STAT_VP,
    WORD,
    receive_write_back,
)
from vferry.nic.ixgbe.frame import TAG_SIZE, TPID, without_tag
from vferry.nic.ixgbe.guest_memory import DmaError, GuestMemory
from vferry.nic.ixgbe.register_file import RegisterFile
from vferry.nic.ixgbe.registers import vf
from vferry.nic.ixgbe.rings import RECEIVE, QueueFault, QueueFaultError, Ring

__all__ = ["QueueDrop", "ReceiveQueue"]

SRRCTL_BSIZEPKT_MASK: Final = 0x1F
"""Buffer size in KiB (82599 datasheet, 8.2.3.8.7: five bits)."""
SRRCTL_DESCTYPE_MASK: Final = 7 << 25
SRRCTL_DESCTYPE_ADV_ONEBUF: Final = 1 << 25
_HEADER: Final = 14


class QueueDrop(enum.Enum):
    """Why a frame that the switch led to a VF did not reach its guest."""

    STOPPED = "the VF is stopped"
    NO_DMA = "bus mastering is off"
    DISABLED = "the queue is disabled"
    NO_DESCRIPTOR = "no free descriptors"
    FAULT = "the queue was disabled by this frame"


class ReceiveQueue:
    """One queue.

    :param bar: the VF's registers.
    :param fault: told, with the queue, why it was disabled.
    """

    def __init__(self, bar: RegisterFile, queue: int, *, fault: Callable[[int, QueueFault], None]) -> None:
        self.ring: Final = Ring(bar, queue, RECEIVE)
        self._fault: Final = fault
        self._srrctl: Final[int] = bar.slot(vf.VFSRRCTL.addresses[queue])

    def put(self, memory: GuestMemory, frame: bytes, info: int, rss_hash: int, status: int) -> QueueDrop | None:
        """Write a frame; None: it is there, otherwise why it is not.

        :param info: RSS type and packet type.
        :param status: of checksums, with errors.
        """
        ring = self.ring
        if not ring.enabled:
            return QueueDrop.DISABLED
        vlan = 0
        if ring.control & vf.RXDCTL_VME and frame[12:14] == TPID and len(frame) >= _HEADER + TAG_SIZE:
            vlan = frame[14] << 8 | frame[15]
            frame = without_tag(frame)
            status |= STAT_VP
        try:
            taken = self._write(memory, frame, info, rss_hash, status | STAT_DD | STAT_EOP, vlan)
        except (DmaError, QueueFaultError) as error:
            ring.disable()
            self._fault(ring.queue, error.fault if isinstance(error, QueueFaultError) else QueueFault.MEMORY)
            return QueueDrop.FAULT
        return None if taken else QueueDrop.NO_DESCRIPTOR

    def _write(self, memory: GuestMemory, frame: bytes, info: int, rss_hash: int, status: int, vlan: int) -> bool:  # noqa: PLR0917
        base, count, head, tail = self.ring.bounds()
        srrctl = self.ring.words[self._srrctl]
        size = (srrctl & SRRCTL_BSIZEPKT_MASK) << 10
        if not size or srrctl & SRRCTL_DESCTYPE_MASK != SRRCTL_DESCTYPE_ADV_ONEBUF:
            raise QueueFaultError(QueueFault.BUFFER, f"SRRCTL {srrctl:#x}")
        needed = -(-len(frame) // size)
        if not count or (tail - head) % count < needed:
            return False
        places = [base + DESCRIPTOR * ((head + step) % count) for step in range(needed)]
        for place, start in zip(places, range(0, len(frame), size), strict=True):
            (address,) = WORD.unpack(memory.read(place, 8))
            memory.write(address, frame if needed == 1 else frame[start : start + size])
        last = places.pop()
        for place in places:
            self._give_back(memory, place, receive_write_back(0, 0, STAT_DD, size, 0))
        rest = len(frame) - size * (needed - 1)
        self._give_back(memory, last, receive_write_back(info, rss_hash, status, rest, vlan))
        self.ring.head = (head + needed) % count
        return True

    @staticmethod
    def _give_back(memory: GuestMemory, address: int, words: tuple[bytes, bytes]) -> None:
        memory.write(address, words[0])
        memory.write(address + 8, words[1])
