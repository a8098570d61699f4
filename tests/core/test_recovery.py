# SPDX-License-Identifier: Apache-2.0
"""The recovery's truth table: total, without a row that never fits, and careful."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vferry.core.migration.phases import DestinationPhase, Event, Role, SourcePhase
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
    (seen(D.ACTIVATE, R.SOURCE, V.PAUSED), None),
    (seen(D.START, R.COMMITTED, V.RUNNING, device=DeviceSays.RECEIVING), Event.VM_RUNS),
    (seen(D.START, R.COMMITTED, V.ABSENT, device=DeviceSays.RECEIVING), Event.VM_GONE),
    (seen(D.READY, R.OPEN, V.RUNNING), None),
    (seen(D.START, R.OPEN, V.RUNNING), None),
    (seen(D.SILENCE, R.OTHER, V.INCOMING), Event.RESTARTED),
    (seen(D.SILENCE, R.OTHER, V.RUNNING), None),
    (seen(D.SILENCE, R.DESTINATION, V.PAUSED), None),
    (seen(D.ACTIVATE, R.COMMITTED, V.PAUSED, there=V.RUNNING), None),
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
