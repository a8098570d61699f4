# SPDX-License-Identifier: Apache-2.0
"""Decodes a whole VF list at once, column by column, where all its blocks have one layout. They nearly always have.

The layout is taken from the first block. Then two large integers, as long as the list, say whether the others have it:
``list & mask == expected``, where the mask covers every attribute header, every VF index and the broadcast address.
So nothing is believed that the walk of :mod:`vferry.nic.linux.vfinfo` would not believe; where the comparison fails,
the list is left to that walk. The values themselves are made by the same functions, once for each distinct value.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import TypeVar

from vferry.core.model import AdminState, LinkState, Rate, VfReading, VfStatistics, Vlan
from vferry.nic.linux.failure import GarbledMessageError
from vferry.nic.linux.netlink import every_attribute
from vferry.nic.linux.vfinfo import (
    GUID_OFFSET,
    IFLA_VF_BROADCAST,
    IFLA_VF_IB_NODE_GUID,
    IFLA_VF_IB_PORT_GUID,
    IFLA_VF_INFO,
    IFLA_VF_LINK_STATE,
    IFLA_VF_MAC,
    IFLA_VF_RATE,
    IFLA_VF_RSS_QUERY_EN,
    IFLA_VF_SPOOFCHK,
    IFLA_VF_STATS,
    IFLA_VF_TRUST,
    IFLA_VF_TX_RATE,
    IFLA_VF_VLAN,
    IFLA_VF_VLAN_INFO,
    IFLA_VF_VLAN_LIST,
    MINIMUM_LENGTHS,
    NO_RATE,
    STATISTICS,
    VLAN_INFO_LENGTH,
    flag_of,
    guid_of,
    link_state_of,
    rate_of,
    statistics_of,
    vlans_of,
)

__all__ = ["decode_columns"]

_HEADER = b"\xff\xff\xff\xff"
_WORD = 4
_LOW_OCTET, _HIGH_OCTET = (0, 1) if sys.byteorder == "little" else (3, 2)
"""Where the low octets of a 32-bit number lie; a VF index has 16 bits."""
_MOST_LAYOUTS = 64

V = TypeVar("V")


class _Layout:
    """Where everything lies in one VF's block, and how to see that a list's blocks are all alike.

    :param block: the first ``IFLA_VF_INFO``, with its header.
    :param count: VFs in the list.
    """

    __slots__ = ("block", "broadcast", "counters", "expected", "mask", "places", "reader")

    def __init__(self, block: bytes, count: int, address_length: int) -> None:
        self.block = len(block)
        self.places: dict[int, int] = {}
        """Offset of each attribute's payload; of VLAN_LIST, that of its only VLAN_INFO."""
        self.counters: struct.Struct | None = None
        """Reads a block's counters in the order of STATISTICS."""
        mask = bytearray(self.block)
        indexes: list[int] = []
        self._walk(block, mask, indexes)
        self.broadcast: str | None = None
        if IFLA_VF_BROADCAST in self.places:
            # It is the link's, so the same for all VFs; behind its end the kernel may leave anything.
            start = self.places[IFLA_VF_BROADCAST]
            mask[start : start + address_length] = b"\xff" * address_length
            self.broadcast = block[start : start + address_length].hex(":")
        masked = int.from_bytes(block, "little") & int.from_bytes(mask, "little")
        expected = bytearray(masked.to_bytes(self.block, "little") * count)
        low = bytes(index & 0xFF for index in range(count))
        high = bytes(index >> 8 for index in range(count))
        for place in indexes:
            mask[place : place + _WORD] = b"\xff" * _WORD
            expected[place + _LOW_OCTET :: self.block] = low
            expected[place + _HIGH_OCTET :: self.block] = high
        self.mask = int.from_bytes(bytes(mask) * count, "little")
        self.expected = int.from_bytes(expected, "little")

    def _walk(self, block: bytes, mask: bytearray, indexes: list[int]) -> None:
        """Note the place of every attribute, cover its header, and collect where the VF's index is repeated."""
        mask[:_WORD] = _HEADER
        container, _start, stop = next(every_attribute(block, 0, len(block)))
        if container != IFLA_VF_INFO or stop != len(block):
            raise _NoLayoutError
        for kind, start, end in every_attribute(block, _WORD, len(block)):
            mask[start - _WORD : start] = _HEADER
            if kind in self.places:
                raise _NoLayoutError
            self.places[kind] = start
            if kind == IFLA_VF_VLAN_LIST:
                self.places[kind] = self._walk_vlans(block, start, end, mask)
                indexes.append(self.places[kind])
            elif kind == IFLA_VF_STATS:
                self._walk_counters(block, start, end, mask)
            elif kind in MINIMUM_LENGTHS:
                if end - start < MINIMUM_LENGTHS[kind]:
                    raise _NoLayoutError
                if kind != IFLA_VF_BROADCAST:
                    indexes.append(start)
        if IFLA_VF_MAC not in self.places:
            raise _NoLayoutError

    @staticmethod
    def _walk_vlans(block: bytes, start: int, end: int, mask: bytearray) -> int:
        """Return the place of the list's VLAN; only lists of one are looked at here."""
        entries = list(every_attribute(block, start, end))
        if len(entries) != 1 or entries[0][0] != IFLA_VF_VLAN_INFO or entries[0][2] - entries[0][1] < VLAN_INFO_LENGTH:
            raise _NoLayoutError
        place = entries[0][1]
        mask[place - _WORD : place] = _HEADER
        return place

    def _walk_counters(self, block: bytes, start: int, end: int, mask: bytearray) -> None:
        places: list[int] = []
        kinds: list[int] = []
        for kind, place, stop in every_attribute(block, start, end):
            mask[place - _WORD : place] = _HEADER
            if kind in STATISTICS:
                if stop - place != 8:
                    raise _NoLayoutError
                kinds.append(kind)
                places.append(place)
        if kinds != list(STATISTICS):
            raise _NoLayoutError
        form, here = "=", 0
        for place in places:
            form += f"{place - here}xQ"
            here = place + 8
        self.counters = struct.Struct(f"{form}{len(block) - here}x")


