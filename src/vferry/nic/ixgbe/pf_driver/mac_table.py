# SPDX-License-Identifier: Apache-2.0
"""The receive addresses: which MAC address leads to which pool (RAL, RAH and MPSAR, 128 entries).

``drivers/net/ethernet/intel/ixgbe/ixgbe_main.c``, ``ixgbe_add_mac_filter()`` and ``ixgbe_del_mac_filter()``, and
``ixgbe_sriov.c``, ``ixgbe_set_vf_macvlan()`` (Linux 6.12). One entry names one pool: the same address for two pools
takes two entries, and nothing looks for duplicates.
"""

from __future__ import annotations

import errno
from typing import Final

import msgspec

from vferry.nic.ixgbe.messages import mac_words
from vferry.nic.ixgbe.pf_driver.errors import DriverError
from vferry.nic.ixgbe.pf_driver.registers import Registers
from vferry.nic.ixgbe.registers import pf

__all__ = ["MAX_PF_MACVLANS", "MacTable", "MacvlanList"]

MAX_PF_MACVLANS: Final = 15
"""``IXGBE_MAX_PF_MACVLANS``: receive addresses that are left to the PF when VFs get theirs."""

PF_ENTRY: Final = 0
"""The entry of the PF's own address (``ixgbe_mac_set_default_filter()``)."""


class _Entry(msgspec.Struct, frozen=True):
    mac: bytes
    pool: int


class MacTable:
    """The software's copy of the receive address table; every change is written to the hardware at once."""

    def __init__(self, registers: Registers) -> None:
        self._registers = registers
        self._entries: list[_Entry | None] = [None] * pf.RAR_ENTRIES

    @property
    def free(self) -> int:
        """How many entries are not in use."""
        return self._entries.count(None)

    def flush(self) -> None:
        """Forget all entries without touching the hardware, which a reset of the device has cleared."""
        self._entries = [None] * pf.RAR_ENTRIES

    def set_default(self, mac: bytes, pool: int) -> None:
        """Give the PF's own address to `pool`, in the entry that is kept for it."""
        self._entries[PF_ENTRY] = _Entry(mac, pool)
        self._sync(PF_ENTRY)

    def add(self, mac: bytes, pool: int) -> int:
        """Lead `mac` to `pool` and return the entry's index.

        :raises DriverError: EINVAL for the zero address, ENOMEM where no entry is free.
        """
        if not any(mac):
            raise DriverError(errno.EINVAL, "the zero address cannot be a filter")
        for index, entry in enumerate(self._entries):
            if entry is None:
                self._entries[index] = _Entry(mac, pool)
                self._sync(index)
                return index
        raise DriverError(errno.ENOMEM, f"all {pf.RAR_ENTRIES} receive addresses are in use")

    def remove(self, mac: bytes, pool: int) -> bool:
        """Remove the first entry of `mac` and `pool`; return False where there is none."""
        wanted = _Entry(mac, pool)
        if not any(mac) or wanted not in self._entries:
            return False
        index = self._entries.index(wanted)
        self._entries[index] = None
        self._sync(index)
        return True

    def of_pool(self, pool: int) -> tuple[bytes, ...]:
        """Return the addresses of `pool`, by entry."""
        return tuple(entry.mac for entry in self._entries if entry is not None and entry.pool == pool)

    def available(self, pool: int) -> int:
        """Count the entries `pool` has or may take, without the PF's own (``ixgbe_available_rars()``)."""
        return sum(entry is None or entry.pool == pool for entry in self._entries[PF_ENTRY + 1 :])

    def _sync(self, index: int) -> None:
        """Write one entry: a reader never sees a valid address with another address' pools."""
        entry = self._entries[index]
        registers = self._registers
        low, high, pools = 0, 0, 0
        if entry is not None:
            low, high = mac_words(entry.mac)
            high |= pf.RAH_AV
            pools = 1 << entry.pool
        else:
            registers.write(pf.RAH, 0, index)
        registers.write(pf.MPSAR_LO, pools & 0xFFFFFFFF, index)
        registers.write(pf.MPSAR_HI, pools >> 32, index)
        registers.write(pf.RAL, low, index)
        registers.write(pf.RAH, high, index)


class _Macvlan(msgspec.Struct):
    vf: int | None = None
    mac: bytes = b""


class MacvlanList:
    """The further unicast addresses of the VFs: one list of slots that all VFs share.

    :param slots: receive addresses less the PF's 15 and its own one, less one for each VF
        (``ixgbe_alloc_vf_macvlans()``).
    """

    def __init__(self, table: MacTable, num_vfs: int) -> None:
        self._table = table
        self._slots = [_Macvlan() for _ in range(max(0, pf.RAR_ENTRIES - (MAX_PF_MACVLANS + 1 + num_vfs)))]

    @property
    def free(self) -> int:
        """How many slots are not in use."""
        return sum(slot.vf is None for slot in self._slots)

    def of_vf(self, vf: int) -> tuple[bytes, ...]:
        """Return the addresses of `vf`, in the order of the slots."""
        return tuple(slot.mac for slot in self._slots if slot.vf == vf)

    def clear(self, vf: int) -> None:
        """Remove all addresses of `vf`."""
        for slot in self._slots:
            if slot.vf == vf:
                slot.vf = None
                self._table.remove(slot.mac, vf)

    def add(self, vf: int, mac: bytes) -> None:
        """Add an address of `vf`.

        :raises DriverError: ENOSPC where no slot is free, ENOMEM where no receive address is.
        """
        for slot in self._slots:
            if slot.vf is None:
                self._table.add(mac, vf)
                slot.vf = vf
                slot.mac = mac
                return
        raise DriverError(errno.ENOSPC, f"all {len(self._slots)} slots for further addresses are in use", vf=vf)
