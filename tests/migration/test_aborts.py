# SPDX-License-Identifier: Apache-2.0
"""Migrations that are called off, or whose stream dies: the VM is where it was, with its network."""

from __future__ import annotations

import errno

import pytest
import trio

from tests.migration.scene import end, move, phase, play, stage, states, until
from vferry.core.migration.phases import Role, SourcePhase
from vferry.core.model import Attribute
from vferry.testing.fault_nic import FaultNic
from vferry.testing.faults import ErrnoFault
from vferry.testing.memory_registry import Failure

CANCELLED = [
    *[(mode, phase) for mode in ("carried", "rebuilt", "early") for phase in ("offer", "pre-copy", "handover")],
    *[("failover", phase) for phase in ("offer", "pre-copy", "handover", "await")],
    *[("cold", phase) for phase in ("offer", "handover")],
    *[(mode, "await") for mode in ("carried", "early")],
]


@pytest.mark.parametrize(("mode", "where"), CANCELLED)
def test_the_operator_calls_it_off(mode: str, where: str) -> None:
    async def scenario() -> None:
        async with stage(mode) as world:
            if where == "handover":
                world.network.down.add("B")  # so that the phase lasts
            move(world, mode)
            if where == "handover":
                world.network.down.clear()
                await until(lambda: phase(world, "A") in ("pre-copy", "shutdown"))
                world.network.down.add("B")
            await until(lambda: phase(world, "A") == where)
            world.hosts["A"].coordinators["m"].cancel()
            await trio.sleep(0.2)
            world.network.down.clear()
            assert (await end(world)).kind == "kept"
            assert states(world) == ("running", "absent")

    play(scenario)


@pytest.mark.parametrize("mode", ["carried", "rebuilt", "early", "failover"])
@pytest.mark.parametrize("when", ["pre-copy", "handover", "await"])
def test_the_stream_dies(mode: str, when: str) -> None:
    """Also after migrate-continue: the VM ends on A, with its network."""

    async def scenario() -> None:
        async with stage(mode) as world:
            move(world, mode)
            await until(lambda: phase(world, "A") == when)
            stream = world.hosts["A"].hypervisor.instances["vm"].stream
            await trio.sleep(0.001)
            stream = world.hosts["A"].hypervisor.instances["vm"].stream
            assert stream is not None
            stream.die("the connection is reset")
            assert (await end(world)).kind == "kept"
            assert states(world) == ("running", "absent")

    play(scenario)


def test_the_source_is_never_told_that_everything_arrived() -> None:
    async def scenario() -> None:
        async with stage() as world:
            move(world, "carried")
            await until(lambda: phase(world, "A") == "await")
            stream = world.hosts["A"].hypervisor.instances["vm"].stream
            assert stream is not None
            stream.silent_end = True
            assert (await end(world)).kind == "moved"

    play(scenario)


@pytest.mark.parametrize("shape", ["bond", "four"])
@pytest.mark.parametrize("mode", ["carried", "cold", "failover"])
def test_vfs_move_together_or_not_at_all(mode: str, shape: str) -> None:
    """The last VF's MAC is refused on B, after the commit: all go back."""
    last = {"bond": ("eth1", 3), "four": ("eth0", 5)}[shape]

    async def scenario() -> None:
        async with stage(mode, shape) as world:
            fault = ErrnoFault(pf=last[0], vf=last[1], attribute=Attribute.MAC, number=errno.EINVAL, times=None)
            world.hosts["B"].wrap_nic = lambda nic, process: FaultNic(nic, [fault], clock=process.clock)
            move(world, mode)
            ending = await end(world)
            if mode == "failover":  # it runs there by then, and stays on its standby
                assert (ending.kind, states(world)) == ("on standby", ("absent", "running"))
                assert world.hosts["B"].hypervisor.instances["vm"].vfs == [None] * len(world.guests["vm"].interfaces)
            else:
                assert (ending.kind, states(world)) == ("kept", ("running", "absent"))

    play(scenario)


