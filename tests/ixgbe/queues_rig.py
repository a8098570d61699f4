# SPDX-License-Identifier: Apache-2.0
"""Two guests with rings in memory, as ixgbevf keeps them, and checksums worked out word by word."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from tests.ixgbe.driver_rig import Rig
from vferry.nic.ixgbe import pci_config
from vferry.nic.ixgbe.guest_memory import DmaError, GuestMemory, Region
from vferry.nic.ixgbe.registers import pf, vf
from vferry.nic.ixgbe.vf_driver.queues import TXDCTL_ON

BASE = 0x1_2340_0000
"""Above 4 GiB: the high halves of addresses are used."""
SIZE = 0x40_0000
RX_BUFFERS = 0x10_0000
TX_BUFFERS = 0x30_0000
ALL_VECTORS = 7

CONTEXT = 0x20200000
DATA = 0x20300000
IFCS, EOP, RS, VLE, TSE = 1 << 25, 1 << 24, 1 << 27, 1 << 30, 1 << 31
CC, IXSM, TXSM = 1 << 7, 1 << 8, 1 << 9
PER_DESCRIPTOR = 1 << 14
"""What ixgbevf puts in one descriptor (IXGBE_MAX_DATA_PER_TXD)."""


class Memory(GuestMemory):
    """A piece of memory at :data:`BASE`; reads are views of it."""

    def __init__(self, size: int = SIZE) -> None:
        self.octets = bytearray(size)
        self.view = memoryview(self.octets)
        self.writes: list[tuple[int, bytes]] | None = None
        self.dirty: set[int] = set()

    def _at(self, address: int, length: int) -> int:
        at = address - BASE
        if at < 0 or at + length > len(self.octets):
            raise DmaError(address, length, "not mapped")
        return at

    def read(self, address: int, length: int, /) -> memoryview:
        at = self._at(address, length)
        return self.view[at : at + length]

    def write(self, address: int, data: bytes, /) -> None:
        at = self._at(address, len(data))
        self.octets[at : at + len(data)] = data
        self.dirty.update(range(at >> 12, (at + len(data) + 0xFFF) >> 12))
        if self.writes is not None:
            self.writes.append((address, data))


class Mapped(Memory):
    """The same, which may be used without a call."""

    def __init__(self, size: int = SIZE) -> None:
        super().__init__(size)
        self.told: list[tuple[int, int]] = []

    def region(self, address: int, /) -> Region | None:
        at = address - BASE
        return Region(BASE, BASE + len(self.octets), self.view[:]) if 0 <= at < len(self.octets) else None

    def written(self, address: int, length: int, /) -> None:
        self.told.append((address, length))


class Received(NamedTuple):
    frame: bytes
    vlan: int | None
    status: int
    info: int
    hash: int
    queue: int
    buffers: int


class Checksum(NamedTuple):
    """Where the stack asks for a checksum: what is before the IP header, the IP header, and the protocol (L4T)."""

    mac: int
    ip: int
    l4t: int
    ipv4: bool = True


class Tso(NamedTuple):
    mss: int
    mac: int
    ip: int
    tcp: int
    ipv4: bool = True


class Guest:
    """One VF with `queues` queue pairs; its interrupts clean its rings, unless `polled`."""

    def __init__(
        self, rig: Rig, index: int, *, tx: int = 64, rx: int = 64, kib: int = 2, queues: int = 1, polled: bool = True
    ) -> None:
        self.rig, self.index, self.bar = rig, index, rig.hw.vf_bar(index)
        self.memory = Memory()
        self.tx, self.rx, self.kib, self.queues, self.polled = tx, rx, kib, queues, polled
        self.received: list[Received] = []
        self.interrupts: list[int] = []
        self.mac = b"\x02\0\0\0\0" + bytes([0x40 + index])
        self.rx_next, self.tx_use, self.tx_clean = [0] * queues, [0] * queues, [0] * queues
        self.tx_ends: list[list[tuple[int, int]]] = [[] for _ in range(queues)]
        self._parts: list[list[bytes]] = [[] for _ in range(queues)]
        self._tx_at = TX_BUFFERS
        rig.hw.vf_config_write(index, pci_config.COMMAND, 2, 6)
        rig.hw.attach_memory(index, self.memory)

    # Registers, in ixgbevf's order

    def up(self) -> None:
        write = self.bar.write
        for queue in range(self.queues):
            self.configure_tx(queue)
        write(vf.VFPSRTYPE.offset, 1 << 29 if self.queues > 1 else 0)
        for queue in range(self.queues):
            self.configure_rx(queue)
        for queue in range(self.queues):
            offset, shift = vf.VTIVAR.address(queue // 2), 16 * (queue & 1)
            entry = (0x80 | queue) * 0x101
            write(offset, self.bar.read(offset) & ~(0xFFFF << shift) | entry << shift)
        write(vf.VTIVAR_MISC.offset, 0x82)
        self.bar.read(vf.VTEICR.offset)
        for register in (vf.VTEIAM, vf.VTEIAC, vf.VTEIMS):
            write(register.offset, ALL_VECTORS)

    def ring(self, queue: int, *, tx: bool) -> int:
        return (2 * queue + tx) * 0x1_0000

    def configure_tx(self, queue: int) -> None:
        write, ring = self.bar.write, BASE + self.ring(queue, tx=True)
        write(vf.VFTXDCTL.address(queue), vf.TXDCTL_SWFLSH)
        write(vf.VFTDBAL.address(queue), ring & 0xFFFFFFFF)
        write(vf.VFTDBAH.address(queue), ring >> 32)
        write(vf.VFTDLEN.address(queue), 16 * self.tx)
        write(vf.VFTDWBAH.address(queue), 0)
        write(vf.VFTDWBAL.address(queue), 0)
        write(vf.VFTDH.address(queue), 0)
        write(vf.VFTDT.address(queue), 0)
        write(vf.VFTXDCTL.address(queue), TXDCTL_ON)
        assert self.bar.read(vf.VFTXDCTL.address(queue)) & vf.TXDCTL_ENABLE
        self.tx_use[queue] = self.tx_clean[queue] = 0

    def configure_rx(self, queue: int) -> None:
        write, ring = self.bar.write, BASE + self.ring(queue, tx=False)
        control = vf.VFRXDCTL.address(queue)
        write(control, self.bar.read(control) & ~vf.RXDCTL_ENABLE)
        assert not self.bar.read(control) & vf.RXDCTL_ENABLE
        write(vf.VFRDBAL.address(queue), ring & 0xFFFFFFFF)
        write(vf.VFRDBAH.address(queue), ring >> 32)
        write(vf.VFRDLEN.address(queue), 16 * self.rx)
        write(vf.VFRDH.address(queue), 0)
        write(vf.VFRDT.address(queue), 0)
        write(vf.VFSRRCTL.address(queue), vf.SRRCTL_DROP_EN | 1 << 25 | 4 << 8 | self.kib)
        write(control, self.bar.read(control) | vf.RXDCTL_ENABLE | vf.RXDCTL_VME)
        assert self.bar.read(control) & vf.RXDCTL_ENABLE
        for place in range(self.rx):
            self.fill(queue, place)
        write(vf.VFRDT.address(queue), self.rx - 1)
        self.rx_next[queue] = 0

    # Receive

    def buffer(self, queue: int, place: int) -> int:
        return RX_BUFFERS + (queue * self.rx + place) * (self.kib << 10)

    def fill(self, queue: int, place: int) -> None:
        at = self.ring(queue, tx=False) + 16 * place
        self.memory.octets[at : at + 16] = struct.pack("<QQ", BASE + self.buffer(queue, place), 0)

    def clean_rx(self, queue: int = 0) -> int:
        """Take what is there, give the buffers back; return how many frames."""
        taken = 0
        while True:
            place = self.rx_next[queue]
            at = self.ring(queue, tx=False) + 16 * place
            info, rss, status, length, vlan = struct.unpack_from("<IIIHH", self.memory.octets, at)
            if not length or taken == 4 * self.rx:
                return taken
            assert status & 1
            buffer = self.buffer(queue, place)
            self._parts[queue].append(bytes(self.memory.octets[buffer : buffer + length]))
            self.memory.octets[buffer : buffer + length] = b"\xee" * length
            self.fill(queue, place)
            self.rx_next[queue] = (place + 1) % self.rx
            self.bar.write(vf.VFRDT.address(queue), place)
            if status & 2:
                parts, self._parts[queue] = self._parts[queue], []
                tag = vlan if status & 8 else None
                self.received.append(Received(b"".join(parts), tag, status, info, rss, queue, len(parts)))
                taken += 1

    # Transmit

    def send(
        self,
        frame: bytes,
        *,
        pieces: Sequence[int] = (),
        checksum: Checksum | None = None,
        tso: Tso | None = None,
        vlan: int | None = None,
        queue: int = 0,
        ring: bool = True,
    ) -> None:
        """Map a frame, as `pieces` of so many octets, and tell the device."""
        self.put(queue, *self.context(checksum, tso, vlan))
        header = tso.mac + tso.ip + tso.tcp if tso else 0
        olinfo = (len(frame) - header) << 14 | CC
        olinfo |= IXSM | TXSM | 1 << 4 if tso and tso.ipv4 else TXSM | 1 << 4 if tso else TXSM if checksum else 0
        command = DATA | IFCS | (VLE if vlan is not None else 0) | (TSE if tso else 0)
        cuts = []
        for piece in (*pieces, len(frame)):
            while piece and frame:
                size = min(piece, PER_DESCRIPTOR)
                cuts.append(frame[:size])
                frame, piece = frame[size:], piece - size  # noqa: PLW2901
        first = self.tx_use[queue]
        for number, part in enumerate(cuts):
            last = number == len(cuts) - 1
            word = command | len(part) | (EOP | RS if last else 0) | (olinfo << 32 if not number else 0)
            self.put(queue, self.map(part), word)
        self.tx_ends[queue].append((first, (self.tx_use[queue] - 1) % self.tx))
        if ring:
            self.ring_doorbell(queue)

    def context(self, checksum: Checksum | None, tso: Tso | None, vlan: int | None) -> tuple[int, int]:
        """ixgbevf sends one before each packet."""
        low, high = (vlan or 0) << 16 | 14 << 9, CONTEXT
        if tso:
            low = (vlan or 0) << 16 | tso.mac << 9 | tso.ip
            high |= 1 << 11 | tso.ipv4 << 10 | (1 << 4 | tso.tcp << 8 | tso.mss << 16) << 32
        elif checksum:
            low = (vlan or 0) << 16 | checksum.mac << 9 | checksum.ip
            high |= checksum.l4t << 11 | checksum.ipv4 << 10
        return low, high

    def map(self, data: bytes) -> int:
        """Put data somewhere; return the bus address."""
        if self._tx_at + len(data) > SIZE:
            self._tx_at = TX_BUFFERS
        at, self._tx_at = self._tx_at, self._tx_at + len(data) + 64
        self.memory.octets[at : at + len(data)] = data
        return BASE + at

    def put(self, queue: int, low: int, high: int) -> None:
        """Write one transmit descriptor, at next to use."""
        place = self.tx_use[queue]
        at = self.ring(queue, tx=True) + 16 * place
        self.memory.octets[at : at + 16] = struct.pack("<QQ", low & (1 << 64) - 1, high & (1 << 64) - 1)
        self.tx_use[queue] = (place + 1) % self.tx

    def ring_doorbell(self, queue: int = 0) -> None:
        self.bar.write(vf.VFTDT.address(queue), self.tx_use[queue])

    def clean_tx(self, queue: int = 0) -> int:
        """Free the packets whose last descriptor is done; return how many."""
        ends, done = self.tx_ends[queue], 0
        while ends and self.done(queue, ends[0][1]):
            self.tx_clean[queue] = (ends.pop(0)[1] + 1) % self.tx
            done += 1
        return done

    def done(self, queue: int, place: int) -> bool:
        at = self.ring(queue, tx=True) + 16 * place + 12
        return bool(struct.unpack_from("<I", self.memory.octets, at)[0] & 1)

    # Interrupts

    def interrupt(self, vector: int) -> None:
        self.interrupts.append(vector)
        if not self.polled and vector < self.queues:
            self.clean_tx(vector)
            self.clean_rx(vector)
            self.bar.write(vf.VTEIMS.offset, 1 << vector)


class Pair:
    """A PF with its driver, and guests on its first VFs, each of which the PF gave an address."""

    def __init__(self, number: int = 2, *, mtu: int = 1500, **guest: object) -> None:
        self.rig = Rig(num_vfs=max(number, 2), mtu=mtu)
        # No fields are hashed, so that descriptors say nothing of RSS: test_queues_rss.py has those that do.
        self.rig.hw.write(pf.MRQC.offset, self.rig.hw.peek(pf.MRQC.offset) & pf.MRQC_MRQE_MASK)
        self.guests = [Guest(self.rig, index, **guest) for index in range(number)]  # type: ignore[arg-type]
        self.wire: list[bytes] = []
        self.rig.hw.wire = self.wire.append
        self.rig.hw.on_vf_interrupt = lambda index, vector: self.guests[index].interrupt(vector)
        for guest_ in self.guests:
            admit(self.rig, guest_, mtu)
            guest_.up()


def admit(rig: Rig, guest: Guest, mtu: int) -> None:
    """Let the PF driver know a guest: an address, the reset message, VLAN 5, the frame size."""
    rig.pf.set_vf_mac(guest.index, guest.mac)
    rig.handshake(guest.index)
    rig.ask(guest.index, 4 | 1 << 16, 5)
    rig.ask(guest.index, 5, mtu + 18)


# Packets, and what is right with them: nothing here is shared with the code under test


def words(data: bytes) -> int:
    """The folded one's complement sum (RFC 1071)."""
    total = 0
    for at in range(0, len(data), 2):
        total += data[at] << 8 | (data[at + 1] if at + 1 < len(data) else 0)
        total = (total & 0xFFFF) + (total >> 16)
    return total


