# SPDX-License-Identifier: Apache-2.0
"""QMP, QEMU's control protocol: one command at a time, events skipped (QEMU ``docs/interop/qmp-spec.rst``)."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

from lab.errors import HostDied, QmpError
from lab.machine.log import HostLog

_ANSWER_SECONDS = 60.0


class Qmp:
    """A connection to QEMU, past the greeting; safe to use from several threads.

    :param connection: connected to the QMP socket; owned by this object from now on.
    """

    def __init__(self, connection: socket.socket, log: HostLog) -> None:
        connection.settimeout(_ANSWER_SECONDS)
        self._connection = connection
        self._log = log
        self._lock = threading.Lock()
        self._file = connection.makefile("rb")
        try:
            self._next()
            self.execute("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def execute(self, command: str, /, **arguments: object) -> Any:
        """Run a command and return what stands under ``return``. Underscores in argument names become hyphens.

        :raise QmpError: When QEMU refuses.
        :raise HostDied: When QEMU has ended or does not answer.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        with self._lock:
            try:
                self._connection.sendall(json.dumps({"execute": command, "arguments": named}).encode())
                answer = self._next()
                while "event" in answer:
                    answer = self._next()
            except (OSError, ValueError) as error:
                raise HostDied(self._log.name, f"QEMU does not answer {command!r}", self._log.tail()) from error
        if "error" in answer:
            raise QmpError(self._log.name, f"{command}: {answer['error']['desc']}")
        return answer["return"]

    def close(self) -> None:
        """End the connection."""
        self._file.close()
        self._connection.close()

    def _next(self) -> dict[str, Any]:
        try:
            line = self._file.readline()
        except ConnectionError:
            line = b""
        if not line:
            raise HostDied(self._log.name, "QEMU has ended", self._log.tail())
        message: dict[str, Any] = json.loads(line)
        return message
