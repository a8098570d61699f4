# SPDX-License-Identifier: Apache-2.0
"""Multicast: the one hash table of the port (MTA) that the PF and all VFs fill, and what a pool takes of it.

``ixgbe_common.c``, ``ixgbe_update_mc_addr_list_generic()``; ``ixgbe_sriov.c``, ``ixgbe_set_vf_multicasts()`` and
``ixgbe_restore_vf_multicasts()``; ``ixgbe_main.c``, ``ixgbe_set_rx_mode()`` (Linux 6.12).

The table says only "somebody wants this hash": a pool with ROMPE gets every frame whose hash is set by anyone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from vferry.nic.ixgbe.pf_driver.registers import Registers
from vferry.nic.ixgbe.pf_driver.vfinfo import VfDataStorage
from vferry.nic.ixgbe.registers import pf

__all__ = ["MC_FILTER_TYPE", "MulticastTable", "mta_vector"]

MC_FILTER_TYPE: Final = 0
"""``hw->mac.mc_filter_type`` of the 82599: bits 47:36 of the address are the hash."""

MTA_WORDS: Final = 128


def mta_vector(mac: bytes, filter_type: int = MC_FILTER_TYPE) -> int:
    """Return the 12-bit hash of a multicast address (``ixgbe_mta_vector()``).

    :param filter_type: which 12 of the 16 last bits of the address are used, 0 to 3: 47:36, 46:35, 45:34, 43:32.
    """
    shift = (4, 3, 2, 0)[filter_type]
    return (mac[4] | mac[5] << 8) >> shift & 0xFFF


class MulticastTable:
    """Fills the table; the PF's own addresses are `pf_addresses`."""

    def __init__(self, registers: Registers, pf_pool: int, pf_addresses: Sequence[bytes]) -> None:
        self._registers = registers
        self._pf_pool = pf_pool
        self._pf_addresses = pf_addresses

    def add(self, vf: int, hashes: Sequence[int]) -> None:
        """Add the hashes of a VF's request; nothing is taken out, not even the VF's former ones."""
        self._set_hashes(hashes)
        self._registers.update(pf.VMOLR, vf, on=pf.VMOLR_ROMPE)

    def rebuild(self, vfinfo: Sequence[VfDataStorage]) -> None:
        """Empty the table, then write the PF's addresses and each VF's hashes; ROMPE follows from having hashes.

        ``ixgbe_set_rx_mode()``: so a VF without hashes loses ROMPE whenever any VF of the port is reset, even where
        its xcast mode asked for it.
        """
        self._set_pf_pool()
        for word in range(MTA_WORDS):
            self._registers.write(pf.MTA, 0, word)
        self._set_hashes([mta_vector(mac) for mac in self._pf_addresses])
        if self._pf_addresses:
            self._registers.write(pf.MCSTCTRL, pf.MCSTCTRL_MFE | MC_FILTER_TYPE)
        for vf, info in enumerate(vfinfo):
            # As many as the count says, whatever the array holds: the kernel's loop checks nothing either.
            hashes = [info.vf_mc_hashes[index] for index in range(info.num_vf_mc_hashes)]
            self._set_hashes(hashes)
            rompe = pf.VMOLR_ROMPE
            self._registers.update(pf.VMOLR, vf, on=rompe if hashes else 0, off=rompe)

    def _set_pf_pool(self) -> None:
        """Set what the PF's own pool and the port take: broadcasts, untagged frames, the PF's multicasts."""
        self._registers.update(pf.FCTRL, on=pf.FCTRL_BAM, off=pf.FCTRL_SBP | pf.FCTRL_UPE | pf.FCTRL_MPE)
        multicasts = pf.VMOLR_ROMPE if self._pf_addresses else 0
        self._registers.update(
            pf.VMOLR,
            self._pf_pool,
            on=pf.VMOLR_BAM | pf.VMOLR_AUPE | multicasts,
            off=pf.VMOLR_MPE | pf.VMOLR_ROMPE | pf.VMOLR_ROPE,
        )

    def _set_hashes(self, hashes: Sequence[int]) -> None:
        for value in hashes:
            self._registers.update(pf.MTA, value >> 5 & 0x7F, on=1 << (value & 0x1F))