def internet_checksum(data: bytes) -> int:
    return ~words(data) & 0xFFFF


def crc32c_bitwise(data: bytes) -> int:
    value = 0xFFFFFFFF
    for octet in data:
        for bit in range(8):
            feedback = (value ^ octet >> bit) & 1
            value = value >> 1 ^ (0x82F63B78 if feedback else 0)
    return value ^ 0xFFFFFFFF


def pseudo(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    if len(source) == 4:
        return source + destination + struct.pack(">BBH", 0, protocol, length)
    return source + destination + struct.pack(">IHBB", length, 0, 0, protocol)


Ends = tuple[bytes, bytes]
IP4 = (bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)))
IP6 = (bytes.fromhex("fd00" + "00" * 13 + "01"), bytes.fromhex("fd00" + "00" * 13 + "02"))


def ipv4(
    payload: bytes, protocol: int, *, ident: int = 7, fragment: int = 0, options: bytes = b"", ends: Ends = IP4
) -> bytes:
    header = struct.pack(
        ">BBHHHBBH4s4s",
        0x45 + len(options) // 4,
        0,
        20 + len(options) + len(payload),
        ident,
        fragment,
        64,
        protocol,
        0,
        *ends,
    )
    header += options
    return header[:10] + struct.pack(">H", internet_checksum(header)) + header[12:] + payload


