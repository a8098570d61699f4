# SPDX-License-Identifier: Apache-2.0
"""The ports of one host, and how patient a migration is."""

from __future__ import annotations

from typing import NamedTuple

from vferry.core.capability import CapabilityTable
from vferry.core.policy import Policy
from vferry.ports.announcer import Announcer
from vferry.ports.carrier import Carrier
from vferry.ports.hypervisor import Hypervisor
from vferry.ports.migrations import MigrationJournal
from vferry.ports.registry import Registry
from vferry.verbs.context import Context

__all__ = ["Deadlines", "MigrationHost"]


class Deadlines(NamedTuple):
    """How long a phase waits for what must come from outside; seconds."""

    offer: float = 30.0
    """For the destination's answer."""
    guest: float = 120.0
    """For the guest to shut down, or to let go of its VFs."""
    copy: float = 3600.0
    """For the memory, until the VM is stopped."""
    handover: float = 5.0
    """For the destination to be ready, with the VM stopped."""
    arrival: float = 30.0
    """For the VM to be decided, with the VM stopped."""
    incoming: float = 3700.0
    """At the destination, for the final record."""
    held: float = 60.0
    """At the destination, for the VM to be complete."""
    stubborn: float = 30.0
    """For a hypervisor that does not answer or a NIC that refuses, where there is no other way on."""
    resend: float = 0.2
    """Between two sendings of a message that was not answered."""
    poll: float = 0.05
    """Between two looks at the registry, with the VM stopped."""
    look: float = 1.0
    """Between two looks at the registry where a message is awaited."""
    retry: float = 0.05
    """Before an act that must succeed is tried again; doubled up to a second."""


class MigrationHost(NamedTuple):
    """Everything that one side of a migration works with."""

    name: str
    """The host's name in the registry."""
    context: Context
    """NIC, undo journal, clock."""
    hypervisor: Hypervisor
    registry: Registry
    migrations: MigrationJournal
    policy: Policy
    announcer: Announcer | None = None
    carrier: Carrier | None = None
    """None: the hypervisor carries the VFs' own state, or nobody does."""
    tables: tuple[CapabilityTable, ...] = ()
    deadlines: Deadlines = Deadlines()
