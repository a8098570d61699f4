# SPDX-License-Identifier: Apache-2.0
"""The RSS hash against Microsoft's published values, and the queues that it leads to."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from tests.ixgbe.queues_rig import IP4, IP6, Ends, Pair, ethernet, ipv4, ipv6, tcp, udp
from vferry.nic.ixgbe.registers import pf, vf
from vferry.nic.ixgbe.rss import FLOWS_KEPT, Toeplitz

KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
VECTORS = [  # destination, source, hash of the addresses, hash with TCP ports ("Verifying the RSS hash calculation")
    ("161.142.100.80", 1766, "66.9.149.187", 2794, 0x323E8FC2, 0x51CCC178),
    ("65.69.140.83", 4739, "199.92.111.2", 14230, 0xD718262A, 0xC626B0EA),
    ("12.22.207.184", 38024, "24.19.198.95", 12898, 0xD2D0A5DE, 0x5C2B394A),
    ("209.142.163.6", 2217, "38.27.205.30", 48228, 0x82989176, 0xAFC7327F),
    ("202.188.127.2", 1303, "153.39.163.191", 44251, 0x5D1809C5, 0x10E828A2),
    ("3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x2CC18CD5, 0x40207D3D),
    ("ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0x0F0C461C, 0xDDE51BBF),
    ("fe80::200:f8ff:fe21:67cf", 38024, "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, 0x4B61E985, 0x02D1FEEF),
]
ALL_FIELDS = 0x00F3 << 16
IPV4_TCP, IPV4, IPV6_TCP, IPV6, IPV4_UDP, IPV6_UDP = 1, 2, 3, 5, 7, 8


def program(pair: Pair, fields: int = ALL_FIELDS, key: bytes = KEY) -> None:
    """As ixgbe_setup_mrqc() does: a key, and a table that goes round two queues."""
    write = pair.rig.hw.write
    for index, (word,) in enumerate(struct.iter_unpack("<I", key)):
        write(pf.RSSRK.address(index), word)
    for index in range(32):
        write(pf.RETA.address(index), 0x01000100)
    write(pf.MRQC.offset, pf.MRQC_VMDQRSS32EN | fields)


@pytest.mark.parametrize(("destination", "to", "source", "of", "addresses", "ports"), VECTORS)
def test_published_values(destination: str, to: int, source: str, of: int, addresses: int, ports: int) -> None:  # noqa: PLR0917
    data = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    toeplitz = Toeplitz(KEY)
    assert toeplitz.hash(data) == addresses
    assert toeplitz.hash(data + struct.pack(">HH", of, to)) == ports


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("fields", [ALL_FIELDS, 1 << 17 | 1 << 20, 0])
def test_a_received_packet_tells_hash_type_and_queue(vector: tuple[str, int, str, int, int, int], fields: int) -> None:
    destination, to, source, of, addresses, ports = vector
    ends = (ipaddress.ip_address(source).packed, ipaddress.ip_address(destination).packed)
    four = len(ends[0]) == 4
    data = struct.pack(">HH", of, to) + tcp(b"x" * 30, ends)[4:]
    pair = Pair(1, queues=2)
    program(pair, fields)
    packet = ipv4(data, 6, ends=ends) if four else ipv6(data, 6, ends=ends)
    guest = pair.guests[0]
    pair.rig.hw.receive(ethernet(guest.mac, b"\x06" * 6, packet, 0x800 if four else 0x86DD))
    value, kind = (
        (ports, IPV4_TCP if four else IPV6_TCP) if fields == ALL_FIELDS else (addresses, IPV4 if four else IPV6)
    )
    if not fields:
        value, kind = 0, 0
    queue = value & 1
    assert guest.clean_rx(1 - queue) == 0
    assert guest.clean_rx(queue) == 1
    got = guest.received[0]
    assert (got.hash, got.info & 0xF) == (value, kind)


@pytest.mark.parametrize(
    ("packet", "kind", "type_"),
    [
        (ipv4(tcp(b"", IP4), 6), 0x800, IPV4_TCP),
        (ipv4(udp(b"", IP4), 17), 0x800, IPV4_UDP),
        (ipv6(tcp(b"", IP6), 6), 0x86DD, IPV6_TCP),
        (ipv6(udp(b"", IP6), 17), 0x86DD, IPV6_UDP),
        (ipv4(b"icmp", 1), 0x800, IPV4),
        (ipv4(tcp(b"", IP4), 6, fragment=0x2000), 0x800, IPV4),
        (ipv6(b"icmp", 58), 0x86DD, IPV6),
        (bytes(50), 0x88B5, 0),
    ],
)
def test_types(packet: bytes, kind: int, type_: int) -> None:
    pair = Pair(1, queues=2)
    program(pair)
    guest = pair.guests[0]
    pair.rig.hw.receive(ethernet(guest.mac, b"\x06" * 6, packet, kind))
    assert guest.clean_rx(0) + guest.clean_rx(1) == 1
    assert guest.received[0].info & 0xF == type_


def flow(ends: Ends, number: int) -> bytes:
    return ipv4(struct.pack(">H", number) + udp(b"data" * 5, ends)[2:], 17)


def test_a_flow_stays_on_its_queue_and_flows_spread() -> None:
    pair = Pair(1, queues=2, rx=512)
    program(pair)
    guest = pair.guests[0]
    seen: dict[int, set[int]] = {}
    for number in range(100):
        for _ in range(2):
            pair.rig.hw.receive(ethernet(guest.mac, b"\x06" * 6, flow(IP4, number)))
            guest.clean_rx(0)
            guest.clean_rx(1)
            seen.setdefault(number, set()).add(guest.received.pop().queue)
    assert all(len(queues) == 1 for queues in seen.values())
    assert 20 < sum(queues == {1} for queues in seen.values()) < 80


def test_one_queue_gets_all_without_rqpl_and_a_new_key_is_used_at_once() -> None:
    pair = Pair(1, queues=2, rx=512)
    program(pair)
    guest = pair.guests[0]
    guest.bar.write(vf.VFPSRTYPE.offset, 0)
    for number in range(50):
        pair.rig.hw.receive(ethernet(guest.mac, b"\x06" * 6, flow(IP4, number)))
    assert (guest.clean_rx(0), guest.clean_rx(1)) == (50, 0)
    hashes = [got.hash for got in guest.received]
    guest.received.clear()
    program(pair, key=KEY[::-1])
    for number in range(50):
        pair.rig.hw.receive(ethernet(guest.mac, b"\x06" * 6, flow(IP4, number)))
    guest.clean_rx(0)
    assert all(old != got.hash for old, got in zip(hashes, guest.received, strict=True))


@pytest.mark.parametrize(
    ("mode", "rqpl", "queue"), [("32", 7, 3), ("32", 2, 3), ("32", 1, 1), ("64", 7, 1), ("64", 0, 0)]
)
def test_an_entry_beyond_the_pool_s_queues_is_cut_off(mode: str, rqpl: int, queue: int) -> None:
    pair = Pair(1, queues=4)
    program(pair)
    for index in range(32):
        pair.rig.hw.write(pf.RETA.address(index), 0x0F0F0F0F)
    if mode == "64":
        pair.rig.hw.write(pf.MRQC.offset, pf.MRQC_VMDQRSS64EN | ALL_FIELDS)
    guest = pair.guests[0]
    guest.bar.write(vf.VFPSRTYPE.offset, rqpl << 29)
    pair.rig.hw.receive(ethernet(guest.mac, b"\x06" * 6, flow(IP4, 1)))
    assert [guest.clean_rx(one) for one in range(4)] == [one == queue for one in range(4)]


def test_flows_remembered_are_bounded() -> None:
    pair = Pair(1)
    program(pair)
    guest = pair.guests[0]
    rss = pair.rig.hw.queues(0)._rss
    for number in range(FLOWS_KEPT + 100):
        pair.rig.hw.receive(ethernet(guest.mac, b"\x06" * 6, flow(IP4, number)))
        assert len(rss._flows) <= FLOWS_KEPT


def test_a_key_has_forty_octets() -> None:
    with pytest.raises(ValueError, match="40 octets"):
        Toeplitz(KEY[1:])
