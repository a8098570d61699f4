# SPDX-License-Identifier: Apache-2.0
"""Migrations in which nothing goes wrong, in every mode and for VMs of every shape."""

from __future__ import annotations

import pytest
import trio

from tests.migration.scene import PLACES, end, move, path, phase, play, stage, states, until
from vferry.core.migration.phases import Role
from vferry.core.migration.tables import Order
from vferry.testing.world import MODES
from vferry.testing.world.ixgbe_device import IxgbeGuestDriver

SOURCE_PATH = {
    "carried": ["offer", "pre-copy", "fence", "handover", "switch", "await", "release", "released"],
    "failover": ["offer", "unplug", "fence", "standby", "pre-copy", "leave", "handover", "switch", "await"],
    "cold": ["offer", "shutdown", "fence", "handover", "await", "release", "released"],
}
SOURCE_PATH["rebuilt"] = SOURCE_PATH["early"] = SOURCE_PATH["carried"]
SOURCE_PATH["failover"] += ["release", "released"]
DESTINATION_PATH = ["stage", "incoming", "prepare", "ready", "commit", "activate", "start", "finish"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", PLACES)
def test_a_vm_moves_with_all_its_vfs(mode: str, shape: str) -> None:
    async def scenario() -> None:
        async with stage(mode, shape) as world:
            move(world, mode)
            assert (await end(world)).kind == "moved"
            assert states(world) == ("absent", "running")
            assert path(world, "A") == SOURCE_PATH[mode]
            last = ["plug", "arrived"] if mode == "failover" else ["arrived"]
            assert path(world, "B") == DESTINATION_PATH + last
            if shape != "bond":  # what is flooded reaches both VFs of a bond
                assert world.doubled == 0

    play(scenario)


@pytest.mark.parametrize("mode", MODES)
def test_a_trusted_vf_moves_and_stays_trusted(mode: str) -> None:
    async def scenario() -> None:
        async with stage(mode, trust=True) as world:
            move(world, mode)
            assert (await end(world)).kind == "moved"
            assert world.admin("B", "eth0", 2).trust is True

    play(scenario)


def test_a_nic_that_resets_vfs_is_programmed_early() -> None:
    async def scenario() -> None:
        async with stage("early") as world:
            move(world, "early")
            await until(lambda: phase(world, "B") == "ready")
            assert world.watch.receiving("B", ["52:54:00:00:00:01"]) == ["eth0:vf2 for 52:54:00:00:00:01"]
            assert world.watch.receiving("A", ["52:54:00:00:00:01"]) == []
            await end(world)
            entry = world.entry("A", "m", Role.SOURCE)
            assert entry is not None
            assert entry.order is Order.DEVICE_STATE_EARLY

    play(scenario)


def test_elsewhere_the_mac_waits_for_the_commit() -> None:
    async def scenario() -> None:
        async with stage() as world:
            move(world, "carried")
            await until(lambda: phase(world, "B") == "commit")
            assert world.watch.receiving("B", ["52:54:00:00:00:01"]) == []
            await end(world)

    play(scenario)


@pytest.mark.parametrize("mode", ["carried", "failover", "cold"])
def test_there_and_back_again(mode: str) -> None:
    async def scenario() -> None:
        async with stage(mode) as world:
            move(world, mode, "m1", "A", "B")
            assert (await end(world, "m1", "A", "B")).kind == "moved"
            await trio.sleep(11.0)
            move(world, mode, "m2", "B", "A")
            assert (await end(world, "m2", "B", "A")).kind == "moved"
            assert states(world) == ("running", "absent")
            assert world.owner("vm").generation == 2

    play(scenario)


def test_a_standby_carries_on_while_the_memory_is_copied() -> None:
    """Failover: frames go through the standby on A during the copy, and through the VF again at the end."""

    async def scenario() -> None:
        async with stage("failover") as world:
            move(world, "failover")
            await until(lambda: phase(world, "A") == "pre-copy")
            await trio.sleep(0.01)
            assert world.hosts["A"].hypervisor.instances["vm"].vfs == [None]
            assert world.watch.receiving("A", ["52:54:00:00:00:01"]) == ["eth0:pf for 52:54:00:00:00:01"]
            assert await world.traffic.dead_flows(rounds=2) == []
            await end(world)
            assert world.hosts["B"].hypervisor.instances["vm"].vfs == [("eth0", 2)]

    play(scenario)


def test_a_session_is_carried_or_rebuilt() -> None:
    """Carried, the guest's driver notices nothing; rebuilt, it resets its VF once more."""

    def resets(mode: str) -> int:
        async def scenario() -> int:
            async with stage(mode) as world:
                move(world, mode)
                await end(world)
                driver = world.guests["vm"].interfaces[0].driver
                assert isinstance(driver, IxgbeGuestDriver)
                return driver.driver.resets

        return play(scenario)

    assert (resets("carried"), resets("rebuilt")) == (1, 2)
