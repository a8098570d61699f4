# SPDX-License-Identifier: Apache-2.0
"""The software 82599: two kinds of BAR, mailboxes, resets, and the switch behind the registers.

What software sees are :attr:`Ixgbe82599.bar` (the PF's BAR0) and :meth:`Ixgbe82599.vf_bar` (a VF's). A VF's registers
and the PF's views of them are one storage. Frames go in by :meth:`~Ixgbe82599.transmit` and :meth:`~Ixgbe82599.receive`
and come out by ``wire`` and ``sinks``. A VF whose guest's memory is attached (:meth:`Ixgbe82599.attach_memory`) works
its rings there (:mod:`vferry.nic.ixgbe.vf_queues`).

Two things about the hardware are not known for certain, and are switches:

* ``head_writable_when_disabled``. True: RDH and TDH take a write while their queue is disabled, as ixgbevf counts on,
  and a reset of the VF leaves them alone (82599 Specification Update rev 3.1, software clarification 5). False: no
  write changes them and a reset of the VF makes them 0, as the 2015 series says.
* ``flr_clears_enables``: whether a reset of a VF clears its bits in VFRE and VFTE. The PF driver sets them again in its
  answer to the VF's RESET message, so its source does not tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vferry.core.errors import UsageError
from vferry.nic.ixgbe.counters import FCS, Counters
from vferry.nic.ixgbe.guest_memory import GuestMemory
from vferry.nic.ixgbe.interrupts import PfInterrupts, PfViews, VfInterrupts
from vferry.nic.ixgbe.mailbox import Mailboxes, VfMailbox
from vferry.nic.ixgbe.pci_config import VfConfigSpace
from vferry.nic.ixgbe.queue_state import QueueState
from vferry.nic.ixgbe.queues import PeekThrough, QueueHeads, QueueTables, queue_slots, queues_per_pool, shared_slots
from vferry.nic.ixgbe.register_file import RegisterFile
from vferry.nic.ixgbe.registers import pf, vf
from vferry.nic.ixgbe.registers.declare import Reset
from vferry.nic.ixgbe.switch import FILTER_OFFSETS, Switch, SwitchLoss
from vferry.nic.ixgbe.vf_queues import VfQueues

__all__ = ["Ixgbe82599", "LinkSpeedError", "NoMemoryError", "NoSuchVfError"]

_SPEEDS: Final = {100: pf.LINKS_SPEED_100M, 1000: pf.LINKS_SPEED_1G, 10000: pf.LINKS_SPEED_10G}

_NEVER_SENT: Final = frozenset(
    {
        *(SwitchLoss.VFTE_OFF, SwitchLoss.SPOOFED_MAC, SwitchLoss.SPOOFED_VLAN),
        *(SwitchLoss.TOO_SHORT, SwitchLoss.RATE_LIMITED),
    }
)
"""Why a frame never left the pool that sent it, so that the pool's counters do not have it."""


_COMPUTED: Final = frozenset(
    {
        *(vf.VFGPRC, vf.VFGORC_LSB, vf.VFGORC_MSB, vf.VFMPRC, vf.VFGPTC, vf.VFGOTC_LSB, vf.VFGOTC_MSB),
        vf.VFFRTIMER,
    }
)
"""The VF's registers whose value is not stored."""


class NoSuchVfError(UsageError):
    """The device has no VF of that number."""

    def __init__(self, index: int, count: int) -> None:
        super().__init__("find a VF of the device", vf=index, why=f"VFs are 0 to {count - 1}")


class NoMemoryError(UsageError):
    """The VF has no guest memory attached."""

    def __init__(self, index: int) -> None:
        super().__init__("work a VF's queues", vf=index, why="no guest memory is attached to it")


class LinkSpeedError(UsageError):
    """The 82599 has no link of that speed."""

    def __init__(self, speed: int) -> None:
        self.speed = speed
        super().__init__("set the link", why=f"{speed} Mb/s is not one of 100, 1000 and 10000")


