# SPDX-License-Identifier: Apache-2.0
"""DEVICE_FEATURE, migration states and data, and the dirty log, over a socket."""

from __future__ import annotations

import errno
import struct
from itertools import product

import pytest

from tests.vfio_user.models import PAGE, Model, ram
from tests.vfio_user.sessions import Served, refused, served
from vferry.core.vfio.constants import Command, Feature, FeatureFlags, MigrationFlags, RegionIndex
from vferry.core.vfio.layouts import (
    DEVICE_FEATURE,
    DMA_LOGGING_CONTROL,
    DMA_LOGGING_REPORT,
    FEATURE_MIG_STATE,
    MIG_DATA,
)
from vferry.core.vfio.migration_states import PATHS, DeviceState, has
from vferry.vfio_user.client import RefusedByServerError
from vferry.vfio_user.device import DeviceError, DeviceLostError

S = DeviceState
ALL = MigrationFlags.STOP_COPY | MigrationFlags.P2P | MigrationFlags.PRE_COPY
KINDS = [MigrationFlags.STOP_COPY, MigrationFlags.STOP_COPY | MigrationFlags.PRE_COPY, ALL]
GET, SET, PROBE = FeatureFlags.GET, FeatureFlags.SET, FeatureFlags.PROBE
CONFIG = RegionIndex.CONFIG


def arcs(session: Served) -> list[tuple[S, S]]:
    """The calls of the model since the last time."""
    stream = session.model.stream
    assert stream is not None
    found, stream.arcs = stream.arcs, []
    return found


def drained(session: Served, size: int = 100) -> bytes:
    found = b""
    while True:
        data = session.client.read_migration_data(size)
        found += data
        if len(data) < size:
            return found


@pytest.mark.parametrize("flags", KINDS)
def test_every_arc_is_a_call(flags: MigrationFlags) -> None:
    """From every state to every other one; a state is reached by a reset and a way that is known."""
    with served(Model(flags)) as session:
        client = session.client
        states = [state for state in S if has(flags, state) and state is not S.ERROR]
        for source, target in product(states, states):
            client.reset()
            stream = session.model.stream
            assert stream is not None
            client.set_migration_state(source)
            stream.loaded = bytes(session.model.config.size)
            arcs(session)
            path = [state for state in PATHS.get((source, target), ()) if has(flags, state)]
            if source is target or path:
                client.set_migration_state(target)
                assert client.migration_state() is target
                assert arcs(session) == list(zip([source, *path], path, strict=False))
            else:
                with refused(errno.EINVAL):
                    client.set_migration_state(target)
                assert client.migration_state() is source
                assert arcs(session) == []


@pytest.mark.parametrize("target", [0, 5, 6, 7, 8, 99, 0xFFFFFFFF])
def test_states_that_cannot_be_asked_for(target: int) -> None:
    with served() as session:
        with refused(errno.EINVAL):
            session.client.set_migration_state(target)
        assert session.client.migration_state() is S.RUNNING
        assert arcs(session) == []


def test_an_arc_that_fails_leaves_the_device_before_it() -> None:
    with served(Model(ALL)) as session:
        stream = session.model.stream
        assert stream is not None

        def fail(source: S, target: S) -> None:
            if target is S.STOP_COPY:
                raise DeviceError(f"leave {source.name}", code=errno.EBUSY)

        stream.fail = fail
        with refused(errno.EBUSY):
            session.client.set_migration_state(S.STOP_COPY)
        assert session.client.migration_state() is S.STOP
        stream.fail = lambda source, target: None
        session.client.set_migration_state(S.STOP_COPY)


def test_only_a_reset_leaves_error() -> None:
    with served(Model(ALL)) as session:
        client, stream = session.client, session.model.stream
        assert stream is not None

        def fail(source: S, _: S) -> None:
            raise DeviceLostError(f"leave {source.name}")

        stream.fail = fail
        with refused(errno.EIO):
            client.set_migration_state(S.STOP)
        stream.fail = lambda source, target: None
        assert client.migration_state() is S.ERROR
        arcs(session)
        for target in S:
            with refused(errno.EINVAL):
                client.set_migration_state(target)
        with refused(errno.EINVAL):
            client.read_migration_data(10)
        assert arcs(session) == []
        session.connect().version()
        assert session.client.migration_state() is S.ERROR
        session.client.reset()
        assert session.client.migration_state() is S.RUNNING
        session.client.set_migration_state(S.STOP)


def test_a_device_is_moved() -> None:
    with served(Model(ALL)) as source, served(Model(ALL)) as destination:
        source.client.write(CONFIG, 0, b"what the guest wrote")
        source.client.set_migration_state(S.PRE_COPY)
        early = drained(source)
        source.client.set_migration_state(S.PRE_COPY_P2P)
        assert source.client.read_migration_data(10) == b""
        source.client.set_migration_state(S.STOP_COPY)
        state = drained(source)
        source.client.set_migration_state(S.STOP)
        assert len(early) == len(state) == 256

        destination.client.set_migration_state(S.RESUMING)
        for at in range(0, 256, 7):
            destination.client.write_migration_data(state[at : at + 7])
        destination.client.set_migration_state(S.RUNNING)
        assert destination.client.read(CONFIG, 0, 20) == b"what the guest wrote"


