# SPDX-License-Identifier: Apache-2.0
"""The VF attributes of rtnetlink: ``IFLA_VF_*``, typed, both ways.

Numbers and layouts: ``include/uapi/linux/if_link.h`` (Linux 6.12), section "SR-IOV virtual function management";
what the kernel fills in and how it takes changes: ``rtnl_fill_vfinfo()`` and ``do_setvfinfo()`` of
``net/core/rtnetlink.c``. Integers are in host byte order, the VLAN protocol in network byte order.

What a driver does not report is absent here: the kernel presets spoofchk, RSS query and trust to all ones before it
asks the driver.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from vferry.core.model import DOT1AD, DOT1Q, AdminState, LinkState, Rate, VfReading, VfStatistics, Vlan
from vferry.nic.linux.failure import GarbledMessageError
from vferry.nic.linux.netlink import attribute, every_attribute, first_attributes

__all__ = [
    "ADDRESS_LENGTHS",
    "GUID_OFFSET",
    "IFLA_VFINFO_LIST",
    "IFLA_VF_BROADCAST",
    "IFLA_VF_IB_NODE_GUID",
    "IFLA_VF_IB_PORT_GUID",
    "IFLA_VF_INFO",
    "IFLA_VF_LINK_STATE",
    "IFLA_VF_MAC",
    "IFLA_VF_RATE",
    "IFLA_VF_RSS_QUERY_EN",
    "IFLA_VF_SPOOFCHK",
    "IFLA_VF_STATS",
    "IFLA_VF_TRUST",
    "IFLA_VF_TX_RATE",
    "IFLA_VF_VLAN",
    "IFLA_VF_VLAN_INFO",
    "IFLA_VF_VLAN_LIST",
    "MAX_VLAN_LIST_LEN",
    "MINIMUM_LENGTHS",
    "NOT_REPORTED",
    "NO_RATE",
    "STATISTICS",
    "VLAN_INFO_LENGTH",
    "decode_vf",
    "encode_change",
    "flag_of",
    "guid_of",
    "link_state_of",
    "rate_of",
    "statistics_of",
    "vlans_of",
]

IFLA_VFINFO_LIST = 22
"""Of the link: its VFs."""
IFLA_VF_INFO = 1
"""In ``IFLA_VFINFO_LIST``: one VF."""

IFLA_VF_MAC = 1
IFLA_VF_VLAN = 2
IFLA_VF_TX_RATE = 3
IFLA_VF_SPOOFCHK = 4
IFLA_VF_LINK_STATE = 5
IFLA_VF_RATE = 6
IFLA_VF_RSS_QUERY_EN = 7
IFLA_VF_STATS = 8
IFLA_VF_TRUST = 9
IFLA_VF_IB_NODE_GUID = 10
IFLA_VF_IB_PORT_GUID = 11
IFLA_VF_VLAN_LIST = 12
IFLA_VF_BROADCAST = 13

IFLA_VF_VLAN_INFO = 1
"""In ``IFLA_VF_VLAN_LIST``: one ``struct ifla_vf_vlan_info``."""

NOT_REPORTED = 0xFFFF_FFFF
"""``rtnl_fill_vfinfo()``: preset of settings that the driver may leave alone."""

ETH_P_8021Q = 0x8100
ETH_P_8021AD = 0x88A8
"""``include/uapi/linux/if_ether.h``."""

_GUID = struct.Struct("@IQ")
"""``struct ifla_vf_guid``: VF, GUID; native alignment, 4 octets of padding between them on 64-bit machines."""
GUID_OFFSET = _GUID.size - 8
"""Where the GUID lies in ``struct ifla_vf_guid``."""

MINIMUM_LENGTHS = {
    IFLA_VF_MAC: 36,  # struct ifla_vf_mac: VF, 32 octets (MAX_ADDR_LEN)
    IFLA_VF_VLAN: 12,  # struct ifla_vf_vlan: VF, vid, qos
    IFLA_VF_TX_RATE: 8,  # struct ifla_vf_tx_rate: VF, rate
    IFLA_VF_SPOOFCHK: 8,  # struct ifla_vf_spoofchk: VF, setting
    IFLA_VF_LINK_STATE: 8,  # struct ifla_vf_link_state: VF, state
    IFLA_VF_RATE: 12,  # struct ifla_vf_rate: VF, minimum, maximum
    IFLA_VF_RSS_QUERY_EN: 8,  # struct ifla_vf_rss_query_en: VF, setting
    IFLA_VF_TRUST: 8,  # struct ifla_vf_trust: VF, setting
    IFLA_VF_IB_NODE_GUID: _GUID.size,
    IFLA_VF_IB_PORT_GUID: _GUID.size,
    IFLA_VF_BROADCAST: 32,  # struct ifla_vf_broadcast: 32 octets, no VF
}
"""Payload of each plain attribute in octets; later kernels may append."""

VLAN_INFO_LENGTH = 16
"""``sizeof(struct ifla_vf_vlan_info)``: VF, vid, qos, protocol and two octets of padding."""

ADDRESS_LENGTHS = (6, 20)
"""Octets of a hardware address: Ethernet, IP over InfiniBand (``ETH_ALEN``, ``INFINIBAND_ALEN``)."""

MAX_VLAN_LIST_LEN = 1
"""``include/uapi/linux/if_link.h``: VLANs per VF that the kernel takes."""

_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")
_TWO = struct.Struct("=II")
_THREE = struct.Struct("=III")
_LARGEST_COUNTER = 0x7FFF_FFFF_FFFF_FFFF

_SET_NESTS = struct.Struct("=HHHH")
"""Headers of ``IFLA_VFINFO_LIST`` and ``IFLA_VF_INFO``."""
_SET_MAC = struct.Struct("=HHI32s")
_SET_VLANS = struct.Struct("=HHHHIII2s2x")
"""Headers of ``IFLA_VF_VLAN_LIST`` and ``IFLA_VF_VLAN_INFO``; VF, vid, qos, protocol, padding."""
_SET_RATE = struct.Struct("=HHIII")
_SET_WORD = struct.Struct("=HHII")

STATISTICS = {
    0: "rx_packets",
    1: "tx_packets",
    2: "rx_bytes",
    3: "tx_bytes",
    4: "broadcast",
    5: "multicast",
    7: "rx_dropped",
    8: "tx_dropped",
}
"""``IFLA_VF_STATS_*``; 6 is padding."""


# Section: values, shared by the walk below and by vferry.nic.linux.vfcolumns


def flag_of(setting: int) -> bool | None:
    """Return a setting that is on or off; None where the driver did not report it."""
    return None if setting == NOT_REPORTED else setting != 0


_LINK_STATES = {0: LinkState.AUTO, 1: LinkState.ENABLE, 2: LinkState.DISABLE}
"""``IFLA_VF_LINK_STATE_*``."""
_LINK_STATE_NUMBERS = {state: number for number, state in _LINK_STATES.items()}


def link_state_of(state: int) -> LinkState:
    """Return a link state.

    :raise GarbledMessageError: there is no such state.
    """
    try:
        return _LINK_STATES[state]
    except KeyError:
        raise GarbledMessageError(f"{state} is no link state of a VF") from None


NO_RATE = Rate(min_tx=0, max_tx=0)
_NO_VLAN = Vlan(vid=0)


@lru_cache(maxsize=4096)
def rate_of(minimum: int, maximum: int) -> Rate:
    """Return transmit rates, Mbit/s."""
    return Rate(min_tx=minimum, max_tx=maximum)


@lru_cache(maxsize=4096)
def vlans_of(vid: int, qos: int, word: int) -> tuple[Vlan, ...]:
    """Return the VLANs of one ``struct ifla_vf_vlan_info``; none where neither vid nor priority is set.

    :param word: the word that begins with the protocol; 0 where some drivers leave nothing there.
    :raise GarbledMessageError: vid or qos is out of range.
    """
    if not vid and not qos:
        return ()
    if vid > 4095 or qos > 7:
        raise GarbledMessageError(f"VLAN {vid} with priority {qos} cannot be")
    number = int.from_bytes(_U32.pack(word)[:2], "big")
    proto = _PROTOCOLS.get(number) or f"0x{number:04x}" if number else None
    return (Vlan(vid=vid, qos=qos, proto=proto),)


_PROTOCOLS = {ETH_P_8021Q: DOT1Q, ETH_P_8021AD: DOT1AD}
_PROTOCOL_NUMBERS = {name: number for number, name in _PROTOCOLS.items()}


def guid_of(number: int) -> str:
    """Return a GUID as ``ip link`` prints it: a 64-bit number, most significant octet first."""
    return number.to_bytes(8, "big").hex(":")


def statistics_of(counters: tuple[int, ...]) -> VfStatistics:
    """Return a VF's counters, given in the order of :data:`STATISTICS`.

    :raise GarbledMessageError: a counter is beyond 63 bits, which no counter reaches by counting.
    """
    if max(counters) > _LARGEST_COUNTER:
        raise GarbledMessageError("a VF's counter is beyond 63 bits")
    return VfStatistics(**dict(zip(STATISTICS.values(), counters, strict=True)))


# Section: decoding one VF


def decode_vf(data: bytes, start: int, end: int, index: int, address_length: int) -> VfReading:
    """Decode the attributes of one ``IFLA_VF_INFO``.

    :param index: the VF that it must be about: the kernel lists VFs in order.
    :param address_length: octets of a hardware address on this link, 6 or 20.
    :raise GarbledMessageError: it is not whole, or about another VF.
    """
    block = _Block(data, first_attributes(data, start, end), index)
    return VfReading(
        index=index,
        admin=AdminState(
            mac=block.address(IFLA_VF_MAC, 4, address_length),
            vlans=block.vlans(),
            rate=block.rate(),
            spoofchk=block.flag(IFLA_VF_SPOOFCHK),
            link_state=block.link_state(),
            rss_query=block.flag(IFLA_VF_RSS_QUERY_EN),
            trust=block.flag(IFLA_VF_TRUST),
            node_guid=block.guid(IFLA_VF_IB_NODE_GUID),
            port_guid=block.guid(IFLA_VF_IB_PORT_GUID),
        ),
        broadcast=block.address(IFLA_VF_BROADCAST, 0, address_length),
        statistics=block.statistics(),
    )


class _Block:
    """The attributes of one VF, all of them long enough and about that VF."""

    __slots__ = ("_data", "_found", "_index")

    def __init__(self, data: bytes, found: dict[int, tuple[int, int]], index: int) -> None:
        self._data = data
        self._found = found
        self._index = index
        if IFLA_VF_MAC not in found:
            raise GarbledMessageError(f"block {index} of the list has no address, so nothing tells its VF")
        for kind, (start, end) in found.items():
            length = MINIMUM_LENGTHS.get(kind, 0)
            if end - start < length:
                raise GarbledMessageError(f"VF attribute {kind} has {end - start} octets instead of {length}")
            if length and kind != IFLA_VF_BROADCAST:
                self._check_index(start)

    def _check_index(self, place: int) -> None:
        (vf,) = _U32.unpack_from(self._data, place)
        if vf != self._index:
            raise GarbledMessageError(f"block {self._index} of the list says that it is about VF {vf}")

    def _word(self, kind: int) -> int | None:
        """Return the word behind the VF index."""
        return _U32.unpack_from(self._data, self._found[kind][0] + 4)[0] if kind in self._found else None

    def address(self, kind: int, offset: int, length: int) -> str | None:
        if kind not in self._found:
            return None
        start = self._found[kind][0] + offset
        return self._data[start : start + length].hex(":")

    def flag(self, kind: int) -> bool | None:
        word = self._word(kind)
        return None if word is None else flag_of(word)

    def link_state(self) -> LinkState | None:
        word = self._word(IFLA_VF_LINK_STATE)
        return None if word is None else link_state_of(word)

    def rate(self) -> Rate | None:
        if IFLA_VF_RATE in self._found:
            return rate_of(*_TWO.unpack_from(self._data, self._found[IFLA_VF_RATE][0] + 4))
        # Kernels before 3.16 know a maximum only.
        maximum = self._word(IFLA_VF_TX_RATE)
        return None if maximum is None else rate_of(0, maximum)

    def guid(self, kind: int) -> str | None:
        if kind not in self._found:
            return None
        return guid_of(_U64.unpack_from(self._data, self._found[kind][0] + GUID_OFFSET)[0])

    def vlans(self) -> tuple[Vlan, ...] | None:
        """Return the VLANs of the list, or of the older attribute, which has no protocol."""
        if IFLA_VF_VLAN_LIST not in self._found:
            if IFLA_VF_VLAN not in self._found:
                return None
            vid, qos = _TWO.unpack_from(self._data, self._found[IFLA_VF_VLAN][0] + 4)
            return vlans_of(vid, qos, 0)
        vlans: tuple[Vlan, ...] = ()
        for kind, start, end in every_attribute(self._data, *self._found[IFLA_VF_VLAN_LIST]):
            if kind != IFLA_VF_VLAN_INFO:
                continue
            if end - start < VLAN_INFO_LENGTH:
                raise GarbledMessageError(f"a VLAN has {end - start} octets instead of {VLAN_INFO_LENGTH}")
            self._check_index(start)
            vlans += vlans_of(*_THREE.unpack_from(self._data, start + 4))
        return vlans

    def statistics(self) -> VfStatistics | None:
        if IFLA_VF_STATS not in self._found:
            return None
        counters: dict[int, int] = {}
        for kind, start, end in every_attribute(self._data, *self._found[IFLA_VF_STATS]):
            if kind not in STATISTICS:
                continue
            if end - start != 8:
                raise GarbledMessageError(f"a VF's counter has {end - start} octets instead of 8")
            counters.setdefault(kind, _U64.unpack_from(self._data, start)[0])
        if len(counters) != len(STATISTICS):
            raise GarbledMessageError("a VF's statistics are not whole")
        return statistics_of(tuple(counters[kind] for kind in STATISTICS))


# Section: encoding one VF's change


def encode_change(vf: int, change: AdminState) -> tuple[bytes, ...]:
    """Encode a change as payloads of RTM_SETLINK, to be sent in this order, each after the one before succeeded.

    One is enough unless both GUIDs change: ``do_setvfinfo()`` returns right after a GUID.

    :param vf: index of the VF.
    :return: one ``IFLA_VFINFO_LIST`` per message; none where nothing changes.
    :raise ValueError: a value cannot be expressed at all.
    :raise struct.error: a number does not fit into 32 bits.
    """
    parts = _encode_settings(vf, change)
    last: bytes | None = None
    if change.node_guid is not None:
        parts.append(_encode_guid(IFLA_VF_IB_NODE_GUID, vf, change.node_guid))
    if change.port_guid is not None:
        guid = _encode_guid(IFLA_VF_IB_PORT_GUID, vf, change.port_guid)
        if change.node_guid is None:
            parts.append(guid)
        else:
            last = guid
    first = (_enclosed(b"".join(parts)),) if parts else ()
    return (*first, _enclosed(last)) if last is not None else first


def _enclosed(attributes: bytes) -> bytes:
    """Put a VF's attributes into ``IFLA_VFINFO_LIST`` and ``IFLA_VF_INFO``."""
    length = len(attributes)
    return _SET_NESTS.pack(length + 8, IFLA_VFINFO_LIST, length + 4, IFLA_VF_INFO) + attributes


