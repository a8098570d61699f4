# SPDX-License-Identifier: Apache-2.0
"""Serves a device model to one vfio-user client at a time, on a UNIX stream socket.

The loop is tight on purpose: a register access costs two context switches anyway, and everything that this adds is
seen by a virtual CPU that stands still. So there is no event loop: one ``recvmsg_into()`` for as many messages as have
arrived, register accesses read and answered with one :class:`struct.Struct` for header and body, and one send for all
their answers. Whoever needs other descriptors watched (the wire of a NIC) gives them as `sources`.

A client that breaks the protocol loses its session, with a :class:`~.codec.ProtocolFaultError` that says why; the
server goes on, and so does the device: when a client comes back it finds the device as the last one left it, without
memory and interrupts.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from vferry.core.errors import FailedError
from vferry.core.vfio.codec import (
    LARGEST_VERSION,
    LARGEST_XFER,
    Frame,
    Inbox,
    Limits,
    MalformedError,
    ProtocolFaultError,
    decode_version,
    encode_version,
    negotiated,
    refusal,
    reply,
)
from vferry.core.vfio.constants import Command, MessageFlags, RegionFlags
from vferry.core.vfio.layouts import REGION_MESSAGE
from vferry.vfio_user.descriptors import Receiver, close_all
from vferry.vfio_user.device import DeviceError, DeviceModel, DmaDone
from vferry.vfio_user.dma import PAGE, GuestMemory
from vferry.vfio_user.features import MigrationControl
from vferry.vfio_user.interrupts import IrqTable
from vferry.vfio_user.outgoing import Outgoing
from vferry.vfio_user.requests import Requests

__all__ = ["LIMITS", "Server", "Session", "Sources", "listen"]

LIMITS: Final = Limits(
    max_msg_fds=16,  # as QEMU 11.1 proposes
    max_data_xfer_size=LARGEST_XFER,
    max_dma_maps=65535,
    pgsizes=PAGE,
    write_multiple=True,
)
"""What a server takes unless told otherwise."""

Sources = Mapping[int, Callable[[], None]]
"""Further descriptors to be watched, each with what is to be called when it is readable."""

_NO_SOURCES: Final[Sources] = MappingProxyType({})

_READ: Final = int(Command.REGION_READ)
_WRITE: Final = int(Command.REGION_WRITE)
_REPLY: Final = int(MessageFlags.REPLY)
_NO_REPLY: Final = int(MessageFlags.NO_REPLY)
_SMALL: Final = REGION_MESSAGE.size  # octets of a region message without data
_HOT_COUNT: Final = 64
"""Data octets of the largest access that the hot path takes; more is rare, and is counted."""
_BATCH: Final = 1 << 18
"""Octets of answers that are sent before the next command is carried out."""
_PATIENCE: Final = 30
"""Seconds that a client may leave its answers unread; QEMU gives a device up after 5 (``x-msg-timeout``)."""


class Session:
    """One client's session. It is the device's :class:`~.device.Guest`.

    :param sock: connected; the session closes it.
    :param control: the device's migration state, which outlives the session.
    """

    def __init__(self, sock: socket.socket, device: DeviceModel, control: MigrationControl, limits: Limits) -> None:
        sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _PATIENCE, 0))
        self._sock = sock
        self._device = device
        self._limits = limits
        self._inbox = Inbox(LARGEST_VERSION, limits.max_msg_fds)
        self._receiver = Receiver(sock, self._inbox)
        self._memory = GuestMemory(limits.max_dma_maps)
        self._irqs = IrqTable(device.interrupts)
        self._requests = Requests(device, control, self._memory, self._irqs, limits)
        self._outgoing = Outgoing(self._put)
        self._out: list[bytes] = []
        self._octets = 0
        self._agreed = False
        self._accesses = _accesses(device)
        self.read = self._memory.read
        self.write = self._memory.write
        self.trigger = self._irqs.trigger

    def run(self, sources: Sources = _NO_SOURCES) -> None:
        """Serve until the client goes.

        :raise ProtocolFaultError: the client broke the protocol, or does not take its answers.
        """
        try:
            receive = self._receiver.receive
            if sources:
                receive = self._receive_between(sources)
            while receive():
                self._serve()
        except (ConnectionResetError, BrokenPipeError):
            pass  # gone, in the middle of something
        except BlockingIOError as error:
            raise ProtocolFaultError(f"it took no answer for {_PATIENCE} seconds") from error
        finally:
            self._close()

    def _receive_between(self, sources: Sources) -> Callable[[], bool]:
        def receive() -> bool:
            _until_readable(self._sock.fileno(), sources, self._flush)
            return self._receiver.receive()

        return receive

    def _serve(self) -> None:
        """Carry out all that has arrived."""
        inbox = self._inbox
        try:
            while inbox.start < inbox.end:
                if self._agreed and not inbox.fds:
                    self._access_regions()
                frame = inbox.next()
                if frame is None:
                    break
                self._carry_out(frame)
        finally:
            # What was carried out before a fault is answered; and a refused VERSION says so.
            self._flush()

    def _access_regions(self) -> None:
        """Carry out small, plain register accesses, up to the first message that is none."""
        inbox, send, accesses = self._inbox, self._out.append, self._accesses
        buffer, start, end = inbox.buffer, inbox.start, inbox.end
        unpack, pack = REGION_MESSAGE.unpack_from, REGION_MESSAGE.pack
        number = cmd = size = flags = 0
        try:
            while end - start >= _SMALL:
                number, cmd, size, flags, _, offset, index, count = unpack(buffer, start)
                access = accesses.get(cmd << 32 | index)
                if access is None or count > _HOT_COUNT or offset + count > access.size or flags & ~_NO_REPLY:
                    return
                if cmd == _READ:
                    if size != _SMALL or flags:
                        return
                    data = access.read(offset, count)
                    if len(data) != count:
                        return  # a defect of the model, which is refused in one place
                    send(pack(number, _READ, _SMALL + count, _REPLY, 0, offset, index, count))
                    send(data)
                else:
                    if size != _SMALL + count or end - start < size:
                        return
                    access.write(offset, bytes(buffer[start + _SMALL : start + size]))
                    if not flags:
                        send(pack(number, _WRITE, _SMALL, _REPLY, 0, offset, index, count))
                start += size
        except DeviceError as error:
            start += size
            if not flags:
                send(refusal(Frame(number, cmd, 0, 0, b""), error.code))
        finally:
            inbox.start = start

    def _carry_out(self, frame: Frame) -> None:
        """Carry out one message, and answer it."""
        fds = list(frame.fds)
        try:
            if frame.is_reply:
                self._take_answer(frame)
                return
            answer = self._requests.handle(frame, fds) if self._agreed else self._agree(frame)
        except (MalformedError, DeviceError) as error:
            if frame.wants_reply:
                self._put(refusal(frame, error.code))
            if not self._agreed:
                raise ProtocolFaultError(error.why) from error
        else:
            if frame.wants_reply:
                self._put(reply(frame, answer))
        finally:
            close_all(fds)

    def _take_answer(self, frame: Frame) -> None:
        if frame.fds:
            raise ProtocolFaultError("an answer with file descriptors")
        self._outgoing.answered(frame)

    def _agree(self, frame: Frame) -> bytes:
        """Answer VERSION, the first message of a session."""
        if frame.cmd != Command.VERSION or frame.fds:
            raise ProtocolFaultError(f"command {frame.cmd}, {len(frame.fds)} descriptors; VERSION must come first")
        _, proposed = decode_version(frame.payload)
        answer = encode_version(negotiated(self._limits, proposed))
        self._inbox.largest = self._limits.message
        self._outgoing.agree(min(proposed.max_data_xfer_size, self._limits.max_data_xfer_size))
        self._agreed = True
        self._device.attach(self)
        return answer

    def _put(self, octets: bytes) -> None:
        """Put octets into the batch; send it where it has become large."""
        self._out.append(octets)
        self._octets += len(octets)
        if self._octets > _BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._out:
            octets = b"".join(self._out)
            self._out.clear()
            self._octets = 0
            self._sock.sendall(octets)

    def _close(self) -> None:
        close_all(self._inbox.abandoned_fds())
        self._sock.close()
        self._memory.log = None
        gone = self._memory.unmap_all()
        self._irqs.close()
        self._out.clear()
        if self._agreed:
            for address, size in gone:
                self._device.dma_unmapped(address, size)
            self._outgoing.cancel()
            self._device.detach()

    # What the device may do to its guest, with read, write and trigger, which are those of memory and interrupts.

    def read_by_message(self, address: int, count: int, done: DmaDone, /) -> None:
        """See :meth:`.device.Guest.read_by_message`."""
        self._memory.check(address, count, write=False)
        self._outgoing.read(address, count, done)

    def write_by_message(self, address: int, data: bytes, done: DmaDone, /) -> None:
        """See :meth:`.device.Guest.write_by_message`."""
        self._memory.check(address, len(data), write=True)
        self._outgoing.write(address, data, done)


class Server:
    """Serves one device, to one client after the other.

    :param limits: what it takes; only less than :data:`LIMITS` makes sense.
    :param report: told why a session ended that did not end well.
    """

    def __init__(
        self,
        device: DeviceModel,
        *,
        limits: Limits = LIMITS,
        report: Callable[[FailedError], None] | None = None,
    ) -> None:
        largest = min(limits.max_data_xfer_size, LARGEST_XFER)
        self._limits = msgspec.structs.replace(limits, max_data_xfer_size=largest)
        self._device = device
        self._control = MigrationControl(device.migration)
        self._report = report
        self._stopped = False
        self._open: socket.socket | None = None
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    @property
    def migration(self) -> MigrationControl:
        """The device's migration state."""
        return self._control

    def serve(self, listener: socket.socket, sources: Sources = _NO_SOURCES) -> None:
        """Serve clients until :meth:`stop`; the listener stays open."""
        watched = {**sources, self._wakeup: lambda: None}
        while not self._stopped:
            if not _until_readable(listener.fileno(), watched, lambda: None, lambda: self._stopped):
                break
            try:
                connection, _ = listener.accept()
            except ConnectionError:
                continue
            self.serve_connection(connection, sources)

    def serve_connection(self, connection: socket.socket, sources: Sources = _NO_SOURCES) -> None:
        """Serve one connected client until it goes; takes the socket over."""
        self._open = connection
        try:
            if not self._stopped:
                Session(connection, self._device, self._control, self._limits).run(sources)
        except ProtocolFaultError as error:
            if self._report:
                self._report(error)
        finally:
            self._open = None
            connection.close()

    def stop(self) -> None:
        """End the session and :meth:`serve`; may be called by another thread, or a signal's handler."""
        self._stopped = True
        os.eventfd_write(self._wakeup, 1)
        connection = self._open
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give up what the server holds; only when it does not serve any more."""
        os.close(self._wakeup)


class _Access(NamedTuple):
    """A region, bound once: each look-up less is some per cent of a register access."""

    size: int
    read: Callable[[int, int], bytes]
    write: Callable[[int, bytes], None]


def _accesses(device: DeviceModel) -> dict[int, _Access]:
    """Return the regions by command and index, those that allow it."""
    return {
        cmd << 32 | index: _Access(region.size, region.read, region.write)
        for index, region in device.regions.items()
        for cmd, needs in ((_READ, RegionFlags.READ), (_WRITE, RegionFlags.WRITE))
        if region.flags & needs
    }


def _until_readable(
    fd: int, sources: Sources, after: Callable[[], None], stopped: Callable[[], bool] = lambda: False
) -> bool:
    """Call sources until a descriptor is readable; return False where it was `stopped` before."""
    poll = select.poll()
    for one in (fd, *sources):
        poll.register(one, select.POLLIN)
    while True:
        ready = {one for one, _ in poll.poll()}
        if stopped():
            return False
        for one in ready & sources.keys():
            sources[one]()
        after()
        if fd in ready:
            return True


def listen(path: str) -> socket.socket:
    """Return a socket that listens at a path, which must not exist; only this user may connect.

    :raise OSError: as ``bind(2)`` says.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Before it listens nobody can connect, so there is no moment in which others could.
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(4)
    except BaseException:
        listener.close()
        raise
    return listener
