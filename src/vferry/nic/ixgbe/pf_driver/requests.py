# SPDX-License-Identifier: Apache-2.0
"""What a VF's driver may ask of the PF, and what the PF does about it: one function for each message.

``drivers/net/ethernet/intel/ixgbe/ixgbe_sriov.c`` (Linux 6.12). A function gets the request's 16 words, may change
them (they become the reply), and raises :class:`DriverError` to refuse.
"""

from __future__ import annotations

import errno
from typing import Final

from vferry.nic.ixgbe.messages import MAX_MC_HASHES, Api, XcastMode, mac_of, msginfo, unpack_hashes
from vferry.nic.ixgbe.pf_driver.adapter import (
    ETH_FCS_LEN,
    ETH_FRAME_LEN,
    ETH_MIN_MTU,
    MAX_JUMBO_FRAME_SIZE,
    Adapter,
    is_valid_ether_addr,
)
from vferry.nic.ixgbe.pf_driver.errors import DriverError
from vferry.nic.ixgbe.pf_driver.vfinfo import MacType
from vferry.nic.ixgbe.registers import pf

__all__ = [
    "PF_API_VERSIONS",
    "XCAST_BITS",
    "check_frame_size",
    "check_xcast_mode",
    "get_link_state",
    "get_queues",
    "get_reta",
    "get_rss_key",
    "ipsec",
    "negotiate_api",
    "set_lpe",
    "set_mac_addr",
    "set_macvlan",
    "set_multicast",
    "set_vlan",
    "set_xcast_mode",
    "store_hashes",
    "update_xcast_mode",
]

PF_API_VERSIONS: Final = frozenset({Api.V1_0, Api.V1_1, Api.V1_2, Api.V1_3, Api.V1_4})
"""``ixgbe_negotiate_vf_api()``: what the in-tree PF driver agrees to; 2.0 and all from 1.5 on are refused."""
SINCE_1_1: Final = PF_API_VERSIONS - {Api.V1_0}
SINCE_1_2: Final = SINCE_1_1 - {Api.V1_1}
SINCE_1_3: Final = SINCE_1_2 - {Api.V1_2}

RETA_WORDS: Final = 8  # 128 entries of 2 bits
RSS_KEY_WORDS: Final = 10  # 40 octets


def set_mac_addr(adapter: Adapter, vf: int, words: list[int]) -> None:
    """SET_MAC_ADDR: the VF wants another address."""
    info, mac = adapter.vfinfo[vf], mac_of(words[1], words[2])
    if not is_valid_ether_addr(mac):
        raise DriverError(errno.EINVAL, f"{mac.hex(':')} is not a unicast address", vf=vf)
    if info.pf_set_mac and not info.trusted and mac != info.vf_mac_addresses:
        raise DriverError(errno.EPERM, "the administrator set another MAC address", vf=vf)
    adapter.set_vf_mac(vf, mac)


def set_multicast(adapter: Adapter, vf: int, words: list[int]) -> None:
    """SET_MULTICAST: the VF's multicast hashes, at most 30; more are ignored."""
    hashes = unpack_hashes(words[1:], min(msginfo(words[0]), MAX_MC_HASHES))
    store_hashes(adapter, vf, hashes)


def store_hashes(adapter: Adapter, vf: int, hashes: list[int]) -> None:
    """Keep the hashes, so that the table can be rebuilt, and add them to it."""
    info = adapter.vfinfo[vf]
    info.num_vf_mc_hashes = len(hashes)
    info.vf_mc_hashes[: len(hashes)] = hashes
    adapter.multicast.add(vf, hashes)


def set_vlan(adapter: Adapter, vf: int, words: list[int]) -> None:
    """SET_VLAN: into a VLAN or out of one; leaving VLAN 0 is granted and not done."""
    add, vid = bool(msginfo(words[0])), words[1] & pf.VLVF_VLANID_MASK
    if adapter.vfinfo[vf].pf_vlan:
        raise DriverError(errno.EPERM, "the administrator set a port VLAN", vf=vf)
    if vid or add:
        adapter.vlans.set_vf_vlan(vf, vid, add=add)


