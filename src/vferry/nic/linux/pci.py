# SPDX-License-Identifier: Apache-2.0
"""PCI configuration space through sysfs: the words that a migration carries, capabilities, and reset.

Offsets: ``include/uapi/linux/pci_regs.h`` (Linux 6.12), after the PCI Express Base Specification. Configuration space
is little-endian. A process without CAP_SYS_ADMIN may read its first 64 octets only (``pci_read_config()`` of
``drivers/pci/pci-sysfs.c``); what lies behind them is absent then.
"""

from __future__ import annotations

import errno
import os
from types import TracebackType
from typing import NamedTuple, Self

from vferry.core.model import PciState
from vferry.nic.linux.failure import KernelError

__all__ = [
    "ConfigSpace",
    "SriovRegisters",
    "bound_driver",
    "read_state",
    "read_vectors",
    "reset",
    "sriov_registers",
    "write_state",
]

PCI_COMMAND = 0x04
PCI_STATUS = 0x06
PCI_STATUS_CAP_LIST = 0x10
PCI_CAPABILITY_LIST = 0x34
PCI_STD_HEADER_SIZEOF = 0x40
PCI_CAP_ID_MSIX = 0x11
PCI_MSIX_FLAGS = 2
PCI_MSIX_FLAGS_QSIZE = 0x07FF
PCI_CFG_SPACE_SIZE = 0x100
PCI_CFG_SPACE_EXP_SIZE = 0x1000

PCI_EXT_CAP_ID_SRIOV = 0x10
PCI_SRIOV_TOTAL_VF = 0x0E
PCI_SRIOV_NUM_VF = 0x10
PCI_SRIOV_VF_OFFSET = 0x14
PCI_SRIOV_VF_STRIDE = 0x16
PCI_SRIOV_VF_DID = 0x1A
_SRIOV_FIELDS = (PCI_SRIOV_TOTAL_VF, PCI_SRIOV_NUM_VF, PCI_SRIOV_VF_OFFSET, PCI_SRIOV_VF_STRIDE, PCI_SRIOV_VF_DID)

_MOST_CAPABILITIES = (PCI_CFG_SPACE_SIZE - PCI_STD_HEADER_SIZEOF) // 4
_MOST_EXTENDED_CAPABILITIES = (PCI_CFG_SPACE_EXP_SIZE - PCI_CFG_SPACE_SIZE) // 8
"""More do not fit, so a longer chain is a loop (``PCI_FIND_CAP_TTL`` and ``pci_find_next_ext_capability()``)."""

_ALL_ONES = 0xFFFF
"""What a function that is not there answers."""


class SriovRegisters(NamedTuple):
    """Fields of the SR-IOV Extended Capability."""

    total_vfs: int
    num_vfs: int
    vf_offset: int
    vf_stride: int
    vf_device: int


