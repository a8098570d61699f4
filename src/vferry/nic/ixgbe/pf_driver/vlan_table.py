# SPDX-License-Identifier: Apache-2.0
"""The VLAN filters: which VLAN ids the port takes (VFTA) and which pools each one leads to (VLVF, VLVFB).

``ixgbe_common.c``, ``ixgbe_set_vfta_generic()``; ``ixgbe_sriov.c``, ``ixgbe_set_vf_vlan()`` and
``ixgbe_clear_vf_vlans()``; ``ixgbe_main.c``, ``ixgbe_update_pf_promisc_vlvf()`` (Linux 6.12). There are 64 entries
for all pools; entry 0 is kept for VLAN 0. The tables themselves are in the hardware: the driver reads them back.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from vferry.nic.ixgbe.pf_driver.errors import DriverError
from vferry.nic.ixgbe.pf_driver.registers import Registers
from vferry.nic.ixgbe.registers import pf

__all__ = ["VlanTable"]


class VlanTable:
    """The VLAN filters as the hardware holds them.

    :param pf_pool: the pool of the PF itself.
    """

    def __init__(self, registers: Registers, pf_pool: int) -> None:
        self._registers = registers
        self._pf_pool = pf_pool
        self.active_vlans: set[int] = set()
        """VLANs of the PF's own network interface; VLAN 0 (untagged) is one of them while it is up."""

    def set_vf_vlan(self, vf: int, vid: int, *, add: bool) -> None:
        """Let `vf` into VLAN `vid`, or take it out (``ixgbe_set_vf_vlan()``).

        :raises DriverError: ENOSPC where all 64 entries are in use by other VLANs.
        """
        try:
            if add and vid in self.active_vlans:
                self.set_vfta(vid, self._pf_pool, on=True)
            self.set_vfta(vid, vf, on=add)
        except DriverError:
            if vid in self.active_vlans:
                self._drop_pf_only_entry(vid)
            raise
        if not add and vid in self.active_vlans:
            self._drop_pf_only_entry(vid)

    def set_vfta(self, vid: int, pool: int, *, on: bool, bypass: bool = False) -> None:
        """Set or clear `pool` in the entry of `vid`, and the port's filter bit with the first and the last pool.

        :param bypass: where `vid` has no entry, only set the port's filter bit (the PF's own VLANs need no entry,
            since it is the default pool).
        :raises DriverError: ENOSPC where `vid` has no entry and none is free.
        """
        entry = self._find(vid, bypass=bypass)
        if entry is None:
            self._set_filter(vid, on=on)
            return
        pools = self._pools(entry)
        if on:
            self._set_pools(entry, pools | 1 << pool)
            self._registers.write(pf.VLVF, pf.VLVF_VIEN | vid, entry)
            self._set_filter(vid, on=True)
            return
        left = pools & ~(1 << pool)
        if left:
            self._set_pools(entry, left)
            self._registers.write(pf.VLVF, pf.VLVF_VIEN | vid, entry)
            return
        self._set_filter(vid, on=False)
        self._registers.write(pf.VLVF, 0, entry)
        self._set_pools(entry, 0)

    def clear_vf(self, vf: int) -> None:
        """Take `vf` out of all VLANs; an entry that then serves only the PF is given up."""
        for entry in reversed(range(pf.VLVF_ENTRIES)):
            pools = self._pools(entry)
            if not pools >> vf & 1:
                continue
            left = pools & ~(1 << vf)
            others = left & ~(1 << self._pf_pool)
            vlvf = self._registers.read(pf.VLVF, entry)
            if not others and (left or vlvf):
                if not left:
                    self._set_filter(vlvf & pf.VLVF_VLANID_MASK, on=False)
                self._registers.write(pf.VLVF, 0, entry)
                left = 0
            self._set_pools(entry, left)

    def of_pool(self, pool: int) -> tuple[int, ...]:
        """Return the VLAN ids whose entries name `pool`, in order."""
        return tuple(
            sorted(
                self._registers.read(pf.VLVF, entry) & pf.VLVF_VLANID_MASK
                for entry in range(pf.VLVF_ENTRIES)
                if self._pools(entry) >> pool & 1 and self._registers.read(pf.VLVF, entry) & pf.VLVF_VIEN
            )
        )

    def fits(self, vf: int, vids: Iterable[int]) -> bool:
        """Tell whether `vids` could be all VLANs of `vf`: after :meth:`clear_vf`, which gives its own entries up."""
        mine = 1 << vf | 1 << self._pf_pool
        free, kept = 0, set[int]()
        for entry in range(1, pf.VLVF_ENTRIES):  # entry 0 serves only VLAN 0
            vlvf, pools = self._registers.read(pf.VLVF, entry), self._pools(entry)
            if not vlvf or (pools >> vf & 1 and not pools & ~mine):
                free += 1
            else:
                kept.add(vlvf & pf.VLVF_VLANID_MASK)
        return len(set(vids) - kept - {0}) <= free

    def _find(self, vid: int, *, bypass: bool) -> int | None:
        """Return the entry of `vid`, else the free one with the greatest index (``ixgbe_find_vlvf_slot()``)."""
        found = self._entry_of(vid)
        if found is not None or bypass:
            return found
        for entry in reversed(range(1, pf.VLVF_ENTRIES)):
            if not self._registers.read(pf.VLVF, entry):
                return entry
        raise DriverError(errno.ENOSPC, f"all {pf.VLVF_ENTRIES} VLAN pool filters are in use")

    def _entry_of(self, vid: int) -> int | None:
        """Return the entry that holds `vid`; VLAN 0 always has entry 0."""
        if vid == 0:
            return 0
        for entry in reversed(range(1, pf.VLVF_ENTRIES)):
            if self._registers.read(pf.VLVF, entry) == pf.VLVF_VIEN | vid:
                return entry
        return None

    def _drop_pf_only_entry(self, vid: int) -> None:
        """Give up the entry of `vid` where it serves the PF only: it then falls into the default pool."""
        entry = self._entry_of(vid)
        if entry is not None and not self._pools(entry) & ~(1 << self._pf_pool):
            self._set_pools(entry, 0)
            self._registers.write(pf.VLVF, 0, entry)

    def _pools(self, entry: int) -> int:
        low = self._registers.read(pf.VLVFB, 2 * entry)
        return low | self._registers.read(pf.VLVFB, 2 * entry + 1) << 32

    def _set_pools(self, entry: int, pools: int) -> None:
        self._registers.write(pf.VLVFB, pools & 0xFFFFFFFF, 2 * entry)
        self._registers.write(pf.VLVFB, pools >> 32, 2 * entry + 1)

    def _set_filter(self, vid: int, *, on: bool) -> None:
        self._registers.set_bit(pf.VFTA, vid, on=on)
