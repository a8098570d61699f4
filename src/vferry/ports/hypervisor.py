# SPDX-License-Identifier: Apache-2.0
"""The hypervisor of one host, as far as a migration needs it."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

from vferry.core.errors import FailedError

__all__ = [
    "Hypervisor",
    "HypervisorError",
    "NoAnswerError",
    "StreamFailedError",
    "VmAbsentError",
    "VmState",
]


class VmState(enum.Enum):
    """What a hypervisor says of a VM; the fourth witness of a recovery."""

    RUNNING = "running"
    PAUSED = "paused"
    """Complete in memory and not running: stopped for the switch-over, or arrived and held."""
    INCOMING = "incoming"
    """Waiting for, or receiving, a migration; not complete."""
    MIGRATED = "migrated"
    """Sent completely and stopped ("postmigrate"): it could still be resumed here."""
    ABSENT = "absent"


class HypervisorError(FailedError):
    """The hypervisor refused or failed."""


class NoAnswerError(HypervisorError):
    """The hypervisor did not answer in time: the command may have been carried out, or will be."""


class StreamFailedError(HypervisorError):
    """The migration's stream ended before its time."""


class VmAbsentError(HypervisorError):
    """The hypervisor has no such VM (any more)."""


class Hypervisor(Protocol):
    """Every act is idempotent: what is so already is no error.

    All may raise :class:`HypervisorError`; :class:`VmAbsentError` where the VM is not there.
    """

    async def state(self, vm: str) -> VmState:
        """Return what the VM is doing; never raises :class:`VmAbsentError`."""
        ...

    # As the source

    async def send(self, vm: str, uri: str) -> None:
        """Begin to copy the VM's memory to ``uri``; it will pause before the switch-over."""
        ...

    async def wait_stopped(self, vm: str) -> None:
        """Wait until the VM is stopped for the switch-over ("pre-switchover").

        :raise StreamFailedError: the copy failed; the VM runs on.
        """
        ...

    async def switch(self, vm: str) -> None:
        """Send the rest ("migrate-continue"); returns when the hypervisor has accepted the command."""
        ...

    async def cancel(self, vm: str) -> None:
        """End an outgoing migration; the VM stays as it is, running or stopped."""
        ...

    async def resume(self, vm: str) -> None:
        """Let a stopped VM run on; a migration that is under way or complete is given up first."""
        ...

    async def shut_down(self, vm: str) -> None:
        """Ask the guest to shut down, and wait until the VM is gone."""
        ...

    async def start(self, vm: str) -> None:
        """Start a defined VM anew (a cold migration)."""
        ...

    async def destroy(self, vm: str) -> None:
        """End the VM here at once: a source that has moved, or a destination that gave up."""
        ...

    async def unplug(self, vm: str, vfs: Sequence[tuple[str, int]]) -> None:
        """Take VFs (PF, index) from the running guest, and wait until it has let go of them."""
        ...

    async def plug(self, vm: str, vfs: Sequence[tuple[str, int]]) -> None:
        """Give VFs to the running guest."""
        ...

    # As the destination

    async def receive(self, vm: str, vfs: Sequence[tuple[str, int]]) -> str:
        """Make a VM that waits for a migration and stays paused when complete; return where to send it.

        :param vfs: the VFs that it is given; empty where they are plugged later.
        """
        ...

    async def wait_held(self, vm: str) -> None:
        """Wait until the VM is complete and held.

        :raise StreamFailedError: it never will be.
        """
        ...
