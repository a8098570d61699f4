# SPDX-License-Identifier: Apache-2.0
"""What a transmit context asks for: checksums, segments, a VLAN tag.

As ixgbevf uses them (``ixgbevf_tx_csum()``, ``ixgbevf_tso()``, Linux 6.12):

* The L4 checksum field holds the sum of the pseudo header, and the hardware adds what is from the L4 header to the end
  of the packet. With segmentation the length is left out of that sum, and the hardware adds each segment's.
* The IPv4 checksum goes over IPLEN octets *and what stands in the field*: 0, or, where IPLEN spans the headers of a
  tunnel, what takes these out again.
* Segments: IPv4 total length or IPv6 payload length, IPv4 identification + 1 each, TCP sequence number, and of the TCP
  flags those that DTXTCPFLGL and DTXTCPFLGH let through, which ixgbe leaves as they are after a reset.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vferry.nic.ixgbe.descriptors import Context, L4Type
from vferry.nic.ixgbe.frame import TPID, with_tag
from vferry.nic.ixgbe.rings import QueueFault, QueueFaultError

__all__ = ["MAX_SEGMENTS", "crc32c", "insert_checksums", "insert_vlan", "ones_sum", "segments"]

MAX_SEGMENTS: Final = 8192
"""Of one packet: 64 KiB, the most that ixgbevf is given, in segments of the 8 octets that a hostile peer's MSS and all
TCP options leave. More is not asked for by an honest driver."""

_FIRST: Final = 0xFF6
_MIDDLE: Final = 0xF76
_LAST: Final = 0xF7F
"""Reset values of DTXTCPFLGL and DTXTCPFLGH (82599 datasheet, 8.2.3.9): FIN and PSH stay with the last segment, CWR
with the first."""
_CHECKSUM_AT: Final = {L4Type.UDP: 6, L4Type.TCP: 16, L4Type.SCTP: 8}
_TCP_HEADER: Final = 20
_IPV4_HEADER: Final = 20
_IPV6_HEADER: Final = 40


def ones_sum(data: bytes | bytearray) -> int:
    """Return the sum of the 16-bit big-endian words of `data`, modulo 65535; an odd octet counts as a high one.

    In one's complement arithmetic 0 and 0xFFFF are both zero, so this is the Internet checksum's sum (RFC 1071), and
    0 where data that has its checksum in it is sound.
    """
    number = int.from_bytes(data, "big")
    return (number << 8 if len(data) & 1 else number) % 0xFFFF


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for octet in range(256):
        value = octet
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # Castagnoli's polynomial, reflected
        table.append(value)
    return tuple(table)


_CRC32C: Final = _crc32c_table()


def crc32c(data: bytes | bytearray) -> int:
    """Return the checksum of SCTP (RFC 9260, appendix A), a CRC-32C."""
    table, value = _CRC32C, 0xFFFFFFFF
    for octet in data:
        value = table[(value ^ octet) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def insert_vlan(frame: bytes, vlan: int) -> bytes:
    """Return a frame with an 802.1Q tag: priority and VLAN identifier, 16 bits."""
    return with_tag(frame, TPID + vlan.to_bytes(2, "big"))


def _misfit(why: str, context: Context) -> QueueFaultError:
    return QueueFaultError(QueueFault.CONTEXT, f"{why}, with {context}")


def insert_checksums(frame: bytearray, context: Context, *, ip: bool, l4: bool) -> None:
    """Put checksums in place.

    :param ip: IXSM; it only means something with IPv4.
    :param l4: TXSM.
    :raises QueueFaultError: the context puts a checksum outside of the frame.
    """
    start = context.mac_length + context.ip_length
    if ip and context.ipv4:
        if context.ip_length < _IPV4_HEADER or start > len(frame):
            raise _misfit(f"an IPv4 checksum in {len(frame)} octets", context)
        _put(frame, context.mac_length + 10, -ones_sum(frame[context.mac_length : start]))
    if l4:
        if context.l4_type is L4Type.RESERVED:
            raise _misfit("a checksum of no known protocol", context)
        at = start + _CHECKSUM_AT[context.l4_type]
        if at + (4 if context.l4_type is L4Type.SCTP else 2) > len(frame):
            raise _misfit(f"an L4 checksum in {len(frame)} octets", context)
        if context.l4_type is L4Type.SCTP:
            frame[at : at + 4] = bytes(4)
            frame[at : at + 4] = crc32c(frame[start:]).to_bytes(4, "little")
        else:
            _put(frame, at, -ones_sum(frame[start:]), never_zero=context.l4_type is L4Type.UDP)


def _put(frame: bytearray, at: int, value: int, *, never_zero: bool = False) -> None:
    value %= 0xFFFF
    if never_zero and not value:
        value = 0xFFFF
    frame[at : at + 2] = value.to_bytes(2, "big")


def segments(packet: bytes, context: Context, payload: int, longest: int) -> Iterator[bytes]:
    """Return the frames of a TCP segmentation, each with its checksums.

    :param packet: headers and all data.
    :param payload: PAYLEN, the octets behind the headers.
    :param longest: octets that a frame may have.
    :raises QueueFaultError: at once: lengths contradict each other, it is no TCP, or the segments are too long or too
        many.
    """
    header = context.mac_length + context.ip_length + context.l4_length
    if header + payload != len(packet) or not payload:
        raise _misfit(f"{header} octets of headers and {payload} of data in a packet of {len(packet)}", context)
    if context.l4_type is not L4Type.TCP or context.l4_length < _TCP_HEADER:
        raise _misfit("segmentation of what is no TCP", context)
    if context.mac_length < 14 or context.ip_length < (_IPV4_HEADER if context.ipv4 else _IPV6_HEADER):
        raise _misfit("segmentation of what is no IP", context)
    if not context.mss or header + min(context.mss, payload) > longest or payload > context.mss * MAX_SEGMENTS:
        raise _misfit(f"segments of {payload} octets", context)
    return _cut(packet, header, context)


def _cut(packet: bytes, header: int, context: Context) -> Iterator[bytes]:
    mac, l4, mss = context.mac_length, context.mac_length + context.ip_length, context.mss
    frame = bytearray(packet[:header])
    identification = frame[mac + 4] << 8 | frame[mac + 5]
    sequence = int.from_bytes(frame[l4 + 4 : l4 + 8], "big")
    flags = (frame[l4 + 12] & 0xF) << 8 | frame[l4 + 13]
    check_sums = bytes(frame[mac + 10 : mac + 12]), bytes(frame[l4 + 16 : l4 + 18])
    for number, start in enumerate(range(header, len(packet), mss)):
        data = packet[start : start + mss]
        first, last = start == header, start + mss >= len(packet)
        kept = flags & _mask(first=first, last=last)
        frame[l4 + 4 : l4 + 8] = (sequence + start - header & 0xFFFFFFFF).to_bytes(4, "big")
        frame[l4 + 12] = frame[l4 + 12] & 0xF0 | kept >> 8
        frame[l4 + 13] = kept & 0xFF
        octets = header - mac + len(data)
        if context.ipv4:
            frame[mac + 2 : mac + 4] = (octets & 0xFFFF).to_bytes(2, "big")
            frame[mac + 4 : mac + 6] = (identification + number & 0xFFFF).to_bytes(2, "big")
            frame[mac + 10 : mac + 12] = check_sums[0]
            _put(frame, mac + 10, -ones_sum(frame[mac:l4]))
        else:
            frame[mac + 4 : mac + 6] = (octets - _IPV6_HEADER & 0xFFFF).to_bytes(2, "big")
        frame[l4 + 16 : l4 + 18] = check_sums[1]
        whole = bytes(frame[l4:]) + data
        _put(frame, l4 + 16, -(ones_sum(whole) + len(whole)))
        yield bytes(frame) + data


def _mask(*, first: bool, last: bool) -> int:
    """Return the flags that a segment keeps; one that is all of the packet keeps every flag."""
    if first:
        return 0xFFF if last else _FIRST
    return _LAST if last else _MIDDLE
