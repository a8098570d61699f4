# SPDX-License-Identifier: Apache-2.0
"""A simulated world, in which whole migrations run within milliseconds, and the same way for the same seed.

.. code-block:: python

    async def main() -> None:
        async with World(seed=1) as world:
            await world.add_vm("vm", "A", vfs={"A": [("eth0", 0)], "B": [("eth0", 2)]}, settings=[AdminState(mac=MAC)])
            world.migrate("m1", "vm", "A", "B", Mode.DEVICE_STATE)
            await world.wait_settled(seconds=60)

    run_deterministic(main, seed=1)

Two hosts with software 82599s on a learning switch, a hypervisor and an agent on each, a registry, a bad network
between them, real frames between the VM and its peers, and invariants that are looked at after every change.
:func:`simulate` runs one migration with a seed's faults; ``python -m vferry.testing.world`` runs many.
"""

from __future__ import annotations

from vferry.testing.world.clock import EPOCH, WorldClock
from vferry.testing.world.examine import JUSTIFIED, Ending, examine
from vferry.testing.world.faults import CALM, Fault, FaultPlan, carry_out, plan_faults
from vferry.testing.world.guest import Flow, Guest
from vferry.testing.world.host import SHORT, SimHost
from vferry.testing.world.hypervisor import SimHypervisor, Timing
from vferry.testing.world.network import ControlNetwork, SimChannel, Weather
from vferry.testing.world.process import Process
from vferry.testing.world.registry import RegistryWeather, WorldRegistry
from vferry.testing.world.resetting import ResettingNic
from vferry.testing.world.run import MODES, Outcome, run_deterministic, simulate
from vferry.testing.world.switch import EthernetSwitch
from vferry.testing.world.world import World, memory_device

__all__ = [
    "CALM",
    "EPOCH",
    "JUSTIFIED",
    "MODES",
    "SHORT",
    "ControlNetwork",
    "Ending",
    "EthernetSwitch",
    "Fault",
    "FaultPlan",
    "Flow",
    "Guest",
    "Outcome",
    "Process",
    "RegistryWeather",
    "ResettingNic",
    "SimChannel",
    "SimHost",
    "SimHypervisor",
    "Timing",
    "Weather",
    "World",
    "WorldClock",
    "WorldRegistry",
    "carry_out",
    "examine",
    "memory_device",
    "plan_faults",
    "run_deterministic",
    "simulate",
]