def test_a_state_that_is_not_whole_is_refused_and_more_may_come() -> None:
    with served() as session:
        client = session.client
        client.set_migration_state(S.RESUMING)
        client.write_migration_data(bytes(255))
        with refused(errno.EINVAL):
            client.set_migration_state(S.RUNNING)
        assert client.migration_state() is S.RESUMING
        with refused(errno.ENOMEM):
            client.write_migration_data(bytes(2))
        client.write_migration_data(b"x")
        client.set_migration_state(S.RUNNING)


@pytest.mark.parametrize("state", [state for state in S if state is not S.ERROR])
def test_data_go_in_their_session_only(state: S) -> None:
    with served(Model(ALL)) as session:
        session.client.set_migration_state(state)
        if state in (S.PRE_COPY, S.PRE_COPY_P2P, S.STOP_COPY):
            session.client.read_migration_data(16)
        else:
            with refused(errno.EINVAL):
                session.client.read_migration_data(16)
        if state is S.RESUMING:
            session.client.write_migration_data(b"x")
        else:
            with refused(errno.EINVAL):
                session.client.write_migration_data(b"x")


@pytest.mark.parametrize(
    ("cmd", "payload"),
    [
        (Command.MIG_DATA_READ, MIG_DATA.pack(107, 100)),
        (Command.MIG_DATA_READ, MIG_DATA.pack(0xFFFFFFFF, (1 << 20) + 1)),
        (Command.MIG_DATA_READ, MIG_DATA.pack(0xFFFFFFFF, 0xFFFFFFFF)),
        (Command.MIG_DATA_READ, b"1234567"),
        (Command.MIG_DATA_WRITE, MIG_DATA.pack(10, 3) + b"ab"),
        (Command.MIG_DATA_WRITE, MIG_DATA.pack(10, 1) + b"ab"),
        (Command.MIG_DATA_WRITE, b"1234567"),
    ],
)
def test_sizes_that_make_no_sense(cmd: Command, payload: bytes) -> None:
    with served() as session:
        session.client.set_migration_state(S.STOP_COPY if cmd == Command.MIG_DATA_READ else S.RESUMING)
        with refused(errno.EINVAL):
            session.client.call(cmd, payload)


def test_the_state_survives_the_client() -> None:
    with served() as session:
        session.client.set_migration_state(S.STOP_COPY)
        assert len(session.client.read_migration_data(100)) == 100
        session.connect().version()
        assert session.client.migration_state() is S.STOP_COPY
        assert len(drained(session)) == 156


# Features.

METHODS = {
    Feature.MIGRATION: GET,
    Feature.MIG_DEVICE_STATE: GET | SET,
    Feature.DMA_LOGGING_START: SET,
    Feature.DMA_LOGGING_STOP: SET,
    Feature.DMA_LOGGING_REPORT: GET,
}


def test_probes() -> None:
    with served() as session:
        for feature, methods in METHODS.items():
            for probed in (PROBE, PROBE | GET, PROBE | SET, PROBE | GET | SET):
                if probed & ~int(PROBE) & ~int(methods):
                    with refused(errno.EINVAL):
                        session.client.feature(feature, probed)
                else:
                    assert session.client.feature(feature, probed, b"same") == b"same"
        assert session.client.migration_state() is S.RUNNING


@pytest.mark.parametrize("feature", [0, 3, 4, 5, 9, 10, 0xFFFF])
def test_features_that_are_not_there(feature: int) -> None:
    with served() as session:
        for method in (GET, SET, PROBE):
            with refused(errno.ENOTTY):
                session.client.feature(feature, method)


@pytest.mark.parametrize("feature", METHODS)
def test_methods_that_make_no_sense(feature: Feature) -> None:
    state = FEATURE_MIG_STATE.pack(S.STOP, -1)
    with served() as session:
        for flags in (0, GET | SET, 1 << 19, GET | 1 << 20, SET | 1 << 31, PROBE | 1 << 19):
            with refused(errno.EINVAL):
                session.client.call(Command.DEVICE_FEATURE, DEVICE_FEATURE.pack(100, feature | flags) + state)
        assert session.client.migration_state() is S.RUNNING


def test_a_device_that_cannot_migrate_can_be_logged() -> None:
    with served(Model(None)) as session:
        for feature in (Feature.MIGRATION, Feature.MIG_DEVICE_STATE):
            with refused(errno.ENOTTY):
                session.client.feature(feature, PROBE)
        with refused(errno.EINVAL):
            session.client.read_migration_data(1)
        session.client.dma_logging_start(PAGE)
        session.client.reset()


