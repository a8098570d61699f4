# SPDX-License-Identifier: Apache-2.0
"""What ``ip link set PF vf N ...`` does with this driver: the ``ndo_set_vf_*`` operations, their checks and quirks.

``drivers/net/ethernet/intel/ixgbe/ixgbe_sriov.c`` (Linux 6.12). A value that the driver refuses raises
:class:`DriverError` with its errno.
"""

from __future__ import annotations

import errno
from typing import Final

from vferry.nic.ixgbe.pf_driver.adapter import Adapter, is_valid_ether_addr
from vferry.nic.ixgbe.pf_driver.errors import DriverError
from vferry.nic.ixgbe.pf_driver.vfinfo import LinkState, MacType, VfConfig

__all__ = [
    "RATE_LINK_SPEED",
    "get_config",
    "set_link_state",
    "set_mac",
    "set_rate",
    "set_rss_query_en",
    "set_spoofchk",
    "set_trust",
]
__all__ += ["set_vlan"]

DOT1Q: Final = "802.1Q"
RATE_LINK_SPEED: Final = 10000
"""Mbit/s: limits are refused at any other speed (``ixgbe_ndo_set_vf_bw()``)."""
MIN_RATE: Final = 11
"""Mbit/s: the driver refuses 10 and less."""


def set_mac(adapter: Adapter, vf: int, mac: bytes) -> None:
    """Set the VF's MAC address (6 octets); the zero address removes it.

    The filter changes at once, the VF learns of it at its next reset. Whether the address is another VF's is not
    looked at. With no receive address left the VF is left with no address, and ``pf_set_mac`` as it was.
    """
    info = adapter.info(vf)
    if is_valid_ether_addr(mac):
        adapter.set_vf_mac(vf, mac)
        info.pf_set_mac = True
        return
    if len(mac) != 6 or any(mac):
        raise DriverError(errno.EINVAL, f"{mac.hex(':')} is neither a unicast address nor zero", vf=vf)
    if not any(info.vf_mac_addresses):
        return
    if not adapter.mac_table.remove(info.vf_mac_addresses, vf):
        raise DriverError(errno.ENOMEM, f"{info.vf_mac_addresses.hex(':')} is in no receive address", vf=vf)
    info.pf_set_mac = False
    info.vf_mac_addresses = bytes(6)


def set_vlan(adapter: Adapter, vf: int, vlan: int, qos: int, proto: str) -> None:
    """Set the VF's port VLAN and priority; 0 and 0 remove it. The VF learns of it at its next reset."""
    info = adapter.info(vf)
    if not 0 <= vlan <= 4095 or not 0 <= qos <= 7:
        raise DriverError(errno.EINVAL, f"VLAN {vlan} or priority {qos} is out of range", vf=vf)
    if proto != DOT1Q:
        raise DriverError(errno.EPROTONOSUPPORT, f"{proto}: only {DOT1Q} is supported", vf=vf)
    if not vlan and not qos:
        _disable_port_vlan(adapter, vf)
        return
    if info.pf_vlan:
        _disable_port_vlan(adapter, vf)
    _enable_port_vlan(adapter, vf, vlan, qos)


def _enable_port_vlan(adapter: Adapter, vf: int, vlan: int, qos: int) -> None:
    adapter.vlans.set_vf_vlan(vf, vlan, add=True)
    adapter.vlans.set_vf_vlan(vf, 0, add=False)  # no untagged frames past the port VLAN
    adapter.pools.set_vmvir(vf, vlan, qos)
    adapter.pools.set_offloads(vf, untagged=False)
    if adapter.mac_type >= MacType.X550:
        adapter.pools.set_drop(vf, hide_vlan=True)
    info = adapter.vfinfo[vf]
    info.pf_vlan, info.pf_qos = vlan, qos


def _disable_port_vlan(adapter: Adapter, vf: int) -> None:
    info = adapter.vfinfo[vf]
    adapter.vlans.set_vf_vlan(vf, info.pf_vlan, add=False)
    adapter.vlans.set_vf_vlan(vf, 0, add=True)
    adapter.pools.clear_vmvir(vf)
    adapter.pools.set_offloads(vf, untagged=True)
    if adapter.mac_type >= MacType.X550:
        adapter.pools.set_drop(vf, hide_vlan=False)
    info.pf_vlan = info.pf_qos = 0


def set_rate(adapter: Adapter, vf: int, min_rate: int, max_rate: int) -> None:
    """Limit what the VF sends, in Mbit/s; 0 is no limit. A least rate cannot be had."""
    info = adapter.info(vf)
    if not adapter.link_up:
        raise DriverError(errno.EINVAL, "the PF's link is down", vf=vf)
    if adapter.link_speed != RATE_LINK_SPEED:
        raise DriverError(errno.EINVAL, f"the PF's link has {adapter.link_speed} Mbit/s, not 10000", vf=vf)
    if min_rate:
        raise DriverError(errno.EINVAL, "a least rate is not supported", vf=vf)
    if max_rate and not MIN_RATE <= max_rate <= adapter.link_speed:
        raise DriverError(errno.EINVAL, f"rate {max_rate} is outside {MIN_RATE} to {adapter.link_speed}", vf=vf)
    adapter.vf_rate_link_speed = adapter.link_speed
    info.tx_rate = max_rate
    adapter.set_rate_limit(vf)


def set_spoofchk(adapter: Adapter, vf: int, *, on: bool) -> None:
    """Check source addresses and VLANs of what the VF sends."""
    adapter.info(vf).spoofchk_enabled = on
    adapter.pools.set_anti_spoofing(vf, on=on)
    adapter.pools.set_ethertype_anti_spoofing(vf, on=on)


def set_link_state(adapter: Adapter, vf: int, state: LinkState) -> None:
    """Let the VF's link follow the PF's, or switch it off; the VF resets itself in consequence.

    ENABLE is logged as not supported, succeeds, and changes nothing.
    """
    adapter.info(vf)
    if state is not LinkState.ENABLE:
        adapter.set_link_state(vf, state)


def set_rss_query_en(adapter: Adapter, vf: int, *, on: bool) -> None:
    """Let the VF ask for the port's RSS table and key; only where VFs share them with the PF (82599, X540)."""
    if adapter.mac_type >= MacType.X550:
        raise DriverError(errno.EOPNOTSUPP, "VFs of this controller have their own RSS table", vf=vf)
    adapter.info(vf).rss_query_enabled = on


def set_trust(adapter: Adapter, vf: int, *, on: bool) -> None:
    """Trust the VF, or do not; the VF resets itself in consequence. Nothing happens where it is so already."""
    info = adapter.info(vf)
    if info.trusted == on:
        return
    info.trusted = on
    info.clear_to_send = False
    adapter.ping_vf(vf)


def get_config(adapter: Adapter, vf: int) -> VfConfig:
    """Return what ``ip link`` shows of the VF; the VLAN's protocol is not reported."""
    info = adapter.info(vf)
    return VfConfig(
        mac=info.vf_mac_addresses,
        vlan=info.pf_vlan,
        qos=info.pf_qos,
        max_tx_rate=info.tx_rate,
        min_tx_rate=0,
        spoofchk=info.spoofchk_enabled,
        link_state=info.link_state,
        rss_query_en=info.rss_query_enabled,
        trusted=info.trusted,
    )
