# SPDX-License-Identifier: Apache-2.0
"""What is refused before anything is done to the VM: it runs on where it is, and nothing was changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest
import trio

from tests.migration.scene import MAC, MODE_OF, PLACES, end, move, path, phase, play, stage, states, until
from vferry.core.errors import UsageError
from vferry.core.migration.messages import Message, Offer
from vferry.core.migration.phases import DestinationPhase, Role, SourcePhase
from vferry.core.migration.tables import order_of
from vferry.core.model import AdminState, DeclaredState
from vferry.core.ownership import Token
from vferry.core.policy import Policy
from vferry.migration.begin import begin
from vferry.migration.source_acts import PartialMoveError
from vferry.ports.migrations import MigrationEntry
from vferry.ports.nic import Nic
from vferry.testing.fault_nic import FaultNic
from vferry.testing.memory_migrations import MemoryMigrationJournal
from vferry.testing.world import MODES, Process, World
from vferry.verbs.context import VfRef

OFF = ["offer", "abort", "unfence", "resume", "kept"]
"""A source that was refused before its VM was stopped."""
NOT_STOPPED = dict.fromkeys(MODES, OFF) | {"failover": ["offer", "abort", "rejoin", "resume", "replug", "kept"]}
READS = {"host", "pfs", "pf", "vfs", "read", "read_pci", "read_function", "read_fdb"}
OTHER_MAC = "52:54:00:00:00:77"


def watched(world: World, host: str) -> Callable[[], list[str]]:
    """Let a host's NIC note what it is asked; return what returns everything that was no reading."""
    nics: list[FaultNic] = []
    wrapped = world.hosts[host].wrap_nic

    def wrap(nic: Nic, process: Process) -> Nic:
        nics.append(FaultNic(wrapped(nic, process)))
        return nics[-1]

    world.hosts[host].wrap_nic = wrap
    return lambda: [call for nic in nics for call in nic.calls if call not in READS]


def altered(world: World, change: Callable[[Offer], Offer]) -> None:
    """Let every offer be another one when it is heard."""
    send = world.network.send

    def instead(source: str, target: str, message: Message) -> None:
        send(source, target, change(message) if isinstance(message, Offer) else message)

    world.network.send = instead  # type: ignore[method-assign]


def start(
    world: World,
    mode: str,
    moves: Sequence[tuple[tuple[str, int], tuple[str, int]]],
    *,
    destination: str = "B",
    macs: Sequence[str] = (),
) -> None:
    """Let A's agent begin a migration of other VFs, or elsewhere, than :meth:`World.migrate` would; B hears of it."""
    refs = [(VfRef(*old), VfRef(*new)) for old, new in moves]
    declared = {old: DeclaredState(mac=mac) for (old, _), mac in zip(refs, macs, strict=False)}
    host = world.hosts["A"]
    host.run(
        lambda ports, channel: begin(
            ports,
            channel,
            migration="m",
            vm="vm",
            destination=destination,
            moves=refs,
            mode=MODE_OF[mode],
            declared=declared,
            observer=host.observe,
        ),
        "m",
        "B",
    )


def why(world: World, host: str, name: str = "m") -> str:
    """Return why one side has ended."""
    entry = world.entry(host, name, Role.SOURCE if host == "A" else Role.DESTINATION)
    assert entry is not None
    return entry.why


def assert_untouched(world: World, since: int) -> None:
    """The VM was never stopped since a line of the log, and B has nothing of it."""
    lines = world.log.text.splitlines()[since:]
    assert [line for line in lines if "VM vm is" in line or "VM vm has lost" in line] == []
    assert states(world) == ("running", "absent")
    assert world.hosts["B"].disk.undo == {}


# The offer and the registry


@pytest.mark.parametrize("mode", MODES)
def test_an_offer_for_another_destination(mode: str) -> None:
    """The registry's entry names C, and the way of the messages leads to B."""

    async def scenario() -> None:
        async with stage(mode) as world:
            changes, line = watched(world, "B"), len(world.log)
            start(world, mode, [(("eth0", 0), ("eth0", 2))], destination="C", macs=[MAC])
            assert (await end(world)).kind == "kept"
            assert (phase(world, "B"), changes()) == ("declined", [])
            assert "A owns the VM, and migration m is open" in why(world, "B")
            assert path(world, "A") == NOT_STOPPED[mode]
            assert_untouched(world, line)

    play(scenario)


OFFERS: dict[str, Callable[[Offer], Offer]] = {
    "source": lambda offer: msgspec.structs.replace(offer, source="C"),
    "stale token": lambda offer: msgspec.structs.replace(
        offer, token=Token(offer.token.epoch, offer.token.revision - 1)
    ),
    "token to come": lambda offer: msgspec.structs.replace(
        offer, token=Token(offer.token.epoch, offer.token.revision + 1)
    ),
    "epoch": lambda offer: msgspec.structs.replace(offer, token=Token(offer.token.epoch + 1, offer.token.revision)),
}


