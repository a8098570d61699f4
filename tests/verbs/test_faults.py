# SPDX-License-Identifier: Apache-2.0
"""Every fault ends in "complete" or "exactly as before"; where it cannot, a person is told and nothing is lost."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.verbs.cases import FENCES, FENCES_AGAIN, LEARNING, PROBES, RESTORES, UNFENCES, Case, World
from tests.verbs.world import context_of, settings, shown
from vferry.core.errors import FailedError, PersonNeededError, RefusedError
from vferry.core.fence import is_parking_mac
from vferry.core.model import Attribute
from vferry.core.undo import IdentityChangedError
from vferry.ports.journal import JournalError
from vferry.testing import (
    IGB_LIKE,
    CrashingJournal,
    CrashPoints,
    ErrnoFault,
    Fault,
    FaultNic,
    HiddenFault,
    IgnoredFault,
    LossyProtocolFault,
    MemoryJournal,
    ReloadFault,
    ResetFault,
    ShortReadingFault,
    SimClock,
    SlowFault,
    VanishFault,
    seeded_faults,
)
from vferry.testing.strategies import faults as any_faults
from vferry.verbs.context import Context, Patience
from vferry.verbs.pending import sweep

CASES = (RESTORES[2], RESTORES[3], LEARNING, FENCES[2], FENCES[3], *FENCES_AGAIN, *UNFENCES, *PROBES)

EVERY_CALL = (RESTORES[2], LEARNING, FENCES[3], FENCES_AGAIN[1], UNFENCES[0], PROBES[0])
"""Those that are struck at each of their calls, one after the other; the seeds reach the others too."""

COMPLETE, AS_BEFORE, PERSON = "complete", "as before", "person needed"

EXPECTED: dict[str, object] = {str(case): case.new_settings() for case in CASES}
BEFORE: dict[str, tuple[bytes, bytes]] = {
    str(case): (world.nic.snapshot(), world.journal.snapshot()) for case in CASES for world in [case.make()]
}
OLD: dict[str, object] = {str(case): settings(case.make().nic) for case in CASES}

KINDS: dict[str, Callable[[int], Fault]] = {
    "busy": lambda at: ErrnoFault(at_call=at, times=3, number=errno.EAGAIN),
    "busy for ever": lambda at: ErrnoFault(at_call=at, times=None, number=errno.EBUSY),
    "refused once": lambda at: ErrnoFault(at_call=at, number=errno.EINVAL),
    "refused for good": lambda at: ErrnoFault(at_call=at, times=None, number=errno.EPERM),
    "one VF refused": lambda at: ErrnoFault(pf="eth0", vf=3, at_call=at, number=errno.EINVAL),
    "trust refused": lambda at: ErrnoFault(at_call=at, attribute=Attribute.TRUST, number=errno.EINVAL),
    "reading busy": lambda at: ErrnoFault(method="read", at_call=at, times=3, number=errno.EAGAIN),
    "reading fails": lambda at: ErrnoFault(method="read", at_call=at, times=None, number=errno.EIO),
    "list fails": lambda at: ErrnoFault(method="pfs", at_call=at, times=None, number=errno.EIO),
    "facts fail": lambda at: ErrnoFault(method="vfs", at_call=at, times=None, number=errno.EIO),
    "PCI words fail": lambda at: ErrnoFault(method="write_pci", at_call=at, number=errno.EIO),
    "short reading": lambda at: ShortReadingFault(at_call=at, times=2),
    "short readings": lambda at: ShortReadingFault(at_call=at, times=None),
    "MAC hidden": lambda at: HiddenFault(attribute=Attribute.MAC, at_call=at),
    "trust hidden": lambda at: HiddenFault(attribute=Attribute.TRUST, at_call=at),
    "MAC ignored": lambda at: IgnoredFault(attribute=Attribute.MAC, at_call=at),
    "MAC ignored once": lambda at: IgnoredFault(attribute=Attribute.MAC, at_call=at, times=1),
    "trust ignored": lambda at: IgnoredFault(attribute=Attribute.TRUST, at_call=at),
    "protocol lost": lambda at: LossyProtocolFault(at_call=at),
    "late, carried out": lambda at: SlowFault(at_call=at, seconds=30, deadline=1),
    "late, half carried out": lambda at: SlowFault(at_call=at, seconds=30, deadline=1, applied=1),
    "late, not carried out": lambda at: SlowFault(at_call=at, seconds=30, deadline=1, applied=0),
    "slow": lambda at: SlowFault(at_call=at, seconds=0.4, deadline=1, times=None),
    "reset by MAC": lambda at: ResetFault(attribute=Attribute.MAC, at_call=at, busy=3),
    "gone": lambda at: VanishFault(at_call=at),
    "one VF gone": lambda at: VanishFault(pf="eth0", vf=3, at_call=at, times=20),
}

PATIENCE = Patience(busy=3.0)
"""Long enough for what passes; less to wait for than the default."""

HARMLESS = {"busy", "reading busy", "short reading", "slow", "reset by MAC", "late, carried out"}
"""Patience overcomes these, wherever they strike."""


def run(case: Case, faults: Sequence[Fault]) -> tuple[str, World, FaultNic]:
    world, clock = case.make(), SimClock()
    nic = FaultNic(world.nic, faults, clock=clock)
    try:
        case.run(Context(nic, MemoryJournal(world.journal.storage), clock, PATIENCE))
    except PersonNeededError as error:
        return PERSON if error.next_step else "no next step", world, nic
    except (FailedError, RefusedError):
        return AS_BEFORE, world, nic
    return COMPLETE, world, nic


Message = Callable[[], str]


def check(case: Case, faults: Sequence[Fault]) -> str:
    """Run with faults and prove that the end is one of the three."""
    what, world, nic = run(case, faults)
    message: Message = lambda: f"{case}: {what} with {faults}; struck: {nic.struck}"  # noqa: E731 -- only where it fails
    if what == COMPLETE:
        assert settings(world.nic) == EXPECTED[str(case)] or could_not_be_seen(nic), message()
        assert not world.journal.records() or case.stays_on_record, message()
    elif what == AS_BEFORE:
        assert world.nic.snapshot() == BEFORE[str(case)][0], message()
        assert world.journal.snapshot() == BEFORE[str(case)][1], message()
        assert is_parking_mac(shown(world.nic, case.refs[0]).mac) or case not in FENCES_AGAIN, message()
    else:
        check_way_out(case, world, message)
        _, twin, _ = run(case, faults)
        check_way_back(case, twin, message)
    return what


def could_not_be_seen(nic: FaultNic) -> bool:
    """The driver ignored a setting that it does not show."""
    kinds = {type(fault) for _, fault in nic.struck}
    return {HiddenFault, IgnoredFault} <= kinds


def check_way_out(case: Case, world: World, message: Message) -> None:
    """Once the fault is gone, the same command completes it."""
    assert world.journal.records(), message()
    with contextlib.suppress(RefusedError):  # an unfence that was over already
        case.run(context_of(world.nic, MemoryJournal(world.journal.storage)))
    sweep(context_of(world.nic, world.journal))
    assert settings(world.nic) == EXPECTED[str(case)], message()
    assert all(record.completed for record in world.journal.records()), message()


def check_way_back(case: Case, world: World, message: Message) -> None:
    """Once the fault is gone, its undo takes it back."""
    if case.undo is None:
        return
    case.recover_by_undo(context_of(world.nic, MemoryJournal(world.journal.storage)))
    assert settings(world.nic) == OLD[str(case)], message()
    assert all(record.completed for record in world.journal.records()), message()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", EVERY_CALL, ids=str)
def test_every_fault_at_every_call(case: Case, kind: str) -> None:
    _, _, undisturbed = run(case, ())
    calls = len(undisturbed.calls)
    positions = range(1, calls + 1, 1 if calls < 50 else 11)  # a probe makes a hundred calls, much alike
    found = {check(case, [KINDS[kind](at)]) for at in (*positions, calls + 1)}
    if kind in HARMLESS:
        assert found == {COMPLETE}
    assert COMPLETE in found, "a fault that comes too late is none"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_faults_by_seed(case: Case) -> None:
    found = {check(case, seeded_faults(seed, vfs=(1, 2, 3, 4), calls=30)) for seed in range(30)}
    assert {COMPLETE, AS_BEFORE} <= found or case in PROBES


@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=st.sampled_from(CASES), faults=st.lists(any_faults(vfs=(1, 2, 3, 4), calls=40), max_size=4))
def test_any_faults_together(case: Case, faults: list[Fault]) -> None:
    try:
        check(case, faults)
    except IdentityChangedError:  # VFs that vanished before they were recorded, and came back after
        assert any(isinstance(fault, VanishFault) for fault in faults)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_driver_that_is_reloaded_at_any_call(case: Case) -> None:
    """Nothing more is sent to the VFs' new life once the first record is written."""
    _, _, undisturbed = run(case, ())
    found = set()
    for at in range(1, len(undisturbed.calls) + 1):
        fault = ReloadFault(at_call=at, defaults=IGB_LIKE.defaults)
        world, clock = case.make(), SimClock()
        nic = FaultNic(world.nic, [fault], clock=clock)
        before = world.journal.snapshot()
        points = CrashPoints()
        journal = CrashingJournal(MemoryJournal(world.journal.storage), points)
        try:
            case.run(Context(nic, journal, clock))
        except IdentityChangedError:
            assert world.journal.records()
            what = PERSON
        except (FailedError, RefusedError):
            assert world.journal.snapshot() == before
            what = AS_BEFORE
        else:
            what = COMPLETE
        found.add(what)
        wrote = [number for number, step in enumerate(points.steps) if "after put" in step]
        if what == PERSON and wrote:
            sent = [number for number, call in enumerate(nic.calls, 1) if call == "program" and number > at]
            assert not sent, f"sent after the reload at call {at}: {nic.calls}"
    assert PERSON in found


