# SPDX-License-Identifier: Apache-2.0
"""Simulated hosts, clocks, journals and faults, for vferry's tests and for yours.

``vferry.testing.nic_contract`` (which needs pytest) and ``vferry.testing.strategies`` (which needs hypothesis) are
imported by name: vferry itself needs neither.
"""

from __future__ import annotations

from vferry.testing.behaviour import (
    IGB_LIKE,
    LOSSY,
    NETDEVSIM_LIKE,
    PRESETS,
    RESETTING,
    VIRTIO_LIKE,
    Behaviour,
)
from vferry.testing.clock import SimClock
from vferry.testing.crash import Crash, CrashingJournal, CrashingNic, CrashPoints, each_crash
from vferry.testing.fault_nic import FaultNic
from vferry.testing.faults import (
    ErrnoFault,
    Fault,
    HiddenFault,
    IgnoredFault,
    LossyProtocolFault,
    ReloadFault,
    ResetFault,
    ShortReadingFault,
    SlowFault,
    VanishFault,
    seeded_faults,
)
from vferry.testing.memory_journal import MemoryJournal
from vferry.testing.memory_migrations import MemoryDisk, MemoryMigrationJournal
from vferry.testing.memory_nic import MemoryNic
from vferry.testing.memory_registry import Failure, MemoryRegistry
from vferry.testing.memory_state import MemoryPf, NicCall

__all__ = [
    "IGB_LIKE",
    "LOSSY",
    "NETDEVSIM_LIKE",
    "PRESETS",
    "RESETTING",
    "VIRTIO_LIKE",
    "Behaviour",
    "Crash",
    "CrashPoints",
    "CrashingJournal",
    "CrashingNic",
    "ErrnoFault",
    "Failure",
    "Fault",
    "FaultNic",
    "HiddenFault",
    "IgnoredFault",
    "LossyProtocolFault",
    "MemoryDisk",
    "MemoryJournal",
    "MemoryMigrationJournal",
    "MemoryNic",
    "MemoryPf",
    "MemoryRegistry",
    "NicCall",
    "ReloadFault",
    "ResetFault",
    "ShortReadingFault",
    "SimClock",
    "SlowFault",
    "VanishFault",
    "each_crash",
    "seeded_faults",
]
