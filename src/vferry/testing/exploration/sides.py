# SPDX-License-Identifier: Apache-2.0
"""What can happen next to one side, and to the two hypervisors.

A side runs its real table: the act of the phase goes one step, or ends with an event; a message arrives; the time is
up; the operator changes their mind; the process or its host crashes. A process that starts again is judged by the real
:func:`~vferry.core.migration.recovery.judge` over what the world shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import NamedTuple, TypeAlias

from vferry.core.migration.phases import Act, DestinationPhase, Event, Phase, Role
from vferry.core.migration.recovery import DeviceSays, RegistrySays, Verdict, VmSays, Witnesses, judge
from vferry.core.migration.tables import Order, Step, Table
from vferry.testing.exploration.acts import ActSteps, View, is_patient
from vferry.testing.exploration.world import (
    CHANGES,
    DESTINATION_PHASES,
    ENTRY_SAYS,
    LETTING_GO,
    NOT_BEGUN,
    OVER,
    SOURCE_PHASES,
    VM_SAYS,
    Process,
    Sent,
    Shared,
    Side,
    Vm,
    changed,
    number_of,
)

__all__ = ["ALARM", "LOOKS", "Between", "Judge", "Next", "OneSide", "Recovery"]

ALARM = "alarm: "
"""Begins what a side does that stops because its witnesses contradict each other."""

Judge: TypeAlias = Callable[[Witnesses], Verdict]

LOOKS: tuple[tuple[DeviceSays, VmSays, VmSays], ...] = tuple(product(DeviceSays, VmSays, VmSays))
"""What the first witnesses can say: the device, the hypervisor here, the one there."""

_MESSAGES: dict[Role, tuple[tuple[int, Event], ...]] = {
    Role.SOURCE: ((Sent.ACCEPT, Event.ACCEPTED), (Sent.REFUSE, Event.REFUSED), (Sent.READY, Event.READY)),
    Role.DESTINATION: ((Sent.FINAL, Event.FINAL), (Sent.ABORT, Event.ABORTED)),
}


class Next(NamedTuple):
    """One thing that may happen next to one side."""

    what: str
    side: Side
    shared: Shared
    fault: bool
    """A crash, a failure, or the operator's will: it need never happen."""
    wrong: bool = False
    """The machine has no successor for what came: a defect."""


class Recovery(NamedTuple):
    """How a process that starts again goes on."""

    judge: Judge = judge
    registry_first: bool = False
    """Asks the registry before the others, not after them; wrong, for a negative control."""
    keeps_boot_id: bool = False
    """The journal keeps the boot id that a migration began with; wrong, for a negative control."""


