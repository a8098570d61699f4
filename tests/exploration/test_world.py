# SPDX-License-Identifier: Apache-2.0
"""The abstract world: what each act does, and what a side is allowed to see."""

from __future__ import annotations

import pytest

from vferry.core.migration.phases import Act, DestinationPhase, Event, Role, SourcePhase
from vferry.core.migration.recovery import RegistrySays
from vferry.core.migration.tables import TABLES, Order
from vferry.testing.exploration.acts import ACTS, View
from vferry.testing.exploration.invariants import Invariants
from vferry.testing.exploration.sides import OneSide, Recovery
from vferry.testing.exploration.world import (
    ENTRY_SAYS,
    LETTING_GO,
    SHARED,
    SHARED_END,
    Change,
    Entry,
    Process,
    Sent,
    Shared,
    Side,
    State,
    Vm,
    changed,
    describe,
    initial,
    number_of,
    parts,
)

ACTS_THAT_ARE_USED = {step.act for table in TABLES.values() for step in table.values()}


def source(phase: SourcePhase, **fields: int) -> Side:
    return parts(initial(2))[0]._replace(phase=number_of(phase), **fields)


def view(side: Side, shared: Shared, *knows: Event, cold: bool = False) -> View:
    return View(Role.SOURCE, side, shared, frozenset(knows), 2, cold)


def test_every_act_has_steps() -> None:
    assert set(ACTS) == ACTS_THAT_ARE_USED == set(Act)


def test_parts_put_together_are_the_state() -> None:
    state = initial(2)
    a, shared, b = parts(state)
    assert (*a, *shared, *b) == state
    assert state[SHARED:SHARED_END] == shared


def test_registry_is_changed_by_the_real_functions() -> None:
    assert changed(Entry.SOURCES, Change.OPEN) == Entry.OPEN
    assert changed(Entry.OPEN, Change.COMMIT) == Entry.COMMITTED
    assert changed(Entry.OPEN, Change.RECALL) == Entry.ABORTING
    assert changed(Entry.ABORTING, Change.COMMIT) is None
    assert changed(Entry.ABORTING, Change.SETTLE_ON_SOURCE) == Entry.SOURCES
    assert changed(Entry.COMMITTED, Change.SETTLE_ON_SOURCE) == Entry.SOURCES
    assert changed(Entry.COMMITTED, Change.SETTLE_ON_DESTINATION) == Entry.DESTINATIONS
    assert changed(Entry.COMMITTED, Change.RECALL) is None
    assert changed(Entry.DESTINATIONS, Change.SETTLE_ON_SOURCE) is None


def test_entries_are_what_recovery_calls_them() -> None:
    expected = ("source's", "open", "aborting", "committed", "destination's")
    assert tuple(RegistrySays(value) for value in expected) == ENTRY_SAYS


def test_a_crash_may_fall_between_two_vfs() -> None:
    side = source(SourcePhase.FENCE)
    shared = Shared(Vm.STOPPED, Vm.INCOMING, Entry.OPEN, 0, Sent.OFFER | Sent.ACCEPT, 0)
    first = next(ACTS[Act.FENCE](view(side, shared)))
    assert (first.side.receiving, first.side.parked, first.event) == (1, 1, None)
    second = next(ACTS[Act.FENCE](view(first.side, shared)))
    assert (second.side.receiving, second.side.parked, second.event) == (0, 2, None)
    assert next(ACTS[Act.FENCE](view(second.side, shared))).event is Event.DONE


def test_a_change_of_the_entry_ends_what_is_late() -> None:
    late = Change.COMMIT
    shared = Shared(Vm.STOPPED, Vm.INCOMING, Entry.OPEN, late, Sent.OFFER, 0)
    moves = list(ACTS[Act.ABORT](view(source(SourcePhase.ABORT), shared)))
    assert [(move.shared.entry, move.shared.late) for move in moves] == [
        (Entry.SOURCES, 0),
        (Entry.OPEN, late | Change.SETTLE_ON_SOURCE),
    ]


def one_side() -> OneSide:
    table = TABLES[Order.DEVICE_STATE, Role.SOURCE]
    return OneSide(Order.DEVICE_STATE, Role.SOURCE, table, acts=ACTS, vfs=2, recovery=Recovery())


def test_a_host_that_crashes_loses_its_vm_and_is_silent() -> None:
    side = source(SourcePhase.PRECOPY)
    shared = Shared(Vm.COPYING, Vm.INCOMING, Entry.OPEN, 0, Sent.OFFER | Sent.ACCEPT, 0)
    (crash,) = [move for move in one_side().next(side, shared) if move.what == "the host crashes"]
    assert crash.fault
    assert crash.shared.source_vm == Vm.ABSENT
    assert (crash.side.receiving, crash.side.parked, crash.side.process) == (0, 0, Process.HOST_DOWN)
    assert crash.side.phase == side.phase


def test_a_message_arrives_only_where_the_phase_knows_it() -> None:
    shared = Shared(Vm.RUNNING, Vm.INCOMING, Entry.OPEN, 0, Sent.OFFER | Sent.ACCEPT | Sent.READY, 0)
    whats = {move.what for move in one_side().next(source(SourcePhase.OFFER), shared)}
    assert "accepted: journals pre-copy" in whats
    assert not any(what.startswith("ready") for what in whats)


def broken(state: State, order: Order = Order.DEVICE_STATE) -> str | None:
    return Invariants(order, 2).broken(state)


