# SPDX-License-Identifier: Apache-2.0
"""What lasts, passes, or comes late: hosts that are down for minutes, persons who decide, guests that do not listen."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping

import msgspec
import pytest
import trio

from tests.migration.scene import MAC, end, move, path, phase, play, stage, states, until
from vferry.core.migration.messages import Final, Message
from vferry.core.migration.phases import Role
from vferry.core.model import ZERO_MAC, AdminState, Attribute, PfReading
from vferry.core.ownership import OwnedVf, Stage, resolved
from vferry.ports.migrations import MigrationEntry
from vferry.ports.nic import ArmedRequest, IncompleteReadingError, Nic, NicError, RejectedError
from vferry.testing.fault_nic import FaultNic
from vferry.testing.faults import ErrnoFault
from vferry.testing.world import MODES, Process, World


def entry_of(world: World, host: str) -> MigrationEntry:
    """Return one side's entry."""
    entry = world.entry(host, "m", Role.SOURCE if host == "A" else Role.DESTINATION)
    assert entry is not None
    return entry


def since(world: World, line: int) -> list[str]:
    """Return who did what since a line of the log."""
    return [" ".join(one.split()[1:]) for one in world.log.text.splitlines()[line:]]


# Minutes after the commit


@pytest.mark.parametrize("seconds", [30.0, pytest.param(400.0, marks=pytest.mark.slow)])
def test_a_cold_vm_comes_back_after_minutes(seconds: float) -> None:
    """Committed, and B is down; when it comes back it cannot have the VM, and gives it back."""

    async def scenario() -> None:
        async with stage("cold") as world:
            move(world, "cold")
            await until(lambda: phase(world, "B") == "activate")
            world.hosts["B"].kill()
            assert (phase(world, "B"), world.owner("vm").stage) == ("activate", Stage.COMMITTED)
            await trio.sleep(1.0)
            before = entry_of(world, "A")
            assert before.phase == "await"
            await trio.sleep(seconds)
            assert entry_of(world, "A") == before
            assert states(world) == ("absent", "absent")
            fault = ErrnoFault(vf=2, attribute=Attribute.MAC, number=errno.EINVAL, times=None)
            world.hosts["B"].wrap_nic = lambda nic, process: FaultNic(nic, [fault], clock=process.clock)
            await world.hosts["B"].start()
            assert (await end(world)).kind == "kept"
            assert (states(world), phase(world, "B")) == (("running", "absent"), "returned")
            assert path(world, "A")[:5] == ["offer", "shutdown", "fence", "handover", "await"]
            assert path(world, "A")[-3:] == ["unfence", "resume", "kept"]

    play(scenario)


# A person decides after the commit


async def decide_for_the_source(world: World) -> None:
    """Do as ``vferry resolve`` does; whoever says that B is fenced is believed."""
    registry = world.hosts["A"].registry
    found = await registry.read("vm")
    assert found is not None
    await registry.replace(resolved(found.ownership, owner="A", fenced="B"), found.token)


def assert_nothing_is_left_on_b(world: World) -> None:
    """B's VF is as it was before the migration, and free."""
    assert (states(world), phase(world, "B")) == (("running", "absent"), "returned")
    shown = world.admin("B", "eth0", 2)
    assert (shown.mac, shown.spoofchk, shown.trust) == (ZERO_MAC, True, False)
    assert world.watch.receiving("B", [MAC]) == []
    assert world.hosts["B"].device.nic.read_fdb("eth0") == ()
    assert world.hosts["B"].disk.undo == {}


WAYS = [mode for mode in MODES if mode != "rebuilt"]
"""Modes that differ in what B has done by then."""
MODES_AND_PHASES = [(mode, where) for mode in WAYS for where in ("activate", "start")]


@pytest.mark.parametrize(("mode", "where"), MODES_AND_PHASES)
def test_a_person_decides_while_the_destination_is_cut_off(mode: str, where: str) -> None:
    """Its agent lives, and cannot read the registry: it goes on with nothing, and goes back when it can."""

    async def scenario() -> None:
        async with stage(mode) as world:
            move(world, mode)
            await until(lambda: phase(world, "B") == where)
            world.hosts["B"].registry.down = True
            await trio.sleep(1.0)
            assert (phase(world, "B"), states(world)[1]) == (where, "absent" if mode == "cold" else "paused")
            receiving = world.watch.receiving("B", [MAC])
            assert bool(receiving) == (where == "start" or mode == "early")
            line = len(world.log)
            await decide_for_the_source(world)
            await until(lambda: phase(world, "A") == "kept")
            await trio.sleep(2.0)
            assert world.watch.receiving("B", [MAC]) == receiving
            world.hosts["B"].registry.down = False
            await until(lambda: phase(world, "B") == "returned")
            await trio.sleep(2.0)
            assert "B VM vm is running" not in since(world, line)
            assert [what for what in world.violations if "runs" in what] == []
            if not receiving:
                assert world.violations == []
            assert path(world, "B")[-3:] == ["silence", "give-back", "returned"]
            assert_nothing_is_left_on_b(world)
            assert await world.traffic.dead_flows() == []

    play(scenario)


