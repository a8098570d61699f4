# SPDX-License-Identifier: Apache-2.0
"""The recovery's truth table: total, without a row that never fits, and careful."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vferry.core.migration.phases import DestinationPhase, Event, Phase, Role, SourcePhase
from vferry.core.migration.recovery import (
    ROWS,
    DeviceSays,
    RegistrySays,
    Verdict,
    VmSays,
    Witnesses,
    all_witnesses,
    judge,
    registry_says,
)
from vferry.core.migration.tables import FINAL_PHASES, TABLES, Order
from vferry.core.ownership import adopted, committed, opened, recalled, settled

S, D, R, V = SourcePhase, DestinationPhase, RegistrySays, VmSays


@st.composite
def witnesses(draw: st.DrawFn) -> Witnesses:
    order, role = draw(st.sampled_from(list(TABLES)))
    table = TABLES[order, role]
    phases = sorted({*table, *(after for step in table.values() for after in step.on.values())}, key=str)
    return Witnesses(
        order,
        role,
        draw(st.sampled_from(phases)),
        draw(st.sampled_from(RegistrySays)),
        draw(st.sampled_from(DeviceSays)),
        draw(st.sampled_from(VmSays)),
        draw(st.sampled_from(VmSays)),
    )


def seen(
    phase: SourcePhase | DestinationPhase,
    registry: RegistrySays,
    here: VmSays,
    *,
    order: Order = Order.DEVICE_STATE,
    device: DeviceSays = DeviceSays.SILENT,
    there: VmSays = VmSays.UNKNOWN,
) -> Witnesses:
    role = Role.SOURCE if isinstance(phase, SourcePhase) else Role.DESTINATION
    return Witnesses(order, role, phase, registry, device, here, there)


@given(witnesses())
def test_a_verdict_is_an_event_that_the_phase_knows_or_an_alarm_or_the_end(now: Witnesses) -> None:
    verdict = judge(now)
    assert verdict.why
    if verdict.event is not None:
        assert not verdict.alarm
        assert verdict.event in TABLES[now.order, now.role][now.phase].on
    else:
        assert verdict.alarm or now.phase in FINAL_PHASES


@given(witnesses())
def test_two_running_vms_are_never_gone_on_from(now: Witnesses) -> None:
    assert judge(now._replace(here=V.RUNNING, there=V.RUNNING)).event is None


@given(witnesses())
def test_what_is_over_stays_as_it_is(now: Witnesses) -> None:
    if now.phase in FINAL_PHASES:
        assert judge(now).event is None
        assert judge(now).alarm == (now.phase.value == "blocked")


@given(witnesses())
def test_another_migration_s_entry_is_left_alone(now: Witnesses) -> None:
    verdict = judge(now._replace(registry=R.OTHER))
    if verdict.event is not None:
        assert now.phase in {D.SILENCE, D.GIVE_BACK}


@given(witnesses())
def test_a_reloaded_driver_is_never_gone_on_from_while_the_entry_is_ours(now: Witnesses) -> None:
    if now.registry is not R.OTHER:
        assert judge(now._replace(device=DeviceSays.RELOADED)).event is None


@pytest.mark.slow
def test_every_row_decides_something_and_none_is_missing() -> None:
    decided = set()
    count = 0
    for now in all_witnesses():
        count += 1
        decided.add(next(number for number, row in enumerate(ROWS) if row.fits(now)))
    print(f"{count} combinations of witnesses, {len(decided)} rows")
    assert decided == set(range(len(ROWS)))


BACK = frozenset({S.UNFENCE, S.REJOIN, S.RESUME, S.REPLUG, S.KEPT})
"""The source's VM runs, or is about to, or its VFs receive again."""
FORWARD = frozenset({D.ACTIVATE, D.START, D.FINISH, D.PLUG, D.ARRIVED, D.ON_STANDBY})
DESTINATIONS = frozenset({R.COMMITTED, R.DESTINATION})
SOURCES = frozenset({R.SOURCE, R.ABORTING})


