# SPDX-License-Identifier: Apache-2.0
"""The port as the PF driver runs it: bringing it up and down, SR-IOV on and off, and the tables all parts share.

``drivers/net/ethernet/intel/ixgbe/ixgbe_main.c`` and ``ixgbe_sriov.c`` (Linux 6.12).
"""

from __future__ import annotations

import errno
from typing import Final

from vferry.nic.ixgbe.bar import PfBar
from vferry.nic.ixgbe.messages import CTS, Id, mac_of
from vferry.nic.ixgbe.pf_driver import stats
from vferry.nic.ixgbe.pf_driver.errors import DriverError
from vferry.nic.ixgbe.pf_driver.mac_table import MacTable, MacvlanList
from vferry.nic.ixgbe.pf_driver.mailbox import PfMailbox
from vferry.nic.ixgbe.pf_driver.multicast import MulticastTable
from vferry.nic.ixgbe.pf_driver.pools import Pools
from vferry.nic.ixgbe.pf_driver.registers import Registers
from vferry.nic.ixgbe.pf_driver.rss import program_rss
from vferry.nic.ixgbe.pf_driver.vfinfo import LinkState, MacType, VfDataStorage
from vferry.nic.ixgbe.pf_driver.vlan_table import VlanTable
from vferry.nic.ixgbe.registers import pf

__all__ = [
    "ETH_FCS_LEN",
    "ETH_FRAME_LEN",
    "ETH_HLEN",
    "ETH_MIN_MTU",
    "MAX_JUMBO_FRAME_SIZE",
    "MAX_VFS",
    "Adapter",
    "is_valid_ether_addr",
]

ETH_HLEN: Final = 14
ETH_FCS_LEN: Final = 4
ETH_FRAME_LEN: Final = 1514
"""Octets of the greatest untagged frame without FCS (``include/uapi/linux/if_ether.h``)."""
ETH_MIN_MTU: Final = 68
MAX_JUMBO_FRAME_SIZE: Final = 9728
"""``IXGBE_MAX_JUMBO_FRAME_SIZE``: octets with the FCS."""
MAX_VFS: Final = 63
"""``IXGBE_MAX_VFS_1TC`` less the PF's own pool: the device has 64 pools."""
MAX_VFS_4_QUEUES: Final = 31
"""With more VFs there are 64 pools of 2 queues instead of 32 of 4 (``ixgbe_set_sriov_queues()``)."""

PF_MULTICASTS: Final = (bytes.fromhex("01005e000001"), bytes.fromhex("333300000001"))
"""All hosts (IPv4) and all nodes (IPv6): Linux joins both on every interface that is up."""

LINK_SPEEDS: Final = {pf.LINKS_SPEED_10G: 10000, pf.LINKS_SPEED_1G: 1000, pf.LINKS_SPEED_100M: 100}


