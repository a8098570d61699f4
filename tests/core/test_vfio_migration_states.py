# SPDX-License-Identifier: Apache-2.0
"""VFIO migration v2: every pair of states against a slow reading of the rules, and against Linux's own answers."""

from __future__ import annotations

from itertools import pairwise, product

import pytest

from vferry.core.vfio.constants import MigrationFlags
from vferry.core.vfio.migration_states import (
    ARCS,
    NEEDS,
    PATHS,
    SAVING_GROUP,
    DeviceState,
    IllegalTransitionError,
    Migration,
    Session,
    has,
    session_of,
)

S = DeviceState
F = MigrationFlags
ALL = F.STOP_COPY | F.P2P | F.PRE_COPY
KINDS = [F.STOP_COPY, F.STOP_COPY | F.P2P, F.STOP_COPY | F.PRE_COPY, ALL]
PAIRS = list(product(S, S))

DIRECT = {
    (S.RUNNING_P2P, S.STOP),
    (S.STOP_COPY, S.STOP),
    (S.RESUMING, S.STOP),
    (S.PRE_COPY, S.RUNNING),
    (S.RUNNING_P2P, S.RUNNING),
    (S.PRE_COPY_P2P, S.RUNNING_P2P),
    (S.RUNNING, S.RUNNING_P2P),
    (S.STOP, S.RUNNING_P2P),
    (S.RUNNING, S.PRE_COPY),
    (S.RUNNING_P2P, S.PRE_COPY_P2P),
    (S.STOP, S.STOP_COPY),
    (S.PRE_COPY, S.PRE_COPY_P2P),
    (S.PRE_COPY_P2P, S.PRE_COPY),
    (S.PRE_COPY_P2P, S.STOP_COPY),
    (S.STOP, S.RESUMING),
}
"""The arcs in the order of the header's text."""

# What vfio_mig_get_next_state() of Linux 6.12 gives for a device with every state: rows are where it is, columns
# where it shall go; "-" is refused. Order: STOP RUNNING STOP_COPY RESUMING RUNNING_P2P PRE_COPY PRE_COPY_P2P.
ORDER = (S.STOP, S.RUNNING, S.STOP_COPY, S.RESUMING, S.RUNNING_P2P, S.PRE_COPY, S.PRE_COPY_P2P)
LINUX = """
    1 5 3 4 5 5 5
    5 2 5 5 5 6 5
    1 1 3 1 1 - -
    1 1 1 4 1 1 1
    1 2 1 1 5 2 7
    2 2 7 2 2 6 7
    5 5 3 5 5 6 7
"""


def slow_paths(source: S, target: S) -> list[tuple[S, ...]]:
    """Every path without a repetition, from the rules as the header has them, shortest ones only."""
    if source is target:
        return []
    found: list[tuple[S, ...]] = []

    def walk(path: tuple[S, ...]) -> None:
        if path[-1] is target:
            found.append(path)
            return
        for state in S:
            if state not in path and (path[-1], state) in DIRECT:
                walk((*path, state))

    walk((source,))
    group = {S.PRE_COPY, S.PRE_COPY_P2P, S.STOP_COPY}
    one_session = source in group and target in group
    allowed = [path for path in found if all((state in group) == one_session for state in path[1:-1])]
    shortest = min(map(len, allowed), default=0)
    return [path for path in allowed if len(path) == shortest]


def test_the_arcs_are_those_of_the_header() -> None:
    assert {(source, target) for source, targets in ARCS.items() for target in targets} == DIRECT


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_pair_against_the_rules(source: S, target: S) -> None:
    slow = slow_paths(source, target)
    path = PATHS.get((source, target))
    assert [(source, *path)] if path else not slow
    assert slow == ([(source, *path)] if path else [])


