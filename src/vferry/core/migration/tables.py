# SPDX-License-Identifier: Apache-2.0
"""What follows what: the one place that decides the order of a migration.

Rules for whoever changes this file:

* Everything that decides the order lives here. Acts do one thing and report; no act looks at a phase.
* A table does not know which host it runs on, nor what the other side has reached: it hears messages, and reads the
  registry.
* An abort has one shape: the registry decides first, then what was done is taken back in the opposite order. The
  source is unfenced only when the destination can no longer own the VM *and* is silent.
* A destination is silent until its COMMIT is won; only where a setting resets the VF is the MAC programmed before
  (the ``EARLY`` tables), and then the source comes back by RECALL, which waits for that silence to be on record.
* Before START a destination goes back; from START on, only forward.

``RESTARTED``, ``VM_GONE`` and ``VM_RUNS`` are given by :mod:`vferry.core.migration.recovery` after a crash, when the
four witnesses do not contradict each other.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from vferry.core.fence import Mode
from vferry.core.migration.phases import Act, DestinationPhase, Event, Phase, Role, SourcePhase

__all__ = ["FINAL_PHASES", "TABLES", "Order", "Step", "Table", "first_phase", "order_of"]


class Step(NamedTuple):
    """One phase: its act, and what follows each event."""

    act: Act
    on: Mapping[Event, Phase]


Table: TypeAlias = Mapping[Phase, Step]
"""Phases that are not in it are final."""


class Order(enum.Enum):
    """The orders there are: a mode, and in device-state mode whether the destination is programmed early."""

    DEVICE_STATE = "device-state"
    DEVICE_STATE_EARLY = "device-state, programmed early"
    """Where a setter resets the VF, programming after the load would destroy what was loaded."""
    FAILOVER = "failover"
    COLD = "cold"


_S = SourcePhase
_D = DestinationPhase
_E = Event

_SOURCE_BACK: dict[Phase, Step] = {
    _S.ABORT: Step(
        Act.ABORT,
        {
            _E.DONE: _S.UNFENCE,
            _E.COMMITTED: _S.AWAIT,
            _E.FINISHED: _S.RELEASE,
            _E.RESTARTED: _S.ABORT,
            _E.VM_GONE: _S.ABORT,
            _E.VM_RUNS: _S.ABORT,
        },
    ),
    _S.UNFENCE: Step(
        Act.UNFENCE,
        {
            _E.DONE: _S.RESUME,
            _E.FAILED: _S.BLOCKED,
            _E.RESTARTED: _S.UNFENCE,
            _E.VM_GONE: _S.UNFENCE,
            _E.VM_RUNS: _S.UNFENCE,
        },
    ),
    _S.RESUME: Step(
        Act.RESUME,
        {
            _E.DONE: _S.KEPT,
            _E.FAILED: _S.BLOCKED,
            _E.RESTARTED: _S.RESUME,
            _E.VM_GONE: _S.KEPT,
            _E.VM_RUNS: _S.RESUME,
        },
    ),
    _S.AWAIT: Step(
        Act.WATCH,
        {
            _E.COMMITTED: _S.AWAIT,
            _E.FINISHED: _S.RELEASE,
            _E.ABORTED: _S.UNFENCE,
            _E.REFUSED: _S.ABORT,
            _E.FAILED: _S.ABORT,
            _E.TIMEOUT: _S.ABORT,
            _E.CANCEL: _S.ABORT,
            _E.RESTARTED: _S.AWAIT,
            _E.VM_GONE: _S.AWAIT,
        },
    ),
    _S.RELEASE: Step(
        Act.RELEASE,
        {_E.DONE: _S.RELEASED, _E.FAILED: _S.BLOCKED, _E.RESTARTED: _S.RELEASE, _E.VM_GONE: _S.RELEASE},
    ),
}

# The guest may still do what it was asked to, later: REPLUG and START_AGAIN wait for that.
_GIVEN_UP: dict[Event, Phase] = {_E.FAILED: _S.ABORT, _E.TIMEOUT: _S.ABORT, _E.CANCEL: _S.ABORT}
_CALLED_OFF: dict[Event, Phase] = {_E.REFUSED: _S.ABORT, **_GIVEN_UP}
_CRASHED: dict[Event, Phase] = {_E.RESTARTED: _S.ABORT, _E.VM_GONE: _S.ABORT, _E.VM_RUNS: _S.ABORT}

_SOURCE_DEVICE_STATE: dict[Phase, Step] = {
    _S.CLAIM: Step(Act.OPEN, {_E.DONE: _S.OFFER, _E.REFUSED: _S.REFUSED, _E.FAILED: _S.ABORT, **_CRASHED}),
    _S.OFFER: Step(Act.OFFER, {_E.ACCEPTED: _S.PRECOPY, **_CALLED_OFF, **_CRASHED}),
    _S.PRECOPY: Step(Act.SEND_MEMORY, {_E.STOPPED: _S.FENCE, **_CALLED_OFF, **_CRASHED}),
    _S.FENCE: Step(Act.FENCE, {_E.DONE: _S.HANDOVER, _E.FAILED: _S.ABORT, **_CRASHED}),
    _S.HANDOVER: Step(Act.HAND_OVER, {_E.READY: _S.SWITCH, **_CALLED_OFF, **_CRASHED}),
    # Where the VM is gone, the only whole one may be the destination's: it is not called off at once.
    _S.SWITCH: Step(Act.SWITCH, {_E.DONE: _S.AWAIT, _E.FAILED: _S.ABORT, **_CRASHED, _E.VM_GONE: _S.AWAIT}),
    **_SOURCE_BACK,
}


def _recalling(step: Step) -> Step:
    """Return a step whose way back is RECALL: the destination may have programmed the MAC."""
    return Step(step.act, {event: _S.RECALL if phase is _S.ABORT else phase for event, phase in step.on.items()})


_SOURCE_EARLY: dict[Phase, Step] = {
    **_SOURCE_DEVICE_STATE,
    _S.HANDOVER: _recalling(_SOURCE_DEVICE_STATE[_S.HANDOVER]),
    _S.SWITCH: _recalling(_SOURCE_DEVICE_STATE[_S.SWITCH]),
    _S.AWAIT: _recalling(_SOURCE_DEVICE_STATE[_S.AWAIT]),
    _S.RECALL: Step(
        Act.RECALL,
        {
            _E.DONE: _S.RETRACT,
            _E.ABORTED: _S.UNFENCE,
            _E.COMMITTED: _S.AWAIT,
            _E.FINISHED: _S.RELEASE,
            _E.RESTARTED: _S.RECALL,
            _E.VM_GONE: _S.RECALL,
        },
    ),
    _S.RETRACT: Step(Act.WATCH, {_E.ABORTED: _S.UNFENCE, _E.RESTARTED: _S.RETRACT, _E.VM_GONE: _S.RETRACT}),
}

_SOURCE_FAILOVER: dict[Phase, Step] = {
    **_SOURCE_DEVICE_STATE,
    _S.OFFER: Step(Act.OFFER, {_E.ACCEPTED: _S.UNPLUG, **_CALLED_OFF, **_CRASHED}),
    _S.UNPLUG: Step(Act.UNPLUG, {_E.DONE: _S.FENCE, **_GIVEN_UP, **_CRASHED}),
    _S.FENCE: Step(Act.FENCE, {_E.DONE: _S.STANDBY, _E.FAILED: _S.ABORT, **_CRASHED}),
    _S.STANDBY: Step(Act.FORWARD_STANDBY, {_E.DONE: _S.PRECOPY, _E.FAILED: _S.ABORT, **_CRASHED}),
    _S.PRECOPY: Step(Act.SEND_MEMORY, {_E.STOPPED: _S.LEAVE, **_CALLED_OFF, **_CRASHED}),
    _S.LEAVE: Step(Act.STOP_STANDBY, {_E.DONE: _S.HANDOVER, _E.FAILED: _S.ABORT, **_CRASHED}),
    _S.ABORT: Step(
        Act.ABORT,
        {**_SOURCE_BACK[_S.ABORT].on, _E.DONE: _S.REJOIN},
    ),
    _S.AWAIT: Step(Act.WATCH, {**_SOURCE_BACK[_S.AWAIT].on, _E.ABORTED: _S.REJOIN}),
    _S.REJOIN: Step(
        Act.FORWARD_STANDBY,
        {
            _E.DONE: _S.RESUME,
            _E.FAILED: _S.BLOCKED,
            _E.RESTARTED: _S.REJOIN,
            _E.VM_GONE: _S.REJOIN,
            _E.VM_RUNS: _S.REJOIN,
        },
    ),
    # Without the VM there is nobody to give the VFs to, but they are brought back and the standby's entry goes.
    _S.RESUME: Step(Act.RESUME, {**_SOURCE_BACK[_S.RESUME].on, _E.DONE: _S.REPLUG, _E.VM_GONE: _S.REPLUG}),
    _S.REPLUG: Step(
        Act.REPLUG,
        {
            _E.DONE: _S.KEPT,
            _E.FAILED: _S.BLOCKED,
            _E.RESTARTED: _S.REPLUG,
            _E.VM_GONE: _S.REPLUG,
            _E.VM_RUNS: _S.REPLUG,
        },
    ),
}
del _SOURCE_FAILOVER[_S.UNFENCE]

_SOURCE_COLD: dict[Phase, Step] = {
    **_SOURCE_BACK,
    _S.CLAIM: _SOURCE_DEVICE_STATE[_S.CLAIM],
    _S.OFFER: Step(Act.OFFER, {_E.ACCEPTED: _S.SHUTDOWN, **_CALLED_OFF, **_CRASHED}),
    _S.SHUTDOWN: Step(Act.SHUT_DOWN, {_E.DONE: _S.FENCE, **_GIVEN_UP, **_CRASHED}),
    _S.FENCE: _SOURCE_DEVICE_STATE[_S.FENCE],
    _S.HANDOVER: Step(Act.HAND_OVER, {_E.READY: _S.AWAIT, **_CALLED_OFF, **_CRASHED}),
    _S.RESUME: Step(
        Act.START_AGAIN,
        # Even where it runs: a guest that was asked to shut down may still do so.
        {
            _E.DONE: _S.KEPT,
            _E.FAILED: _S.BLOCKED,
            _E.RESTARTED: _S.RESUME,
            _E.VM_GONE: _S.RESUME,
            _E.VM_RUNS: _S.RESUME,
        },
    ),
}

_GOES_BACK: dict[Event, Phase] = {
    _E.ABORTED: _D.SILENCE,
    _E.FAILED: _D.SILENCE,
    _E.TIMEOUT: _D.SILENCE,
    _E.CANCEL: _D.SILENCE,
    _E.RESTARTED: _D.SILENCE,
    _E.VM_GONE: _D.SILENCE,
}

_DESTINATION_DEVICE_STATE: dict[Phase, Step] = {
    # Nothing was made here yet: a VM of that name would be somebody else's, and SILENCE would end it.
    _D.CHECK: Step(
        Act.CHECK,
        {_E.DONE: _D.STAGE, _E.FAILED: _D.DECLINED, _E.RESTARTED: _D.GIVE_BACK, _E.VM_GONE: _D.GIVE_BACK},
    ),
    _D.STAGE: Step(
        Act.STAGE, {_E.DONE: _D.INCOMING, _E.FAILED: _D.SILENCE, _E.RESTARTED: _D.SILENCE, _E.VM_GONE: _D.SILENCE}
    ),
    _D.INCOMING: Step(Act.RECEIVE, {_E.FINAL: _D.PREPARE, **_GOES_BACK}),
    _D.PREPARE: Step(
        Act.VALIDATE, {_E.DONE: _D.READY, _E.FAILED: _D.SILENCE, _E.RESTARTED: _D.SILENCE, _E.VM_GONE: _D.SILENCE}
    ),
    # A VM that is here may be the only whole one: it is waited for again, and the registry decides.
    _D.READY: Step(Act.SAY_READY, {_E.HELD: _D.COMMIT, **_GOES_BACK, _E.RESTARTED: _D.READY}),
    _D.COMMIT: Step(
        Act.COMMIT,
        {_E.DONE: _D.ACTIVATE, _E.LOST: _D.SILENCE, _E.RESTARTED: _D.COMMIT, _E.VM_GONE: _D.SILENCE},
    ),
    _D.ACTIVATE: Step(
        Act.ACTIVATE,
        {_E.DONE: _D.START, _E.FAILED: _D.SILENCE, _E.RESTARTED: _D.ACTIVATE, _E.VM_GONE: _D.SILENCE},
    ),
    _D.START: Step(
        Act.START,
        {
            _E.DONE: _D.FINISH,
            _E.FAILED: _D.SILENCE,
            _E.UNPROVEN: _D.BLOCKED,
            _E.RESTARTED: _D.START,
            _E.VM_RUNS: _D.FINISH,
            _E.VM_GONE: _D.BLOCKED,
        },
    ),
    _D.FINISH: Step(
        Act.FINISH,
        {_E.DONE: _D.ARRIVED, _E.RESTARTED: _D.FINISH, _E.VM_RUNS: _D.FINISH, _E.VM_GONE: _D.FINISH},
    ),
    _D.SILENCE: Step(
        Act.SILENCE,
        {_E.DONE: _D.GIVE_BACK, _E.FAILED: _D.BLOCKED, _E.RESTARTED: _D.SILENCE, _E.VM_GONE: _D.SILENCE},
    ),
    _D.GIVE_BACK: Step(Act.GIVE_BACK, {_E.DONE: _D.RETURNED, _E.RESTARTED: _D.GIVE_BACK, _E.VM_GONE: _D.GIVE_BACK}),
}

_DESTINATION_EARLY: dict[Phase, Step] = {
    **_DESTINATION_DEVICE_STATE,
    _D.PREPARE: Step(Act.PROGRAM_EARLY, _DESTINATION_DEVICE_STATE[_D.PREPARE].on),
    _D.ACTIVATE: Step(Act.ACTIVATE_LOADED, _DESTINATION_DEVICE_STATE[_D.ACTIVATE].on),
}

_DESTINATION_FAILOVER: dict[Phase, Step] = {
    **_DESTINATION_DEVICE_STATE,
    _D.ACTIVATE: Step(Act.FORWARD_STANDBY, _DESTINATION_DEVICE_STATE[_D.ACTIVATE].on),
    _D.FINISH: Step(Act.FINISH, {**_DESTINATION_DEVICE_STATE[_D.FINISH].on, _E.DONE: _D.PLUG}),
    _D.PLUG: Step(
        Act.PLUG,
        {
            _E.DONE: _D.ARRIVED,
            _E.FAILED: _D.ON_STANDBY,
            _E.RESTARTED: _D.PLUG,
            _E.VM_RUNS: _D.PLUG,
            _E.VM_GONE: _D.PLUG,
        },
    ),
}

_DESTINATION_COLD: dict[Phase, Step] = {
    **_DESTINATION_DEVICE_STATE,
    # No stream: the VM is shut down and fenced when the final record comes; there is nothing to wait for.
    _D.READY: Step(Act.SAY_READY, {_E.DONE: _D.COMMIT, **_GOES_BACK}),
    # There is no VM to lose: nothing is here before it is started.
    _D.COMMIT: Step(
        Act.COMMIT, {_E.DONE: _D.ACTIVATE, _E.LOST: _D.SILENCE, _E.RESTARTED: _D.COMMIT, _E.VM_GONE: _D.COMMIT}
    ),
    _D.ACTIVATE: Step(
        Act.ACTIVATE,
        {_E.DONE: _D.START, _E.FAILED: _D.SILENCE, _E.RESTARTED: _D.ACTIVATE, _E.VM_GONE: _D.ACTIVATE},
    ),
}

TABLES: Mapping[tuple[Order, Role], Table] = MappingProxyType(
    {
        (Order.DEVICE_STATE, Role.SOURCE): MappingProxyType(_SOURCE_DEVICE_STATE),
        (Order.DEVICE_STATE, Role.DESTINATION): MappingProxyType(_DESTINATION_DEVICE_STATE),
        (Order.DEVICE_STATE_EARLY, Role.SOURCE): MappingProxyType(_SOURCE_EARLY),
        (Order.DEVICE_STATE_EARLY, Role.DESTINATION): MappingProxyType(_DESTINATION_EARLY),
        (Order.FAILOVER, Role.SOURCE): MappingProxyType(_SOURCE_FAILOVER),
        (Order.FAILOVER, Role.DESTINATION): MappingProxyType(_DESTINATION_FAILOVER),
        (Order.COLD, Role.SOURCE): MappingProxyType(_SOURCE_COLD),
        (Order.COLD, Role.DESTINATION): MappingProxyType(_DESTINATION_COLD),
    }
)
"""Every table, by order and role."""

FINAL_PHASES: frozenset[Phase] = frozenset(
    {
        _S.RELEASED,
        _S.KEPT,
        _S.REFUSED,
        _S.BLOCKED,
        _D.ARRIVED,
        _D.ON_STANDBY,
        _D.RETURNED,
        _D.DECLINED,
        _D.BLOCKED,
    }
)
"""Phases in which nothing more is done."""


def first_phase(role: Role) -> Phase:
    """Return the phase that a role begins in."""
    return SourcePhase.CLAIM if role is Role.SOURCE else DestinationPhase.CHECK


def order_of(mode: Mode, *, early: bool = False) -> Order:
    """Return the order of a mode.

    :param early: a setter of the destination's NIC resets the VF; matters in device-state mode only.
    """
    if mode is Mode.DEVICE_STATE:
        return Order.DEVICE_STATE_EARLY if early else Order.DEVICE_STATE
    return Order.FAILOVER if mode is Mode.FAILOVER else Order.COLD
