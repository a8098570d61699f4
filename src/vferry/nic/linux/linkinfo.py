# SPDX-License-Identifier: Apache-2.0
"""Decodes RTM_NEWLINK: a link's facts, and a PF's reading with all its VFs.

Numbers: ``include/uapi/linux/if_link.h``, ``if.h`` and ``rtnetlink.h`` (Linux 6.12).

**A reading is whole or refused.** The kernel ends the VF list without looking at its length, which has 16 bits: past
334 VFs (221 with statistics) it wraps, and what it then says is a list that is too short, with success. And a VF whose
driver fails to describe it is left out silently. ``IFLA_NUM_VF`` in the same message tells both: it must be the number
of VFs that were parsed.
"""

from __future__ import annotations

import struct

import msgspec

from vferry.core.model import PfReading, VfReading
from vferry.nic.linux.failure import GarbledMessageError
from vferry.nic.linux.netlink import Message, every_attribute, first_attributes
from vferry.nic.linux.vfcolumns import decode_columns
from vferry.nic.linux.vfinfo import ADDRESS_LENGTHS, IFLA_VF_INFO, IFLA_VFINFO_LIST, decode_vf

__all__ = [
    "IFF_LOWER_UP",
    "IFF_UP",
    "IFLA_ADDRESS",
    "IFLA_EXT_MASK",
    "IFLA_IFNAME",
    "IFLA_MTU",
    "RTM_NEWLINK",
    "LinkFacts",
    "decode_link",
    "decode_reading",
]

RTM_NEWLINK = 16

IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_MASTER = 10
IFLA_LINKINFO = 18
IFLA_NUM_VF = 21
IFLA_EXT_MASK = 29
IFLA_PERM_ADDRESS = 54

IFLA_INFO_SLAVE_KIND = 4
"""In ``IFLA_LINKINFO``: what kind of device the link's master is."""

IFF_UP = 0x1
IFF_LOWER_UP = 0x10000

_WRAP = 0x10000
"""The list's length field has 16 bits."""

_LINK = struct.Struct("=BBHiII")
"""``struct ifinfomsg``: family, padding, type, index, flags, change mask."""
_U32 = struct.Struct("=I")


class LinkFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What RTM_NEWLINK says of a network interface beside its VFs."""

    ifindex: int
    name: str | None
    admin_up: bool
    carrier: bool
    mtu: int | None
    address: str | None
    permanent_address: str | None
    master: int | None
    """ifindex of the interface that this one is a member of."""
    master_kind: str | None
    """``bond``, ``team``, ``bridge``, ...; absent where the master does not say."""


class _Link:
    """An RTM_NEWLINK whose attributes are found but not decoded yet."""

    __slots__ = ("data", "end", "flags", "found", "ifindex")

    def __init__(self, answer: Message) -> None:
        start, self.end = answer.start, answer.end
        if answer.kind != RTM_NEWLINK or self.end - start < _LINK.size:
            raise GarbledMessageError(f"message {answer.kind} with {self.end - start} octets does not describe a link")
        self.data = answer.data
        _family, _padding, _type, self.ifindex, self.flags, _change = _LINK.unpack_from(self.data, start)
        self.found = first_attributes(self.data, start + _LINK.size, self.end)

    def word(self, kind: int) -> int | None:
        place = self.found.get(kind)
        if place is None:
            return None
        if place[1] - place[0] < 4:
            raise GarbledMessageError(f"link attribute {kind} has {place[1] - place[0]} octets instead of 4")
        number: int = _U32.unpack_from(self.data, place[0])[0]
        return number

    def address(self, kind: int) -> str | None:
        """Return a hardware address; None where there is none of a length that vferry knows."""
        place = self.found.get(kind)
        if place is None or place[1] - place[0] not in ADDRESS_LENGTHS:
            return None
        return self.data[slice(*place)].hex(":")

    def text(self, place: tuple[int, int] | None) -> str | None:
        return self.data[slice(*place)].rstrip(b"\0").decode("utf-8", "replace") if place else None

    def address_length(self) -> int:
        """Return the octets of a hardware address on this link.

        :raise GarbledMessageError: they are neither 6 nor 20.
        """
        start, end = self.found.get(IFLA_ADDRESS, (0, 0))
        if end - start not in ADDRESS_LENGTHS:
            raise GarbledMessageError(f"the link's hardware address has {end - start} octets instead of 6 or 20")
        return end - start


def decode_link(answer: Message) -> LinkFacts:
    """Decode an interface's facts.

    :raise GarbledMessageError: the message is not whole.
    """
    link = _Link(answer)
    kinds = first_attributes(link.data, *link.found[IFLA_LINKINFO]) if IFLA_LINKINFO in link.found else {}
    return LinkFacts(
        ifindex=link.ifindex,
        name=link.text(link.found.get(IFLA_IFNAME)),
        admin_up=bool(link.flags & IFF_UP),
        carrier=bool(link.flags & IFF_LOWER_UP),
        mtu=link.word(IFLA_MTU),
        address=link.address(IFLA_ADDRESS),
        permanent_address=link.address(IFLA_PERM_ADDRESS),
        master=link.word(IFLA_MASTER),
        master_kind=link.text(kinds.get(IFLA_INFO_SLAVE_KIND)),
    )


def decode_reading(answer: Message) -> PfReading:
    """Decode a PF's reading.

    :raise GarbledMessageError: the message is not whole, or the VF list is not.
    """
    try:
        link = _Link(answer)
    except GarbledMessageError as error:
        raise GarbledMessageError(f"{error}{_wrap_words(answer.end - answer.start)}") from None
    num_vfs = link.word(IFLA_NUM_VF) or 0
    place = link.found.get(IFLA_VFINFO_LIST)
    vfs = _decode_list(link, num_vfs, *place) if place else ()
    return PfReading(
        ifindex=link.ifindex,
        num_vfs=num_vfs,
        vfs=vfs,
        has_settings=place is not None,
        mtu=link.word(IFLA_MTU),
        admin_up=bool(link.flags & IFF_UP),
        carrier=bool(link.flags & IFF_LOWER_UP),
        permanent_address=link.address(IFLA_PERM_ADDRESS),
        address=link.address(IFLA_ADDRESS),
    )


def _wrap_words(octets: int) -> str:
    """Return the explanation of a list whose length wrapped, if so many octets make that possible."""
    if octets < _WRAP:
        return ""
    return (
        "; the list is longer than its 16-bit length can say, which happens with more than about 334 VFs, "
        "or 221 with statistics"
    )


def _decode_list(link: _Link, num_vfs: int, start: int, end: int) -> tuple[VfReading, ...]:
    """Decode ``IFLA_VFINFO_LIST``, which must have every VF."""
    if not num_vfs and start == end:
        return ()
    length = link.address_length()
    readings = decode_columns(link.data, start, end, num_vfs, length) if num_vfs else None
    return _walk_list(link, num_vfs, start, end, length) if readings is None else readings


def _walk_list(link: _Link, num_vfs: int, start: int, end: int, address_length: int) -> tuple[VfReading, ...]:
    """Decode the list block by block; slow, and looks at everything."""
    # Behind a list whose length wrapped there are the 64 KiB that its length leaves out.
    wrapped = _wrap_words(link.end - end)
    try:
        blocks = list(every_attribute(link.data, start, end))
    except GarbledMessageError as error:
        raise GarbledMessageError(f"{error}{wrapped}") from None
    if len(blocks) != num_vfs:
        cause = wrapped or f"; the driver failed to describe {_missing(link.data, num_vfs, blocks)}"
        raise GarbledMessageError(f"the kernel announced {num_vfs} VFs and listed {len(blocks)}{cause}")
    if any(kind != IFLA_VF_INFO for kind, _start, _end in blocks):
        raise GarbledMessageError("the list of VFs has something else in it")
    return tuple(
        decode_vf(link.data, block, stop, index, address_length) for index, (_kind, block, stop) in enumerate(blocks)
    )


def _missing(data: bytes, num_vfs: int, blocks: list[tuple[int, int, int]]) -> str:
    """Name the VFs that are not in a list, as far as its blocks begin with a VF's address, as the kernel's do."""
    listed = {_U32.unpack_from(data, start + 4)[0] for _kind, start, end in blocks if end - start >= 8}
    missing = [str(vf) for vf in range(min(num_vfs, 0x10000)) if vf not in listed]
    if not missing:
        return "some VF"
    shown = ", ".join(missing[:8]) + (", ..." if len(missing) > 8 else "")
    return f"VF {shown}"
