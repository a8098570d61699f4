# SPDX-License-Identifier: Apache-2.0
"""The messages between a VF's driver and the PF's driver: ids, flags, payloads.

Numbers are those of ``drivers/net/ethernet/intel/ixgbe/ixgbe_mbx.h`` and of
``drivers/net/ethernet/intel/ixgbevf/mbx.h`` (Linux 6.12, here 6.12.117), unless a line says otherwise.
A message is 1 to 16 words of 32 bits. Word 0 holds bit 31 ACK, bit 30 NACK, bit 29 CTS, bits 23:16 MSGINFO and bits
15:0 the id. A MAC address stands in two words, the first octet in the lowest bits (the drivers copy octets on little
endian words).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

from vferry.nic.ixgbe.registers.pf import MAILBOX_WORDS

__all__ = [
    "ACK",
    "API_ORDER",
    "CTS",
    "ID_MASK",
    "MAILBOX_WORDS",
    "MAX_MC_HASHES",
    "MSGINFO_MASK",
    "MSGINFO_SHIFT",
    "NACK",
    "RESET_REPLY_WORDS",
    "Api",
    "Id",
    "XcastMode",
    "describe",
    "mac_of",
    "mac_words",
    "message_id",
    "msginfo",
    "pack_hashes",
    "unpack_hashes",
    "word0",
]

ACK: Final = 0x80000000
"""``IXGBE_VT_MSGTYPE_ACK``: done."""
NACK: Final = 0x40000000
"""``IXGBE_VT_MSGTYPE_NACK``: refused."""
CTS: Final = 0x20000000
"""``IXGBE_VT_MSGTYPE_CTS``: clear to send, the PF accepts this VF's messages."""
MSGINFO_SHIFT: Final = 16
MSGINFO_MASK: Final = 0x00FF0000
ID_MASK: Final = 0x0000FFFF

MAX_MC_HASHES: Final = 30
"""``IXGBE_MAX_VF_MC_ENTRIES``: 30 hashes of 16 bits fill the 15 words behind word 0."""

RESET_REPLY_WORDS: Final = 4
"""``IXGBE_VF_PERMADDR_MSG_LEN``: the reply to RESET holds the MAC address and the multicast filter type."""


class Id(enum.IntEnum):
    """What a message asks for (bits 15:0 of word 0)."""

    RESET = 0x01
    SET_MAC_ADDR = 0x02
    SET_MULTICAST = 0x03
    SET_VLAN = 0x04
    SET_LPE = 0x05
    SET_MACVLAN = 0x06
    API_NEGOTIATE = 0x08
    GET_QUEUES = 0x09
    GET_RETA = 0x0A
    GET_RSS_KEY = 0x0B
    UPDATE_XCAST_MODE = 0x0C
    IPSEC_ADD = 0x0D
    IPSEC_DEL = 0x0E
    GET_LINK_STATE = 0x10
    GET_PF_LINK_STATE = 0x11
    FEATURES_NEGOTIATE = 0x12
    RESUME = 0xF0
    """vferry's own, in no Linux driver: "the VF runs again, program what was restored". The 2015 series used 0x0c,
    which has since been given to UPDATE_XCAST_MODE."""
    PF_CONTROL_MSG = 0x0100
    """From the PF: a notice without payload, the "ping"."""


class Api(enum.IntEnum):
    """The value that API_NEGOTIATE carries; the values are not in the order of the versions (2.0 is the second)."""

    V1_0 = 0
    V2_0 = 1
    V1_1 = 2
    V1_2 = 3
    V1_3 = 4
    V1_4 = 5
    V1_5 = 6
    V1_6 = 7
    V1_7 = 8


API_ORDER: Final = (Api.V1_7, Api.V1_6, Api.V1_5, Api.V1_4, Api.V1_3, Api.V1_2, Api.V1_1, Api.V1_0)
"""What a VF driver of today offers, the newest first (``ixgbevf_negotiate_api()``)."""


class XcastMode(enum.IntEnum):
    """``enum ixgbevf_xcast_modes``: which frames to many the VF asks for."""

    NONE = 0
    MULTI = 1
    ALLMULTI = 2
    PROMISC = 3


def word0(ident: int, info: int = 0) -> int:
    """Return word 0 of a request; `info` is MSGINFO, 0 to 255."""
    return ident | (info << MSGINFO_SHIFT & MSGINFO_MASK)


def message_id(word: int) -> int:
    """Return bits 15:0 of word 0."""
    return word & ID_MASK


def msginfo(word: int) -> int:
    """Return bits 23:16 of word 0."""
    return (word & MSGINFO_MASK) >> MSGINFO_SHIFT


def mac_words(mac: bytes) -> tuple[int, int]:
    """Return a MAC address (6 octets) as two words."""
    return int.from_bytes(mac[:4], "little"), int.from_bytes(mac[4:6], "little")


def mac_of(low: int, high: int) -> bytes:
    """Return the MAC address (6 octets) that stands in two words."""
    return low.to_bytes(4, "little") + (high & 0xFFFF).to_bytes(2, "little")


def pack_hashes(hashes: Sequence[int]) -> tuple[int, ...]:
    """Return 16-bit hashes as words, two in each, the first in the lower half."""
    padded = [*hashes, 0] if len(hashes) % 2 else list(hashes)
    return tuple(low & 0xFFFF | (high & 0xFFFF) << 16 for low, high in zip(padded[::2], padded[1::2], strict=True))


def unpack_hashes(words: Sequence[int], count: int) -> list[int]:
    """Return the first `count` 16-bit hashes of `words`."""
    halves = [half for word in words for half in (word & 0xFFFF, word >> 16 & 0xFFFF)]
    return halves[:count]


def describe(words: Sequence[int]) -> str:
    """Return a message for people: its name, MSGINFO where not 0, its payload words, and its flags."""
    ident = message_id(words[0])
    name = Id(ident).name if ident in Id.__members__.values() else f"0x{ident:04x}"
    info = f"[{msginfo(words[0])}]" if msginfo(words[0]) else ""
    flags = "".join(f"|{flag}" for bit, flag in ((ACK, "ACK"), (NACK, "NACK"), (CTS, "CTS")) if words[0] & bit)
    payload = "".join(f" {word:#x}" for word in words[1:])
    return f"{name}{info}{flags}{payload}"
