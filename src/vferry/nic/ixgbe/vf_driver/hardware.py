# SPDX-License-Identifier: Apache-2.0
"""What the VF driver does to the device itself: the reset handshake, and one function for each message.

``drivers/net/ethernet/intel/ixgbevf/vf.c`` (Linux 6.12; API 1.6 and 1.7: Linux 6.12.117).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final

from vferry.nic.ixgbe.bar import VfBar
from vferry.nic.ixgbe.messages import (
    ACK,
    CTS,
    MAX_MC_HASHES,
    NACK,
    RESET_REPLY_WORDS,
    Api,
    Id,
    mac_of,
    mac_words,
    pack_hashes,
    word0,
)
from vferry.nic.ixgbe.registers import vf
from vferry.nic.ixgbe.vf_driver.mailbox import Exchange, Steps, VfMailbox

__all__ = ["VfHardware", "mta_vector"]

RESET_POLLS: Final = 200
RESET_POLL_SECONDS: Final = 5e-6
"""``IXGBE_VF_INIT_TIMEOUT`` times 5 microseconds: 1 ms until the PF has to show that it is there."""
RESET_PAUSE_SECONDS: Final = 10e-3
"""Waited between sending RESET and looking for the reply (``mdelay(10)``)."""
LINK_SETTLE_LOOKS: Final = 5
LINK_SETTLE_SECONDS: Final = 100e-6
"""On an 82599 the link counts only if it stays up over five looks (``ixgbe_read_vflinks()``)."""
RETA_REPLY_WORDS: Final = 9
RSS_KEY_REPLY_WORDS: Final = 11
SUPPORTED_FEATURES: Final = 0x3  # IPSEC and ESX_MBX

SINCE_1_2: Final = frozenset({Api.V1_2, Api.V1_3, Api.V1_4, Api.V1_5, Api.V1_6, Api.V1_7})
SINCE_1_1: Final = SINCE_1_2 | {Api.V1_1}

LINK_SPEEDS: Final = {vf.VFLINKS_SPEED_10G: 10000, vf.VFLINKS_SPEED_1G: 1000, vf.VFLINKS_SPEED_100M: 100}


def mta_vector(mac: bytes, filter_type: int) -> int:
    """Return the 12-bit multicast hash of an address, for the filter type the PF told in its reply to RESET."""
    shift = (4, 3, 2, 0)[filter_type & 3]
    return (mac[4] | mac[5] << 8) >> shift & 0xFFF


class VfHardware:
    """``struct ixgbe_hw`` of a VF."""

    def __init__(self, bar: VfBar) -> None:
        self.bar = bar
        self.mailbox = VfMailbox(bar)
        self.api_version: int = Api.V1_0
        self.adapter_stopped = True
        self.mac = bytes(6)
        self.perm_mac = bytes(6)
        self.mc_filter_type = 0
        self.max_queues = 1
        self.get_link_status = True
        self.link_up = False
        self.link_speed = 0

    def rebind(self, bar: VfBar) -> None:
        """Go on over another device; all that is in memory stays."""
        self.bar = bar
        self.mailbox.rebind(bar)

    # --- reset

    def stop(self) -> None:
        """Disable queues and interrupts (``ixgbevf_stop_hw_vf()``)."""
        self.adapter_stopped = True
        for queue in range(self.max_queues):
            self._clear(vf.VFRXDCTL.address(queue), vf.RXDCTL_ENABLE)
        self.bar.write(vf.VTEIMC.offset, vf.VECTORS_MASK)
        self.bar.read(vf.VTEICR.offset)
        for queue in range(self.max_queues):
            self._clear(vf.VFTXDCTL.address(queue), vf.TXDCTL_ENABLE)

    def reset(self) -> Steps:
        """Reset the VF and open a session with the PF (``ixgbevf_reset_hw_vf()``).

        Returns False where the PF's driver is not there, or gave no proper reply.
        """
        self.stop()
        self.api_version = Api.V1_0
        self.mailbox.disarm()
        self.bar.write(vf.VFCTRL.offset, vf.VFCTRL_RST)
        self.bar.read(vf.VFSTATUS.offset)
        for _ in range(RESET_POLLS):
            if self.mailbox.check_for_reset():
                break
            yield RESET_POLL_SECONDS
        else:
            return False
        self.mailbox.arm()
        return (yield from self._say_reset())

    def _say_reset(self) -> Steps:
        request = (int(Id.RESET),)
        yield from self.mailbox.write(request)
        yield RESET_PAUSE_SECONDS
        reply = yield from self.mailbox.poll(RESET_REPLY_WORDS)
        self.mailbox.log.append(Exchange(request, tuple(reply) if reply else None))
        if reply is None or reply[0] not in (Id.RESET | ACK, Id.RESET | NACK):
            return False
        if reply[0] & ACK:
            self.perm_mac = mac_of(reply[1], reply[2])
        self.mc_filter_type = reply[3]
        return True

    def start(self) -> None:
        """Count the device as running, with its permanent address (``ixgbevf_init_hw_vf()``)."""
        self.adapter_stopped = False
        self.mac = self.perm_mac

    # --- messages

    def negotiate_api(self, versions: Sequence[Api]) -> Generator[float, None, None]:
        """Ask for each version in turn until the PF agrees; 1.0 stays where it agrees to none."""
        for version in versions:
            reply = yield from self.mailbox.exchange((Id.API_NEGOTIATE, version, 0))
            if _granted(reply):
                self.api_version = version
                return

    def negotiate_features(self) -> Generator[float, None, None]:
        """Offer mailbox features, which API 1.7 has."""
        if self.api_version == Api.V1_7:
            yield from self.mailbox.exchange((Id.FEATURES_NEGOTIATE, SUPPORTED_FEATURES))

    def get_queues(self) -> Generator[float, None, None]:
        """Ask how many queues the VF has."""
        if self.api_version not in SINCE_1_1:
            return
        reply = yield from self.mailbox.exchange((Id.GET_QUEUES, 0, 0, 0, 0))
        if reply is not None and _granted(reply):
            self.max_queues = min(reply[1] or 1, reply[2] or 1, vf.VF_QUEUES)

    def update_xcast_mode(self, mode: int) -> Steps:
        """Ask for frames to many."""
        if self.api_version not in SINCE_1_2:
            return False
        return _granted((yield from self.mailbox.exchange((Id.UPDATE_XCAST_MODE, mode))))

    def update_mc_addr_list(self, addresses: Sequence[bytes]) -> Steps:
        """Send the multicast addresses as hashes: at most 30, and none of the link-local ones (01:80:c2:00:00:0x)."""
        wanted = addresses[:MAX_MC_HASHES]
        hashes = [mta_vector(mac, self.mc_filter_type) for mac in wanted if not _is_link_local(mac)]
        payload = pack_hashes(hashes)
        words = (word0(Id.SET_MULTICAST, len(wanted)), *payload, *(0,) * (15 - len(payload)))
        return _granted((yield from self.mailbox.exchange(words)))

    def set_uc_addr(self, index: int, mac: bytes | None) -> Steps:
        """Add a further unicast address; index 1 starts a new list, index 0 clears the list."""
        words = (word0(Id.SET_MACVLAN, index), *mac_words(mac or bytes(6)))
        return _granted((yield from self.mailbox.exchange(words)))

    def set_vfta(self, vid: int, *, on: bool) -> Steps:
        """Enter or leave a VLAN."""
        return _granted((yield from self.mailbox.exchange((word0(Id.SET_VLAN, int(on)), vid))))

    def set_rlpml(self, max_frame: int) -> Steps:
        """Announce the greatest frame, in octets with the FCS."""
        return _granted((yield from self.mailbox.exchange((Id.SET_LPE, max_frame))))

    def set_rar(self, mac: bytes) -> Steps:
        """Ask for an address."""
        return _granted((yield from self.mailbox.exchange((Id.SET_MAC_ADDR, *mac_words(mac)))))

    def get_link_state(self) -> Generator[float, None, bool | None]:
        """Ask whether the administrator lets the VF have a link; None where the PF does not say."""
        reply = yield from self.mailbox.exchange((Id.GET_LINK_STATE, 0))
        return bool(reply[1]) if reply is not None and _granted(reply) else None

    def get_reta(self) -> Generator[float, None, list[int] | None]:
        """Ask for the RSS table, 128 entries of 2 bits; None where refused."""
        if self.api_version not in SINCE_1_2:
            return None
        reply = yield from self.mailbox.exchange((Id.GET_RETA,), RETA_REPLY_WORDS)
        if reply is None or not _granted(reply):
            return None
        return [word >> 2 * place & 3 for word in reply[1:] for place in range(16)]

    def get_rss_key(self) -> Generator[float, None, bytes | None]:
        """Ask for the RSS key, 40 octets; None where refused."""
        if self.api_version not in SINCE_1_2:
            return None
        reply = yield from self.mailbox.exchange((Id.GET_RSS_KEY,), RSS_KEY_REPLY_WORDS)
        return b"".join(word.to_bytes(4, "little") for word in reply[1:]) if reply and _granted(reply) else None

    def say_resume(self) -> Steps:
        """Tell the PF that this VF runs here now (vferry's extension)."""
        return _granted((yield from self.mailbox.exchange((Id.RESUME,))))

    # --- link

    def check_link(self) -> Steps:
        """Look at the link (``ixgbevf_check_mac_link_vf()``); return False where the session with the PF is lost.

        Once after every notice of the PF, the link counts as up only when the last message of the PF has CTS. A
        message with NACK and without CTS means that the PF has forgotten this VF.
        """
        mailbox = self.mailbox
        if mailbox.check_for_reset() or not mailbox.timeout:
            self.get_link_status = True
        whole = True
        if self.get_link_status and (yield from self._link_settled()):
            words = yield from mailbox.read(1)
            if words is not None and words[0] & CTS:
                self.get_link_status = False
            elif words is not None and words[0] & NACK:
                whole = False
        self.link_up = not self.get_link_status
        return whole

    def _link_settled(self) -> Steps:
        links = self.bar.read(vf.VFLINKS.offset)
        for _ in range(LINK_SETTLE_LOOKS):
            if not links & vf.VFLINKS_UP:
                return False
            yield LINK_SETTLE_SECONDS
            links = self.bar.read(vf.VFLINKS.offset)
        self.link_speed = LINK_SPEEDS.get(links & vf.VFLINKS_SPEED_MASK, 0)
        return bool(links & vf.VFLINKS_UP)

    def _clear(self, offset: int, bit: int) -> None:
        value = self.bar.read(offset)
        if value & bit:
            self.bar.write(offset, value & ~bit)


def _granted(reply: Sequence[int] | None) -> bool:
    """Tell whether a reply grants the request."""
    return reply is not None and bool(reply[0] & ACK) and not reply[0] & NACK


def _is_link_local(mac: bytes) -> bool:
    """Tell whether a bridge must not forward to the address (IEEE 802.1Q, table 8-1)."""
    return mac[:5] == b"\x01\x80\xc2\x00\x00" and mac[5] < 0x10
