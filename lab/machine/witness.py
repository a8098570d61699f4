# SPDX-License-Identifier: Apache-2.0
"""Answers programs in a host that ask what the wire has seen from it (``wire-witness`` in the host).

The question is a JSON line, ``{"count": {"payload_contains_hex": "..."}, "timeout": seconds}``; the answer, after that
time, is ``{"received": n}``: the frames that came into the wire at a port of this host and contain these bytes.
With ``"at_least": n`` the answer comes as soon as so many are there; with ``"direction": "out"`` the frames that the
wire delivered to the host are counted instead. An ``"id"`` in the question stands in the answer too.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Any

from lab.errors import LabError
from lab.wire.wire import Frame, Wire

_POLL_SECONDS = 0.01


class Witness:
    """Serves one host.

    :param connection: connected to the virtio-serial port's socket; owned by this object from now on.
    :param wire: the wire that is asked, `None` for a host without one.
    :param ports: names of the host's ports.
    """

    def __init__(self, connection: socket.socket, wire: Wire | None, ports: frozenset[str]) -> None:
        self._connection = connection
        self._wire = wire
        self._ports = ports
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="witness", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=5)
        self._connection.close()

    def _serve(self) -> None:
        pending = b""
        with contextlib.suppress(OSError):
            while chunk := self._connection.recv(1 << 16):
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    self._connection.sendall(json.dumps(self._answer(line)).encode() + b"\n")

    def _answer(self, line: bytes) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        try:
            question = json.loads(line)
            if "id" in question:
                answer["id"] = question["id"]
            answer["received"] = self._count(question)
        except (LabError, ValueError, KeyError, TypeError) as error:
            answer["error"] = f"{type(error).__name__}: {error}"
        return answer

    def _count(self, question: dict[str, Any]) -> int:
        if self._wire is None:
            raise LabError("this host has no wire")
        if not self._wire.capturing:
            raise LabError("the wire records no frames")
        wanted = bytes.fromhex(question["count"]["payload_contains_hex"])
        outward = question.get("direction", "in") == "out"
        enough = question.get("at_least")
        end = time.monotonic() + float(question.get("timeout", 0))

        def concerns(frame: Frame) -> bool:
            here = not self._ports.isdisjoint(frame.out) if outward else frame.port in self._ports
            return here and wanted in frame.data

        while time.monotonic() < end and not self._closing.is_set():
            if enough is not None and len(self._wire.matching(concerns)) >= enough:
                break
            self._closing.wait(_POLL_SECONDS)
        return len(self._wire.matching(concerns))