async def come_back(world: World, mode: str, where: str, *, crash: bool) -> int:
    """Let B go down in a phase, a person decide, and B come back; return the line of the log since then."""
    host = world.hosts["B"]
    move(world, mode)
    await until(lambda: phase(world, "B") == where)
    (host.crash if crash else host.kill)()
    await trio.sleep(1.0)
    await decide_for_the_source(world)
    await until(lambda: phase(world, "A") == "kept")
    assert phase(world, "B") == where
    line = len(world.log)
    await host.start()
    await trio.sleep(10.0)
    return line


@pytest.mark.parametrize("crash", [False, True], ids=["agent", "host"])
@pytest.mark.parametrize(("mode", "where"), MODES_AND_PHASES)
def test_a_person_decides_while_the_destination_is_down(mode: str, where: str, *, crash: bool) -> None:
    """When it comes back, it neither activates nor starts."""

    async def scenario() -> None:
        async with stage(mode) as world:
            line = await come_back(world, mode, where, crash=crash)
            assert "B VM vm is running" not in since(world, line)
            assert "finish" not in path(world, "B")
            assert ("start" in path(world, "B")) == (where == "start")
            assert states(world)[0] == "running"
            assert [what for what in world.violations if "runs" in what] == []
            if crash or (where == "activate" and mode != "early"):
                assert world.watch.receiving("B", [MAC]) == []
                assert world.violations == []
                assert await world.traffic.dead_flows() == []

    play(scenario)


@pytest.mark.parametrize("crash", [False, True], ids=["agent", "host"])
@pytest.mark.parametrize(("mode", "where"), MODES_AND_PHASES)
def test_what_it_had_programmed_is_taken_out(mode: str, where: str, *, crash: bool) -> None:
    """The VF is free again, and nothing of the VM is on B, without anybody's further word."""

    async def scenario() -> None:
        async with stage(mode) as world:
            await come_back(world, mode, where, crash=crash)
            assert_nothing_is_left_on_b(world)
            assert world.hosts["B"].contradictions == {}
            assert await world.traffic.dead_flows() == []

    play(scenario)


@pytest.mark.parametrize("mode", ["carried", "cold"])
def test_a_vm_that_a_person_gave_back_can_move_again(mode: str) -> None:
    """Resolved after the commit: what the registry names are B's VFs, which are not the VM's on A."""

    async def scenario() -> None:
        async with stage(mode) as world:
            await come_back(world, mode, "activate", crash=True)
            assert world.owner("vm").vfs in ((), (OwnedVf(pf="eth0", vf=0),))
            world.hosts["B"].disk.migrations.content.clear()  # as when a person has forgotten it there
            move(world, mode, "again")
            await until(lambda: phase(world, "A", "again") in ("released", "refused", "kept"))
            assert phase(world, "A", "again") == "released"

    play(scenario)


# What passes on the way back


class PassingNic(FaultNic):
    """Fails a few times while a phase lasts.

    :param failing: whether it is to fail now.
    :param left: in a list of one, how often it still fails.
    """

    def __init__(self, inner: Nic, error: type[NicError], failing: Callable[[], bool], left: list[int]) -> None:
        super().__init__(inner)
        self._error = error
        self._failing = failing
        self._left_to_fail = left

    def read(self, pf: str, *, statistics: bool = False) -> PfReading:
        """Read, or give half of it."""
        if self._error is IncompleteReadingError:
            self._fail("read the VFs' settings", pf)
        return super().read(pf, statistics=statistics)

    def arm(self, pf: str, changes: Mapping[int, AdminState]) -> ArmedRequest:
        """Encode a change, or refuse it."""
        if self._error is RejectedError:
            self._fail("program VF settings", pf)
        return super().arm(pf, changes)

    def program(self, pf: str, changes: Mapping[int, AdminState]) -> Mapping[int, NicError | None]:
        """Program, or refuse to."""
        if self._error is RejectedError:
            self._fail("program VF settings", pf)
        return super().program(pf, changes)

    def _fail(self, what: str, pf: str) -> None:
        if self._left_to_fail[0] and self._failing():
            self._left_to_fail[0] -= 1
            raise self._error(what, pf=pf, why="for a moment")