@pytest.mark.parametrize("what", OFFERS)
@pytest.mark.parametrize("mode", ["carried", "failover", "cold"])
def test_an_offer_that_is_not_what_the_registry_says(mode: str, what: str) -> None:
    async def scenario() -> None:
        async with stage(mode) as world:
            changes, line = watched(world, "B"), len(world.log)
            altered(world, OFFERS[what])
            move(world, mode)
            assert (await end(world)).kind == "kept"
            assert (phase(world, "B"), changes()) == ("declined", [])
            assert path(world, "A") == NOT_STOPPED[mode]
            assert "A owns the VM, and migration m is open" in why(world, "A")
            assert_untouched(world, line)

    play(scenario)


# The destination's VFs


@pytest.mark.parametrize("mode", MODES)
def test_a_vf_that_another_vm_owns(mode: str) -> None:
    async def scenario() -> None:
        async with stage(mode) as world:
            settings = [AdminState(mac=OTHER_MAC)]
            await world.add_vm("vm2", "B", vfs={"B": [("eth0", 2)], "A": [("eth0", 5)]}, settings=settings)
            await trio.sleep(12.0)
            before = world.admin("B", "eth0", 2)
            changes, line = watched(world, "B"), len(world.log)
            move(world, mode)
            await world.wait_settled(seconds=60.0)
            assert (phase(world, "A"), phase(world, "B")) == ("kept", "declined")
            assert "eth0/2" in why(world, "B")
            assert "it belongs to VM vm2, which owns it" in why(world, "A")
            assert (changes(), world.admin("B", "eth0", 2), path(world, "A")) == ([], before, NOT_STOPPED[mode])
            assert await world.traffic.dead_flows() == []
            assert world.violations == []
            assert_untouched(world, line)

    play(scenario)


def test_a_vf_that_an_unfinished_migration_names() -> None:
    """Whoever came first has it; nothing of it is the registry's before the commit."""

    async def scenario() -> None:
        async with stage() as world:
            settings = [AdminState(mac=OTHER_MAC)]
            await world.add_vm("vm2", "A", vfs={"A": [("eth0", 4)], "B": [("eth0", 2)]}, settings=settings)
            await trio.sleep(12.0)
            world.migrate("m2", "vm2", "A", "B", MODE_OF["carried"])
            await until(lambda: phase(world, "B", "m2") == DestinationPhase.INCOMING.value)
            move(world, "carried")
            await until(lambda: phase(world, "B") == "declined")
            assert phase(world, "B", "m2") == DestinationPhase.INCOMING.value
            assert "it belongs to migration m2" in why(world, "B")
            await world.wait_settled(seconds=60.0)
            assert (phase(world, "A"), phase(world, "B", "m2")) == ("kept", "arrived")
            assert world.admin("B", "eth0", 2).mac == OTHER_MAC
            assert world.violations == []
            assert await world.traffic.dead_flows() == []

    play(scenario)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("mode", ["carried", "early", "failover", "cold"])
def test_a_vf_that_a_blocked_migration_names(mode: str, role: Role) -> None:
    """As a target, or as what the other VM had here: a person has not decided yet whose it is."""

    async def scenario() -> None:
        async with stage(mode) as world:
            MemoryMigrationJournal(world.hosts["B"].disk.migrations).write(blocked(role, vf=2))
            changes, line = watched(world, "B"), len(world.log)
            move(world, mode)
            assert (await end(world)).kind == "kept"
            assert (phase(world, "B"), changes()) == ("declined", [])
            assert "it belongs to migration old" in why(world, "A")
            assert_untouched(world, line)

    play(scenario)


@pytest.mark.parametrize("role", Role)
def test_a_blocked_migration_of_other_vfs_is_in_nobodys_way(role: Role) -> None:
    async def scenario() -> None:
        async with stage() as world:
            MemoryMigrationJournal(world.hosts["B"].disk.migrations).write(blocked(role, vf=3, peers=2))
            move(world, "carried")
            assert (await end(world)).kind == "moved"

    play(scenario)


def blocked(role: Role, *, vf: int, peers: int = 5) -> MigrationEntry:
    """Return the entry of another VM's migration in which B has blocked, with B's VF and the other host's."""
    here, there = (peers, vf) if role is Role.DESTINATION else (vf, peers)
    target = {"saved": f"eth0/{here}", "pf": "eth0", "vf": there}
    data = {
        "migration": "old",
        "vm": "another",
        "role": role,
        "order": order_of(MODE_OF["carried"]),
        "phase": (SourcePhase.BLOCKED if role is Role.SOURCE else DestinationPhase.BLOCKED).value,
        "source": "B" if role is Role.SOURCE else "A",
        "destination": "A" if role is Role.SOURCE else "B",
        "mode": MODE_OF["carried"],
        "boot_id": "of long ago",
        "targets": [target],
    }
    return msgspec.convert(msgspec.to_builtins(data), MigrationEntry)


