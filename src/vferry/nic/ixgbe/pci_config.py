# SPDX-License-Identifier: Apache-2.0
"""The PCI configuration space of a VF, as a virtual machine monitor shows it to the guest.

The hardware itself is poorer: vendor and device read 0xFFFF, Memory Enable is the PF's VF MSE, and the PCIe
capability reads zeros (82599 Specification Update rev 3.1, erratum 35; SR-IOV specification, VF type 0 header). What
VFIO and QEMU put in their place is shown here, but no PCIe capability. The MSI-X capability stands at 0x70, where
the state of the 2015 series looked for its message control; that the hardware has it there is not verified, nor is the
place of the pending bits (BAR3 + 0x2000).

A function level reset clears COMMAND, the BARs and MSI-X message control (PCI Express Base Specification, 6.6.2).
"""

from __future__ import annotations

from typing import Final

from vferry.core.errors import UsageError

__all__ = [
    "BAR0",
    "BAR3",
    "BAR_64BIT",
    "BAR_OCTETS",
    "COMMAND",
    "COMMAND_BUS_MASTER",
    "COMMAND_MEMORY",
    "DEVICE_ID",
    "MSIX_CAPABILITY",
    "MSIX_CONTROL",
    "MSIX_CONTROL_ENABLE",
    "MSIX_CONTROL_MASKALL",
    "MSIX_VECTORS",
    "SIZE",
    "VENDOR_ID",
    "ConfigAccessError",
    "VfConfigSpace",
]

# Offsets and bits of the header: PCI Local Bus Specification 3.0, chapter 6.1, as in <linux/pci_regs.h>.
SIZE: Final = 0x1000
HEADER: Final = 0x100
VENDOR_ID: Final = 0x8086
DEVICE_ID: Final = 0x10ED  # 82599 VF: ixgbevf/defines.h
COMMAND: Final = 0x04
COMMAND_MEMORY: Final = 1 << 1
COMMAND_BUS_MASTER: Final = 1 << 2
STATUS: Final = 0x06
STATUS_CAP_LIST: Final = 1 << 4
CLASS_REVISION: Final = 0x08
BAR0: Final = 0x10
BAR3: Final = 0x1C
BAR_OCTETS: Final = 16 * 1024  # both; as a FreeBSD boot log shows
BAR_64BIT: Final = 0x4
SUBSYSTEM_VENDOR_ID: Final = 0x2C
CAPABILITY_LIST: Final = 0x34

# MSI-X capability: the same specification, 6.8.2.
MSIX_CAPABILITY: Final = 0x70
MSIX_CONTROL: Final = MSIX_CAPABILITY + 2
MSIX_CONTROL_ENABLE: Final = 1 << 15
MSIX_CONTROL_MASKALL: Final = 1 << 14
MSIX_VECTORS: Final = 3
MSIX_TABLE: Final = MSIX_CAPABILITY + 4
MSIX_PBA: Final = MSIX_CAPABILITY + 8
MSIX_BIR: Final = 3
MSIX_PBA_OFFSET: Final = 0x2000
CAP_ID_MSIX: Final = 0x11

_INITIAL: Final = (  # offset, octets, value
    (0x00, 2, VENDOR_ID),
    (0x02, 2, DEVICE_ID),
    (STATUS, 2, STATUS_CAP_LIST),
    (CLASS_REVISION, 4, 0x02000001),  # Ethernet controller; revision 1
    (BAR0, 4, BAR_64BIT),
    (BAR3, 4, BAR_64BIT),
    (SUBSYSTEM_VENDOR_ID, 2, VENDOR_ID),
    (CAPABILITY_LIST, 1, MSIX_CAPABILITY),
    (MSIX_CAPABILITY, 1, CAP_ID_MSIX),
    (MSIX_CONTROL, 2, MSIX_VECTORS - 1),
    (MSIX_TABLE, 4, MSIX_BIR),
    (MSIX_PBA, 4, MSIX_PBA_OFFSET | MSIX_BIR),
)
_BAR_BASE: Final = ~(BAR_OCTETS - 1) & 0xFFFFFFFF
_WRITABLE: Final = (
    (COMMAND, 2, COMMAND_MEMORY | COMMAND_BUS_MASTER),
    (BAR0, 4, _BAR_BASE),
    (BAR0 + 4, 4, 0xFFFFFFFF),
    (BAR3, 4, _BAR_BASE),
    (BAR3 + 4, 4, 0xFFFFFFFF),
    (MSIX_CONTROL, 2, MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASKALL),
)


class ConfigAccessError(UsageError):
    """A configuration access that no bus would make."""

    def __init__(self, offset: int, size: int) -> None:
        self.offset = offset
        self.size = size
        super().__init__(
            f"access configuration space at {offset:#x}",
            why=f"{size} octets there are not 1, 2 or 4 on their own boundary inside {SIZE:#x}",
        )


def _image(parts: tuple[tuple[int, int, int], ...]) -> bytes:
    """Return a header made of little-endian numbers at their places."""
    image = bytearray(HEADER)
    for offset, octets, value in parts:
        image[offset : offset + octets] = value.to_bytes(octets, "little")
    return bytes(image)


class VfConfigSpace:
    """4096 octets, of which the first 256 hold something. No read has a side effect."""

    _initial: Final = _image(_INITIAL)
    _mask: Final = _image(_WRITABLE)

    def __init__(self) -> None:
        self._octets = bytearray(self._initial)

    def reset(self) -> None:
        """Return everything to its initial value, as a function level reset does."""
        self._octets[:] = self._initial

    def read(self, offset: int, size: int) -> int:
        """Return `size` octets (1, 2 or 4) at `offset` as a little-endian number; 0 where there is nothing.

        :raises ConfigAccessError: not on the size's boundary, or outside.
        """
        _check(offset, size)
        return int.from_bytes(self._octets[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Write the writable bits of `size` octets (1, 2 or 4) at `offset`.

        :raises ConfigAccessError: not on the size's boundary, or outside.
        """
        _check(offset, size)
        octets = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        for place, octet in enumerate(octets, offset):
            if place < HEADER:
                mask = self._mask[place]
                self._octets[place] = (self._octets[place] & ~mask) | (octet & mask)

    @property
    def bus_master(self) -> bool:
        """Whether COMMAND lets the function reach memory: no DMA and no MSI-X message without."""
        return bool(self.read(COMMAND, 2) & COMMAND_BUS_MASTER)

    @property
    def msix_passes(self) -> bool:
        """Whether MSI-X is enabled and the function's mask is off."""
        bits = MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASKALL
        return self.read(MSIX_CONTROL, 2) & bits == MSIX_CONTROL_ENABLE


def _check(offset: int, size: int) -> None:
    if size not in (1, 2, 4) or offset % size or not 0 <= offset <= SIZE - size:
        raise ConfigAccessError(offset, size)
