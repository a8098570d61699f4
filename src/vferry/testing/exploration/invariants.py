# SPDX-License-Identifier: Apache-2.0
"""What must hold: in every state, at every change of the registry, and at the end.

``docs/migration.md`` states each in words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from vferry.core.migration.phases import DestinationPhase, Phase, Role, SourcePhase
from vferry.core.migration.recovery import VmSays
from vferry.core.migration.tables import Order
from vferry.testing.exploration.sides import LOOKS
from vferry.testing.exploration.world import (
    NOT_BEGUN,
    OVER,
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
    number_of,
    parts,
)

__all__ = ["ENTRY_FIELD", "Invariants"]

ENTRY_FIELD = SHARED + Shared._fields.index("entry")
"""Where in a state the registry's entry is."""

_SOURCE_SEEN = Side._fields.index("seen")
_SOURCE_VM = SHARED + Shared._fields.index("source_vm")
_DESTINATION_VM = SHARED + Shared._fields.index("destination_vm")
_DESTINATION_PHASE = SHARED_END

_S = SourcePhase
_D = DestinationPhase
_KILLED_A, _KILLED_B = 1, 2
_RUNS = frozenset({Vm.RUNNING, Vm.COPYING, Vm.SHUTTING_DOWN})
_OURS = frozenset({Entry.SOURCES, Entry.OPEN, Entry.ABORTING})
_WON = frozenset({Entry.COMMITTED, Entry.DESTINATIONS})


def _numbers(*phases: Phase) -> frozenset[int]:
    return frozenset(map(number_of, phases))


_SILENT_SOURCE = _numbers(_S.HANDOVER, _S.SWITCH, _S.AWAIT, _S.RECALL, _S.RETRACT, _S.RELEASE, _S.RELEASED)
_BEFORE_PREPARE = _numbers(_D.CHECK, _D.STAGE, _D.INCOMING, _D.GIVE_BACK, _D.RETURNED, _D.DECLINED)
_HEARS_A = _numbers(
    *(_S.CLAIM, _S.OFFER, _S.UNPLUG, _S.SHUTDOWN, _S.PRECOPY, _S.RESUME, _S.KEPT, _S.REFUSED),
)
_HEARS_B = _numbers(_D.START, _D.FINISH, _D.ARRIVED, _D.ON_STANDBY)
"""Phases in which something receives for a VM that runs there; in the others that is just being changed."""
_CALLS_OFF = _numbers(
    *(_S.ABORT, _S.RECALL, _S.RETRACT, _S.UNFENCE, _S.REJOIN, _S.RESUME, _S.REPLUG, _S.KEPT, _S.BLOCKED),
)
_GOES_BACK = _numbers(_D.SILENCE, _D.GIVE_BACK, _D.RETURNED, _D.DECLINED)
_MAY_RUN = _numbers(_D.START, _D.FINISH, _D.PLUG, _D.ARRIVED, _D.ON_STANDBY, _D.BLOCKED)
_BACK = _numbers(_D.RETURNED, _D.DECLINED)
_ARRIVED = _numbers(_D.ARRIVED, _D.ON_STANDBY)
_WAITING = _numbers(_S.AWAIT, _S.RETRACT)
_S_BLOCKED, _S_KEPT, _S_RELEASED, _S_REFUSED = map(number_of, (_S.BLOCKED, _S.KEPT, _S.RELEASED, _S.REFUSED))
_D_BLOCKED, _D_ARRIVED, _D_ON_STANDBY, _D_START = map(number_of, (_D.BLOCKED, _D.ARRIVED, _D.ON_STANDBY, _D.START))


class _World(NamedTuple):
    a: Side
    shared: Shared
    b: Side