class _NoLayoutError(Exception):
    """The first block has a layout that is left to the walk."""


_layouts: dict[tuple[int, int, int], _Layout] = {}
"""By length of a block, number of VFs, and length of an address. Any of them is checked before it is used."""


def decode_columns(data: bytes, start: int, end: int, count: int, address_length: int) -> tuple[VfReading, ...] | None:
    """Decode the payload of ``IFLA_VFINFO_LIST``.

    :param count: VFs that the kernel announced, at least 1.
    :param address_length: octets of a hardware address on this link.
    :return: None where the blocks are not all alike, or not that many: then nothing is known of them.
    :raise GarbledMessageError: a value cannot be.
    """
    block, rest = divmod(end - start, count)
    if rest or block % _WORD or block <= _WORD:
        return None
    key = (block, count, address_length)
    number = int.from_bytes(data[start:end], "little")
    layout = _layouts.get(key)
    if layout is None or number & layout.mask != layout.expected:
        try:
            layout = _Layout(data[start : start + block], count, address_length)
        except (_NoLayoutError, GarbledMessageError):
            return None
        if number & layout.mask != layout.expected:
            return None
        if len(_layouts) >= _MOST_LAYOUTS:
            _layouts.clear()
        _layouts[key] = layout
    return _Columns(data, start, end, layout).readings(address_length)