class _VfPort:
    """A VF's side of the device."""

    __slots__ = ("bar", "config", "interrupts", "queues")

    def __init__(self, index: int, pf_bar: RegisterFile, *, heads_writable: bool) -> None:
        slots = shared_slots(pf_bar, index) | queue_slots(pf_bar, index, queues_per_pool(0))
        self.bar: Final = RegisterFile(vf.VF_MAP, words=pf_bar.words, shared=slots)
        self.config: Final = VfConfigSpace()
        self.interrupts: Final = VfInterrupts(index, self.bar)
        self.queues: VfQueues | None = None
        QueueHeads(self.bar, vf.VFRDH, vf.VFRXDCTL, writable=heads_writable)
        QueueHeads(self.bar, vf.VFTDH, vf.VFTXDCTL, writable=heads_writable)
        for view in vf.VIEWS:
            if view.vf in _COMPUTED:
                offset = view.pf.address(index if view.per is vf.Per.POOL else 0)
                self.bar.hook(view.vf, view=PeekThrough(pf_bar, offset).view)


class Ixgbe82599:
    """One port of an 82599 with all its VFs.

    :param now: seconds on any clock, for the rate limiter and the free running timer.
    :param permanent_address: six octets, which a reset of the device puts in RAL[0]/RAH[0].
    :param pools: how many VFs there are at most, 1 to 64.
    :raises ValueError: the address is not six octets long, or the number of pools is not 1 to 64.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float],
        permanent_address: bytes,
        pools: int = pf.POOLS,
        head_writable_when_disabled: bool = True,
        flr_clears_enables: bool = True,
    ) -> None:
        if len(permanent_address) != 6 or not 1 <= pools <= pf.POOLS:
            raise ValueError(f"no 82599 has the address {permanent_address.hex()} and {pools} pools")
        self.bar: Final = RegisterFile(pf.PF_MAP)
        """The PF's BAR0. Its ``read``, ``write`` and ``peek`` are the device's own, without a call between."""
        self.read: Final[Callable[[int], int]] = self.bar.read
        self.write: Final[Callable[[int, int], None]] = self.bar.write
        self.peek: Final[Callable[[int], int]] = self.bar.peek
        self.pools: Final[int] = pools
        self.wire: Callable[[bytes], None] = _nowhere
        """Takes a frame that leaves by the uplink."""
        self.sinks: Final[list[Callable[[bytes], None] | None]] = [None] * pf.POOLS
        """By pool: takes a frame for its receive queue; None: there is no driver, and the frame is lost."""
        self.losses: Final[dict[tuple[SwitchLoss, int], int]] = {}
        """How many frames were lost, by reason and pool (see :class:`~vferry.nic.ixgbe.switch.SwitchLoss`)."""
        self.counters: Final = Counters(self.bar)
        self._now: Final = now
        self._permanent_address: Final = permanent_address
        self._heads_writable: Final[bool] = head_writable_when_disabled
        self._flr_clears_enables: Final[bool] = flr_clears_enables
        self._link: int = 0
        self._interrupts: Final = PfInterrupts(self.bar)
        self._vfs: Final = [
            _VfPort(index, self.bar, heads_writable=head_writable_when_disabled) for index in range(pools)
        ]
        vf_interrupts = [port.interrupts for port in self._vfs]
        PfViews(self.bar, vf_interrupts)
        self._mailboxes: Final = Mailboxes(self.bar, self._interrupts, vf_interrupts)
        self.switch: Final = Switch(
            peek=self.bar.peek,
            poke=self.bar.poke,
            now=now,
            deliver=self._deliver,
            uplink=self._uplink,
            lose=self._lose,
        )
        self.receive: Final[Callable[[bytes], None]] = self.switch.receive
        """Takes a frame from the uplink."""
        self._switch_transmit: Final[Callable[[int, bytes], None]] = self.switch.transmit
        self._tables: Final = QueueTables(self.bar, self.switch.set_rate)
        self._hook_registers()
        self.power_on()

    def _hook_registers(self) -> None:
        """Give behaviour to the registers that concern the device as a whole."""
        bar = self.bar
        QueueHeads(bar, pf.PVFRDH, pf.PVFRXDCTL, writable=self._heads_writable)
        QueueHeads(bar, pf.PVFTDH, pf.PVFTXDCTL, writable=self._heads_writable)
        for name in {place[0].name for offset in FILTER_OFFSETS if (place := pf.PF_MAP.at(offset))}:
            bar.hook(pf.PF_MAP.named(name), effect=self._filters_changed)
        bar.hook(pf.FRTIMER, view=self._microseconds)
        bar.hook(pf.CTRL, effect=self._control)
        bar.hook(pf.GCR_EXT, effect=self._regroup)
        bar.hook(pf.PVFCTRL, effect=self._vf_control)
        for index, port in enumerate(self._vfs):
            VfMailbox(index, port.bar, self._mailboxes)
            port.bar.hook(vf.VFCTRL, effect=_OfVf(index, self._vf_control).effect)

    # Registers

    def vf_bar(self, index: int) -> RegisterFile:
        """Return a VF's BAR0.

        :raises NoSuchVfError: there is no such VF.
        """
        return self._port(index).bar

    def vf_read(self, index: int, offset: int) -> int:
        """Return a word of a VF's BAR0, as its driver reads it.

        :raises NoSuchVfError: there is no such VF.
        :raises AccessError: `offset` is no word of the BAR.
        """
        return self._port(index).bar.read(offset)

    def vf_write(self, index: int, offset: int, value: int) -> None:
        """Write a word of a VF's BAR0, as its driver does.

        :raises NoSuchVfError: there is no such VF.
        :raises AccessError: `offset` is no word of the BAR.
        """
        self._port(index).bar.write(offset, value)

    def vf_peek(self, index: int, offset: int) -> int:
        """Return what a read of a VF's BAR0 would, and change nothing.

        :raises NoSuchVfError: there is no such VF.
        :raises AccessError: `offset` is no word of the BAR.
        """
        return self._port(index).bar.peek(offset)

    def vf_config_read(self, index: int, offset: int, size: int) -> int:
        """Return 1, 2 or 4 octets of a VF's configuration space.

        :raises NoSuchVfError: there is no such VF.
        :raises ConfigAccessError: not on the size's boundary, or outside.
        """
        return self._port(index).config.read(offset, size)

    def vf_config_write(self, index: int, offset: int, size: int, value: int) -> None:
        """Write 1, 2 or 4 octets of a VF's configuration space.

        :raises NoSuchVfError: there is no such VF.
        :raises ConfigAccessError: not on the size's boundary, or outside.
        """
        self._port(index).config.write(offset, size, value)

    def vf_config(self, index: int) -> VfConfigSpace:
        """Return a VF's configuration space.

        :raises NoSuchVfError: there is no such VF.
        """
        return self._port(index).config

    def _port(self, index: int) -> _VfPort:
        if not 0 <= index < self.pools:
            raise NoSuchVfError(index, self.pools)
        return self._vfs[index]

    # Interrupts

    @property
    def on_pf_interrupt(self) -> Callable[[], None]:
        """Called when a cause that EIMS lets through is raised in EICR. It may come in the midst of an access."""
        return self._interrupts.notify

    @on_pf_interrupt.setter
    def on_pf_interrupt(self, notify: Callable[[], None]) -> None:
        self._interrupts.notify = notify

    @property
    def on_vf_interrupt(self) -> Callable[[int, int], None]:
        """Called with a VF and its MSI-X vector when a cause that VTEIMS lets through is raised in VTEICR.

        Whether the message would get out is for who emulates PCI: :attr:`VfConfigSpace.bus_master` and
        :attr:`VfConfigSpace.msix_passes` tell.
        """
        return self._vfs[0].interrupts.notify

    @on_vf_interrupt.setter
    def on_vf_interrupt(self, notify: Callable[[int, int], None]) -> None:
        for port in self._vfs:
            port.interrupts.notify = notify

    # Queues over the guest's memory

    def attach_memory(self, index: int, memory: GuestMemory) -> VfQueues:
        """Let a VF work its rings in its guest's memory; what the switch leads to it goes there, not to its sink.

        :raises NoSuchVfError: there is no such VF.
        """
        port = self._port(index)
        port.queues = VfQueues(
            *(index, port.bar, self.bar, memory),
            config=port.config,
            interrupts=port.interrupts,
            counters=self.counters,
            transmit=self.transmit,
            now=self._now,
        )
        self.sinks[index] = port.queues.receive
        return port.queues

    def detach_memory(self, index: int) -> None:
        """Take the guest's memory away for good; its rings stay as they are.

        :raises NoSuchVfError: there is no such VF.
        """
        port = self._port(index)
        if port.queues is not None:
            port.queues.stop()
            port.queues, self.sinks[index] = None, None

    def queues(self, index: int) -> VfQueues:
        """Return the queues of a VF whose guest's memory is attached.

        :raises NoSuchVfError: there is no such VF.
        :raises NoMemoryError: no memory is attached.
        """
        queues = self._port(index).queues
        if queues is None:
            raise NoMemoryError(index)
        return queues

    def queue_state(self, index: int) -> QueueState:
        """Return what a VF's queues are; see :meth:`.VfQueues.state`."""
        return self.queues(index).state()

    def load_queue_state(self, index: int, state: QueueState) -> None:
        """Give a VF's queues a state, and leave them stopped; see :meth:`.VfQueues.load`.

        :raises QueueStateError: it is not of such a VF; nothing was changed.
        """
        self.queues(index).load(state)

    def kick(self, index: int) -> None:
        """Let a VF's queues go on; see :meth:`.VfQueues.kick`."""
        self.queues(index).kick()

    def next_service(self) -> float | None:
        """Return when :meth:`service` has something to do, on the clock of ``now``; None: nothing waits."""
        times = [self.switch.next_release(), *(port.queues.next_service() for port in self._vfs if port.queues)]
        return min((time for time in times if time is not None), default=None)

    def service(self) -> None:
        """Do what waited for its time: frames beyond a rate, vectors held back, queues that had done their share."""
        self.switch.service(self._now())
        for port in self._vfs:
            if port.queues is not None:
                port.queues.service()

    # Resets and link

    def power_on(self) -> None:
        """Return everything but the link, the sinks and the count of losses to its state after power-on."""
        for port in self._vfs:
            port.config.reset()
        self._reset_device(Reset.POWER_ON)

    def flr(self, index: int) -> None:
        """Reset one VF: its configuration space and its registers, except those that VFLR leaves alone.

        The PF hears of it by VFLRE and EICR.MAILBOX.

        :raises NoSuchVfError: there is no such VF.
        """
        self._port(index).config.reset()
        self._reset_vf(index, Reset.FLR)

    def set_link(self, up: bool, speed: int = 10_000) -> None:  # noqa: FBT001
        """Let the link come up at `speed` Mb/s, or go down; EICR.LSC tells the PF if anything changed.

        :raises LinkSpeedError: `speed` is not 100, 1000 or 10000.
        """
        if speed not in _SPEEDS:
            raise LinkSpeedError(speed)
        before = self._link
        self._link = pf.LINKS_UP | _SPEEDS[speed] if up else 0
        self.bar.poke(pf.LINKS.offset, self._link)
        if up:
            self.switch.set_link_speed(speed)
        if self._link != before:
            self._interrupts.raise_causes(pf.EICR_LSC)

    def _reset_device(self, kind: Reset) -> None:
        for port in self._vfs:
            port.bar.reset(kind)
        self.bar.reset(kind)
        self.bar.poke(pf.RAL.offset, int.from_bytes(self._permanent_address[:4], "little"))
        self.bar.poke(pf.RAH.offset, int.from_bytes(self._permanent_address[4:], "little") | pf.RAH_AV)
        self.bar.poke(pf.LINKS.offset, self._link)
        for pool in range(pf.POOLS):
            self.switch.discard(pool)
        self.counters.clear()
        self._regroup(0, 0)
        for port in self._vfs:
            if port.queues is not None:
                port.queues.reset()
                port.queues.reset_counters()

    def _reset_vf(self, index: int, kind: Reset) -> None:
        bar, queues = self._vfs[index].bar, self._vfs[index].queues
        bar.reset(kind)
        if queues is not None:
            queues.reset()
        if not self._heads_writable:
            for offset in (*vf.VFRDH.addresses, *vf.VFTDH.addresses):
                bar.poke(offset, 0)
        if self._flr_clears_enables:
            for register in (pf.VFRE, pf.VFTE):
                offset = register.address(index >> 5)
                self.bar.poke(offset, self.bar.peek(offset) & ~(1 << (index & 31)))
        self.switch.discard(index)
        self.switch.changed()
        self._mailboxes.vf_was_reset(index)

    def _control(self, _index: int, written: int) -> None:
        if written & pf.CTRL_RST:
            self._reset_device(Reset.PF_SOFTWARE)

    def _vf_control(self, index: int, written: int) -> None:
        if written & vf.VFCTRL_RST and index < self.pools:
            self._reset_vf(index, Reset.VF_SOFTWARE)

    def _regroup(self, _index: int, written: int) -> None:
        """Give the VFs the queues that GCR_EXT.VT_MODE leaves them."""
        per_pool = queues_per_pool(written)
        if per_pool != self._tables.per_pool:
            for index, port in enumerate(self._vfs):
                port.bar.share(queue_slots(self.bar, index, per_pool))
                if port.queues is not None:
                    port.queues.regroup()
        self._tables.regroup(per_pool)

    def _filters_changed(self, _index: int, _written: int) -> None:
        self.switch.changed()

    def _microseconds(self, _index: int) -> int:
        return int(self._now() * 1e6) & 0xFFFFFFFF

    # Frames

    def transmit(self, pool: int, frame: bytes) -> None:
        """Take a frame from a pool's transmit queue; the PF's own pool is VT_CTL's default pool.

        :param pool: 0 to 63: the pool of a VF has its number, and what lies beyond the VFs is the PF's. Not checked:
            frames are many.
        :param frame: from the destination address on, 802.1Q tag inline, without FCS.
        """
        self.counters.tx_packets[pool] += 1
        self.counters.tx_octets[pool] += len(frame) + FCS
        self._switch_transmit(pool, frame)

    def _deliver(self, pool: int, frame: bytes) -> None:
        sink = self.sinks[pool]
        if sink is None:
            self._lose(SwitchLoss.NO_SINK, pool, frame)
        else:
            self.counters.count_rx(pool, frame)
            sink(frame)

    def _uplink(self, frame: bytes) -> None:
        self.wire(frame)

    def _lose(self, reason: SwitchLoss, pool: int, frame: bytes) -> None:
        self.losses[reason, pool] = self.losses.get((reason, pool), 0) + 1
        if reason in _NEVER_SENT and pool < pf.POOLS:
            self.counters.uncount_tx(pool, len(frame))


class _OfVf:
    """An effect in a VF's BAR as one of the PF's, by the VF."""

    __slots__ = ("_index", "_to")

    def __init__(self, index: int, to: Callable[[int, int], None]) -> None:
        self._index: Final[int] = index
        self._to: Final = to

    def effect(self, _index: int, written: int) -> None:
        """Pass on what was written."""
        self._to(self._index, written)


def _nowhere(_frame: bytes) -> None:
    """Where frames go that leave by an uplink without a cable."""
