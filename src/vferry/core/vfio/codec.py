# SPDX-License-Identifier: Apache-2.0
"""Framing of vfio-user: octets and file descriptors in, whole messages out; no socket.

Nothing that the peer says is believed before it is checked: a size is compared with what was agreed on before a single
octet is allocated for it, so the memory of an :class:`Inbox` is bounded by its limit.

**File descriptors.** They arrive with a chunk of the stream, not with a message. On a UNIX stream socket the kernel
ends a ``recvmsg()`` behind the data that it delivers descriptors with, and senders pass one message at a time; so the
descriptors belong to the message that the chunk's last octet is part of, be it whole or not.

Errors say what is to be done: a :class:`ProtocolFaultError` ends the session, for nothing after it can be read; a
:class:`MalformedError` is one request whose frame is sound: it is refused with ``EINVAL``.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

from vferry.core.errors import FailedError
from vferry.core.vfio.constants import (
    DATA_XFER_DEFAULT,
    DMA_MAPS_DEFAULT,
    HEADER_SIZE,
    MAJOR,
    MINOR,
    MSG_FDS_DEFAULT,
    PGSIZES_DEFAULT,
    TYPE_MASK,
    MessageFlags,
)
from vferry.core.vfio.layouts import HEADER, VERSION, Layout, Octets, Version

__all__ = [
    "LARGEST_VERSION",
    "LARGEST_XFER",
    "Frame",
    "Inbox",
    "Limits",
    "MalformedError",
    "ProtocolFaultError",
    "body",
    "command",
    "counted",
    "decode_version",
    "encode_version",
    "negotiated",
    "refusal",
    "reply",
]

LARGEST_XFER: Final = 1 << 20
"""Most data octets in one message that vferry takes: the protocol's default."""

LARGEST_VERSION: Final = HEADER_SIZE + (1 << 14)
"""Octets of a VERSION message at most, the only one before limits are agreed on. QEMU's has some 200."""

_FIXED: Final = 64
"""No message has more fixed octets than this before its data (REGION_INFO: 16 + 32)."""

_FIRST: Final = 1 << 16
"""Octets of a fresh buffer: enough for 2,000 register accesses in one chunk."""

_LOW: Final = 1 << 12
"""With less room than this the rest is moved to the front."""

_REPLY: Final = int(MessageFlags.REPLY)
_ERROR: Final = int(MessageFlags.ERROR)

Record = TypeVar("Record", bound=msgspec.Struct)


class ProtocolFaultError(FailedError):
    """The peer broke the protocol so that its stream makes no sense any more; the session ends.

    :param why: what was wrong, with the numbers.
    """

    def __init__(self, why: str) -> None:
        super().__init__("understand the vfio-user peer", why=why, next_step="look for a fault in the peer's version")


class MalformedError(FailedError):
    """One request that makes no sense in a frame that does.

    :param code: the number that it is refused with (``errno``, positive).
    """

    def __init__(self, why: str, code: int = errno.EINVAL) -> None:
        self.code = code
        super().__init__("carry out the vfio-user request", why=why)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one side takes (vfio-user, VERSION, capabilities); the defaults are those of a side that says nothing."""

    max_msg_fds: int = MSG_FDS_DEFAULT
    """Descriptors in one message."""
    max_data_xfer_size: int = DATA_XFER_DEFAULT
    """Data octets of one read, write or transfer."""
    max_dma_maps: int = DMA_MAPS_DEFAULT
    """DMA ranges at one time."""
    pgsizes: int = PGSIZES_DEFAULT
    """Page sizes of DMA ranges, each a power of two, or'ed."""
    write_multiple: bool = False
    """Whether REGION_WRITE_MULTI is understood."""

    @property
    def message(self) -> int:
        """Octets of the largest message that keeps to these limits."""
        return HEADER_SIZE + _FIXED + self.max_data_xfer_size


class _Capabilities(msgspec.Struct):
    """The JSON of VERSION; what is unknown is ignored, as is what this side has no use for."""

    max_msg_fds: int = MSG_FDS_DEFAULT
    max_data_xfer_size: int = DATA_XFER_DEFAULT
    max_dma_maps: int = DMA_MAPS_DEFAULT
    pgsizes: int = PGSIZES_DEFAULT
    write_multiple: bool = False


class _VersionData(msgspec.Struct):
    capabilities: _Capabilities = msgspec.field(default_factory=_Capabilities)


_decoder: Final = msgspec.json.Decoder(_VersionData)