class _Columns:
    """The list as columns: each field of all VFs."""

    __slots__ = ("_data", "_end", "_layout", "_start", "_stride", "_words")

    def __init__(self, data: bytes, start: int, end: int, layout: _Layout) -> None:
        self._data = data
        self._start = start
        self._end = end
        self._layout = layout
        self._words = memoryview(data)[start:end].cast("I")
        self._stride = layout.block // _WORD

    def readings(self, address_length: int) -> tuple[VfReading, ...]:
        broadcast = self._layout.broadcast
        admins = enumerate(self._admins(address_length))
        if self._layout.counters is None:
            return tuple([VfReading(index=vf, admin=admin, broadcast=broadcast) for vf, admin in admins])
        return tuple(
            [
                VfReading(index=vf, admin=admin, broadcast=broadcast, statistics=counters)
                for (vf, admin), counters in zip(admins, self._statistics(), strict=True)
            ]
        )

    def _admins(self, address_length: int) -> list[AdminState]:
        columns = (
            self._macs(address_length),
            self._vlans(),
            self._rates(),
            self._flags(IFLA_VF_SPOOFCHK),
            self._link_states(),
            self._flags(IFLA_VF_RSS_QUERY_EN),
            self._flags(IFLA_VF_TRUST),
        )
        places = self._layout.places
        if IFLA_VF_IB_NODE_GUID not in places and IFLA_VF_IB_PORT_GUID not in places:
            # Ethernet, which is nearly everything: two values less to hand over for each VF.
            return [
                AdminState(
                    mac=mac, vlans=vlans, rate=rate, spoofchk=spoofchk, link_state=link, rss_query=rss, trust=trust
                )
                for mac, vlans, rate, spoofchk, link, rss, trust in zip(*columns, strict=False)
            ]
        return [
            AdminState(
                mac=mac,
                vlans=vlans,
                rate=rate,
                spoofchk=spoofchk,
                link_state=link,
                rss_query=rss,
                trust=trust,
                node_guid=node,
                port_guid=port,
            )
            for mac, vlans, rate, spoofchk, link, rss, trust, node, port in zip(
                *columns, self._guids(IFLA_VF_IB_NODE_GUID), self._guids(IFLA_VF_IB_PORT_GUID), strict=False
            )
        ]

    def _column(self, kind: int, word: int) -> list[int]:
        """Return one word of an attribute's payload, for all VFs."""
        return self._words[self._layout.places[kind] // _WORD + word :: self._stride].tolist()

    def _macs(self, length: int) -> list[str]:
        data = self._data
        first = self._start + self._layout.places[IFLA_VF_MAC] + _WORD
        return [data[place : place + length].hex(":") for place in range(first, self._end, self._layout.block)]

    def _vlans(self) -> Iterable[tuple[Vlan, ...] | None]:
        kind = IFLA_VF_VLAN_LIST if IFLA_VF_VLAN_LIST in self._layout.places else IFLA_VF_VLAN
        if kind not in self._layout.places:
            return repeat(None)
        vids, priorities = self._column(kind, 1), self._column(kind, 2)
        if not any(vids) and not any(priorities):
            return repeat(())
        words = self._column(kind, 3) if kind == IFLA_VF_VLAN_LIST else repeat(0)
        return map(vlans_of, vids, priorities, words)

    def _rates(self) -> Iterable[Rate | None]:
        if IFLA_VF_RATE in self._layout.places:
            minima, maxima = self._column(IFLA_VF_RATE, 1), self._column(IFLA_VF_RATE, 2)
        elif IFLA_VF_TX_RATE in self._layout.places:
            minima, maxima = [0], self._column(IFLA_VF_TX_RATE, 1)
        else:
            return repeat(None)
        if not any(minima) and not any(maxima):
            return repeat(NO_RATE)
        return map(rate_of, minima if len(minima) == len(maxima) else repeat(0), maxima)

    def _flags(self, kind: int) -> Iterable[bool | None]:
        return _shared(self._column(kind, 1), flag_of) if kind in self._layout.places else repeat(None)

    def _link_states(self) -> Iterable[LinkState | None]:
        if IFLA_VF_LINK_STATE not in self._layout.places:
            return repeat(None)
        return _shared(self._column(IFLA_VF_LINK_STATE, 1), link_state_of)

    def _guids(self, kind: int) -> Iterable[str | None]:
        if kind not in self._layout.places:
            return repeat(None)
        first = self._start + self._layout.places[kind] + GUID_OFFSET
        places = range(first, self._end, self._layout.block)
        return [guid_of(int.from_bytes(self._data[place : place + 8], sys.byteorder)) for place in places]

    def _statistics(self) -> Iterable[VfStatistics | None]:
        if self._layout.counters is None:
            return repeat(None)
        blocks = memoryview(self._data)[self._start : self._end]
        return map(statistics_of, self._layout.counters.iter_unpack(blocks))


def _shared(keys: list[int], make: Callable[[int], V]) -> Iterable[V]:
    """Return the value for each key, made once for each distinct key."""
    made = {key: make(key) for key in set(keys)}
    if len(made) == 1:
        return repeat(made[keys[0]])
    return map(made.__getitem__, keys)