def test_what_a_device_announces() -> None:
    for flags in KINDS:
        with served(Model(flags)) as session:
            assert session.client.migration_flags() == flags


def test_an_answer_that_does_not_fit_changes_nothing() -> None:
    with served() as session, ram(4 * PAGE) as guest:
        client = session.client
        with refused(errno.EINVAL):
            client.feature(Feature.MIG_DEVICE_STATE, SET, FEATURE_MIG_STATE.pack(S.STOP, -1), room=15)
        assert client.migration_state() is S.RUNNING
        with refused(errno.EINVAL):
            client.feature(Feature.MIGRATION, GET, room=15)
        client.dma_map(0, 4 * PAGE, fd=guest.fd)
        client.dma_logging_start(PAGE)
        assert session.model.guest is not None
        session.model.guest.write(PAGE, b"x")
        with refused(errno.EINVAL):
            client.feature(Feature.DMA_LOGGING_REPORT, GET, DMA_LOGGING_REPORT.pack(0, 4 * PAGE, PAGE), room=39)
        assert client.dma_logging_report(0, 4 * PAGE, PAGE) == {PAGE}


@pytest.mark.parametrize("payload", [b"", b"1234567"])
def test_a_short_request(payload: bytes) -> None:
    with served() as session:
        with refused(errno.EINVAL):
            session.client.call(Command.DEVICE_FEATURE, payload)
        for feature in (Feature.DMA_LOGGING_START, Feature.MIG_DEVICE_STATE):
            with refused(errno.EINVAL):
                session.client.feature(feature, SET, b"1234567")


# The dirty log.


def dma(session: Served, address: int, count: int) -> None:
    """Have the device write, by a register."""
    session.client.write(RegionIndex.BAR0, 0, struct.pack("<QQ", address, count))


def test_what_the_device_writes_is_logged() -> None:
    with served() as session, ram(16 * PAGE) as guest:
        client = session.client
        client.dma_map(0x100000, 16 * PAGE, fd=guest.fd)
        dma(session, 0x100000, 1)
        assert client.dma_logging_start(PAGE) == PAGE
        dma(session, 0x100000 + 2 * PAGE, PAGE + 1)
        dma(session, 0x100000 + 9 * PAGE, 1)
        dma(session, 0x100000 + 16 * PAGE, 1)
        client.write(RegionIndex.BAR0, 16, struct.pack("<QQ", 0x100000 + 5 * PAGE, 1))  # a read
        pages = {0x100000 + n * PAGE for n in (2, 3, 9)}
        assert client.dma_logging_report(0x100000, 16 * PAGE, PAGE) == pages
        assert client.dma_logging_report(0x100000, 16 * PAGE, PAGE) == set()
        dma(session, 0x100000, 1)
        client.dma_logging_stop()
        with refused(errno.EINVAL):
            client.dma_logging_report(0x100000, 16 * PAGE, PAGE)


def test_a_log_of_ranges() -> None:
    with served() as session, ram(16 * PAGE) as guest:
        client = session.client
        client.dma_map(0, 16 * PAGE, fd=guest.fd)
        assert client.dma_logging_start(3, [(4 * PAGE, PAGE), (0, PAGE)]) == PAGE
        for n in range(16):
            dma(session, n * PAGE, 1)
        assert client.dma_logging_report(0, 16 * PAGE, PAGE) == {0, 4 * PAGE}


def test_a_log_begins_and_ends_once() -> None:
    with served() as session:
        with refused(errno.EINVAL):
            session.client.dma_logging_stop()
        session.client.dma_logging_start(PAGE)
        with refused(errno.EINVAL):
            session.client.dma_logging_start(PAGE)
        session.client.dma_logging_stop()
        session.client.dma_logging_start(PAGE)
        session.connect().version()
        session.client.dma_logging_start(PAGE)


@pytest.mark.parametrize(
    ("address", "size", "page"),
    [(0, PAGE, 0), (0, PAGE, 3), (0, 0, PAGE), ((1 << 64) - PAGE, 2 * PAGE, PAGE), (0, 1 << 63, PAGE)],
)
def test_reports_that_make_no_sense(address: int, size: int, page: int) -> None:
    with served() as session:
        session.client.dma_logging_start(PAGE)
        request = DMA_LOGGING_REPORT.pack(address, size, page)
        with refused(errno.EINVAL):
            session.client.feature(Feature.DMA_LOGGING_REPORT, GET, request, room=0xFFFFFFFF)


@pytest.mark.parametrize("number", [1, 0xFFFFFFFF])
def test_ranges_that_are_not_there(number: int) -> None:
    with served() as session:
        with refused(errno.EINVAL):
            session.client.feature(Feature.DMA_LOGGING_START, SET, DMA_LOGGING_CONTROL.pack(PAGE, number, 0))
        with pytest.raises(RefusedByServerError, match="EINVAL"):
            session.client.dma_logging_stop()