class OneSide:
    """One side of the migration.

    :param acts: what each act does.
    :param vfs: how many the VM has.
    :param recovery: how a process that starts again goes on.
    """

    def __init__(
        self,
        order: Order,
        role: Role,
        table: Table,
        *,
        acts: Mapping[Act, ActSteps],
        vfs: int,
        recovery: Recovery,
    ) -> None:
        self._order = order
        self._role = role
        self._acts = acts
        self._vfs = vfs
        self._judge = recovery.judge
        self._registry_first = recovery.registry_first
        self._keeps_boot_id = recovery.keeps_boot_id
        self._phases = SOURCE_PHASES if role is Role.SOURCE else DESTINATION_PHASES
        self._steps: tuple[Step | None, ...] = tuple(table.get(phase) if phase else None for phase in self._phases)

    def next(self, side: Side, shared: Shared) -> Iterator[Next]:
        """Yield everything that this side can do, and that can happen to it."""
        if side.phase in OVER[self._role] or side.process == Process.ALARMED:
            return
        if side.process != Process.UP:
            yield from self._restarts(side, shared)
        elif self._role is Role.DESTINATION and side.phase == NOT_BEGUN:
            if shared.sent & Sent.OFFER:
                begun = side._replace(phase=number_of(DestinationPhase.CHECK))
                yield Next("the offer arrives", begun, shared, fault=False)
            return
        else:
            yield from self._works(side, shared)
        yield from self._crashes(side, shared)
        if side.plugged == LETTING_GO and shared.source_vm != Vm.ABSENT:
            yield Next("the guest lets go of the VFs", side._replace(plugged=0), shared, fault=False)
            yield Next("the guest keeps the VFs", side._replace(plugged=1), shared, fault=True)

    def _works(self, side: Side, shared: Shared) -> Iterator[Next]:
        step = self._steps[side.phase]
        assert step is not None, "a phase that is neither final nor in the table"  # noqa: S101
        yield from self._acting(side, shared, step)
        for bit, event in _MESSAGES[self._role]:
            if shared.sent & bit and event in step.on:
                yield self._journals(side, shared, event, fault=False)
        for event in (Event.TIMEOUT, Event.CANCEL):
            patient = event is Event.TIMEOUT and is_patient(step.act, self._view(side, shared, step))
            if event in step.on and not patient:
                yield self._journals(side, shared, event, fault=event is Event.CANCEL)

    def _acting(self, side: Side, shared: Shared, step: Step) -> Iterator[Next]:
        for move in self._acts[step.act](self._view(side, shared, step)):
            if move.event is None:
                yield Next(move.what, move.side, move.shared, move.fault)
            elif move.event in step.on:
                yield self._journals(move.side, move.shared, move.event, fault=move.fault)
            elif not move.fault:
                what = f"the act ends with '{move.event.value}', which the phase does not know"
                yield Next(what, move.side, move.shared, fault=False, wrong=True)

    def _view(self, side: Side, shared: Shared, step: Step) -> View:
        return View(self._role, side, shared, frozenset(step.on), self._vfs, self._order is Order.COLD)

    def _journals(self, side: Side, shared: Shared, event: Event, *, fault: bool) -> Next:
        step = self._steps[side.phase]
        assert step is not None, "only a phase of the table knows an event"  # noqa: S101
        phase = step.on[event]
        what = f"{event.value}: journals {phase.value}"
        return Next(what, side._replace(phase=number_of(phase), process=Process.UP), shared, fault)

    def _restarts(self, side: Side, shared: Shared) -> Iterator[Next]:
        if not side.seen:
            for first in self._first_looks(side, shared):
                yield Next("starts again, asks the first witnesses", side._replace(seen=first), shared, fault=False)
            return
        for witnesses in self._witnesses(side, shared):
            verdict = self._judge(witnesses)
            if verdict.event is not None:
                after = self._journals(side, shared, verdict.event, fault=False)
                yield after._replace(what=f"has all witnesses, {after.what}", side=after.side._replace(seen=0))
            elif witnesses.registry is RegistrySays.UNREACHABLE:
                yield Next("the registry does not answer: asks again", side._replace(seen=0), shared, fault=False)
            else:
                alarmed = side._replace(process=Process.ALARMED, seen=0)
                yield Next(f"{ALARM}{self._phase(side).value}: {verdict.why}", alarmed, shared, fault=False)

    def _first_looks(self, side: Side, shared: Shared) -> Iterator[int]:
        if self._registry_first:
            yield 1 + shared.entry
        else:
            yield from (1 + LOOKS.index(look) for look in self._looks(side, shared))

    def _witnesses(self, side: Side, shared: Shared) -> Iterator[Witnesses]:
        """Yield what all witnesses say, some of them now, some of them when they were asked first."""
        if self._registry_first:
            entry, looks = side.seen - 1, tuple(self._looks(side, shared))
        else:
            entry, looks = shared.entry, (LOOKS[side.seen - 1],)
        for registry, (device, here, there) in product((ENTRY_SAYS[entry], RegistrySays.UNREACHABLE), looks):
            yield Witnesses(self._order, self._role, self._phase(side), registry, device, here=here, there=there)

    def _looks(self, side: Side, shared: Shared) -> Iterator[tuple[DeviceSays, VmSays, VmSays]]:
        """Yield what is seen of the device and of the hypervisors; the other one may be out of reach."""
        vms = (VM_SAYS[shared.source_vm], VM_SAYS[shared.destination_vm])
        here, there = vms if self._role is Role.SOURCE else vms[::-1]
        if side.process == Process.HOST_DOWN or (side.rebooted and self._keeps_boot_id):
            device = DeviceSays.REBOOTED
        else:
            device = DeviceSays.RECEIVING if side.receiving else DeviceSays.SILENT
        for answer in (there, VmSays.UNKNOWN):
            yield device, here, answer

    def _phase(self, side: Side) -> Phase:
        phase = self._phases[side.phase]
        assert phase is not None, "only a side that has begun crashes"  # noqa: S101
        return phase

    def _crashes(self, side: Side, shared: Shared) -> Iterator[Next]:
        if side.process == Process.UP:
            yield Next("the process crashes", side._replace(process=Process.CRASHED), shared, fault=True)
        if side.seen:
            yield Next("the process crashes", side._replace(seen=0), shared, fault=True)
        if side.process != Process.HOST_DOWN or side.seen:
            ran = shared.destination_vm in (Vm.RUNNING, Vm.RAN)
            source = self._role is Role.SOURCE
            gone = {"source_vm": Vm.ABSENT} if source else {"destination_vm": Vm.RAN if ran else Vm.ABSENT}
            down = Side(side.phase, Process.HOST_DOWN, rebooted=1, receiving=0, parked=0, standby=0, plugged=0)
            yield Next("the host crashes", down, shared._replace(**gone), fault=True)


