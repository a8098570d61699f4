# SPDX-License-Identifier: Apache-2.0
"""The PF's filter registers as tables: who gets a frame, by its destination address and its VLAN.

The order of decisions is that of the hardware: pools are selected by address first and by VLAN then (82599
Specification Update rev 3.1, specification clarification 12). In full:

1. Address. Broadcast: pools with VMOLR.BAM. Else the pools that MPSAR names beside a valid RAL/RAH. If there are none,
   a hit in UTA (unicast) selects pools with ROPE, and one in MTA (multicast, while MCSTCTRL.MFE) those with ROMPE.
   Promiscuous pools are added: UPE for unicast, MPE for multicast. Without VT_CTL.REPLEN one pool is left: the lowest;
   the default pool for broadcast, and for multicast that RAL/RAH does not name.
2. VLAN, while VLNCTRL.VFE: a tagged frame stays with the pools of its VLVF/VLVFB entry and those with VPE, an untagged
   one with the pools that have AUPE.
3. From the wire only: unicast that is left with no pool goes to the default pool, whatever its VLAN.
4. VFRE. It removes the frame, not the decision: the frame is lost on its way to that pool.

A pool's own frame leaves by the wire unless it is unicast and step 1 found it in RAL/RAH with a pool in MPSAR. Neither
VLAN nor VFRE changes that. So an entry left behind by a VM that went elsewhere swallows what other pools send to it.

UPE and VPE are bits of the X540 and later; ixgbe never sets them on an 82599. They are honoured wherever they are set.
In VT mode FCTRL is not looked at: the default pool gets unknown unicast as if FCTRL.UPE were set. Not modelled:
ETQF, mirroring, MDD, the source pruning of later chips.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vferry.nic.ixgbe.frame import BROADCAST, UNTAGGED, VID_MASK, hash_index, is_group
from vferry.nic.ixgbe.registers import pf

__all__ = ["ALL_POOLS", "FILTER_OFFSETS", "POOLS", "ROUTES_KEPT", "WIRE_ONLY", "Filters", "Route", "pools_of"]

POOLS: Final = 64
ALL_POOLS: Final = (1 << POOLS) - 1
ROUTES_KEPT: Final = 8192
"""Remembered decisions; past it all are forgotten, as an address can be anything a guest likes."""

FILTER_OFFSETS: Final = frozenset(
    address
    for register in (
        *(pf.VT_CTL, pf.PFDTXGSWC, pf.VFRE, pf.VFTE, pf.PFVFSPOOF, pf.VMOLR, pf.VMVIR, pf.FCTRL, pf.MAXFRS),
        *(pf.RAL, pf.RAH, pf.MPSAR_LO, pf.MPSAR_HI, pf.MTA, pf.UTA, pf.MCSTCTRL, pf.RTTBCNRM),
        *(pf.VLNCTRL, pf.VFTA, pf.VLVF, pf.VLVFB),
    )
    for address in register.addresses
)
"""The registers whose writing makes what was derived from them wrong: :meth:`Switch.changed` must be called then."""


def pools_of(mask: int) -> tuple[int, ...]:
    """Return the numbers of the bits that are set, in rising order."""
    pools: list[int] = []
    while mask:
        lowest = mask & -mask
        pools.append(lowest.bit_length() - 1)
        mask ^= lowest
    return tuple(pools)


class Route:
    """Where frames with one destination and one VLAN go. The sender is not known here: it may be among the pools."""

    __slots__ = ("alone", "kept", "lossy", "lost", "stripped", "wire")

    def __init__(self, *, receiving: int, lost: int, stripping: int, wire: bool) -> None:
        self.kept = pools_of(receiving & ~stripping)
        """Pools that get the frame as it is."""
        self.stripped = pools_of(receiving & stripping)
        """Pools that get it without its outer tag: the tag is their port VLAN."""
        self.lost = pools_of(lost)
        """Pools that should get it, and do not: VFRE."""
        self.wire = wire
        """Whether a pool's frame leaves by the wire."""
        targets = receiving | lost
        self.alone = not wire and targets & (targets - 1) == 0
        """Whether nothing is left once the sender is taken out, if it is one of the pools."""
        self.lossy = bool(lost) or (not wire and not targets)
        """Whether there is something to lose, whoever sends."""