class FullDisk(MemoryJournal):
    """Fails at some of its writes, counted from 1."""

    def __init__(self, inner: MemoryJournal, failing: range) -> None:
        super().__init__(inner.storage)
        self.writes = 0
        self._failing = failing

    def _write(self, what: str, key: object) -> None:
        self.writes += 1
        if self.writes in self._failing:
            raise JournalError(what, why="no space left on the simulated disk")


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("length", [1, 1000], ids=["one write fails", "no write succeeds from then on"])
def test_a_journal_that_fails_at_every_write(case: Case, length: int) -> None:
    at, found = 1, set()
    while True:
        world = case.make()
        journal = FullDisk(world.journal, range(at, at + length))
        message = f"{case}: write {at}"
        try:
            case.run(Context(world.nic, journal, SimClock()))
        except PersonNeededError:
            found.add(PERSON)
            assert settings(world.nic) in (EXPECTED[str(case)], OLD[str(case)]), message
            check_way_out(case, world, lambda text=message: text)  # type: ignore[misc]
        except FailedError:
            found.add(AS_BEFORE)
            assert world.nic.snapshot() == BEFORE[str(case)][0], message
            assert world.journal.snapshot() == BEFORE[str(case)][1], message
        else:
            found.add(COMPLETE)
            assert settings(world.nic) == EXPECTED[str(case)], message
            sweep(context_of(world.nic, world.journal))
            assert all(record.completed for record in world.journal.records()), message
        if journal.writes < at:
            break
        at += 1
    assert COMPLETE in found
    assert AS_BEFORE in found


