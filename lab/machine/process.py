# SPDX-License-Identifier: Apache-2.0
"""QEMU as a process of this machine, with the sockets it makes."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from lab.errors import HostDied
from lab.machine import reaper
from lab.machine.log import HostLog

_SOCKET_SECONDS = 30.0
_POLL_SECONDS = 0.005


class QemuProcess:
    """A running QEMU.

    :param command: its argument vector.
    :param environment: added to this process's own.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: HostLog) -> None:
        self._log = log
        with (log.directory / "qemu.log").open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        reaper.watch(self._process.pid, log.directory)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def connect(self, path: Path) -> socket.socket:
        """Connect to a socket that QEMU makes when it starts.

        :raise HostDied: When QEMU ends instead, or takes too long.
        """
        end = time.monotonic() + _SOCKET_SECONDS
        while time.monotonic() < end and self.alive:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with contextlib.suppress(OSError):
                connection.connect(str(path))
                return connection
            connection.close()
            time.sleep(_POLL_SECONDS)
        raise HostDied(self._log.name, f"QEMU did not start, status {self._process.poll()}", self._log.tail())

    def kill(self) -> None:
        """End it at once, as a power failure would."""
        self._process.kill()
        self._process.wait()
        reaper.forget(self._process.pid, self._log.directory)
