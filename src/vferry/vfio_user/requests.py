# SPDX-License-Identifier: Apache-2.0
"""What a client may ask for, command by command: everything but the hot path.

A handler returns the payload of the answer. What it raises (:class:`.codec.MalformedError`,
:class:`.device.DeviceError`) becomes a refusal; the session goes on.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Final

from vferry.core.vfio.codec import Frame, Limits, MalformedError, body, counted
from vferry.core.vfio.constants import (
    VFIO_PCI_NUM_IRQS,
    VFIO_PCI_NUM_REGIONS,
    Command,
    DeviceFlags,
    RegionFlags,
    UnmapFlags,
)
from vferry.core.vfio.layouts import (
    DEVICE_INFO,
    DMA_MAP,
    DMA_UNMAP,
    IRQ_INFO,
    IRQ_SET,
    REGION_ACCESS,
    REGION_INFO,
    REGION_IO_FDS,
    WRITE_MULTI,
    WRITE_MULTI_ENTRY,
    RegionAccess,
)
from vferry.vfio_user.device import DeviceError, DeviceModel, Region
from vferry.vfio_user.dma import GuestMemory
from vferry.vfio_user.features import Features, MigrationControl
from vferry.vfio_user.interrupts import IrqTable

__all__ = ["TAKES_FDS", "Requests"]

TAKES_FDS: Final = frozenset({Command.DMA_MAP, Command.DEVICE_SET_IRQS})
"""Commands that descriptors may come with."""

_MULTI_DATA: Final = 8
"""Data octets of each write of WRITE_MULTI at most."""


class Requests:
    """The commands of one session.

    :param limits: what this side takes.
    """

    def __init__(
        self, device: DeviceModel, control: MigrationControl, memory: GuestMemory, irqs: IrqTable, limits: Limits
    ) -> None:
        self._device = device
        self._regions = device.regions
        self._control = control
        self._memory = memory
        self._irqs = irqs
        self._largest = limits.max_data_xfer_size
        features = Features(control, memory, limits.max_data_xfer_size)
        self._handlers: Mapping[int, Callable[[bytes], bytes]] = {
            Command.DMA_UNMAP: self._dma_unmap,
            Command.DEVICE_GET_INFO: self._device_info,
            Command.DEVICE_GET_REGION_INFO: self._region_info,
            Command.DEVICE_GET_REGION_IO_FDS: self._region_io_fds,
            Command.DEVICE_GET_IRQ_INFO: self._irq_info,
            Command.REGION_READ: self._region_read,
            Command.REGION_WRITE: self._region_write,
            Command.REGION_WRITE_MULTI: self._write_multi,
            Command.DEVICE_RESET: self._reset,
            Command.DEVICE_FEATURE: features.handle,
            Command.MIG_DATA_READ: features.read_data,
            Command.MIG_DATA_WRITE: features.write_data,
        }

    def handle(self, frame: Frame, fds: list[int]) -> bytes:
        """Carry out one command; takes those descriptors out of `fds` that it keeps.

        :raise MalformedError: ENOSYS (no such command), or it makes no sense.
        :raise DeviceError: refused by the device.
        """
        if fds and frame.cmd not in TAKES_FDS:
            raise MalformedError(f"command {frame.cmd} with {len(fds)} file descriptors")
        if frame.cmd == Command.DMA_MAP:
            return self._dma_map(frame.payload, fds)
        if frame.cmd == Command.DEVICE_SET_IRQS:
            return self._set_irqs(frame.payload, fds)
        handler = self._handlers.get(frame.cmd)
        if handler is None:
            raise MalformedError(f"command {frame.cmd} is not known", errno.ENOSYS)
        return handler(frame.payload)

    # Commands about memory.

    def _dma_map(self, payload: bytes, fds: list[int]) -> bytes:
        request = body(DMA_MAP, payload)
        self._memory.map(request, fds)
        self._device.dma_mapped(request.addr, request.size)
        return b""

    def _dma_unmap(self, payload: bytes) -> bytes:
        request = body(DMA_UNMAP, payload)
        if request.flags == UnmapFlags.ALL and not request.addr and not request.size:
            gone = self._memory.unmap_all()
        elif not request.flags:
            self._memory.unmap(request.addr, request.size)
            gone = [(request.addr, request.size)]
        else:
            raise MalformedError(f"an unmap of {request.size:#x} octets with flags {request.flags:#x}")
        for address, size in gone:
            self._device.dma_unmapped(address, size)
        return payload[: DMA_UNMAP.size]

    # Commands about what the device is.

    def _device_info(self, payload: bytes) -> bytes:
        _room(body(DEVICE_INFO, payload).argsz, DEVICE_INFO.size)
        flags = DeviceFlags.PCI | DeviceFlags.RESET
        return DEVICE_INFO.pack(DEVICE_INFO.size, flags, VFIO_PCI_NUM_REGIONS, VFIO_PCI_NUM_IRQS)

    def _region_info(self, payload: bytes) -> bytes:
        request = body(REGION_INFO, payload)
        _room(request.argsz, REGION_INFO.size)
        _known(request.index, VFIO_PCI_NUM_REGIONS)
        region = self._regions.get(request.index)
        size, flags = (region.size, region.flags) if region else (0, 0)
        return REGION_INFO.pack(REGION_INFO.size, flags, request.index, 0, size, 0)

    def _region_io_fds(self, payload: bytes) -> bytes:
        """No region can be reached by a descriptor."""
        request = body(REGION_IO_FDS, payload)
        _room(request.argsz, REGION_IO_FDS.size)
        _known(request.index, VFIO_PCI_NUM_REGIONS)
        return REGION_IO_FDS.pack(REGION_IO_FDS.size, 0, request.index, 0)

    def _irq_info(self, payload: bytes) -> bytes:
        request = body(IRQ_INFO, payload)
        _room(request.argsz, IRQ_INFO.size)
        _known(request.index, VFIO_PCI_NUM_IRQS)
        some = self._device.interrupts.get(request.index)
        count, flags = (some.count, some.flags) if some else (0, 0)
        return IRQ_INFO.pack(IRQ_INFO.size, flags, request.index, count)

    def _set_irqs(self, payload: bytes, fds: list[int]) -> bytes:
        self._irqs.set(body(IRQ_SET, payload), payload[IRQ_SET.size :], fds)
        return b""

    # Commands about regions.

    def _region(self, access: RegionAccess, needs: RegionFlags) -> Region:
        region = self._regions.get(access.region)
        if region is None or not region.flags & needs or access.offset + access.count > region.size:
            text = f"{access.count} octets at {access.offset:#x} of region {access.region}"
            raise MalformedError(f"{text}: there are none that can be accessed so")
        return region

    def _region_read(self, payload: bytes) -> bytes:
        access = body(REGION_ACCESS, payload)
        if access.count > self._largest:
            raise MalformedError(f"a read of {access.count} octets; at most {self._largest}")
        data = self._region(access, RegionFlags.READ).read(access.offset, access.count)
        if len(data) != access.count:
            raise DeviceError("read a region", why=f"it gave {len(data)} octets, not {access.count}")
        return payload[: REGION_ACCESS.size] + data

    def _region_write(self, payload: bytes) -> bytes:
        access = body(REGION_ACCESS, payload)
        data = counted(REGION_ACCESS, payload, access.count)
        self._region(access, RegionFlags.WRITE).write(access.offset, data)
        return payload[: REGION_ACCESS.size]

    def _write_multi(self, payload: bytes) -> bytes:
        """Carry out all writes, or none where one makes no sense."""
        number = body(WRITE_MULTI, payload).wr_cnt
        rest = counted(WRITE_MULTI, payload, number * WRITE_MULTI_ENTRY.size)
        writes: list[tuple[Region, int, bytes]] = []
        for at in range(0, len(rest), WRITE_MULTI_ENTRY.size):
            one = WRITE_MULTI_ENTRY.unpack(rest, at)
            if one.count > _MULTI_DATA:
                raise MalformedError(f"a write of {one.count} octets in WRITE_MULTI; at most {_MULTI_DATA}")
            region = self._region(RegionAccess(one.offset, one.region, one.count), RegionFlags.WRITE)
            writes.append((region, one.offset, one.data[: one.count]))
        for region, offset, data in writes:
            region.write(offset, data)
        return payload[: WRITE_MULTI.size]

    def _reset(self, _: bytes) -> bytes:
        self._device.reset()
        self._control.reset()
        return b""


def _room(argsz: int, size: int) -> None:
    if argsz < size:
        raise MalformedError(f"an answer of {size} octets does not fit into argsz {argsz}")


def _known(index: int, number: int) -> None:
    if index >= number:
        raise MalformedError(f"index {index}; there are {number}")
