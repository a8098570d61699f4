# SPDX-License-Identifier: Apache-2.0
"""Commands of the server: DMA_READ and DMA_WRITE, event-driven.

Nothing waits here: an answer is one of the messages that arrive, and calls back. At most :data:`WINDOW` commands are
under way, so that two sides that both only send cannot fill the socket.

Answers differ: to a DMA_WRITE, QEMU 11.1 sends a header only, libvfio-user the address and a 64-bit count, and the
specification's table has a count of 32 bits. So nothing of it is looked at but whether it is a refusal.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from vferry.core.vfio.codec import Frame, ProtocolFaultError, command
from vferry.core.vfio.constants import Command
from vferry.core.vfio.layouts import DMA_ACCESS
from vferry.vfio_user.device import DmaDone, DmaFaultError

__all__ = ["WINDOW", "Outgoing"]

WINDOW: Final = 64
"""Commands without an answer at one time."""


class _Transfer:
    """One access of a device, in as many messages as it takes."""

    def __init__(self, address: int, count: int, done: DmaDone) -> None:
        self.address = address
        self.count = count
        self.done = done
        self.left = 0
        self.parts: list[bytes] = []
        self.error: DmaFaultError | None = None

    def answer(self, index: int, data: bytes, error: DmaFaultError | None) -> None:
        self.parts[index] = data
        self.error = self.error or error
        self.left -= 1
        if not self.left:
            self.done(b"" if self.error else b"".join(self.parts), self.error)


class _Message(NamedTuple):
    """One message of a transfer."""

    transfer: _Transfer
    part: int
    cmd: int
    address: int
    size: int
    data: bytes


class Outgoing:
    """The server's commands of one session.

    :param send: puts octets into the session's next batch.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._largest = 0
        self._waiting: deque[_Message] = deque()
        self._pending: dict[int, _Message] = {}
        self._last_id = 0

    def agree(self, largest: int) -> None:
        """Note how many data octets one message may have."""
        self._largest = largest

    def read(self, address: int, count: int, done: DmaDone) -> None:
        """Ask for memory; see :meth:`.device.Guest.read_by_message`."""
        self._start(_Transfer(address, count, done), Command.DMA_READ, b"")

    def write(self, address: int, data: bytes, done: DmaDone) -> None:
        """Have memory written; see :meth:`.device.Guest.write_by_message`."""
        self._start(_Transfer(address, len(data), done), Command.DMA_WRITE, data)

    def _start(self, transfer: _Transfer, cmd: int, data: bytes) -> None:
        starts = range(0, transfer.count, self._largest)
        transfer.left = len(starts)
        transfer.parts = [b""] * len(starts)
        for part, at in enumerate(starts):
            size = min(self._largest, transfer.count - at)
            self._waiting.append(_Message(transfer, part, cmd, transfer.address + at, size, data[at : at + size]))
        if not starts:
            transfer.done(b"", None)
        self._advance()

    def _advance(self) -> None:
        while self._waiting and len(self._pending) < WINDOW:
            message = self._waiting.popleft()
            msg_id = self._free_id()
            self._pending[msg_id] = message
            self._send(command(msg_id, message.cmd, DMA_ACCESS.pack(message.address, message.size) + message.data))

    def _free_id(self) -> int:
        self._last_id = (self._last_id + 1) & 0xFFFF
        while self._last_id in self._pending:
            self._last_id = (self._last_id + 1) & 0xFFFF
        return self._last_id

    def answered(self, frame: Frame) -> None:
        """Take an answer.

        :raise ProtocolFaultError: nothing was asked under this number, or not as many octets came as were asked for.
        """
        message = self._pending.pop(frame.msg_id, None)
        if message is None or message.cmd != frame.cmd:
            raise ProtocolFaultError(f"an answer to command {frame.cmd} number {frame.msg_id}, which was not given")
        data, error = b"", None
        if frame.refused is not None:
            why = f"the client refused: {os.strerror(frame.refused)}"
            error = DmaFaultError(message.transfer.address, message.transfer.count, why)
        elif message.cmd == Command.DMA_READ:
            data = frame.payload[DMA_ACCESS.size :]
            if len(data) != message.size:
                raise ProtocolFaultError(f"{len(data)} octets in answer to a DMA_READ of {message.size}")
        # First the next ones: the callback may wish to go on.
        self._advance()
        message.transfer.answer(message.part, data, error)

    def cancel(self) -> None:
        """Tell everybody who waits that there will be no answer."""
        lost = [*self._pending.values(), *self._waiting]
        self._pending.clear()
        self._waiting.clear()
        for transfer, part, *_ in lost:
            why = "the client has gone"
            transfer.answer(part, b"", DmaFaultError(transfer.address, transfer.count, why))
