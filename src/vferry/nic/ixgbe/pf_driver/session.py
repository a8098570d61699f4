# SPDX-License-Identifier: Apache-2.0
"""A VF's session as a record: reading it, checking it against this PF, and bringing it back by operations.

Never by copying it into ``vfinfo``: setters that return early when the stored value is the wanted one (xcast mode,
trust) would then leave the hardware unprogrammed.
"""

from __future__ import annotations

import errno

from vferry.nic.ixgbe.messages import MAX_MC_HASHES, XcastMode
from vferry.nic.ixgbe.pf_driver import requests
from vferry.nic.ixgbe.pf_driver.adapter import ETH_MIN_MTU, MAX_JUMBO_FRAME_SIZE, Adapter, is_valid_ether_addr
from vferry.nic.ixgbe.pf_driver.errors import DriverError
from vferry.nic.ixgbe.pf_driver.reset import reset_filters, start_pool
from vferry.nic.ixgbe.pf_driver.set_vf import RATE_LINK_SPEED
from vferry.nic.ixgbe.pf_driver.vfinfo import VfDataStorage, VfSession

__all__ = ["check_session", "load_session", "session", "session_of_vfinfo"]


def session(adapter: Adapter, vf: int) -> VfSession:
    """Return what the VF's driver was granted since its last reset; reads the tables, changes nothing."""
    info = adapter.info(vf)
    return VfSession(
        clear_to_send=info.clear_to_send,
        api_version=info.vf_api,
        mac=info.vf_mac_addresses if any(info.vf_mac_addresses) else None,
        macvlans=adapter.macvlans.of_vf(vf),
        vlans=tuple(vid for vid in adapter.vlans.of_pool(vf) if vid not in (0, info.pf_vlan)),
        mc_hashes=info.hashes(),
        xcast_mode=info.xcast_mode,
        max_frame=adapter.max_frames[vf],
        anti_spoof=adapter.pools.anti_spoofing(vf),
    )


def session_of_vfinfo(stored: VfDataStorage) -> VfSession:
    """Return the part of a session that ``vfinfo`` holds: without VLANs, further addresses and frame size."""
    return VfSession(
        clear_to_send=stored.clear_to_send,
        api_version=stored.vf_api,
        mac=stored.vf_mac_addresses if any(stored.vf_mac_addresses) else None,
        mc_hashes=stored.hashes(),
        xcast_mode=stored.xcast_mode,
        anti_spoof=stored.spoofchk_enabled,
    )


def check_session(adapter: Adapter, vf: int, wanted: VfSession) -> None:
    """Refuse a session that this PF cannot give, before anything is changed.

    :raises DriverError: EINVAL for values out of range, an unknown API version, or a frame size against the jumbo
        rule; EPERM for what the administrator's settings here forbid; ENOSPC and ENOMEM for lack of table entries.
    """
    _check_values(vf, wanted)
    _check_api(vf, wanted)
    _check_settings(adapter, vf, wanted)
    _check_space(adapter, vf, wanted)
    if wanted.max_frame is not None:
        requests.check_frame_size(adapter, vf, wanted.api_version, wanted.max_frame)


def load_session(adapter: Adapter, vf: int, wanted: VfSession) -> None:
    """Program the VF's settings (from ``vfinfo``) and the session into the hardware, by operations.

    :raises DriverError: as :func:`check_session`, with nothing changed.
    """
    info = adapter.info(vf)
    check_session(adapter, vf, wanted)
    reset_filters(adapter, vf)
    mac = _mac_to_load(adapter, vf, wanted)
    if any(mac):
        adapter.set_vf_mac(vf, mac)
    info.vf_api = wanted.api_version
    info.clear_to_send = wanted.clear_to_send
    requests.set_xcast_mode(adapter, vf, wanted.xcast_mode)
    if wanted.mc_hashes:
        requests.store_hashes(adapter, vf, list(wanted.mc_hashes))
    for vid in wanted.vlans:
        adapter.vlans.set_vf_vlan(vf, vid, add=True)
    for further in wanted.macvlans:
        adapter.macvlans.add(vf, further)
    adapter.pools.set_anti_spoofing(vf, on=info.spoofchk_enabled and wanted.anti_spoof)
    adapter.set_rate_limit(vf)
    if wanted.clear_to_send:
        start_pool(adapter, vf)
    if wanted.max_frame is not None:
        requests.set_lpe(adapter, vf, [0, wanted.max_frame])
    if not info.link_enable:
        adapter.pools.enable(vf, receive=False, transmit=False)