WIRE_ONLY: Final = Route(receiving=0, lost=0, stripping=0, wire=True)


class Filters:
    """The registers of one instant, decoded. Masks have a bit for each pool.

    :param peek: reads a PF register without any side effect. MTA, UTA and VFTA are read when they are asked, so a
        change of registers ends this object's use.
    """

    def __init__(self, peek: Callable[[int], int]) -> None:
        self._peek = peek
        control = peek(pf.VT_CTL.offset)
        self.vt: Final = bool(control & pf.VT_CTL_VT_ENABLE)
        """Whether there are pools at all. Without VT mode pool 0 stands for the PF, and nobody else has a place."""
        self.loopback: Final = self.vt and bool(peek(pf.PFDTXGSWC.offset) & pf.PFDTXGSWC_VT_LBEN)
        """VEB; else VEPA: every frame leaves by the wire."""
        self.replicates: Final = not self.vt or bool(control & pf.VT_CTL_REPLEN)
        self.default_pool: Final = (
            0
            if control & pf.VT_CTL_DIS_DEFPL or not self.vt
            else 1 << ((control & pf.VT_CTL_POOL_MASK) >> pf.VT_CTL_POOL_SHIFT)
        )
        self.filters_vlans: Final = bool(peek(pf.VLNCTRL.offset) & pf.VLNCTRL_VFE)
        self.max_frame: Final = peek(pf.MAXFRS.offset) >> pf.MAXFRS_MFS_SHIFT
        """Octets with FCS, one tag not counted (MAXFRS.MFS)."""
        self.receiving: Final = self._words(*pf.VFRE.addresses) if self.vt else 1
        self.transmitting: Final = self._words(*pf.VFTE.addresses) if self.vt else ALL_POOLS
        self._read_modes()
        self._read_spoof_checks()
        self.addresses: Final = self._read_addresses()
        """Pools of each address in RAL/RAH that has any."""
        self.vlans: Final = self._read_vlans()
        """Pools of each VLAN in VLVF, by its identifier."""
        self.port_vlans: Final = self._read_port_vlans()
        """By pool: the tag control information that VMVIR inserts, or :data:`UNTAGGED`."""

    def _words(self, low: int, high: int) -> int:
        return self._peek(low) | self._peek(high) << 32

    def _read_modes(self) -> None:
        """Decode VMOLR; without VT mode, FCTRL for the one pool there is."""
        if self.vt:
            modes = [self._peek(address) for address in pf.VMOLR.addresses]
        else:
            modes = [_modes_without_vt(self._peek(pf.FCTRL.offset))]
        self.bam = _having(modes, pf.VMOLR_BAM)
        self.rompe = _having(modes, pf.VMOLR_ROMPE)
        self.rope = _having(modes, pf.VMOLR_ROPE)
        self.upe = _having(modes, pf.VMOLR_UPE)
        self.mpe = _having(modes, pf.VMOLR_MPE)
        self.vpe = _having(modes, pf.VMOLR_VPE)
        self.aupe = _having(modes, pf.VMOLR_AUPE)

    def _read_spoof_checks(self) -> None:
        """Decode PFVFSPOOF: 8 pools each, 7:0 for addresses, 15:8 for VLANs."""
        macs = vlans = 0
        for index, address in enumerate(pf.PFVFSPOOF.addresses) if self.vt else ():
            word = self._peek(address)
            macs |= (word & 0xFF) << (8 * index)
            vlans |= (word >> 8 & 0xFF) << (8 * index)
        self.mac_checked = macs
        self.vlan_checked = vlans

    def _read_addresses(self) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for index, address_of_high in enumerate(pf.RAH.addresses):
            high = self._peek(address_of_high)
            if not high & pf.RAH_AV:
                continue
            low = self._peek(pf.RAL.addresses[index])
            address = (low | (high & 0xFFFF) << 32).to_bytes(6, "little")
            pools = self._words(pf.MPSAR_LO.addresses[index], pf.MPSAR_HI.addresses[index]) if self.vt else 1
            if pools:
                found[address] = found.get(address, 0) | pools
        return found

    def _read_vlans(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for index, address in enumerate(pf.VLVF.addresses) if self.vt else ():
            entry = self._peek(address)
            if entry & pf.VLVF_VIEN:
                pools = self._words(pf.VLVFB.address(2 * index), pf.VLVFB.address(2 * index + 1))
                found[entry & VID_MASK] = found.get(entry & VID_MASK, 0) | pools
        return found

    def _read_port_vlans(self) -> list[int]:
        found = [UNTAGGED] * POOLS
        for pool, address in enumerate(pf.VMVIR.addresses) if self.vt else ():
            value = self._peek(address)
            # Bit 31 is "never insert"; both bits set is reserved, and inserts nothing here.
            if value & pf.VMVIR_VLANA_MASK == pf.VMVIR_VLANA_DEFAULT:
                found[pool] = value & pf.VMVIR_VLAN_TAG_MASK
        return found

    def from_pool(self, destination: bytes, vid: int) -> Route:
        """Decide on frames of pools.

        :param destination: 6 octets.
        :param vid: 0..4095, or :data:`UNTAGGED`.
        """
        if not self.loopback:
            return WIRE_ONLY
        pools = self._in_vlan(self._by_address(destination), vid)
        return self._route(pools, vid, wire=is_group(destination) or destination not in self.addresses)

    def from_wire(self, destination: bytes, vid: int) -> Route:
        """Decide on frames from the wire; the parameters are those of :meth:`from_pool`."""
        pools = self._in_vlan(self._by_address(destination), vid)
        if not pools and not is_group(destination):
            pools = self.default_pool
        return self._route(pools, vid, wire=False)

    def admits_vlan(self, vid: int) -> bool:
        """Return whether VFTA lets a frame in from the wire; it asks only for tagged ones, and only while VFE."""
        return not self.filters_vlans or vid == UNTAGGED or self._in_table(pf.VFTA.offset, vid)

    def _in_table(self, base: int, bit: int) -> bool:
        return bool(self._peek(base + 4 * (bit >> 5)) >> (bit & 31) & 1)

    def _by_address(self, destination: bytes) -> int:
        group = is_group(destination)
        pools = self.bam if destination == BROADCAST else self.addresses.get(destination, 0)
        exact = pools != 0 and destination != BROADCAST
        if not self.replicates:
            return self._one_of(self._or_by_hash(destination, pools), to_default=group and not exact)
        if destination == BROADCAST:
            return pools
        return self._or_by_hash(destination, pools) | (self.mpe if group else self.upe)

    def _or_by_hash(self, destination: bytes, pools: int) -> int:
        """Return those pools, or the ones that the hash tables select if there are none."""
        control = self._peek(pf.MCSTCTRL.offset)
        group = is_group(destination)
        if pools or (group and not control & pf.MCSTCTRL_MFE):
            return pools
        index = hash_index(destination, control & 3)
        if not self._in_table((pf.MTA if group else pf.UTA).address(0), index):
            return 0
        return self.rompe if group else self.rope

    def _one_of(self, pools: int, *, to_default: bool) -> int:
        return self.default_pool if to_default else pools & -pools

    def _in_vlan(self, pools: int, vid: int) -> int:
        if not self.filters_vlans:
            return pools
        if vid == UNTAGGED:
            return pools & self.aupe
        return pools & (self.vlans.get(vid, 0) | self.vpe)

    def _route(self, pools: int, vid: int, *, wire: bool) -> Route:
        stripping = 0
        for pool in pools_of(pools) if vid != UNTAGGED else ():
            if self.port_vlans[pool] != UNTAGGED and self.port_vlans[pool] & VID_MASK == vid:
                stripping |= 1 << pool
        return Route(receiving=pools & self.receiving, lost=pools & ~self.receiving, stripping=stripping, wire=wire)


def _having(modes: list[int], bit: int) -> int:
    """Return the pools whose VMOLR has a bit."""
    return sum(1 << pool for pool, mode in enumerate(modes) if mode & bit)


def _modes_without_vt(fctrl: int) -> int:
    """Return what FCTRL says in the words of VMOLR. Without pools, VLANs are a matter of VFTA alone."""
    modes = pf.VMOLR_AUPE | pf.VMOLR_VPE | pf.VMOLR_ROMPE | pf.VMOLR_ROPE
    for bit, mode in ((pf.FCTRL_BAM, pf.VMOLR_BAM), (pf.FCTRL_UPE, pf.VMOLR_UPE), (pf.FCTRL_MPE, pf.VMOLR_MPE)):
        if fctrl & bit:
            modes |= mode
    return modes
