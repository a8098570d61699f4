# SPDX-License-Identifier: Apache-2.0
"""Advanced descriptors: 16 octets each, two little-endian 64-bit words, ``low`` and ``high``.

.. code-block:: text

                  low                                        high
    RX read       packet buffer address                      header buffer address (unused: one buffer a packet)
    RX write-back RSS hash 63:32, RSS type 3:0, packet       VLAN 63:48, length 47:32, errors 31:20, status 19:0
                  type 15:4
    TX data       buffer address                             PAYLEN 63:46, POPTS 45:40, CC 39, IDX 38:36,
                                                             command 31:20, DTALEN 15:0
    TX write-back                                            DD 32
    TX context    VLAN 31:16, MACLEN 15:9, IPLEN 8:0         MSS 63:48, L4LEN 47:40, IDX 38:36, TUCMD 19:0

Bits as named in Linux 6.12 ``ixgbevf/defines.h`` and ``ixgbe_type.h``. Legacy descriptors (DEXT is 0), header split and
receive side coalescing are not known here: ixgbevf uses none of them on an 82599.
"""

from __future__ import annotations

import enum
import struct
from typing import Final, NamedTuple

__all__ = [
    "CONTEXTS",
    "DCMD_EOP",
    "DCMD_RS",
    "DCMD_TSE",
    "DCMD_VLE",
    "DESCRIPTOR",
    "DTALEN_MASK",
    "ERR_IPE",
    "ERR_TCPE",
    "HALF",
    "IDX_MASK",
    "IDX_SHIFT",
    "KIND_CONTEXT",
    "KIND_DATA",
    "KIND_MASK",
    "PAIR",
    "PAYLEN_SHIFT",
    "POPTS_IPSEC",
    "POPTS_IXSM",
    "POPTS_MASK",
    "POPTS_TXSM",
    "STAT_DD",
    "STAT_EOP",
    "STAT_IPCS",
    "STAT_L4CS",
    "STAT_UDPCS",
    "STAT_VP",
    "TX_DONE",
    "TX_DONE_OFFSET",
    "WORD",
    "Context",
    "L4Type",
    "PacketType",
    "RssType",
    "receive_write_back",
]

DESCRIPTOR: Final = 16
"""Octets of a descriptor."""
PAIR: Final = struct.Struct("<QQ")
WORD: Final = struct.Struct("<Q")
HALF: Final = struct.Struct("<I")

# Transmit, word ``high``: IXGBE_ADVTXD_*.
DTALEN_MASK: Final = 0xFFFF
DTYP_CTXT: Final = 0x00200000
DTYP_DATA: Final = 0x00300000
DCMD_EOP: Final = 1 << 24
DCMD_IFCS: Final = 1 << 25
DCMD_RS: Final = 1 << 27
DCMD_DEXT: Final = 1 << 29
DCMD_VLE: Final = 1 << 30
DCMD_TSE: Final = 1 << 31
KIND_MASK: Final = 0x00F00000 | DCMD_DEXT
KIND_DATA: Final = DTYP_DATA | DCMD_DEXT
KIND_CONTEXT: Final = DTYP_CTXT | DCMD_DEXT
IDX_SHIFT: Final = 32 + 4
IDX_MASK: Final = 0x7
CC: Final = 1 << 32 + 7
POPTS_IXSM: Final = 1 << 32 + 8
POPTS_TXSM: Final = 1 << 32 + 9
POPTS_IPSEC: Final = 1 << 32 + 10
POPTS_MASK: Final = 0x3F << 32 + 8
PAYLEN_SHIFT: Final = 32 + 14
TX_DONE: Final = 1
"""DD, in the last 32 bits of a transmit descriptor."""
TX_DONE_OFFSET: Final = 12

CONTEXTS: Final = 2
"""Contexts that a queue remembers; ixgbevf uses 0 for all but segmentation, and 1 for that."""
TUCMD_IPV4: Final = 1 << 10
TUCMD_L4T_SHIFT: Final = 11

# Receive, word ``high``: IXGBE_RXD_STAT_*, IXGBE_RXDADV_ERR_*.
STAT_DD: Final = 1 << 0
STAT_EOP: Final = 1 << 1
STAT_VP: Final = 1 << 3
STAT_UDPCS: Final = 1 << 4
STAT_L4CS: Final = 1 << 5
STAT_IPCS: Final = 1 << 6
ERR_TCPE: Final = 1 << 30
ERR_IPE: Final = 1 << 31


class PacketType(enum.IntFlag):
    """Bits 15:4 of ``low`` (IXGBE_RXDADV_PKTTYPE_*); an extended header sets its bit beside the plain one's."""

    NONE = 0
    IPV4 = 0x010
    IPV4_EX = 0x020
    IPV6 = 0x040
    IPV6_EX = 0x080
    TCP = 0x100
    UDP = 0x200
    SCTP = 0x400


class RssType(enum.IntEnum):
    """Bits 3:0 of ``low`` (IXGBE_RXDADV_RSSTYPE_*): what the hash was made of."""

    NONE = 0
    IPV4_TCP = 1
    IPV4 = 2
    IPV6_TCP = 3
    IPV6 = 5
    IPV4_UDP = 7
    IPV6_UDP = 8


class L4Type(enum.IntEnum):
    """TUCMD.L4T."""

    UDP = 0
    TCP = 1
    SCTP = 2
    RESERVED = 3


class Context(NamedTuple):
    """A context descriptor, decoded."""

    vlan: int
    mac_length: int
    """Octets before the IP header."""
    ip_length: int
    """Octets from there to the L4 header: with ixgbevf's tunnels, all headers between."""
    ipv4: bool
    l4_type: L4Type
    l4_length: int
    mss: int

    @classmethod
    def decode(cls, low: int, high: int) -> Context:
        """Return what the two words of a context descriptor say; every pair of 64-bit words says something."""
        return cls(
            vlan=low >> 16 & 0xFFFF,
            mac_length=low >> 9 & 0x7F,
            ip_length=low & 0x1FF,
            ipv4=bool(high & TUCMD_IPV4),
            l4_type=L4Type(high >> TUCMD_L4T_SHIFT & 3),
            l4_length=high >> 40 & 0xFF,
            mss=high >> 48 & 0xFFFF,
        )


def receive_write_back(info: int, rss_hash: int, status_error: int, length: int, vlan: int) -> tuple[bytes, bytes]:
    """Return both words of a receive descriptor that is given back, ``low`` first.

    :param info: RSS type and packet type.
    """
    return WORD.pack(rss_hash << 32 | info), WORD.pack(vlan << 48 | length << 32 | status_error)
