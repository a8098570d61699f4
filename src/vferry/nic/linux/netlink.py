# SPDX-License-Identifier: Apache-2.0
"""Raw netlink: messages, attributes, acknowledgements and the socket.

Its own because the verbs of the stopped window may not pay for importing a general netlink library (some 200 ms).

Numbers: ``include/uapi/linux/netlink.h`` (Linux 6.12). Integers are in the host's byte order there; a format that
starts with ``=`` says so.

**Deadlines.** The kernel works on a request *inside* ``send()`` and has queued its answer when that returns. Where
another process holds the lock that the request needs (RTNL), ``send()`` blocks and nothing can cancel it; the deadline
of a socket is about the wait for an answer, after ``send()``.
"""

from __future__ import annotations

import errno
import mmap
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

from vferry.nic.linux.failure import GarbledMessageError, KernelError

__all__ = [
    "ALIGNMENT",
    "HEADER_SIZE",
    "NETLINK_GENERIC",
    "NETLINK_ROUTE",
    "NLA_F_NESTED",
    "NLA_TYPE_MASK",
    "NLM_F_ACK",
    "NLM_F_CREATE",
    "NLM_F_DUMP",
    "NLM_F_REQUEST",
    "Message",
    "NetlinkSocket",
    "attribute",
    "every_attribute",
    "first_attributes",
    "message",
    "messages",
]

NETLINK_ROUTE = 0
NETLINK_GENERIC = 16

NLM_F_REQUEST = 0x1
NLM_F_MULTI = 0x2
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
"""``NLM_F_ROOT | NLM_F_MATCH``."""
NLM_F_CREATE = 0x400
"""In a request for something new; without ``NLM_F_EXCL`` what exists already is no error to most."""
NLM_F_CAPPED = 0x100
"""In an acknowledgement: the request is not repeated beyond its header."""
NLM_F_ACK_TLVS = 0x200
"""In an acknowledgement: extended-ack attributes follow."""

NLMSG_NOOP = 1
NLMSG_ERROR = 2
NLMSG_DONE = 3

NLMSGERR_ATTR_MSG = 1

NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF
"""``NLA_TYPE_MASK``: an attribute's type without ``NLA_F_NESTED`` and ``NLA_F_NET_BYTEORDER``."""

ALIGNMENT = 4
"""``NLMSG_ALIGNTO`` and ``NLA_ALIGNTO``."""
HEADER_SIZE = 16
"""``sizeof(struct nlmsghdr)``."""

_RECEIVE = 1 << 20
"""Octets that one receive can take: 1000 VFs with statistics need some 300 KB in one piece."""
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_SO_RCVBUFFORCE = 33
"""``include/uapi/asm-generic/socket.h``; needs CAP_NET_ADMIN, and is not bounded by ``net.core.rmem_max``."""

_MESSAGE = struct.Struct("=IHHII")
"""``struct nlmsghdr``: length, type, flags, sequence number, port."""
_ACK = struct.Struct("=IHHIIi")
"""``struct nlmsghdr`` and the first field of ``struct nlmsgerr``: the negative errno, or 0."""
_PLAIN_ACK = _ACK.size + HEADER_SIZE
"""Octets of an acknowledgement without extended-ack attributes: it ends with the header of the request."""
_ATTRIBUTE = struct.Struct("=HH")
"""``struct nlattr``: length including this header, type."""
_LENGTH = struct.Struct("=I")
_TIMEVAL = struct.Struct("@ll")
"""``struct timeval``: seconds, microseconds."""


class Message(NamedTuple):
    """One message of a datagram: where its payload lies."""

    kind: int
    flags: int
    sequence: int
    data: bytes
    start: int
    end: int


def attribute(kind: int, payload: bytes) -> bytes:
    """Encode one attribute, padded to four octets."""
    length = 4 + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % ALIGNMENT)


def message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """Encode one message; ``payload`` is the family's header and attributes, aligned."""
    return _MESSAGE.pack(HEADER_SIZE + len(payload), kind, flags, sequence, 0) + payload


