# SPDX-License-Identifier: Apache-2.0
"""The registers of one pool: enables, offloads, tag insertion, anti-spoofing, drop enable, rate, queues.

``drivers/net/ethernet/intel/ixgbe/ixgbe_sriov.c`` and ``ixgbe_common.c`` (Linux 6.12).
"""

from __future__ import annotations

from typing import Final

from vferry.nic.ixgbe.pf_driver.registers import Registers
from vferry.nic.ixgbe.pf_driver.vfinfo import MacType
from vferry.nic.ixgbe.registers import pf

__all__ = ["Pools"]

MMW_SIZE: Final = {MacType.MAC_82599EB: 0x4, MacType.X540: 0x14}
"""``ixgbe_set_vf_rate_limit()``: RTTBCNRM, the transmit compensation; the X550 is left alone."""

ETQF_FILTER_EN: Final = 1 << 31
ETQF_LLDP: Final = (5, 0x88CC)  # the driver's slot and the Ether type
ETQF_PAUSE: Final = (7, 0x8808)
SPOOF_ETHERTYPE_SHIFT: Final = 16
"""``IXGBE_SPOOF_ETHERTYPEAS_SHIFT`` in PFVFSPOOF, X550 and later."""


class Pools:
    """Programs single pools. A pool is named by its index: that of its VF, or the number of VFs for the PF.

    :param queues_per_pool: 2 with 64 pools, 4 with 32 (``ixgbe_set_sriov_queues()``).
    """

    def __init__(self, registers: Registers, mac_type: MacType, queues_per_pool: int) -> None:
        self._registers = registers
        self._mac_type = mac_type
        self.queues_per_pool = queues_per_pool

    def queues(self, pool: int) -> range:
        """Return the global indices of the pool's queues."""
        return range(pool * self.queues_per_pool, (pool + 1) * self.queues_per_pool)

    def enable(self, pool: int, *, receive: bool, transmit: bool) -> None:
        """Set VFRE and VFTE of the pool; what is so already is not written."""
        self._registers.set_bit(pf.VFTE, pool, on=transmit)
        self._registers.set_bit(pf.VFRE, pool, on=receive)

    def enabled(self, pool: int) -> tuple[bool, bool]:
        """Return (VFRE, VFTE) of the pool."""
        return self._registers.bit(pf.VFRE, pool), self._registers.bit(pf.VFTE, pool)

    def set_offloads(self, pool: int, *, untagged: bool) -> None:
        """Accept broadcasts, and untagged frames if `untagged`; all other bits of VMOLR stay."""
        aupe = pf.VMOLR_AUPE
        self._registers.update(pf.VMOLR, pool, on=pf.VMOLR_BAM | (aupe if untagged else 0), off=aupe)

    def set_vmvir(self, pool: int, vid: int, qos: int) -> None:
        """Insert the tag (`vid`, `qos`) into what the pool sends."""
        self._registers.write(pf.VMVIR, vid | qos << pf.VMVIR_VLAN_PRIO_SHIFT | pf.VMVIR_VLANA_DEFAULT, pool)

    def clear_vmvir(self, pool: int) -> None:
        """Insert no tag."""
        self._registers.write(pf.VMVIR, 0, pool)

    def set_anti_spoofing(self, pool: int, *, on: bool) -> None:
        """Check the source MAC address and the VLAN of what the pool sends, or do not."""
        bits = (1 | 1 << pf.PFVFSPOOF_VLAN_SHIFT) << pool % 8
        self._registers.update(pf.PFVFSPOOF, pool // 8, on=bits if on else 0, off=bits)

    def set_ethertype_anti_spoofing(self, pool: int, *, on: bool) -> None:
        """Refuse LLDP and pause frames from the pool, or do not; the 82599 and the X540 cannot."""
        if self._mac_type < MacType.X550:
            return
        for slot, ethertype in (ETQF_LLDP, ETQF_PAUSE):
            self._registers.write(pf.ETQF, ETQF_FILTER_EN | pf.ETQF_TX_ANTISPOOF | ethertype, slot)
        bit = 1 << SPOOF_ETHERTYPE_SHIFT << pool % 8
        self._registers.update(pf.PFVFSPOOF, pool // 8, on=bit if on else 0, off=bit)

    def anti_spoofing(self, pool: int) -> bool:
        """Tell whether the source MAC address of what the pool sends is checked."""
        return bool(self._registers.read(pf.PFVFSPOOF, pool // 8) >> pool % 8 & 1)

    def count_spoofed(self, pool: int) -> None:
        """Count the pool's spoofed frames in SSVPC (VMECM); this stops none of them."""
        self._registers.update(pf.VMECM, pool // 32, on=1 << pool % 32)

    def set_drop(self, pool: int, *, hide_vlan: bool) -> None:
        """Drop what finds no receive descriptor, in all queues of the pool; take the tag off if `hide_vlan`."""
        value = pf.QDE_WRITE | pf.QDE_ENABLE | (pf.QDE_HIDE_VLAN if hide_vlan else 0)
        for queue in self.queues(pool):
            self._registers.write(pf.QDE, value | queue << pf.QDE_IDX_SHIFT)

    def set_rate(self, pool: int, rate: int, link_speed: int) -> None:
        """Limit each transmit queue of the pool to `rate` Mbit/s of `link_speed` Mbit/s; 0 is no limit.

        The factor is link speed over rate, 14 bits before and 14 behind the binary point (RTTBCNRC).
        """
        factor = 0
        if rate:
            fixed_point = (link_speed << pf.RTTBCNRC_RF_INT_SHIFT) // rate
            factor = fixed_point & (pf.RTTBCNRC_RF_INT_MASK | pf.RTTBCNRC_RF_DEC_MASK) | pf.RTTBCNRC_RS_ENA
        compensation = MMW_SIZE.get(self._mac_type)
        if compensation is not None:
            self._registers.write(pf.RTTBCNRM, compensation)
        for queue in self.queues(pool):
            self._registers.write(pf.RTTDQSEL, queue)
            self._registers.write(pf.RTTBCNRC, factor)

    def rates(self, pool: int) -> tuple[int, ...]:
        """Return RTTBCNRC of each transmit queue of the pool."""
        factors = []
        for queue in self.queues(pool):
            self._registers.write(pf.RTTDQSEL, queue)
            factors.append(self._registers.read(pf.RTTBCNRC))
        return tuple(factors)

    def restart_queues(self, pool: int) -> None:
        """Enable and disable each transmit queue that was configured: what it held is flushed."""
        for queue in self.queues(pool):
            control = self._registers.read(pf.PVFTXDCTL, queue)
            if control:
                self._registers.write(pf.PVFTXDCTL, control | pf.TXDCTL_ENABLE, queue)
                self._registers.write(pf.PVFTXDCTL, control & ~pf.TXDCTL_ENABLE, queue)

    def clear_write_back(self, pool: int) -> None:
        """Zero the head write-back address of the transmit queues, which a function level reset leaves alone."""
        for queue in self.queues(pool):
            self._registers.write(pf.PVFTDWBAH, 0, queue)
            self._registers.write(pf.PVFTDWBAL, 0, queue)
