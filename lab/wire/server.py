# SPDX-License-Identifier: Apache-2.0
"""The process that is the wire: reads frames from its ports, stamps and records them, passes them on.

It is started by :class:`lab.wire.wire.Wire` with a control socket and a capture file as open descriptors, takes JSON
lines from the control socket and answers each with one, and ends when that socket is closed. A port is a pair of Unix
datagram sockets: QEMU's ``-netdev dgram`` sends one frame in one datagram.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import json
import os
import selectors
import shutil
import socket
import sys
import time
from typing import Any

from lab.wire.capture import Record, encode
from lab.wire.switch import LearningSwitch

_LONGEST_FRAME = 70_000
_BURST = 64
_LONGEST_QUEUE = 4096
_RETRY_SECONDS = 0.001
_WRITE_BUFFER = 1 << 20

Request = dict[str, Any]


class _Port:
    """One port: the socket it receives on, and where its host listens."""

    def __init__(self, near: str, far: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(near)
        self.far = far
        self.waiting: collections.deque[bytes] = collections.deque()
        self.received = 0
        self.sent = 0
        self.dropped = 0

    def send(self, frame: bytes) -> None:
        """Hand a frame to the host, after those that wait for it."""
        self.waiting.append(frame)
        if len(self.waiting) > _LONGEST_QUEUE:
            self.waiting.popleft()
            self.dropped += 1
        self.drain()

    def drain(self) -> None:
        """Send what waits, until the host's socket is full. A host that is not there loses its frames."""
        while self.waiting:
            try:
                self.socket.sendto(self.waiting[0], self.far)
                self.sent += 1
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                    return
                self.dropped += 1
            self.waiting.popleft()


class Server:
    """The wire's event loop.

    :param control: the driver's end of the conversation.
    :param capture: an empty file opened for writing.
    """

    def __init__(self, control: socket.socket, capture: int) -> None:
        self._control = control
        self._capture = os.fdopen(capture, "wb", buffering=_WRITE_BUFFER)
        self._capturing = True
        self._switch = LearningSwitch()
        self._ports: list[_Port] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._pending = b""
        self._running = True

    def serve(self) -> None:
        """Work until the control socket is closed."""
        while self._running:
            blocked = [port for port in self._ports if port.waiting]
            for key, _events in self._selector.select(_RETRY_SECONDS if blocked else None):
                if key.fileobj is self._control:
                    self._read_control()
                else:
                    self._read_port(key.data)
            for port in blocked:
                port.drain()

    def _read_port(self, number: int) -> None:
        port = self._ports[number]
        with contextlib.suppress(BlockingIOError):
            for _ in range(_BURST):
                frame = port.socket.recv(_LONGEST_FRAME)
                self._ingress(number, frame)

    def _ingress(self, number: int, frame: bytes) -> None:
        now = time.monotonic_ns()
        port = self._ports[number]
        if not self._switch.link(number):
            port.dropped += 1
            return
        port.received += 1
        out = self._switch.forward(number, frame)
        if self._capturing:
            self._capture.write(encode(Record(time_ns=now, port=number, out=out, data=frame)))
        for other in out:
            self._ports[other].send(frame)

    def _read_control(self) -> None:
        chunk = self._control.recv(1 << 16)
        if not chunk:
            self._running = False
            return
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        for line in lines:
            request: Request = json.loads(line)
            answer = getattr(self, f"_do_{request['do']}")(request) or {}
            self._control.sendall(json.dumps(answer).encode() + b"\n")

    # What the driver can ask for.

    def _do_add(self, request: Request) -> None:
        number = len(self._ports)
        port = _Port(request["near"], request["far"])
        self._ports.append(port)
        self._switch.add_port(number)
        self._selector.register(port.socket, selectors.EVENT_READ, number)

    def _do_capture(self, request: Request) -> None:
        self._capturing = request["on"]

    def _do_clear(self, _request: Request) -> None:
        self._capture.seek(0)
        self._capture.truncate()

    def _do_sync(self, _request: Request) -> Request:
        self._capture.flush()
        return {"capturing": self._capturing}

    def _do_hub(self, request: Request) -> None:
        self._switch.hub = request["on"]

    def _do_link(self, request: Request) -> None:
        self._switch.set_link(request["port"], up=request["up"])
        if not request["up"]:
            self._ports[request["port"]].waiting.clear()

    def _do_forget(self, _request: Request) -> None:
        self._switch.forget()

    def _do_inject(self, request: Request) -> None:
        self._ingress(request["port"], bytes.fromhex(request["frame"]))

    def _do_learned(self, _request: Request) -> Request:
        rows = [[vlan, address.hex(":"), port] for (vlan, address), port in self._switch.learned.items()]
        return {"learned": rows}

    def _do_count(self, _request: Request) -> Request:
        return {"ports": [[port.received, port.sent, port.dropped] for port in self._ports]}


def main() -> None:
    """Serve on the descriptors named on the command line: control socket, capture file; then remove the directory."""
    control, capture = (int(word) for word in sys.argv[1:3])
    with socket.socket(fileno=control) as connection:
        Server(connection, capture).serve()
    shutil.rmtree(sys.argv[3], ignore_errors=True)


if __name__ == "__main__":
    main()
