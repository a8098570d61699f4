# SPDX-License-Identifier: Apache-2.0
"""The driver's end of the agent in a host (:mod:`lab.guest.agent`): requests by number, many in flight."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import json
import socket
import threading
from typing import Any

from lab.errors import AgentError, HostDied, Timeout
from lab.machine.log import HostLog

Answer = dict[str, Any]


class AgentClient:
    """A connection to the agent; safe to use from several threads.

    :param connection: connected to the virtio-serial port's socket; owned by this object from now on.
    """

    def __init__(self, connection: socket.socket, log: HostLog) -> None:
        self._connection = connection
        self._log = log
        self._numbers = itertools.count(1)
        self._sending = threading.Lock()
        self._waiting: dict[int, concurrent.futures.Future[Answer]] = {}
        self._gone = False
        self._reader = threading.Thread(target=self._read, name=f"agent-{log.name}", daemon=True)
        self._reader.start()

    def request(self, do: str, *, timeout: float, **fields: object) -> Answer:
        """Send a request and return the result.

        :param timeout: seconds to wait for the answer.
        :raise AgentError: When the agent could not do it.
        :raise Timeout: When there is no answer in time; it is thrown away when it comes later.
        :raise HostDied: When the host has ended.
        """
        number = next(self._numbers)
        answered: concurrent.futures.Future[Answer] = concurrent.futures.Future()
        self._waiting[number] = answered
        try:
            self._send({"id": number, "do": do, **fields})
            answer = answered.result(timeout)
        except concurrent.futures.TimeoutError as error:
            raise Timeout(self._log.name, f"no answer to {do!r} in {timeout} s", self._log.tail()) from error
        except (OSError, concurrent.futures.CancelledError) as error:
            raise HostDied(self._log.name, "the host has ended", self._log.tail()) from error
        finally:
            self._waiting.pop(number, None)
        if "error" in answer:
            raise AgentError(self._log.name, f"{do}: {answer['error']}")
        result: Answer = answer["ok"]
        return result

    @property
    def gone(self) -> bool:
        """Whether the connection has ended."""
        return self._gone

    def close(self) -> None:
        """End the connection; requests in flight raise `HostDied`."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._reader.join(timeout=5)
        self._connection.close()

    def _send(self, request: Answer) -> None:
        raw = json.dumps(request).encode() + b"\n"
        with self._sending:
            self._connection.sendall(raw)
        if self._gone:
            raise OSError("the connection has ended")

    def _read(self) -> None:
        pending: list[bytes] = []
        with contextlib.suppress(OSError):
            while chunk := self._connection.recv(1 << 16):
                pending.append(chunk)
                if b"\n" in chunk:
                    *lines, rest = b"".join(pending).split(b"\n")
                    pending = [rest]
                    for line in lines:
                        self._deliver(line)
        self._gone = True
        for answered in list(self._waiting.values()):
            answered.cancel()

    def _deliver(self, line: bytes) -> None:
        try:
            answer: Answer = json.loads(line)
        except ValueError:
            # The rest of an answer to a driver that was here before.
            return
        answered = self._waiting.get(answer.get("id", 0))
        if answered is not None and not answered.done():
            answered.set_result(answer)
