# SPDX-License-Identifier: Apache-2.0
"""What the PF driver does when a VF was reset (an event of the hardware) and when it says so (the RESET message).

``drivers/net/ethernet/intel/ixgbe/ixgbe_sriov.c``, ``ixgbe_vf_reset_event()`` and ``ixgbe_vf_reset_msg()``
(Linux 6.12).
"""

from __future__ import annotations

import contextlib

from vferry.nic.ixgbe.messages import ACK, NACK, Api, Id, mac_words
from vferry.nic.ixgbe.pf_driver.adapter import Adapter
from vferry.nic.ixgbe.pf_driver.errors import DriverError
from vferry.nic.ixgbe.pf_driver.multicast import MC_FILTER_TYPE

__all__ = ["reset_event", "reset_filters", "reset_message", "start_pool"]


def reset_event(adapter: Adapter, vf: int) -> None:
    """A function level reset of the VF, or VFCTRL.RST.

    What is not touched: VFTE and VFRE, ``clear_to_send``, ``xcast_mode`` and the bits MPE and UPE of VMOLR; and
    anti-spoofing, unless there is a port VLAN.
    """
    reset_filters(adapter, vf)
    adapter.max_frames[vf] = None
    adapter.vfinfo[vf].vf_api = Api.V1_0
    adapter.pools.restart_queues(vf)


def reset_filters(adapter: Adapter, vf: int) -> None:
    """Take back what the VF had asked for, and leave what the administrator set."""
    info = adapter.vfinfo[vf]
    adapter.vlans.clear_vf(vf)
    with contextlib.suppress(DriverError):  # the kernel's driver ignores a full VLAN table here
        adapter.vlans.set_vf_vlan(vf, info.pf_vlan, add=True)
    adapter.pools.set_offloads(vf, untagged=not info.pf_vlan)
    if info.pf_vlan or info.pf_qos:
        adapter.pools.set_vmvir(vf, info.pf_vlan, info.pf_qos)
        if info.spoofchk_enabled:
            adapter.pools.set_anti_spoofing(vf, on=True)
    else:
        adapter.pools.clear_vmvir(vf)
    info.num_vf_mc_hashes = 0
    adapter.set_rx_mode()
    adapter.mac_table.remove(info.vf_mac_addresses, vf)
    adapter.macvlans.clear(vf)


def reset_message(adapter: Adapter, vf: int) -> None:
    """The VF's driver starts its session: reset the filters again, enable the pool, tell the VF its address."""
    info = adapter.vfinfo[vf]
    reset_event(adapter, vf)
    adapter.mailbox.clear(vf)
    mac = info.vf_mac_addresses
    if any(mac):
        with contextlib.suppress(DriverError):
            adapter.set_vf_mac(vf, mac)
    start_pool(adapter, vf)
    info.clear_to_send = True
    adapter.pools.clear_write_back(vf)
    assigned = any(info.vf_mac_addresses) and info.pf_set_mac
    words = mac_words(info.vf_mac_addresses) if assigned else (0, 0)
    adapter.mailbox.write(vf, [Id.RESET | (ACK if assigned else NACK), *words, MC_FILTER_TYPE])


def start_pool(adapter: Adapter, vf: int) -> None:
    """Set drop enable, VFTE and VFRE, and count spoofed frames."""
    adapter.pools.set_drop(vf, hide_vlan=bool(adapter.vfinfo[vf].pf_vlan))
    adapter.set_vf_rx_tx(vf)
    adapter.pools.count_spoofed(vf)
