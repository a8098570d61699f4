# SPDX-License-Identifier: Apache-2.0
"""A hostile client: no crash, nothing touched that is not mapped, no memory without bounds, no descriptor lost."""

from __future__ import annotations

import os
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vfio_user.models import PAGE, PATTERN, Model, Ram
from tests.vfio_user.sessions import Outcome, open_fds, run_chunks
from vferry.core.vfio.codec import Limits, command, encode_version
from vferry.core.vfio.constants import VFIO_DEVICE_FEATURE_MASK, Command, FeatureFlags, MigrationFlags, RegionIndex
from vferry.core.vfio.layouts import (
    DEVICE_FEATURE,
    DMA_ACCESS,
    DMA_LOGGING_CONTROL,
    DMA_LOGGING_RANGE,
    DMA_LOGGING_REPORT,
    DMA_MAP,
    DMA_UNMAP,
    FEATURE_MIG_STATE,
    HEADER,
    IRQ_SET,
    MIG_DATA,
    REGION_ACCESS,
    WRITE_MULTI,
    WRITE_MULTI_ENTRY,
)

pytestmark = pytest.mark.fuzz

ALL = MigrationFlags.STOP_COPY | MigrationFlags.P2P | MigrationFlags.PRE_COPY
LIMITS = Limits(max_msg_fds=4, max_data_xfer_size=1 << 14, max_dma_maps=4, write_multiple=True)
HELLO = command(0, Command.VERSION, encode_version(Limits()))
FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
RAM = 8 * PAGE

U16, U32, U64 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.integers(0, (1 << 64) - 1)
# Small and large, aligned and not, and beside every limit.
NEAR = st.sampled_from(
    [0, 1, 3, 4, 8, 16, 64, 255, 256, 257, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, RAM, 1 << 14, 1 << 20]
)
COUNT = NEAR | U32
ADDRESS = st.builds(lambda page, more: page * PAGE + more, st.integers(0, 12), st.sampled_from([0, 0, 0, 1, 4095]))
WIDE = ADDRESS | st.sampled_from([(1 << 63), (1 << 64) - PAGE, (1 << 64) - 1]) | U64
SIZE = st.integers(0, 9).map(lambda pages: pages * PAGE) | WIDE
REGION = st.sampled_from([*RegionIndex, 9, 0xFFFFFFFF])
SMALL = st.binary(max_size=40)
FLAGS_OF_IRQS = st.integers(0, 127)


class Sent(NamedTuple):
    """A message, and what descriptors come with it: "r" memory, "s" sealed memory, "e" an eventfd, "p" a pipe."""

    octets: bytes
    fds: str = ""


def feature(flags: int, index: int, room: int, data: bytes) -> bytes:
    return DEVICE_FEATURE.pack(room, flags | index & VFIO_DEVICE_FEATURE_MASK) + data