def broken_by_source(now: Witnesses, after: Phase) -> str | None:
    """Return what a source must not do, and does."""
    if now.there is V.RUNNING and now.registry not in DESTINATIONS:
        return "goes on while the VM runs on the destination"
    if after in BACK and (now.registry is not R.SOURCE or now.there is V.RUNNING):
        return "comes back while the VM may be the destination's"
    if now.registry in DESTINATIONS and (now.device is DeviceSays.RECEIVING or now.here is V.RUNNING):
        return "goes on while the VM is the destination's, and receives or runs here"
    if now.registry in DESTINATIONS and after not in {S.ABORT, S.RECALL, S.RETRACT, S.AWAIT, S.RELEASE}:
        return "goes on before the handover while the VM is the destination's"
    if after is S.RELEASE and (now.registry not in {R.DESTINATION, R.UNREACHABLE} or now.there is V.INCOMING):
        return "releases what has not arrived"
    return None


def broken_by_destination(now: Witnesses, after: Phase) -> str | None:
    """Return what a destination must not do, and does."""
    if after in FORWARD and (now.there is V.RUNNING or now.registry not in {*DESTINATIONS, R.UNREACHABLE}):
        return "goes forward while the VM may be the source's"
    if after in {D.ACTIVATE, D.START} and now.registry is not R.COMMITTED:
        return "is about to start what the registry does not say is committed"
    if after in {D.READY, D.COMMIT} and now.there is V.RUNNING and now.registry not in SOURCES:
        return "commits while the VM runs on the source"
    if now.registry in DESTINATIONS and now.phase in {D.CHECK, D.STAGE, D.INCOMING, D.PREPARE, D.READY}:
        return "goes on from a commit that it never made"
    if after is D.SILENCE and (now.here is V.RUNNING or now.phase is D.CHECK):
        return "ends a VM that runs, or that is not the migration's"
    return None


@pytest.mark.slow
def test_no_verdict_leads_towards_two_running() -> None:
    found: dict[str, Witnesses] = {}
    went_on = 0
    for now in all_witnesses():
        event = judge(now).event
        if event is None:
            continue
        went_on += 1
        after = TABLES[now.order, now.role][now.phase].on[event]
        what = (broken_by_source if now.role is Role.SOURCE else broken_by_destination)(now, after)
        if what is not None:
            found.setdefault(what, now)
    assert not found
    assert went_on > 5_000


EXAMPLES = [
    (seen(S.PRECOPY, R.OPEN, V.RUNNING, device=DeviceSays.RECEIVING), Event.VM_RUNS),
    (seen(S.SWITCH, R.OPEN, V.PAUSED), Event.RESTARTED),
    (seen(S.SWITCH, R.OPEN, V.ABSENT, device=DeviceSays.REBOOTED), Event.VM_GONE),
    (seen(S.AWAIT, R.COMMITTED, V.MIGRATED), Event.RESTARTED),
    (seen(S.AWAIT, R.COMMITTED, V.RUNNING), None),
    (seen(S.AWAIT, R.OPEN, V.MIGRATED, there=V.RUNNING), None),
    (seen(S.AWAIT, R.OPEN, V.MIGRATED, device=DeviceSays.RECEIVING), None),
    (seen(S.UNFENCE, R.OPEN, V.PAUSED), None),
    (seen(S.RELEASE, R.SOURCE, V.MIGRATED), None),
    (seen(S.AWAIT, R.ABSENT, V.MIGRATED), None),
    (seen(S.AWAIT, R.OPEN, V.UNKNOWN), None),
    (seen(S.AWAIT, R.OPEN, V.PAUSED, device=DeviceSays.REBOOTED), None),
    (seen(D.COMMIT, R.OPEN, V.PAUSED), Event.RESTARTED),
    (seen(D.COMMIT, R.COMMITTED, V.ABSENT, device=DeviceSays.REBOOTED), Event.VM_GONE),
    (seen(D.COMMIT, R.OPEN, V.PAUSED, device=DeviceSays.RECEIVING), None),
    (seen(D.ACTIVATE, R.SOURCE, V.PAUSED), Event.FAILED),
    (seen(D.START, R.COMMITTED, V.RUNNING, device=DeviceSays.RECEIVING), Event.VM_RUNS),
    (seen(D.START, R.COMMITTED, V.ABSENT, device=DeviceSays.RECEIVING), Event.VM_GONE),
    (seen(D.READY, R.OPEN, V.RUNNING), None),
    (seen(D.START, R.OPEN, V.RUNNING), None),
    (seen(D.SILENCE, R.OTHER, V.INCOMING), Event.RESTARTED),
    (seen(D.SILENCE, R.OTHER, V.RUNNING), None),
    (seen(D.SILENCE, R.DESTINATION, V.PAUSED), None),
    (seen(D.ACTIVATE, R.COMMITTED, V.PAUSED, there=V.RUNNING), None),
    (seen(S.AWAIT, R.UNREACHABLE, V.MIGRATED, there=V.RUNNING), None),
    (seen(S.AWAIT, R.COMMITTED, V.MIGRATED, there=V.RUNNING), Event.RESTARTED),
    (seen(S.AWAIT, R.UNREACHABLE, V.MIGRATED), Event.RESTARTED),
    (seen(S.RESUME, R.UNREACHABLE, V.PAUSED), None),
    (seen(S.RESUME, R.SOURCE, V.PAUSED), Event.RESTARTED),
    (seen(S.FENCE, R.COMMITTED, V.PAUSED), None),
    (seen(S.LEAVE, R.DESTINATION, V.PAUSED, order=Order.FAILOVER), None),
    (seen(S.ABORT, R.COMMITTED, V.PAUSED), Event.RESTARTED),
    (seen(S.ABORT, R.COMMITTED, V.PAUSED, device=DeviceSays.RECEIVING), None),
    (seen(S.OFFER, R.OPEN, V.MIGRATED), None),
    (seen(S.RELEASE, R.DESTINATION, V.MIGRATED, there=V.INCOMING), None),
    (seen(S.RELEASE, R.DESTINATION, V.MIGRATED, there=V.RUNNING), Event.RESTARTED),
    (seen(D.CHECK, R.OPEN, V.PAUSED), Event.RESTARTED),
    (seen(D.STAGE, R.COMMITTED, V.ABSENT), None),
    (seen(D.READY, R.OPEN, V.PAUSED, there=V.ABSENT), Event.RESTARTED),
    (seen(D.READY, R.OPEN, V.PAUSED, there=V.RUNNING), None),
    (seen(D.COMMIT, R.OPEN, V.PAUSED, there=V.RUNNING), None),
    (seen(D.COMMIT, R.UNREACHABLE, V.PAUSED, there=V.RUNNING), None),
    (seen(D.COMMIT, R.SOURCE, V.PAUSED, there=V.RUNNING), Event.RESTARTED),
    (seen(D.COMMIT, R.UNREACHABLE, V.PAUSED), Event.RESTARTED),
    (seen(D.ACTIVATE, R.UNREACHABLE, V.PAUSED), None),
    (seen(D.FINISH, R.UNREACHABLE, V.RUNNING, device=DeviceSays.RECEIVING), Event.VM_RUNS),
    (seen(D.FINISH, R.UNREACHABLE, V.PAUSED, there=V.RUNNING), None),
]


