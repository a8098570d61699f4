# SPDX-License-Identifier: Apache-2.0
"""What a VM of QEMU is, and how its process is started."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

__all__ = [
    "Device",
    "DeviceOf",
    "Launch",
    "Launched",
    "Launcher",
    "QemuVm",
    "command_launcher",
    "vfio_device",
]

Device: TypeAlias = Mapping[str, object]
"""The arguments of ``device_add``; ``id`` and ``driver`` are always there."""

DeviceOf: TypeAlias = Callable[[str, int], Device]
"""Gives the device for a VF: PF, index."""

Launched: TypeAlias = Callable[[], str | None]
"""Asked while QEMU comes up: ``None`` while all is well, or why it never will."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be started.

    :ivar incoming: the VM waits for a migration and stays paused when it is complete (``-incoming defer -S``).
    :ivar devices: the VFs that it is given.
    """

    vm: str
    qmp: str
    incoming: bool
    devices: tuple[Device, ...]


Launcher: TypeAlias = Callable[[Launch], Launched]
"""Starts a QEMU that outlives vferry, without waiting for it."""


class QemuVm(msgspec.Struct, frozen=True, kw_only=True):
    """A VM as this host knows it.

    :ivar qmp: path of a QMP socket that is vferry's alone. Where nothing listens there, there is no VM: a socket in a
        directory that is cleaned up while VMs run would hide them.
    :ivar launch: starts it, as a destination or cold; ``None`` where it can only leave.
    :ivar vfs: the VFs (PF, index) of a cold start.
    """

    name: str
    qmp: str
    launch: Launcher | None = None
    vfs: tuple[tuple[str, int], ...] = ()


def vfio_device(pf: str, vf: int, *, sysfs: str = "/sys") -> Device:
    """Return the device of a VF that is passed through.

    :raise OSError: the PF has no such VF.
    """
    address = os.path.basename(os.readlink(f"{sysfs}/class/net/{pf}/device/virtfn{vf}"))
    return {"driver": "vfio-pci", "id": f"vferry-{pf}-{vf}", "host": address}


def command_launcher(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Launcher:
    """Return a launcher for a QEMU command line.

    What depends on the occasion is added: ``-incoming defer -S``, and ``-device`` for each VF. The command line holds
    the rest, ``-name`` and the QMP socket (``-qmp unix:PATH,server=on,wait=off``) too. ``-daemonize`` may be in it.

    :param environment: added to vferry's own.
    """
    fixed = tuple(command)

    def launch(wanted: Launch) -> Launched:
        return _spawn([*fixed, *_occasion(wanted)], {**os.environ, **(environment or {})})

    return launch


def _occasion(wanted: Launch) -> list[str]:
    incoming = ["-incoming", "defer", "-S"] if wanted.incoming else []
    return [*incoming, *(word for device in wanted.devices for word in ("-device", json.dumps(dict(device))))]


def _spawn(command: list[str], environment: Mapping[str, str]) -> Launched:
    """Start a process in a session of its own; ``subprocess`` would kill it, or complain, when vferry ends first."""
    with tempfile.TemporaryFile() as said:
        log = os.dup(said.fileno())
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, said.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, said.fileno(), 2),
        ]
        try:
            pid = os.posix_spawnp(command[0], command, environment, file_actions=actions, setsid=True)
        except OSError:
            os.close(log)
            raise
    return _Child(pid, log)


class _Child:
    """A process that was started, as long as it matters."""

    def __init__(self, pid: int, log: int) -> None:
        self._pid = pid
        self._log = log
        self._over: str | None = None

    def __call__(self) -> str | None:
        """Return why it has ended; ``None`` where it runs, or has ended well (``-daemonize``)."""
        if self._over is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid and status:
                said = os.pread(self._log, 4096, max(0, os.fstat(self._log).st_size - 4096))
                self._over = (
                    f"it ended with status {os.waitstatus_to_exitcode(status)}: {said.decode(errors='replace')}"
                )
            elif pid:
                self._over = ""
        return self._over or None

    def __del__(self) -> None:
        os.close(self._log)
