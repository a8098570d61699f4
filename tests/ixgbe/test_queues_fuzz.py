# SPDX-License-Identifier: Apache-2.0
"""Guests that write nonsense: the device neither fails, nor goes on for ever, nor reaches outside of their memory."""

from __future__ import annotations

import functools
import struct

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ixgbe.queues_rig import BASE, IP4, IP6, SIZE, Pair, ethernet, ipv4, ipv6, tcp, udp
from vferry.nic.ixgbe import transmit
from vferry.nic.ixgbe.packet import check, parse
from vferry.nic.ixgbe.queue_state import QueueState, QueueStateError
from vferry.nic.ixgbe.registers import vf

pytestmark = pytest.mark.fuzz

ADDRESSES = st.one_of(
    st.integers(BASE, BASE + SIZE - 1),
    st.sampled_from([0, BASE - 1, BASE + SIZE - 1, BASE + SIZE, (1 << 64) - 1, 1 << 63]),
    st.integers(0, (1 << 64) - 1),
)
LENGTHS = st.one_of(st.sampled_from([0, 1, 13, 14, 17, 60, 1514, 9724, 16384, 65535]), st.integers(0, 65535))
FLAGS = st.integers(0, 0xFF).map(lambda bits: bits << 24)
DATA = st.builds(
    lambda address, length, flags, olinfo, payload: struct.pack(
        "<QII", address, 0x20300000 | flags | length, (olinfo & 0x3FFF) | payload << 14 & 0xFFFFFFFF
    ),
    ADDRESSES,
    LENGTHS,
    FLAGS,
    st.integers(0, 0x3FFF),
    st.integers(0, (1 << 18) - 1),
)
CONTEXT = st.builds(
    lambda mac, ip, vlan, tucmd, tcp_length, mss, idx: struct.pack(
        "<IIII", vlan << 16 | mac << 9 | ip, 0, 0x20200000 | tucmd << 10, mss << 16 | tcp_length << 8 | idx << 4
    ),
    st.sampled_from([0, 13, 14, 18, 127]),
    st.sampled_from([0, 19, 20, 40, 100, 511]),
    st.integers(0, 0xFFFF),
    st.integers(0, 7),
    st.sampled_from([0, 8, 19, 20, 32, 60, 255]),
    st.sampled_from([0, 1, 8, 1448, 9000, 65535]),
    st.integers(0, 3),
)
DESCRIPTORS = st.lists(st.one_of(DATA, CONTEXT, st.binary(min_size=16, max_size=16)), max_size=24)
REGISTERS = [
    *(item.address(queue) for queue in (0, 1) for item in vf.VF_MAP if item.count == vf.VF_QUEUES),
    *(offset for item in (vf.VTIVAR, vf.VTEITR) for offset in item.addresses),
    *(item.offset for item in (vf.VTEIMS, vf.VTEIMC, vf.VTEIAM, vf.VTEIAC, vf.VTEICS, vf.VFPSRTYPE)),
]
VALUES = st.one_of(
    st.sampled_from([0, 1, 63, 64, 1024, 1 << 25, 0x02000002, 0xFFFFFFFF, BASE & 0xFFFFFFFF, BASE >> 32]),
    st.integers(0, 0xFFFFFFFF),
)
WRITES = st.lists(st.tuples(st.sampled_from(REGISTERS), VALUES), max_size=12)
FRAMES = st.one_of(
    st.binary(min_size=14, max_size=200),
    st.builds(
        lambda payload, kind, at, octet, size: ethernet(
            b"\x02\0\0\0\0\x40", b"\x06" * 6, _mutated(payload, at, octet), kind
        )[: 14 + size],
        st.sampled_from(
            [
                ipv4(tcp(b"x" * 40, IP4), 6),
                ipv4(udp(b"x" * 40, IP4), 17, options=b"\x01" * 40),
                ipv4(b"x" * 40, 132),
                ipv6(b"\x06\x01" + bytes(14) + tcp(b"x" * 40, IP6), 0),
                ipv6(udp(b"x" * 40, IP6), 17),
                b"\0\x05\x08\0" + ipv4(tcp(b"", IP4), 6),
            ]
        ),
        st.sampled_from([0x800, 0x86DD, 0x8100]),
        st.integers(0, 60),
        st.integers(0, 255),
        st.integers(0, 200),
    ),
)


