# SPDX-License-Identifier: Apache-2.0
"""How far the entry of a migration journal has come."""

from __future__ import annotations

from vferry.core.migration.phases import DestinationPhase, Phase, Role, SourcePhase
from vferry.core.migration.tables import FINAL_PHASES
from vferry.ports.migrations import MigrationEntry

__all__ = ["is_blocked", "is_over", "phase_of"]


def phase_of(entry: MigrationEntry) -> Phase:
    """Return the phase that an entry names."""
    return SourcePhase(entry.phase) if entry.role is Role.SOURCE else DestinationPhase(entry.phase)


def is_over(entry: MigrationEntry) -> bool:
    """Whether nothing more is done for an entry by itself."""
    return phase_of(entry) in FINAL_PHASES


def is_blocked(entry: MigrationEntry) -> bool:
    """Whether a person has to decide: the VM and its VFs here are not free meanwhile."""
    return phase_of(entry) in (SourcePhase.BLOCKED, DestinationPhase.BLOCKED)