def _encode_settings(vf: int, change: AdminState) -> list[bytes]:
    parts: list[bytes] = []
    if change.mac is not None:
        parts.append(_SET_MAC.pack(_SET_MAC.size, IFLA_VF_MAC, vf, _mac_octets(change.mac)))
    if change.vlans is not None:
        parts.append(_encode_vlans(vf, change.vlans))
    if change.rate is not None:
        parts.append(_SET_RATE.pack(_SET_RATE.size, IFLA_VF_RATE, vf, change.rate.min_tx, change.rate.max_tx))
    if change.spoofchk is not None:
        parts.append(_SET_WORD.pack(_SET_WORD.size, IFLA_VF_SPOOFCHK, vf, change.spoofchk))
    if change.link_state is not None:
        parts.append(_SET_WORD.pack(_SET_WORD.size, IFLA_VF_LINK_STATE, vf, _LINK_STATE_NUMBERS[change.link_state]))
    if change.rss_query is not None:
        parts.append(_SET_WORD.pack(_SET_WORD.size, IFLA_VF_RSS_QUERY_EN, vf, change.rss_query))
    if change.trust is not None:
        parts.append(_SET_WORD.pack(_SET_WORD.size, IFLA_VF_TRUST, vf, change.trust))
    return parts


def _mac_octets(mac: str) -> bytes:
    octets = bytes.fromhex(mac.replace(":", ""))
    if len(octets) not in ADDRESS_LENGTHS:
        raise ValueError(f"a hardware address has 6 or 20 octets, not {len(octets)}: {mac}")
    return octets


