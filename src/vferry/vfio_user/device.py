# SPDX-License-Identifier: Apache-2.0
"""What a device model offers to the server, and what it may do to its guest.

A model is called by one thread only, and never waits: while it answers a REGION_READ a virtual CPU stands still, and
QEMU gives the device up after five seconds. What needs an answer of the client takes a callback instead.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from vferry.core.errors import FailedError
from vferry.core.vfio.constants import IrqFlags, MigrationFlags, RegionFlags
from vferry.core.vfio.migration_states import DeviceState

__all__ = [
    "DeviceError",
    "DeviceLostError",
    "DeviceModel",
    "DmaDone",
    "DmaFaultError",
    "Guest",
    "Interrupts",
    "Migration",
    "Region",
]


class DeviceError(FailedError):
    """The device cannot do what was asked for, and is as before.

    :param code: the number that the client is refused with (``errno``, positive).
    """

    def __init__(self, what: str, *, why: str = "", code: int = errno.EIO) -> None:
        self.code = code
        super().__init__(what, why=why)


class DeviceLostError(DeviceError):
    """An arc failed and left the device in no valid state: it is in ERROR until it is reset."""


class DmaFaultError(FailedError):
    """Guest memory that the device may not touch, or that did not answer.

    :param address: of the access (IOVA).
    :param count: its octets.
    """

    def __init__(self, address: int, count: int, why: str) -> None:
        self.address = address
        self.count = count
        super().__init__(f"reach {count} octets of guest memory at {address:#x}", why=why)


DmaDone = Callable[[bytes, DmaFaultError | None], None]
"""Told the octets read (none for a write), or what went wrong."""


class Guest(Protocol):
    """What a device can do to the guest it is attached to."""

    def read(self, address: int, count: int, /) -> bytes:
        """Return guest memory that the client shared.

        :raise DmaFaultError: not mapped, not readable, or mapped without a file.
        """
        ...

    def write(self, address: int, data: bytes, /) -> None:
        """Write to guest memory that the client shared; it is logged.

        :raise DmaFaultError: not mapped, not writable, or mapped without a file, and nothing was written; or the file
            took only a part.
        """
        ...

    def read_by_message(self, address: int, count: int, done: DmaDone, /) -> None:
        """Ask the client for guest memory; `done` is called later, or with the session's end.

        The answer comes after everything that the client had sent before: a barrier for posted writes.

        :raise DmaFaultError: not mapped or not readable.
        """
        ...

    def write_by_message(self, address: int, data: bytes, done: DmaDone, /) -> None:
        """Have the client write to guest memory; QEMU marks the pages dirty. Not in the server's own log.

        :raise DmaFaultError: not mapped or not writable.
        """
        ...

    def trigger(self, index: int, vector: int, /) -> bool:
        """Signal an interrupt; return whether it went out (nobody may listen; a masked one waits)."""
        ...


class Region(Protocol):
    """One region of a device: a BAR, or its configuration space."""

    @property
    def size(self) -> int:
        """Octets."""
        ...

    @property
    def flags(self) -> RegionFlags:
        """READ and WRITE."""
        ...

    def read(self, offset: int, count: int, /) -> bytes:
        """Return `count` octets; they are within the region.

        :raise DeviceError: refused.
        """
        ...

    def write(self, offset: int, data: bytes, /) -> None:
        """Write octets; they are within the region.

        :raise DeviceError: refused.
        """
        ...


class Interrupts(msgspec.Struct, frozen=True):
    """The interrupts of one index (INTx, MSI, MSI-X, ...)."""

    count: int
    flags: IrqFlags = IrqFlags.EVENTFD


class Migration(Protocol):
    """A device whose state can be carried (VFIO migration v2)."""

    @property
    def flags(self) -> MigrationFlags:
        """What it announces; STOP_COPY at least."""
        ...

    def arc(self, source: DeviceState, target: DeviceState, /) -> None:
        """Go along one arc; requests for farther states come as several arcs.

        :raise DeviceLostError: failed, and the device is in ERROR.
        :raise DeviceError: failed, and the device is still at `source`.
        """
        ...

    def read(self, size: int, /) -> bytes:
        """Return at most `size` octets of the saving session; none at its end (in PRE_COPY: for now).

        :raise DeviceError: refused.
        """
        ...

    def write(self, data: bytes, /) -> None:
        """Take in octets of the loading session, in any portions.

        :raise DeviceError: refused.
        """
        ...


class DeviceModel(Protocol):
    """A PCI device. It keeps its state when the client goes away; only its memory and interrupts are gone."""

    @property
    def regions(self) -> Mapping[int, Region]:
        """By VFIO region index; those that are not there have no size. Does not change."""
        ...

    @property
    def interrupts(self) -> Mapping[int, Interrupts]:
        """By VFIO interrupt index. Does not change."""
        ...

    @property
    def migration(self) -> Migration | None:
        """None where its state cannot be carried."""
        ...

    def attach(self, guest: Guest, /) -> None:
        """Begin a session: a client has come and its version fits."""
        ...

    def detach(self) -> None:
        """End the session; the guest is not to be touched any more."""
        ...

    def dma_mapped(self, address: int, size: int, /) -> None:
        """Take notice that a range of guest memory can be reached."""
        ...

    def dma_unmapped(self, address: int, size: int, /) -> None:
        """Take notice that a range of guest memory cannot be reached any more."""
        ...

    def reset(self) -> None:
        """Reset the device; possible at any time. Interrupts stay connected, memory stays mapped.

        :raise DeviceError: refused.
        """
        ...
