# SPDX-License-Identifier: Apache-2.0
"""What a guest leaves to the hardware: checksums, segments, tags; held against packets that software made."""

from __future__ import annotations

import random
import struct

import pytest

from tests.ixgbe.queues_rig import (
    CONTEXT,
    IP4,
    IP6,
    Checksum,
    Ends,
    Pair,
    Tso,
    crc32c_bitwise,
    ethernet,
    ipv4,
    ipv6,
    tcp,
    udp,
)
from vferry.nic.ixgbe.offloads import crc32c, ones_sum
from vferry.nic.ixgbe.registers import vf
from vferry.nic.ixgbe.rings import QueueFault

UDP, TCP, SCTP = 0, 1, 2
GOOD_V4, GOOD_V6 = 0x60, 0x20


@pytest.mark.parametrize("size", [1, 2, 63, 1400])
@pytest.mark.parametrize("tag", [None, 5, 3 << 13 | 5])
def test_checksums_are_finished(size: int, tag: int | None) -> None:
    pair = Pair()
    one, other = pair.guests
    data = random.Random(size).randbytes(size)
    cases = [
        (ipv4(tcp(data, IP4, seeded=True), 6), ipv4(tcp(data, IP4), 6), 0x800, Checksum(14, 20, TCP)),
        (ipv4(udp(data, IP4, seeded=True), 17), ipv4(udp(data, IP4), 17), 0x800, Checksum(14, 20, UDP)),
        (ipv6(tcp(data, IP6, seeded=True), 6), ipv6(tcp(data, IP6), 6), 0x86DD, Checksum(14, 40, TCP, ipv4=False)),
        (ipv6(udp(data, IP6, seeded=True), 17), ipv6(udp(data, IP6), 17), 0x86DD, Checksum(14, 40, UDP, ipv4=False)),
    ]
    for left, whole, kind, asked in cases:
        one.send(ethernet(other.mac, one.mac, left, kind), checksum=asked, vlan=tag, pieces=(20, 30))
        assert (one.clean_tx(), other.clean_rx()) == (1, 1)
        got = other.received.pop()
        assert (got.frame[: 14 + len(whole)], got.vlan) == (ethernet(other.mac, one.mac, whole, kind), tag)
        assert got.status & 0xF0000060 == (GOOD_V4 if kind == 0x800 else GOOD_V6)


def test_sctp() -> None:
    pair = Pair()
    one, other = pair.guests
    head, data = struct.pack(">HHI", 1, 2, 3), b"chunk" * 20
    left = ipv4(head + b"\xee" * 4 + data, 132)
    one.send(ethernet(other.mac, one.mac, left), checksum=Checksum(14, 20, SCTP))
    other.clean_rx()
    (got,) = other.received
    assert got.frame[42:46] == crc32c_bitwise(head + bytes(4) + data).to_bytes(4, "little")
    assert got.status & 0xF0000060 == GOOD_V4


def test_a_udp_checksum_is_never_zero() -> None:
    """Data chosen so that the sum is 0xFFFF: the field would say that there is none."""
    pair = Pair()
    one, other = pair.guests
    candidates = (struct.pack(">H", value) + b".." for value in range(0x10000))
    data = next(data for data in candidates if udp(data, IP4)[6:8] == b"\xff\xff")
    one.send(ethernet(other.mac, one.mac, ipv4(udp(data, IP4, seeded=True), 17)), checksum=Checksum(14, 20, UDP))
    other.clean_rx()
    assert other.received[0].frame[40:42] == b"\xff\xff"


def segmented(data: bytes, mss: int, ends: Ends, seq: int, flags: int) -> list[bytes]:
    """What a stack without offload sends: each segment is built anew."""
    packets = []
    cuts = range(0, len(data), mss)
    for number, start in enumerate(cuts):
        kept = flags
        if number != len(cuts) - 1:
            kept &= ~0x09  # FIN, PSH: the last
        if number:
            kept &= ~0x80  # CWR: the first
        part = tcp(data[start : start + mss], ends, seq=seq + start, flags=kept)
        packets.append(ipv4(part, 6, ident=7 + number & 0xFFFF, ends=ends) if len(ends[0]) == 4 else ipv6(part, 6))
    return packets