def _encode_vlans(vf: int, vlans: tuple[Vlan, ...]) -> bytes:
    """Encode a VLAN list; an empty one as vid 0, which takes the VLAN away (``struct ifla_vf_vlan_info``)."""
    if len(vlans) > MAX_VLAN_LIST_LEN:
        raise ValueError(f"the kernel takes {MAX_VLAN_LIST_LEN} VLAN per VF, not {len(vlans)}")
    vlan = vlans[0] if vlans else _NO_VLAN
    protocol = _protocol_octets(vlan.proto or DOT1Q)
    length = _SET_VLANS.size
    return _SET_VLANS.pack(length, IFLA_VF_VLAN_LIST, length - 4, IFLA_VF_VLAN_INFO, vf, vlan.vid, vlan.qos, protocol)


def _protocol_octets(protocol: str) -> bytes:
    number = _PROTOCOL_NUMBERS.get(protocol)
    if number is None:
        number = int(protocol, 16)
        if not 0 <= number <= 0xFFFF:
            raise ValueError(f"an EtherType has 16 bits: {protocol}")
    return number.to_bytes(2, "big")


def _encode_guid(kind: int, vf: int, guid: str) -> bytes:
    octets = bytes.fromhex(guid.replace(":", ""))
    if len(octets) != 8:
        raise ValueError(f"a GUID has 8 octets, not {len(octets)}: {guid}")
    return attribute(kind, _GUID.pack(vf, int.from_bytes(octets, "big")))
