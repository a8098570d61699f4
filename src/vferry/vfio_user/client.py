# SPDX-License-Identifier: Apache-2.0
"""A vfio-user client, for tests without a virtual machine: from VERSION to the data of a migration.

It is synchronous: a call sends one command and waits for its answer, and serves what the server asks for meanwhile
(DMA_READ, DMA_WRITE) from `memory`. :meth:`Client.send` and :meth:`Client.receive` are the parts, for pipelining.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Sequence
from typing import Final, Protocol, Self

from vferry.core.errors import FailedError
from vferry.core.vfio.codec import (
    LARGEST_XFER,
    Frame,
    Inbox,
    Limits,
    ProtocolFaultError,
    body,
    command,
    decode_version,
    encode_version,
    refusal,
    reply,
)
from vferry.core.vfio.constants import (
    Command,
    DmaFlags,
    Feature,
    FeatureFlags,
    IrqSetFlags,
    MessageFlags,
    MigrationFlags,
)
from vferry.core.vfio.layouts import (
    DEVICE_FEATURE,
    DEVICE_INFO,
    DMA_ACCESS,
    DMA_LOGGING_CONTROL,
    DMA_LOGGING_RANGE,
    DMA_LOGGING_REPORT,
    DMA_MAP,
    DMA_UNMAP,
    FEATURE_MIG_STATE,
    FEATURE_MIGRATION,
    IRQ_INFO,
    IRQ_SET,
    MIG_DATA,
    REGION_ACCESS,
    REGION_INFO,
    REGION_IO_FDS,
    VERSION,
    WRITE_MULTI,
    WRITE_MULTI_ENTRY,
    DeviceInfo,
    IrqInfo,
    RegionInfo,
    RegionIoFds,
)
from vferry.core.vfio.migration_states import DeviceState
from vferry.vfio_user.descriptors import Receiver, close_all, send_with

__all__ = ["Client", "ClientMemory", "GoneError", "RefusedByServerError"]

_LIMITS: Final = Limits(max_msg_fds=8, write_multiple=True)

_ROOM: Final = 1 << 16
"""``argsz`` where the answer's size is not known before."""


class RefusedByServerError(FailedError):
    """The server refused a command.

    :param cmd: the command.
    :param code: why (``errno``, positive).
    """

    def __init__(self, cmd: int, code: int) -> None:
        self.cmd = cmd
        self.code = code
        name = errno.errorcode.get(code, str(code))
        super().__init__(f"carry out {_name(cmd)}", why=f"the server refused: {name} ({os.strerror(code)})")


class GoneError(FailedError):
    """The server has closed the connection."""


class ClientMemory(Protocol):
    """Memory that the server may ask for by message."""

    def read(self, address: int, count: int, /) -> bytes:
        """Return octets.

        :raise LookupError: there are none.
        """
        ...

    def write(self, address: int, data: bytes, /) -> None:
        """Write octets.

        :raise LookupError: there are none.
        """
        ...