# What is to move


MOVES: dict[str, list[tuple[tuple[str, int], tuple[str, int]]]] = {
    "one of four": [(("eth0", 0), ("eth0", 2))],
    "three of four": [(("eth0", number), ("eth0", 2 + number)) for number in (0, 1, 3)],
    "one more": [(("eth0", number), ("eth0", 2 + number)) for number in range(5)],
    "another": [(("eth0", number), ("eth0", 2 + number)) for number in (0, 1, 2, 4)],
}


@pytest.mark.parametrize("which", MOVES)
@pytest.mark.parametrize("mode", ["carried", "failover", "cold"])
def test_not_just_the_vms_vfs(mode: str, which: str) -> None:
    async def scenario() -> None:
        async with stage(mode, "four") as world:
            before, line, changes = world.storage.revision, len(world.log), (watched(world, "A"), watched(world, "B"))
            owner = world.owner("vm")
            start(world, mode, MOVES[which])
            await until(lambda: phase(world, "A") == "refused", seconds=1.0)
            owned = ", ".join(f"{pf}/{vf}" for pf, vf in PLACES["four"]["A"])
            named = ", ".join(f"{pf}/{vf}" for (pf, vf), _ in MOVES[which])
            error = PartialMoveError(owner, f"it has the VFs {owned}, and {named} would move")
            assert why(world, "A") == str(error)
            assert (await end(world)).kind == "refused"
            assert (phase(world, "B"), path(world, "A"), world.network.sent) == ("", ["refused"], 0)
            assert (world.storage.revision, world.owner("vm")) == (before, owner)
            assert [one() for one in changes] == [[], []]
            assert_untouched(world, line)

    play(scenario)


@pytest.mark.parametrize("mode", ["carried", "failover", "cold"])
def test_a_mac_that_the_registry_does_not_know(mode: str) -> None:
    async def scenario() -> None:
        async with stage(mode) as world:
            before, line, changes = world.storage.revision, len(world.log), watched(world, "A")
            start(world, mode, [(("eth0", 0), ("eth0", 2))], macs=[OTHER_MAC])
            await until(lambda: phase(world, "A") == "refused", seconds=1.0)
            assert why(world, "A") == str(
                PartialMoveError(world.owner("vm"), f"{OTHER_MAC} is not known as its MAC"),
            )
            assert (await end(world)).kind == "refused"
            assert (world.storage.revision, world.network.sent, changes()) == (before, 0, [])
            assert_untouched(world, line)

    play(scenario)


def test_no_vf_at_all() -> None:
    async def scenario() -> None:
        async with stage() as world:
            before = world.storage.revision
            with pytest.raises(UsageError, match="none of its VFs is named"):
                start(world, "carried", [])
            assert (world.hosts["A"].entries(), world.storage.revision) == ((), before)

    play(scenario)


# What the hosts cannot do, or may not


@pytest.mark.parametrize("mode", ["carried", "rebuilt", "early"])
def test_a_fence_that_is_impossible_is_found_before_the_vm_is_stopped(mode: str) -> None:
    """B resets a VF at every MAC: there is no lever that the guest's session would survive."""

    async def scenario() -> None:
        async with stage("early") as world:
            move(world, "early", "there")
            assert (await end(world, "there")).kind == "moved"
            await trio.sleep(11.0)
            changes, line = watched(world, "B"), len(world.log)
            move(world, mode, "back", "B", "A")
            assert (await end(world, "back", "B", "A")).kind == "kept"
            entry = world.entry("B", "back", Role.SOURCE)
            assert entry is not None
            assert "plan a fence" in entry.why
            assert [one.partition(" at ")[0] for one in entry.history] == OFF
            assert world.entry("A", "back", Role.DESTINATION) is None
            assert changes() == []
            assert [one for one in world.log.text.splitlines()[line:] if "VM vm is" in one] == []

    play(scenario)


@pytest.mark.parametrize("mode", MODES)
def test_a_policy_that_does_not_allow_trust(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with stage(mode, trust=True) as world:
            monkeypatch.setattr(world.hosts["B"], "_policy", Policy(trust=False))
            changes, line = watched(world, "B"), len(world.log)
            move(world, mode)
            assert (await end(world)).kind == "kept"
            assert (phase(world, "B"), path(world, "A"), changes()) == ("declined", NOT_STOPPED[mode], [])
            assert "trust" in why(world, "B")
            assert why(world, "A") == why(world, "B")
            assert world.admin("A", "eth0", 0).trust is True
            assert_untouched(world, line)

    play(scenario)
