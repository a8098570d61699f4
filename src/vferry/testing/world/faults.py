# SPDX-License-Identifier: Apache-2.0
"""A seeded plan of what goes wrong during a migration, and who carries it out."""

from __future__ import annotations

import errno
import random
from typing import TYPE_CHECKING, NamedTuple

import trio

from vferry.testing.fault_nic import FaultNic
from vferry.testing.faults import ErrnoFault
from vferry.testing.world.network import Weather
from vferry.testing.world.registry import RegistryWeather

if TYPE_CHECKING:
    from vferry.testing.world.host import NicWrapper, SimHost
    from vferry.testing.world.world import World

__all__ = ["CALM", "Fault", "FaultPlan", "carry_out", "plan_faults"]

KINDS = (
    *("kill", "kill", "kill at a step", "kill at a step", "kill at a step"),
    *(
        "host crash",
        "host crash at a step",
        "stream dies",
        "stream dies",
        "stream ends untold",
        "registry away",
        "registry away",
    ),
    *("partition", "cancel", "vm ends"),
)
"""What may happen; what stands here more often happens more often."""


class Fault(NamedTuple):
    """One thing that goes wrong."""

    at: float
    """Seconds after the migration's begin."""
    kind: str
    host: str
    seconds: float
    """How long it lasts, or until what died is started again."""
    step: int
    """For an agent that dies at a step of its first life after ``at``."""


class FaultPlan(NamedTuple):
    """Everything that goes wrong in one run."""

    faults: tuple[Fault, ...]
    weather: Weather
    registry: RegistryWeather
    hypervisor: float
    """Share of the hypervisors' commands that fail."""
    busy_nic: bool

    @property
    def end(self) -> float:
        """Seconds after the begin when everything is well again."""
        return max((fault.at + fault.seconds for fault in self.faults), default=0.0) + 0.2


CALM = FaultPlan((), Weather(), RegistryWeather(), 0.0, busy_nic=False)
"""Nothing goes wrong."""


def plan_faults(seed: object, hosts: tuple[str, ...] = ("A", "B"), *, most: int = 4) -> FaultPlan:
    """Return the plan that belongs to a seed; every fourth seed has nothing but bad weather."""
    chance = random.Random(f"{seed}/faults")  # noqa: S311 -- a simulation
    count = chance.choice([0, *range(1, most + 1)])
    faults = [
        Fault(
            at=round(chance.uniform(0.0, 1.2), 4),
            kind=chance.choice(KINDS),
            host=chance.choice(hosts),
            seconds=round(chance.uniform(0.05, 4.0), 4),
            step=chance.randint(1, 90),
        )
        for _ in range(count)
    ]
    bad = chance.random() < 0.5
    return FaultPlan(
        faults=tuple(sorted(faults)),
        weather=Weather(
            loss=chance.uniform(0, 0.5) if bad else 0.0,
            double=chance.uniform(0, 0.4) if bad else 0.0,
            jitter=chance.choice([0.0, 0.05, 0.5]) if bad else 0.0,
        ),
        registry=RegistryWeather(
            away=chance.choice([0.0, 0.1, 0.3]) if bad else 0.0, unclear=chance.choice([0.0, 0.2, 0.6]) if bad else 0.0
        ),
        hypervisor=chance.choice([0.0, 0.0, 0.0, 0.05]),
        busy_nic=chance.random() < 0.2,
    )


async def carry_out(plan: FaultPlan, world: World, migration: str, vm: str) -> None:
    """Let everything of a plan happen, then make everything well again: agents run, networks work."""
    _begin(plan, world)
    async with trio.open_nursery() as nursery:
        for fault in plan.faults:
            nursery.start_soon(_strike, fault, world, migration, vm)
    await _all_well(world)


def _begin(plan: FaultPlan, world: World) -> None:
    world.network.weather = plan.weather
    for host in world.hosts.values():
        host.registry.weather = plan.registry
        host.hypervisor.faults = plan.hypervisor
        if plan.busy_nic:
            host.wrap_nic = _busy(host.wrap_nic)


def _busy(wrap: NicWrapper) -> NicWrapper:
    """Return what makes a NIC's driver answer EBUSY to a few requests."""
    faults = [ErrnoFault(at_call=at, times=2, number=errno.EBUSY) for at in (1, 12, 25)]
    return lambda nic, process: FaultNic(wrap(nic, process), faults, clock=process.clock)


async def _strike(fault: Fault, world: World, migration: str, vm: str) -> None:
    host = world.hosts[fault.host]
    if fault.kind in ("kill at a step", "host crash at a step"):
        await _kill_at_step(fault, host)
        return
    await trio.sleep(fault.at)
    world.log.add(fault.host, f"fault: {fault.kind} for {fault.seconds} s")
    if fault.kind == "kill":
        host.kill()
        await trio.sleep(fault.seconds)
        await _revive(host)
    elif fault.kind == "host crash":
        host.crash()
        await trio.sleep(fault.seconds)
        await _revive(host)
    elif fault.kind == "registry away":
        host.registry.down = True
        await trio.sleep(fault.seconds)
        host.registry.down = False
    elif fault.kind == "partition":
        world.network.down.add(fault.host)
        await trio.sleep(fault.seconds)
        world.network.down.discard(fault.host)
    elif fault.kind == "cancel":
        coordinator = host.coordinators.get(migration)
        if coordinator is not None:
            coordinator.cancel()
    else:
        _strike_vm(fault.kind, host, vm)


def _strike_vm(kind: str, host: SimHost, vm: str) -> None:
    instance = host.hypervisor.instances.get(vm)
    if instance is None:
        return
    if kind == "vm ends":
        host.lost_vms.add(vm)
        host.hypervisor.end(instance)
    elif instance.stream is not None:
        if kind == "stream dies":
            instance.stream.die("the connection is reset")
        else:
            instance.stream.silent_end = True


async def _kill_at_step(fault: Fault, host: SimHost) -> None:
    """Let the agent die at a step, counted from the migration's begin."""
    process = host.process
    if process is None or process.crashed:
        return
    process.die_at(process.count + fault.step)
    with trio.move_on_after(5.0):
        await process.dead.wait()
        if fault.kind == "host crash at a step":
            host.crash()
        await trio.sleep(fault.seconds)
    await _revive(host)


async def _revive(host: SimHost) -> None:
    if not host.alive:
        await host.start()


async def _all_well(world: World) -> None:
    world.network.weather = Weather()
    world.network.down.clear()
    for host in world.hosts.values():
        host.registry.weather = RegistryWeather()
        host.registry.down = False
        host.hypervisor.faults = 0.0
        if host.process is not None:
            host.process.die_at(None)
        host.well()
        await _revive(host)
    world.log.add("world", "everything is well again")
