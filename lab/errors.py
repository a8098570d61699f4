# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: N818 - the names say what happened
"""What can go wrong in the lab.

::

    LabError
     +-- LabUnavailable      this machine cannot have the lab, or it has not been built
     +-- BuildFailed         a step of the build failed
     +-- WireDied            the wire's process is gone
     +-- HostError           carries the host's name and the end of its console log
          +-- HostDied       the virtual machine is gone
          +-- CommandFailed  a command ended with a status other than 0
          +-- Timeout        an answer did not come in time
          +-- AgentError     the agent refused a request (no such file, no such process)
          +-- QmpError       QEMU refused a QMP command
"""

from __future__ import annotations


class LabError(Exception):
    """Root of all errors of the lab."""


class LabUnavailable(LabError):
    """The lab cannot be used here; the text says why and, where known, what to do."""


class BuildFailed(LabError):
    """A step of the build failed.

    :ivar step: the command or the step that failed.
    :ivar output: what it printed.
    """

    def __init__(self, step: str, output: str = "") -> None:
        super().__init__(f"{step}\n{output.strip()}" if output.strip() else step)
        self.step = step
        self.output = output


class WireDied(LabError):
    """The process that is the wire has ended or does not answer."""


class HostError(LabError):
    """Something about one virtual host.

    :ivar host: the host's name.
    :ivar console: the end of its console log, empty where it printed nothing.
    """

    def __init__(self, host: str, message: str, console: str = "") -> None:
        tail = f"\n--- console of {host} (end) ---\n{console.rstrip()}" if console.strip() else ""
        super().__init__(f"{host}: {message}{tail}")
        self.host = host
        self.console = console


class HostDied(HostError):
    """The virtual machine has ended: killed, crashed, or its kernel panicked."""


class Timeout(HostError):
    """No answer in time. The virtual machine may still be running."""


class AgentError(HostError):
    """The agent in the guest refused a request."""


class QmpError(HostError):
    """QEMU answered a QMP command with an error."""


class CommandFailed(HostError):
    """A command in the guest ended with a status other than 0.

    :ivar command: the command as given.
    :ivar rc: its exit status; negative is the number of the signal that ended it.
    :ivar out: its standard output.
    :ivar err: its standard error.
    """

    def __init__(self, host: str, *, command: str, rc: int, out: str, err: str, console: str = "") -> None:
        super().__init__(host, f"status {rc} from: {command}\n{out}{err}".rstrip(), console)
        self.command = command
        self.rc = rc
        self.out = out
        self.err = err