def set_lpe(adapter: Adapter, vf: int, words: list[int]) -> None:
    """SET_LPE: the VF's greatest frame, in octets with the FCS; the port's is raised to it, never lowered."""
    max_frame = words[1]
    if not ETH_MIN_MTU <= max_frame <= MAX_JUMBO_FRAME_SIZE:
        raise DriverError(errno.EINVAL, f"frame size {max_frame} is outside 68 to 9728 octets", vf=vf)
    if adapter.mac_type == MacType.MAC_82599EB:
        _set_receive_enable(adapter, vf, max_frame)
    if adapter.registers.read(pf.MAXFRS) >> pf.MAXFRS_MFS_SHIFT < max_frame:
        adapter.registers.write(pf.MAXFRS, max_frame << pf.MAXFRS_MFS_SHIFT)
    adapter.max_frames[vf] = max_frame


def _set_receive_enable(adapter: Adapter, vf: int, max_frame: int) -> None:
    """The 82599 cannot mix jumbo and other pools: let the VF receive, or stop it and refuse."""
    _, transmit = adapter.pools.enabled(vf)
    try:
        check_frame_size(adapter, vf, adapter.vfinfo[vf].vf_api, max_frame)
    except DriverError:
        adapter.pools.enable(vf, receive=False, transmit=transmit)
        raise
    adapter.pools.enable(vf, receive=True, transmit=transmit)


def check_frame_size(adapter: Adapter, vf: int, api: int, max_frame: int) -> None:
    """The 82599's jumbo rule (``ixgbe_set_vf_lpe()``); other controllers have none.

    :raises DriverError: EINVAL, under a jumbo PF with API 1.0, or more than 1518 octets under a PF that is not.
    """
    if adapter.mac_type != MacType.MAC_82599EB:
        return
    jumbo_pf = adapter.pf_max_frame > ETH_FRAME_LEN
    if jumbo_pf and api in SINCE_1_1:
        return
    if jumbo_pf or max_frame > ETH_FRAME_LEN + ETH_FCS_LEN:
        why = f"frames of {max_frame} octets under a PF with MTU {adapter.mtu}, mailbox API value {api}"
        raise DriverError(errno.EINVAL, why, vf=vf)


def set_macvlan(adapter: Adapter, vf: int, words: list[int]) -> None:
    """SET_MACVLAN: index 0 clears the VF's further addresses, 1 starts a new list, others add to it.

    A request to add switches the anti-spoofing of the VF off and leaves the setting on.
    """
    info, index, mac = adapter.vfinfo[vf], msginfo(words[0]), mac_of(words[1], words[2])
    if index and info.pf_set_mac and not info.trusted:
        raise DriverError(errno.EPERM, "the administrator set the MAC address", vf=vf)
    if index:
        if not is_valid_ether_addr(mac):
            raise DriverError(errno.EINVAL, f"{mac.hex(':')} is not a unicast address", vf=vf)
        if info.spoofchk_enabled:
            adapter.pools.set_anti_spoofing(vf, on=False)
    if index <= 1:
        adapter.macvlans.clear(vf)
    if index:
        adapter.macvlans.add(vf, mac)


def negotiate_api(adapter: Adapter, vf: int, words: list[int]) -> None:
    """API_NEGOTIATE: an unknown version is refused, not ignored, so that the VF goes on asking for lower ones."""
    if words[1] not in PF_API_VERSIONS:
        raise DriverError(errno.EINVAL, f"mailbox API value {words[1]} is not known", vf=vf)
    adapter.vfinfo[vf].vf_api = words[1]


def get_queues(adapter: Adapter, vf: int, words: list[int]) -> None:
    """GET_QUEUES: transmit and receive queues, whether tags are hidden from the VF, and the default queue."""
    _need_api(adapter, vf, SINCE_1_1)
    info = adapter.vfinfo[vf]
    queues = adapter.pools.queues_per_pool
    words[1:5] = [queues, queues, int(bool(info.pf_vlan or info.pf_qos)), 0]


def get_reta(adapter: Adapter, vf: int, words: list[int]) -> None:
    """GET_RETA: the port's RSS table, the low two bits of each of 128 entries."""
    _need_rss_query(adapter, vf)
    table = [adapter.registers.read(pf.RETA, index) for index in range(32)]
    entries = [word >> 8 * octet & 0x3 for word in table for octet in range(4)]
    for index in range(RETA_WORDS):
        words[1 + index] = sum(entry << 2 * place for place, entry in enumerate(entries[16 * index :][:16]))