def _mutated(data: bytes, at: int, octet: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([octet]) + data[at + 1 :]


def nothing_else_is_wrong(pair: Pair) -> None:
    """The other guest's queues still work, both ways, and what is counted stays small."""
    other = pair.guests[1]
    for queues in map(pair.rig.hw.queues, range(2)):
        assert len(queues.faults) < 100
        assert len(queues.drops) < 100
    other.received.clear()
    other.clean_rx()
    count = len(other.received)
    pair.rig.hw.receive(ethernet(other.mac, b"\x06" * 6, bytes(60), 0x88B5))
    other.clean_rx()
    assert len(other.received) == count + 1
    other.clean_tx()
    wire = len(pair.wire)
    other.send(ethernet(b"\x06" * 6, other.mac, bytes(60), 0x88B5))
    assert other.clean_tx() == 1
    assert len(pair.wire) == wire + 1


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(DESCRIPTORS, st.integers(0, 63), st.booleans())
def test_any_transmit_descriptors(descriptors: list[bytes], tail: int, to_other: bool) -> None:
    pair = Pair()
    guest, other = pair.guests
    header = (other.mac if to_other else b"\x06" * 6) + guest.mac
    for at in range(0, SIZE, 0x40_000):
        guest.memory.octets[at + 0x3_0000 : at + 0x3_000C] = header
    ring = guest.ring(0, tx=True)
    image = b"".join(descriptors)
    guest.memory.octets[ring : ring + len(image)] = image
    guest.memory.writes = []
    sent = pair.rig.hw.counters.tx_packets[0]
    guest.bar.write(vf.VFTDT.address(0), tail)
    assert pair.rig.hw.counters.tx_packets[0] - sent <= transmit.WORK + 8192
    assert {address - BASE - ring & 15 for address, _ in guest.memory.writes if address < BASE + ring + 0x1000} <= {12}
    nothing_else_is_wrong(pair)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(WRITES, DESCRIPTORS, FRAMES, st.binary(max_size=64))
def test_any_registers(writes: list[tuple[int, int]], descriptors: list[bytes], frame: bytes, ring: bytes) -> None:
    pair = Pair(queues=2)
    guest = pair.guests[0]
    image = b"".join(descriptors)
    guest.memory.octets[guest.ring(0, tx=True) : guest.ring(0, tx=True) + len(image)] = image
    guest.memory.octets[guest.ring(0, tx=False) : guest.ring(0, tx=False) + len(ring)] = ring
    for number, (offset, value) in enumerate(writes):
        guest.bar.write(offset, value)
        if number % 3 == 0:
            pair.rig.hw.receive(guest.mac + frame[6:])
            pair.rig.advance(1e-3)
            pair.rig.hw.service()
    state = pair.rig.hw.queue_state(0)
    pair.rig.hw.load_queue_state(0, state)
    assert pair.rig.hw.queue_state(0) == state
    pair.rig.hw.kick(0)
    nothing_else_is_wrong(pair)


@given(FRAMES)
def test_any_frame_is_parsed(frame: bytes) -> None:
    if len(frame) >= 14:
        packet = parse(frame)
        check(frame, packet)
        assert packet.ip <= packet.l4 or not packet.l4
        assert packet.end <= len(frame)


@functools.cache
def one_vf() -> tuple[Pair, QueueState]:
    pair = Pair(1)
    return pair, pair.rig.hw.queue_state(0)


@given(
    st.sampled_from(["rdh", "rdlen", "srrctl"]), st.integers(-5, 1 << 33), st.integers(-5, 1 << 33), st.integers(-1, 9)
)
def test_any_numbers_in_a_state(name: str, value: int, left: int, held: int) -> None:
    pair, before = one_vf()
    pair.rig.hw.load_queue_state(0, before)
    before = pair.rig.hw.queue_state(0)
    replace = msgspec.structs.replace
    receive = tuple(replace(one, **{name: value}) for one in before.receive)
    interrupts = replace(before.interrupts, remaining=(left, 0, 0), held=held)
    state = replace(before, receive=receive, interrupts=interrupts)
    try:
        pair.rig.hw.load_queue_state(0, state)
    except QueueStateError:
        assert pair.rig.hw.queue_state(0) == before
        return
    pair.rig.hw.kick(0)
    pair.rig.hw.receive(ethernet(pair.guests[0].mac, b"\x06" * 6, bytes(60)))
