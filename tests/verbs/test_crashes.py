# SPDX-License-Identifier: Apache-2.0
"""Killed between any two steps: the same command again, or its undo, ends in the new state or in the old one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.verbs.cases import (
    FENCES,
    FENCES_AGAIN,
    LEARNING,
    PROBES,
    RELEASES,
    RESTORES,
    TWO_PFS,
    UNFENCES,
    Case,
    World,
)
from tests.verbs.world import FENCE, context_of, pairs_of, record_of, settings, shown, source, tables_of, terms_of
from vferry.core.fence import is_parking_mac
from vferry.core.undo import IdentityChangedError, UndoKind
from vferry.testing import IGB_LIKE, RESETTING, Crash, CrashPoints, MemoryJournal
from vferry.verbs.context import Context
from vferry.verbs.doctor import examine
from vferry.verbs.fence import fence
from vferry.verbs.pending import sweep
from vferry.verbs.release import release
from vferry.verbs.restore import restore

ALL = (*RESTORES, LEARNING, *FENCES, *FENCES_AGAIN, *UNFENCES, *RELEASES, *PROBES)
UNDONE = tuple(case for case in ALL if case.undo is not None)
SMALL = (RESTORES[0], RESTORES[2], FENCES[0], FENCES[2], *FENCES_AGAIN, UNFENCES[0])

Recovery = Callable[[Context], object]


def live(world: World, points: CrashPoints | None = None) -> Context:
    """A process that finds what the last one left."""
    return context_of(world.nic, MemoryJournal(world.journal.storage), points=points)


def crashed_worlds(case: Case) -> Iterator[tuple[World, str]]:
    """The world after a crash at every step of an undisturbed run, and what that step was."""
    yield from crashes(case.make, case.run)


def crashes(make: Callable[[], World], run: Recovery) -> Iterator[tuple[World, str]]:
    at = 1
    while True:
        world, points = make(), CrashPoints(at)
        try:
            run(live(world, points))
        except Crash:
            yield world, f"step {at}: {points.steps[-1]}"
        if not points.crashed:
            return
        at += 1


def assert_new(case: Case, world: World, where: str, expected: object) -> None:
    assert settings(world.nic) == expected, where
    sweep(live(world))
    records = world.journal.records()
    if case.stays_on_record:
        assert {(one.kind, one.completed) for one in records} == {(UndoKind.FENCE, True)}, where
        assert len(records) == len(case.refs), where
    else:
        assert records == (), where


@pytest.mark.parametrize("case", ALL, ids=str)
def test_the_same_command_again_completes_it(case: Case) -> None:
    expected = case.new_settings()
    count = 0
    for world, where in crashed_worlds(case):
        case.run(live(world))
        assert_new(case, world, where, expected)
        count += 1
    assert count >= 4


@pytest.mark.parametrize("case", [case for case in UNDONE if case not in UNFENCES], ids=str)
def test_its_undo_takes_it_back(case: Case) -> None:
    before, expected = case.make(), case.new_settings()
    old = before.nic.snapshot()
    ended_before = 0
    for world, where in crashed_worlds(case):
        case.recover_by_undo(live(world))
        sweep(live(world))
        assert world.journal.records() == (), where
        if settings(world.nic) == expected:
            assert "remove" in where, f"{where}: only a change that was over already may stay"
            ended_before += 1
        else:
            assert world.nic.snapshot() == old, where
    assert ended_before <= 2 * len(case.refs)


@pytest.mark.parametrize("case", UNFENCES, ids=str)
def test_an_interrupted_unfence_can_be_fenced_again(case: Case) -> None:
    fenced_settings = settings(case.make().nic)
    for world, where in crashed_worlds(case):
        assert case.undo is not None
        case.undo(live(world))
        assert settings(world.nic) == fenced_settings, where
        assert all(record.completed for record in world.journal.records()), where


@pytest.mark.parametrize("case", UNFENCES, ids=str)
def test_no_record_says_fenced_while_its_vf_is_not(case: Case) -> None:
    """The other way round is allowed: a fence that is not known as complete."""
    for world, where in crashed_worlds(case):
        for record in world.journal.records():
            if record.completed:
                ref = next(ref for ref in case.refs if str(ref) == f"{record.identity.pf}/{record.key.index}")
                assert is_parking_mac(shown(world.nic, ref).mac), where


@pytest.mark.parametrize("case", FENCES_AGAIN, ids=str)
def test_a_standing_fence_stands_through_every_crash(case: Case) -> None:
    for world, where in crashed_worlds(case):
        assert is_parking_mac(shown(world.nic, case.refs[0]).mac), where


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_a_crash_during_the_recovery_too(case: Case) -> None:
    """Every pair of steps: crash, the same command again crashes, the same command again."""
    expected = case.new_settings()
    steps = len(list(crashed_worlds(case)))
    for first in range(1, steps + 1):

        def once_crashed(first: int = first) -> World:
            world = case.make()
            with pytest.raises(Crash):
                case.run(live(world, CrashPoints(first)))
            return world

        for world, where in crashes(once_crashed, case.run):
            case.run(live(world))
            assert_new(case, world, f"after step {first}, {where}", expected)


@pytest.mark.parametrize("case", [case for case in SMALL if case.undo is not None and case not in UNFENCES], ids=str)
def test_a_crash_during_the_undo_too(case: Case) -> None:
    """Every pair of steps: crash, the undo crashes; then the undo again, or the command again."""
    old, expected = settings(case.make().nic), case.new_settings()
    steps = len(list(crashed_worlds(case)))
    for first in range(1, steps + 1):

        def once_crashed(first: int = first) -> World:
            world = case.make()
            with pytest.raises(Crash):
                case.run(live(world, CrashPoints(first)))
            return world

        for world, where in crashes(once_crashed, case.recover_by_undo):
            twin = World(world.nic, MemoryJournal(dict(world.journal.storage)))
            case.recover_by_undo(live(twin))
            assert settings(twin.nic) in (old, expected), f"after step {first}, {where}"
            sweep(live(twin))
            assert twin.journal.records() == (), f"after step {first}, {where}"
        for world, where in crashes(once_crashed, case.recover_by_undo):
            case.run(live(world))
            assert_new(case, world, f"after step {first}, {where}", expected)


@pytest.mark.parametrize("case", [*RESTORES[:3], *FENCES[:3], *UNFENCES], ids=str)
@pytest.mark.parametrize("reboot", [False, True], ids=["reloaded", "rebooted"])
def test_a_driver_that_was_reloaded_stops_both_ways(case: Case, reboot: bool) -> None:
    """What was set is gone; neither way may act on it, and ``release`` ends it."""
    tables = tables_of(case.make().nic, IGB_LIKE)
    for world, where in crashed_worlds(case):
        if sweep(live(world)) == ():
            continue
        if reboot:
            world.nic.reboot()
        else:
            for pf in ("eth0", "eth1"):
                world.nic.reload_driver(pf)
        after, undo_records = world.nic.snapshot(), world.journal.snapshot()
        for way in (case.run, case.undo):
            assert way is not None
            with pytest.raises(IdentityChangedError) as changed:
                way(live(world))
            assert changed.value.changes, where
            assert "vferry release" in changed.value.next_step
            assert world.nic.snapshot() == after, where
            assert world.journal.snapshot() == undo_records, where
        codes = {finding.code for finding in examine(live(world), tables)}
        assert codes & {"record-of-another-boot", "record-of-another-life"}, where
        release(live(world), case.refs, tables)
        assert world.journal.records() == ()


@pytest.mark.parametrize("case", [*RESTORES, *FENCES], ids=str)
def test_the_doctor_names_what_was_interrupted(case: Case) -> None:
    for world, where in crashed_worlds(case):
        found = {finding.code for finding in examine(live(world), ())}
        open_records = sweep(live(world))
        assert ("interrupted" in found) == any(not record.completed for record in open_records), where
        assert "parked-without-record" not in found, where


def test_a_restore_that_died_while_it_ended_blocks_nobody() -> None:
    """The lead's record is gone, another's is left: that transaction is over."""
    case = RESTORES[2]
    left = next(world for world, where in crashed_worlds(case) if "after remove" in where)
    assert len(left.journal.records()) == 1
    fence(live(left), case.refs, FENCE)
    assert all(record.kind is UndoKind.FENCE for record in left.journal.records())
    left = next(world for world, where in crashed_worlds(case) if "after remove" in where)
    release(live(left), case.refs, ())
    assert left.journal.records() == ()


def test_another_record_may_be_restored_after_a_crash_at_any_step() -> None:
    """Nothing of the first record is left where the second one does not speak of it."""
    case = RESTORES[2]
    other_home = source(RESETTING, TWO_PFS)
    record = record_of(other_home, TWO_PFS, vm="other")
    terms = terms_of(case.make().nic, IGB_LIKE)
    undisturbed = case.make()
    restore(live(undisturbed), record, pairs_of(record, TWO_PFS), terms)
    for world, where in crashed_worlds(case):
        restore(live(world), record, pairs_of(record, TWO_PFS), terms)
        assert settings(world.nic) == settings(undisturbed.nic), where
        assert world.journal.records() == (), where
