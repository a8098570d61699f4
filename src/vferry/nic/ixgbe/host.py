# SPDX-License-Identifier: Apache-2.0
"""One port of a software 82599 with its PF driver, and what a host knows of it beside registers.

A VF's frames and interrupts pass through here, so that a VF can be *stopped*: it then sends nothing, receives nothing
and interrupts nobody. Its filters are the PF's and stand: the switch goes on leading frames to it, and they are lost
(:attr:`~vferry.nic.ixgbe.switch.SwitchLoss.NO_SINK`). So a stop is no fence.

Who serves a VF gives its receiver and its interrupt by :meth:`SoftwarePf.attach` and sends by
:meth:`SoftwarePf.transmit`, never past them to the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vferry.core.errors import UsageError
from vferry.nic.ixgbe import pci_config
from vferry.nic.ixgbe.hardware import Ixgbe82599
from vferry.nic.ixgbe.pf_driver import DEFAULT_RSS_KEY, MacType, PfDriver, VfStats, stats
from vferry.nic.ixgbe.pf_driver.registers import Registers
from vferry.nic.ixgbe.registers import pf

__all__ = ["FIRST_VF_OFFSET", "MAX_TOTAL_VFS", "VF_STRIDE", "SoftwarePf", "SoftwareVf"]

FIRST_VF_OFFSET: Final = 128
VF_STRIDE: Final = 2
"""The 82599's SR-IOV capability (datasheet, 9.4.4): VFs of both ports interleave, from routing identifier 128 on."""
MAX_TOTAL_VFS: Final = 63
"""What ixgbe leaves of the 64 (``IXGBE_MAX_VFS_DRV_LIMIT``)."""

_MASKED: Final[tuple[int, ...]] = (0, 0, 0, 1)
"""An entry of the MSI-X table after a reset: masked (PCI 3.0, 6.8.2)."""

Sink = Callable[[bytes], None]


class SoftwareVf:
    """What belongs to a VF beside its registers and configuration space."""

    __slots__ = ("driver", "interrupt", "pending", "rebuild", "sink", "stopped", "table", "unsent", "user")

    def __init__(self) -> None:
        self.driver: str | None = None
        """The driver bound on the host; None: none."""
        self.user: str | None = None
        self.sink: Sink | None = None
        self.interrupt: Callable[[int], None] | None = None
        self.stopped = False
        self.rebuild = False
        """The next start has to tell the VF's driver that its session is gone."""
        self.pending = 0
        """Vectors, as bits, that fired while the VF was stopped (the pending bit array)."""
        self.unsent = 0
        """REQ and ACK of VFMAILBOX that a state brought with it: the PF is to hear of them at the start."""
        self.table: Final[list[int]] = list(_MASKED * pci_config.MSIX_VECTORS)
        """The MSI-X table: address, upper address, data and vector control of each vector."""

    def reset(self) -> None:
        """Forget what a function level reset clears."""
        self.pending = self.unsent = 0
        self.rebuild = False
        self.table[:] = _MASKED * pci_config.MSIX_VECTORS


