# SPDX-License-Identifier: Apache-2.0
"""The tables, walked: what every order and role has in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vferry.core.fence import Mode
from vferry.core.migration.machine import IllegalEventError, Machine
from vferry.core.migration.messages import Abort, Accept, Final, Finished, Message, Ready, Refuse, event_of
from vferry.core.migration.phases import Act, DestinationPhase, Event, Phase, Role, SourcePhase
from vferry.core.migration.tables import FINAL_PHASES, TABLES, Order, first_phase, order_of

S, D, E = SourcePhase, DestinationPhase, Event
EVERY = [pytest.param(order, role, id=f"{order.name.lower()}-{role.value}") for order, role in TABLES]
ORDERS = [pytest.param(order, id=order.name.lower()) for order in Order]


def reachable(order: Order, role: Role, *, without: frozenset[Phase] = frozenset()) -> set[Phase]:
    """Return the phases that are reached from the first, going around some."""
    seen: set[Phase] = {first_phase(role)}
    todo = list(seen)
    while todo:
        step = TABLES[order, role].get(todo.pop())
        for after in step.on.values() if step else ():
            if after not in seen | without:
                seen.add(after)
                todo.append(after)
    return seen


def into(order: Order, phase: Phase) -> Iterator[tuple[Phase, Event]]:
    """Yield what leads into a phase from others."""
    role = Role.SOURCE if isinstance(phase, SourcePhase) else Role.DESTINATION
    for before, step in TABLES[order, role].items():
        yield from ((before, event) for event, after in step.on.items() if after is phase is not before)


@pytest.mark.parametrize(("order", "role"), EVERY)
def test_every_phase_of_a_table_is_reached_and_comes_to_an_end(order: Order, role: Role) -> None:
    table = TABLES[order, role]
    seen = reachable(order, role)
    assert seen - set(table) <= FINAL_PHASES
    assert set(table) <= seen
    assert not set(table) & FINAL_PHASES


@pytest.mark.parametrize(("order", "role"), EVERY)
def test_a_phase_belongs_to_its_role(order: Order, role: Role) -> None:
    kind = SourcePhase if role is Role.SOURCE else DestinationPhase
    assert all(isinstance(phase, kind) for phase in reachable(order, role))


@pytest.mark.parametrize(("order", "role"), EVERY)
def test_every_phase_can_go_on_after_a_crash(order: Order, role: Role) -> None:
    assert all(E.RESTARTED in step.on for step in TABLES[order, role].values())
    assert all(E.VM_GONE in step.on for step in TABLES[order, role].values())


def test_every_word_is_used() -> None:
    phases = {phase for order, role in TABLES for phase in reachable(order, role)}
    assert phases == {*SourcePhase, *DestinationPhase}
    assert {step.act for table in TABLES.values() for step in table.values()} == set(Act)
    assert {event for table in TABLES.values() for step in table.values() for event in step.on} == set(Event)


@pytest.mark.parametrize("order", ORDERS)
def test_nothing_is_handed_over_before_the_fence(order: Order) -> None:
    seen = reachable(order, Role.SOURCE, without=frozenset({S.FENCE}))
    assert not seen & {S.HANDOVER, S.SWITCH}
    if order is Order.FAILOVER:
        assert S.HANDOVER not in reachable(order, Role.SOURCE, without=frozenset({S.LEAVE}))


@pytest.mark.parametrize("order", ORDERS)
def test_the_source_comes_back_only_when_the_registry_says_so(order: Order) -> None:
    back = S.REJOIN if order is Order.FAILOVER else S.UNFENCE
    reads = {Act.ABORT, Act.RECALL, Act.WATCH}
    for before, event in into(order, back):
        assert TABLES[order, Role.SOURCE][before].act in reads
        assert event in {E.DONE, E.ABORTED}


def test_where_the_mac_was_programmed_early_the_source_waits_for_silence() -> None:
    after_handover = {S.HANDOVER, S.SWITCH, S.AWAIT, S.RECALL, S.RETRACT}
    for phase in after_handover:
        assert S.ABORT not in TABLES[Order.DEVICE_STATE_EARLY, Role.SOURCE][phase].on.values()
    assert dict(TABLES[Order.DEVICE_STATE_EARLY, Role.SOURCE][S.RECALL].on)[E.DONE] is S.RETRACT


@pytest.mark.parametrize("order", ORDERS)
def test_the_source_releases_only_what_has_arrived(order: Order) -> None:
    assert {event for _, event in into(order, S.RELEASE)} == {E.FINISHED}


@pytest.mark.parametrize("order", ORDERS)
def test_the_vm_is_activated_after_a_won_commit_and_started_after_that(order: Order) -> None:
    assert list(into(order, D.ACTIVATE)) == [(D.COMMIT, E.DONE)]
    assert list(into(order, D.START)) == [(D.ACTIVATE, E.DONE)]


@pytest.mark.parametrize("order", [order for order in Order if order is not Order.COLD])
def test_a_commit_needs_a_held_vm(order: Order) -> None:
    assert list(into(order, D.COMMIT)) == [(D.READY, E.HELD)]


@pytest.mark.parametrize("order", ORDERS)
def test_once_started_there_is_no_way_back_but_where_it_never_ran(order: Order) -> None:
    table = TABLES[order, Role.DESTINATION]
    assert [event for event, after in table[D.START].on.items() if after is D.SILENCE] == [E.FAILED]
    assert not {D.SILENCE, D.GIVE_BACK} & set(table[D.FINISH].on.values())


@pytest.mark.parametrize("order", ORDERS)
def test_nothing_is_ended_before_anything_was_made(order: Order) -> None:
    seen = reachable(order, Role.DESTINATION, without=frozenset({D.STAGE}))
    assert seen == {D.CHECK, D.GIVE_BACK, D.RETURNED, D.DECLINED}


@pytest.mark.parametrize(("order", "phase"), [(Order.COLD, S.SHUTDOWN), (Order.FAILOVER, S.UNPLUG)])
def test_a_guest_is_not_waited_for_for_ever(order: Order, phase: Phase) -> None:
    on = TABLES[order, Role.SOURCE][phase].on
    assert {on[event] for event in (E.TIMEOUT, E.CANCEL, E.FAILED)} == {S.ABORT}


@pytest.mark.parametrize("order", [order for order in Order if order is not Order.COLD])
def test_a_vm_that_waits_is_waited_for_again_after_a_restart(order: Order) -> None:
    on = TABLES[order, Role.DESTINATION][D.READY].on
    assert (on[E.RESTARTED], on[E.VM_GONE]) == (D.READY, D.SILENCE)


def test_machine_walks_its_table() -> None:
    machine = Machine.begin(Order.DEVICE_STATE, Role.SOURCE)
    assert machine.act is Act.OPEN
    assert not machine.over
    machine = machine.after(E.DONE).after(E.ACCEPTED).after(E.STOPPED).after(E.DONE)
    assert machine.phase is S.HANDOVER
    assert machine.knows(E.READY)
    assert not machine.knows(E.ACCEPTED)


def test_an_unknown_event_changes_nothing() -> None:
    machine = Machine.begin(Order.COLD, Role.DESTINATION)
    with pytest.raises(IllegalEventError, match=r"'held' means nothing in phase 'check'") as caught:
        machine.after(E.HELD)
    assert (caught.value.phase, caught.value.event) == (D.CHECK, E.HELD)


def test_a_machine_that_is_over_asks_for_nothing() -> None:
    machine = Machine(Order.COLD, Role.SOURCE, S.KEPT)
    assert machine.over
    assert machine.act is None
    assert not machine.knows(E.DONE)
    with pytest.raises(IllegalEventError):
        machine.after(E.DONE)


def test_the_answer_to_an_offer_decides_the_order() -> None:
    offered = Machine(Order.DEVICE_STATE, Role.SOURCE, S.OFFER)
    early = offered.reordered(Order.DEVICE_STATE_EARLY)
    assert early.after(E.ACCEPTED).phase is S.PRECOPY
    assert early.order is Order.DEVICE_STATE_EARLY
    with pytest.raises(KeyError):
        Machine(Order.COLD, Role.SOURCE, S.SHUTDOWN).reordered(Order.DEVICE_STATE)


@given(st.sampled_from(list(TABLES)), st.lists(st.sampled_from(list(Event)), max_size=60))
def test_any_events_leave_a_machine_in_its_table_or_over(which: tuple[Order, Role], events: list[Event]) -> None:
    machine = Machine.begin(*which)
    for event in events:
        before = machine
        machine = machine.after(event) if machine.knows(event) else machine
        assert machine.over == (machine.phase in FINAL_PHASES)
        assert (machine.act is None) == machine.over
        assert machine[:2] == before[:2]


def test_orders_of_modes() -> None:
    assert order_of(Mode.DEVICE_STATE) is Order.DEVICE_STATE
    assert order_of(Mode.DEVICE_STATE, early=True) is Order.DEVICE_STATE_EARLY
    assert order_of(Mode.FAILOVER, early=True) is Order.FAILOVER
    assert order_of(Mode.COLD) is Order.COLD


def test_messages_mean_something_only_to_whom_they_are_for() -> None:
    messages: list[Message] = [
        Accept(migration="m", uri=""),
        Refuse(migration="m", why="no"),
        Ready(migration="m"),
        Final(migration="m", record=b""),
        Abort(migration="m"),
        Finished(migration="m"),
    ]
    assert [event_of(one, Role.SOURCE) for one in messages] == [E.ACCEPTED, E.REFUSED, E.READY, None, None, None]
    assert [event_of(one, Role.DESTINATION) for one in messages] == [None, None, None, E.FINAL, E.ABORTED, None]
