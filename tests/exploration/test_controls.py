# SPDX-License-Identifier: Apache-2.0
"""Negative controls: each takes one rule away, and the exploration finds what that rule is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from vferry.core.migration.phases import Act, DestinationPhase, Event, Phase, Role, SourcePhase
from vferry.core.migration.recovery import DeviceSays, RegistrySays, Verdict, VmSays, Witnesses, judge
from vferry.core.migration.tables import TABLES, Order, Table
from vferry.testing.exploration.acts import ACTS, ActSteps, Move, View, then
from vferry.testing.exploration.explorer import Report, explore
from vferry.testing.exploration.sides import Between, Recovery
from vferry.testing.exploration.world import LETTING_GO, Entry, Vm

S, D, E, O = SourcePhase, DestinationPhase, Event, Order  # noqa: E741


def table(order: Order, phase: Phase, changes: Mapping[Event, Phase | None]) -> Table:
    """Return the real table but for some successors in one phase; None takes one away."""
    role = Role.SOURCE if isinstance(phase, SourcePhase) else Role.DESTINATION
    real = TABLES[order, role]
    after = {**real[phase].on, **changes}
    kept = {event: target for event, target in after.items() if target is not None}
    return {**real, phase: real[phase]._replace(on=kept)}


def acts(act: Act, steps: ActSteps) -> Mapping[Act, ActSteps]:
    return {**ACTS, act: steps}


def abort_that_only_reads(now: View) -> Iterator[Move]:
    if now.entry == Entry.SOURCES:
        yield now.ends(Event.DONE)
    else:
        yield from ACTS[Act.ABORT](now)


def start_that_says_failed_whatever_happened(now: View) -> Iterator[Move]:
    yield from ACTS[Act.START](now)
    yield now.goes_wrong(Event.FAILED)


def silence_that_trusts_the_reboot(now: View) -> Iterator[Move]:
    if now.side.rebooted and now.vm == Vm.ABSENT:
        yield now.ends(Event.DONE)
    else:
        yield from ACTS[Act.SILENCE](now)


def fence_of_one_vf(now: View) -> Iterator[Move]:
    if now.side.receiving < now.vfs:
        yield now.ends(Event.DONE)
    else:
        yield from ACTS[Act.FENCE](now)


def never_says_gone(seen: Witnesses) -> Verdict:
    """Take a lost VM for a paused one."""
    return judge(seen._replace(here=VmSays.PAUSED, device=DeviceSays.SILENT) if seen.here is VmSays.ABSENT else seen)


def replug_that_does_not_wait(now: View) -> Iterator[Move]:
    if now.side.plugged == LETTING_GO and not now.side.standby and now.side.receiving == now.vfs:
        yield now.ends(Event.DONE)
    else:
        yield from ACTS[Act.REPLUG](now)


def watch_that_only_looks_at_the_clock(now: View) -> Iterator[Move]:
    yield from ACTS[Act.WATCH](now)
    yield now.ends(Event.TIMEOUT)


def say_ready_that_only_looks_at_the_clock(now: View) -> Iterator[Move]:
    yield from ACTS[Act.SAY_READY](now)
    yield now.ends(Event.TIMEOUT)


def switch_that_fails_without_a_vm(now: View) -> Iterator[Move]:
    yield from ACTS[Act.SWITCH](now)
    if now.vm == Vm.ABSENT:
        yield now.ends(Event.FAILED)


def start_again_without_settings(now: View) -> Iterator[Move]:
    if now.vm == Vm.ABSENT:
        yield now.step("starts the VM again", vm=Vm.RUNNING)
    else:
        yield from ACTS[Act.START_AGAIN](now)


def guesses_what_the_registry_says(seen: Witnesses) -> Verdict:
    """Take a registry that does not answer for one that says that the VM has arrived elsewhere."""
    if seen.registry is RegistrySays.UNREACHABLE and seen.phase is S.AWAIT:
        return Verdict(Event.FINISHED, False, "the VM is surely elsewhere by now")
    return judge(seen)


CONTROLS: dict[str, tuple[str, Callable[[], Report]]] = {
    "commit before the VM is held": (
        "committed, and the VM is not held",
        lambda: explore(O.DEVICE_STATE, destination=table(O.DEVICE_STATE, D.READY, {E.DONE: D.COMMIT})),
    ),
    "no fence before the final record": (
        "the source receives while it is undecided",
        lambda: explore(O.DEVICE_STATE, source=table(O.DEVICE_STATE, S.PRECOPY, {E.STOPPED: S.HANDOVER})),
    ),
    "one VF of two is fenced": (
        "the source receives while it is undecided",
        lambda: explore(O.DEVICE_STATE, acts=acts(Act.FENCE, fence_of_one_vf)),
    ),
    "the destination's MAC at stage": (
        "both hosts receive for the VM",
        lambda: explore(O.DEVICE_STATE, acts=acts(Act.STAGE, ACTS[Act.ACTIVATE])),
    ),
    "failover: the standby is forwarded to the end": (
        "the source receives while it is undecided",
        lambda: explore(O.FAILOVER, source=table(O.FAILOVER, S.PRECOPY, {E.STOPPED: S.HANDOVER})),
    ),
    "unfenced before the registry has decided": (
        "the source receives while it is undecided",
        lambda: explore(O.DEVICE_STATE, source=table(O.DEVICE_STATE, S.AWAIT, {E.TIMEOUT: S.UNFENCE})),
    ),
    "released before the registry has decided": (
        "the last complete VM is given up",
        lambda: explore(O.DEVICE_STATE, source=table(O.DEVICE_STATE, S.AWAIT, {E.TIMEOUT: S.RELEASE})),
    ),
    "programmed early, and called off without waiting for silence": (
        "the destination receives before it may",
        lambda: explore(O.DEVICE_STATE_EARLY, source=TABLES[O.DEVICE_STATE, Role.SOURCE]),
    ),
    "started, then journalled": (
        "the VM runs where the journal says that it does not",
        lambda: explore(O.DEVICE_STATE, acts=acts(Act.ACTIVATE, then(ACTS[Act.ACTIVATE], ACTS[Act.START]))),
    ),
    "a start that may have happened is taken for a failed one": (
        "the VM runs where the journal says that it does not",
        lambda: explore(O.DEVICE_STATE, acts=acts(Act.START, start_that_says_failed_whatever_happened)),
    ),
    "a lost commit is not noticed": (
        "the destination receives before it may",
        lambda: explore(O.DEVICE_STATE, destination=table(O.DEVICE_STATE, D.COMMIT, {E.LOST: D.ACTIVATE})),
    ),
    "an abort that only reads": (
        "the source is over, and not as it must be",
        lambda: explore(O.DEVICE_STATE, acts=acts(Act.ABORT, abort_that_only_reads)),
    ),
    "the registry is asked before the other witnesses": (
        "a side is blocked or alarmed without need",
        lambda: explore(O.COLD, recovery=Recovery(registry_first=True)),
    ),
    "the journal keeps the boot id of the beginning": (
        "a side is blocked or alarmed without need",
        lambda: explore(O.COLD, recovery=Recovery(keeps_boot_id=True)),
    ),
    "after a reboot nothing is taken out, whatever was programmed since": (
        "the destination receives before it may",
        lambda: explore(O.COLD, acts=acts(Act.SILENCE, silence_that_trusts_the_reboot)),
    ),
    "a lost VM is taken for a paused one": (
        "the last complete VM is given up",
        lambda: explore(O.DEVICE_STATE, recovery=Recovery(judge=never_says_gone)),
    ),
    "the source's hypervisor lets the VM run on by itself": (
        "a side is blocked or alarmed without need",
        lambda: explore(O.DEVICE_STATE, between=Between(resumes_itself=True)),
    ),
    "cold: a guest that was asked to shut down is taken for one that stays": (
        "the source is over, and not as it must be",
        lambda: explore(O.COLD, source=table(O.COLD, S.RESUME, {E.VM_RUNS: S.KEPT})),
    ),
    "failover: without the VM the source's VFs stay fenced": (
        "the source is over, and not as it must be",
        lambda: explore(O.FAILOVER, source=table(O.FAILOVER, S.RESUME, {E.VM_GONE: S.KEPT})),
    ),
    "nothing is handed over": (
        "the last complete VM is given up",
        lambda: explore(O.DEVICE_STATE, source=table(O.DEVICE_STATE, S.FENCE, {E.DONE: S.SWITCH})),
    ),
    "nothing is offered": (
        "the VM never moves",
        lambda: explore(O.FAILOVER, source=table(O.FAILOVER, S.CLAIM, {E.DONE: S.UNPLUG})),
    ),
    "failover: the standby is never forwarded on the destination": (
        "the VM runs, and nothing receives for it",
        lambda: explore(O.FAILOVER, destination=table(O.FAILOVER, D.COMMIT, {E.DONE: D.START})),
    ),
    "failover: the standby is not forwarded again on the source": (
        "the VM runs, and nothing receives for it",
        lambda: explore(O.FAILOVER, source=table(O.FAILOVER, S.ABORT, {E.DONE: S.RESUME})),
    ),
    "failover: the guest's answer is not waited for when the VFs go back": (
        "the source is over, and not as it must be",
        lambda: explore(O.FAILOVER, acts=acts(Act.REPLUG, replug_that_does_not_wait)),
    ),
    "called off at once where the VM is gone after the switch": (
        "the last complete VM is given up",
        lambda: explore(O.DEVICE_STATE, source=table(O.DEVICE_STATE, S.SWITCH, {E.VM_GONE: S.ABORT})),
    ),
    "a switch without a VM is taken for a failed one": (
        "the last complete VM is given up",
        lambda: explore(O.DEVICE_STATE, acts=acts(Act.SWITCH, switch_that_fails_without_a_vm)),
    ),
    "called off at the deadline though the VM is gone here": (
        "the last complete VM is given up",
        lambda: explore(O.DEVICE_STATE, acts=acts(Act.WATCH, watch_that_only_looks_at_the_clock)),
    ),
    "a held VM is ended at the deadline": (
        "the last complete VM is given up",
        lambda: explore(O.DEVICE_STATE, acts=acts(Act.SAY_READY, say_ready_that_only_looks_at_the_clock)),
    ),
    "a held VM is ended after a restart": (
        "the last complete VM is given up",
        lambda: explore(O.DEVICE_STATE, destination=table(O.DEVICE_STATE, D.READY, {E.RESTARTED: D.SILENCE})),
    ),
    "cold: started again after a reboot without the VFs' settings": (
        "the VM runs, and nothing receives for it",
        lambda: explore(O.COLD, acts=acts(Act.START_AGAIN, start_again_without_settings)),
    ),
    "a registry that does not answer is guessed": (
        "the last complete VM is given up",
        lambda: explore(O.DEVICE_STATE, recovery=Recovery(judge=guesses_what_the_registry_says)),
    ),
    "an act ends with what its phase does not know": (
        "an outcome without a successor",
        lambda: explore(O.DEVICE_STATE, source=table(O.DEVICE_STATE, S.RESUME, {E.VM_GONE: None})),
    ),
    "an offer is awaited for ever": (
        "no good end can be reached",
        lambda: explore(O.COLD, source=table(O.COLD, S.OFFER, {E.TIMEOUT: None, E.REFUSED: None})),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTROLS)
def test_each_rule_is_needed(name: str) -> None:
    expected, run = CONTROLS[name]
    report = run()
    print(f"\n{name}: {report}\n{report.violation}")
    assert report.violation is not None
    assert report.violation.what == expected
    assert len(report.violation.trace) < 50