class Between:
    """What happens between the two: hypervisors and their stream, a guest that shuts down, a late answer's change.

    :param resumes_itself: the source's hypervisor lets the VM run on where the stream dies after the VM was stopped.
    """

    def __init__(self, *, resumes_itself: bool = False) -> None:
        self._after_death = {
            Vm.COPYING: Vm.RUNNING,
            Vm.STOPPED: Vm.RUNNING if resumes_itself else Vm.PAUSED,
            Vm.SWITCHED: Vm.RUNNING if resumes_itself else Vm.PAUSED,
        }

    def next(self, shared: Shared) -> Iterator[tuple[str, Shared, bool]]:
        """Yield what can happen, what is shared then, and whether something goes wrong."""
        source, destination = shared.source_vm, shared.destination_vm
        alive = destination in (Vm.INCOMING, Vm.HELD, Vm.RUNNING)
        if source == Vm.COPYING and destination == Vm.INCOMING:
            yield "the VM is stopped for the switch-over", shared._replace(source_vm=Vm.STOPPED), False
        if source == Vm.SWITCHED and alive:
            yield "everything is sent", shared._replace(source_vm=Vm.MIGRATED), False
        if source in (Vm.SWITCHED, Vm.MIGRATED) and destination == Vm.INCOMING:
            yield "the VM is complete and held", shared._replace(destination_vm=Vm.HELD), False
        if source in self._after_death:
            yield "the stream dies", shared._replace(source_vm=self._after_death[source]), alive
        if source != Vm.ABSENT:
            yield "the source's VM is killed", shared._replace(source_vm=Vm.ABSENT, killed=shared.killed | 1), True
        if destination not in (Vm.ABSENT, Vm.RAN):
            left = Vm.RAN if destination == Vm.RUNNING else Vm.ABSENT
            yield "the destination's VM is killed", shared._replace(destination_vm=left, killed=shared.killed | 2), True
        if source == Vm.SHUTTING_DOWN:
            yield "the guest is shut down", shared._replace(source_vm=Vm.ABSENT), False
            yield "the guest does not shut down", shared._replace(source_vm=Vm.RUNNING), True
        for change, name in CHANGES.items():
            after = changed(shared.entry, change) if shared.late & change else None
            if after is not None:
                yield f"the registry carries out a late '{name}'", shared._replace(entry=after, late=0), True
