# SPDX-License-Identifier: Apache-2.0
"""The socket: answers, acknowledgements, deadlines; against a scripted kernel, and against this machine's."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.nic_linux.kernel import ack, nla
from vferry.nic.linux.failure import GarbledMessageError, KernelError
from vferry.nic.linux.netlink import (
    NETLINK_ROUTE,
    NLM_F_REQUEST,
    NetlinkSocket,
    attribute,
    every_attribute,
    first_attributes,
    message,
    messages,
)

DEADLINE = 0.05


class Scripted:
    """A socket whose other end is the test: its answers wait before the question comes."""

    def __init__(self, ours: socket.socket, kernels: socket.socket) -> None:
        self.kernels = kernels
        self.socket = NetlinkSocket(ours, DEADLINE)

    def answers(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.kernels.send(datagram)


@pytest.fixture
def kernel() -> Iterator[Scripted]:
    ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, kernels):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    with ours, kernels:
        yield Scripted(ours, kernels)


def answer(sequence: int, payload: bytes = b"", *, kind: int = 16, flags: int = 0) -> bytes:
    return message(kind, flags, sequence, payload)


def test_the_answer_is_the_one_with_the_sequence_number(kernel: Scripted) -> None:
    kernel.answers(answer(6, b"late"), answer(9, kind=1) + answer(9, b"mine"))
    found = kernel.socket.ask(b"question", 9)
    assert found.data[found.start : found.end] == b"mine"
    assert kernel.kernels.recv(100) == b"question"


def test_a_refusal_has_errno_and_the_kernels_words(kernel: Scripted) -> None:
    kernel.answers(ack(9, errno.EINVAL, "mtu less than device minimum"))
    with pytest.raises(KernelError) as caught:
        kernel.socket.ask(b"question", 9)
    assert (caught.value.errno, caught.value.strerror) == (errno.EINVAL, "mtu less than device minimum")


def test_the_words_are_found_behind_a_repeated_request(kernel: Scripted) -> None:
    request = message(19, NLM_F_REQUEST, 9, b"x" * 37)
    kernel.answers(ack(9, errno.EINVAL, "behind it", request=request))
    with pytest.raises(KernelError) as caught:
        kernel.socket.ask(request, 9)
    assert caught.value.strerror == "behind it"


def test_words_that_cannot_be_read_do_not_hide_the_errno(kernel: Scripted) -> None:
    broken = bytearray(ack(9, errno.EPERM, "words"))
    broken[36:38] = b"\xff\xff"
    kernel.answers(bytes(broken))
    with pytest.raises(KernelError) as caught:
        kernel.socket.ask(b"", 9)
    assert (caught.value.errno, caught.value.strerror) == (errno.EPERM, None)


def test_an_acknowledgement_is_no_answer_to_a_question(kernel: Scripted) -> None:
    kernel.answers(ack(9))
    with pytest.raises(GarbledMessageError, match="acknowledged a question"):
        kernel.socket.ask(b"question", 9)


def test_no_answer_in_time(kernel: Scripted) -> None:
    with pytest.raises(TimeoutError, match=r"no answer in 0\.05 s"):
        kernel.socket.ask(b"question", 9)


def test_other_messages_do_not_extend_the_deadline(kernel: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    kernel.answers(answer(1), answer(9))
    with pytest.raises(TimeoutError):
        kernel.socket.ask(b"question", 9)
    kernel.socket.receive()
    kernel.answers(ack(1), ack(5))
    with pytest.raises(TimeoutError, match="1 of 1 requests have no answer"):
        kernel.socket.acknowledged(range(5, 6))


def test_a_message_that_is_cut_is_refused(kernel: Scripted) -> None:
    kernel.answers(bytes((1 << 20) + 4))
    with pytest.raises(GarbledMessageError, match="1048580 octets, more than the 1048576"):
        kernel.socket.receive()


def test_a_message_as_long_as_the_buffer_is_whole(kernel: Scripted) -> None:
    kernel.answers(bytes(1 << 20))
    assert len(kernel.socket.receive()) == 1 << 20


def test_a_dump_is_all_its_parts(kernel: Scripted) -> None:
    kernel.answers(
        answer(9, b"1111", flags=2) + answer(9, b"2222", flags=2),
        answer(9, b"3333", flags=2),
        answer(9, struct.pack("=i", 0), kind=3),
    )
    found = kernel.socket.dump(b"list", 9)
    assert [part.data[part.start : part.end] for part in found] == [b"1111", b"2222", b"3333"]


def test_a_dump_that_was_interrupted_is_refused(kernel: Scripted) -> None:
    kernel.answers(answer(9, b"1111", flags=2 | 0x10), answer(9, struct.pack("=i", 0), kind=3, flags=2))
    with pytest.raises(GarbledMessageError, match="changed while"):
        kernel.socket.dump(b"list", 9)


@pytest.mark.parametrize("refusal", [answer(9, struct.pack("=i", -errno.ENODEV), kind=3), ack(9, errno.ENODEV)])
def test_a_dump_that_is_refused(kernel: Scripted, refusal: bytes) -> None:
    kernel.answers(refusal)
    with pytest.raises(KernelError) as caught:
        kernel.socket.dump(b"list", 9)
    assert caught.value.errno == errno.ENODEV


def test_acknowledgements_come_in_any_order_and_grouping(kernel: Scripted) -> None:
    kernel.answers(ack(7), ack(6, errno.EBUSY) + ack(5), ack(99, errno.EPERM), answer(8), ack(8, errno.EINVAL, "why"))
    outcomes = kernel.socket.acknowledged(range(5, 9))
    assert [outcome and outcome.errno for outcome in outcomes] == [None, errno.EBUSY, None, errno.EINVAL]
    assert outcomes[3] is not None
    assert outcomes[3].strerror == "why"


def test_a_missing_acknowledgement_is_a_timeout(kernel: Scripted) -> None:
    kernel.answers(ack(5), ack(7))
    with pytest.raises(TimeoutError):
        kernel.socket.acknowledged(range(5, 8))


@pytest.mark.parametrize("datagram", [b"\0" * 8, ack(5)[:30], ack(5) + b"xxxx"])
def test_a_garbled_acknowledgement(kernel: Scripted, datagram: bytes) -> None:
    kernel.answers(datagram)
    with pytest.raises(GarbledMessageError):
        kernel.socket.acknowledged(range(5, 6))


def test_a_closed_connection_is_an_error(kernel: Scripted) -> None:
    kernel.kernels.close()
    with pytest.raises(OSError, match=r"not connected|reset"):
        kernel.socket.receive()


def test_sequence_numbers_are_not_repeated_and_wrap(kernel: Scripted) -> None:
    assert list(kernel.socket.sequences(2)) == [1, 2]
    assert list(kernel.socket.sequences(1)) == [3]
    kernel.socket._sequence = 0xFFFF_FFFE
    assert list(kernel.socket.sequences(2)) == [1, 2]


def test_attributes_there_and_back() -> None:
    data = attribute(1, b"abc") + attribute(2 | 0x8000, b"") + attribute(1, b"defgh")
    assert data == nla(1, b"abc") + nla(2 | 0x8000, b"") + nla(1, b"defgh")
    assert [(kind, data[start:end]) for kind, start, end in every_attribute(data, 0, len(data))] == [
        (1, b"abc"),
        (2, b""),
        (1, b"defgh"),
    ]
    assert {kind: data[start:end] for kind, (start, end) in first_attributes(data, 0, len(data)).items()} == {
        1: b"abc",
        2: b"",
    }


@pytest.mark.parametrize(
    "data", [b"\x03\0\1\0", b"\0\0\1\0", b"\x0c\0\1\0abcd", nla(1, b"abcd") + b"\x04", b"\xff\xff\1\0" + bytes(40)]
)
def test_attributes_that_lie_about_their_length(data: bytes) -> None:
    with pytest.raises(GarbledMessageError):
        list(every_attribute(data, 0, len(data)))
    with pytest.raises(GarbledMessageError):
        first_attributes(data, 0, len(data))


@pytest.mark.parametrize("datagram", [b"\x0f" + bytes(15), b"\x20" + bytes(15), message(1, 0, 1, b"") + b"abc"])
def test_messages_that_lie_about_their_length(datagram: bytes) -> None:
    with pytest.raises(GarbledMessageError):
        list(messages(datagram))


def test_the_real_kernel_answers() -> None:
    sock = NetlinkSocket.open(NETLINK_ROUTE, 5.0)
    (sequence,) = sock.sequences(1)
    body = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + attribute(3, b"lo\0")
    found = sock.ask(message(18, NLM_F_REQUEST, sequence, body), sequence)
    assert found.kind == 16
    (sequence,) = sock.sequences(1)
    with pytest.raises(KernelError) as caught:
        sock.ask(message(18, NLM_F_REQUEST, sequence, struct.pack("=BBHiII", 0, 0, 0, 2**31 - 1, 0, 0)), sequence)
    assert caught.value.errno == errno.ENODEV
    sock.close()


def test_no_such_protocol() -> None:
    with pytest.raises(OSError, match="not supported"):
        NetlinkSocket.open(31, 1.0)


def test_a_socket_that_is_forgotten_is_closed() -> None:
    """Without a warning; tests turn those into errors."""
    NetlinkSocket.open(NETLINK_ROUTE, 1.0)
