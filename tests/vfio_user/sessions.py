# SPDX-License-Identifier: Apache-2.0
"""A server in a thread and a client; and a server that is given chunks by hand."""

from __future__ import annotations

import os
import socket
import threading
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pytest

from tests.vfio_user.models import Model
from vferry.core.errors import FailedError
from vferry.core.vfio.codec import Frame, Inbox, Limits, ProtocolFaultError
from vferry.vfio_user.client import Client, ClientMemory, RefusedByServerError
from vferry.vfio_user.features import MigrationControl
from vferry.vfio_user.server import LIMITS, Server, Session, Sources


class Served:
    """A server, one session of it, and what came of that."""

    def __init__(self, model: Model, *, limits: Limits = LIMITS, memory: ClientMemory | None = None) -> None:
        self.model = model
        self.faults: list[FailedError] = []
        self.server = Server(model, limits=limits, report=self.faults.append)
        self.memory = memory
        self.thread: threading.Thread | None = None
        self.client = self.connect()

    def connect(self, sources: Sources | None = None) -> Client:
        """Begin a session; one at a time."""
        self.end()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.settimeout(10)
        self.thread = threading.Thread(target=self.server.serve_connection, args=(theirs, sources or {}))
        self.thread.start()
        self.client = Client(ours, memory=self.memory)
        return self.client

    def end(self) -> None:
        """Let the client go, and wait until the server has noticed."""
        if self.thread is not None:
            self.client.close()
            self.joined()
            self.thread = None

    def joined(self) -> None:
        """Wait until the session is over."""
        assert self.thread is not None
        self.thread.join(20)
        assert not self.thread.is_alive()


@contextmanager
def served(model: Model | None = None, *, version: bool = True, **options: Any) -> Iterator[Served]:
    """Serve a model; by default the version is agreed on."""
    found = Served(model or Model(), **options)
    try:
        if version:
            found.client.version()
        yield found
    finally:
        found.end()
        found.server.close()


class Chunks:
    """Stands for a socket: gives chunks, takes what is sent. No more is received at once than there is room for."""

    def __init__(self, chunks: Sequence[tuple[bytes, Sequence[int]]]) -> None:
        self.chunks = list(chunks)
        self.sent = bytearray()
        self.largest = 0

    def setblocking(self, _: bool) -> None: ...

    def setsockopt(self, *_: object) -> None: ...

    def close(self) -> None:
        for _, fds in self.chunks:
            for fd in fds:
                os.close(fd)
        self.chunks = []

    def sendall(self, data: bytes) -> None:
        self.largest = max(self.largest, len(data))
        self.sent += data

    def recvmsg_into(
        self, buffers: list[memoryview], ancillary: int, _: int
    ) -> tuple[int, list[tuple[int, int, bytes]], int, None]:
        if not self.chunks:
            return 0, [], 0, None
        (room,) = buffers
        data, fds = self.chunks.pop(0)
        count = min(len(room), len(data))
        room[:count] = data[:count]
        if data[count:]:
            self.chunks.insert(0, (data[count:], ()))
        if not fds:
            return count, [], 0, None
        octets = array("i", fds).tobytes()
        assert socket.CMSG_SPACE(len(octets)) <= ancillary
        return count, [(socket.SOL_SOCKET, socket.SCM_RIGHTS, octets)], 0, None


class Outcome:
    """What came of a session that was given chunks."""

    def __init__(self, fault: ProtocolFaultError | None, sock: Chunks, session: Session) -> None:
        self.fault = fault
        self.sent = bytes(sock.sent)
        self.largest_send = sock.largest
        self.buffer = len(session._inbox.buffer)

    def answers(self) -> list[Frame]:
        return list(Inbox(1 << 22, 0).feed(self.sent))


def run_chunks(model: Model, chunks: Sequence[tuple[bytes, Sequence[int]]], limits: Limits = LIMITS) -> Outcome:
    """Run a session over chunks with descriptors, which are closed."""
    sock = Chunks([chunk for chunk in chunks if chunk[0]])
    for data, fds in chunks:
        if not data:
            for fd in fds:
                os.close(fd)
    session = Session(cast("socket.socket", sock), model, MigrationControl(model.migration), limits)
    fault = None
    try:
        session.run()
    except ProtocolFaultError as error:
        fault = error
    return Outcome(fault, sock, session)


def open_fds() -> set[str]:
    """Return this process's descriptors."""
    return set(os.listdir("/proc/self/fd"))


@contextmanager
def refused(code: int) -> Iterator[None]:
    """Expect the server's refusal."""
    with pytest.raises(RefusedByServerError) as caught:
        yield
    assert caught.value.code == code, str(caught.value)
