# SPDX-License-Identifier: Apache-2.0
"""VFIO migration v2: the states of a device, the arcs between them, and the path from one to another.

Rules, from the text above ``enum vfio_device_mig_state`` in ``<linux/vfio.h>`` (6.12):

* A driver acts on **arcs**. A request for a state that no arc leads to is the shortest **path** of arcs.
* PRE_COPY, PRE_COPY_P2P and STOP_COPY, the saving group, share one data session. A path never has them inside, only
  at its ends; where both ends are in the group, it stays in the group. So a path from STOP_COPY back to PRE_COPY does
  not exist, as the header demands.
* States that a device does not have (:data:`NEEDS`) cannot be asked for, and are skipped on a path.
* ERROR cannot be asked for, and only a reset leaves it, to RUNNING.
* A **data session** begins on the arc into the saving group or into RESUMING, and ends on the arc out of it.

Everything here is derived from :data:`ARCS`; whoever changes a rule changes it there or in :func:`_may_be_inside`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from vferry.core.errors import RefusedError
from vferry.core.vfio.constants import MigrationFlags

__all__ = [
    "ARCS",
    "NEEDS",
    "PATHS",
    "SAVING_GROUP",
    "DeviceState",
    "IllegalTransitionError",
    "Migration",
    "Session",
    "has",
    "session_of",
]


class DeviceState(enum.IntEnum):
    """``enum vfio_device_mig_state``."""

    ERROR = 0
    """The device failed; only a reset helps."""
    STOP = 1
    """It changes nothing, neither inside nor outside."""
    RUNNING = 2
    STOP_COPY = 3
    """Stopped; its state is read out."""
    RESUMING = 4
    """Stopped; a new state is loaded."""
    RUNNING_P2P = 5
    """Runs, but begins no DMA to other devices."""
    PRE_COPY = 6
    """Runs; its state is read out while it changes."""
    PRE_COPY_P2P = 7
    """PRE_COPY, but begins no DMA to other devices."""


class Session(enum.Enum):
    """Which way the data of a session go."""

    SAVING = "saving"
    """Out of the device."""
    LOADING = "loading"
    """Into the device."""


_S: Final = DeviceState

ARCS: Mapping[DeviceState, tuple[DeviceState, ...]] = MappingProxyType(
    {
        _S.RUNNING: (_S.RUNNING_P2P, _S.PRE_COPY),
        _S.RUNNING_P2P: (_S.RUNNING, _S.STOP, _S.PRE_COPY_P2P),
        _S.STOP: (_S.RUNNING_P2P, _S.STOP_COPY, _S.RESUMING),
        _S.PRE_COPY: (_S.RUNNING, _S.PRE_COPY_P2P),
        _S.PRE_COPY_P2P: (_S.RUNNING_P2P, _S.PRE_COPY, _S.STOP_COPY),
        _S.STOP_COPY: (_S.STOP,),
        _S.RESUMING: (_S.STOP,),
        _S.ERROR: (),
    }
)
"""The arcs of a device that has every state; arcs into ERROR are failures, not requests."""

SAVING_GROUP: Final = frozenset({_S.PRE_COPY, _S.PRE_COPY_P2P, _S.STOP_COPY})

_F: Final = MigrationFlags
NEEDS: Mapping[DeviceState, MigrationFlags] = MappingProxyType(
    {
        _S.ERROR: _F(0),
        _S.RUNNING: _F(0),
        _S.STOP: _F.STOP_COPY,
        _S.STOP_COPY: _F.STOP_COPY,
        _S.RESUMING: _F.STOP_COPY,
        _S.RUNNING_P2P: _F.STOP_COPY | _F.P2P,
        _S.PRE_COPY: _F.STOP_COPY | _F.PRE_COPY,
        _S.PRE_COPY_P2P: _F.STOP_COPY | _F.P2P | _F.PRE_COPY,
    }
)
"""What VFIO_DEVICE_FEATURE_MIGRATION must say for a device to have a state."""


class IllegalTransitionError(RefusedError):
    """A migration state that cannot be reached; the device stays where it is.

    :param source: where the device is.
    :param target: what was asked for; a plain number where it is no state at all.
    """

    def __init__(self, source: DeviceState, target: int, why: str) -> None:
        self.source = source
        self.target = target
        name = _S(target).name if target in _NUMBERS else str(target)
        next_step = "reset the device" if source is _S.ERROR else ""
        super().__init__(f"go from {source.name} to {name}", why=why, next_step=next_step)


_NUMBERS: Final = frozenset(int(state) for state in _S)


def has(flags: MigrationFlags, state: DeviceState) -> bool:
    """Return whether a device that announces `flags` has a state."""
    return NEEDS[state] & ~flags == 0


def session_of(state: DeviceState) -> Session | None:
    """Return the data session that exists in a state; None where there is none."""
    if state in SAVING_GROUP:
        return Session.SAVING
    return Session.LOADING if state is _S.RESUMING else None


def _may_be_inside(state: DeviceState, source: DeviceState, target: DeviceState) -> bool:
    """Whether a path between two states may pass through a third one."""
    within_group = source in SAVING_GROUP and target in SAVING_GROUP
    return (state in SAVING_GROUP) == within_group


def _shortest(source: DeviceState, target: DeviceState) -> tuple[DeviceState, ...] | None:
    """Return the states after `source` on the shortest path; None where there is none."""
    paths: list[tuple[DeviceState, ...]] = [(source,)]
    seen = {source}
    for path in paths:
        for state in ARCS[path[-1]]:
            if state is target:
                return (*path[1:], state)
            if state not in seen and _may_be_inside(state, source, target):
                seen.add(state)
                paths.append((*path, state))
    return None


def _all_paths() -> dict[tuple[DeviceState, DeviceState], tuple[DeviceState, ...]]:
    pairs = ((source, target) for source in _S for target in _S if source is not target)
    found = {pair: _shortest(*pair) for pair in pairs}
    return {pair: path for pair, path in found.items() if path is not None}


PATHS: Mapping[tuple[DeviceState, DeviceState], tuple[DeviceState, ...]] = MappingProxyType(_all_paths())
"""The states after the first on the path of a device that has every state; a pair that is not in it is refused."""


class Migration(NamedTuple):
    """The migration state of one device; immutable."""

    flags: MigrationFlags
    """What the device announces; 0 if it cannot migrate."""
    state: DeviceState = DeviceState.RUNNING

    @property
    def session(self) -> Session | None:
        """The data session that is open."""
        return session_of(self.state)

    def path(self, target: int) -> tuple[DeviceState, ...]:
        """Return the states to go through, the last of which is `target`; none where it is there already.

        :raise IllegalTransitionError: it cannot be reached, or the device does not have it.
        """
        if target not in _NUMBERS or target == _S.ERROR:
            raise IllegalTransitionError(self.state, target, "it is no state that can be asked for")
        wanted = _S(target)
        if self.state is _S.ERROR:
            raise IllegalTransitionError(self.state, target, "the device has failed")
        if not has(self.flags, wanted):
            raise IllegalTransitionError(self.state, target, "the device does not have this state")
        if wanted is self.state:
            return ()
        path = PATHS.get((self.state, wanted))
        if path is None:
            raise IllegalTransitionError(self.state, target, "a session cannot go back from stop-and-copy to pre-copy")
        return tuple(state for state in path if has(self.flags, state))

    def at(self, state: DeviceState) -> Migration:
        """Return the device after an arc."""
        return self._replace(state=state)

    def failed(self) -> Migration:
        """Return the device after an arc that left it in no valid state."""
        return self._replace(state=_S.ERROR)

    def reset(self) -> Migration:
        """Return the device after a reset, which is possible in every state and ends every session."""
        return self._replace(state=_S.RUNNING)
