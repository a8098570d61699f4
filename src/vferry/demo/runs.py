# SPDX-License-Identifier: Apache-2.0
"""The three ways to move the VM: two honest scripts over the same NICs, hypervisors and switch, and vferry.

Neither script is made worse than what it stands for: nothing is dropped or delayed on purpose, but for the clean-up of
the source, which comes when somebody gets to it; how much is lost on A is decided by that, so the report says it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from vferry.core.fence import Mode
from vferry.core.frames import rarp
from vferry.core.model import ZERO_MAC, AdminState, Rate
from vferry.demo.scene import PF, VFS, VM, Scene
from vferry.testing.world.ixgbe_device import IxgbeGuestDriver

__all__ = ["WAYS", "Way", "move_by_vferry"]

CLEAN_UP = 0.15
"""Seconds after the VM runs on B until somebody cleans the source; assumed, there is no figure to be had for it."""
_LATER = f"{1000 * CLEAN_UP:.0f} ms later"

_CLEAN = AdminState(mac=ZERO_MAC, vlans=(), rate=Rate(min_tx=0, max_tx=0), spoofchk=True, rss_query=False)


async def copy_state(scene: Scene, mode: Mode) -> None:
    """Copy the PF driver's table of the VFs, and fence nothing: the 2015 patches without "the read switches off".

    The destination's table is overwritten and no register touched; the guest's driver is told and resets its VF, as
    those patches have it do. The source is cleaned when the VM's process ends, which is late.
    """
    assert mode is Mode.DEVICE_STATE  # noqa: S101 -- there is no state to copy in the others
    source, target = scene.hypervisor("A"), scene.hypervisor("B")
    await source.send(VM, await target.receive(VM, VFS["B"]))
    await source.wait_stopped(VM)
    tables = [scene.software("A").driver.vfinfo[vf].copy() for _, vf in VFS["A"]]
    await source.switch(VM)
    await target.wait_held(VM)
    scene.accountant.arrived = "B"
    for (_, vf), table in zip(VFS["B"], tables, strict=True):
        scene.software("B").driver.vfinfo[vf] = table
    scene.mark("copy", "B")
    await target.resume(VM)
    _tell_guest(scene)
    await scene.sleep(CLEAN_UP)
    await source.destroy(VM)
    scene.mark("release", "A")


def _tell_guest(scene: Scene) -> None:
    """Let the guest's VF drivers know that they were moved: they reset their VFs."""
    for interface in scene.guest.interfaces:
        assert isinstance(interface.driver, IxgbeGuestDriver)  # noqa: S101 -- every VF of the world has one
        interface.driver.driver.reset_requested = True
        interface.driver.driver.service_wanted = True
        interface.driver.interrupted(0)
    scene.mark("reset", "B")


async def program_early(scene: Scene, mode: Mode) -> None:
    """Program MAC and VLAN on the destination before the VM comes, clean the source after it left: today's stacks."""
    await {Mode.DEVICE_STATE: _early_with_state, Mode.FAILOVER: _early_failover, Mode.COLD: _early_cold}[mode](scene)
    await scene.sleep(CLEAN_UP)
    await scene.hypervisor("A").destroy(VM)
    scene.host("A").device.nic.remove_fdb(PF, str(scene.settings[0].mac))
    scene.host("A").device.nic.program(PF, dict.fromkeys((vf for _, vf in VFS["A"]), _CLEAN))
    scene.mark("release", "A")


async def _early_with_state(scene: Scene) -> None:
    source, target = scene.hypervisor("A"), scene.hypervisor("B")
    old, new = scene.host("A").device.carrier, scene.host("B").device.carrier
    uri = await target.receive(VM, VFS["B"])  # resets the VFs, so that what was programmed before would be gone
    _program_destination(scene, trust=True)  # without it this PF refuses the session, and the VM could not come at all
    await source.send(VM, uri)
    await source.wait_stopped(VM)
    for place in VFS["A"]:
        old.stop(*place)
    states = [old.save(*place, session=True) for place in VFS["A"]]
    await source.switch(VM)
    await target.wait_held(VM)
    scene.accountant.arrived = "B"
    for place, state in zip(VFS["B"], states, strict=True):
        new.load(*place, state)
        new.start(*place)
    scene.mark("activate", "B")
    await target.resume(VM)
    _announce(scene)


async def _early_failover(scene: Scene) -> None:
    source, target = scene.hypervisor("A"), scene.hypervisor("B")
    old, new = scene.host("A").device.nic, scene.host("B").device.nic
    mac = str(scene.settings[0].mac)
    _program_destination(scene)
    await source.unplug(VM, VFS["A"])
    scene.mark("unplug", "A")
    old.add_fdb(PF, mac)
    await source.send(VM, await target.receive(VM, ()))
    await source.wait_stopped(VM)
    await source.switch(VM)
    await target.wait_held(VM)
    scene.accountant.arrived = "B"
    new.add_fdb(PF, mac)
    await target.resume(VM)
    _announce(scene)
    new.remove_fdb(PF, mac)
    await target.plug(VM, VFS["B"])
    scene.mark("plug", "B")


async def _early_cold(scene: Scene) -> None:
    _program_destination(scene)
    await scene.hypervisor("A").shut_down(VM)
    scene.accountant.arrived = "B"
    await scene.hypervisor("B").start(VM)
    _announce(scene)


def _program_destination(scene: Scene, *, trust: bool = False) -> None:
    """Give the destination's VFs what today's stacks carry: MAC and VLAN; and trust, where asked for."""
    changes = {
        vf: AdminState(mac=settings.mac, vlans=settings.vlans, trust=settings.trust if trust else None)
        for (_, vf), settings in zip(VFS["B"], scene.settings, strict=True)
    }
    scene.host("B").device.nic.program(PF, changes)
    scene.mark("program", "B")


def _announce(scene: Scene) -> None:
    for settings in scene.settings:
        scene.port("B").host_transmit(rarp(str(settings.mac)))


async def move_by_vferry(scene: Scene, mode: Mode) -> None:
    """Let the coordinators of :mod:`vferry.migration` move it."""
    scene.world.migrate("demo", VM, "A", "B", mode)
    await scene.world.wait_settled(seconds=30.0)


class Way(NamedTuple):
    """One way to move the VM."""

    move: Callable[[Scene, Mode], Awaitable[None]]
    what: str
    clean_up: float | None = None
    """Seconds after the VM runs on B until A is cleaned; None: it is part of the move."""


WAYS: dict[str, Way] = {
    "copied": Way(copy_state, f"the PF driver's table is copied to B; nothing is fenced, A cleaned {_LATER}", CLEAN_UP),
    "early": Way(program_early, f"B has MAC and VLAN before the VM comes; A keeps them, A cleaned {_LATER}", CLEAN_UP),
    "vferry": Way(move_by_vferry, "A is fenced before B owns the VM; B is programmed and read back before it runs"),
}
