# SPDX-License-Identifier: Apache-2.0
"""The PF's own forwarding entries: messages written here from ``neighbour.h``, and a kernel that the test makes up."""

from __future__ import annotations

import errno
import re
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.nic_linux.kernel import ack, nla, rtm_newlink
from vferry.nic.linux import fdb
from vferry.nic.linux.failure import GarbledMessageError, KernelError
from vferry.nic.linux.link import Links
from vferry.nic.linux.netlink import NetlinkSocket

OWN = "52:54:00:aa:00:01"
FIRST, SECOND = "02:00:00:00:00:01", "02:00:00:00:00:02"
PF = 7
SELF, MASTER = 0x02, 0x04


class Kernel:
    """rtnetlink whose kernel is the test: its answers wait before the question comes."""

    def __init__(self, ours: socket.socket, end: socket.socket) -> None:
        self.end = end
        self.links = Links(0.05)
        self.links._idle.append(NetlinkSocket(ours, 0.05))

    def has_link(self, sequence: int) -> None:
        self.end.send(rtm_newlink([], has_settings=False, mac=OWN, sequence=sequence))

    def lists(self, sequence: int, *entries: bytes) -> None:
        for entry in entries:
            self.end.send(struct.pack("=IHHII", 16 + len(entry), 28, 2, sequence, 0) + entry)
        self.end.send(struct.pack("=IHHIIi", 20, 3, 2, sequence, 0, 0))

    def answers(self, datagram: bytes) -> None:
        self.end.send(datagram)

    def asked(self) -> list[bytes]:
        """Return the requests so far."""
        found: list[bytes] = []
        try:
            while True:
                found.append(self.end.recv(1000))
        except BlockingIOError:
            return found


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    ours, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    end.setblocking(False)
    with ours, end:
        yield Kernel(ours, end)


def entry(mac: str, *, ifindex: int = PF, flags: int = SELF) -> bytes:
    """One entry as ``nlmsg_populate_fdb_fill()`` lays it out."""
    header = struct.pack("=BBHiHBB", 7, 0, 0, ifindex, 0x80, flags, 0)
    return header + nla(2, bytes.fromhex(mac.replace(":", "")))


def golden(words: str) -> bytes:
    return bytes.fromhex(re.sub(r"\s", "", words))


def test_the_message_that_adds(kernel: Kernel) -> None:
    """RTM_NEWNEIGH, REQUEST | ACK | CREATE; AF_BRIDGE, NUD_PERMANENT, NTF_SELF; NDA_LLADDR."""
    kernel.has_link(1)
    kernel.answers(ack(2))
    fdb.add(kernel.links, PF, FIRST)
    _facts, request = kernel.asked()
    assert request == golden(
        """
        28000000 1c00 0504 02000000 00000000
        07 00 0000 07000000 8000 02 00
        0a00 0200 020000000001 0000
        """
    )


def test_the_message_that_removes(kernel: Kernel) -> None:
    """RTM_DELNEIGH, REQUEST | ACK, and the rest as it was added."""
    kernel.answers(ack(1))
    fdb.remove(kernel.links, PF, FIRST)
    assert kernel.asked() == [
        golden(
            """
            28000000 1d00 0500 01000000 00000000
            07 00 0000 07000000 8000 02 00
            0a00 0200 020000000001 0000
            """
        )
    ]


def test_the_message_that_lists(kernel: Kernel) -> None:
    """RTM_GETNEIGH, REQUEST | DUMP; a struct ifinfomsg of AF_BRIDGE that names the interface."""
    kernel.lists(1)
    kernel.has_link(2)
    assert fdb.read(kernel.links, PF) == ()
    assert kernel.asked()[0] == golden("20000000 1e00 0103 01000000 00000000 07 00 0000 07000000 00000000 00000000")


def test_listed_are_the_unicast_entries_of_the_interface_itself(kernel: Kernel) -> None:
    kernel.lists(
        1,
        entry(SECOND),
        entry("02:00:00:00:00:03", ifindex=8),
        entry("02:00:00:00:00:04", flags=MASTER),
        entry("33:33:00:00:00:01"),
        entry(OWN),
        entry(FIRST) + nla(9, bytes(4)),
    )
    kernel.has_link(2)
    assert fdb.read(kernel.links, PF) == (FIRST, SECOND)


@pytest.mark.parametrize(
    "broken", [entry(FIRST)[:8], entry(FIRST)[:12], entry(FIRST)[:12] + nla(2, bytes(5)), entry(FIRST)[:-4]]
)
def test_an_entry_that_is_not_whole_is_no_list(kernel: Kernel, broken: bytes) -> None:
    kernel.lists(1, broken)
    kernel.has_link(2)
    with pytest.raises(GarbledMessageError):
        fdb.read(kernel.links, PF)


def test_an_interface_that_is_gone_has_no_empty_list(kernel: Kernel) -> None:
    kernel.lists(1)
    kernel.answers(ack(2, errno.ENODEV))
    with pytest.raises(KernelError) as gone:
        fdb.read(kernel.links, PF)
    assert gone.value.errno == errno.ENODEV


def test_the_interfaces_own_address_needs_no_entry(kernel: Kernel) -> None:
    kernel.has_link(1)
    fdb.add(kernel.links, PF, OWN.upper())
    assert len(kernel.asked()) == 1, "the link was asked for, nothing was added"


@pytest.mark.parametrize("number", [errno.EEXIST, errno.ENOMEM])
def test_what_is_there_already_is_no_error(kernel: Kernel, number: int) -> None:
    """However the driver puts it: a full igb says ENOMEM."""
    kernel.has_link(1)
    kernel.answers(ack(2, number))
    kernel.lists(3, entry(FIRST))
    kernel.has_link(4)
    fdb.add(kernel.links, PF, FIRST)
    assert len(kernel.asked()) == 4


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EEXIST, KernelError), (errno.ENOMEM, fdb.NoRoomError), (errno.EPERM, KernelError)]
)
def test_what_is_refused_is_not_there(kernel: Kernel, number: int, kind: type[KernelError]) -> None:
    kernel.has_link(1)
    kernel.answers(ack(2, number, "words"))
    kernel.lists(3, entry(SECOND))
    kernel.has_link(4)
    with pytest.raises(KernelError) as refused:
        fdb.add(kernel.links, PF, FIRST)
    assert type(refused.value) is kind
    assert (refused.value.errno, refused.value.strerror) == (number, "words")


def test_what_is_gone_already_is_no_error(kernel: Kernel) -> None:
    kernel.answers(ack(1, errno.ENOENT))
    kernel.answers(ack(2, errno.ENODEV))
    fdb.remove(kernel.links, PF, FIRST)
    with pytest.raises(KernelError):
        fdb.remove(kernel.links, PF, FIRST)


@pytest.mark.parametrize(
    "mac", ["00:00:00:00:00:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "02:" * 19 + "02", "junk", ""]
)
def test_no_unicast_address_is_refused_before_anything_is_sent(kernel: Kernel, mac: str) -> None:
    for change in (fdb.add, fdb.remove):
        with pytest.raises(KernelError, match="no unicast") as refused:
            change(kernel.links, PF, mac)
        assert refused.value.errno == errno.EINVAL
    assert kernel.asked() == []
