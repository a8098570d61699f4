# SPDX-License-Identifier: Apache-2.0
"""A small device whose every call can be seen, and guest memory to map."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vferry.core.vfio.constants import IrqFlags, IrqIndex, MigrationFlags, RegionFlags, RegionIndex
from vferry.core.vfio.migration_states import DeviceState
from vferry.vfio_user.device import DeviceError, DmaFaultError, Guest, Interrupts, Migration, Region

PAGE = 4096
RW = RegionFlags.READ | RegionFlags.WRITE
PATTERN = b"\xda"


class Memory:
    """A region that is plain memory."""

    def __init__(self, size: int, flags: RegionFlags = RW) -> None:
        self.octets = bytearray(size)
        self.flags = flags
        self.accesses: list[tuple[str, int, int]] = []

    @property
    def size(self) -> int:
        return len(self.octets)

    def read(self, offset: int, count: int, /) -> bytes:
        self.accesses.append(("read", offset, count))
        assert 0 <= offset <= offset + count <= self.size
        return bytes(self.octets[offset : offset + count])

    def write(self, offset: int, data: bytes, /) -> None:
        self.accesses.append(("write", offset, len(data)))
        assert isinstance(data, bytes)
        assert 0 <= offset <= offset + len(data) <= self.size
        self.octets[offset : offset + len(data)] = data


class Doorbell(Memory):
    """Memory whose first words act.

    * a 16-octet write at 0, (address, count): DMA write of PATTERN to guest memory
    * a 16-octet write at 16: DMA read of guest memory
    * a write at 32: MSI-X interrupt of that number
    * any access at 40: refused
    """

    def __init__(self, device: Model) -> None:
        super().__init__(PAGE)
        self.device = device

    def read(self, offset: int, count: int, /) -> bytes:
        if offset == 40:
            raise DeviceError("read a register", why="it is not to be touched", code=errno.EACCES)
        return super().read(offset, count)

    def write(self, offset: int, data: bytes, /) -> None:
        super().write(offset, data)
        if offset == 40:
            raise DeviceError("write a register", why="it is not to be touched", code=errno.EACCES)
        if len(data) == 16 and offset in (0, 16):
            self.device.dma(offset == 0, *struct.unpack("<QQ", data))
        if offset == 32 and self.device.guest and data[0] < 3:
            self.device.guest.trigger(IrqIndex.MSIX, data[0])


class Stream:
    """A migration that carries the octets of one region; what was read before STOP_COPY is not read again."""

    def __init__(self, memory: Memory, flags: MigrationFlags) -> None:
        self.memory = memory
        self.flags = flags
        self.arcs: list[tuple[DeviceState, DeviceState]] = []
        self.fail: Callable[[DeviceState, DeviceState], None] = lambda source, target: None
        self.out = b""
        self.loaded = b""

    def arc(self, source: DeviceState, target: DeviceState, /) -> None:
        self.arcs.append((source, target))
        self.fail(source, target)
        if target in (DeviceState.PRE_COPY, DeviceState.STOP_COPY) and not self.out:
            self.out = bytes(self.memory.octets)
        if target is DeviceState.RESUMING:
            self.loaded = b""
        if source is DeviceState.RESUMING:
            if len(self.loaded) != self.memory.size:
                raise DeviceError("load the state", why=f"{len(self.loaded)} octets", code=errno.EINVAL)
            self.memory.octets[:] = self.loaded

    def read(self, size: int, /) -> bytes:
        data, self.out = self.out[:size], self.out[size:]
        return data

    def write(self, data: bytes, /) -> None:
        if len(self.loaded) + len(data) > self.memory.size:
            raise DeviceError("load the state", why="it is too long", code=errno.ENOMEM)
        self.loaded += data


class Model:
    """BAR0: a doorbell; BAR2: read only; CONFIG: memory; BAR3: write only. MSI-X: 3, INTx: 1."""

    def __init__(self, flags: MigrationFlags | None = MigrationFlags.STOP_COPY) -> None:
        self.bar = Doorbell(self)
        self.config = Memory(256)
        self.regions: dict[int, Region] = {
            RegionIndex.BAR0: self.bar,
            RegionIndex.BAR2: Memory(64, RegionFlags.READ),
            RegionIndex.BAR3: Memory(64, RegionFlags.WRITE),
            RegionIndex.CONFIG: self.config,
        }
        self.interrupts: dict[int, Interrupts] = {
            IrqIndex.INTX: Interrupts(1, IrqFlags.EVENTFD | IrqFlags.MASKABLE | IrqFlags.AUTOMASKED),
            IrqIndex.MSIX: Interrupts(3, IrqFlags.EVENTFD | IrqFlags.NORESIZE),
        }
        self.stream = Stream(self.config, flags) if flags is not None else None
        self.guest: Guest | None = None
        self.notices: list[tuple[str, int, int]] = []
        self.resets = 0
        self.dmas: list[tuple[bool, int, int, bytes | None]] = []

    @property
    def migration(self) -> Migration | None:
        return self.stream

    @property
    def attached(self) -> bool:
        return self.guest is not None

    def attach(self, guest: Guest, /) -> None:
        self.guest = guest

    def detach(self) -> None:
        self.guest = None

    def dma_mapped(self, address: int, size: int, /) -> None:
        self.notices.append(("map", address, size))

    def dma_unmapped(self, address: int, size: int, /) -> None:
        self.notices.append(("unmap", address, size))

    def reset(self) -> None:
        self.resets += 1

    def dma(self, write: bool, address: int, count: int) -> None:
        """Try an access; note what it gave, None where it was refused."""
        assert self.guest is not None
        found: bytes | None = None
        try:
            if write:
                self.guest.write(address, PATTERN * min(count, 4 * PAGE))
                found = b""
            else:
                found = self.guest.read(address, min(count, 4 * PAGE))
        except DmaFaultError as error:
            assert str(error)  # noqa: PT017 -- it must be printable
        self.dmas.append((write, address, min(count, 4 * PAGE), found))


class Ram:
    """Guest memory in a file.

    :param sealed: against shrinking, as QEMU's is.
    """

    def __init__(self, size: int, *, sealed: bool = True) -> None:
        self.fd = os.memfd_create("ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size)
        if sealed:
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        self.size = size
        self.octets = mmap.mmap(self.fd, size)

    def close(self) -> None:
        self.octets.close()
        os.close(self.fd)


@contextmanager
def ram(size: int, *, sealed: bool = True) -> Iterator[Ram]:
    memory = Ram(size, sealed=sealed)
    try:
        yield memory
    finally:
        memory.close()
