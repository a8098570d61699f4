# SPDX-License-Identifier: Apache-2.0
"""What the hardware holds for one VF, read back from the registers: what is in force, whatever the driver believes."""

from __future__ import annotations

import msgspec

from vferry.nic.ixgbe.messages import mac_of
from vferry.nic.ixgbe.pf_driver.adapter import Adapter
from vferry.nic.ixgbe.registers import pf

__all__ = ["ProgrammedVf", "programmed"]


class ProgrammedVf(msgspec.Struct, frozen=True, kw_only=True):
    """One VF's registers.

    :param macs: addresses of valid receive address entries that name the pool, by entry.
    :param vlans: VLAN ids of valid entries that name the pool.
    :param vmolr: the word; the flags are decoded as well.
    :param port_vlan: the VLAN and priority that VMVIR inserts, None where it inserts none.
    :param rates: RTTBCNRC of each transmit queue.
    """

    receive: bool
    transmit: bool
    macs: tuple[bytes, ...]
    vlans: tuple[int, ...]
    vmolr: int
    port_vlan: tuple[int, int] | None
    mac_anti_spoof: bool
    vlan_anti_spoof: bool
    count_spoofed: bool
    rates: tuple[int, ...]

    @property
    def untagged(self) -> bool:
        """Untagged frames are accepted (AUPE)."""
        return bool(self.vmolr & pf.VMOLR_AUPE)

    @property
    def broadcast(self) -> bool:
        """Broadcasts are accepted (BAM)."""
        return bool(self.vmolr & pf.VMOLR_BAM)

    @property
    def hashed_multicast(self) -> bool:
        """Multicasts whose hash is in the table are accepted (ROMPE)."""
        return bool(self.vmolr & pf.VMOLR_ROMPE)

    @property
    def all_multicast(self) -> bool:
        """All multicasts are accepted (MPE)."""
        return bool(self.vmolr & pf.VMOLR_MPE)


def programmed(adapter: Adapter, vf: int) -> ProgrammedVf:
    """Read the registers of `vf`."""
    registers = adapter.registers
    receive, transmit = adapter.pools.enabled(vf)
    spoof = registers.read(pf.PFVFSPOOF, vf // 8) >> vf % 8
    vmvir = registers.read(pf.VMVIR, vf)
    tag = vmvir & pf.VMVIR_VLAN_VID_MASK, (vmvir & pf.VMVIR_VLAN_TAG_MASK) >> pf.VMVIR_VLAN_PRIO_SHIFT
    return ProgrammedVf(
        receive=receive,
        transmit=transmit,
        macs=_macs(adapter, vf),
        vlans=adapter.vlans.of_pool(vf),
        vmolr=registers.read(pf.VMOLR, vf),
        port_vlan=tag if vmvir & pf.VMVIR_VLANA_DEFAULT else None,
        mac_anti_spoof=bool(spoof & 1),
        vlan_anti_spoof=bool(spoof >> pf.PFVFSPOOF_VLAN_SHIFT & 1),
        count_spoofed=registers.bit(pf.VMECM, vf),
        rates=adapter.pools.rates(vf),
    )


def _macs(adapter: Adapter, vf: int) -> tuple[bytes, ...]:
    registers = adapter.registers
    pools = pf.MPSAR_HI if vf >= 32 else pf.MPSAR_LO
    return tuple(
        mac_of(registers.read(pf.RAL, entry), registers.read(pf.RAH, entry))
        for entry in range(pf.RAR_ENTRIES)
        if registers.read(pf.RAH, entry) & pf.RAH_AV and registers.read(pools, entry) >> vf % 32 & 1
    )
