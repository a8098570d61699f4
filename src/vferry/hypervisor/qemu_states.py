# SPDX-License-Identifier: Apache-2.0
"""QEMU's words for what a VM and its migration do (QAPI ``run-state.json``, ``migration.json``), and what they mean."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from vferry.ports.hypervisor import VmState

__all__ = [
    "REFUSED_CAPABILITIES",
    "VM_STATES",
    "Capability",
    "Migration",
    "Ram",
    "Stage",
    "VmStatus",
    "refused_capabilities",
    "stage_of",
    "vm_state",
]

VM_STATES: Mapping[str, VmState] = MappingProxyType(
    {
        "running": VmState.RUNNING,
        # The guest sleeps (S3); anything may wake it, and its devices work.
        "suspended": VmState.RUNNING,
        "colo": VmState.RUNNING,
        "inmigrate": VmState.INCOMING,
        "postmigrate": VmState.MIGRATED,
        **dict.fromkeys(
            (
                *("paused", "prelaunch", "finish-migrate", "debug", "save-vm", "restore-vm"),
                *("internal-error", "io-error", "watchdog", "guest-panicked", "shutdown"),
            ),
            VmState.PAUSED,
        ),
    }
)
"""QEMU's ``RunState`` to the port's. All of QEMU 11.1; what a later QEMU adds is unknown, and an error."""

REFUSED_CAPABILITIES: Mapping[str, str] = MappingProxyType(
    {
        "postcopy-ram": "the VM would run on the destination before its memory is complete",
        "postcopy-preempt": "it is a part of post-copy",
        "background-snapshot": "the VM would run on after its state was taken",
        "x-colo": "the VM would run on both hosts",
    }
)
"""Migration capabilities that break "one VM, complete and held, before the commit", and how."""


class Stage(enum.Enum):
    """How far a migration is."""

    NONE = "none"
    COPYING = "copying"
    """Memory is copied; the source's VM runs as it did."""
    STOPPED = "stopped"
    """The source's VM is stopped, and QEMU waits for ``migrate-continue``."""
    SWITCHING = "switching"
    """The rest is sent."""
    ENDING = "ending"
    """Failed or cancelled; QEMU is still about to say so."""
    COMPLETED = "completed"
    FAILED = "failed"
    """Failed or cancelled, and over."""


_STAGES: Mapping[str, Stage] = MappingProxyType(
    {
        "none": Stage.NONE,
        "setup": Stage.COPYING,
        "wait-unplug": Stage.COPYING,
        "active": Stage.COPYING,
        "pre-switchover": Stage.STOPPED,
        "device": Stage.SWITCHING,
        "cancelling": Stage.ENDING,
        "failing": Stage.ENDING,
        "cancelled": Stage.FAILED,
        "failed": Stage.FAILED,
        "completed": Stage.COMPLETED,
    }
)


class VmStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``query-status``, as far as it matters."""

    status: str


class Ram(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """Progress of the memory's copy.

    :ivar transferred: bytes sent.
    :ivar remaining: bytes known to be left.
    :ivar total: bytes of the VM's memory.
    :ivar dirty_sync_count: how often QEMU has looked for pages written meanwhile.
    :ivar mbps: throughput, in million bits a second.
    """

    transferred: int
    remaining: int
    total: int
    dirty_sync_count: int = 0
    mbps: float = 0.0


class Migration(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The answer to ``query-migrate``, as far as it matters.

    :ivar error_desc: why it failed.
    :ivar blocked_reasons: why QEMU would refuse to begin.
    :ivar expected_downtime: milliseconds.
    :ivar socket_address: where an incoming migration listens.
    """

    status: str = "none"
    error_desc: str | None = None
    blocked_reasons: tuple[str, ...] = ()
    expected_downtime: int | None = None
    ram: Ram | None = None
    socket_address: tuple[dict[str, object], ...] = ()


class Capability(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of ``query-migrate-capabilities``."""

    capability: str
    state: bool


def vm_state(status: str) -> VmState | None:
    """Return what a ``RunState`` means; ``None`` where it is not known."""
    return VM_STATES.get(status)


def stage_of(status: str) -> Stage | None:
    """Return what a ``MigrationStatus`` means; ``None`` for post-copy, COLO and what is not known."""
    return _STAGES.get(status)


def refused_capabilities(capabilities: Iterable[Capability]) -> list[str]:
    """Return the capabilities that are on and must not be, in QEMU's order."""
    return [found.capability for found in capabilities if found.state and found.capability in REFUSED_CAPABILITIES]
