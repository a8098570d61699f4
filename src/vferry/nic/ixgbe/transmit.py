# SPDX-License-Identifier: Apache-2.0
"""A VF's transmit queue: from the descriptors between head and tail to frames.

Whole packets only: the head stays at the first descriptor of one whose last is not there yet, so a stopped queue holds
nothing but its registers and the contexts that were sent to it. One run does a bounded amount of work, whatever the
guest has written; what is left is :attr:`TransmitQueue.unfinished`.

Where the hardware writes back in batches (WTHRESH), here each descriptor with RS is written back, no other. With head
write-back (TDWBAL bit 0) the head is written instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from vferry.nic.ixgbe import descriptors
from vferry.nic.ixgbe.descriptors import CONTEXTS, DESCRIPTOR, PAIR, TX_DONE, TX_DONE_OFFSET, Context, L4Type
from vferry.nic.ixgbe.frame import FCS_SIZE
from vferry.nic.ixgbe.guest_memory import DirectMemory, DmaError, GuestMemory
from vferry.nic.ixgbe.offloads import insert_checksums, insert_vlan, segments
from vferry.nic.ixgbe.register_file import RegisterFile
from vferry.nic.ixgbe.registers import vf
from vferry.nic.ixgbe.rings import TRANSMIT, QueueFault, QueueFaultError, Ring

__all__ = ["LONGEST_FRAME", "MOST_DESCRIPTORS", "SHORTEST_PACKET", "WORK", "TransmitQueue"]

MOST_DESCRIPTORS: Final = 40
"""Of one packet (82599 datasheet, 7.2.3.3; DPDK's IXGBE_TX_MAX_SEG)."""
SHORTEST_PACKET: Final = 14
"""Octets that a driver may give: an Ethernet header (DPDK's IXGBE_TX_MIN_PKT_LEN). ixgbevf gives 17 or more."""
SHORTEST_FRAME: Final = 60
"""Octets that a frame is padded to: 64 with FCS (HLREG0.TXPADEN, set after a reset)."""
LONGEST_FRAME: Final = 9728 - FCS_SIZE
"""Octets of an untagged frame (IXGBE_MAX_JUMBO_FRAME_SIZE, ixgbe_type.h)."""
LONGEST_PACKET: Final = (1 << 18) - 1 + 0x7F + 0x1FF + 0xFF
"""Octets that can be segmented: what PAYLEN and the three header lengths can say."""
BATCH: Final = 256
"""Descriptors that are fetched at once."""
WORK: Final = 4096
"""Descriptors, further segments, and 64 octets each of a CRC, in one run: ixgbevf's longest ring at least."""

_OFFLOADS: Final = descriptors.DCMD_TSE | descriptors.DCMD_VLE | descriptors.POPTS_MASK
_KIND_MASK: Final = descriptors.KIND_MASK
_DATA: Final = descriptors.KIND_DATA
_EOP: Final = descriptors.DCMD_EOP
_KIND_AND_MORE: Final = _KIND_MASK | _EOP | _OFFLOADS
_PLAIN: Final = _DATA | _EOP
"""A packet in one buffer that nothing is to be done with."""
_RS: Final = descriptors.DCMD_RS
_LENGTH: Final = descriptors.DTALEN_MASK
_HEAD_WRITE_BACK: Final = 1


class TransmitQueue:
    """One queue.

    :param bar: the VF's registers.
    :param running: whether the VF may touch memory.
    :param send: takes a frame.
    :param done: told, with the queue, after descriptors were written back.
    :param fault: told, with the queue, why it was disabled.
    """

    def __init__(
        self,
        bar: RegisterFile,
        queue: int,
        memory: GuestMemory,
        *,
        running: Callable[[], bool],
        send: Callable[[bytes], None],
        done: Callable[[int], None],
        fault: Callable[[int, QueueFault], None],
    ) -> None:
        self.ring: Final = Ring(bar, queue, TRANSMIT)
        self.contexts: Final[list[tuple[int, int] | None]] = [None] * CONTEXTS
        """The context descriptors that the queue remembers, as their two words."""
        self.unfinished: bool = False
        """The last run stopped because it had done its share."""
        self._memory: Final = memory
        self._direct: Final = memory if sys.byteorder == "little" and isinstance(memory, DirectMemory) else None
        self._may_run: Final = running
        self._send: Final = send
        self._done: Final = done
        self._fault: Final = fault
        self._write_back_low: Final[int] = bar.slot(vf.VFTDWBAL.addresses[queue])
        self._write_back_high: Final[int] = bar.slot(vf.VFTDWBAH.addresses[queue])
        self._running: bool = False
        self._left: int = 0
        self._packet: Final[list[tuple[int, int]]] = []
        """Descriptors of a packet that has not ended, as their two words."""

    def reset(self) -> None:
        """Forget the contexts, as a reset of the VF does."""
        self.contexts[:] = [None] * CONTEXTS
        self.unfinished = False

    def run(self) -> None:
        """Send what is between head and tail.

        What `send` and `done` lead to may call it again: the outer call sees the new tail.
        """
        if self._running:
            return
        self._running, self.unfinished, self._left = True, False, WORK
        try:
            self._run()
        except (DmaError, QueueFaultError) as error:
            self.ring.disable()
            self._fault(self.ring.queue, error.fault if isinstance(error, QueueFaultError) else QueueFault.MEMORY)
        finally:
            self._running = False
            self._packet.clear()

    def _run(self) -> None:
        ring, packet = self.ring, self._packet
        ahead = 0  # descriptors of the packet that has not ended
        while ring.enabled and self._may_run():
            base, count, head, tail = ring.bounds()
            available = (tail - head) % count - ahead if count else 0
            if available <= 0:
                return
            if self._left <= 0 and not packet:
                self.unfinished = True
                return
            first = (head + ahead) % count
            number = min(available, count - first, BATCH)
            self._left -= number
            self._run_batch(base, count, first, number)
            ahead = len(packet)

    def _run_batch(self, base: int, count: int, first: int, number: int) -> None:
        """Work on neighbouring descriptors; the head stays at the packet that has not ended, or is at fault."""
        memory, packet, send = self._memory, self._packet, self._send
        at = base + DESCRIPTOR * first
        start, room, octets, status = self._mapped(at, DESCRIPTOR * number)
        place, written, spent = 0, list[int](), False
        try:
            for low, high in PAIR.iter_unpack(memory.read(at, DESCRIPTOR * number)):
                length, offset = high & _LENGTH, low - start
                if high & _KIND_AND_MORE != _PLAIN or packet:
                    self._take(low, high)
                    spent = self._left <= 0 and not packet  # by segments: the rest of the batch has to wait
                elif 0 <= offset <= room - length and SHORTEST_FRAME <= length <= LONGEST_FRAME:
                    send(octets[offset : offset + length].tobytes())
                else:
                    send(_padded(bytes(memory.read(low, _checked(length)))))
                if high & _RS:
                    written.append(place)
                place += 1
                if spent:
                    break
        finally:
            octets.release()
            self.ring.head = (first + place - len(packet)) % count
            if written:
                self._write_back(at, written, status)
            status.release()
        if written:
            self._done(self.ring.queue)

    def _mapped(self, at: int, length: int) -> tuple[int, int, memoryview, memoryview]:
        """Return the region around descriptors, if any: its start, its length, it, and theirs as 32-bit words."""
        region = None if self._direct is None else self._direct.region(at)
        if region is None or at + length > region.end:
            return 0, -1, memoryview(b""), memoryview(b"")
        offset = at - region.start
        return region.start, region.end - region.start, region.octets, region.octets[offset : offset + length].cast("I")

    def _write_back(self, at: int, written: list[int], status: memoryview) -> None:
        """Mark descriptors as done, or the head.

        :param at: the address of the first of the batch, and `status` itself and those behind it, if they are mapped.
        """
        words, low = self.ring.words, self.ring.words[self._write_back_low]
        if low & _HEAD_WRITE_BACK:
            address = words[self._write_back_high] << 32 | low & ~3
            self._memory.write(address, descriptors.HALF.pack(self.ring.head))
        elif self._direct is not None and status:
            for place in written:
                status[4 * place + 3] = TX_DONE
            self._direct.written(at, DESCRIPTOR * (written[-1] + 1))
        else:
            for place in written:
                self._memory.write(at + DESCRIPTOR * place + TX_DONE_OFFSET, descriptors.HALF.pack(TX_DONE))

    def _take(self, low: int, high: int) -> None:
        """Take a descriptor of a packet with more than one, or with offloads, or of none."""
        if high & _KIND_MASK == _DATA:
            self._gather(low, high)
        else:
            self._remember(low, high)

    def _remember(self, low: int, high: int) -> None:
        """Take a descriptor that holds no data."""
        if high & _KIND_MASK != descriptors.KIND_CONTEXT or self._packet:
            raise QueueFaultError(QueueFault.DESCRIPTOR, f"{high & 0xFFFFFFFF:#010x}")
        index = high >> descriptors.IDX_SHIFT & descriptors.IDX_MASK
        if index >= CONTEXTS:
            raise QueueFaultError(QueueFault.CONTEXT, f"there is no context {index}")
        self.contexts[index] = low, high

    def _gather(self, low: int, high: int) -> None:
        """Take one of a packet's descriptors, and send the packet if it is the last."""
        packet = self._packet
        if not high & _EOP:
            if len(packet) == MOST_DESCRIPTORS - 1:
                raise QueueFaultError(QueueFault.CHAIN, f"{MOST_DESCRIPTORS}, and no end")
            packet.append((low, high))
            return
        whole = [*packet, (low, high)]
        command = whole[0][1]  # the first says what is to be done with the packet
        length = sum(high & _LENGTH for _, high in whole)
        segmented = bool(command & descriptors.DCMD_TSE)
        if not SHORTEST_PACKET <= length <= (LONGEST_PACKET if segmented else LONGEST_FRAME):
            raise QueueFaultError(QueueFault.LENGTH, f"{length} octets")
        data = b"".join([self._memory.read(low, high & _LENGTH) for low, high in whole])
        if segmented:
            self._send_segments(data, command)
        else:
            self._send_one(data, command)
        packet.clear()

    def _send_segments(self, data: bytes, command: int) -> None:
        context = self._context(command)
        for frame in segments(data, context, command >> descriptors.PAYLEN_SHIFT, LONGEST_FRAME):
            self._left -= 1
            self._send(_padded(insert_vlan(frame, context.vlan) if command & descriptors.DCMD_VLE else frame))

    def _send_one(self, data: bytes, command: int) -> None:
        if command & _OFFLOADS:
            context = self._context(command)
            if command & descriptors.POPTS_MASK:
                frame = bytearray(data)
                ip, l4 = bool(command & descriptors.POPTS_IXSM), bool(command & descriptors.POPTS_TXSM)
                if l4 and context.l4_type is L4Type.SCTP:
                    self._left -= len(frame) >> 6
                insert_checksums(frame, context, ip=ip, l4=l4)
                data = bytes(frame)
            if command & descriptors.DCMD_VLE:
                data = insert_vlan(data, context.vlan)
        self._send(_padded(data))

    def _context(self, command: int) -> Context:
        """Return the context that a packet asks for."""
        index = command >> descriptors.IDX_SHIFT & descriptors.IDX_MASK
        words = self.contexts[index] if index < CONTEXTS else None
        if words is None or command & descriptors.POPTS_IPSEC:
            raise QueueFaultError(QueueFault.CONTEXT, f"no context {index}, or IPsec, for {command:#x}")
        return Context.decode(*words)


def _checked(length: int) -> int:
    """Return the length of a packet in one buffer, if it is one that a packet can have."""
    if not SHORTEST_PACKET <= length <= LONGEST_FRAME:
        raise QueueFaultError(QueueFault.LENGTH, f"{length} octets")
    return length


def _padded(frame: bytes) -> bytes:
    return frame.ljust(SHORTEST_FRAME, b"\0")