def _mac_to_load(adapter: Adapter, vf: int, wanted: VfSession) -> bytes:
    """Return the address the VF gets: the session's, else the one recorded here; zero where there is none."""
    return wanted.mac or adapter.vfinfo[vf].vf_mac_addresses


def _check_values(vf: int, wanted: VfSession) -> None:
    """A session comes from elsewhere: nothing in it is taken on trust."""
    addresses = [*wanted.macvlans, *([wanted.mac] if wanted.mac else [])]
    wrong = {
        "a multicast hash": len(wanted.mc_hashes) > MAX_MC_HASHES
        or any(not 0 <= value <= 0xFFFF for value in wanted.mc_hashes),
        "a VLAN": any(not 1 <= vid <= 4095 for vid in wanted.vlans),
        "a MAC address": not all(is_valid_ether_addr(mac) for mac in addresses),
        "the xcast mode": wanted.xcast_mode not in requests.XCAST_BITS,
        "the frame size": wanted.max_frame is not None and not ETH_MIN_MTU <= wanted.max_frame <= MAX_JUMBO_FRAME_SIZE,
    }
    for what, is_wrong in wrong.items():
        if is_wrong:
            raise DriverError(errno.EINVAL, f"{what} is out of range", vf=vf)


def _check_api(vf: int, wanted: VfSession) -> None:
    if wanted.api_version not in requests.PF_API_VERSIONS:
        raise DriverError(errno.EINVAL, f"mailbox API value {wanted.api_version} is not known to this PF", vf=vf)


def _check_settings(adapter: Adapter, vf: int, wanted: VfSession) -> None:
    """What an untrusted VF may not have been granted here, it does not get by being moved."""
    info = adapter.info(vf)
    if info.pf_set_mac and not info.trusted:
        if wanted.mac not in (None, info.vf_mac_addresses):
            raise DriverError(errno.EPERM, "the administrator set another MAC address", vf=vf)
        if wanted.macvlans:
            raise DriverError(errno.EPERM, "the administrator set the MAC address: no further ones", vf=vf)
    if info.pf_vlan and set(wanted.vlans):
        raise DriverError(errno.EPERM, "the administrator set a port VLAN", vf=vf)
    if wanted.xcast_mode > XcastMode.MULTI and not info.trusted:
        raise DriverError(errno.EPERM, "the VF is not trusted with all multicasts", vf=vf)
    requests.check_xcast_mode(adapter, vf, wanted.xcast_mode)
    if info.tx_rate and adapter.link_speed != RATE_LINK_SPEED:  # 0 while the link is down
        raise DriverError(errno.EINVAL, "a rate needs a link of 10000 Mbit/s", vf=vf)


def _check_space(adapter: Adapter, vf: int, wanted: VfSession) -> None:
    """Count table entries; the VF's own present ones are given up first."""
    own = adapter.macvlans.of_vf(vf)
    if len(wanted.macvlans) > adapter.macvlans.free + len(own):
        raise DriverError(errno.ENOSPC, f"{len(wanted.macvlans)} further addresses do not fit", vf=vf)
    needed = len(wanted.macvlans) + any(_mac_to_load(adapter, vf, wanted))
    if needed > adapter.mac_table.free + len(adapter.mac_table.of_pool(vf)):
        raise DriverError(errno.ENOMEM, f"{needed} addresses do not fit", vf=vf)
    vids = {*wanted.vlans, adapter.vfinfo[vf].pf_vlan}
    if not adapter.vlans.fits(vf, vids):
        raise DriverError(errno.ENOSPC, f"{len(vids - {0})} VLANs do not fit", vf=vf)
