# SPDX-License-Identifier: Apache-2.0
"""The guest's memory as the device reaches it: two operations, each of which checks every octet that it touches.

Memory that is mapped into this process can offer its pieces as they are (:class:`DirectMemory`), which saves two calls
a frame. Whoever uses a piece checks against its bounds.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from vferry.core.errors import FailedError

__all__ = ["DirectMemory", "DmaError", "GuestMemory", "Region"]


class DmaError(FailedError):
    """The device was sent to memory that it may not touch.

    :param address: where, as the device addresses it (IOVA).
    :param length: how many octets.
    """

    def __init__(self, address: int, length: int, why: str) -> None:
        self.address = address
        self.length = length
        super().__init__(f"reach {length} octets of guest memory at {address:#x}", why=why)


class GuestMemory(Protocol):
    """What a VF's queues need of the memory of the guest that has the VF.

    Addresses are 64 bits wide and come from the guest: any of them may be wrong, and `address` + `length` may lie
    beyond 64 bits. The guest's processors go on while the device looks: what is read twice may differ.
    """

    def read(self, address: int, length: int, /) -> bytes | memoryview:
        """Return `length` octets; a view (of format "B") may go on changing as the guest writes.

        :raises DmaError: any of them is not mapped, or not to be read.
        """
        ...

    def write(self, address: int, data: bytes, /) -> None:
        """Write; at an address that is a multiple of 4 or 8, so many octets are written at once.

        :raises DmaError: any of them is not mapped, or not to be written.
        """
        ...


class Region(NamedTuple):
    """A piece of guest memory that may be read and written, mapped into this process."""

    start: int
    end: int
    octets: memoryview
    """From `start` to `end`, of format "B"."""


@runtime_checkable
class DirectMemory(GuestMemory, Protocol):
    """Guest memory with pieces that can be used without a call. What is mapped may change between two calls."""

    def region(self, address: int, /) -> Region | None:
        """Return the piece that `address` is in; None: there is none, or it is not to be used so.

        The view must be a new one each time: the device releases it before it returns to its caller. While it sends the
        frames of one doorbell, nothing may be unmapped.
        """
        ...

    def written(self, address: int, length: int, /) -> None:
        """Be told that some of these octets were written through a region, for a log of what is dirty."""
        ...