class Frame(NamedTuple):
    """One whole message."""

    msg_id: int
    cmd: int
    """A :class:`~.constants.Command`, or a number that is none."""
    flags: int
    error_no: int
    payload: bytes
    """Everything behind the header."""
    fds: tuple[int, ...] = ()
    """Descriptors that came with it; whoever takes the frame closes them."""

    @property
    def is_reply(self) -> bool:
        """Whether it answers a command."""
        return self.flags & TYPE_MASK == _REPLY

    @property
    def wants_reply(self) -> bool:
        """Whether a command is to be answered, be it by success or by refusal."""
        return not self.flags & MessageFlags.NO_REPLY

    @property
    def refused(self) -> int | None:
        """The error number of a reply that is a refusal (``EINVAL`` where the peer names none); else None."""
        if not self.flags & _ERROR:
            return None
        return self.error_no if 0 < self.error_no < 4096 else errno.EINVAL  # 4095 is MAX_ERRNO of <linux/err.h>


class Inbox:
    """What has arrived and is not yet dealt with.

    Use: receive into :meth:`space`, tell :meth:`fill`, then take every :meth:`next` until there is none. ``buffer``,
    ``start``, ``end`` and ``fds`` are public for a server's hot path: it may add to ``end`` what came without
    descriptors, and while ``fds`` is empty take whole messages itself and move ``start``.

    :param largest: octets of the largest message that is taken.
    :param max_fds: descriptors of one message at most.
    """

    def __init__(self, largest: int, max_fds: int) -> None:
        self.largest = largest
        self.max_fds = max_fds
        self.buffer = bytearray(_FIRST)
        self.start = 0
        self.end = 0
        self.fds: list[tuple[int, tuple[int, ...]]] = []
        """Descriptors that wait for their message, each time with the offset of their chunk's last octet."""
        self._moved = 0  # octets by which a message that has begun was moved to the front, all moves together
        self._whole = memoryview(self.buffer)

    def space(self) -> memoryview:
        """Return room to receive into, never empty.

        :raise ProtocolFaultError: the message that has begun to arrive is larger than agreed.
        """
        if self.start == self.end:
            self.start = self.end = 0
            return self._whole
        if len(self.buffer) - self.start < (needed := self._needed()):
            self._move(self.buffer if len(self.buffer) >= needed else bytearray(needed))
        elif len(self.buffer) - self.end < _LOW:
            self._move(self.buffer)
        return self._whole[self.end :]

    def _needed(self) -> int:
        """Return the octets of the message at ``start``, of its header alone while that is incomplete."""
        return self._size() if self.end - self.start >= HEADER_SIZE else HEADER_SIZE

    def _move(self, to: bytearray) -> None:
        rest = self.buffer[self.start : self.end]
        self._moved += self.start
        to[: len(rest)] = rest
        self.start, self.end = 0, len(rest)
        if to is not self.buffer:
            self.buffer, self._whole = to, memoryview(to)

    def fill(self, count: int, fds: Sequence[int] = ()) -> None:
        """Note that `count` octets, at least one, and these descriptors were received into :meth:`space`.

        :raise ProtocolFaultError: more descriptors wait than any two messages may have.
        """
        self.end += count
        if fds:
            self.fds.append((self._moved + self.end - 1, tuple(fds)))
            # The rest of one message and the whole of the next may be in one chunk.
            if sum(len(some) for _, some in self.fds) > 2 * self.max_fds:
                raise ProtocolFaultError(f"more than twice {self.max_fds} file descriptors wait for their messages")

    def next(self) -> Frame | None:
        """Take the next whole message; None if there is none yet.

        :raise ProtocolFaultError: what stands there is no message; nothing after it can be read.
        """
        start, held = self.start, self.end - self.start
        if held < HEADER_SIZE or held < (size := self._size()):
            return None
        msg_id, cmd, _, flags, error_no = HEADER.struct.unpack_from(self.buffer, start)
        self.start = start + size
        payload = bytes(memoryview(self.buffer)[start + HEADER_SIZE : self.start])
        return Frame(msg_id, cmd, flags, error_no, payload, self._take_fds() if self.fds else ())

    def _size(self) -> int:
        """Return the size of the message whose header stands at ``start``, checked."""
        _, cmd, size, flags, _ = HEADER.struct.unpack_from(self.buffer, self.start)
        if size < HEADER_SIZE:
            raise ProtocolFaultError(f"a message (command {cmd}) of {size} octets, less than its header")
        if size > self.largest:
            raise ProtocolFaultError(
                f"a message (command {cmd}) of {size} octets; at most {self.largest} were agreed on"
            )
        if flags & TYPE_MASK > _REPLY:
            raise ProtocolFaultError(f"a message (command {cmd}) of type {flags & TYPE_MASK}")
        return int(size)

    def _take_fds(self) -> tuple[int, ...]:
        """Take the descriptors of the message that ends at ``start``."""
        until = self._moved + self.start
        fds = tuple(fd for at, some in self.fds if at < until for fd in some)
        if len(fds) > self.max_fds:
            raise ProtocolFaultError(
                f"a message with {len(fds)} file descriptors; at most {self.max_fds} were agreed on"
            )
        self.fds = [(at, some) for at, some in self.fds if at >= until]
        return fds

    def abandoned_fds(self) -> tuple[int, ...]:
        """Give up the descriptors that no message has taken: whoever ends the session closes them."""
        fds = tuple(fd for _, some in self.fds for fd in some)
        self.fds = []
        return fds

    def feed(self, data: Octets, fds: Sequence[int] = ()) -> Iterator[Frame]:
        """Take in one chunk of the stream; yield the messages that it completes.

        :raise ProtocolFaultError: see :meth:`next` and :meth:`fill`.
        """
        rest = memoryview(data)
        while rest:
            space = self.space()
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            rest = rest[count:]
            self.fill(count, () if rest else fds)
            while frame := self.next():
                yield frame