def ipv6(payload: bytes, protocol: int, *, ends: Ends = IP6) -> bytes:
    return struct.pack(">IHBB16s16s", 0x60000000, len(payload), protocol, 64, *ends) + payload


def udp(data: bytes, ends: Ends, *, seeded: bool = False) -> bytes:
    """`seeded`: the checksum field holds what a stack leaves for the hardware to finish."""
    head = struct.pack(">HHHH", 5000, 7, 8 + len(data), 0)
    return _l4(head, data, 6, 17, ends, seeded)


def tcp(
    data: bytes, ends: Ends, *, seeded: bool = False, seq: int = 1, flags: int = 0x18, length: int | None = None
) -> bytes:
    """`length`: of the pseudo header; 0 for segmentation."""
    head = struct.pack(">HHIIBBHHH", 5000, 7, seq & 0xFFFFFFFF, 99, 0x80, flags, 1000, 0, 0)
    head += b"\x01\x01\x08\x0a" + bytes(range(8))
    return _l4(head, data, 16, 6, ends, seeded, length)


def _l4(head: bytes, data: bytes, at: int, protocol: int, ends: Ends, seeded: bool, length: int | None = None) -> bytes:  # noqa: PLR0917
    before = pseudo(*ends, protocol, len(head) + len(data) if length is None else length)
    value = words(before) if seeded else internet_checksum(before + head + data)
    if protocol == 17 and not seeded and not value:
        value = 0xFFFF
    return head[:at] + struct.pack(">H", value) + head[at + 2 :] + data


def ethernet(destination: bytes, source: bytes, payload: bytes, kind: int = 0x0800) -> bytes:
    return destination + source + struct.pack(">H", kind) + payload
