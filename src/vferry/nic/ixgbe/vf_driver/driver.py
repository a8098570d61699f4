# SPDX-License-Identifier: Apache-2.0
"""The VF driver model: what Linux' ixgbevf does with a VF of an 82599, over the VF's BAR and nothing else.

``drivers/net/ethernet/intel/ixgbevf/ixgbevf_main.c`` (Linux 6.12). It does no I/O and reads no clock: what waits is a
generator that yields seconds to wait, and the time is given. :func:`run` drives one.

The service task is :meth:`VfDriver.watchdog`: run it every :data:`SERVICE_SECONDS`, and soon after an interrupt asked
for it (:attr:`VfDriver.service_wanted`). A reset that it asks for is done by its next run.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Final, TypeVar

from vferry.nic.ixgbe.bar import VfBar
from vferry.nic.ixgbe.messages import API_ORDER, Api, XcastMode
from vferry.nic.ixgbe.vf_driver.hardware import VfHardware
from vferry.nic.ixgbe.vf_driver.mailbox import Exchange, Steps
from vferry.nic.ixgbe.vf_driver.queues import Queues

__all__ = ["RESET_LIMIT_SECONDS", "SERVICE_SECONDS", "VfDriver", "run"]

SERVICE_SECONDS: Final = 2.0
"""``ixgbevf_service_timer()``: between two runs of the service task."""
RESET_LIMIT_SECONDS: Final = 10.0
"""``ixgbevf_watchdog_update_link()``: a lost session is not mended sooner than this after the last reset."""
DOWN_SECONDS: Final = 10e-3
"""``ixgbevf_down()``: 10 to 20 ms from stopping the receive queues on."""
MACVLAN_SECONDS: Final = 200e-6
"""``ixgbevf_write_uc_addr_list()``: between two further addresses."""
MAX_RSS_QUEUES: Final = 2
"""``IXGBEVF_MAX_RSS_QUEUES``."""
FRAME_OVERHEAD: Final = 18
"""``ETH_HLEN`` and ``ETH_FCS_LEN``."""
MIN_MTU: Final = 68
LEGACY_MAX_MTU: Final = 1500
"""An 82599 VF that speaks only API 1.0 cannot have more (``ixgbevf_sw_init()``)."""
MAX_MTU: Final = 9728 - FRAME_OVERHEAD

Result = TypeVar("Result")


def run(steps: Generator[float, None, Result], advance: Callable[[float], None]) -> Result:
    """Drive a procedure to its end and return its result; `advance` is called with each wait, in seconds."""
    while True:
        try:
            seconds = next(steps)
        except StopIteration as done:
            result: Result = done.value
            return result
        advance(seconds)


class VfDriver:
    """One VF's driver with its network interface.

    :param now: seconds on any clock that does not go back.
    :param random_mac: the address, 6 octets, to use where the administrator assigned none.
    :param versions: mailbox API versions to ask for, in this order.
    :param cpus: of the guest; the driver uses at most two queue pairs.
    :param dma_base: bus address of the rings in the guest's memory.
    """

    def __init__(
        self,
        bar: VfBar,
        *,
        now: Callable[[], float],
        random_mac: bytes,
        mtu: int = 1500,
        versions: Sequence[Api] = API_ORDER,
        cpus: int = 2,
        dma_base: int = 0x1000_0000,
    ) -> None:
        self.hw = VfHardware(bar)
        self._now = now
        self._random_mac = random_mac
        self._versions = versions
        self._cpus = cpus
        self._queues = Queues(bar, dma_base)
        self.mtu = mtu
        self.vlans: set[int] = set()
        self.multicasts: list[bytes] = []
        self.unicasts: list[bytes] = []
        self.xcast_mode: int = XcastMode.MULTI
        self.is_open = False
        self.link_state = True
        self.carrier = False
        self.reset_requested = False
        self.reset_pending = False
        self.service_wanted = False
        self.last_reset = now()
        self.resets = 0

    @property
    def log(self) -> list[Exchange]:
        """All messages sent so far, each with its reply."""
        return self.hw.mailbox.log

    @property
    def mac(self) -> bytes:
        """The address in use, 6 octets."""
        return self.hw.mac

    @property
    def api_version(self) -> int:
        """The mailbox API agreed with the PF (:class:`~vferry.nic.ixgbe.messages.Api`)."""
        return self.hw.api_version

    @property
    def frames_can_flow(self) -> bool:
        """The interface is open and its carrier is on: the guest's network stack gives it frames."""
        return self.is_open and self.carrier

    # --- life

    def probe(self) -> Steps:
        """Take the device; False where the PF's driver is not there, which :meth:`open` tries again."""
        done = yield from self._reset()
        if not any(self.hw.mac):
            self.hw.mac = self.hw.perm_mac = self._random_mac
        yield from self.hw.get_queues()
        return done

    def open(self) -> Steps:
        """Bring the interface up; False where the PF's driver is not there, or a queue does not start."""
        if self.hw.adapter_stopped:
            yield from self._reset()
            if self.hw.adapter_stopped:
                return False
        return (yield from self._up())

    def close(self) -> Steps:
        """Take the interface down, which resets the device."""
        if self.is_open:
            yield from self._down()
        return True

    def watchdog(self) -> Steps:
        """Run the service task once: a reset that was asked for, then a look at the link.

        Returns False where the session with the PF is lost (a reset was asked for, or is held back by the limit of
        one in ten seconds: ``reset_pending``).
        """
        self.service_wanted = False
        if self.reset_requested and self.is_open:
            self.reset_requested = False
            yield from self._reinit()
        if not self.is_open:
            return True
        whole = yield from self.hw.check_link()
        up = self.hw.link_up
        self.reset_pending = not whole
        if not whole and self._now() > self.last_reset + RESET_LIMIT_SECONDS:
            self.reset_requested = True
            up = False
        self.carrier = up and self.link_state
        return whole

    def interrupt(self, vector: int) -> None:
        """Handle an MSI-X vector; the mailbox's asks for the service task (``ixgbevf_msix_other()``)."""
        if vector == self._queues.mailbox_vector:
            self.hw.get_link_status = True
            self.service_wanted = True
            self._queues.unmask_mailbox()

    def rebind(self, bar: VfBar, now: Callable[[], float] | None = None) -> None:
        """Go on over another device: what the guest's driver sees after its VM was moved with its memory as it was.

        :param now: where the other host's clock is another one; the ten seconds' limit is counted on it.
        """
        self.hw.rebind(bar)
        self._queues.rebind(bar)
        self._now = now or self._now

    def resume(self) -> Steps:
        """Go on after the VM came to another host, without a reset of the session (vferry's extension).

        The device was reset by whoever gave it to this VM. The PF is told, programs what was planted, and the queues
        are set up again. Where the PF refuses, a reset is asked for, and this returns False.
        """
        self.hw.mailbox.check_for_reset()
        if not (yield from self.hw.say_resume()):
            self.reset_requested = self.service_wanted = True
            return False
        if not self.is_open:
            return True
        started = (yield from self._queues.start_transmit()) and (yield from self._queues.start_receive())
        self._start_interrupts()
        return started

    # --- settings of the guest

    def set_mac(self, mac: bytes) -> Steps:
        """Set the address, 6 octets; False where the PF refuses."""
        if not (yield from self.hw.set_rar(mac)):
            return False
        self.hw.mac = self.hw.perm_mac = mac
        return True

    def add_vlan(self, vid: int) -> Steps:
        """Enter a VLAN; False where the PF refuses."""
        if not (yield from self.hw.set_vfta(vid, on=True)):
            return False
        self.vlans.add(vid)
        return True

    def kill_vlan(self, vid: int) -> Steps:
        """Leave a VLAN; it is forgotten here even where the PF refuses (``ixgbevf_vlan_rx_kill_vid()``)."""
        done = yield from self.hw.set_vfta(vid, on=False)
        self.vlans.discard(vid)
        return done

    def set_rx_mode(
        self,
        *,
        multicasts: Iterable[bytes] | None = None,
        unicasts: Iterable[bytes] | None = None,
        xcast_mode: int | None = None,
    ) -> Generator[float, None, None]:
        """Change what the interface takes besides its own address; what is None stays."""
        if multicasts is not None:
            self.multicasts = list(multicasts)
        if unicasts is not None:
            self.unicasts = list(unicasts)
        if xcast_mode is not None:
            self.xcast_mode = xcast_mode
        yield from self._send_rx_mode()

    def set_mtu(self, mtu: int) -> Steps:
        """Set the MTU in octets; an open interface goes down and up. False where the PF refuses, or out of range."""
        legacy = self.hw.api_version == Api.V1_0
        if not MIN_MTU <= mtu <= (LEGACY_MAX_MTU if legacy else MAX_MTU):
            return False
        if not (yield from self.hw.set_rlpml(mtu + FRAME_OVERHEAD)):
            return False
        self.mtu = mtu
        if self.is_open:
            yield from self._reinit()
        return True

    # --- parts

    def _reset(self) -> Steps:
        """Reset the device and open a session (``ixgbevf_reset()``)."""
        done = yield from self.hw.reset()
        if done:
            self.hw.start()
            yield from self.hw.negotiate_api(self._versions)
            yield from self.hw.negotiate_features()
            self.resets += 1
            self.reset_pending = False
        self.last_reset = self._now()
        return done

    def _reinit(self) -> Steps:
        yield from self._down()
        return (yield from self._up())

    def _down(self) -> Generator[float, None, None]:
        self.is_open = False
        self.carrier = False
        yield from self._queues.stop_receive()
        yield DOWN_SECONDS
        self._queues.disable_interrupts()
        self._queues.flush_transmit()
        yield from self._reset()

    def _up(self) -> Steps:
        """Send the PF all settings, start the queues, then the interrupts."""
        yield from self._configure_queues()
        yield from self._send_rx_mode()
        for vid in sorted(self.vlans):
            yield from self.hw.set_vfta(vid, on=True)
        started = yield from self._queues.start_transmit()
        yield from self.hw.set_rlpml(self.mtu + FRAME_OVERHEAD)
        started = (yield from self._queues.start_receive()) and started
        yield from self.hw.set_rar(self.hw.mac)
        link_state = yield from self.hw.get_link_state()
        if link_state is not None:
            self.link_state = link_state
        self.is_open = True
        self._start_interrupts()
        return started

    def _configure_queues(self) -> Generator[float, None, None]:
        yield from self.hw.get_queues()
        legacy = self.hw.api_version == Api.V1_0
        self._queues.count = 1 if legacy else min(self._cpus, MAX_RSS_QUEUES, self.hw.max_queues)

    def _send_rx_mode(self) -> Generator[float, None, None]:
        yield from self.hw.update_xcast_mode(self.xcast_mode)
        yield from self.hw.update_mc_addr_list(self.multicasts)
        if not self.unicasts:
            yield from self.hw.set_uc_addr(0, None)
        for index, mac in enumerate(self.unicasts, start=1):
            yield from self.hw.set_uc_addr(index, mac)
            yield MACVLAN_SECONDS

    def _start_interrupts(self) -> None:
        self._queues.configure_msix()
        self._queues.enable_interrupts()
        self.hw.get_link_status = True
        self.service_wanted = True
