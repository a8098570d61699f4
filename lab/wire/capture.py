# SPDX-License-Identifier: Apache-2.0
"""The wire's record of frames: a file of records, and its translation to pcap.

A record is little endian: 8 bytes time (ns of the wire's monotonic clock), 8 bytes set of ports out (bit n is port n),
4 bytes length, 2 bytes port in, then the frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_HEADER = struct.Struct("<QQIH")
_PCAP_MAGIC_NANOSECONDS = 0xA1B23C4D
_LINKTYPE_ETHERNET = 1

MOST_PORTS = 64
"""So many ports fit into a record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A frame as it came in at a port.

    :ivar time_ns: when, by the wire's monotonic clock.
    :ivar port: number of the port it came in at.
    :ivar out: numbers of the ports it left by; empty when the switch filtered it.
    :ivar data: the frame, without checksum.
    """

    time_ns: int
    port: int
    out: tuple[int, ...]
    data: bytes


def encode(record: Record) -> bytes:
    """Return the record as bytes of the file."""
    ports = sum(1 << port for port in record.out)
    return _HEADER.pack(record.time_ns, ports, len(record.data), record.port) + record.data


def decode(raw: bytes) -> Iterator[tuple[Record, int]]:
    """Yield the whole records in ``raw``, each with the offset behind it; an unfinished end is left alone."""
    offset = 0
    while offset + _HEADER.size <= len(raw):
        time_ns, ports, length, port = _HEADER.unpack_from(raw, offset)
        begin = offset + _HEADER.size
        if begin + length > len(raw):
            return
        offset = begin + length
        out = tuple(number for number in range(MOST_PORTS) if ports >> number & 1)
        yield Record(time_ns=time_ns, port=port, out=out, data=raw[begin:offset]), offset


def pcap(records: Iterable[tuple[int, bytes]]) -> bytes:
    """Return (time in ns, frame) pairs as a pcap file with nanosecond time stamps."""
    parts = [struct.pack("<IHHiIII", _PCAP_MAGIC_NANOSECONDS, 2, 4, 0, 0, 65535, _LINKTYPE_ETHERNET)]
    for time_ns, data in records:
        seconds, rest = divmod(time_ns, 1_000_000_000)
        parts += [struct.pack("<IIII", seconds & 0xFFFFFFFF, rest, len(data), len(data)), data]
    return b"".join(parts)