def command(msg_id: int, cmd: int, payload: bytes = b"", *, flags: int = 0) -> bytes:
    """Return the octets of a command."""
    return HEADER.struct.pack(msg_id, cmd, HEADER_SIZE + len(payload), flags, 0) + payload


def reply(to: Frame, payload: bytes = b"") -> bytes:
    """Return the octets of the answer to a command."""
    return HEADER.struct.pack(to.msg_id, to.cmd, HEADER_SIZE + len(payload), _REPLY, 0) + payload


def refusal(to: Frame, code: int) -> bytes:
    """Return the octets of the refusal of a command: a header only (vfio-user, "Header").

    :param code: why (``errno``, positive).
    """
    return HEADER.struct.pack(to.msg_id, to.cmd, HEADER_SIZE, _REPLY | _ERROR, code)


def body(layout: Layout[Record], payload: Octets) -> Record:
    """Return the structure that a payload begins with; what is behind it is the caller's.

    :raise MalformedError: the payload is too short.
    """
    if len(payload) < layout.size:
        raise MalformedError(f"{len(payload)} octets of payload; {layout.c} has {layout.size}")
    return layout.unpack(payload)


def counted(layout: Layout[Record], payload: bytes, count: int) -> bytes:
    """Return what follows a structure, of which it said that it has `count` octets.

    :raise MalformedError: it has not.
    """
    if len(payload) - layout.size != count:
        raise MalformedError(f"{len(payload) - layout.size} octets of data, not {count} as {layout.c} says")
    return payload[layout.size :]


def encode_version(limits: Limits) -> bytes:
    """Return the payload of VERSION, proposal or answer."""
    data = msgspec.json.encode({"capabilities": limits})
    return VERSION.pack(MAJOR, MINOR) + data + b"\0"


def decode_version(payload: bytes) -> tuple[Version, Limits]:
    """Return the version and what the sender takes.

    :raise MalformedError: no version that vferry speaks, or limits that make no sense.
    """
    version = body(VERSION, payload)
    if version.major != MAJOR:
        raise MalformedError(f"version {version.major}.{version.minor}; vferry speaks {MAJOR}.{MINOR}")
    text = payload[VERSION.size :]
    if not text:
        return version, Limits()
    if not text.endswith(b"\0"):
        raise MalformedError("the capabilities of VERSION do not end with NUL")
    try:
        found = _decoder.decode(text[:-1]).capabilities
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"the capabilities of VERSION: {error}") from error
    if found.max_msg_fds < 0 or found.max_data_xfer_size <= 0 or found.max_dma_maps < 0:
        raise MalformedError(f"the capabilities of VERSION make no sense: {found}")
    return version, Limits(**msgspec.structs.asdict(found))


def negotiated(own: Limits, peer: Limits) -> Limits:
    """Return what a server answers: no more than it takes, and no capability that was not proposed.

    :raise MalformedError: no page size in common.
    """
    pgsizes = own.pgsizes & peer.pgsizes
    if not pgsizes:
        raise MalformedError(f"page sizes {peer.pgsizes:#x} have none in common with {own.pgsizes:#x}")
    return msgspec.structs.replace(own, pgsizes=pgsizes, write_multiple=own.write_multiple and peer.write_multiple)