@pytest.mark.parametrize(
    ("error", "times"),  # a reading is tried for a while in any case, so half of it has to come more often
    [(RejectedError, 1), (RejectedError, 3), (IncompleteReadingError, 1), (IncompleteReadingError, 40)],
)
@pytest.mark.parametrize(("mode", "where"), [("carried", "unfence"), ("cold", "unfence"), ("failover", "replug")])
def test_a_nic_that_refuses_for_a_moment_keeps_nobody(mode: str, where: str, error: type[NicError], times: int) -> None:
    """On the way back there is no other way on: it is tried again, and ends on A."""

    async def scenario() -> None:
        async with stage(mode) as world:
            left = [times]

            def wrap(nic: Nic, _process: Process) -> Nic:
                return PassingNic(nic, error, lambda: phase(world, "A") == where, left)

            world.hosts["A"].wrap_nic = wrap
            move(world, mode)
            await until(lambda: phase(world, "A") == "handover")
            world.hosts["A"].coordinators["m"].cancel()
            assert (await end(world)).kind == "kept"
            assert left == [0]
            assert where in path(world, "A")
            assert states(world) == ("running", "absent")

    play(scenario)


# What is lost or garbled before the VM is started


@pytest.mark.parametrize("where", ["commit", "activate"])
def test_settings_that_are_lost_after_they_were_programmed_early(where: str) -> None:
    """A PF driver that was reloaded, or a tool: the VM would be started without its network."""

    async def scenario() -> None:
        async with stage("early") as world:
            move(world, "early")
            await until(lambda: phase(world, "B") == where)
            world.hosts["B"].device.nic.program("eth0", {2: AdminState(mac=ZERO_MAC)})
            line = len(world.log)
            assert (await end(world)).kind == "kept"
            assert path(world, "B")[-4:] == ["activate", "silence", "give-back", "returned"]
            assert "B VM vm is running" not in since(world, line)
            assert states(world) == ("running", "absent")
            assert world.owner("vm").generation == 2  # there, and back

    play(scenario)


@pytest.mark.parametrize("record", [b"xx", b""], ids=["garbage", "empty"])
@pytest.mark.parametrize("mode", MODES)
def test_a_final_record_that_is_garbage(mode: str, record: bytes) -> None:
    """B cannot have the VM, and knows from the offer what it is to take out."""

    async def scenario() -> None:
        async with stage(mode) as world:
            send = world.network.send

            def instead(source: str, target: str, message: Message) -> None:
                if isinstance(message, Final):
                    message = msgspec.structs.replace(message, record=record)
                send(source, target, message)

            world.network.send = instead  # type: ignore[method-assign]
            move(world, mode)
            assert (await end(world)).kind == "kept"
            assert (states(world), phase(world, "B")) == (("running", "absent"), "returned")
            assert "record" in entry_of(world, "B").why

    play(scenario)


# Guests that do not listen


DEAF_SECONDS = 300.0
DEAF = {"cold": "shutdown", "failover": "unplug"}


@pytest.mark.parametrize("how", ["cancel", "deadline"])
@pytest.mark.parametrize("mode", DEAF)
def test_a_deaf_guest_is_left_alone(mode: str, how: str) -> None:
    """Called off by the operator or by time, in the registry and on B; the VM never stopped."""

    async def scenario() -> None:
        async with stage(mode) as world:
            hypervisor, host = world.hosts["A"].hypervisor, world.hosts["A"]
            hypervisor.timing = hypervisor.timing._replace(shut_down=DEAF_SECONDS, unplug=DEAF_SECONDS)
            host.deadlines = host.deadlines._replace(guest=10.0)  # B is more patient
            line = len(world.log)
            move(world, mode)
            await until(lambda: phase(world, "A") == DEAF[mode])
            await trio.sleep(1.0 if how == "cancel" else 9.0)
            assert (phase(world, "A"), phase(world, "B")) == (DEAF[mode], "incoming")
            if how == "cancel":
                host.coordinators["m"].cancel()
            await until(lambda: phase(world, "B") == "returned", seconds=5.0)
            assert ("abort" in path(world, "A"), host.failures) == (True, [])
            found = world.owner("vm")
            assert (found.owner, found.stage, found.generation) == ("A", Stage.SETTLED, 0)
            await trio.sleep(5.0)
            assert states(world) == ("running", "absent")
            assert "A VM vm is paused" not in since(world, line)
            assert hypervisor.instances["vm"].vfs == [("eth0", 0)]
            assert await world.traffic.dead_flows() == []
            assert world.violations == []

    play(scenario)


def test_a_deaf_guest_that_shuts_down_at_last_is_started_again() -> None:
    """It does so for us, long after the migration was called off."""

    async def scenario() -> None:
        async with stage("cold") as world:
            hypervisor = world.hosts["A"].hypervisor
            hypervisor.timing = hypervisor.timing._replace(shut_down=DEAF_SECONDS)
            line = len(world.log)
            move(world, "cold")
            await until(lambda: phase(world, "A") == "shutdown")
            world.hosts["A"].coordinators["m"].cancel()
            await trio.sleep(DEAF_SECONDS + 1.0)
            assert (await end(world)).kind == "kept"
            told = [one for one in since(world, line) if one.startswith("A VM vm is")]
            assert told == ["A VM vm is gone", "A VM vm is running"]
            assert states(world) == ("running", "absent")

    play(scenario)
