# SPDX-License-Identifier: Apache-2.0
"""The PF driver model: what Linux' ixgbe does for its VFs, over the PF's BAR and nothing else.

One addition to the kernel's driver can be switched on (``resume_extension``), after the 2015 proposal: session state
can be planted for a VF, and the VF's RESUME message makes the PF program it. See :meth:`PfDriver.plant_vfinfo`.

Not modelled: traffic classes (DCB), FCoE, IPsec, malicious driver detection (MDD), RSS tables of single VFs (X550).
The rate of a VF is programmed for each of its transmit queues, as the kernel's driver does, so a VF with several
queues may send that many times its rate on a real device; the software 82599 limits the VF as a whole.
"""

from __future__ import annotations

import errno

from vferry.nic.ixgbe.bar import PfBar
from vferry.nic.ixgbe.pf_driver import session as sessions
from vferry.nic.ixgbe.pf_driver import set_vf, stats
from vferry.nic.ixgbe.pf_driver.adapter import ETH_FCS_LEN, ETH_HLEN, ETH_MIN_MTU, MAX_JUMBO_FRAME_SIZE, Adapter
from vferry.nic.ixgbe.pf_driver.dispatch import message_task
from vferry.nic.ixgbe.pf_driver.errors import DriverError
from vferry.nic.ixgbe.pf_driver.programmed import ProgrammedVf, programmed
from vferry.nic.ixgbe.pf_driver.rss import DEFAULT_RSS_KEY, RSS_KEY_OCTETS
from vferry.nic.ixgbe.pf_driver.vfinfo import LinkState, MacType, VfConfig, VfDataStorage, VfSession, VfStats
from vferry.nic.ixgbe.registers import pf

__all__ = ["PfDriver"]


