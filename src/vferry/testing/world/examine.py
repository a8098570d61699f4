# SPDX-License-Identifier: Apache-2.0
"""What must hold when everything is over: one owner, the VM with its network there, nothing left behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from vferry.core.compare import DifferenceKind, differences
from vferry.core.migration.phases import DestinationPhase, Phase, Role, SourcePhase
from vferry.core.migration.tables import FINAL_PHASES
from vferry.core.model import ZERO_MAC
from vferry.core.ownership import Stage
from vferry.ports.hypervisor import VmState

if TYPE_CHECKING:
    from vferry.testing.world.world import World

__all__ = ["JUSTIFIED", "Ending", "examine"]

JUSTIFIED: tuple[str, ...] = ("interrupted in phase 'start': the VM is not here any more",)
"""Words that a reason to block for must contain: it cannot be known whether the VM ran."""


class Ending(NamedTuple):
    """Where a migration ended."""

    kind: str
    """moved, kept, refused, lost with its host, on standby, blocked, or not begun."""
    why: str
    wrong: tuple[str, ...]
    """What does not hold."""


class _Sides(NamedTuple):
    source: Phase | None
    destination: Phase | None
    why: str


async def examine(world: World, migration: str, vm: str, source: str, destination: str) -> Ending:
    """Look at everything once a migration is over and the world is well."""
    sides = _sides(world, migration, source, destination)
    stuck = _stuck(world)
    if stuck or SourcePhase.BLOCKED is sides.source or DestinationPhase.BLOCKED is sides.destination:
        why = "; ".join([*stuck, sides.why])
        justified = any(words in why for words in JUSTIFIED)
        return Ending("blocked", why, () if justified else (f"blocked without a justified reason: {why}",))
    wrong = [*_one_end(sides), *_registry(world, vm), *_journals(world)]
    owner = world.owner(vm).owner
    other = destination if owner == source else source
    wrong += _vms(world, vm, owner, other)
    wrong += _settings(world, vm, owner, other, on_standby=sides.destination is DestinationPhase.ON_STANDBY)
    alive = vm in world.hosts[owner].hypervisor.instances
    if alive:
        wrong += [f"dead: {flow}" for flow in await world.traffic.dead_flows()]
    return Ending(_kind(sides, alive=alive), sides.why, tuple(wrong))


def _sides(world: World, migration: str, source: str, destination: str) -> _Sides:
    phases: list[Phase | None] = []
    words = []
    for host, role in ((source, Role.SOURCE), (destination, Role.DESTINATION)):
        phases.append(world.hosts[host].phases().get(f"{migration}/{role.value}"))
        entry = world.entry(host, migration, role)
        if entry is not None and entry.why:
            words.append(f"{role.value}: {entry.why}")
    return _Sides(phases[0], phases[1], "; ".join(words))


def _stuck(world: World) -> list[str]:
    return [
        f"{host.name}: {name} in {phase.value}: {host.contradictions.get(name, 'not over')}"
        for host in world.hosts.values()
        for name, phase in host.phases().items()
        if phase not in FINAL_PHASES
    ]


def _kind(sides: _Sides, *, alive: bool) -> str:
    if sides.source is None:
        return "not begun"
    if not alive:
        return "lost with its host"
    if sides.destination is DestinationPhase.ON_STANDBY:
        return "on standby"
    return {SourcePhase.RELEASED: "moved", SourcePhase.KEPT: "kept", SourcePhase.REFUSED: "refused"}[
        SourcePhase(sides.source.value)
    ]


def _one_end(sides: _Sides) -> list[str]:
    arrived = sides.destination in (DestinationPhase.ARRIVED, DestinationPhase.ON_STANDBY)
    if arrived != (sides.source is SourcePhase.RELEASED):
        return [f"the source ended in {sides.source}, the destination in {sides.destination}"]
    return []


def _registry(world: World, vm: str) -> list[str]:
    entry = world.owner(vm)
    settled = entry.stage is Stage.SETTLED
    wrong = [] if settled else [f"the registry says {entry.stage.value}"]
    expected = [tuple(place) for place in world.hosts[entry.owner].hypervisor.defined[vm].vfs]
    if settled and [(vf.pf, vf.vf) for vf in entry.vfs] != expected:
        wrong.append(f"the registry names {entry.vfs} on {entry.owner}, the VM is defined with {expected}")
    return wrong


def _journals(world: World) -> list[str]:
    return [
        f"{host.name} has an undo record of {key}" for host in world.hosts.values() for key in sorted(host.disk.undo)
    ]


def _vms(world: World, vm: str, owner: str, other: str) -> list[str]:
    wrong = []
    there = world.hosts[owner].hypervisor.instances.get(vm)
    if there is None and not world.hosts[owner].lost_vms:
        wrong.append(f"{owner} owns the VM, and it is not there")
    if there is not None and there.state is not VmState.RUNNING:
        wrong.append(f"{owner} owns the VM, and it is {there.state.value}")
    if vm in world.hosts[other].hypervisor.instances:
        wrong.append(f"the VM is also on {other}: {world.hosts[other].hypervisor.instances[vm].state.value}")
    return wrong


def _settings(world: World, vm: str, owner: str, other: str, *, on_standby: bool) -> list[str]:
    """The owner's VFs are set as they were before; nobody else has anything of the VM.

    On its standby, the VM has none of its VFs, and the PF forwards its addresses.
    """
    wrong = []
    if vm in world.hosts[owner].hypervisor.instances and not on_standby:
        wrong += _differing(world, vm, owner, world.hosts[owner].hypervisor.defined[vm].vfs)
    for empty in (owner, other) if on_standby else (other,):
        for pf, vf in world.hosts[empty].hypervisor.defined[vm].vfs:
            shown = world.admin(empty, pf, vf)
            if shown.mac not in (None, ZERO_MAC) or shown.vlans or shown.trust:
                wrong.append(f"{empty}:{pf}/{vf} is left with {shown}")
    for name, host in world.hosts.items():
        if not (on_standby and name == owner):
            wrong += [f"{name}:{pf} still forwards {host.device.nic.read_fdb(pf)}" for pf in _forwarding(world, name)]
    return wrong


def _differing(world: World, vm: str, owner: str, vfs: Sequence[tuple[str, int]]) -> list[str]:
    return [
        f"{owner}:{pf}/{vf} {difference.attribute.value} is {difference.shown}, was {difference.wanted}"
        for (pf, vf), settings in zip(vfs, world.settings[vm], strict=True)
        for difference in differences(settings, world.admin(owner, pf, vf))
        if difference.kind is DifferenceKind.DIFFERS
    ]


def _forwarding(world: World, host: str) -> list[str]:
    nic = world.hosts[host].device.nic
    return [pf.name for pf in nic.pfs() if nic.read_fdb(pf.name)]