class ConfigSpace:
    """The configuration space of a function, read piece by piece; a context manager.

    Each double word is a transaction on the bus, about a microsecond, and some of the space may be slower: so nothing
    is read that nobody asked for.

    :param function: the function's directory in sysfs.
    :param writable: open it for writing too.
    :raise OSError: there is no such function, or it may not be opened.
    """

    def __init__(self, function: str, *, writable: bool = False) -> None:
        self._handle = os.open(f"{function}/config", (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._handle)

    def number(self, place: int, size: int) -> int | None:
        """Return an unsigned number of so many octets; None where this process may not read it."""
        octets = os.pread(self._handle, size, place)
        return int.from_bytes(octets, "little") if len(octets) == size else None

    def write_word(self, place: int, word: int) -> None:
        """Write 16 bits.

        :raise OSError: the kernel refuses.
        """
        os.pwrite(self._handle, word.to_bytes(2, "little"), place)

    def capability(self, identifier: int) -> int | None:
        """Return the offset of a capability; None where there is none, or it cannot be read."""
        if not (self.number(PCI_STATUS, 2) or 0) & PCI_STATUS_CAP_LIST:
            return None
        place = (self.number(PCI_CAPABILITY_LIST, 1) or 0) & ~3
        for _ in range(_MOST_CAPABILITIES):
            header = self.number(place, 2) if place >= PCI_STD_HEADER_SIZEOF else None
            if header is None:
                return None
            if header & 0xFF == identifier:
                return place
            place = header >> 8 & ~3
        return None

    def extended_capability(self, identifier: int) -> int | None:
        """Return the offset of an extended capability; None where there is none, or it cannot be read."""
        place = PCI_CFG_SPACE_SIZE
        for _ in range(_MOST_EXTENDED_CAPABILITIES):
            header = self.number(place, 4) if place >= PCI_CFG_SPACE_SIZE else None
            if header in (None, 0, 0xFFFF_FFFF):
                return None
            if header & 0xFFFF == identifier:
                return place
            place = header >> 20 & 0xFFC
        return None

    def msix_control(self) -> int | None:
        """Return the offset of the MSI-X Message Control word; None without MSI-X, or where it cannot be read."""
        place = self.capability(PCI_CAP_ID_MSIX)
        return None if place is None else place + PCI_MSIX_FLAGS


def sriov_registers(function: str) -> SriovRegisters | None:
    """Return the SR-IOV capability of a function; None where there is none, or it cannot be read.

    :param function: the function's directory in sysfs.
    """
    try:
        with ConfigSpace(function) as config:
            place = config.extended_capability(PCI_EXT_CAP_ID_SRIOV)
            if place is None:
                return None
            words = [config.number(place + field, 2) for field in _SRIOV_FIELDS]
    except OSError:
        return None
    known = [word for word in words if word is not None]
    return SriovRegisters(*known) if len(known) == len(words) else None


def read_state(function: str) -> PciState:
    """Read COMMAND and the MSI-X Message Control of a function.

    :param function: the function's directory in sysfs.
    :return: without ``msix_control`` where the function has no MSI-X, or this process may not read that far.
    :raise OSError: it cannot be read, or the function is gone (ENODEV).
    """
    with ConfigSpace(function) as config:
        command = config.number(PCI_COMMAND, 2)
        if command is None:
            raise KernelError(errno.EIO, "the configuration space has no COMMAND")
        if command == _ALL_ONES:
            raise KernelError(errno.ENODEV, "the function answers with all ones: it is gone, or has no power")
        place = config.msix_control()
        return PciState(command=command, msix_control=None if place is None else config.number(place, 2))


def read_vectors(function: str) -> int | None:
    """Return the size of a function's MSI-X table; None without MSI-X, or where it cannot be read.

    :param function: the function's directory in sysfs.
    """
    try:
        with ConfigSpace(function) as config:
            place = config.msix_control()
            control = None if place is None else config.number(place, 2)
    except OSError:
        return None
    return None if control is None or control == _ALL_ONES else (control & PCI_MSIX_FLAGS_QSIZE) + 1


def bound_driver(function: str) -> str | None:
    """Return the driver that owns a function; None where none is bound."""
    try:
        return os.path.basename(os.readlink(f"{function}/driver"))
    except OSError:
        return None


def write_state(function: str, state: PciState) -> None:
    """Write COMMAND and the MSI-X Message Control of a function that no driver owns.

    MSI-X first: COMMAND may switch on bus mastering, and interrupts are sent by it.

    :param function: the function's directory in sysfs.
    :raise OSError: a driver owns the function (EPERM), it has no MSI-X (EINVAL), or the kernel refuses.
    """
    driver = bound_driver(function)
    if driver is not None:
        raise KernelError(errno.EPERM, f"driver {driver} is bound to the function and owns these words")
    with ConfigSpace(function, writable=True) as config:
        if state.msix_control is not None:
            place = config.msix_control()
            if place is None:
                raise KernelError(errno.EINVAL, "the function has no MSI-X capability, or it cannot be read")
            config.write_word(place, state.msix_control)
        config.write_word(PCI_COMMAND, state.command)


def reset(function: str) -> None:
    """Reset a function by the best method that the kernel finds; an FLR for VFs (SR-IOV requires it).

    :param function: the function's directory in sysfs.
    :raise OSError: the kernel knows no way to reset it (EOPNOTSUPP), or it failed.
    """
    try:
        handle = os.open(f"{function}/reset", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if not os.path.isdir(function):
            raise
        raise KernelError(errno.EOPNOTSUPP, "the kernel knows no way to reset this function alone") from None
    try:
        os.write(handle, b"1")
    finally:
        os.close(handle)
