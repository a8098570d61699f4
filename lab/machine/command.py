# SPDX-License-Identifier: Apache-2.0
"""Commands in a host: what one gave back, and one that runs in the background."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lab.errors import Timeout
from lab.machine.agent import AgentClient
from lab.machine.log import HostLog

Command = str | Sequence[str]
"""A line for ``/bin/sh``, or a program with its arguments."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a command gave back.

    :ivar rc: exit status; the negative number of a signal that ended it.
    :ivar out: standard output, bytes that are no UTF-8 replaced.
    :ivar err: standard error.
    :ivar seconds: how long it took in the host.
    """

    rc: int
    out: str
    err: str
    seconds: float


def argv(command: Command) -> list[str]:
    """Return the argument vector of a command."""
    return ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)


def one_line(command: Command) -> str:
    """Return a command for messages."""
    return command if isinstance(command, str) else " ".join(command)


class Process:
    """A command that runs in the background of a host.

    :ivar pid: its process id there, also the id of its process group.
    :ivar path: the file in the host that gets its output, standard error included.
    """

    def __init__(self, agent: AgentClient, log: HostLog, *, pid: int, path: str, read: Callable[[str], bytes]) -> None:
        self._agent = agent
        self._log = log
        self._read = read
        self.pid = pid
        self.path = path

    def wait(self, timeout: float = 60.0) -> int:
        """Return the exit status once it has ended.

        :param timeout: seconds.
        :raise Timeout: When it has not ended by then; it runs on.
        """
        rc = self._poll(timeout)
        if rc is None:
            raise Timeout(self._log.name, f"process {self.pid} still runs after {timeout} s: {self.output()[-500:]}")
        return rc

    def is_running(self) -> bool:
        """Tell whether it has not ended."""
        return self._poll(0) is None

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to it and to all it has started. A process that has ended is left alone."""
        self._agent.request("signal", pid=self.pid, number=int(number), timeout=30)

    def output(self) -> str:
        """Return what it has printed so far."""
        return self._read(self.path).decode(errors="replace")

    def wait_for_output(self, text: str, timeout: float = 30.0) -> str:
        """Return its output as soon as ``text`` is in it.

        :raise Timeout: When that does not happen in ``timeout`` seconds, or it ends without printing it.
        """
        end = time.monotonic() + timeout
        while True:
            ended = not self.is_running()
            output = self.output()
            if text in output:
                return output
            if ended or time.monotonic() > end:
                raise Timeout(self._log.name, f"{text!r} not printed by process {self.pid}: {output[-500:]}")
            time.sleep(0.02)

    def _poll(self, timeout: float) -> int | None:
        answer = self._agent.request("wait", pid=self.pid, limit=timeout, timeout=timeout + 30)
        rc: int | None = answer["rc"]
        return rc
