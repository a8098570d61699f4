# SPDX-License-Identifier: Apache-2.0
"""Receives and sends octets with file descriptors on a UNIX socket (``unix(7)``, SCM_RIGHTS)."""

from __future__ import annotations

import contextlib
import os
import socket
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final

from vferry.core.vfio.codec import Inbox, ProtocolFaultError

__all__ = ["Receiver", "close_all", "send_with"]

_FD: Final = array("i").itemsize
_CLOEXEC: Final = int(socket.MSG_CMSG_CLOEXEC)
_CTRUNC: Final = int(socket.MSG_CTRUNC)


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def send_with(sock: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    """Send one message and its descriptors, which belong to its first octet.

    :raise OSError: as ``sendmsg(2)`` says.
    """
    sent = sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds).tobytes())])
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:])


class Receiver:
    """Receives into an inbox; descriptors do not survive ``exec()``."""

    def __init__(self, sock: socket.socket, inbox: Inbox) -> None:
        self._receive = sock.recvmsg_into
        self._inbox = inbox
        self._room = socket.CMSG_SPACE(inbox.max_fds * _FD)

    def receive(self) -> bool:
        """Wait for the next chunk; return whether there was one (else the peer has gone).

        :raise ProtocolFaultError: more descriptors than agreed on; or the message is too large.
        :raise OSError: as ``recvmsg(2)`` says.
        """
        inbox = self._inbox
        count, ancillary, flags, _ = self._receive([inbox.space()], self._room, _CLOEXEC)
        if ancillary or flags & _CTRUNC:
            return self._take(count, _descriptors(ancillary), flags)
        inbox.end += count
        return count > 0

    def _take(self, count: int, fds: Sequence[int], flags: int) -> bool:
        if flags & _CTRUNC:
            close_all(fds)
            raise ProtocolFaultError(f"more than {self._inbox.max_fds} file descriptors, or no room for them here")
        if not count:
            close_all(fds)
            return False
        self._inbox.fill(count, fds)
        return True


def _descriptors(ancillary: Iterable[tuple[int, int, Any]]) -> Sequence[int]:
    fds = array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % _FD])
    return tuple(fds)
