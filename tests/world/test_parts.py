# SPDX-License-Identifier: Apache-2.0
"""The world's parts by themselves."""

from __future__ import annotations

import pytest
import trio

from vferry.core.fence import Mode
from vferry.core.migration.messages import Abort, Message
from vferry.core.model import AdminState
from vferry.core.ownership import adopted, opened
from vferry.ports.hypervisor import StreamFailedError, VmState
from vferry.ports.registry import RegistryUnreachableError, UnclearOutcomeError
from vferry.testing.crash import Crash
from vferry.testing.memory_registry import RegistryStorage
from vferry.testing.world import (
    ControlNetwork,
    EthernetSwitch,
    Flow,
    Process,
    SimHypervisor,
    Weather,
    World,
    WorldClock,
    WorldRegistry,
    memory_device,
    run_deterministic,
)
from vferry.testing.world.device import FrameSink
from vferry.testing.world.log import EventLog

ONE, TWO, THREE = (bytes([2, 0, 0, 0, 0, number]) for number in (1, 2, 3))
ALL = b"\xff" * 6


def frame(target: bytes, source: bytes, vlan: int | None = None) -> bytes:
    tag = b"" if vlan is None else b"\x81\x00" + vlan.to_bytes(2, "big")
    return target + source + tag + b"\x88\xb5" + bytes(46)


class Ports:
    """Three ports of a switch, and what came out of each."""

    def __init__(self, switch: EthernetSwitch) -> None:
        self.out: dict[int, list[bytes]] = {1: [], 2: [], 3: []}
        self.into: dict[int, FrameSink] = {port: switch.attach(port, self.out[port].append) for port in self.out}

    def counts(self) -> tuple[int, ...]:
        return tuple(len(frames) for frames in self.out.values())


def test_the_clock_owes_what_it_slept() -> None:
    async def scenario() -> None:
        clock = WorldClock()
        assert clock.monotonic() == trio.current_time() == 0.0
        clock.sleep(1.5)
        clock.sleep(0.5)
        assert (clock.monotonic(), trio.current_time()) == (2.0, 0.0)
        await clock.pay()
        assert (clock.monotonic(), trio.current_time()) == (2.0, 2.0)
        await trio.sleep(1.0)
        assert (clock.monotonic(), clock.wall()) == (3.0, 1_700_000_003.0)

    run_deterministic(scenario, 1)


def test_a_switch_floods_then_learns() -> None:
    async def scenario() -> None:
        switch = EthernetSwitch()
        ports = Ports(switch)
        ports.into[1](frame(TWO, ONE))
        assert (ports.counts(), switch.flooded) == ((0, 1, 1), 1)
        ports.into[2](frame(ONE, TWO))
        assert ports.counts() == (1, 1, 1)
        ports.into[1](frame(TWO, ONE))
        assert (ports.counts(), switch.port_of(TWO)) == ((1, 2, 1), 2)
        ports.into[3](frame(THREE, TWO))  # it has moved
        ports.into[1](frame(TWO, ONE))
        assert (ports.counts()[2], switch.port_of(TWO)) == (2, 3)
        ports.into[3](frame(TWO, THREE))  # back to where it came from: nowhere
        assert ports.counts()[2] == 2

    run_deterministic(scenario, 1)


def test_a_switch_learns_by_vlan_and_floods_groups() -> None:
    async def scenario() -> None:
        switch = EthernetSwitch()
        ports = Ports(switch)
        ports.into[1](frame(ALL, ONE, vlan=5))
        assert ports.counts() == (0, 1, 1)
        assert (switch.port_of(ONE, 5), switch.port_of(ONE)) == (1, None)
        ports.into[2](frame(ONE, TWO))
        assert ports.counts() == (1, 1, 2)

    run_deterministic(scenario, 1)


def test_a_switch_forgets_and_takes_its_time() -> None:
    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            switch = EthernetSwitch(delay=0.25, nursery=nursery, ageing=10.0)
            ports = Ports(switch)
            ports.into[1](frame(TWO, ONE))
            assert ports.counts() == (0, 0, 0)
            await trio.sleep(0.3)
            assert ports.counts() == (0, 1, 1)
            await trio.sleep(10.0)
            assert switch.port_of(ONE) is None

    run_deterministic(scenario, 1)
    with pytest.raises(ValueError, match="nursery"):
        EthernetSwitch(delay=1.0)


def heard(weather: Weather, count: int = 200) -> list[str]:
    async def scenario() -> list[str]:
        came: list[str] = []

        def deliver(_source: str, message: Message) -> None:
            came.append(message.migration)

        async with trio.open_nursery() as nursery:
            network = ControlNetwork("seed", nursery, EventLog())
            network.weather = weather
            network.listen("B", deliver)
            for number in range(count):
                network.send("A", "B", Abort(migration=f"{number:04}"))
                await trio.sleep(0.01)
        return came

    return run_deterministic(scenario, 1)


def test_a_good_network_loses_nothing() -> None:
    assert heard(Weather()) == [f"{number:04}" for number in range(200)]


def test_a_bad_network_loses_doubles_and_reorders() -> None:
    assert 60 < len(heard(Weather(loss=0.5))) < 140
    assert 260 < len(heard(Weather(double=0.5))) < 340
    late = heard(Weather(jitter=0.5))
    assert sorted(late) == heard(Weather())
    assert late != sorted(late)