def get_rss_key(adapter: Adapter, vf: int, words: list[int]) -> None:
    """GET_RSS_KEY: the port's RSS key, 40 octets."""
    _need_rss_query(adapter, vf)
    words[1 : 1 + RSS_KEY_WORDS] = [adapter.registers.read(pf.RSSRK, index) for index in range(RSS_KEY_WORDS)]


def update_xcast_mode(adapter: Adapter, vf: int, words: list[int]) -> None:
    """UPDATE_XCAST_MODE: word 1 of the reply is what was granted; untrusted VFs get MULTI at most.

    Where the VF has that mode already by the driver's record, the hardware is not touched.
    """
    info, mode = adapter.vfinfo[vf], words[1]
    _need_api(adapter, vf, SINCE_1_3 if mode == XcastMode.PROMISC else SINCE_1_2)
    if mode > XcastMode.MULTI and not info.trusted:
        mode = XcastMode.MULTI
    if mode != info.xcast_mode:
        set_xcast_mode(adapter, vf, mode)
    words[1] = mode


XCAST_BITS: Final = {
    XcastMode.NONE: 0,
    XcastMode.MULTI: pf.VMOLR_ROMPE,
    XcastMode.ALLMULTI: pf.VMOLR_ROMPE | pf.VMOLR_MPE,
    XcastMode.PROMISC: pf.VMOLR_ROMPE | pf.VMOLR_MPE | pf.VMOLR_UPE,
}


def set_xcast_mode(adapter: Adapter, vf: int, mode: int) -> None:
    """Program VMOLR for `mode` and record it.

    :raises DriverError: as :func:`check_xcast_mode`.
    """
    check_xcast_mode(adapter, vf, mode)
    on = XCAST_BITS[XcastMode(mode)] | pf.VMOLR_BAM
    off = XCAST_BITS[XcastMode.PROMISC] | pf.VMOLR_VPE
    adapter.registers.update(pf.VMOLR, vf, on=on, off=off)
    adapter.vfinfo[vf].xcast_mode = mode


def check_xcast_mode(adapter: Adapter, vf: int, mode: int) -> None:
    """Refuse a mode that this controller or this PF cannot give.

    :raises DriverError: EOPNOTSUPP for an unknown mode, and for PROMISC on an 82599; EPERM for PROMISC while the PF
        is not promiscuous itself.
    """
    if mode not in XCAST_BITS:
        raise DriverError(errno.EOPNOTSUPP, f"xcast mode {mode} is not known", vf=vf)
    if mode == XcastMode.PROMISC:
        if adapter.mac_type <= MacType.MAC_82599EB:
            raise DriverError(errno.EOPNOTSUPP, "an 82599 has no promiscuous VFs", vf=vf)
        if not adapter.registers.read(pf.FCTRL) & pf.FCTRL_UPE:
            raise DriverError(errno.EPERM, "a promiscuous VF needs a promiscuous PF", vf=vf)


def get_link_state(adapter: Adapter, vf: int, words: list[int]) -> None:
    """GET_LINK_STATE: whether the administrator lets the VF have a link."""
    _need_api(adapter, vf, SINCE_1_2)
    words[1] = int(adapter.vfinfo[vf].link_enable)


def ipsec(adapter: Adapter, vf: int, words: list[int]) -> None:
    """IPSEC_ADD and IPSEC_DEL: always refused, since the flag ``vf-ipsec`` is off (its default) in this model."""
    del words
    trusted = adapter.vfinfo[vf].trusted
    why = "the private flag vf-ipsec is off" if trusted else "the VF is not trusted"
    raise DriverError(errno.EACCES, why, vf=vf)


def _need_api(adapter: Adapter, vf: int, versions: frozenset[Api]) -> None:
    api = adapter.vfinfo[vf].vf_api
    if api not in versions:
        raise DriverError(errno.EOPNOTSUPP, f"mailbox API value {api} does not have this", vf=vf)


def _need_rss_query(adapter: Adapter, vf: int) -> None:
    if not adapter.vfinfo[vf].rss_query_enabled:
        raise DriverError(errno.EPERM, "the administrator does not let this VF ask for RSS", vf=vf)
    _need_api(adapter, vf, SINCE_1_2)