class Invariants:
    """The invariants of one order.

    :param vfs: how many the VM has.
    """

    def __init__(self, order: Order, vfs: int) -> None:
        self._order = order
        self._cold = order is Order.COLD
        self._early = order is Order.DEVICE_STATE_EARLY
        self._failover = order is Order.FAILOVER
        self._vfs = vfs
        self._always: tuple[tuple[str, Callable[[_World], bool]], ...] = (
            ("two VMs run", self._two_run),
            ("both hosts receive for the VM", self._two_receive),
            ("the VM runs on a host that does not own it", self._wrong_host),
            ("the source receives while it is undecided", self._undecided_source_receives),
            ("the destination receives before it may", self._undecided_destination_receives),
            ("the VM runs where the journal says that it does not", self._ran_unnoticed),
            ("the VM ran on the destination, and was given back", self._given_back),
            ("the VM runs, and nothing receives for it", self._runs_deaf),
            ("no complete VM is left, and no host has crashed", self._lost),
            ("the source is over, and not as it must be", self._bad_source_end),
            ("the destination is over, and not as it must be", self._bad_destination_end),
            ("both are over, and do not agree", self._bad_pair),
            ("a side is blocked or alarmed without need", self._unjustified),
        )

    def broken(self, state: State) -> str | None:
        """Return what does not hold in a state, or None."""
        world = _World(*parts(state))
        return next((name for name, wrong in self._always if wrong(world)), None)

    def broken_by(self, before: State, after: State) -> str | None:
        """Return what does not hold about a change of the registry, or None."""
        if after[ENTRY_FIELD] != Entry.COMMITTED or before[ENTRY_FIELD] == Entry.COMMITTED:
            return None
        old = _World(*parts(before))
        if old.a.receiving or old.a.standby:
            return "committed while the source receives"
        if old.shared.source_vm in _RUNS:
            return "committed while the VM runs on the source"
        late = old.shared.late & Change.COMMIT  # Its host may have been lost since; it gives the VM back then.
        if not self._cold and old.shared.destination_vm != Vm.HELD and not late and not old.shared.killed & _KILLED_B:
            return "committed, and the VM is not held"
        return None

    @staticmethod
    def _two_run(world: _World) -> bool:
        return world.shared.source_vm in _RUNS and world.shared.destination_vm in _RUNS

    @staticmethod
    def _two_receive(world: _World) -> bool:
        return bool((world.a.receiving or world.a.standby) and (world.b.receiving or world.b.standby))

    @staticmethod
    def _wrong_host(world: _World) -> bool:
        shared = world.shared
        return (shared.source_vm in _RUNS and shared.entry not in _OURS) or (
            shared.destination_vm in _RUNS and shared.entry not in _WON
        )

    @staticmethod
    def _undecided_source_receives(world: _World) -> bool:
        a, shared = world.a, world.shared
        return bool(a.receiving or a.standby) and (
            a.phase in _SILENT_SOURCE or shared.entry in _WON or (shared.entry != Entry.SOURCES and _sent_final(shared))
        )

    def _undecided_destination_receives(self, world: _World) -> bool:
        b, entry = world.b, world.shared.entry
        if not (b.receiving or b.standby):
            return False
        if self._early:
            return b.phase in _BEFORE_PREPARE or entry == Entry.SOURCES or not _sent_final(world.shared)
        return entry not in _WON

    @staticmethod
    def _ran_unnoticed(world: _World) -> bool:
        return world.shared.destination_vm in _RUNS and world.b.phase not in _MAY_RUN

    @staticmethod
    def _given_back(world: _World) -> bool:
        return world.shared.destination_vm in (Vm.RUNNING, Vm.RAN) and world.shared.entry not in _WON

    @staticmethod
    def _runs_deaf(world: _World) -> bool:
        a, shared, b = world
        if shared.source_vm in _RUNS and a.phase in _HEARS_A:
            return not (a.receiving or a.standby)
        return shared.destination_vm in _RUNS and b.phase in _HEARS_B and not (b.receiving or b.standby)

    def gives_up(self, before: State, after: State) -> str | None:
        """Return what does not hold about a step that is no fault: it must not give the last complete VM up."""
        if self._cold or not self._is_whole(before) or self._is_whole(after) or self._was_there(before, after):
            return None
        return "the last complete VM is given up"

    @staticmethod
    def _was_there(before: State, after: State) -> bool:
        """Whether the source, starting again, goes back from what it saw: its VM was there then, and is lost since."""
        seen = before[_SOURCE_SEEN]
        return bool(seen and before[0] != after[0] and LOOKS[seen - 1][1] is not VmSays.ABSENT)

    @staticmethod
    def _is_whole(state: State) -> bool:
        """Whether a complete VM is somewhere, and its side means to keep it.

        What is left on the source is none any more once the VM ran on the destination; nor is what is held on the
        destination, once either side goes back.
        """
        held = state[_DESTINATION_VM]
        if held in (Vm.RUNNING, Vm.RAN):
            return held == Vm.RUNNING
        if state[_SOURCE_VM] != Vm.ABSENT:
            return True
        phase = state[_DESTINATION_PHASE]
        called_off = (state[0] in _CALLS_OFF or phase == _D_BLOCKED) and state[ENTRY_FIELD] in _OURS
        return held == Vm.HELD and phase not in _GOES_BACK and not called_off

    def _lost(self, world: _World) -> bool:
        shared = world.shared
        whole = shared.source_vm != Vm.ABSENT or shared.destination_vm in (Vm.HELD, Vm.RUNNING)
        return not (self._cold or whole or world.a.rebooted or world.b.rebooted or shared.killed)

    def _bad_source_end(self, world: _World) -> bool:
        a, shared = world.a, world.shared
        if a.phase == _S_RELEASED:
            gone = shared.source_vm == Vm.ABSENT and not (a.receiving or a.parked or a.standby)
            return not (gone and shared.entry == Entry.DESTINATIONS)
        if a.phase not in (_S_KEPT, _S_REFUSED):
            return False
        ended = a.rebooted and not self._cold
        runs = shared.source_vm == Vm.RUNNING or ended or shared.killed & _KILLED_A
        rebooted = a.rebooted and shared.source_vm == Vm.ABSENT
        as_before = (a.receiving == self._vfs or rebooted) and not a.standby
        plugged = a.plugged == 1 or not self._failover or shared.source_vm == Vm.ABSENT
        return not (runs and as_before and plugged and shared.entry == Entry.SOURCES)

    def _bad_destination_end(self, world: _World) -> bool:
        b, shared = world.b, world.shared
        if b.phase in _BACK:
            return bool(b.receiving or b.parked or b.standby or shared.destination_vm != Vm.ABSENT)
        if b.phase not in _ARRIVED:
            return False
        if shared.entry != Entry.DESTINATIONS:
            return True
        if b.phase == _D_ON_STANDBY:
            return not (shared.destination_vm == Vm.RAN or (shared.destination_vm == Vm.RUNNING and b.standby))
        programmed = b.receiving == self._vfs and not b.standby
        if shared.destination_vm == Vm.RAN:  # Killed, or lost with its host.
            return not (programmed or (b.rebooted and not self._failover))
        complete = shared.destination_vm == Vm.RUNNING and programmed
        return not (complete and (b.plugged or not self._failover))

    @staticmethod
    def _bad_pair(world: _World) -> bool:
        a, b = world.a.phase, world.b.phase
        if a not in OVER[Role.SOURCE] or b not in OVER[Role.DESTINATION] or a == _S_BLOCKED or b == _D_BLOCKED:
            return False
        return (a == _S_RELEASED) != (b in _ARRIVED)

    def _unjustified(self, world: _World) -> bool:
        return Process.ALARMED in (world.a.process, world.b.process) or (
            world.a.phase == _S_BLOCKED and world.shared.entry not in (Entry.SOURCES, Entry.DESTINATIONS)
        )

    @staticmethod
    def has_moved(state: State) -> bool:
        """Whether the VM has arrived, and was released."""
        return state[0] == _S_RELEASED and state[_DESTINATION_PHASE] == _D_ARRIVED

    def is_good(self, state: State) -> bool:
        """Whether everything is over, with exactly one owner, and no person is needed."""
        a, shared, b = parts(state)
        over = a.phase in OVER[Role.SOURCE] and (b.phase in OVER[Role.DESTINATION] or b.phase == NOT_BEGUN)
        settled = shared.entry in (Entry.SOURCES, Entry.DESTINATIONS)
        return over and settled and not self.needs_person(state)

    def needs_person(self, state: State) -> bool:
        """Whether a side is blocked or alarmed, or cannot but become so: the VM was lost around its start."""
        a, shared, b = parts(state)
        stopped = Process.ALARMED in (a.process, b.process)
        blocked = a.phase == _S_BLOCKED or b.phase == _D_BLOCKED
        return stopped or blocked or self._lost_around_start(shared, b)

    def _lost_around_start(self, shared: Shared, b: Side) -> bool:
        if b.phase != _D_START or shared.destination_vm not in (Vm.ABSENT, Vm.RAN):
            return False
        unclear = b.process != Process.UP or shared.destination_vm == Vm.RAN
        return b.process == Process.HOST_DOWN or bool(shared.killed & _KILLED_B and unclear and not self._cold)

    @staticmethod
    def is_at_rest(state: State) -> bool:
        """Whether a person is needed, and nothing goes on without one."""
        a, _, b = parts(state)
        b_stopped = b.process == Process.ALARMED or b.phase == _D_BLOCKED
        a_over = a.process == Process.ALARMED or a.phase in OVER[Role.SOURCE]
        b_over = b_stopped or b.phase in OVER[Role.DESTINATION] or b.phase == NOT_BEGUN
        return (a_over and b_over) or (b_stopped and a.phase in _WAITING)


def _sent_final(shared: Shared) -> bool:
    return bool(shared.sent & Sent.FINAL)
