# SPDX-License-Identifier: Apache-2.0
"""Framing: whole messages out of any chunks, descriptors with the right message, and bounds before memory."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vferry.core.vfio.codec import (
    LARGEST_VERSION,
    Frame,
    Inbox,
    Limits,
    MalformedError,
    ProtocolFaultError,
    body,
    command,
    counted,
    decode_version,
    encode_version,
    negotiated,
    refusal,
    reply,
)
from vferry.core.vfio.constants import MessageFlags
from vferry.core.vfio.layouts import HEADER, MIG_DATA, VERSION

LARGEST = 4096
FIRST = 1 << 16


def header(size: int, *, flags: int = 0) -> bytes:
    return HEADER.pack(1, 9, size, flags, 0)


def frames(chunks: Sequence[tuple[bytes, tuple[int, ...]]], max_fds: int = 4) -> list[Frame]:
    inbox = Inbox(LARGEST, max_fds)
    return [frame for data, fds in chunks for frame in inbox.feed(data, fds)]


MESSAGES = st.lists(
    st.builds(
        lambda number, cmd, payload, flags: command(number, cmd, payload, flags=flags),
        st.integers(0, 0xFFFF),
        st.integers(0, 0xFFFF),
        st.binary(max_size=LARGEST - HEADER.size) | st.binary(max_size=20),
        st.sampled_from([0, 0x10]),
    ),
    max_size=8,
)


@settings(deadline=None)
@given(MESSAGES, st.lists(st.integers(1, 5000)))
def test_any_chunks_give_the_same_messages(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(messages)
    chunks = []
    for cut in cuts:
        chunks.append((stream[:cut], ()))
        stream = stream[cut:]
    found = frames([*chunks, (stream, ())])
    assert [command(one.msg_id, one.cmd, one.payload, flags=one.flags) for one in found] == messages


def test_a_message_that_is_not_whole_waits() -> None:
    message = command(7, 9, b"x" * 40)
    inbox = Inbox(LARGEST, 1)
    for octet in message[:-1]:
        assert list(inbox.feed(bytes([octet]))) == []
    (frame,) = inbox.feed(message[-1:])
    assert (frame.msg_id, frame.cmd, frame.payload, frame.fds) == (7, 9, b"x" * 40, ())
    assert frame.wants_reply
    assert not frame.is_reply


@pytest.mark.parametrize(
    ("octets", "match"),
    [
        (header(15), "less than its header"),
        (header(0), "less than its header"),
        (header(LARGEST + 1), "at most 4096"),
        (header(0xFFFFFFFF), "4294967295 octets"),
        (header(16, flags=2), "type 2"),
        (header(16, flags=15), "type 15"),
    ],
)
def test_a_header_that_makes_no_sense(octets: bytes, match: str) -> None:
    with pytest.raises(ProtocolFaultError, match=match):
        frames([(octets, ())])


def test_nothing_is_allocated_for_a_size_that_is_not_allowed() -> None:
    inbox = Inbox(1 << 30, 1)
    list(inbox.feed(header(1 << 20)))
    assert len(inbox.buffer) == FIRST
    inbox.space()
    assert len(inbox.buffer) == 1 << 20
    inbox.largest = 1 << 10
    with pytest.raises(ProtocolFaultError):
        inbox.space()
    assert len(inbox.buffer) == 1 << 20


def test_a_large_message_makes_the_buffer_as_large_as_it_is() -> None:
    inbox = Inbox(1 << 21, 1)
    message = command(1, 10, bytes(1 << 20))
    (frame,) = inbox.feed(message)
    assert len(frame.payload) == 1 << 20
    assert len(inbox.buffer) == len(message)
    (frame,) = inbox.feed(command(2, 9, b"small"))
    assert frame.payload == b"small"


def test_there_is_always_room() -> None:
    inbox = Inbox(LARGEST, 1)
    small = command(1, 9, b"12345")
    stream = small * 20_000
    at = 0
    for length in (1, 2, 3, 5, 50_000, 60_000, 65_000, 7, 40_000, 20_000):
        found = list(inbox.feed(stream[at : at + length]))
        at += length
        assert all(frame.payload == b"12345" for frame in found)
        assert len(inbox.buffer) == FIRST


# Descriptors: the last octet of their chunk says whose they are.


def test_descriptors_of_a_whole_message() -> None:
    one, two = command(1, 9), command(2, 2, b"map")
    assert [frame.fds for frame in frames([(one, ()), (two, (5, 6)), (one, ())])] == [(), (5, 6), ()]


def test_descriptors_belong_to_the_last_message_of_a_chunk() -> None:
    one, two = command(1, 9), command(2, 2, b"map")
    assert [frame.fds for frame in frames([(one + one + two, (5,))])] == [(), (), (5,)]


def test_descriptors_of_a_message_that_comes_in_parts() -> None:
    one, two = command(1, 9), command(2, 2, b"map")
    for cut in range(1, len(two)):
        chunks = [(one + two[:cut], (5,)), (two[cut:] + one, ())]
        assert [frame.fds for frame in frames(chunks)] == [(), (5,), ()], cut


def test_descriptors_of_the_next_message_come_with_the_rest_of_one() -> None:
    one, two = command(1, 8, b"irqs"), command(2, 2, b"map")
    chunks = [(one[:10], (3, 4)), (one[10:] + two, (5, 6))]
    assert [frame.fds for frame in frames(chunks, 2)] == [(3, 4), (5, 6)]


def test_too_many_descriptors() -> None:
    with pytest.raises(ProtocolFaultError, match="3 file descriptors"):
        frames([(command(1, 2), (1, 2, 3))], 2)
    inbox = Inbox(LARGEST, 1)
    list(inbox.feed(b"\0", (1,)))
    list(inbox.feed(b"\0", (2,)))
    with pytest.raises(ProtocolFaultError, match="twice 1"):
        list(inbox.feed(b"\0", (3,)))
    assert inbox.abandoned_fds() == (1, 2, 3)
    assert inbox.abandoned_fds() == ()


def test_descriptors_survive_a_move_of_the_buffer() -> None:
    inbox = Inbox(1 << 20, 1)
    large = command(2, 2, bytes(100_000))
    assert len(list(inbox.feed(command(1, 9) * 3 + large[:100], (9,)))) == 3
    assert [frame.fds for frame in inbox.feed(large[100:])] == [(9,)]


def test_descriptors_survive_a_move_to_the_front() -> None:
    inbox = Inbox(LARGEST, 1)
    small, with_fds = command(1, 9, bytes(4000)), command(2, 2, bytes(3000))
    assert len(list(inbox.feed(small * 16 + with_fds[:1000], (9,)))) == 16
    assert inbox.start > FIRST - 2000
    assert [frame.fds for frame in inbox.feed(with_fds[1000:] + small)] == [(9,), ()]


# Answers.


def test_an_answer_and_a_refusal() -> None:
    (asked,) = frames([(command(3, 9, b"?"), ())])
    answer, refused = frames([(reply(asked, b"!") + refusal(asked, errno.ENOENT), ())])
    assert (answer.msg_id, answer.cmd, answer.payload, answer.is_reply, answer.refused) == (3, 9, b"!", True, None)
    assert (refused.msg_id, refused.payload, refused.refused) == (3, b"", errno.ENOENT)


@pytest.mark.parametrize("number", [0, 4096, 0xFFFFFFFF])
def test_a_refusal_without_a_sensible_number(number: int) -> None:
    octets = HEADER.pack(1, 9, 16, MessageFlags.REPLY | MessageFlags.ERROR, number)
    assert frames([(octets, ())])[0].refused == errno.EINVAL


def test_no_reply() -> None:
    (frame,) = frames([(command(1, 10, flags=MessageFlags.NO_REPLY), ())])
    assert not frame.wants_reply


def test_payloads_are_measured() -> None:
    with pytest.raises(MalformedError):
        body(MIG_DATA, b"1234567")
    assert counted(MIG_DATA, b"12345678ab", 2) == b"ab"
    for wrong in (b"12345678a", b"12345678abc"):
        with pytest.raises(MalformedError):
            counted(MIG_DATA, wrong, 2)


# VERSION.


def test_a_version_comes_back() -> None:
    limits = Limits(max_msg_fds=3, max_data_xfer_size=4096, max_dma_maps=7, pgsizes=8192, write_multiple=True)
    version, found = decode_version(encode_version(limits))
    assert (version.major, version.minor) == (0, 0)
    assert found == limits


def test_qemus_version() -> None:
    capabilities = {
        "max_msg_fds": 16,
        "max_data_xfer_size": 1048576,
        "max_dma_maps": 65535,
        "pgsizes": 4096,
        "write_multiple": True,
        "migration": {"pgsize": 4096, "max_bitmap_size": 256 << 20},
    }
    payload = VERSION.pack(0, 0) + json.dumps({"capabilities": capabilities}).encode() + b"\0"
    _, found = decode_version(payload)
    assert found == Limits(max_msg_fds=16, write_multiple=True)


@pytest.mark.parametrize("text", [b"", b"{}\0", b'{"capabilities": {}}\0', b'{"unknown": [1]}\0'])
def test_what_is_not_said_has_a_default(text: bytes) -> None:
    assert decode_version(VERSION.pack(0, 1) + text)[1] == Limits()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0\0",
        VERSION.pack(1, 0),
        VERSION.pack(0, 0) + b"{}",
        VERSION.pack(0, 0) + b"\0",
        VERSION.pack(0, 0) + b"[]\0",
        VERSION.pack(0, 0) + b"\xff\xfe\0",
        VERSION.pack(0, 0) + b'{"capabilities": 3}\0',
        VERSION.pack(0, 0) + b'{"capabilities": {"max_msg_fds": "8"}}\0',
        VERSION.pack(0, 0) + b'{"capabilities": {"max_msg_fds": -1}}\0',
        VERSION.pack(0, 0) + b'{"capabilities": {"max_data_xfer_size": 0}}\0',
        VERSION.pack(0, 0) + b'{"capabilities": {"max_data_xfer_size": 1e30}}\0',
        VERSION.pack(0, 0) + b"[" * 10_000 + b"\0",
        VERSION.pack(0, 0) + b'{"x":' + b"[" * 10_000 + b"\0",
    ],
)
def test_versions_that_make_no_sense(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_version(payload)


def test_a_server_answers_no_more_than_was_proposed() -> None:
    own = Limits(max_msg_fds=16, write_multiple=True, pgsizes=4096 | 1 << 21)
    assert negotiated(own, Limits()).write_multiple is False
    assert negotiated(own, Limits()).pgsizes == 4096
    assert negotiated(own, Limits(write_multiple=True)).write_multiple is True
    with pytest.raises(MalformedError):
        negotiated(own, Limits(pgsizes=1 << 30))


# Fuzzing.


@pytest.mark.fuzz
@settings(deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=64), st.lists(st.integers(0, 9), max_size=3)), max_size=12))
def test_nonsense_gives_messages_or_a_fault(chunks: list[tuple[bytes, list[int]]]) -> None:
    inbox = Inbox(LARGEST, 2)
    given_away = 0
    try:
        for data, fds in chunks:
            for frame in inbox.feed(data, fds):
                given_away += len(frame.fds)
                assert len(frame.fds) <= 2
                assert len(frame.payload) <= LARGEST - HEADER.size
    except ProtocolFaultError as error:
        assert str(error)  # noqa: PT017 -- it must be printable
    assert len(inbox.buffer) == FIRST
    assert given_away + len(inbox.abandoned_fds()) <= sum(len(fds) for data, fds in chunks if data)


@pytest.mark.fuzz
@settings(deadline=None)
@given(
    st.binary(max_size=60) | st.text(alphabet='{}[]":,0123456789.eE-+capbilites_mxfdsz', max_size=60).map(str.encode)
)
def test_any_version_is_limits_or_malformed(text: bytes) -> None:
    try:
        _, limits = decode_version(VERSION.pack(0, 0) + text + b"\0")
    except MalformedError as error:
        assert error.code == errno.EINVAL  # noqa: PT017
    else:
        assert limits.max_data_xfer_size > 0
    assert LARGEST_VERSION < FIRST
