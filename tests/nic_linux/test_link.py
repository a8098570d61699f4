# SPDX-License-Identifier: Apache-2.0
"""Requests to rtnetlink: against a scripted kernel, and against the loopback interface of this machine."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from tests.nic_linux import kernel
from tests.nic_linux.kernel import ack, do_setlink, rtm_newlink, vf_info
from vferry.core.model import AdminState, Rate
from vferry.nic.linux import link
from vferry.nic.linux.failure import GarbledMessageError, KernelError
from vferry.nic.linux.link import ArmedChange, Links
from vferry.nic.linux.netlink import NetlinkSocket
from vferry.nic.linux.vfinfo import encode_change
from vferry.ports.nic import (
    BusyError,
    IncompleteReadingError,
    NotPermittedError,
    NotSupportedError,
    RejectedError,
    UnknownOutcomeError,
)

GUIDS = AdminState(trust=True, node_guid="00:00:00:00:00:00:00:01", port_guid="00:00:00:00:00:00:00:02")
TRUST = AdminState(trust=True)


class ScriptedLinks(Links):
    """Links whose sockets end at the test."""

    def __init__(self) -> None:
        super().__init__(0.05)
        self.ours: list[socket.socket] = []
        self.kernels: list[socket.socket] = []

    def socket(self) -> NetlinkSocket:
        ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, kernels):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        kernels.settimeout(0.05)
        self.kernels.append(kernels)
        self.ours.append(ours)
        return NetlinkSocket(ours, 0.05)


@pytest.fixture
def links() -> Iterator[ScriptedLinks]:
    scripted = ScriptedLinks()
    yield scripted
    scripted.close()
    for end in scripted.ours + scripted.kernels:
        end.close()


def armed(links: Links, changes: dict[int, AdminState], ifindex: int = 7) -> ArmedChange:
    encoded = {vf: encode_change(vf, change) for vf, change in changes.items()}
    return ArmedChange(links, ifindex, encoded, host="h", pf="p")


def requests(datagram: bytes) -> list[tuple[int, int, int, int, list[AdminState]]]:
    """Take a send apart into its requests, as ``netlink_rcv_skb()`` does."""
    found = []
    while datagram:
        length = int.from_bytes(datagram[:4], "little")
        found.append(do_setlink(datagram[:length]))
        datagram = datagram[(length + 3) & ~3 :]
    return found


def test_several_vfs_are_one_send_with_a_request_each(links: ScriptedLinks) -> None:
    change = armed(links, {3: TRUST, 1: AdminState(mac="02:00:00:00:00:01")}, ifindex=77)
    (end,) = links.kernels
    end.send(ack(1) + ack(2))
    assert change.send() == {3: None, 1: None}
    seen = requests(end.recv(10_000))
    assert seen == [(1, 5, 77, 3, [TRUST]), (2, 5, 77, 1, [AdminState(mac="02:00:00:00:00:01")])]


def test_each_vf_has_its_own_outcome(links: ScriptedLinks) -> None:
    change = armed(links, dict.fromkeys((10, 11, 12, 13), TRUST))
    links.kernels[0].send(ack(4, errno.EOPNOTSUPP))
    for datagram in (ack(1, errno.EINVAL, "why not"), ack(2), ack(3, errno.EBUSY)):
        links.kernels[0].send(datagram)
    outcomes = change.send()
    assert [type(outcomes[vf]) for vf in (10, 11, 12, 13)] == [RejectedError, type(None), BusyError, NotSupportedError]
    refusal = outcomes[10]
    assert refusal is not None
    assert (refusal.host, refusal.pf, refusal.vf, refusal.why) == ("h", "p", 10, "EINVAL: why not")


def test_an_armed_change_can_be_sent_again(links: ScriptedLinks) -> None:
    change = armed(links, {0: TRUST})
    for outcome in (errno.EBUSY, 0):
        links.kernels[0].send(ack(1, outcome))
    assert isinstance(change.send()[0], BusyError)
    assert change.send() == {0: None}
    assert len(links.kernels) == 1


def test_the_second_guid_goes_out_after_the_first_message_succeeded(links: ScriptedLinks) -> None:
    change = armed(links, {0: GUIDS, 1: GUIDS, 2: TRUST})
    (end,) = links.kernels
    for datagram in (ack(1), ack(2, errno.EINVAL), ack(3), ack(4)):
        end.send(datagram)
    outcomes = change.send()
    assert (outcomes[0], outcomes[2]) == (None, None)
    assert isinstance(outcomes[1], RejectedError)
    first, second = requests(end.recv(10_000)), requests(end.recv(10_000))
    assert [vf for _sequence, _flags, _ifindex, vf, _changes in first] == [0, 1, 2]
    assert second == [(4, 5, 7, 0, [AdminState(port_guid=GUIDS.port_guid)])]
    with pytest.raises(TimeoutError):
        end.recv(10_000)


def test_no_answer_is_an_unknown_outcome_and_the_socket_is_not_used_again(links: ScriptedLinks) -> None:
    change = armed(links, {0: TRUST, 1: TRUST})
    links.kernels[0].send(ack(1))
    with pytest.raises(UnknownOutcomeError) as caught:
        change.send()
    assert (caught.value.pf, caught.value.what) == ("p", "program VF settings")
    links.kernels[0].recv(10_000)
    assert links.kernels[0].recv(100) == b"", "the socket is closed"
    with pytest.raises(UnknownOutcomeError):
        change.send()
    assert len(links.kernels) == 2


def test_a_garbled_answer_is_no_outcome(links: ScriptedLinks) -> None:
    change = armed(links, {0: TRUST})
    links.kernels[0].send(b"\xff" * 40)
    with pytest.raises(IncompleteReadingError):
        change.send()


def test_nothing_to_change_sends_nothing(links: ScriptedLinks) -> None:
    for vfs in ((), (0,)):
        change = armed(links, dict.fromkeys(vfs, AdminState()))
        assert change.send() == dict.fromkeys(vfs)
        with pytest.raises(TimeoutError):
            links.kernels[-1].recv(100)


def test_many_vfs_are_as_few_sends_as_the_buffers_allow(links: ScriptedLinks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_MOST_MESSAGES", 10)
    change = armed(links, dict.fromkeys(range(25), TRUST))
    for sequence in range(1, 26):
        links.kernels[0].send(ack(sequence))
    assert change.send() == dict.fromkeys(range(25))
    counts = [len(requests(links.kernels[0].recv(100_000))) for _ in range(3)]
    assert counts == [10, 10, 5]


def test_sends_have_a_largest_size(links: ScriptedLinks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_MOST_OCTETS", 60)
    armed_change = armed(links, dict.fromkeys(range(3), TRUST))
    assert [len(batch.vfs) for batch in armed_change._first] == [1, 1, 1]


def test_reading_asks_once_and_skips_statistics(links: ScriptedLinks) -> None:
    state = AdminState(mac="02:00:00:00:00:01", rate=Rate(min_tx=0, max_tx=0))
    links._idle.append(links.socket())
    (end,) = links.kernels
    end.send(rtm_newlink([vf_info(0, state)]))
    assert links.reading("eth0", statistics=False).num_vfs == 1
    end.send(rtm_newlink([vf_info(0, state)], sequence=2))
    assert links.reading(7, statistics=True).num_vfs == 1
    by_name, by_index = end.recv(1000), end.recv(1000)
    assert kernel.attributes(by_name[32:]) == [(29, b"\x09\0\0\0"), (3, b"eth0\0")]
    assert kernel.attributes(by_index[32:]) == [(29, b"\x01\0\0\0")]
    assert (by_name[20:24], by_index[20:24]) == (bytes(4), b"\x07\0\0\0")


def test_a_kernel_that_notices_the_wrap(links: ScriptedLinks) -> None:
    links._idle.append(links.socket())
    links.kernels[0].send(ack(1, errno.EMSGSIZE))
    with pytest.raises(GarbledMessageError, match="so many VFs"):
        links.reading("eth0", statistics=False)


def test_a_socket_with_an_answer_to_come_is_closed(links: ScriptedLinks) -> None:
    with pytest.raises(TimeoutError):
        links.reading("eth0", statistics=False)
    assert not links._idle
    links._idle.append(links.socket())
    links.kernels[1].send(ack(1, errno.ENODEV))
    with pytest.raises(KernelError):
        links.reading("eth0", statistics=False)
    assert len(links._idle) == 1


def test_a_link_is_set_in_one_request(links: ScriptedLinks) -> None:
    links._idle.append(links.socket())
    (end,) = links.kernels
    for sequence in (1, 2, 3):
        end.send(ack(sequence))
    links.set_link(7, admin_up=True, mtu=9000)
    links.set_link(7, admin_up=False, mtu=None)
    links.set_link(7, admin_up=None, mtu=1500)
    flags, change, rest = slice(24, 28), slice(28, 32), slice(32, None)
    seen = [end.recv(1000) for _ in range(3)]
    assert [(one[flags], one[change]) for one in seen] == [
        (b"\1\0\0\0", b"\1\0\0\0"),
        (b"\0\0\0\0", b"\1\0\0\0"),
        (b"\0\0\0\0", b"\0\0\0\0"),
    ]
    assert [kernel.attributes(one[rest]) for one in seen] == [[(4, b"\x28\x23\0\0")], [], [(4, b"\xdc\x05\0\0")]]


# Section: this machine's kernel


def test_loopback_is_read() -> None:
    links = Links(5.0)
    facts, reading = links.facts("lo"), links.reading("lo", statistics=False)
    assert (facts.name, facts.ifindex) == ("lo", socket.if_nametoindex("lo"))
    assert (reading.ifindex, reading.mtu, reading.address) == (facts.ifindex, facts.mtu, "00:00:00:00:00:00")
    assert (reading.num_vfs, reading.vfs, reading.has_settings) == (0, (), False)
    assert len(links._idle) == 1
    links.close()


@pytest.mark.parametrize("name", ["no-such-if", "", "x" * 16, "lo\0x"])
def test_no_such_interface(name: str) -> None:
    with pytest.raises(KernelError) as caught:
        Links(5.0).reading(name, statistics=False)
    assert caught.value.errno in (errno.ENODEV, errno.EINVAL, errno.ERANGE)


def test_loopback_refuses_vf_settings() -> None:
    """The real kernel reads the request: without the privilege it says so, with it the driver has no such thing."""
    outcomes = armed(Links(5.0), {0: GUIDS, 5: AdminState(mac="02:00:00:00:00:01")}, socket.if_nametoindex("lo")).send()
    expected = NotSupportedError if os.geteuid() == 0 else NotPermittedError
    assert {vf: isinstance(error, expected) for vf, error in outcomes.items()} == {0: True, 5: True}