class PfDriver:
    """Drives one port. Building it resets the device and brings the port up, with no VFs.

    :param mtu: of the PF's network interface, in octets.
    :param resume_extension: know the RESUME message and :meth:`plant_vfinfo`.
    :param host: names this host in ``vfdev``, which stands for a kernel pointer.
    :param rss_key: of the port, 40 octets.
    :raises DriverError: EINVAL, an MTU or a key that the device cannot have.
    """

    def __init__(
        self,
        bar: PfBar,
        *,
        mtu: int = 1500,
        mac_type: MacType = MacType.MAC_82599EB,
        resume_extension: bool = False,
        host: str = "host",
        rss_key: bytes = DEFAULT_RSS_KEY,
    ) -> None:
        if len(rss_key) != RSS_KEY_OCTETS:
            raise DriverError(errno.EINVAL, f"an RSS key has {RSS_KEY_OCTETS} octets, not {len(rss_key)}")
        self._adapter = Adapter(bar, mac_type=mac_type, mtu=_checked_mtu(mtu), host=host, rss_key=rss_key)
        self._resume_extension = resume_extension
        self._planted: dict[int, VfSession] = {}
        self._handling = False
        self._pending = False
        self._adapter.up()

    # --- the port

    @property
    def num_vfs(self) -> int:
        """How many VFs there are."""
        return self._adapter.num_vfs

    @property
    def vfinfo(self) -> list[VfDataStorage]:
        """The driver's own records of the VFs, not copies."""
        return self._adapter.vfinfo

    @property
    def mtu(self) -> int:
        """The PF's MTU in octets."""
        return self._adapter.mtu

    @property
    def mac(self) -> bytes:
        """The PF's own address, 6 octets."""
        return self._adapter.mac

    @property
    def is_up(self) -> bool:
        """True between :meth:`up` and :meth:`down`."""
        return not self._adapter.is_down

    def enable_sriov(self, num_vfs: int) -> None:
        """Create VFs 0 to `num_vfs` - 1 with default settings; 0 removes all.

        :raises DriverError: EPERM, more than 63.
        """
        if num_vfs != self.num_vfs:
            self._planted.clear()
        self._adapter.set_num_vfs(num_vfs)

    def disable_sriov(self) -> None:
        """Remove all VFs."""
        self.enable_sriov(0)

    def set_mtu(self, mtu: int) -> None:
        """Set the PF's MTU, 68 to 9710 octets; the port goes down and up, and every VF has to reset itself.

        :raises DriverError: EINVAL, out of range.
        """
        mtu = _checked_mtu(mtu)
        self._adapter.down()
        self._adapter.mtu = mtu
        self._adapter.up()

    def down(self) -> None:
        """Take the PF's interface down: its VFs lose their sessions and cannot work."""
        if self.is_up:
            self._adapter.down()

    def up(self) -> None:
        """Bring the PF's interface up."""
        if not self.is_up:
            self._adapter.up()

    def link_changed(self) -> None:
        """Look at the link; a new one is told to all VFs, and ends rates set at another speed."""
        was_up, speed = self._adapter.link_up, self._adapter.link_speed
        self._adapter.read_link()
        if self._adapter.link_up and (not was_up or self._adapter.link_speed != speed):
            self._adapter.check_rate_limit()
        if (was_up, speed) != (self._adapter.link_up, self._adapter.link_speed):
            self.ping_all_vfs()

    def interrupt(self) -> None:
        """Handle the PF's "other" interrupt vector: mailbox and link changes (``ixgbe_msix_other()``)."""
        self._pending = True
        if self._handling:  # raised by what the handler itself wrote: it is taken in the next round
            return
        self._handling = True
        try:
            while self._pending:
                self._pending = False
                self._handle_causes()
        finally:
            self._handling = False

    def _handle_causes(self) -> None:
        registers = self._adapter.registers
        cause = registers.read(pf.EICS)  # EICR itself would be cleared by the read
        registers.write(pf.EICR, cause & (pf.EICR_MAILBOX | pf.EICR_LSC))
        if cause & pf.EICR_MAILBOX:
            message_task(self._adapter, self._resume if self._resume_extension else None)
        if cause & pf.EICR_LSC:
            self.link_changed()

    def ping_vf(self, vf: int) -> None:
        """Send one VF a notice, with CTS where its session is whole ("notify" of the 2015 series)."""
        self._adapter.info(vf)
        self._adapter.ping_vf(vf)

    def ping_all_vfs(self) -> None:
        """Send every VF a notice."""
        for vf in range(self.num_vfs):
            self._adapter.ping_vf(vf)

    # --- the PF's own further addresses

    def add_fdb(self, mac: bytes) -> None:
        """Receive `mac` in the PF's own pool (``bridge fdb add MAC dev PF self``).

        :raises DriverError: EEXIST, EINVAL for anything but a unicast address, ENOMEM without a free entry.
        """
        self._adapter.add_uc_address(mac)

    def remove_fdb(self, mac: bytes) -> None:
        """Receive `mac` no longer.

        :raises DriverError: ENOENT, it is not there.
        """
        self._adapter.remove_uc_address(mac)

    def fdb(self) -> tuple[bytes, ...]:
        """Return the PF's further addresses, oldest first."""
        return tuple(self._adapter.uc_addresses)

    # --- settings of a VF, as ``ip link set PF vf N`` meets them; :mod:`.set_vf` has their rules

    def set_vf_mac(self, vf: int, mac: bytes) -> None:
        """Set the VF's MAC address; zero removes it."""
        set_vf.set_mac(self._adapter, vf, mac)

    def set_vf_vlan(self, vf: int, vlan: int, qos: int = 0, proto: str = "802.1Q") -> None:
        """Set the VF's port VLAN; 0 and 0 remove it."""
        set_vf.set_vlan(self._adapter, vf, vlan, qos, proto)

    def set_vf_rate(self, vf: int, max_rate: int, min_rate: int = 0) -> None:
        """Limit what the VF sends, in Mbit/s; 0 is no limit."""
        set_vf.set_rate(self._adapter, vf, min_rate, max_rate)

    def set_vf_spoofchk(self, vf: int, *, on: bool) -> None:
        """Check source addresses and VLANs of what the VF sends."""
        set_vf.set_spoofchk(self._adapter, vf, on=on)

    def set_vf_link_state(self, vf: int, state: LinkState) -> None:
        """Set how the VF's link follows the PF's."""
        set_vf.set_link_state(self._adapter, vf, state)

    def set_vf_rss_query_en(self, vf: int, *, on: bool) -> None:
        """Let the VF ask for the port's RSS table and key."""
        set_vf.set_rss_query_en(self._adapter, vf, on=on)

    def set_vf_trust(self, vf: int, *, on: bool) -> None:
        """Trust the VF, or do not."""
        set_vf.set_trust(self._adapter, vf, on=on)

    def get_vf_config(self, vf: int) -> VfConfig:
        """Return the VF's settings."""
        return set_vf.get_config(self._adapter, vf)

    def get_vf_stats(self, vf: int) -> VfStats:
        """Return the VF's packets and octets since SR-IOV was enabled, or since the totals that were loaded."""
        info = self._adapter.info(vf)
        stats.fold(self._adapter.registers, vf, info)
        return stats.totals(info)

    def load_vf_stats(self, vf: int, totals: VfStats) -> None:
        """Go on counting from `totals`."""
        stats.load_totals(self._adapter.registers, vf, self._adapter.info(vf), totals)

    def programmed(self, vf: int) -> ProgrammedVf:
        """Return what the hardware holds for the VF, by reading its registers."""
        self._adapter.info(vf)
        return programmed(self._adapter, vf)

    # --- sessions

    def session(self, vf: int) -> VfSession:
        """Return what the VF's driver was granted since its last reset."""
        return sessions.session(self._adapter, vf)

    def load_session(self, vf: int, session: VfSession) -> None:
        """Program settings and session of the VF into the hardware, by operations.

        :raises DriverError: this PF cannot give that session; nothing was changed.
        """
        sessions.load_session(self._adapter, vf, session)

    def check_session(self, vf: int, session: VfSession) -> None:
        """Raise what :meth:`load_session` would, and change nothing."""
        sessions.check_session(self._adapter, vf, session)

    def plant_vfinfo(self, vf: int, stored: VfDataStorage, session: VfSession | None = None) -> None:
        """Store settings and session of a VF that comes from another host, and touch no hardware.

        The VF's RESUME message programs it. The session is kept apart from ``vfinfo``, since the reset of the VF that
        comes before RESUME clears what is there. Host pointer, counters, clear to send and API are not taken over.

        :param session: where more is known of the session than ``vfinfo`` holds (VLANs, further addresses, frame).
        :raises DriverError: EOPNOTSUPP without the extension.
        """
        info = self._adapter.info(vf)
        if not self._resume_extension:
            raise DriverError(errno.EOPNOTSUPP, "the resume extension is off", vf=vf)
        if stored.pf_set_mac:
            info.vf_mac_addresses = stored.vf_mac_addresses
        info.pf_set_mac = stored.pf_set_mac
        info.pf_vlan, info.pf_qos = stored.pf_vlan, stored.pf_qos
        info.tx_rate = stored.tx_rate
        info.spoofchk_enabled = stored.spoofchk_enabled
        info.link_state, info.link_enable = stored.link_state, stored.link_enable
        info.rss_query_enabled = stored.rss_query_enabled
        info.trusted = stored.trusted
        self._planted[vf] = session or sessions.session_of_vfinfo(stored)

    def is_planted(self, vf: int) -> bool:
        """True while a session waits for the VF's RESUME message."""
        return vf in self._planted

    def forget_planted(self, vf: int) -> None:
        """Give up what was planted for the VF, if anything: its next tenant must not resume it."""
        self._planted.pop(vf, None)

    def _resume(self, adapter: Adapter, vf: int, words: list[int]) -> None:
        """RESUME: the VF's driver runs on this host now; program what was planted, once."""
        del words
        planted = self._planted.pop(vf, None)
        if planted is None:
            raise DriverError(errno.ENODATA, "no session was planted", vf=vf)
        if adapter.vfinfo[vf].tx_rate:
            adapter.vf_rate_link_speed = adapter.link_speed
        sessions.load_session(adapter, vf, planted)


def _checked_mtu(mtu: int) -> int:
    """Return `mtu` if the 82599 can have it (``netdev->min_mtu`` and ``max_mtu`` of ``ixgbe_probe()``)."""
    greatest = MAX_JUMBO_FRAME_SIZE - ETH_HLEN - ETH_FCS_LEN
    if not ETH_MIN_MTU <= mtu <= greatest:
        raise DriverError(errno.EINVAL, f"MTU {mtu} is outside {ETH_MIN_MTU} to {greatest}")
    return mtu
