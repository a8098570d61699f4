# SPDX-License-Identifier: Apache-2.0
"""A VF's packet and octet counts: sums of the differences of wrapping counters, which go on over resets.

``drivers/net/ethernet/intel/ixgbe/ixgbe_main.c``, ``ixgbe_update_stats()`` (Linux 6.12): packets wrap at 32 bits,
octets at 36, and no counter can be written. So a total lives in software, and ``last_vfstats`` means something only
for the hardware it was read from.
"""

from __future__ import annotations

from typing import Final

from vferry.nic.ixgbe.pf_driver.registers import Registers
from vferry.nic.ixgbe.pf_driver.vfinfo import VfDataStorage, VfStats
from vferry.nic.ixgbe.registers import pf

__all__ = ["fold", "load_totals", "rebase", "totals"]

WIDTHS: Final = VfStats(gprc=32, gorc=36, gptc=32, gotc=36, mprc=32)
"""Bits of each counter."""


def read_counters(registers: Registers, vf: int) -> VfStats:
    """Read the counters of a VF's pool."""
    return VfStats(
        gprc=registers.read(pf.PVFGPRC, vf),
        gorc=registers.read(pf.PVFGORC_LSB, vf) | (registers.read(pf.PVFGORC_MSB, vf) & 0xF) << 32,
        gptc=registers.read(pf.PVFGPTC, vf),
        gotc=registers.read(pf.PVFGOTC_LSB, vf) | (registers.read(pf.PVFGOTC_MSB, vf) & 0xF) << 32,
        mprc=registers.read(pf.PVFMPRC, vf),
    )


def fold(registers: Registers, vf: int, info: VfDataStorage) -> None:
    """Add to ``vfstats`` what was counted since the last call."""
    current = read_counters(registers, vf)
    info.vfstats = VfStats(
        *(
            total + (now - last) % (1 << width)
            for total, now, last, width in zip(info.vfstats, current, info.last_vfstats, WIDTHS, strict=True)
        )
    )
    info.last_vfstats = current


def rebase(registers: Registers, vf: int, info: VfDataStorage) -> None:
    """Count from the hardware's present values on (after a reset of the device)."""
    info.last_vfstats = read_counters(registers, vf)


def totals(info: VfDataStorage) -> VfStats:
    """Return what was counted in all, as of the last :func:`fold`."""
    return VfStats(*(now + saved for now, saved in zip(info.vfstats, info.saved_rst_vfstats, strict=True)))


def load_totals(registers: Registers, vf: int, info: VfDataStorage, saved: VfStats) -> None:
    """Go on from `saved`, what was counted elsewhere: never from another device's counters."""
    info.saved_rst_vfstats = saved
    info.vfstats = VfStats()
    rebase(registers, vf, info)