def test_every_next_state_is_the_kernels() -> None:
    rows = [line.split() for line in LINUX.split("\n") if line.strip()]
    for source, row in zip(ORDER, rows, strict=True):
        for target, number in zip(ORDER, row, strict=True):
            if source is target:
                assert int(number) == source
            else:
                path = PATHS.get((source, target))
                assert (path[0] if path else "-") == ("-" if number == "-" else S(int(number)))


@pytest.mark.parametrize("flags", KINDS)
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_device_with_fewer_states_skips_them(flags: F, source: S, target: S) -> None:
    if not has(flags, source):
        return
    machine = Migration(flags, source)
    possible = target is not S.ERROR and has(flags, target) and source is not S.ERROR
    if possible and (source is target or (source, target) in PATHS):
        path = machine.path(target)
        assert all(has(flags, state) for state in path)
        assert (path[-1] if path else source) is target
        assert path == tuple(state for state in PATHS.get((source, target), ()) if has(flags, state))
        assert len(set(path)) == len(path)
    else:
        with pytest.raises(IllegalTransitionError) as caught:
            machine.path(target)
        assert (caught.value.source, caught.value.target) == (source, target)
        assert machine.state is source


@pytest.mark.parametrize("target", [-1, 8, 99, 1 << 31, int(S.ERROR)])
def test_what_is_no_state_cannot_be_asked_for(target: int) -> None:
    for source in S:
        with pytest.raises(IllegalTransitionError):
            Migration(ALL, source).path(target)


@pytest.mark.parametrize("flags", KINDS)
def test_a_saving_session_is_never_opened_on_the_way(flags: F) -> None:
    for (source, target), path in PATHS.items():
        states = [state for state in (source, *path) if has(flags, state)]
        inside = [state for state in states[1:-1] if state in SAVING_GROUP]
        assert not inside or {source, target} <= SAVING_GROUP


def test_a_session_is_one_as_long_as_the_group_is_not_left() -> None:
    assert {state: session_of(state) for state in S if session_of(state)} == {
        S.PRE_COPY: Session.SAVING,
        S.PRE_COPY_P2P: Session.SAVING,
        S.STOP_COPY: Session.SAVING,
        S.RESUMING: Session.LOADING,
    }
    for (source, target), path in PATHS.items():
        if {source, target} <= SAVING_GROUP:
            assert {session_of(state) for state in path} == {Session.SAVING}


def test_the_way_of_a_precopy_migration() -> None:
    """What QEMU does with mlx5-like drivers, on both sides."""
    source = [S.RUNNING, S.PRE_COPY, S.PRE_COPY_P2P, S.STOP_COPY, S.STOP]
    for here, there in pairwise(source):
        assert Migration(ALL, here).path(there) == (there,)
    assert Migration(ALL, S.RUNNING).path(S.RESUMING) == (S.RUNNING_P2P, S.STOP, S.RESUMING)
    assert Migration(ALL, S.RESUMING).path(S.RUNNING) == (S.STOP, S.RUNNING_P2P, S.RUNNING)
    assert Migration(F.STOP_COPY, S.RESUMING).path(S.RUNNING) == (S.STOP, S.RUNNING)


def test_error_is_left_by_reset_only() -> None:
    failed = Migration(ALL, S.STOP_COPY).failed()
    assert failed.state is S.ERROR
    assert failed.session is None
    for target in S:
        with pytest.raises(IllegalTransitionError, match="has failed" if target else "no state"):
            failed.path(target)
    assert failed.reset() == Migration(ALL, S.RUNNING)


@pytest.mark.parametrize("state", list(S))
def test_a_reset_ends_everything(state: S) -> None:
    assert Migration(ALL, state).reset() == Migration(ALL)


def test_a_device_that_cannot_migrate_runs() -> None:
    machine = Migration(F(0))
    assert machine.path(S.RUNNING) == ()
    for target in set(S) - {S.RUNNING}:
        with pytest.raises(IllegalTransitionError):
            machine.path(target)
    assert set(NEEDS) == set(S) == set(ARCS)