class SoftwarePf:
    """One PF of a host.

    :param name: of its network interface.
    :param device: its PCI address, ``0000:01:00.0``.
    :param permanent_address: six octets.
    :param num_vfs: how many VFs there are after boot; there can be no more later.
    :param now: seconds on any clock, for rates and the free running timer.
    :param ifindex: of its network interface after boot.
    :param mtu: after boot, in octets.
    :param resume_extension: the PF driver knows the RESUME message.
    :param rss_key: of the port, 40 octets; on real hosts no two have the same.
    """

    def __init__(
        self,
        name: str,
        *,
        device: str,
        permanent_address: bytes,
        num_vfs: int = 8,
        now: Callable[[], float],
        ifindex: int = 2,
        mtu: int = 1500,
        mac_type: MacType = MacType.MAC_82599EB,
        resume_extension: bool = False,
        head_writable_when_disabled: bool = True,
        flr_clears_enables: bool = True,
        host: str = "host",
        rss_key: bytes = DEFAULT_RSS_KEY,
    ) -> None:
        if not 0 <= num_vfs <= MAX_TOTAL_VFS:
            raise UsageError("create VFs", why=f"{num_vfs} are outside 0 to {MAX_TOTAL_VFS}", pf=name, host=host)
        self.name: Final = name
        self.device: Final = device
        self.permanent_address: Final = permanent_address
        self.host: Final = host
        self.resume_extension: Final = resume_extension
        self.first_ifindex: Final = ifindex
        self.ifindex = ifindex
        self._mac_type: Final = mac_type
        self._rss_key: Final = rss_key
        self._first_mtu: Final = mtu
        self._first_num_vfs: Final = num_vfs
        self.hardware: Final = Ixgbe82599(
            now=now,
            permanent_address=permanent_address,
            pools=max(num_vfs, 1),
            head_writable_when_disabled=head_writable_when_disabled,
            flr_clears_enables=flr_clears_enables,
        )
        self.hardware.on_vf_interrupt = self._vf_interrupt
        self.hardware.set_link(True)
        self._own_sink: Sink | None = None
        self._peeking: Final = Registers(_PeekOnly(self.hardware))
        self.vfs: list[SoftwareVf] = []
        self.driver: PfDriver = self._new_driver(num_vfs)

    # The PF

    @property
    def carrier(self) -> bool:
        """The interface is up and the cable in."""
        return self.driver.is_up and bool(self.hardware.peek(pf.LINKS.offset) & pf.LINKS_UP)

    @property
    def speed(self) -> int | None:
        """Mbit/s; None while there is no carrier."""
        speeds = {pf.LINKS_SPEED_10G: 10000, pf.LINKS_SPEED_1G: 1000, pf.LINKS_SPEED_100M: 100}
        return speeds.get(self.hardware.peek(pf.LINKS.offset) & pf.LINKS_SPEED_MASK) if self.carrier else None

    @property
    def pool(self) -> int:
        """The PF's own pool."""
        return self.driver.num_vfs

    def send(self, frame: bytes) -> None:
        """Send a frame (tag inline, no FCS) from the PF's own network interface."""
        self.hardware.transmit(self.pool, frame)

    def receive_own(self, sink: Sink | None) -> None:
        """Give what the PF's own network interface receives to ``sink``, from now on and in later lives."""
        self._own_sink = sink
        self.hardware.sinks[self.pool] = sink

    def boot(self) -> None:
        """Switch off and on: registers, settings, users and what was attached to VFs are gone."""
        self.hardware.on_pf_interrupt = _nobody
        self.hardware.power_on()
        self.ifindex = self.first_ifindex
        self.driver = self._new_driver(self._first_num_vfs)

    def reload_driver(self, ifindex: int) -> None:
        """Unload the PF driver and load it again, create as many VFs: all settings are lost."""
        num_vfs = self.driver.num_vfs
        self.driver.disable_sriov()
        self.hardware.on_pf_interrupt = _nobody
        self.ifindex = ifindex
        self.driver = self._new_driver(num_vfs)

    def set_num_vfs(self, num_vfs: int) -> None:
        """Write ``sriov_numvfs``: all VFs are gone, then there are so many, with default settings.

        :raise UsageError: more than the device was made with.
        """
        if num_vfs > self.hardware.pools:
            raise UsageError("create VFs", why=f"this device was made with {self.hardware.pools}", pf=self.name)
        self.driver.disable_sriov()
        self.driver.enable_sriov(num_vfs)
        self._forget_vfs(num_vfs)

    def _new_driver(self, num_vfs: int) -> PfDriver:
        driver = PfDriver(
            self.hardware.bar,
            mtu=self._first_mtu,
            mac_type=self._mac_type,
            resume_extension=self.resume_extension,
            host=self.host,
            rss_key=self._rss_key,
        )
        driver.enable_sriov(num_vfs)
        self._forget_vfs(num_vfs)
        self.hardware.on_pf_interrupt = driver.interrupt
        driver.interrupt()  # what came before anyone listened
        return driver

    def _forget_vfs(self, num_vfs: int) -> None:
        self.hardware.sinks[:] = [None] * len(self.hardware.sinks)
        self.hardware.sinks[num_vfs] = self._own_sink
        self.vfs = [SoftwareVf() for _ in range(num_vfs)]

    # A VF

    def routing_id(self, vf: int) -> int:
        """Return a VF's routing identifier: bus, device and function as one number."""
        _domain, bus, rest = self.device.split(":")
        slot, function = rest.split(".")
        own = int(bus, 16) << 8 | int(slot, 16) << 3 | int(function)
        return own + FIRST_VF_OFFSET + vf * VF_STRIDE

    def vf_address(self, vf: int) -> str:
        """Return a VF's PCI address."""
        number = self.routing_id(vf)
        return f"{self.device.split(':')[0]}:{number >> 8 & 0xFF:02x}:{number >> 3 & 0x1F:02x}.{number & 7}"

    def attach(self, vf: int, *, sink: Sink | None, interrupt: Callable[[int], None] | None = None) -> None:
        """Give what a VF receives to ``sink``, and its MSI-X vectors as they fire to ``interrupt``.

        Whether a message would get out (bus mastering, MSI-X enable and masks) is for who serves PCI to look at.
        """
        function = self.vfs[vf]
        function.sink, function.interrupt = sink, interrupt
        if not function.stopped:
            self.hardware.sinks[vf] = sink

    def transmit(self, vf: int, frame: bytes) -> bool:
        """Send a frame from a VF; False: it is stopped, and the frame stays where it was."""
        if self.vfs[vf].stopped:
            return False
        self.hardware.transmit(vf, frame)
        return True

    def flr(self, vf: int) -> None:
        """Reset the function; who uses it, and whether it is stopped, stays."""
        self.vfs[vf].reset()
        self.hardware.flr(vf)

    def stop_vf(self, vf: int) -> None:
        """Let a VF neither send nor receive nor interrupt. What waits for its rate limiter is lost and counted."""
        function = self.vfs[vf]
        if not function.stopped:
            function.stopped = True
            self.hardware.sinks[vf] = None
            self.hardware.switch.discard(vf)

    def start_vf(self, vf: int) -> None:
        """Let a VF work again, and fire what was pending."""
        function = self.vfs[vf]
        if not function.stopped:
            return
        function.stopped = False
        self.hardware.sinks[vf] = function.sink
        pending, function.pending = function.pending, 0
        for vector in range(pci_config.MSIX_VECTORS):
            if pending >> vector & 1:
                self._vf_interrupt(vf, vector)

    def counters(self, vf: int) -> VfStats:
        """Return a VF's totals. Nothing is read that a read changes, and the driver's own sums stay as they are."""
        info = self.driver.vfinfo[vf].copy()
        stats.fold(self._peeking, vf, info)
        return stats.totals(info)

    def _vf_interrupt(self, vf: int, vector: int) -> None:
        if vf >= len(self.vfs):
            return
        function = self.vfs[vf]
        if function.stopped:
            function.pending |= 1 << vector
        elif function.interrupt is not None:
            function.interrupt(vector)


class _PeekOnly:
    """The PF's BAR without side effects."""

    def __init__(self, hardware: Ixgbe82599) -> None:
        self._hardware = hardware

    def read(self, offset: int, /) -> int:
        return self._hardware.peek(offset)

    def write(self, offset: int, value: int, /) -> None:
        raise UsageError("write a register", why=f"{value:#x} to {offset:#x}, through a BAR that is only for looking")


def _nobody() -> None:
    """Takes the PF's interrupts while no driver is loaded."""
