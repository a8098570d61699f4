# SPDX-License-Identifier: Apache-2.0
"""What the receiver reads of a packet: its type, and where its checksums and the fields for RSS are.

The frame comes from another guest or from the wire: every offset is checked, and what does not fit is no packet of that
type. Through how many IPv6 extension headers the hardware looks is not known; here it is :data:`MAX_EXTENSIONS`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from vferry.nic.ixgbe.descriptors import ERR_IPE, ERR_TCPE, STAT_IPCS, STAT_L4CS, STAT_UDPCS, PacketType
from vferry.nic.ixgbe.frame import HEADER_SIZE, TAG_SIZE, TPID, is_group
from vferry.nic.ixgbe.offloads import crc32c, ones_sum

__all__ = ["MAX_EXTENSIONS", "Packet", "check", "parse"]

MAX_EXTENSIONS: Final = 4
# Plain integers: operations on flags of an enumeration cost more than all the rest of a packet.
_IPV4_BIT: Final = int(PacketType.IPV4)
_IPV4_WITH_OPTIONS: Final = int(PacketType.IPV4 | PacketType.IPV4_EX)
_IPV6_BIT: Final = int(PacketType.IPV6)
_IPV6_EXTENDED: Final = int(PacketType.IPV6 | PacketType.IPV6_EX)
LONGEST_CRC: Final = 1500
"""Octets of SCTP whose CRC is looked at, in frames for one receiver: it takes this language as long as a hundred other
frames, and a neighbour could make the device do nothing else. Without L4CS the guest's own stack checks it."""
_IPV4: Final = b"\x08\x00"
_IPV6: Final = b"\x86\xdd"
# Protocol numbers (IANA).
TCP: Final = 6
UDP: Final = 17
SCTP: Final = 132
_FRAGMENT: Final = 44
_EXTENSIONS: Final = frozenset({0, 43, 60})  # hop-by-hop, routing, destination options (RFC 8200)
_L4: Final = {TCP: (int(PacketType.TCP), 20), UDP: (int(PacketType.UDP), 8), SCTP: (int(PacketType.SCTP), 12)}
"""Type, and octets of the shortest header."""


class Packet(NamedTuple):
    """Where things are in a frame, in octets from its beginning."""

    type: int
    ip: int = 0
    """The IP header."""
    l4: int = 0
    """What follows it, whole; 0: a fragment, or nothing that is known."""
    end: int = 0
    """The end of the IP packet; what is behind it is padding."""
    protocol: int = 0

    def addresses(self, frame: bytes) -> bytes:
        """Return source and destination address, as RSS hashes them; nothing where there is no IP."""
        if self.type & _IPV4_BIT:
            return frame[self.ip + 12 : self.ip + 20]
        return frame[self.ip + 8 : self.ip + 40] if self.type & _IPV6_BIT else b""


NO_IP: Final = Packet(int(PacketType.NONE))


def parse(frame: bytes) -> Packet:
    """Return what a frame of 14 octets or more is; a VLAN tag may stand before its type."""
    ip = HEADER_SIZE + TAG_SIZE if frame[12:14] == TPID else HEADER_SIZE
    kind = frame[ip - 2 : ip]
    if kind == _IPV4:
        return _parse_ipv4(frame, ip)
    if kind == _IPV6:
        return _parse_ipv6(frame, ip)
    return NO_IP


def _parse_ipv4(frame: bytes, ip: int) -> Packet:
    if len(frame) < ip + 20 or frame[ip] >> 4 != 4:
        return NO_IP
    header = 4 * (frame[ip] & 0xF)
    end = ip + (frame[ip + 2] << 8 | frame[ip + 3])
    if header < 20 or end < ip + header or end > len(frame):
        return NO_IP
    base = _IPV4_BIT if header == 20 else _IPV4_WITH_OPTIONS
    if frame[ip + 6] & 0x3F or frame[ip + 7]:  # more fragments, or an offset
        return Packet(base, ip, 0, end, frame[ip + 9])
    return _with_l4(base, ip, ip + header, end, frame[ip + 9])


def _parse_ipv6(frame: bytes, ip: int) -> Packet:
    if len(frame) < ip + 40 or frame[ip] >> 4 != 6:
        return NO_IP
    end = ip + 40 + (frame[ip + 4] << 8 | frame[ip + 5])
    if end > len(frame):
        return NO_IP
    protocol, at, base = frame[ip + 6], ip + 40, _IPV6_BIT
    for _ in range(MAX_EXTENSIONS):
        if protocol not in _EXTENSIONS or at + 8 > end:
            break
        protocol, at, base = frame[at], at + 8 * (frame[at + 1] + 1), _IPV6_EXTENDED
    if protocol == _FRAGMENT:
        return Packet(_IPV6_EXTENDED, ip, 0, end, protocol)
    return _with_l4(base, ip, at, end, protocol)


def _with_l4(base: int, ip: int, l4: int, end: int, protocol: int) -> Packet:
    known = _L4.get(protocol)
    if known is None or l4 + known[1] > end:
        return Packet(base, ip, 0, end, protocol)
    return Packet(base | known[0], ip, l4, end, protocol)


def check(frame: bytes, packet: Packet) -> int:
    """Return status and error bits: which checksums were looked at, and which are wrong."""
    bits = 0
    if packet.type & _IPV4_BIT:
        header = frame[packet.ip : packet.ip + 4 * (frame[packet.ip] & 0xF)]
        bits = STAT_IPCS if ones_sum(header) == 0 else STAT_IPCS | ERR_IPE
    if not packet.l4:
        return bits
    data = frame[packet.l4 : packet.end]
    if packet.protocol == SCTP:
        if len(data) > LONGEST_CRC or is_group(frame):
            return bits
        good = crc32c(data[:8] + bytes(4) + data[12:]).to_bytes(4, "little") == data[8:12]
        return bits | STAT_L4CS | (0 if good else ERR_TCPE)
    if packet.protocol == UDP:
        if data[6:8] == b"\0\0":  # the sender made none
            return bits
        bits |= STAT_UDPCS
    total = ones_sum(packet.addresses(frame)) + packet.protocol + len(data) + ones_sum(data)
    return bits | STAT_L4CS | (0 if total % 0xFFFF == 0 else ERR_TCPE)
