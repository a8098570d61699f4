# SPDX-License-Identifier: Apache-2.0
"""Frames a second through the rings of a VF of the software 82599, in memory.

The floor walks a ring: both words of each descriptor by a ``memoryview.cast("Q")``, and on to the next, around.
Beside it the least that a device must do, written out in one loop without any check (descriptor, copy of a frame of 64
octets with FCS, DD); then the queues themselves, which check every address: to a sink that does nothing, and from guest
to guest through switch, checksums and descriptors at both ends, where the guests' own work is not counted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from bench import rates
from bench.rates import Size, Work
from bench.veb import address, programmed
from vferry.nic.ixgbe import pci_config
from vferry.nic.ixgbe.guest_memory import DmaError, Region
from vferry.nic.ixgbe.hardware import Ixgbe82599
from vferry.nic.ixgbe.registers import vf

RING: Final = 512
BATCH: Final = 256
FRAME: Final = 60
BASE: Final = 0x1_0000_0000
SIZE: Final = 0x40_0000
_DATA: Final = 0x20300000 | 1 << 24 | 1 << 25
_RS: Final = 1 << 27
_CONTEXT: Final = 0x20200000
_RECEIVE_AT: Final = 0x1_0000
_BUFFERS_AT: Final = 0x10_0000
_FRAMES_AT: Final = 0x30_0000
_BUFFER: Final = 2048

FLOOR: Final = "walk of a ring"
LOOP: Final = "ring, frame, DD: one loop, unchecked"
SEND: Final = "transmit queue: ring, frame, DD"
SEND_CONTEXT: Final = "transmit queue, a context before each frame, as ixgbevf"
THROUGH: Final = "guest to guest, 60 octets"
THROUGH_LARGE: Final = "guest to guest, UDP of 1400 octets, checksums"


def works() -> list[Work]:
    """Return the floor, the loop, one queue by itself, and two guests."""
    return [
        Work(FLOOR, _Bench().walk),
        Work(LOOP, _Bench().loop, FLOOR),
        Work(SEND, _Sender(context=False).send, FLOOR),
        Work(SEND_CONTEXT, _Sender(context=True).send, FLOOR),
        Work(THROUGH, _Pair(_plain()).send, FLOOR),
        Work(THROUGH_LARGE, _Pair(_udp(1400)).send, FLOOR),
    ]


def measure(seconds: float, rounds: int = 5) -> dict[str, float]:
    """Return what each contender reaches of the floor; `seconds` of processor time for each turn."""
    todo = works()
    found = rates.measure(todo, Size(rounds, seconds))
    return {work.name: rates.ratio(found, work.name, work.floor) for work in todo if work.floor is not None}


class _Memory:
    def __init__(self) -> None:
        self.octets = bytearray(SIZE)
        self._view = memoryview(self.octets)

    def read(self, address: int, length: int, /) -> memoryview:
        at = address - BASE
        if at < 0 or at + length > SIZE:
            raise DmaError(address, length, "not mapped")
        return self._view[at : at + length]

    def write(self, address: int, data: bytes, /) -> None:
        at = address - BASE
        if at < 0 or at + len(data) > SIZE:
            raise DmaError(address, len(data), "not mapped")
        self.octets[at : at + len(data)] = data

    def region(self, _address: int, /) -> Region:
        return Region(BASE, BASE + SIZE, memoryview(self.octets))

    def written(self, _address: int, _length: int, /) -> None:
        pass


class _Bench:
    """A ring full of descriptors of one frame each."""

    def __init__(self, frame: bytes = b"", *, context: bool = False) -> None:
        self.memory = _Memory()
        frame = frame or _plain()
        for place in range(RING):
            at = _FRAMES_AT + _BUFFER * (place % 256)
            self.memory.octets[at : at + len(frame)] = frame
            low, high = BASE + at, _DATA | _RS | len(frame) | len(frame) << 46 | 1 << 39
            if context and not place & 1:
                low, high = 14 << 9 | 20, _CONTEXT
            elif context:
                high |= 1 << 41 if len(frame) > FRAME else 0
            struct.pack_into("<QQ", self.memory.octets, 16 * place, low, high)
        self._view = memoryview(self.memory.octets)

    def walk(self) -> int:
        words, place, found = self._view.cast("Q"), 0, 0
        for _ in range(RING):
            low, high = words[2 * place], words[2 * place + 1]
            place = place + 1 if place + 1 < RING else 0
            if high & _RS:
                found = low
        assert found
        return RING

    def loop(self) -> int:
        octets, words, halves = self._view, self._view.cast("Q"), self._view.cast("I")
        place, taken = 0, list[bytes]()
        for _ in range(RING):
            low, high = words[2 * place] - BASE, words[2 * place + 1]
            taken.append(bytes(octets[low : low + (high & 0xFFFF)]))
            if high & _RS:
                halves[4 * place + 3] |= 1
            place = place + 1 if place + 1 < RING else 0
        return len(taken)


class _Sender(_Bench):
    """A VF whose frames go nowhere."""

    def __init__(self, frame: bytes = b"", *, context: bool) -> None:
        super().__init__(frame, context=context)
        self.device = Ixgbe82599(now=float, permanent_address=b"\x02\0\0\0\0\xfe", pools=2)
        for offset, value in programmed().items():
            self.device.bar.poke(offset, value)
        self.device.switch.changed()
        self.device.vf_config_write(0, pci_config.COMMAND, 2, pci_config.COMMAND_BUS_MASTER)
        self._taken: list[bytes] = []
        queues = self.device.attach_memory(0, self.memory)
        if type(self) is _Sender:
            queues._senders[0]._send = self._taken.append  # type: ignore[misc]  # noqa: SLF001
        self.bar = self.device.vf_bar(0)
        self._per_frame = 2 if context else 1
        enable_transmit(self.bar.write)

    def send(self) -> int:
        """Two doorbells, half of the ring each."""
        self._taken.clear()
        for tail in (RING // 2, 0):
            self.bar.write(vf.VFTDT.address(0), tail)
        assert not self.device.queues(0).faults
        return RING // self._per_frame


class _Pair(_Sender):
    """Two guests; the receiver gives its buffers back by writing its tail, and no more."""

    def __init__(self, frame: bytes) -> None:
        super().__init__(frame, context=True)
        self.device.vf_config_write(1, pci_config.COMMAND, 2, pci_config.COMMAND_BUS_MASTER)
        other = _Memory()
        self.device.attach_memory(1, other)
        self._other = self.device.vf_bar(1)
        ring = b"".join(struct.pack("<QQ", BASE + _BUFFERS_AT + _BUFFER * place, 0) for place in range(RING))
        self._ring = ring
        self._octets = other.octets
        write = self._other.write
        write(vf.VFRDBAL.address(0), BASE + _RECEIVE_AT & 0xFFFFFFFF)
        write(vf.VFRDBAH.address(0), BASE >> 32)
        write(vf.VFRDLEN.address(0), 16 * RING)
        write(vf.VFSRRCTL.address(0), vf.SRRCTL_DROP_EN | 1 << 25 | _BUFFER >> 10)
        write(vf.VFRXDCTL.address(0), vf.RXDCTL_ENABLE | vf.RXDCTL_VME)

    def send(self) -> int:
        self._octets[_RECEIVE_AT : _RECEIVE_AT + len(self._ring)] = self._ring
        head = self._other.peek(vf.VFRDH.address(0))
        self._other.write(vf.VFRDT.address(0), (head - 1) % RING)
        before = self.device.counters.rx_packets[1]
        count = super().send()
        # DTALEN and buffers of the sender's descriptors stand: only DD was written over.
        assert self.device.counters.rx_packets[1] - before == count
        return count


def enable_transmit(write: Callable[[int, int], None]) -> None:
    """Set up queue 0 over a ring at :data:`BASE`."""
    write(vf.VFTDBAL.address(0), BASE & 0xFFFFFFFF)
    write(vf.VFTDBAH.address(0), BASE >> 32)
    write(vf.VFTDLEN.address(0), 16 * RING)
    write(vf.VFTXDCTL.address(0), vf.TXDCTL_ENABLE)


def _plain() -> bytes:
    return (address(1) + address(0) + b"\x88\xb5").ljust(FRAME, b"\x5a")


def _udp(size: int) -> bytes:
    data = struct.pack(">HHHH", 1, 2, 8 + size, 0) + bytes(size)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(data), 0, 0, 64, 17, 0) + bytes((10, 0, 0, 1, 10, 0, 0, 2))
    return address(1) + address(0) + b"\x08\x00" + head + data


def main(seconds: float = 0.2) -> None:
    """Print what each contender reaches of the floor."""
    for name, share in measure(seconds).items():
        print(f"{share:.3f}  {name}")


if __name__ == "__main__":
    main()
