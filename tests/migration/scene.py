# SPDX-License-Identifier: Apache-2.0
"""A world with one VM, ready to be moved."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from vferry.core.fence import Mode
from vferry.core.migration.phases import Role
from vferry.core.model import AdminState
from vferry.ports.hypervisor import VmState
from vferry.testing.world import Ending, World, examine, run_deterministic

T = TypeVar("T")

MAC = "52:54:00:00:00:01"
MODE_OF = {
    "carried": Mode.DEVICE_STATE,
    "rebuilt": Mode.DEVICE_STATE,
    "early": Mode.DEVICE_STATE,
    "failover": Mode.FAILOVER,
    "cold": Mode.COLD,
}
PLACES = {
    "one": {"A": [("eth0", 0)], "B": [("eth0", 2)]},
    "bond": {"A": [("eth0", 0), ("eth1", 1)], "B": [("eth0", 2), ("eth1", 3)]},
    "four": {"A": [("eth0", number) for number in range(4)], "B": [("eth0", 2 + number) for number in range(4)]},
}


def play(scenario: Callable[[], Awaitable[T]]) -> T:
    """Run a scenario deterministically."""
    return run_deterministic(scenario, 1)


@asynccontextmanager
async def stage(mode: str = "carried", shape: str = "one", *, trust: bool = False) -> AsyncIterator[World]:
    """Build a world for a mode, with a VM on A that has its traffic."""
    world = World(
        1,
        pfs=("eth0", "eth1") if shape == "bond" else ("eth0",),
        hypervisor_carries=mode == "early",
        resetting=("B",) if mode == "early" else (),
    )
    async with world:
        macs = [MAC if shape == "bond" else f"{MAC[:-2]}{1 + number:02x}" for number in range(len(PLACES[shape]["A"]))]
        settings = [AdminState(mac=mac, spoofchk=True, trust=trust) for mac in macs]
        await world.add_vm("vm", "A", vfs=PLACES[shape], settings=settings, standby=mode == "failover")
        await trio.sleep(12.0)  # a VF driver mends a lost session only ten seconds after its last reset
        assert await world.traffic.dead_flows() == []
        world.nursery.start_soon(world.traffic.run)
        yield world


def move(world: World, mode: str, name: str = "m", source: str = "A", destination: str = "B") -> None:
    """Begin a migration."""
    world.migrate(name, "vm", source, destination, MODE_OF[mode], carried=mode != "rebuilt")


async def end(world: World, name: str = "m", source: str = "A", destination: str = "B") -> Ending:
    """Wait until a migration is over, and look at everything."""
    await world.wait_settled(seconds=60.0)
    await trio.sleep(1.0)
    ending = await examine(world, name, "vm", source, destination)
    assert world.violations == [], world.log.text
    assert ending.wrong == (), f"{ending.wrong}\n{world.log.text}"
    return ending


async def until(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait for something to be so."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 -- any condition
            await trio.sleep(0.001)


def phase(world: World, host: str, name: str = "m") -> str:
    """Return the phase of one side, or nothing."""
    role = Role.SOURCE if host == "A" else Role.DESTINATION
    entry = world.entry(host, name, role)
    return "" if entry is None else entry.phase


def states(world: World) -> tuple[str, str]:
    """Return what the VM does on A and on B."""
    found = [world.hosts[host].hypervisor.instances.get("vm") for host in "AB"]
    words = [VmState.ABSENT.value if one is None else one.state.value for one in found]
    return words[0], words[1]


def path(world: World, host: str) -> list[str]:
    """Return the phases that one side went through."""
    role = Role.SOURCE if host == "A" else Role.DESTINATION
    entry = world.entry(host, "m", role)
    assert entry is not None
    return [line.partition(" at ")[0] for line in entry.history]
