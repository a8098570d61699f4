# SPDX-License-Identifier: Apache-2.0
"""The dirty log: nothing that was written is ever lost, whatever the page sizes; what is reported is forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vferry.core.vfio.codec import MalformedError
from vferry.core.vfio.dirty_log import DirtyLog, bitmap_size
from vferry.core.vfio.layouts import DmaLoggingRange

PAGE = 4096
TOP = 1 << 64


def dirty(bitmap: bytearray, iova: int, page_size: int) -> set[int]:
    bits = int.from_bytes(bitmap, "little")
    return {iova + n * page_size for n in range(bits.bit_length()) if bits >> n & 1}


def test_pages_are_reported_once() -> None:
    log = DirtyLog(PAGE)
    log.mark(PAGE - 1, 2)
    log.mark(10 * PAGE, 1)
    log.mark(20 * PAGE, 0)
    assert dirty(log.report(0, 64 * PAGE, PAGE), 0, PAGE) == {0, PAGE, 10 * PAGE}
    assert dirty(log.report(0, 64 * PAGE, PAGE), 0, PAGE) == set()


def test_only_the_asked_range_is_forgotten() -> None:
    log = DirtyLog(PAGE)
    log.mark(0, 8 * PAGE)
    assert dirty(log.report(2 * PAGE, 3 * PAGE, PAGE), 2 * PAGE, PAGE) == {2 * PAGE, 3 * PAGE, 4 * PAGE}
    assert log.pages == {0, 1, 5, 6, 7}


def test_a_report_with_smaller_pages_repeats_and_keeps_what_it_saw_a_part_of() -> None:
    log = DirtyLog(4 * PAGE)
    log.mark(5 * PAGE, 1)
    assert dirty(log.report(4 * PAGE, 2 * PAGE, PAGE), 4 * PAGE, PAGE) == {4 * PAGE, 5 * PAGE}
    assert dirty(log.report(4 * PAGE, 4 * PAGE, PAGE), 4 * PAGE, PAGE) == {n * PAGE for n in (4, 5, 6, 7)}
    assert log.pages == set()


def test_a_report_with_larger_pages_joins() -> None:
    log = DirtyLog(PAGE)
    log.mark(PAGE, 1)
    log.mark(3 * PAGE, 1)
    assert dirty(log.report(0, 8 * PAGE, 2 * PAGE), 0, 2 * PAGE) == {0, 2 * PAGE}


def test_ranges() -> None:
    log = DirtyLog(PAGE, [DmaLoggingRange(4 * PAGE, 2 * PAGE), DmaLoggingRange(PAGE, PAGE)])
    log.mark(0, 10 * PAGE)
    assert log.pages == {1, 4, 5}


@pytest.mark.parametrize("hint", [0, 1, 3, 4095, 5000, 2048, 1 << 40])
def test_a_page_size_that_cannot_be_had(hint: int) -> None:
    assert DirtyLog(hint).page_size == PAGE


def test_a_page_size_that_can_be_had() -> None:
    assert DirtyLog(1 << 21).page_size == 1 << 21


@pytest.mark.parametrize(
    "ranges", [[(0, 0)], [(TOP - PAGE, 2 * PAGE)], [(0, 2 * PAGE), (PAGE, PAGE)], [(PAGE, PAGE), (PAGE, PAGE)]]
)
def test_ranges_that_make_no_sense(ranges: list[tuple[int, int]]) -> None:
    with pytest.raises(MalformedError):
        DirtyLog(PAGE, [DmaLoggingRange(*one) for one in ranges])


@pytest.mark.parametrize(
    ("size", "page", "octets"), [(PAGE, PAGE, 8), (64 * PAGE, PAGE, 8), (65 * PAGE, PAGE, 16), (1, PAGE, 8)]
)
def test_the_size_of_a_bitmap(size: int, page: int, octets: int) -> None:
    assert bitmap_size(size, page) == octets


@pytest.mark.parametrize(
    ("iova", "size", "page"), [(0, 0, PAGE), (0, PAGE, 0), (0, PAGE, 3000), (0, PAGE, 1), (TOP - 1, 2, PAGE)]
)
def test_reports_that_make_no_sense(iova: int, size: int, page: int) -> None:
    log = DirtyLog(PAGE)
    log.mark(0, 1)
    with pytest.raises(MalformedError):
        log.report(iova, size, page)
    assert log.pages == {0}


def test_the_top_of_the_address_space() -> None:
    log = DirtyLog(PAGE)
    log.mark(TOP - 1, 1)
    assert dirty(log.report(TOP - PAGE, PAGE, PAGE), TOP - PAGE, PAGE) == {TOP - PAGE}


SIZES = st.sampled_from([PAGE, 2 * PAGE, 8 * PAGE])


@settings(deadline=None)
@given(
    SIZES,
    st.lists(st.tuples(st.integers(0, 40 * PAGE), st.integers(0, 3 * PAGE)), max_size=6),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20), SIZES), max_size=4),
)
def test_nothing_is_lost(page_size: int, writes: list[tuple[int, int]], reports: list[tuple[int, int, int]]) -> None:
    """Every written page is reported until it was reported, by a slow model of single small pages."""
    log = DirtyLog(page_size)
    owed = set()
    for address, count in writes:
        log.mark(address, count)
        owed |= {octet // PAGE for octet in range(address, address + count, PAGE)}
        owed |= {(address + count - 1) // PAGE} if count else set()
    for first, pages, unit in [*reports, (0, 80, PAGE)]:
        found = dirty(log.report(first * PAGE, pages * PAGE, unit), first * PAGE, unit)
        said = {page for start in found for page in range(start // PAGE, (start + unit) // PAGE)}
        asked = set(range(first, first + pages))
        assert owed & asked <= said
        owed -= asked
    assert not log.pages