DMA = st.builds(lambda a, n: a.to_bytes(8, "little") + n.to_bytes(8, "little"), WIDE, SIZE)
PAYLOADS = st.one_of(
    st.tuples(st.just(Command.DMA_MAP), st.builds(DMA_MAP.pack, st.just(32), st.integers(0, 4), SIZE, WIDE, SIZE)),
    st.tuples(
        st.just(Command.DMA_MAP),
        st.builds(lambda at, size: DMA_MAP.pack(32, 3, at, at, size), ADDRESS, st.sampled_from([PAGE, 2 * PAGE])),
    ),
    st.tuples(st.just(Command.DMA_UNMAP), st.builds(DMA_UNMAP.pack, st.just(24), st.integers(0, 3), WIDE, SIZE)),
    st.tuples(
        st.just(Command.DEVICE_SET_IRQS),
        st.builds(
            lambda *a: IRQ_SET.pack(20, *a[:4]) + a[4], st.integers(0, 127), st.integers(0, 5), COUNT, COUNT, SMALL
        ),
    ),
    st.tuples(st.just(Command.REGION_READ), st.builds(REGION_ACCESS.pack, WIDE | NEAR, REGION, COUNT)),
    st.tuples(
        st.just(Command.REGION_WRITE),
        st.builds(lambda at, region, data: REGION_ACCESS.pack(at, region, len(data)) + data, NEAR, REGION, SMALL),
    ),
    st.tuples(
        st.just(Command.REGION_WRITE),
        st.builds(lambda at, data: REGION_ACCESS.pack(at, 0, 16) + data, st.sampled_from([0, 0, 16]), DMA),
    ),
    st.tuples(st.just(Command.REGION_WRITE), st.builds(REGION_ACCESS.pack, WIDE, REGION, COUNT)),
    st.tuples(
        st.just(Command.REGION_WRITE_MULTI),
        st.builds(
            lambda n, entries: WRITE_MULTI.pack(n) + b"".join(entries),
            st.integers(0, 3) | U64,
            st.lists(
                st.builds(WRITE_MULTI_ENTRY.pack, NEAR, REGION, st.integers(0, 9), st.binary(max_size=8)), max_size=3
            ),
        ),
    ),
    st.tuples(st.just(Command.DEVICE_FEATURE), st.builds(feature, U32, st.integers(0, 10), COUNT, SMALL)),
    st.tuples(
        st.just(Command.DEVICE_FEATURE),
        st.builds(
            lambda state: feature(FeatureFlags.SET, 2, 100, FEATURE_MIG_STATE.pack(state, -1)), st.integers(0, 9)
        ),
    ),
    st.tuples(
        st.just(Command.DEVICE_FEATURE),
        st.builds(
            lambda size, n, ranges: feature(
                FeatureFlags.SET, 6, 1000, DMA_LOGGING_CONTROL.pack(size, n, 0) + b"".join(ranges)
            ),
            SIZE,
            st.integers(0, 3),
            st.lists(st.builds(DMA_LOGGING_RANGE.pack, WIDE, SIZE), max_size=3),
        ),
    ),
    st.tuples(
        st.just(Command.DEVICE_FEATURE),
        st.builds(lambda *a: feature(FeatureFlags.GET, 8, 1 << 20, DMA_LOGGING_REPORT.pack(*a)), WIDE, SIZE, SIZE),
    ),
    st.tuples(st.sampled_from([Command.MIG_DATA_READ, Command.MIG_DATA_WRITE]), st.builds(MIG_DATA.pack, COUNT, COUNT)),
    st.tuples(
        st.just(Command.MIG_DATA_WRITE),
        SMALL.map(lambda data: MIG_DATA.pack(MIG_DATA.size + len(data), len(data)) + data),
    ),
    st.tuples(st.sampled_from(Command), SMALL),
    st.tuples(st.integers(0, 0xFFFF), SMALL),
)
FDS = st.sampled_from(["", "", "r", "s", "e", "ee", "eee", "p", "re", "ssss"])
FLAGS = st.sampled_from([0, 0, 0, 0x10])
MESSAGES = st.builds(
    lambda number, what, flags, fds: Sent(command(number, what[0], what[1], flags=flags), fds),
    U16,
    PAYLOADS,
    FLAGS,
    FDS,
)


