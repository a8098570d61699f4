# SPDX-License-Identifier: Apache-2.0
"""The PF's own forwarding entries: what ``bridge fdb add MAC dev PF self`` adds, ``del`` removes and ``show`` lists.

Numbers: ``include/uapi/linux/neighbour.h``, ``rtnetlink.h`` and ``include/linux/socket.h`` (Linux 6.12).

**What an entry is.** For most drivers it is a member of the interface's list of unicast addresses (``netdev->uc``:
``ndo_dflt_fdb_add()``, ``ndo_dflt_fdb_dump()``, ``net/core/rtnetlink.c``), for which the driver sets receive filters,
or receives everything where it has none. It lives as long as the interface does. The same list holds what a bridge, a
VLAN or a macvlan above the interface needs, and shows nobody's name. An entry counts its holders, but a request for one
that exists adds no holder, while each removal takes one away, whoever's it was. So an entry that others hold as well
may outlive its removal, and removing one that only another holds takes it from that one.

**What the kernel does not refuse.** It takes the zero address for a unicast one, and keeps group addresses in a list of
their own, where IPv6 needs them. Both are refused here.
"""

from __future__ import annotations

import errno
import struct

from vferry.nic.linux.failure import GarbledMessageError, KernelError
from vferry.nic.linux.link import Links
from vferry.nic.linux.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    Message,
    NetlinkSocket,
    attribute,
    first_attributes,
    message,
)

__all__ = ["NoRoomError", "add", "read", "remove"]

RTM_NEWNEIGH = 28
RTM_DELNEIGH = 29
RTM_GETNEIGH = 30

AF_BRIDGE = 7
NDA_LLADDR = 2
NTF_SELF = 0x02
NUD_PERMANENT = 0x80
"""The only state that the kernel takes for an entry of the interface itself (``ndo_dflt_fdb_add()``)."""

ETH_ALEN = 6

_NEIGHBOUR = struct.Struct("=BBHiHBB")
"""``struct ndmsg``: family, padding (8 and 16 bits), ifindex, state, flags, type."""
_LINK = struct.Struct("=BBHiII")
"""``struct ifinfomsg``: family, padding, type, index, flags, change mask."""


class NoRoomError(KernelError):
    """ENOMEM: how ``igb`` and ``ixgbe`` say that the PF's address filters are all taken (``igb_ndo_fdb_add()``).

    A kernel that is out of memory for 100 octets says the same.
    """


def read(links: Links, ifindex: int) -> tuple[str, ...]:
    """Return the unicast addresses that an interface receives for beside its own, sorted.

    :raise KernelError: the kernel refuses (ENODEV: there is no such interface).
    :raise GarbledMessageError: the answer is not whole.
    """
    # The kernel's filter: it reads a struct ifinfomsg here, and gives the entries of the interface it names
    # (valid_fdb_dump_legacy()); after a struct ndmsg it would give those of all interfaces.
    body = _LINK.pack(AF_BRIDGE, 0, 0, ifindex, 0, 0)

    def ask(sock: NetlinkSocket) -> list[Message]:
        (sequence,) = sock.sequences(1)
        return sock.dump(message(RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP, sequence, body), sequence)

    found = {address for answer in links.with_socket(ask) if (address := _unicast(answer, ifindex)) is not None}
    # After the list: of an interface that is gone the kernel lists nothing, without an error.
    found.discard(links.facts(ifindex).address or "")
    return tuple(sorted(found))


def _unicast(answer: Message, ifindex: int) -> str | None:
    """Return the address of an entry of the interface itself; None for any other entry, and for a group address.

    :raise GarbledMessageError: the message is not whole.
    """
    data, start, end = answer.data, answer.start, answer.end
    if answer.kind != RTM_NEWNEIGH or end - start < _NEIGHBOUR.size:
        raise GarbledMessageError(f"message {answer.kind} with {end - start} octets is no forwarding entry")
    _family, _pad1, _pad2, index, _state, flags, _type = _NEIGHBOUR.unpack_from(data, start)
    if index != ifindex or not flags & NTF_SELF:
        return None
    place = first_attributes(data, start + _NEIGHBOUR.size, end).get(NDA_LLADDR)
    if place is None or place[1] - place[0] != ETH_ALEN:
        raise GarbledMessageError("a forwarding entry has no address of 6 octets")
    octets = data[slice(*place)]
    return None if octets[0] & 1 else octets.hex(":")


def add(links: Links, ifindex: int, mac: str) -> None:
    """Add an entry; one that is there already is no error, and the interface's own address needs none.

    :raise NoRoomError: the driver has no room for another entry.
    :raise KernelError: the kernel refuses (EINVAL: no unicast address).
    """
    octets = _octets(mac)
    if octets.hex(":") == links.facts(ifindex).address:
        return
    refusal = _change(links, RTM_NEWNEIGH, NLM_F_CREATE, ifindex, octets)
    if refusal is None:
        return
    # A driver may count its free filters, or look for twins, before it sees that there is nothing to do.
    if refusal.errno in (errno.EEXIST, errno.ENOMEM) and octets.hex(":") in read(links, ifindex):
        return
    raise NoRoomError(refusal.errno, refusal.strerror) if refusal.errno == errno.ENOMEM else refusal


def remove(links: Links, ifindex: int, mac: str) -> None:
    """Remove an entry, or one of its holders; an entry that is not there is no error.

    :raise KernelError: the kernel refuses (EINVAL: no unicast address).
    """
    refusal = _change(links, RTM_DELNEIGH, 0, ifindex, _octets(mac))
    if refusal is not None and refusal.errno != errno.ENOENT:
        raise refusal


def _octets(mac: str) -> bytes:
    try:
        octets = bytes.fromhex(mac.replace(":", ""))
    except ValueError:
        octets = b""
    if len(octets) != ETH_ALEN or octets[0] & 1 or not any(octets):
        raise KernelError(errno.EINVAL, f"{mac} is no unicast Ethernet address")
    return octets


def _change(links: Links, kind: int, flags: int, ifindex: int, octets: bytes) -> KernelError | None:
    """Send one request about one entry; return how the kernel refuses it, or None."""
    entry = _NEIGHBOUR.pack(AF_BRIDGE, 0, 0, ifindex, NUD_PERMANENT, NTF_SELF, 0)
    body = entry + attribute(NDA_LLADDR, octets)

    def ask(sock: NetlinkSocket) -> KernelError | None:
        sequences = sock.sequences(1)
        sock.send(message(kind, NLM_F_REQUEST | NLM_F_ACK | flags, sequences.start, body))
        return sock.acknowledged(sequences)[0]

    return links.with_socket(ask)