@pytest.mark.parametrize("ends", [IP4, IP6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(("size", "mss"), [(1, 1448), (1448, 1448), (1449, 1448), (65483, 1448), (4000, 8), (999, 100)])
def test_segments_are_what_software_would_have_made(ends: Ends, size: int, mss: int) -> None:
    pair = Pair(tx=256, rx=1024)
    one, other = pair.guests
    data = random.Random(size).randbytes(size)
    for flags, seq, tag in ((0x18, 1, None), (0x99, 0xFFFF_FF00, 5)):
        left = tcp(data, ends, seeded=True, seq=seq, flags=flags, length=0)
        is_v4 = len(ends[0]) == 4
        if is_v4:
            whole = ipv4(b"", 6)
            payload = whole[:2] + b"\0\0" + whole[4:10] + b"\0\0" + whole[12:] + left
        else:
            payload = ipv6(b"", 6) + left
        kind = 0x800 if is_v4 else 0x86DD
        frame = ethernet(other.mac, one.mac, payload, kind)
        tso = Tso(mss, 14, 20 if is_v4 else 40, 32, ipv4=is_v4)
        one.send(frame, tso=tso, pieces=(tso.mac + tso.ip + tso.tcp, 4000), vlan=tag)
        assert one.clean_tx() == 1
        other.clean_rx()
        expected = [ethernet(other.mac, one.mac, packet, kind) for packet in segmented(data, mss, ends, seq, flags)]
        assert [got.frame[: len(want)] for got, want in zip(other.received, expected, strict=True)] == expected
        assert {got.vlan for got in other.received} == {tag}
        assert {got.status & 0xF0000060 for got in other.received} == {GOOD_V4 if is_v4 else GOOD_V6}
        other.received.clear()


def test_segments_count_as_frames() -> None:
    pair = Pair(rx=256)
    one, other = pair.guests
    left = tcp(bytes(10_000), IP4, seeded=True, length=0)
    one.send(
        ethernet(other.mac, one.mac, ipv4(b"", 6)[:10] + b"\0\0" + ipv4(b"", 6)[12:] + left), tso=Tso(1000, 14, 20, 32)
    )
    assert one.bar.read(vf.VFGPTC.offset) == 10
    assert other.bar.read(vf.VFGPRC.offset) == 10
    assert one.bar.read(vf.VFGOTC_LSB.offset) == 10 * (14 + 20 + 32 + 1000 + 4)


def test_a_tunnel_s_headers_are_taken_out_of_the_ip_checksum() -> None:
    """With IPLEN over inner headers, ixgbevf puts what cancels them into the field (GSO_PARTIAL)."""
    pair = Pair(rx=256)
    one, other = pair.guests
    inner = udp(b"", IP4)[:6] + b"\0\0" + b"vxlan..." + bytes(14) + ipv4(b"", 6)
    outer = ipv4(b"", 17)
    cancel = struct.pack(">H", 0xFFFF - (sum(struct.unpack(f">{len(inner) // 2}H", inner)) % 0xFFFF))
    header = outer[:2] + b"\0\0" + outer[4:10] + cancel + outer[12:]
    left = tcp(bytes(range(200)), IP4, seeded=True, length=0)
    frame = ethernet(other.mac, one.mac, header + inner + left)
    one.send(frame, tso=Tso(100, 14, 20 + len(inner), 32))
    other.clean_rx()
    assert len(other.received) == 2
    for got in other.received:
        assert ones_sum(got.frame[14:34]) == 0
        assert got.frame[16:18] == struct.pack(">H", len(got.frame) - 14)


BAD = [
    (14 << 9 | 20, 1 << 11 | 1 << 10 | (32 << 8 | 0 << 16) << 32),  # MSS 0
    (14 << 9 | 20, 1 << 11 | 1 << 10 | (19 << 8 | 100 << 16) << 32),  # a TCP header of 19
    (14 << 9 | 20, 0 << 11 | 1 << 10 | (32 << 8 | 100 << 16) << 32),  # UDP
    (14 << 9 | 19, 1 << 11 | 1 << 10 | (33 << 8 | 100 << 16) << 32),  # an IPv4 header of 19
    (14 << 9 | 20, 1 << 11 | (32 << 8 | 100 << 16) << 32),  # an IPv6 header of 20
    (13 << 9 | 21, 1 << 11 | 1 << 10 | (32 << 8 | 100 << 16) << 32),  # an Ethernet header of 13
    (127 << 9 | 511, 1 << 11 | 1 << 10 | (255 << 8 | 100 << 16) << 32),  # headers longer than the packet
    (14 << 9 | 20, 1 << 11 | 1 << 10 | (40 << 8 | 100 << 16) << 32),  # not the length that PAYLEN says
    (14 << 9 | 20, 1 << 11 | 1 << 10 | (32 << 8 | 1 << 16) << 32),  # too many segments
]


@pytest.mark.parametrize(("low", "high"), BAD)
def test_a_context_that_does_not_fit(low: int, high: int) -> None:
    pair = Pair(rx=256)
    one, other = pair.guests
    frame = ethernet(other.mac, one.mac, ipv4(b"", 6) + tcp(bytes(12_000), IP4, length=0))
    one.context = lambda *_: (low, high | CONTEXT | 1 << 36)  # type: ignore[method-assign]
    one.send(frame, tso=Tso(100, 14, 20, 32))
    assert pair.rig.hw.queues(0).faults == {(QueueFault.CONTEXT, "tx", 0): 1}
    assert (one.clean_tx(), other.clean_rx()) == (0, 0)


def test_segments_count_as_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A doorbell for packets of very many segments does its share of them, and then waits for its turn."""
    monkeypatch.setattr("vferry.nic.ixgbe.transmit.WORK", 200)
    pair = Pair(rx=1024)
    one, other = pair.guests
    payload = ipv4(b"", 6)[:10] + b"\0\0" + ipv4(b"", 6)[12:] + tcp(bytes(1000), IP4, seeded=True, length=0)
    for _ in range(10):
        one.send(ethernet(other.mac, one.mac, payload), tso=Tso(10, 14, 20, 32), ring=False)
    one.ring_doorbell()
    assert one.clean_tx() == 2
    done = 2
    while pair.rig.hw.next_service() is not None:
        pair.rig.hw.service()
        done += one.clean_tx()
        other.clean_rx()
    assert (done, len(other.received)) == (10, 1000)


def test_a_crc_counts_as_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vferry.nic.ixgbe.transmit.WORK", 50)
    pair = Pair()
    one, other = pair.guests
    for _ in range(10):
        frame = ethernet(other.mac, one.mac, ipv4(bytes(1280), 132))
        one.send(frame, checksum=Checksum(14, 20, SCTP), ring=False)
    one.ring_doorbell()
    assert 0 < one.clean_tx() < 4
    while pair.rig.hw.next_service() is not None:
        pair.rig.hw.service()
    one.clean_tx()
    assert not one.tx_ends[0]


def test_segments_longer_than_a_frame_can_be() -> None:
    pair = Pair()
    one, other = pair.guests
    frame = ethernet(other.mac, one.mac, ipv4(b"", 6) + tcp(bytes(12_000), IP4, length=0))
    one.send(frame, tso=Tso(9700, 14, 20, 32))
    assert pair.rig.hw.queues(0).faults == {(QueueFault.CONTEXT, "tx", 0): 1}


@pytest.mark.parametrize(
    "checksum", [Checksum(14, 511, TCP), Checksum(127, 511, UDP), Checksum(14, 75, 2), Checksum(14, 20, 3)]
)
def test_a_checksum_outside_of_its_frame(checksum: Checksum) -> None:
    pair = Pair()
    one, other = pair.guests
    one.send(ethernet(other.mac, one.mac, bytes(80)), checksum=checksum)
    assert pair.rig.hw.queues(0).faults == {(QueueFault.CONTEXT, "tx", 0): 1}


def test_sums_against_plain_loops() -> None:
    draw = random.Random(4)
    assert crc32c(b"123456789") == 0xE3069283  # the CRC's published check value
    for size in range(64):
        data = draw.randbytes(size)
        assert crc32c(data) == crc32c_bitwise(data)
        padded = data + bytes(size & 1)
        assert ones_sum(data) == sum(struct.unpack(f">{len(padded) // 2}H", padded)) % 0xFFFF
