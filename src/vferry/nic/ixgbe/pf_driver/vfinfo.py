# SPDX-License-Identifier: Apache-2.0
"""What the PF driver keeps for each VF: ``struct vf_data_storage`` (Linux 6.12, ``ixgbe.h``), field by field.

Owners differ: the host's administrator (MAC while ``pf_set_mac``, VLAN, rate, spoof check, link, RSS query, trust),
the VF's driver by its messages (the session: API version, multicast hashes, xcast mode, clear to send), accounting,
and the host alone (``vfdev``, a kernel pointer). The session has more than this structure holds: VLANs, further MAC
addresses and the frame size stand in adapter-wide tables, so :class:`VfSession` is the record of a session.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from vferry.nic.ixgbe.messages import MAX_MC_HASHES, Api, XcastMode

__all__ = ["LinkState", "MacType", "VfConfig", "VfDataStorage", "VfSession", "VfStats"]

NO_MAC = bytes(6)


class MacType(enum.IntEnum):
    """``enum ixgbe_mac_type``: the generation of the controller, in its order."""

    MAC_82599EB = 2
    X540 = 3
    X550 = 4


class LinkState(enum.IntEnum):
    """``IFLA_VF_LINK_STATE_*`` (``include/uapi/linux/if_link.h``)."""

    AUTO = 0
    ENABLE = 1
    DISABLE = 2


class VfStats(NamedTuple):
    """Packets and octets of a VF: received good packets and octets, sent ones, received multicast packets."""

    gprc: int = 0
    gorc: int = 0
    gptc: int = 0
    gotc: int = 0
    mprc: int = 0


class VfConfig(NamedTuple):
    """What ``ixgbe_ndo_get_vf_config()`` reports: the settings that ``ip link`` shows (rates in Mbit/s)."""

    mac: bytes
    vlan: int
    qos: int
    max_tx_rate: int
    min_tx_rate: int
    spoofchk: bool
    link_state: LinkState
    rss_query_en: bool
    trusted: bool


class VfDataStorage(msgspec.Struct, kw_only=True):
    """The PF driver's record of one VF; the names are the kernel's.

    ``vfdev`` stands for the kernel's pointer to the VF's ``struct pci_dev``: it means nothing on another host.
    """

    vfdev: str | None = None
    vf_mac_addresses: bytes = NO_MAC
    vf_mc_hashes: list[int] = msgspec.field(default_factory=lambda: [0] * MAX_MC_HASHES)
    num_vf_mc_hashes: int = 0
    clear_to_send: bool = False
    vfstats: VfStats = VfStats()
    last_vfstats: VfStats = VfStats()
    saved_rst_vfstats: VfStats = VfStats()
    pf_set_mac: bool = False
    pf_vlan: int = 0
    pf_qos: int = 0
    tx_rate: int = 0
    link_enable: bool = True
    link_state: LinkState = LinkState.AUTO
    spoofchk_enabled: bool = True
    rss_query_enabled: bool = False
    trusted: bool = False
    xcast_mode: int = XcastMode.NONE
    vf_api: int = Api.V1_0
    primary_abort_count: int = 0

    def hashes(self) -> tuple[int, ...]:
        """Return the multicast hashes in use."""
        return tuple(self.vf_mc_hashes[: self.num_vf_mc_hashes])

    def copy(self) -> VfDataStorage:
        """Return a copy that shares nothing with this record."""
        return msgspec.structs.replace(self, vf_mc_hashes=list(self.vf_mc_hashes))


class VfSession(msgspec.Struct, frozen=True, kw_only=True):
    """What a VF's driver asked of the PF since its last reset, and was granted.

    :param clear_to_send: the VF did the reset handshake and the PF accepts its messages.
    :param api_version: the mailbox API agreed (:class:`Api`).
    :param mac: the address in use, 6 octets; None where the VF has none.
    :param macvlans: further unicast addresses of the VF.
    :param vlans: VLAN ids that the VF asked for, 1 to 4095; not the administrator's port VLAN.
    :param mc_hashes: multicast hashes, at most 30, 16 bits each.
    :param xcast_mode: :class:`XcastMode` as granted.
    :param max_frame: octets with the FCS, as the last accepted SET_LPE had it; None where none was accepted.
    :param anti_spoof: the hardware's MAC and VLAN anti-spoofing of this VF is on (a request for macvlans turns it off
        although the setting stays on).
    """

    clear_to_send: bool = False
    api_version: int = Api.V1_0
    mac: bytes | None = None
    macvlans: tuple[bytes, ...] = ()
    vlans: tuple[int, ...] = ()
    mc_hashes: tuple[int, ...] = ()
    xcast_mode: int = XcastMode.NONE
    max_frame: int | None = None
    anti_spoof: bool = True
