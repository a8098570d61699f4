# SPDX-License-Identifier: Apache-2.0
"""Numbers of VFIO and of vfio-user, spelled as the headers spell them.

Sources: "VFIO" is Linux's ``include/uapi/linux/vfio.h`` (6.12); "vfio-user" is the vfio-user Protocol Specification
(``docs/interop/vfio-user.rst`` of QEMU 11) and the header of libvfio-user (efd091b) that goes with it.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = [
    "DATA_XFER_DEFAULT",
    "DMA_MAPS_DEFAULT",
    "HEADER_SIZE",
    "MAJOR",
    "MINOR",
    "MSG_FDS_DEFAULT",
    "PGSIZES_DEFAULT",
    "TYPE_MASK",
    "VFIO_DEVICE_FEATURE_MASK",
    "VFIO_PCI_NUM_IRQS",
    "VFIO_PCI_NUM_REGIONS",
    "Command",
    "DeviceFlags",
    "DmaFlags",
    "Feature",
    "FeatureFlags",
    "IrqFlags",
    "IrqIndex",
    "IrqSetFlags",
    "MessageFlags",
    "MigrationFlags",
    "RegionFlags",
    "RegionIndex",
    "UnmapFlags",
]

MAJOR: Final = 0
"""Version of the protocol: QEMU 11.1 and libvfio-user send 0; there never was a 1."""
MINOR: Final = 0
"""The specification names no minor version that adds anything; QEMU proposes 0."""

HEADER_SIZE: Final = 16
"""Octets of a message's header (vfio-user, "Header")."""

# What a side that is silent about it has said (vfio-user, "VFIO_USER_VERSION", capabilities).
MSG_FDS_DEFAULT: Final = 1
DATA_XFER_DEFAULT: Final = 1 << 20
DMA_MAPS_DEFAULT: Final = 65535
PGSIZES_DEFAULT: Final = 4096


class Command(enum.IntEnum):
    """``enum vfio_user_command``; 14 (dirty pages) was taken back."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    """Server to client."""
    DMA_WRITE = 12
    """Server to client."""
    DEVICE_RESET = 13
    REGION_WRITE_MULTI = 15
    DEVICE_FEATURE = 16
    MIG_DATA_READ = 17
    MIG_DATA_WRITE = 18


class MessageFlags(enum.IntFlag):
    """``flags`` of ``struct vfio_user_header``; the lowest four bits are the type."""

    COMMAND = 0
    REPLY = 1
    NO_REPLY = 0x10
    ERROR = 0x20


TYPE_MASK: Final = 0xF


class DmaFlags(enum.IntFlag):
    """``flags`` of VFIO_USER_DMA_MAP: what the device may do; MMAP and FILE_IO only in libvfio-user's header."""

    READ = 1 << 0
    WRITE = 1 << 1
    MMAP = 1 << 2
    FILE_IO = 1 << 3


class UnmapFlags(enum.IntFlag):
    """``VFIO_DMA_UNMAP_FLAG_``; vfio-user's text knows none, QEMU sends ALL."""

    GET_DIRTY_BITMAP = 1 << 0
    ALL = 1 << 1


class DeviceFlags(enum.IntFlag):
    """``VFIO_DEVICE_FLAGS_``."""

    RESET = 1 << 0
    PCI = 1 << 1


class RegionFlags(enum.IntFlag):
    """``VFIO_REGION_INFO_FLAG_``."""

    READ = 1 << 0
    WRITE = 1 << 1
    MMAP = 1 << 2
    CAPS = 1 << 3


class RegionIndex(enum.IntEnum):
    """``VFIO_PCI_*_REGION_INDEX``."""

    BAR0 = 0
    BAR1 = 1
    BAR2 = 2
    BAR3 = 3
    BAR4 = 4
    BAR5 = 5
    ROM = 6
    CONFIG = 7
    VGA = 8


VFIO_PCI_NUM_REGIONS: Final = 9


class IrqIndex(enum.IntEnum):
    """``VFIO_PCI_*_IRQ_INDEX``."""

    INTX = 0
    MSI = 1
    MSIX = 2
    ERR = 3
    REQ = 4


VFIO_PCI_NUM_IRQS: Final = 5


class IrqFlags(enum.IntFlag):
    """``VFIO_IRQ_INFO_``."""

    EVENTFD = 1 << 0
    MASKABLE = 1 << 1
    AUTOMASKED = 1 << 2
    NORESIZE = 1 << 3


class IrqSetFlags(enum.IntFlag):
    """``VFIO_IRQ_SET_``: exactly one DATA and one ACTION."""

    DATA_NONE = 1 << 0
    DATA_BOOL = 1 << 1
    DATA_EVENTFD = 1 << 2
    ACTION_MASK = 1 << 3
    ACTION_UNMASK = 1 << 4
    ACTION_TRIGGER = 1 << 5


class FeatureFlags(enum.IntFlag):
    """``VFIO_DEVICE_FEATURE_GET``, ``_SET`` and ``_PROBE``; the lowest 16 bits are the feature."""

    GET = 1 << 16
    SET = 1 << 17
    PROBE = 1 << 18


VFIO_DEVICE_FEATURE_MASK: Final = 0xFFFF


class Feature(enum.IntEnum):
    """``VFIO_DEVICE_FEATURE_``: those that vfio-user has."""

    MIGRATION = 1
    MIG_DEVICE_STATE = 2
    DMA_LOGGING_START = 6
    DMA_LOGGING_STOP = 7
    DMA_LOGGING_REPORT = 8


class MigrationFlags(enum.IntFlag):
    """``VFIO_MIGRATION_``: which states a device has beyond RUNNING and ERROR."""

    STOP_COPY = 1 << 0
    P2P = 1 << 1
    PRE_COPY = 1 << 2