def test_a_registry_is_away_or_unclear() -> None:
    async def scenario() -> None:
        changes: list[str] = []
        async with trio.open_nursery() as nursery:
            registry = WorldRegistry("A", RegistryStorage(), "seed", nursery, changes.append)
            entry = await registry.create(adopted("vm", "A"))
            registry.down = True
            with pytest.raises(RegistryUnreachableError):
                await registry.read("vm")
            registry.down = False
            registry.weather = registry.weather._replace(unclear=1.0)
            wanted = opened(entry.ownership, "m", source="A", destination="B")
            for _ in range(10):
                with pytest.raises(UnclearOutcomeError):
                    await registry.replace(wanted, entry.token)
            await trio.sleep(2.0)
            found = await registry.read("vm")
            assert found is not None
            assert found.ownership == wanted
            assert changes == ["vm", "vm"]

    run_deterministic(scenario, 1)


def test_a_dead_process_can_do_nothing() -> None:
    async def scenario() -> None:
        process = Process(lambda: None, at=2)
        process.step("before one")
        with pytest.raises(Crash, match="step 2: after one"):
            process.step("after one")
        for act in (process.look, lambda: process.step("clean-up")):
            with pytest.raises(Crash, match="dead since after one"):
                act()
        assert process.scope.cancel_called

    run_deterministic(scenario, 1)


def test_a_flow_counts_losses_doubles_and_gaps() -> None:
    async def scenario() -> None:
        flow = Flow("a -> b", 1)
        for number in (0, 1, 1, 4):
            flow.arrived(number)
            await trio.sleep(0.5)
        flow.sent = 5
        assert (flow.received, flow.lost, flow.doubled) == (3, 2, 1)
        assert (flow.first, flow.last, flow.longest_gap) == (0.0, 1.5, 1.0)

    run_deterministic(scenario, 1)


def two_hypervisors(world: World) -> tuple[SimHypervisor, SimHypervisor]:
    return world.hosts["A"].hypervisor, world.hosts["B"].hypervisor


async def small_world(world: World) -> None:
    places = {"A": [("eth0", 0)], "B": [("eth0", 1)]}
    await world.add_vm("vm", "A", vfs=places, settings=[AdminState(mac="52:54:00:00:00:01")])


def test_a_stream_copies_stops_and_sends() -> None:
    async def scenario() -> None:
        async with World(1) as world:
            await small_world(world)
            old, new = two_hypervisors(world)
            uri = await new.receive("vm", [("eth0", 1)])
            assert await new.receive("vm", [("eth0", 1)]) == uri
            await old.send("vm", uri)
            await old.wait_stopped("vm")
            assert (await old.state("vm"), await new.state("vm")) == (VmState.PAUSED, VmState.INCOMING)
            await old.switch("vm")
            await new.wait_held("vm")
            await trio.sleep(0.01)
            assert (await old.state("vm"), await new.state("vm")) == (VmState.MIGRATED, VmState.PAUSED)
            await old.resume("vm")
            assert await old.state("vm") is VmState.RUNNING
            await old.resume("vm")

    run_deterministic(scenario, 1)


def test_a_dead_stream_ends_the_destination_only() -> None:
    async def scenario() -> None:
        async with World(1) as world:
            await small_world(world)
            old, new = two_hypervisors(world)
            await old.send("vm", await new.receive("vm", [("eth0", 1)]))
            old.streams[0].die("for the test")
            with pytest.raises(StreamFailedError):
                await old.wait_stopped("vm")
            with pytest.raises(StreamFailedError):
                await new.wait_held("vm")
            assert (await old.state("vm"), await new.state("vm")) == (VmState.RUNNING, VmState.ABSENT)

    run_deterministic(scenario, 1)


def test_a_host_crash_ends_vms_and_settings() -> None:
    async def scenario() -> None:
        async with World(1) as world:
            await small_world(world)
            host = world.hosts["A"]
            before = host.device.nic.host().boot_id
            host.crash()
            assert host.hypervisor.instances == {}
            assert host.device.nic.host().boot_id != before
            assert world.watch.receiving("A", ["52:54:00:00:00:01"]) == []
            assert not host.alive
            await host.start()
            assert (host.alive, host.lives) == (True, 2)

    run_deterministic(scenario, 1)


@pytest.mark.parametrize("mode", [Mode.DEVICE_STATE, Mode.FAILOVER, Mode.COLD])
def test_nics_in_memory_will_do_too(mode: Mode) -> None:
    async def scenario() -> None:
        async with World(1, device=memory_device) as world:
            places = {"A": [("eth0", 0)], "B": [("eth0", 1)]}
            settings = [AdminState(mac="52:54:00:00:00:01", trust=False)]
            await world.add_vm("vm", "A", vfs=places, settings=settings, standby=mode is Mode.FAILOVER)
            world.migrate("m", "vm", "A", "B", mode)
            assert await world.wait_settled(seconds=10.0)
            assert await world.traffic.dead_flows() == []
            assert world.watch.running("vm") == ["B"]
            assert world.violations == []

    run_deterministic(scenario, 1)