def test_a_vf_that_cannot_be_fenced_keeps_the_vm() -> None:
    """B resets a VF at every MAC: a VM that came there cannot leave in device-state mode."""

    async def scenario() -> None:
        async with stage("early") as world:
            move(world, "early")
            await end(world)
            await trio.sleep(11.0)
            move(world, "early", "back", "B", "A")
            assert (await end(world, "back", "B", "A")).kind == "kept"
            assert states(world) == ("absent", "running")
            entry = world.entry("B", "back", Role.SOURCE)
            assert entry is not None
            assert "plan a fence" in entry.why

    play(scenario)


def test_nobody_answers_the_offer() -> None:
    async def scenario() -> None:
        async with stage() as world:
            world.hosts["B"].kill()
            move(world, "carried")
            assert (await end(world)).kind == "kept"

    play(scenario)


def test_a_second_migration_of_the_vm_is_refused() -> None:
    async def scenario() -> None:
        async with stage() as world:
            move(world, "carried", "m")
            await until(lambda: phase(world, "A") == "pre-copy")
            move(world, "carried", "other")
            await until(lambda: phase(world, "A", "other") == SourcePhase.REFUSED.value)
            assert (await end(world)).kind == "moved"

    play(scenario)


def test_a_late_request_to_open_finds_a_stale_token() -> None:
    """The migration is called off by then; it must not be left open, with nobody to end it."""

    async def scenario() -> None:
        async with stage() as world:
            registry = world.hosts["A"].registry
            registry.fail_next(Failure.UNCLEAR_LATE, on="replace")
            registry.fail_next(Failure.UNREACHABLE, on="replace")
            move(world, "carried")
            await until(lambda: phase(world, "A") == "kept")
            registry.deliver()
            assert (await end(world)).kind == "kept"

    play(scenario)


def test_a_lost_word_costs_a_look_only() -> None:
    """The early order: the source waits for the silence of B, which learns from the registry that it is called off."""

    async def scenario() -> None:
        async with stage("early") as world:
            move(world, "early")
            await until(lambda: phase(world, "B") == "ready")
            stream = world.hosts["A"].hypervisor.instances["vm"].stream
            world.hosts["A"].coordinators["m"].cancel()
            world.network.down.add("A")
            assert stream is not None
            await until(lambda: phase(world, "A") == "retract")
            began = trio.current_time()
            await until(lambda: phase(world, "B") == "returned")
            deadlines = world.hosts["B"].deadlines
            assert trio.current_time() - began < 2 * deadlines.look < deadlines.held
            world.network.down.clear()
            assert (await end(world)).kind == "kept"

    play(scenario)


def test_a_destination_that_is_through_says_so_again() -> None:
    """Its refusal was lost; the source asks again with the VM stopped, and need not wait for its deadline."""

    async def scenario() -> None:
        async with stage() as world:
            move(world, "carried")
            await until(lambda: phase(world, "A") == "pre-copy")
            world.hosts["B"].kill()
            await until(lambda: phase(world, "A") == "handover")
            world.network.down.add("B")
            await world.hosts["B"].start()
            await until(lambda: phase(world, "B") == "returned")
            world.network.down.clear()
            await until(lambda: phase(world, "A") == "kept")
            entry = world.entry("A", "m", Role.SOURCE)
            assert entry is not None
            stopped, resumed = (_when(entry.history, name) for name in ("handover", "kept"))
            assert resumed - stopped < world.hosts["A"].deadlines.handover

    play(scenario)


def _when(history: tuple[str, ...], name: str) -> float:
    return next(float(line.rpartition(" ")[2]) for line in history if line.startswith(f"{name} at "))


def test_a_vm_whose_vfs_are_being_plugged_does_not_move_on() -> None:
    """The registry is settled by then; B's side is not over."""

    async def scenario() -> None:
        async with stage("failover") as world:
            world.hosts["B"].wrap_nic = lambda nic, process: FaultNic(
                nic, [ErrnoFault(number=errno.EBUSY, attribute=Attribute.MAC, times=None)], clock=process.clock
            )
            move(world, "failover")
            await until(lambda: phase(world, "B") == "plug")
            move(world, "failover", "back", "B", "A")
            await until(lambda: world.entry("B", "back", Role.SOURCE) is not None)
            entry = world.entry("B", "back", Role.SOURCE)
            assert entry is not None
            await trio.sleep(0.1)
            entry = world.entry("B", "back", Role.SOURCE)
            assert entry is not None
            assert (entry.phase, "is not over here" in entry.why) == ("refused", True)

    play(scenario)
