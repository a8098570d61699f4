# SPDX-License-Identifier: Apache-2.0
"""What the switch reads of an Ethernet frame: two addresses, one 802.1Q tag, and the 12 bits a hash table goes by.

A frame is ``bytes``, from the destination address to the last octet before the FCS, its tag inline.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BROADCAST",
    "FCS_SIZE",
    "HEADER_SIZE",
    "TAG_SIZE",
    "TPID",
    "UNTAGGED",
    "VID_MASK",
    "hash_index",
    "is_group",
    "vlan_of",
    "with_tag",
    "without_tag",
]

HEADER_SIZE: Final = 14
"""Octets of an untagged Ethernet header: two addresses and a type (IEEE 802.3, 3.1.1)."""
TAG_SIZE: Final = 4
"""Octets of one 802.1Q tag (IEEE 802.1Q, 9.3)."""
FCS_SIZE: Final = 4
"""Octets of the frame check sequence, which frames here do not carry and registers count (IEEE 802.3, 3.2.9)."""
TPID: Final = b"\x81\x00"
"""What stands in place of the type in a tagged frame (ETH_P_8021Q, if_ether.h)."""
BROADCAST: Final = b"\xff" * 6
VID_MASK: Final = 0x0FFF
UNTAGGED: Final = -1
"""In place of a VLAN identifier: the frame has no tag. A tag with identifier 0 is a tag."""


def is_group(address: bytes) -> bool:
    """Return whether an address names a group, broadcast included: the lowest bit of its first octet."""
    return bool(address[0] & 1)


def vlan_of(frame: bytes) -> int:
    """Return the VLAN identifier of a frame's outer tag, 0..4095, or :data:`UNTAGGED`.

    The frame has 14 octets or more; one that ends within its tag counts as untagged.
    """
    if frame[12:14] != TPID or len(frame) < HEADER_SIZE + TAG_SIZE:
        return UNTAGGED
    return (frame[14] << 8 | frame[15]) & VID_MASK


def with_tag(frame: bytes, tag: bytes) -> bytes:
    """Return a frame with one more tag, outside of any that it has."""
    return frame[:12] + tag + frame[12:]


def without_tag(frame: bytes) -> bytes:
    """Return a tagged frame without its outer tag."""
    return frame[:12] + frame[16:]


def hash_index(address: bytes, filter_type: int) -> int:
    """Return the place of an address in the 4096 bits of MTA or UTA.

    :param filter_type: MCSTCTRL.MO, 0..3: bits 47:36, 46:35, 45:34 or 43:32 of the address, bit 47 being the highest
        of its last octet (``ixgbe_mta_vector()``, Linux 6.12).
    """
    low, high = address[4], address[5]
    shift = 4 - filter_type - (filter_type == 3)
    return (low >> shift | high << (8 - shift)) & 0x0FFF