class BugError(RuntimeError):
    """A programming error in an adapter."""


class BuggyNic(FaultNic):
    """Breaks at one of its calls."""

    def __init__(self, inner: FaultNic, at: int) -> None:
        super().__init__(inner.inner)
        self._at = at

    def _enter(self, method: str) -> None:
        super()._enter(method)
        if len(self.calls) == self._at:
            raise BugError(method)


@pytest.mark.parametrize("case", [RESTORES[2], FENCES[2], *FENCES_AGAIN, PROBES[0]], ids=str)
def test_a_programming_error_in_the_middle_is_taken_back_too(case: Case) -> None:
    _, _, undisturbed = run(case, ())
    raised = 0
    for at in range(1, len(undisturbed.calls) + 1):
        world = case.make()
        try:
            case.run(Context(BuggyNic(FaultNic(world.nic), at), MemoryJournal(world.journal.storage), SimClock()))
        except PersonNeededError:  # it was in the undo itself
            assert world.journal.records()
            case.run(context_of(world.nic, world.journal))
            assert settings(world.nic) == EXPECTED[str(case)]
            raised += 1
        except BugError:
            raised += 1
            if world.nic.snapshot() != BEFORE[str(case)][0]:
                assert settings(world.nic) == EXPECTED[str(case)], f"{at}: {undisturbed.calls[at - 1]}"
            else:
                assert world.journal.snapshot() == BEFORE[str(case)][1]
    assert raised >= len(undisturbed.calls) - 2
