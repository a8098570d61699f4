# SPDX-License-Identifier: Apache-2.0
"""Layouts of the structures in vfio-user messages, each with its source.

Fields are in the order and with the names of the C structure, without padding (all are packed by nature), in the
byte order of the host (vfio-user, "Protocol Specification"). A flexible array at the end is not part of a layout: it
follows at ``size``. "VFIO" is ``<linux/vfio.h>``; structures that it does not have are in libvfio-user's
``vfio-user.h``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

__all__ = [
    "DEVICE_FEATURE",
    "DEVICE_INFO",
    "DMA_ACCESS",
    "DMA_LOGGING_CONTROL",
    "DMA_LOGGING_RANGE",
    "DMA_LOGGING_REPORT",
    "DMA_MAP",
    "DMA_UNMAP",
    "FEATURE_MIGRATION",
    "FEATURE_MIG_STATE",
    "HEADER",
    "IRQ_INFO",
    "IRQ_SET",
    "LAYOUTS",
    "MIG_DATA",
    "REGION_ACCESS",
    "REGION_INFO",
    "REGION_IO_FDS",
    "REGION_MESSAGE",
    "VERSION",
    "WRITE_MULTI",
    "WRITE_MULTI_ENTRY",
    "DeviceFeature",
    "DeviceInfo",
    "DmaAccess",
    "DmaLoggingControl",
    "DmaLoggingRange",
    "DmaLoggingReport",
    "DmaMap",
    "DmaUnmap",
    "FeatureMigState",
    "FeatureMigration",
    "Header",
    "IrqInfo",
    "IrqSet",
    "Layout",
    "MigData",
    "RegionAccess",
    "RegionInfo",
    "RegionIoFds",
    "Version",
    "WriteMulti",
    "WriteMultiEntry",
]

Octets: TypeAlias = bytes | bytearray | memoryview
Record = TypeVar("Record", bound=msgspec.Struct)


class Layout(Generic[Record]):
    """One C structure.

    :param record: its fields, in order.
    :param codes: one :mod:`struct` code for each field.
    :param c: name of the structure in C, without ``struct``.
    :param kernel: whether ``<linux/vfio.h>`` has it (else libvfio-user's ``vfio-user.h``).
    """

    def __init__(self, record: type[Record], codes: str, c: str, *, kernel: bool) -> None:
        self.record = record
        self.c = c
        self.kernel = kernel
        self.struct = struct.Struct("=" + codes)
        self.size = self.struct.size
        names = record.__struct_fields__
        # One code a field: "8s" is the only one of more than one character, and stands last.
        self.offsets: Mapping[str, int] = MappingProxyType(
            {name: struct.calcsize("=" + codes[:index]) for index, name in enumerate(names)}
        )

    def unpack(self, octets: Octets, offset: int = 0) -> Record:
        """Return the fields that stand at `offset`.

        :raise struct.error: there are fewer octets than ``size``.
        """
        return self.record(*self.struct.unpack_from(octets, offset))

    def pack(self, *fields: int | bytes) -> bytes:
        """Return the octets of these fields, in order.

        :raise struct.error: a field does not fit.
        """
        return self.struct.pack(*fields)


class Header(msgspec.Struct, frozen=True):
    """What every message begins with (vfio-user, "Header")."""

    msg_id: int
    cmd: int
    msg_size: int
    """Octets of the message with this header."""
    flags: int
    error_no: int


class Version(msgspec.Struct, frozen=True):
    """VFIO_USER_VERSION; JSON with a terminating NUL follows, or nothing."""

    major: int
    minor: int


class DmaMap(msgspec.Struct, frozen=True):
    """VFIO_USER_DMA_MAP; the reply has no payload."""

    argsz: int
    flags: int
    offset: int
    """In the file, octets."""
    addr: int
    size: int


class DmaUnmap(msgspec.Struct, frozen=True):
    """VFIO_USER_DMA_UNMAP and its reply."""

    argsz: int
    flags: int
    addr: int
    size: int


class DeviceInfo(msgspec.Struct, frozen=True):
    """VFIO_USER_DEVICE_GET_INFO: ``struct vfio_device_info`` without ``cap_offset``."""

    argsz: int
    flags: int
    num_regions: int
    num_irqs: int


class RegionInfo(msgspec.Struct, frozen=True):
    """VFIO_USER_DEVICE_GET_REGION_INFO."""

    argsz: int
    flags: int
    index: int
    cap_offset: int
    size: int
    offset: int


class RegionIoFds(msgspec.Struct, frozen=True):
    """VFIO_USER_DEVICE_GET_REGION_IO_FDS; `count` sub-regions follow in the reply."""

    argsz: int
    flags: int
    index: int
    count: int


class IrqInfo(msgspec.Struct, frozen=True):
    """VFIO_USER_DEVICE_GET_IRQ_INFO."""

    argsz: int
    flags: int
    index: int
    count: int


class IrqSet(msgspec.Struct, frozen=True):
    """VFIO_USER_DEVICE_SET_IRQS; one octet an interrupt follows with DATA_BOOL."""

    argsz: int
    flags: int
    index: int
    start: int
    count: int


class RegionAccess(msgspec.Struct, frozen=True):
    """VFIO_USER_REGION_READ and _WRITE; `count` octets follow in a write and in a read's reply."""

    offset: int
    region: int
    count: int


class DmaAccess(msgspec.Struct, frozen=True):
    """VFIO_USER_DMA_READ and _WRITE: `count` has 64 bits, unlike a region's."""

    addr: int
    count: int


class WriteMulti(msgspec.Struct, frozen=True):
    """VFIO_USER_REGION_WRITE_MULTI and its reply."""

    wr_cnt: int


class WriteMultiEntry(msgspec.Struct, frozen=True):
    """One write of WRITE_MULTI: always eight octets of data, `count` of which count."""

    offset: int
    region: int
    count: int
    data: bytes


class DeviceFeature(msgspec.Struct, frozen=True):
    """VFIO_USER_DEVICE_FEATURE; the feature's own data follow."""

    argsz: int
    flags: int


class FeatureMigration(msgspec.Struct, frozen=True):
    """VFIO_DEVICE_FEATURE_MIGRATION."""

    flags: int


class FeatureMigState(msgspec.Struct, frozen=True):
    """VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE; vfio-user has no use for `data_fd`."""

    device_state: int
    data_fd: int


class DmaLoggingControl(msgspec.Struct, frozen=True):
    """VFIO_DEVICE_FEATURE_DMA_LOGGING_START: in VFIO a pointer to the ranges is next, in vfio-user they are."""

    page_size: int
    num_ranges: int
    reserved: int


class DmaLoggingRange(msgspec.Struct, frozen=True):
    """One range of DMA_LOGGING_START."""

    iova: int
    length: int


class DmaLoggingReport(msgspec.Struct, frozen=True):
    """VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT: in VFIO a pointer to the bitmap is next, in vfio-user it is."""

    iova: int
    length: int
    page_size: int


class MigData(msgspec.Struct, frozen=True):
    """VFIO_USER_MIG_DATA_READ and _WRITE; `size` octets follow in a read's reply and in a write."""

    argsz: int
    size: int


HEADER: Final = Layout(Header, "HHIII", "vfio_user_header", kernel=False)
VERSION: Final = Layout(Version, "HH", "vfio_user_version", kernel=False)
DMA_MAP: Final = Layout(DmaMap, "IIQQQ", "vfio_user_dma_map", kernel=False)
DMA_UNMAP: Final = Layout(DmaUnmap, "IIQQ", "vfio_user_dma_unmap", kernel=False)
DEVICE_INFO: Final = Layout(DeviceInfo, "IIII", "vfio_user_device_info", kernel=False)
REGION_INFO: Final = Layout(RegionInfo, "IIIIQQ", "vfio_region_info", kernel=True)
REGION_IO_FDS: Final = Layout(RegionIoFds, "IIII", "vfio_user_region_io_fds_request", kernel=False)
IRQ_INFO: Final = Layout(IrqInfo, "IIII", "vfio_irq_info", kernel=True)
IRQ_SET: Final = Layout(IrqSet, "IIIII", "vfio_irq_set", kernel=True)
REGION_ACCESS: Final = Layout(RegionAccess, "QII", "vfio_user_region_access", kernel=False)
DMA_ACCESS: Final = Layout(DmaAccess, "QQ", "vfio_user_dma_region_access", kernel=False)
WRITE_MULTI: Final = Layout(WriteMulti, "Q", "", kernel=False)
WRITE_MULTI_ENTRY: Final = Layout(WriteMultiEntry, "QII8s", "", kernel=False)
DEVICE_FEATURE: Final = Layout(DeviceFeature, "II", "vfio_device_feature", kernel=True)
FEATURE_MIGRATION: Final = Layout(FeatureMigration, "Q", "vfio_device_feature_migration", kernel=True)
FEATURE_MIG_STATE: Final = Layout(FeatureMigState, "Ii", "vfio_device_feature_mig_state", kernel=True)
DMA_LOGGING_CONTROL: Final = Layout(
    DmaLoggingControl, "QII", "vfio_user_device_feature_dma_logging_control", kernel=False
)
DMA_LOGGING_RANGE: Final = Layout(DmaLoggingRange, "QQ", "vfio_device_feature_dma_logging_range", kernel=True)
DMA_LOGGING_REPORT: Final = Layout(DmaLoggingReport, "QQQ", "vfio_user_device_feature_dma_logging_report", kernel=False)
MIG_DATA: Final = Layout(MigData, "II", "vfio_user_mig_data", kernel=False)

LAYOUTS: Final[tuple[Layout[Any], ...]] = (
    HEADER,
    VERSION,
    DMA_MAP,
    DMA_UNMAP,
    DEVICE_INFO,
    REGION_INFO,
    REGION_IO_FDS,
    IRQ_INFO,
    IRQ_SET,
    REGION_ACCESS,
    DMA_ACCESS,
    WRITE_MULTI,
    WRITE_MULTI_ENTRY,
    DEVICE_FEATURE,
    FEATURE_MIGRATION,
    FEATURE_MIG_STATE,
    DMA_LOGGING_CONTROL,
    DMA_LOGGING_RANGE,
    DMA_LOGGING_REPORT,
    MIG_DATA,
)
"""All of them; WRITE_MULTI stands in no header, only in the specification."""

REGION_MESSAGE: Final = struct.Struct("=HHIIIQII")
"""Header and region access in one: what the hot path of a server reads and writes."""