@pytest.mark.parametrize(("now", "event"), EXAMPLES, ids=lambda value: str(getattr(value, "phase", value)))
def test_examples(now: Witnesses, event: Event | None) -> None:
    verdict = judge(now)
    assert verdict.event is event, verdict.why
    assert verdict.alarm == (event is None)


@pytest.mark.parametrize(
    ("device", "event"), [(DeviceSays.RECEIVING, Event.RESTARTED), (DeviceSays.REBOOTED, Event.VM_GONE)]
)
def test_a_cold_vm_that_is_not_here_yet_is_started_unless_its_host_was_lost(device: DeviceSays, event: Event) -> None:
    now = seen(D.START, R.COMMITTED, V.ABSENT, order=Order.COLD, device=device)
    assert judge(now).event is event


def test_an_event_that_the_phase_does_not_know_is_an_alarm() -> None:
    now = seen(D.COMMIT, R.COMMITTED, V.RUNNING)
    assert judge(now) == Verdict(None, True, "the VM runs here, and the journal says that it was never started")
    recall = seen(S.LEAVE, R.OPEN, V.PAUSED, order=Order.FAILOVER)
    assert judge(recall).event is Event.RESTARTED


def test_the_registry_from_one_migration_s_point_of_view() -> None:
    first = adopted("vm", "a")
    open_ = opened(first, "m", source="a", destination="b")
    won = committed(open_, "m")

    def says(entry: object) -> RegistrySays:
        assert entry is None or isinstance(entry, type(first))
        return registry_says(entry, "m", "a", "b")

    assert says(None) is R.ABSENT
    assert says(first) is R.SOURCE
    assert says(open_) is R.OPEN
    assert says(recalled(open_, "m")) is R.ABORTING
    assert says(won) is R.COMMITTED
    assert says(settled(won, "m", owner="b")) is R.DESTINATION
    assert says(adopted("vm", "c")) is R.OTHER
    assert registry_says(open_, "another", "a", "b") is R.OTHER