class Adapter:
    """One port: ``struct ixgbe_adapter`` as far as VFs are concerned.

    :param host: names this host in ``vfdev``, which stands for a kernel pointer.
    :param rss_key: 40 octets, written at every start of the port (``adapter->rss_key``).
    """

    def __init__(self, bar: PfBar, *, mac_type: MacType, mtu: int, host: str, rss_key: bytes) -> None:
        self.registers = Registers(bar)
        self.mailbox = PfMailbox(self.registers)
        self.mac_type = mac_type
        self.mtu = mtu
        self.host = host
        self.rss_key = rss_key
        self.vfinfo: list[VfDataStorage] = []
        self.max_frames: list[int | None] = []  # the last SET_LPE of each VF: the kernel's driver keeps none
        self.uc_addresses: list[bytes] = []
        self.vf_rate_link_speed = 0
        self.link_up = False
        self.link_speed = 0
        self.is_down = True
        self.mac_table = MacTable(self.registers)
        self._renew_tables()
        self.mac = mac_of(self.registers.read(pf.RAL), self.registers.read(pf.RAH))

    @property
    def num_vfs(self) -> int:
        """How many VFs there are."""
        return len(self.vfinfo)

    @property
    def pf_pool(self) -> int:
        """The pool of the PF itself, behind those of the VFs (``VMDQ_P(0)``)."""
        return len(self.vfinfo)

    @property
    def pf_max_frame(self) -> int:
        """The PF's greatest frame in octets, without FCS: what the 82599's jumbo rule looks at."""
        return self.mtu + ETH_HLEN

    def info(self, vf: int) -> VfDataStorage:
        """Return the record of `vf`.

        :raises DriverError: EINVAL, there is no such VF.
        """
        if not 0 <= vf < self.num_vfs:
            raise DriverError(errno.EINVAL, f"there is no VF {vf}: the PF has {self.num_vfs}", vf=vf)
        return self.vfinfo[vf]

    # --- SR-IOV

    def set_num_vfs(self, num_vfs: int) -> None:
        """Create `num_vfs` VFs with default settings, or none with 0; what was is gone.

        :raises DriverError: EPERM, more than 63.
        """
        if not 0 <= num_vfs <= MAX_VFS:
            raise DriverError(errno.EPERM, f"{num_vfs} VFs asked for: at most {MAX_VFS} leave the PF a pool")
        if num_vfs == self.num_vfs:
            return
        self.down()
        self.vfinfo = [VfDataStorage(vfdev=f"{self.host}/vf{vf}") for vf in range(num_vfs)]
        self.max_frames = [None] * num_vfs
        self._renew_tables()
        self.up()

    def _renew_tables(self) -> None:
        """Build what depends on the number of VFs."""
        queues = 2 if self.num_vfs > MAX_VFS_4_QUEUES else 4
        self.pools = Pools(self.registers, self.mac_type, queues)
        self.macvlans = MacvlanList(self.mac_table, self.num_vfs)
        self.vlans = VlanTable(self.registers, self.pf_pool)
        self.vlans.active_vlans = {0}
        self.multicast = MulticastTable(self.registers, self.pf_pool, PF_MULTICASTS)

    # --- up and down

    def down(self) -> None:
        """Stop the port: all VFs are told, lose their session and their enables (``ixgbe_down()``)."""
        self.is_down = True
        for info in self.vfinfo:
            info.clear_to_send = False
        for vf, info in enumerate(self.vfinfo):
            stats.fold(self.registers, vf, info)
            self.set_link_state(vf, info.link_state)
        self.registers.write(pf.EIMC, 0xFFFFFFFF)
        self.registers.update(pf.CTRL, on=pf.CTRL_RST)
        self.mac_table.flush()

    def up(self) -> None:
        """Configure and start the port (``ixgbe_up()``). The VFs' filters come back when each VF resets itself.

        Their rates, which the reset of the device cleared, come back as soon as there is a link.
        """
        self._configure_port()
        self._configure_virtualization()
        self._restore_filters()
        self.is_down = False
        for vf, info in enumerate(self.vfinfo):
            stats.rebase(self.registers, vf, info)
        self.registers.update(pf.CTRL_EXT, on=pf.CTRL_EXT_DRV_LOAD | pf.CTRL_EXT_PFRSTD)
        self.read_link()
        self.registers.write(pf.EIMS, pf.EIMS_MAILBOX | pf.EIMS_LSC)
        for vf, info in enumerate(self.vfinfo):
            self.set_link_state(vf, info.link_state)
        if self.link_up:  # the watchdog sees a link that comes up (ixgbe_watchdog_link_is_up())
            self.check_rate_limit()

    def read_link(self) -> None:
        """Take link state and speed (Mbit/s) from the hardware."""
        links = self.registers.read(pf.LINKS)
        self.link_up = bool(links & pf.LINKS_UP)
        self.link_speed = LINK_SPEEDS.get(links & pf.LINKS_SPEED_MASK, 0) if self.link_up else 0

    def _configure_port(self) -> None:
        """Set frame size, receive and transmit of the port (``ixgbe_set_rx_buffer_len()``)."""
        frame = max(self.mtu + ETH_HLEN, ETH_FRAME_LEN) + ETH_FCS_LEN
        self.registers.write(pf.MAXFRS, frame << pf.MAXFRS_MFS_SHIFT)
        self.registers.update(pf.HLREG0, on=pf.HLREG0_JUMBOEN)
        self.registers.write(pf.RXCTRL, pf.RXCTRL_RXEN)
        self.registers.write(pf.DMATXCTL, pf.DMATXCTL_TE)

    def _configure_virtualization(self) -> None:
        """Set pools and the internal switch; enable the PF's pool only (``ixgbe_configure_virtualization()``)."""
        registers, pool = self.registers, self.pf_pool
        if not self.num_vfs:
            for register in (pf.VT_CTL, pf.PFDTXGSWC, pf.MRQC, pf.MTQC, pf.GCR_EXT):
                registers.write(register, 0)
            return
        few = self.pools.queues_per_pool == 4
        program_rss(registers, self.rss_key, pf.MRQC_VMDQRSS32EN if few else pf.MRQC_VMDQRSS64EN)
        registers.write(pf.MTQC, pf.MTQC_VT_ENA | (pf.MTQC_32VF if few else pf.MTQC_64VF))
        registers.write(pf.GCR_EXT, pf.GCR_EXT_MSIX_EN | (pf.GCR_EXT_VT_MODE_32 if few else pf.GCR_EXT_VT_MODE_64))
        registers.write(pf.VT_CTL, pf.VT_CTL_VT_ENABLE | pf.VT_CTL_REPLEN | pool << pf.VT_CTL_POOL_SHIFT)
        registers.write(pf.VMOLR, pf.VMOLR_AUPE, pool)
        enabled = (1 << 64) - (1 << pool)  # the PF's pool and all behind it
        for register in (pf.VFRE, pf.VFTE):
            registers.write(register, enabled & 0xFFFFFFFF, 0)
            registers.write(register, enabled >> 32, 1)
        registers.write(pf.PFDTXGSWC, pf.PFDTXGSWC_VT_LBEN)  # the default is VEB
        for vf, info in enumerate(self.vfinfo):
            self.pools.set_anti_spoofing(vf, on=info.spoofchk_enabled)
            self.pools.set_ethertype_anti_spoofing(vf, on=info.spoofchk_enabled)

    def _restore_filters(self) -> None:
        """Write the PF's own addresses, VLANs and multicasts; those of the VFs are not restored here."""
        self.mac_table.set_default(self.mac, self.pf_pool)
        for mac in self.uc_addresses:
            self.mac_table.add(mac, self.pf_pool)
        self.macvlans = MacvlanList(self.mac_table, self.num_vfs)
        self.registers.update(pf.VLNCTRL, on=pf.VLNCTRL_VFE if self.num_vfs else 0, off=pf.VLNCTRL_VFE)
        if self.num_vfs:
            for vid in sorted(self.vlans.active_vlans):
                self.vlans.set_vfta(vid, self.pf_pool, on=True, bypass=bool(vid))
        self.set_rx_mode()

    def set_rx_mode(self) -> None:
        """Rebuild the multicast table for the PF and all VFs (``ixgbe_set_rx_mode()``)."""
        self.multicast.rebuild(self.vfinfo)

    # --- the PF's own addresses

    def add_uc_address(self, mac: bytes) -> None:
        """Give the PF a further unicast address (``ixgbe_ndo_fdb_add()``, ``ixgbe_uc_sync()``).

        :raises DriverError: EEXIST, it has it; EINVAL, not a unicast address; ENOMEM, no receive address is free.
        """
        if mac in self.uc_addresses:
            raise DriverError(errno.EEXIST, f"{mac.hex(':')} is there already")
        if not is_valid_ether_addr(mac):
            raise DriverError(errno.EINVAL, f"{mac.hex(':')} is not a unicast address")
        self.mac_table.add(mac, self.pf_pool)
        self.uc_addresses.append(mac)

    def remove_uc_address(self, mac: bytes) -> None:
        """Take a further unicast address from the PF.

        :raises DriverError: ENOENT, it does not have it.
        """
        if mac not in self.uc_addresses:
            raise DriverError(errno.ENOENT, f"{mac.hex(':')} is not there")
        self.uc_addresses.remove(mac)
        self.mac_table.remove(mac, self.pf_pool)

    # --- what several parts do to one VF

    def set_vf_mac(self, vf: int, mac: bytes) -> None:
        """Lead `mac` to `vf` instead of its former address (``ixgbe_set_vf_mac()``).

        :raises DriverError: ENOMEM where the table is full: the VF then has no address at all.
        """
        info = self.vfinfo[vf]
        self.mac_table.remove(info.vf_mac_addresses, vf)
        try:
            self.mac_table.add(mac, vf)
        except DriverError:
            info.vf_mac_addresses = bytes(6)
            raise
        info.vf_mac_addresses = mac

    def set_vf_rx_tx(self, vf: int) -> None:
        """Enable or disable the VF's pool; under a jumbo PF an 82599 leaves receive off (``ixgbe_set_vf_rx_tx()``)."""
        on = self.vfinfo[vf].link_enable
        jumbo = self.mac_type == MacType.MAC_82599EB and self.pf_max_frame > ETH_FRAME_LEN
        self.pools.enable(vf, receive=on and not jumbo, transmit=on)

    def set_link_state(self, vf: int, state: LinkState) -> None:
        """Set the VF's link, then make the VF reset itself (``ixgbe_set_vf_link_state()``)."""
        info = self.vfinfo[vf]
        info.link_state = state
        info.link_enable = not self.is_down if state is LinkState.AUTO else state is LinkState.ENABLE
        self.set_vf_rx_tx(vf)
        info.clear_to_send = False
        self.ping_vf(vf)

    def ping_vf(self, vf: int) -> None:
        """Send the VF a notice; with CTS where its session is whole (``ixgbe_ping_vf()``)."""
        self.mailbox.write(vf, [Id.PF_CONTROL_MSG | (CTS if self.vfinfo[vf].clear_to_send else 0)])

    def set_rate_limit(self, vf: int) -> None:
        """Program the VF's rate (``ixgbe_set_vf_rate_limit()``)."""
        self.pools.set_rate(vf, self.vfinfo[vf].tx_rate, self.vf_rate_link_speed)

    def check_rate_limit(self) -> None:
        """After a change of the link: rates set at another speed end (``ixgbe_check_vf_rate_limit()``)."""
        if not self.vf_rate_link_speed:
            return
        if self.link_speed != self.vf_rate_link_speed:
            self.vf_rate_link_speed = 0
        for vf, info in enumerate(self.vfinfo):
            if not self.vf_rate_link_speed:
                info.tx_rate = 0
            self.set_rate_limit(vf)


def is_valid_ether_addr(mac: bytes) -> bool:
    """Tell whether 6 octets are a unicast address other than zero."""
    return len(mac) == 6 and any(mac) and not mac[0] & 1
