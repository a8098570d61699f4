# SPDX-License-Identifier: Apache-2.0
"""Frames into a guest's buffers: buffers, tags, checksums, and what happens where there is no room."""

from __future__ import annotations

import random
import struct

import pytest

from tests.ixgbe.queues_rig import BASE, IP4, IP6, Pair, crc32c_bitwise, ethernet, ipv4, ipv6, tcp, udp
from vferry.nic.ixgbe.descriptors import PacketType
from vferry.nic.ixgbe.receive import QueueDrop
from vferry.nic.ixgbe.registers import pf, vf
from vferry.nic.ixgbe.rings import QueueFault

IPCS, L4CS, UDPCS, VP, EOP, DD = 0x40, 0x20, 0x10, 8, 2, 1
TCPE, IPE = 1 << 30, 1 << 31


def receive(pair: Pair, payload: bytes, kind: int = 0x0800) -> None:
    pair.rig.hw.receive(ethernet(pair.guests[0].mac, b"\x06" * 6, payload, kind))


def status(payload: bytes, kind: int = 0x0800) -> tuple[int, int]:
    """Status without DD and EOP, and packet type."""
    pair = Pair(1)
    receive(pair, payload, kind)
    assert pair.guests[0].clean_rx() == 1
    got = pair.guests[0].received[0]
    assert got.status & 3 == 3
    return got.status & ~3, got.info


