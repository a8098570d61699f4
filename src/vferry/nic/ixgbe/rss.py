# SPDX-License-Identifier: Apache-2.0
"""Receive side scaling: the Toeplitz hash, and which of its VF's queues a frame goes to.

The PF sets it up for all: MRQC says whether and over which fields, RSSRK holds the key, RETA the table. A VF adds how
many bits of a table entry it has queues for (PSRTYPE.RQPL, 31:29; ixgbevf sets 1 where it has two queues). The hash is
the one of Microsoft's RSS specification.
"""

from __future__ import annotations

from typing import Final

from vferry.nic.ixgbe.descriptors import PacketType, RssType
from vferry.nic.ixgbe.packet import Packet
from vferry.nic.ixgbe.register_file import RegisterFile
from vferry.nic.ixgbe.registers import pf

__all__ = ["FIELDS", "FLOWS_KEPT", "Rss", "Toeplitz"]

KEY_WORDS: Final = 10
KEY_OCTETS: Final = 4 * KEY_WORDS
LONGEST: Final = 36
"""Octets that are hashed at most: two IPv6 addresses and two ports."""
FLOWS_KEPT: Final = 4096
"""Hashes that are remembered; a guest that makes up more flows only makes them be worked out again."""
_RQPL_SHIFT: Final = 29
_RETA_MASK: Final = 0x7F
_VT_MODES: Final = frozenset({pf.MRQC_VMDQRSS32EN, pf.MRQC_VMDQRSS64EN})

FIELDS: Final = {
    RssType.IPV4_TCP: 1 << 16,
    RssType.IPV4: 1 << 17,
    RssType.IPV6: 1 << 20,
    RssType.IPV6_TCP: 1 << 21,
    RssType.IPV4_UDP: 1 << 22,
    RssType.IPV6_UDP: 1 << 23,
}
"""Bits of MRQC that ask for a hash over these fields (IXGBE_MRQC_RSS_FIELD_*, ixgbe_type.h)."""
_ASKED: Final = {int(kind): bit for kind, bit in FIELDS.items()}

_CHOICES: Final = (
    (PacketType.IPV4 | PacketType.TCP, RssType.IPV4_TCP),
    (PacketType.IPV4 | PacketType.UDP, RssType.IPV4_UDP),
    (PacketType.IPV6 | PacketType.TCP, RssType.IPV6_TCP),
    (PacketType.IPV6 | PacketType.UDP, RssType.IPV6_UDP),
)
_WITH_PORTS: Final = {int(needed): int(kind) for needed, kind in _CHOICES}
_ADDRESSES_ONLY: Final = {int(PacketType.IPV4): int(RssType.IPV4), int(PacketType.IPV6): int(RssType.IPV6)}

_FAMILY: Final = int(PacketType.IPV4 | PacketType.IPV6)
_FAMILY_AND_PORTS: Final = _FAMILY | int(PacketType.TCP | PacketType.UDP)


class Toeplitz:
    """The hash with one key.

    :param key: 40 octets.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_OCTETS:
            raise ValueError(f"an RSS key has {KEY_OCTETS} octets, not {len(key)}")
        number = int.from_bytes(key, "big")
        self._tables: Final = [_table(number, place) for place in range(LONGEST)]

    def hash(self, data: bytes) -> int:
        """Return the hash of up to 36 octets, 32 bits."""
        value = 0
        for table, octet in zip(self._tables, data, strict=False):
            value ^= table[octet]
        return value


def _table(key: int, place: int) -> list[int]:
    """Return what each value of the octet at `place` adds to the hash."""
    window = key >> 8 * (KEY_OCTETS - place - 5) & 0xFF_FFFF_FFFF  # five octets of the key, from that place on
    table = [0] * 256
    for value in range(1, 256):
        lowest = value & -value
        table[value] = table[value ^ lowest] ^ window >> lowest.bit_length() & 0xFFFFFFFF
    return table


class Rss:
    """The choice for one port.

    :param bar: the PF's registers, which are looked at for each frame.
    """

    def __init__(self, bar: RegisterFile) -> None:
        self._words: Final = bar.words
        self._mrqc: Final[int] = bar.slot(pf.MRQC.offset)
        self._reta: Final = [bar.slot(offset) for offset in pf.RETA.addresses]
        first = bar.slot(pf.RSSRK.offset)
        self._key: Final = slice(first, first + KEY_WORDS)
        self._key_words: list[int] = []
        self._toeplitz: Toeplitz | None = None
        self._flows: dict[bytes, int] = {}

    def choose(self, frame: bytes, packet: Packet, psrtype: int) -> tuple[int, int, int]:
        """Return RSS type, hash and queue of a frame; no hash and queue 0 where none is asked for.

        :param psrtype: the pool's PSRTYPE.
        """
        mrqc = self._words[self._mrqc]
        if mrqc & pf.MRQC_MRQE_MASK not in _VT_MODES:
            return 0, 0, 0
        kind = _WITH_PORTS.get(packet.type & _FAMILY_AND_PORTS, 0)
        if kind and mrqc & _ASKED[kind]:
            data = packet.addresses(frame) + frame[packet.l4 : packet.l4 + 4]
        else:
            kind = _ADDRESSES_ONLY.get(packet.type & _FAMILY, 0)
            if not kind or not mrqc & _ASKED[kind]:
                return 0, 0, 0
            data = packet.addresses(frame)
        value = self._hash(data)
        entry = value & _RETA_MASK
        queue = self._words[self._reta[entry >> 2]] >> 8 * (entry & 3) & ((1 << (psrtype >> _RQPL_SHIFT)) - 1)
        return kind, value, queue & (3 if mrqc & pf.MRQC_MRQE_MASK == pf.MRQC_VMDQRSS32EN else 1)

    def _hash(self, data: bytes) -> int:
        words = self._words[self._key]
        if words != self._key_words or self._toeplitz is None:
            self._key_words = words
            self._toeplitz = Toeplitz(b"".join(word.to_bytes(4, "little") for word in words))
            self._flows = {}
        value = self._flows.get(data)
        if value is None:
            if len(self._flows) >= FLOWS_KEPT:
                self._flows.clear()
            value = self._flows[data] = self._toeplitz.hash(data)
        return value