class Hostile:
    """Runs one session; knows what must never change."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.files = {"r": Ram(RAM, sealed=False), "s": Ram(RAM)}

    def run(self, messages: list[Sent], cuts: list[int]) -> Outcome:
        """Send messages, each cut where `cuts` says, its descriptors with its first octet."""
        before = open_fds()
        chunks: list[tuple[bytes, list[int]]] = [(HELLO, [])]
        for n, message in enumerate(messages):
            cut = cuts[n % len(cuts)] % len(message.octets) if cuts and message.octets else 0
            fds = self._descriptors(message.fds)
            chunks += [(message.octets[:cut], fds), (message.octets[cut:], [])] if cut else [(message.octets, fds)]
        outcome = run_chunks(self.model, chunks, LIMITS)
        assert open_fds() == before
        return outcome

    def _descriptors(self, kinds: str) -> list[int]:
        found = []
        for kind in kinds:
            if kind == "e":
                found.append(os.eventfd(0, os.EFD_NONBLOCK))
            elif kind == "p":
                reader, writer = os.pipe()
                os.close(reader)
                found.append(writer)
            else:
                found.append(os.dup(self.files[kind].fd))
        return found

    def check(self, outcome: Outcome) -> None:
        assert outcome.buffer <= 1 << 16
        assert len(outcome.sent) <= 1 << 22
        outcome.answers()  # whole messages, and nothing behind them
        assert not self.model.attached
        self._check_dma()

    def _check_dma(self) -> None:
        """Every DMA that went through was within maps; the files have nothing but what it wrote."""
        for write, address, count, found in self.model.dmas:
            if found is not None and not write:
                assert len(found) == count
            if found is not None and count:
                assert all(self._was_mapped(page) for page in range(address // PAGE, -(-(address + count) // PAGE)))
        for memory in self.files.values():
            assert not set(memory.octets[:]) - {0, PATTERN[0]}
            if not any(write and found is not None and count for write, _, count, found in self.model.dmas):
                assert memory.octets[:] == bytes(RAM)

    def _was_mapped(self, page: int) -> bool:
        return any(
            what == "map" and address <= page * PAGE < address + size for what, address, size in self.model.notices
        )

    def close(self) -> None:
        for memory in self.files.values():
            memory.close()


def attack(messages: list[Sent], cuts: list[int]) -> None:
    hostile = Hostile(Model(ALL))
    try:
        hostile.check(hostile.run(messages, cuts))
    finally:
        hostile.close()


@FUZZ
@given(st.lists(MESSAGES, max_size=12), st.lists(st.integers(0, 200), max_size=5))
def test_valid_frames_with_hostile_contents(messages: list[Sent], cuts: list[int]) -> None:
    attack(messages, cuts)


def edited(message: Sent, at: int, octet: int, length: int) -> Sent:
    octets = bytearray(message.octets)
    octets[at % len(octets)] = octet
    return Sent(bytes(octets[: length or None]), message.fds)


MUTATED = st.builds(edited, MESSAGES, st.integers(0, 63), st.integers(0, 255), st.sampled_from([0, 0, 0, 15, 16, 33]))


@FUZZ
@given(st.lists(MESSAGES | MUTATED, max_size=12), st.lists(st.integers(0, 200), max_size=5))
def test_damaged_messages(messages: list[Sent], cuts: list[int]) -> None:
    attack(messages, cuts)


@FUZZ
@given(st.lists(st.builds(Sent, st.binary(max_size=60), FDS), max_size=12), st.just([]))
def test_any_octets(messages: list[Sent], cuts: list[int]) -> None:
    attack(messages, cuts)


HEADERS = st.builds(HEADER.pack, U16, st.integers(0, 20), st.sampled_from([0, 15, 16, 32, 48]) | U32, U32, U32)
ANSWERS = st.builds(
    lambda number, cmd, flags, payload: HEADER.pack(number, cmd, 16 + len(payload), 1 | flags, 5) + payload,
    st.integers(0, 3),
    st.sampled_from([Command.DMA_READ, Command.DMA_WRITE]),
    st.sampled_from([0, 0x20]),
    st.sampled_from([b"", DMA_ACCESS.pack(0, 4), DMA_ACCESS.pack(0, 4) + b"abcd"]),
)


@FUZZ
@given(
    st.lists(st.builds(Sent, HEADERS | ANSWERS, FDS) | MESSAGES, max_size=8), st.lists(st.integers(0, 60), max_size=3)
)
def test_hostile_headers_and_answers(messages: list[Sent], cuts: list[int]) -> None:
    attack(messages, cuts)


@FUZZ
@given(ADDRESS, st.integers(0, 3 * PAGE), st.lists(st.tuples(ADDRESS, SIZE, st.sampled_from("rs")), max_size=4))
def test_a_device_reaches_exactly_what_is_mapped(address: int, count: int, maps: list[tuple[int, int, str]]) -> None:
    """Against a slow model: page by page."""
    hostile = Hostile(Model(ALL))
    request = address.to_bytes(8, "little") + count.to_bytes(8, "little")
    messages = [Sent(command(1, Command.DMA_MAP, DMA_MAP.pack(32, 3, 0, at, size)), kind) for at, size, kind in maps]
    messages.append(Sent(command(2, Command.REGION_WRITE, REGION_ACCESS.pack(0, 0, 16) + request)))
    try:
        hostile.run(messages, [])
        pages: dict[int, tuple[str, int]] = {}
        for at, size, kind in maps:
            wanted = range(at // PAGE, (at + size) // PAGE)
            if not at % PAGE and not size % PAGE and 0 < size <= RAM and not pages.keys() & set(wanted):
                pages.update({page: (kind, (page - wanted[0]) * PAGE) for page in wanted})
        touched = range(address, address + count)
        possible = all(octet // PAGE in pages for octet in [*touched[::PAGE], *touched[-1:]])
        ((_, _, _, found),) = hostile.model.dmas
        assert (found is not None) == possible
        wanted_octets = {kind: bytearray(RAM) for kind in "rs"}
        for octet in touched if possible else ():
            kind, offset = pages[octet // PAGE]
            wanted_octets[kind][offset + octet % PAGE] = PATTERN[0]
        assert {kind: bytearray(memory.octets[:]) for kind, memory in hostile.files.items()} == wanted_octets
    finally:
        hostile.close()