def put(state: State, **fields: int) -> State:
    """Change fields: ``a_`` and ``b_`` are the sides', the others are shared."""
    a, shared, b = parts(state)
    for name, value in fields.items():
        if name.startswith("a_"):
            a = a._replace(**{name[2:]: value})
        elif name.startswith("b_"):
            b = b._replace(**{name[2:]: value})
        else:
            shared = shared._replace(**{name: value})
    return (*a, *shared, *b)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({}, None),
        ({"destination_vm": Vm.RUNNING}, "two VMs run"),
        ({"b_receiving": 1}, "both hosts receive for the VM"),
        ({"b_standby": 1}, "both hosts receive for the VM"),
        ({"entry": Entry.COMMITTED}, "the VM runs on a host that does not own it"),
        ({"a_phase": number_of(SourcePhase.AWAIT)}, "the source receives while it is undecided"),
        ({"a_receiving": 0, "b_receiving": 1}, "the destination receives before it may"),
        ({"source_vm": Vm.ABSENT}, "no complete VM is left, and no host has crashed"),
        ({"a_phase": number_of(SourcePhase.KEPT), "a_receiving": 1}, "the source is over, and not as it must be"),
        ({"a_receiving": 0}, "the VM runs, and nothing receives for it"),
        ({"a_process": Process.ALARMED}, "a side is blocked or alarmed without need"),
    ],
)
def test_each_broken_state_is_named(fields: dict[str, int], what: str | None) -> None:
    assert broken(put(initial(2), **fields)) == what


@pytest.mark.parametrize(("plugged", "wrong"), [(1, False), (0, True), (LETTING_GO, True)])
def test_a_guest_that_may_still_let_go_is_not_as_before(plugged: int, wrong: bool) -> None:
    state = put(initial(2), a_phase=number_of(SourcePhase.KEPT), a_plugged=plugged)
    assert (broken(state, Order.FAILOVER) == "the source is over, and not as it must be") is wrong


def test_a_commit_is_looked_at_when_it_happens() -> None:
    before = put(initial(2), entry=Entry.OPEN, source_vm=Vm.SWITCHED, destination_vm=Vm.HELD, a_receiving=0)
    after = put(before, entry=Entry.COMMITTED)
    invariants = Invariants(Order.DEVICE_STATE, 2)
    assert invariants.broken_by(before, after) is None
    assert invariants.broken_by(put(before, a_receiving=1), after) == "committed while the source receives"
    assert invariants.broken_by(put(before, destination_vm=Vm.INCOMING), after) == "committed, and the VM is not held"


def test_a_complete_vm_is_not_given_up_without_a_fault() -> None:
    held = put(
        initial(2),
        a_phase=number_of(SourcePhase.SWITCH),
        a_receiving=0,
        b_phase=number_of(DestinationPhase.READY),
        source_vm=Vm.ABSENT,
        destination_vm=Vm.HELD,
        entry=Entry.OPEN,
    )
    gives_up = Invariants(Order.DEVICE_STATE, 2).gives_up
    assert gives_up(held, put(held, a_phase=number_of(SourcePhase.AWAIT))) is None
    assert gives_up(held, put(held, a_phase=number_of(SourcePhase.ABORT))) == "the last complete VM is given up"
    assert gives_up(held, put(held, b_phase=number_of(DestinationPhase.SILENCE))) == "the last complete VM is given up"
    two = put(held, source_vm=Vm.SWITCHED)
    assert gives_up(two, put(two, a_phase=number_of(SourcePhase.ABORT))) is None
    assert gives_up(two, put(two, source_vm=Vm.ABSENT)) is None


@pytest.mark.parametrize(("event", "plugged"), [(Event.TIMEOUT, LETTING_GO), (Event.CANCEL, LETTING_GO)])
def test_a_guest_that_was_asked_lets_go_later(event: Event, plugged: int) -> None:
    table = TABLES[Order.FAILOVER, Role.SOURCE]
    side = OneSide(Order.FAILOVER, Role.SOURCE, table, acts=ACTS, vfs=2, recovery=Recovery())
    shared = Shared(Vm.RUNNING, Vm.INCOMING, Entry.OPEN, 0, Sent.OFFER | Sent.ACCEPT, 0)
    asked = source(SourcePhase.UNPLUG, plugged=plugged)
    (over,) = [move for move in side.next(asked, shared) if move.what == f"{event.value}: journals abort"]
    assert over.side.plugged == LETTING_GO
    later = {move.side.plugged for move in side.next(over.side, shared) if move.what.startswith("the guest")}
    assert later == {0, 1}


@pytest.mark.parametrize(("receiving", "event"), [(2, Event.DONE), (1, Event.FAILED), (0, Event.FAILED)])
def test_what_was_programmed_early_is_read_back(receiving: int, event: Event) -> None:
    now = view(source(SourcePhase.CLAIM, receiving=receiving), Shared(0, Vm.HELD, Entry.COMMITTED, 0, 0, 0))
    first = next(ACTS[Act.ACTIVATE_LOADED](now))
    assert (first.event, first.fault) == (event, False)


@pytest.mark.parametrize("phase", [SourcePhase.UNFENCE, SourcePhase.RESUME])
def test_a_registry_that_does_not_answer_is_asked_again(phase: SourcePhase) -> None:
    side = source(phase, process=Process.CRASHED)
    shared = Shared(Vm.PAUSED, Vm.ABSENT, Entry.SOURCES, 0, 0, 0)
    first = next(move for move in one_side().next(side, shared) if move.side.seen)
    again = [move for move in one_side().next(first.side, shared) if move.what.startswith("the registry does not")]
    assert [(move.side, move.fault) for move in again] == [(side, False)]


def test_a_state_in_words() -> None:
    text = describe(put(initial(2), a_process=Process.CRASHED, sent=Sent.OFFER | Sent.FINAL, entry=Entry.OPEN))
    assert text == (
        "A claim (crashed): 2 receiving, 0 parked, VM running | B -: 0 receiving, 0 parked, VM absent"
        " | registry open | sent offer+final"
    )