class Client:
    """One session, from its first octet.

    :param sock: connected to a server; the client closes it.
    :param memory: what DMA_READ and DMA_WRITE reach; they are refused where there is none.
    :param limits: what this side takes.
    """

    def __init__(self, sock: socket.socket, *, memory: ClientMemory | None = None, limits: Limits = _LIMITS) -> None:
        self.sock = sock
        self.memory = memory
        self.limits = limits
        self.server = Limits()
        """What the server takes, once :meth:`version` has asked."""
        largest = Limits(max_data_xfer_size=min(limits.max_data_xfer_size, LARGEST_XFER)).message
        self._inbox = Inbox(largest, limits.max_msg_fds)
        self._receiver = Receiver(sock, self._inbox)
        self._last_id = 0

    @classmethod
    def connect(cls, path: str, *, timeout: float = 10.0, memory: ClientMemory | None = None) -> Client:
        """Connect to a server.

        :param timeout: seconds that any answer may take.
        :raise OSError: as ``connect(2)`` says.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect(path)
        except BaseException:
            sock.close()
            raise
        return cls(sock, memory=memory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Go away."""
        close_all(self._inbox.abandoned_fds())
        self.sock.close()

    # The parts of a call.

    def send(self, cmd: int, payload: bytes = b"", *, fds: Sequence[int] = (), no_reply: bool = False) -> int:
        """Send a command; return its number.

        :raise GoneError: the server has gone.
        :raise TimeoutError: it takes nothing.
        """
        self._last_id = (self._last_id + 1) & 0xFFFF
        octets = command(self._last_id, cmd, payload, flags=MessageFlags.NO_REPLY if no_reply else 0)
        try:
            if fds:
                send_with(self.sock, octets, fds)
            else:
                self.sock.sendall(octets)
        except ConnectionError as error:
            raise GoneError("tell the vfio-user server", why=str(error)) from error
        return self._last_id

    def receive(self) -> Frame:
        """Return the next answer; serve commands of the server meanwhile.

        :raise GoneError: the server has gone.
        :raise ProtocolFaultError: it sends nonsense.
        :raise TimeoutError: nothing came in time.
        """
        while True:
            frame = self._inbox.next()
            if frame is None:
                self._more()
            elif frame.is_reply:
                return frame
            else:
                self._serve(frame)

    def serve_one(self) -> None:
        """Wait for one command of the server, and carry it out.

        :raise ProtocolFaultError: an answer came instead.
        """
        while (frame := self._inbox.next()) is None:
            self._more()
        if frame.is_reply:
            raise ProtocolFaultError(f"an answer to {_name(frame.cmd)} that nobody waits for")
        self._serve(frame)

    def _more(self) -> None:
        try:
            alive = self._receiver.receive()
        except ConnectionError as error:
            raise GoneError("hear the vfio-user server", why=str(error)) from error
        if not alive:
            raise GoneError("hear the vfio-user server", why="it closed the connection")

    def _serve(self, frame: Frame) -> None:
        close_all(frame.fds)
        try:
            answer = reply(frame, self._access(frame))
        except LookupError:
            answer = refusal(frame, errno.EFAULT)
        if frame.wants_reply:
            self.sock.sendall(answer)

    def _access(self, frame: Frame) -> bytes:
        if self.memory is None or frame.cmd not in (Command.DMA_READ, Command.DMA_WRITE):
            raise LookupError(frame.cmd)
        request = body(DMA_ACCESS, frame.payload)
        header, data = frame.payload[: DMA_ACCESS.size], frame.payload[DMA_ACCESS.size :]
        if frame.cmd == Command.DMA_READ:
            return header + self.memory.read(request.addr, request.count)
        if len(data) != request.count:
            raise ProtocolFaultError(f"a DMA_WRITE of {request.count} octets with {len(data)}")
        self.memory.write(request.addr, data)
        return header

    def call(self, cmd: int, payload: bytes = b"", *, fds: Sequence[int] = ()) -> bytes:
        """Send a command; return its answer's payload.

        :raise RefusedByServerError: refused.
        :raise GoneError: the server has gone.
        :raise ProtocolFaultError: another command was answered, or it sends nonsense.
        :raise TimeoutError: nothing came in time.
        """
        number = self.send(cmd, payload, fds=fds)
        frame = self.receive()
        close_all(frame.fds)
        if (frame.msg_id, frame.cmd) != (number, cmd):
            raise ProtocolFaultError(f"an answer to {_name(frame.cmd)} {frame.msg_id}, not to {_name(cmd)} {number}")
        if frame.refused is not None:
            raise RefusedByServerError(cmd, frame.refused)
        return frame.payload

    # One method for each command. All raise what call() raises.

    def version(self) -> Limits:
        """Begin the session; return what the server takes."""
        version, self.server = decode_version(self.call(Command.VERSION, encode_version(self.limits)))
        if version.minor > VERSION.unpack(encode_version(self.limits)).minor:
            raise ProtocolFaultError(f"minor version {version.minor}, more than was proposed")
        return self.server

    def device_info(self) -> DeviceInfo:
        """DEVICE_GET_INFO."""
        request = DEVICE_INFO.pack(DEVICE_INFO.size, 0, 0, 0)
        return body(DEVICE_INFO, self.call(Command.DEVICE_GET_INFO, request))

    def region_info(self, index: int) -> RegionInfo:
        """DEVICE_GET_REGION_INFO."""
        request = REGION_INFO.pack(REGION_INFO.size, 0, index, 0, 0, 0)
        return body(REGION_INFO, self.call(Command.DEVICE_GET_REGION_INFO, request))

    def region_io_fds(self, index: int) -> RegionIoFds:
        """DEVICE_GET_REGION_IO_FDS."""
        request = REGION_IO_FDS.pack(_ROOM, 0, index, 0)
        return body(REGION_IO_FDS, self.call(Command.DEVICE_GET_REGION_IO_FDS, request))

    def irq_info(self, index: int) -> IrqInfo:
        """DEVICE_GET_IRQ_INFO."""
        request = IRQ_INFO.pack(IRQ_INFO.size, 0, index, 0)
        return body(IRQ_INFO, self.call(Command.DEVICE_GET_IRQ_INFO, request))

    def set_irqs(
        self, flags: IrqSetFlags, index: int, start: int, count: int, *, data: bytes = b"", fds: Sequence[int] = ()
    ) -> None:
        """DEVICE_SET_IRQS."""
        request = IRQ_SET.pack(IRQ_SET.size + len(data), flags, index, start, count) + data
        self.call(Command.DEVICE_SET_IRQS, request, fds=fds)

    def read(self, region: int, offset: int, count: int) -> bytes:
        """REGION_READ."""
        return self.call(Command.REGION_READ, REGION_ACCESS.pack(offset, region, count))[REGION_ACCESS.size :]

    def write(self, region: int, offset: int, data: bytes, *, posted: bool = False) -> None:
        """REGION_WRITE; a posted one is not answered, not even when it is refused."""
        request = REGION_ACCESS.pack(offset, region, len(data)) + data
        if posted:
            self.send(Command.REGION_WRITE, request, no_reply=True)
        else:
            self.call(Command.REGION_WRITE, request)

    def write_multi(self, writes: Iterable[tuple[int, int, bytes]]) -> int:
        """REGION_WRITE_MULTI of (region, offset, at most 8 octets); return how many were done."""
        entries = [WRITE_MULTI_ENTRY.pack(offset, region, len(data), data) for region, offset, data in writes]
        answer = self.call(Command.REGION_WRITE_MULTI, WRITE_MULTI.pack(len(entries)) + b"".join(entries))
        return body(WRITE_MULTI, answer).wr_cnt

    def dma_map(
        self,
        address: int,
        size: int,
        *,
        fd: int | None = None,
        offset: int = 0,
        flags: DmaFlags = DmaFlags.READ | DmaFlags.WRITE,
    ) -> None:
        """DMA_MAP, of a file or of memory that can only be asked for."""
        request = DMA_MAP.pack(DMA_MAP.size, flags, offset, address, size)
        self.call(Command.DMA_MAP, request, fds=() if fd is None else (fd,))

    def dma_unmap(self, address: int, size: int, flags: int = 0) -> None:
        """DMA_UNMAP."""
        self.call(Command.DMA_UNMAP, DMA_UNMAP.pack(DMA_UNMAP.size, flags, address, size))

    def reset(self) -> None:
        """DEVICE_RESET."""
        self.call(Command.DEVICE_RESET)

    def feature(self, feature: int, method: FeatureFlags, data: bytes = b"", *, room: int = _ROOM) -> bytes:
        """DEVICE_FEATURE; return the feature's data."""
        request = DEVICE_FEATURE.pack(room, feature | method) + data
        return self.call(Command.DEVICE_FEATURE, request)[DEVICE_FEATURE.size :]

    def migration_flags(self) -> MigrationFlags:
        """Return what the device announces."""
        return MigrationFlags(body(FEATURE_MIGRATION, self.feature(Feature.MIGRATION, FeatureFlags.GET)).flags)

    def migration_state(self) -> DeviceState:
        """Return where the device is."""
        found = body(FEATURE_MIG_STATE, self.feature(Feature.MIG_DEVICE_STATE, FeatureFlags.GET))
        return DeviceState(found.device_state)

    def set_migration_state(self, state: int) -> None:
        """Take the device to a state."""
        self.feature(Feature.MIG_DEVICE_STATE, FeatureFlags.SET, FEATURE_MIG_STATE.pack(state, -1))

    def dma_logging_start(self, page_size: int, ranges: Sequence[tuple[int, int]] = ()) -> int:
        """Begin to log (address, size) ranges, or everything; return the log's page size."""
        data = DMA_LOGGING_CONTROL.pack(page_size, len(ranges), 0)
        data += b"".join(DMA_LOGGING_RANGE.pack(*one) for one in ranges)
        room = DEVICE_FEATURE.size + len(data)
        return body(
            DMA_LOGGING_CONTROL, self.feature(Feature.DMA_LOGGING_START, FeatureFlags.SET, data, room=room)
        ).page_size

    def dma_logging_stop(self) -> None:
        """Log no more."""
        self.feature(Feature.DMA_LOGGING_STOP, FeatureFlags.SET)

    def dma_logging_report(self, address: int, size: int, page_size: int) -> set[int]:
        """Return the addresses of the dirty pages of a range, which are forgotten."""
        room = DEVICE_FEATURE.size + DMA_LOGGING_REPORT.size + (size // page_size // 64 + 1) * 8
        request = DMA_LOGGING_REPORT.pack(address, size, page_size)
        data = self.feature(Feature.DMA_LOGGING_REPORT, FeatureFlags.GET, request, room=room)
        bits = int.from_bytes(data[DMA_LOGGING_REPORT.size :], "little")
        return {address + n * page_size for n in range(bits.bit_length()) if bits >> n & 1}

    def read_migration_data(self, size: int) -> bytes:
        """MIG_DATA_READ of at most `size` octets; fewer: there are no more."""
        answer = self.call(Command.MIG_DATA_READ, MIG_DATA.pack(MIG_DATA.size + size, size))
        return answer[MIG_DATA.size : MIG_DATA.size + body(MIG_DATA, answer).size]

    def write_migration_data(self, data: bytes) -> None:
        """MIG_DATA_WRITE."""
        self.call(Command.MIG_DATA_WRITE, MIG_DATA.pack(MIG_DATA.size + len(data), len(data)) + data)


def _name(cmd: int) -> str:
    return Command(cmd).name if cmd in list(Command) else f"command {cmd}"