def broken(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def sctp(data: bytes) -> bytes:
    head = struct.pack(">HHII", 1, 2, 3, 0)
    return head[:8] + crc32c_bitwise(head + data).to_bytes(4, "little") + data


T = PacketType
PAYLOAD = b"payload" * 11


@pytest.mark.parametrize(
    ("payload", "kind", "bits", "type_"),
    [
        (ipv4(tcp(PAYLOAD, IP4), 6), 0x0800, IPCS | L4CS, T.IPV4 | T.TCP),
        (ipv4(udp(PAYLOAD, IP4), 17), 0x0800, IPCS | L4CS | UDPCS, T.IPV4 | T.UDP),
        (ipv4(udp(PAYLOAD + b"odd", IP4), 17), 0x0800, IPCS | L4CS | UDPCS, T.IPV4 | T.UDP),
        (ipv4(sctp(PAYLOAD), 132), 0x0800, IPCS | L4CS, T.IPV4 | T.SCTP),
        (ipv4(tcp(PAYLOAD, IP4), 6, options=b"\x01" * 8), 0x0800, IPCS | L4CS, T.IPV4 | T.IPV4_EX | T.TCP),
        (ipv6(tcp(PAYLOAD, IP6), 6), 0x86DD, L4CS, T.IPV6 | T.TCP),
        (ipv6(udp(PAYLOAD, IP6), 17), 0x86DD, L4CS | UDPCS, T.IPV6 | T.UDP),
        (ipv6(b"\x06\0" + bytes(6) + tcp(PAYLOAD, IP6), 0), 0x86DD, L4CS, T.IPV6 | T.IPV6_EX | T.TCP),
        (ipv6(b"\x06\0" + bytes(6) + tcp(PAYLOAD, IP6), 44), 0x86DD, 0, T.IPV6 | T.IPV6_EX),
        (broken(ipv4(tcp(PAYLOAD, IP4), 6), 8), 0x0800, IPCS | L4CS | IPE, T.IPV4 | T.TCP),
        (broken(ipv4(tcp(PAYLOAD, IP4), 6), 60), 0x0800, IPCS | L4CS | TCPE, T.IPV4 | T.TCP),
        (broken(ipv4(udp(PAYLOAD, IP4), 17), 60), 0x0800, IPCS | L4CS | UDPCS | TCPE, T.IPV4 | T.UDP),
        (broken(ipv4(sctp(PAYLOAD), 132), 60), 0x0800, IPCS | L4CS | TCPE, T.IPV4 | T.SCTP),
        (broken(ipv6(tcp(PAYLOAD, IP6), 6), 70), 0x86DD, L4CS | TCPE, T.IPV6 | T.TCP),
        (ipv4(udp(PAYLOAD, IP4)[:6] + b"\0\0" + PAYLOAD, 17), 0x0800, IPCS, T.IPV4 | T.UDP),
        (ipv4(PAYLOAD, 6, fragment=0x2000), 0x0800, IPCS, T.IPV4),
        (ipv4(PAYLOAD, 6, fragment=100), 0x0800, IPCS, T.IPV4),
        (ipv4(b"", 1), 0x0800, IPCS, T.IPV4),
        (ipv4(b"short", 6), 0x0800, IPCS, T.IPV4),
        (ipv4(tcp(PAYLOAD, IP4), 6)[:-1], 0x0800, 0, T.NONE),
        (b"\x4f" + bytes(50), 0x0800, 0, T.NONE),
        (b"\x44" + bytes(50), 0x0800, 0, T.NONE),
        (bytes(46), 0x86DD, 0, T.NONE),
        (PAYLOAD, 0x88B5, 0, T.NONE),
    ],
)
def test_type_and_checksum_bits(payload: bytes, kind: int, bits: int, type_: PacketType) -> None:
    assert status(payload, kind) == (bits, type_)
    tagged = struct.pack(">HH", 5, kind) + payload
    pair = Pair(1)
    receive(pair, tagged, 0x8100)
    pair.guests[0].clean_rx()
    (got,) = pair.guests[0].received
    assert (got.status & ~3, got.info, got.vlan) == (bits | VP, type_, 5)


def test_a_long_crc_and_one_for_many_are_left_to_the_guest() -> None:
    pair = Pair(1, mtu=9000)
    packets = [ipv4(sctp(bytes(size)), 132) for size in (1488, 1489)]
    for packet in packets:
        receive(pair, packet)
    pair.rig.hw.receive(ethernet(b"\xff" * 6, b"\x06" * 6, packets[0]))
    pair.guests[0].clean_rx()
    assert [got.status & ~3 for got in pair.guests[0].received] == [IPCS | L4CS, IPCS, IPCS]


def test_padding_is_no_part_of_the_packet() -> None:
    assert status(ipv4(udp(b"x", IP4), 17).ljust(46, b"\xaa")) == (IPCS | L4CS | UDPCS, T.IPV4 | T.UDP)


def test_a_tag_is_stripped_with_vme_only() -> None:
    pair = Pair(1)
    guest = pair.guests[0]
    data = struct.pack(">HH", 3 << 13 | 5, 0x88B5) + PAYLOAD
    receive(pair, data, 0x8100)
    control = vf.VFRXDCTL.address(0)
    guest.bar.write(control, guest.bar.read(control) & ~vf.RXDCTL_VME)
    receive(pair, data, 0x8100)
    receive(pair, PAYLOAD, 0x88B5)
    guest.clean_rx()
    plain = ethernet(guest.mac, b"\x06" * 6, PAYLOAD, 0x88B5)
    assert [(got.frame, got.vlan) for got in guest.received] == [
        (plain, 3 << 13 | 5),
        (ethernet(guest.mac, b"\x06" * 6, data, 0x8100), None),
        (plain, None),
    ]


@pytest.mark.parametrize("size", [1486, 2033, 2034, 2035, 4082, 4083, 8986])
def test_a_jumbo_frame_fills_several_buffers(size: int) -> None:
    pair = Pair(2, mtu=9000)
    one, other = pair.guests
    for number in range(50):
        frame = ethernet(other.mac, one.mac, random.Random(number).randbytes(size), 0x88B5)
        one.send(frame, pieces=(3000, 3000))
        assert (one.clean_tx(), other.clean_rx()) == (1, 1)
        got = other.received.pop()
        assert got.frame == frame
        assert got.buffers == -(-len(frame) // 2048)


def test_data_first_then_the_low_word_then_the_high_one() -> None:
    pair = Pair(1, mtu=9000)
    guest = pair.guests[0]
    guest.memory.writes = []
    receive(pair, bytes(3000), 0x88B5)
    buffers = [BASE + guest.buffer(0, place) for place in (0, 1)]
    ring = BASE + guest.ring(0, tx=False)
    assert [(address, len(data)) for address, data in guest.memory.writes] == [
        (buffers[0], 2048),
        (buffers[1], 966),
        (ring, 8),
        (ring + 8, 8),
        (ring + 16, 8),
        (ring + 24, 8),
    ]


def test_without_room_frames_are_dropped_and_not_counted_as_received() -> None:
    pair = Pair(1, rx=8)
    guest = pair.guests[0]
    for number in range(10):
        receive(pair, bytes([number]) * 60, 0x88B5)
    group = ethernet(bytes.fromhex("ffffffffffff"), b"\x06" * 6, PAYLOAD)
    pair.rig.hw.receive(group)
    queues = pair.rig.hw.queues(0)
    assert queues.drops == {(QueueDrop.NO_DESCRIPTOR, 0): 4}
    counted = [guest.bar.read(item.offset) for item in (vf.VFGPRC, vf.VFGORC_LSB, vf.VFMPRC)]
    assert counted == [7, 7 * 78, 0]
    assert guest.clean_rx() == 7
    receive(pair, b"again" * 12, 0x88B5)
    assert guest.clean_rx() == 1
    assert guest.bar.read(vf.VFGPRC.offset) == 8


def test_multicast_is_counted_as_such() -> None:
    pair = Pair(1)
    pair.rig.ask(0, 12, 2)  # all multicast, which becomes multicast
    pair.rig.hw.write(pf.VMOLR.address(0), pair.rig.hw.peek(pf.VMOLR.address(0)) | pf.VMOLR_MPE)
    group = ethernet(bytes.fromhex("01005e000001"), b"\x06" * 6, PAYLOAD)
    pair.rig.hw.receive(group)
    assert pair.guests[0].bar.read(vf.VFMPRC.offset) == 1
    control = vf.VFRXDCTL.address(0)
    pair.guests[0].bar.write(control, 0)
    pair.rig.hw.receive(group)
    assert pair.guests[0].bar.read(vf.VFMPRC.offset) == 1
    assert pair.rig.hw.queues(0).drops == {(QueueDrop.DISABLED, 0): 1}


@pytest.mark.parametrize(
    ("register", "value", "fault"),
    [
        (vf.VFSRRCTL, 1 << 25, QueueFault.BUFFER),
        (vf.VFSRRCTL, 2, QueueFault.BUFFER),
        (vf.VFSRRCTL, 5 << 25 | 2, QueueFault.BUFFER),
        (vf.VFRDT, 64, QueueFault.RING),
        (vf.VFRDLEN, 24, QueueFault.RING),
        (vf.VFRDBAH, 7, QueueFault.MEMORY),
    ],
)
def test_bad_registers_disable_the_queue(register: object, value: int, fault: QueueFault) -> None:
    pair = Pair(1)
    bar = pair.guests[0].bar
    bar.write(register.address(0), value)  # type: ignore[attr-defined]
    receive(pair, PAYLOAD)
    receive(pair, PAYLOAD)
    queues = pair.rig.hw.queues(0)
    assert queues.faults == {(fault, "rx", 0): 1}
    assert queues.drops == {(QueueDrop.FAULT, 0): 1, (QueueDrop.DISABLED, 0): 1}
    assert pair.rig.hw.peek(pf.WQBR_RX.address(0)) == 1
    pair.guests[0].configure_rx(0)
    bar.write(vf.VFRDBAH.address(0), BASE >> 32)
    receive(pair, PAYLOAD)
    assert pair.guests[0].clean_rx() == 1


def test_a_buffer_outside_of_memory() -> None:
    pair = Pair(1)
    guest = pair.guests[0]
    at = guest.ring(0, tx=False) + 16
    guest.memory.octets[at : at + 8] = b"\xff" * 8
    for _ in range(3):
        receive(pair, PAYLOAD)
    assert pair.rig.hw.queues(0).faults == {(QueueFault.MEMORY, "rx", 0): 1}
    assert guest.clean_rx() == 1
    assert guest.bar.read(vf.VFRDH.address(0)) == 1


def test_a_ring_that_is_not_there_takes_nothing() -> None:
    pair = Pair(1)
    pair.guests[0].bar.write(vf.VFRDLEN.address(0), 0)
    receive(pair, PAYLOAD)
    queues = pair.rig.hw.queues(0)
    assert (queues.faults, queues.drops) == ({}, {(QueueDrop.NO_DESCRIPTOR, 0): 1})
