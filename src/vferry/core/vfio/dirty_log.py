# SPDX-License-Identifier: Apache-2.0
"""Which pages a device has written: VFIO's DMA logging as a set of page numbers.

Semantics: ``VFIO_DEVICE_FEATURE_DMA_LOGGING_*`` in ``<linux/vfio.h>`` (6.12) and vfio-user, "DEVICE_FEATURE". A report
tells and forgets. It may have another page size than the log: then a dirty page of the log is every page of the report
that it touches, and is forgotten only when the report covers all of it. Nothing dirty is ever lost, something clean may
be reported.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from vferry.core.vfio.codec import MalformedError
from vferry.core.vfio.layouts import DmaLoggingRange

__all__ = ["LARGEST_PAGE", "SMALLEST_PAGE", "DirtyLog", "bitmap_size"]

SMALLEST_PAGE: Final = 4096
"""Smallest page, of the log and of a report: the only page size of DMA ranges here."""

LARGEST_PAGE: Final = 1 << 21
"""Largest page that a log is kept in; a hint that is larger, or no page size at all, gives SMALLEST_PAGE."""

_ADDRESSES: Final = 1 << 64


def _is_page_size(size: int) -> bool:
    return size >= SMALLEST_PAGE and size & (size - 1) == 0


def bitmap_size(length: int, page_size: int) -> int:
    """Return the octets of a report's bitmap: one bit a page, in whole 64-bit words.

    :raise MalformedError: no pages, or no page size.
    """
    if not _is_page_size(page_size):
        raise MalformedError(f"a dirty bitmap with pages of {page_size} octets")
    if not 0 < length <= _ADDRESSES:
        raise MalformedError(f"a dirty bitmap of {length} octets of memory")
    pages = -(-length // page_size)
    return -(-pages // 64) * 8


class DirtyLog:
    """The log of one device, from DMA_LOGGING_START to DMA_LOGGING_STOP.

    :param page_size: what the other side wishes; ``page_size`` says what it got.
    :param ranges: what is to be logged; everything where there is none.
    :raise MalformedError: ranges that are empty, wrap around or overlap.
    """

    def __init__(self, page_size: int, ranges: Sequence[DmaLoggingRange] = ()) -> None:
        self.page_size = page_size if _is_page_size(page_size) and page_size <= LARGEST_PAGE else SMALLEST_PAGE
        self.pages: set[int] = set()
        """Numbers of dirty pages: address divided by ``page_size``."""
        ordered = sorted((one.iova, one.iova + one.length) for one in ranges)
        self._starts = [start for start, _ in ordered]
        self._ends = [end for _, end in ordered]
        for index, (start, end) in enumerate(ordered):
            if start == end or end > _ADDRESSES:
                raise MalformedError(f"a range to log of {end - start} octets at {start:#x}")
            if index and start < self._ends[index - 1]:
                raise MalformedError(f"a range to log at {start:#x} that overlaps another one")

    def mark(self, address: int, count: int) -> None:
        """Note that `count` octets at `address` were written."""
        if count:
            first, last = address // self.page_size, (address + count - 1) // self.page_size
            pages = range(first, last + 1)
            self.pages.update(filter(self._is_logged, pages) if self._starts else pages)

    def _is_logged(self, page: int) -> bool:
        start, end = page * self.page_size, (page + 1) * self.page_size
        index = bisect_right(self._starts, end - 1) - 1
        return index >= 0 and self._ends[index] > start

    def report(self, iova: int, length: int, page_size: int) -> bytearray:
        """Return the bitmap of a range, and forget what is in it.

        Bit ``n`` of the little-endian words is page ``iova + n * page_size``.

        :raise MalformedError: see :func:`bitmap_size`; or the range wraps around.
        """
        bitmap = bytearray(bitmap_size(length, page_size))
        end = iova + length
        if end > _ADDRESSES:
            raise MalformedError(f"a dirty bitmap of {length} octets of memory at {iova:#x}")
        for page in self._between(iova, end):
            start, stop = page * self.page_size, (page + 1) * self.page_size
            first = (max(start, iova) - iova) // page_size
            last = (min(stop, end) - 1 - iova) // page_size
            for bit in range(first, last + 1):
                bitmap[bit >> 3] |= 1 << (bit & 7)
            if iova <= start and stop <= end:
                self.pages.discard(page)
        return bitmap

    def _between(self, start: int, end: int) -> list[int]:
        """Return the dirty pages that touch a range."""
        pages = range(start // self.page_size, (end - 1) // self.page_size + 1)
        if len(self.pages) < len(pages):
            return [page for page in self.pages if page in pages]
        return [page for page in pages if page in self.pages]