def every_attribute(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield type, start and end of the payload of each attribute between two offsets.

    :raise GarbledMessageError: an attribute is shorter than its header or runs past ``end``.
    """
    while start < end:
        if start + 4 > end:
            raise GarbledMessageError(f"{end - start} octets are left behind the last attribute")
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        stop = start + length
        if length < 4 or stop > end:
            raise GarbledMessageError(
                f"attribute {kind & NLA_TYPE_MASK} says it is {length} octets long where {end - start} are left"
            )
        yield kind & NLA_TYPE_MASK, start + 4, stop
        start += (length + 3) & ~3


def first_attributes(data: bytes, start: int, end: int) -> dict[int, tuple[int, int]]:
    """Return where each attribute's payload lies, by type; of several with one type the **first**.

    The first, because behind a list whose 16-bit length wrapped there is garbage that looks like attributes.

    :raise GarbledMessageError: an attribute is shorter than its header or runs past ``end``.
    """
    found: dict[int, tuple[int, int]] = {}
    unpack = _ATTRIBUTE.unpack_from
    while start < end:
        if start + 4 > end:
            raise GarbledMessageError(f"{end - start} octets are left behind the last attribute")
        length, kind = unpack(data, start)
        stop = start + length
        kind &= NLA_TYPE_MASK
        if length < 4 or stop > end:
            raise GarbledMessageError(f"attribute {kind} says it is {length} octets long where {end - start} are left")
        if kind not in found:
            found[kind] = (start + 4, stop)
        start += (length + 3) & ~3
    return found


def messages(datagram: bytes) -> Iterator[Message]:
    """Yield the messages of one datagram.

    :raise GarbledMessageError: a message is shorter than its header or runs past the datagram.
    """
    start, end = 0, len(datagram)
    while start < end:
        if start + HEADER_SIZE > end:
            raise GarbledMessageError(f"{end - start} octets are left behind the last message")
        length, kind, flags, sequence, _port = _MESSAGE.unpack_from(datagram, start)
        stop = start + length
        if length < HEADER_SIZE or stop > end:
            raise GarbledMessageError(f"a message says it is {length} octets long where {end - start} are left")
        yield Message(kind, flags, sequence, datagram, start + HEADER_SIZE, stop)
        start += (length + 3) & ~3


def _refusal(answer: Message) -> KernelError | None:
    """Return what an NLMSG_ERROR says; None where it is an acknowledgement."""
    if answer.end - answer.start < 4:
        raise GarbledMessageError("an acknowledgement is too short")
    (number,) = struct.unpack_from("=i", answer.data, answer.start)
    return KernelError(-number, _extended_text(answer)) if number else None


def _extended_text(answer: Message) -> str | None:
    """Return the kernel's words in an acknowledgement (``NLMSGERR_ATTR_MSG``), if it has any."""
    if not answer.flags & NLM_F_ACK_TLVS or answer.end - answer.start < 4 + HEADER_SIZE:
        return None
    start = answer.start + 4 + HEADER_SIZE
    if not answer.flags & NLM_F_CAPPED:
        # The whole request is repeated in between.
        (length,) = _LENGTH.unpack_from(answer.data, answer.start + 4)
        start = answer.start + 4 + ((length + 3) & ~3)
    try:
        place = first_attributes(answer.data, start, answer.end).get(NLMSGERR_ATTR_MSG)
    except GarbledMessageError:
        # The errno is what counts; words that cannot be read are no reason to lose it.
        return None
    return answer.data[slice(*place)].rstrip(b"\0").decode("utf-8", "replace") if place else None


class _ForgettableSocket(socket.socket):
    """A socket that may be left to the garbage collector, as armed changes are."""

    __slots__ = ()

    def __del__(self) -> None:
        # Not where the kernel refused to make the socket: there is nothing to close then.
        if self.fileno() >= 0:
            self.close()


class NetlinkSocket:
    """A netlink socket that talks to the kernel only.

    Not to be shared by threads. After :class:`TimeoutError` or a lost answer it must be closed: a late answer could be
    taken for that of a later request.

    :param sock: a connected socket that keeps message boundaries.
    :param deadline: seconds to wait for each answer; more than 0.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._socket = sock
        self._deadline = deadline
        self._sequence = 0
        # Anonymous memory gets its pages when an answer first reaches them; 1 MiB of a bytearray would be cleared
        # at once (0.5 ms), and that much for each receive would be mapped and unmapped each time (40 us).
        self._buffer = mmap.mmap(-1, _RECEIVE)
        # SO_RCVTIMEO and not settimeout(): that polls before every receive, one more system call for each answer.
        seconds, fraction = divmod(deadline, 1)
        # A timeval of zero would mean "for ever".
        timeout = _TIMEVAL.pack(int(seconds), max(1, int(fraction * 1_000_000)))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)

    @classmethod
    def open(cls, protocol: int, deadline: float) -> NetlinkSocket:
        """Open a socket to the kernel.

        :raise OSError: the kernel has no such protocol.
        """
        sock = _ForgettableSocket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            try:
                sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE)
            except PermissionError:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE)
            sock.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            sock.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            sock.bind((0, 0))
            # Connected to port 0, the kernel: it then refuses what another process sends here.
            sock.connect((0, 0))
        except OSError:
            sock.close()
            raise
        return cls(sock, deadline)

    def close(self) -> None:
        """Close the socket; closing it again does nothing."""
        self._socket.close()

    def sequences(self, count: int) -> range:
        """Reserve sequence numbers for so many requests."""
        first = self._sequence + 1
        if first + count > 0xFFFF_FFFF:
            first = 1
        self._sequence = first + count - 1
        return range(first, first + count)

    def send(self, data: bytes) -> None:
        """Send one or several messages; returns when the kernel has worked them off."""
        self._socket.send(data)

    def receive(self) -> bytes:
        """Receive one datagram.

        :raise TimeoutError: none came within the deadline.
        :raise GarbledMessageError: it is longer than a receive can take.
        """
        try:
            size = self._socket.recv_into(self._buffer, 0, socket.MSG_TRUNC)
        except BlockingIOError:
            raise TimeoutError(errno.ETIMEDOUT, f"no answer in {self._deadline:g} s") from None
        if size > _RECEIVE:
            raise GarbledMessageError(f"the kernel's answer has {size} octets, more than the {_RECEIVE} it may have")
        if not size:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self._buffer[:size]

    def _answers(self) -> Iterator[Message]:
        """Yield messages as they come, until the deadline."""
        end = time.monotonic() + self._deadline
        while True:
            yield from messages(self.receive())
            if time.monotonic() > end:
                raise TimeoutError(errno.ETIMEDOUT, f"no answer in {self._deadline:g} s")

    def ask(self, request: bytes, sequence: int) -> Message:
        """Send a request that has one answer and return it.

        :raise KernelError: the kernel refuses.
        """
        self.send(request)
        for answer in self._answers():
            if answer.sequence != sequence or answer.kind == NLMSG_NOOP:
                continue
            if answer.kind == NLMSG_ERROR:
                refusal = _refusal(answer)
                raise refusal or GarbledMessageError("the kernel acknowledged a question instead of answering it")
            return answer
        raise AssertionError  # _answers() ends by an exception only

    def dump(self, request: bytes, sequence: int) -> list[Message]:
        """Send a request with NLM_F_DUMP and return all its answers.

        :raise KernelError: the kernel refuses.
        :raise GarbledMessageError: what is listed changed meanwhile, so the list is not whole.
        """
        self.send(request)
        found: list[Message] = []
        interrupted = False
        for answer in self._answers():
            if answer.sequence != sequence or answer.kind == NLMSG_NOOP:
                continue
            interrupted = interrupted or bool(answer.flags & NLM_F_DUMP_INTR)
            if answer.kind == NLMSG_ERROR:
                raise _refusal(answer) or GarbledMessageError("the kernel acknowledged a list instead of giving it")
            if answer.kind == NLMSG_DONE:
                refusal = _refusal(answer) if answer.end - answer.start >= 4 else None
                if refusal:
                    raise refusal
                break
            found.append(answer)
            if not answer.flags & NLM_F_MULTI:
                break
        if interrupted:
            raise GarbledMessageError("the list changed while the kernel gave it")
        return found

    def acknowledged(self, sequences: range) -> list[KernelError | None]:
        """Wait for the acknowledgements of requests that were sent, in any order, and return them by request.

        :param sequences: the requests' sequence numbers.
        :raise TimeoutError: some are missing at the deadline.
        """
        outcomes: list[KernelError | None] = [None] * len(sequences)
        missing = set(sequences)
        unpack = _ACK.unpack_from
        end = time.monotonic() + self._deadline
        while missing:
            data = self.receive()
            if len(data) == _PLAIN_ACK:
                # Nearly always: one acknowledgement, without words, and good.
                length, kind, _flags, sequence, _port, number = unpack(data)
                if length == _PLAIN_ACK and kind == NLMSG_ERROR and not number and sequence in missing:
                    missing.remove(sequence)
                    continue
            self._note_refusals(data, sequences.start, missing, outcomes)
            if missing and time.monotonic() > end:
                raise TimeoutError(errno.ETIMEDOUT, f"{len(missing)} of {len(outcomes)} requests have no answer")
        return outcomes

    @staticmethod
    def _note_refusals(data: bytes, first: int, missing: set[int], outcomes: list[KernelError | None]) -> None:
        """Note the outcome of every awaited request that a datagram answers."""
        for answer in messages(data):
            if answer.kind == NLMSG_ERROR and answer.sequence in missing:
                missing.remove(answer.sequence)
                outcomes[answer.sequence - first] = _refusal(answer)
