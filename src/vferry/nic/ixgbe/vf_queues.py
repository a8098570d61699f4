# SPDX-License-Identifier: Apache-2.0
"""A VF's queues over its guest's memory: what the device does when the driver writes a tail, or a frame comes in.

The guest is not trusted. Whatever its descriptors and registers say, a run ends after a bounded amount of work, nothing
outside of its memory is reached, and what cannot be done disables the queue, sets its bit in WQBR, and is counted in
:attr:`VfQueues.faults`, as the hardware's detection of malicious drivers does; the driver's next reset of the VF
enables it again. The hardware's own checks are not known in detail: which mistakes it would let pass is not modelled.

A VF that is stopped, or whose COMMAND has bus mastering off, touches no memory: it takes no frame and sends none.

Frames that reached the VF and did not reach its guest are not in VFGPRC, VFGORC and VFMPRC, but in
:attr:`VfQueues.drops` (that the hardware counts so is an assumption). The VF sees its counters from a base on, so that
they go on where they were before it moved; the PF sees the device's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from vferry.nic.ixgbe import packet, queue_state
from vferry.nic.ixgbe.counters import FCS, Counters
from vferry.nic.ixgbe.frame import BROADCAST, is_group
from vferry.nic.ixgbe.guest_memory import GuestMemory
from vferry.nic.ixgbe.interrupts import VfInterrupts
from vferry.nic.ixgbe.pci_config import VfConfigSpace
from vferry.nic.ixgbe.queue_interrupts import QueueInterrupts
from vferry.nic.ixgbe.queue_state import (
    ARRAY_REGISTERS,
    RECEIVE_REGISTERS,
    TRANSMIT_REGISTERS,
    WORD_REGISTERS,
    CounterState,
    InterruptState,
    QueueState,
    ReceiveState,
    TransmitState,
)
from vferry.nic.ixgbe.queues import queues_per_pool
from vferry.nic.ixgbe.receive import QueueDrop, ReceiveQueue
from vferry.nic.ixgbe.register_file import RegisterFile
from vferry.nic.ixgbe.registers import pf, vf
from vferry.nic.ixgbe.registers.declare import Register
from vferry.nic.ixgbe.rings import ENABLE, QueueFault
from vferry.nic.ixgbe.rss import Rss
from vferry.nic.ixgbe.transmit import TransmitQueue

__all__ = ["VfQueues"]

_UNREAD: Final = vf.VFMAILBOX_R2C_BITS
"""PFSTS, PFACK, RSTD: the driver has yet to look."""


class VfQueues:
    """The queues of one VF.

    :param index: the VF.
    :param bar: its registers, of which tails, queue controls and counters get their behaviour here.
    :param device: the PF's registers.
    :param memory: the guest's.
    :param transmit: takes a frame of the VF.
    :param now: seconds, for moderation.
    """

    def __init__(
        self,
        index: int,
        bar: RegisterFile,
        device: RegisterFile,
        memory: GuestMemory,
        *,
        config: VfConfigSpace,
        interrupts: VfInterrupts,
        counters: Counters,
        transmit: Callable[[int, bytes], None],
        now: Callable[[], float],
    ) -> None:
        self.faults: Final[dict[tuple[QueueFault, str, int], int]] = {}
        """How often a queue was disabled: by why, "rx" or "tx", and queue."""
        self.drops: Final[dict[tuple[QueueDrop, int], int]] = {}
        """Frames that did not reach the guest: by why and queue."""
        self.stopped: bool = False
        self.interrupts: Final = QueueInterrupts(bar, interrupts, now)
        self._index: Final[int] = index
        self._bar: Final = bar
        self._device: Final = device
        self._memory: Final = memory
        self._config: Final = config
        self._mailbox: Final = interrupts
        self._counters: Final = _VfCounters(bar, counters, index)
        self._transmit: Final = transmit
        self._now: Final = now
        self._rss: Final = Rss(device)
        self._psrtype: Final[int] = bar.slot(vf.VFPSRTYPE.offset)
        self._receivers: list[ReceiveQueue] = []
        self._senders: list[TransmitQueue] = []
        bar.hook(vf.VFTDT, effect=self._tail_moved)
        bar.hook(vf.VFTXDCTL, effect=self._tail_moved)
        self.regroup()

    def regroup(self) -> None:
        """Take over the queues that GCR_EXT.VT_MODE leaves the VF now; contexts are forgotten."""
        count = queues_per_pool(self._device.peek(pf.GCR_EXT.offset))
        bar = self._bar
        self._receivers = [ReceiveQueue(bar, queue, fault=self._receive_fault) for queue in range(count)]
        self._senders = [
            TransmitQueue(
                *(bar, queue, self._memory),
                running=self._may_run,
                send=self._send,
                done=self.interrupts.transmitted,
                fault=self._transmit_fault,
            )
            for queue in range(count)
        ]

    def reset(self) -> None:
        """Forget contexts and held vectors, as a reset of the VF does. Counters go on."""
        self.interrupts.reset()
        for sender in self._senders:
            sender.reset()

    def reset_counters(self) -> None:
        """Begin where the device's counters do, as a reset of the device does."""
        self._counters.rebase(CounterState())

    # Work

    def _may_run(self) -> bool:
        """Return whether the VF may touch memory."""
        return not self.stopped and self._config.bus_master

    def receive(self, frame: bytes) -> None:
        """Take a frame from the switch: a sink (:attr:`~vferry.nic.ixgbe.hardware.Ixgbe82599.sinks`)."""
        if self.stopped or not self._config.bus_master:
            self._drop(QueueDrop.STOPPED if self.stopped else QueueDrop.NO_DMA, 0, frame)
            return
        parsed = packet.parse(frame)
        kind, value, queue = self._rss.choose(frame, parsed, self._bar.words[self._psrtype])
        queue = queue if queue < len(self._receivers) else 0
        why = self._receivers[queue].put(self._memory, frame, parsed.type | kind, value, packet.check(frame, parsed))
        if why is None:
            self.interrupts.received(queue)
        else:
            self._drop(why, queue, frame)

    def _drop(self, why: QueueDrop, queue: int, frame: bytes) -> None:
        self.drops[why, queue] = self.drops.get((why, queue), 0) + 1
        self._counters.uncount_rx(frame)

    def _tail_moved(self, queue: int, _written: int) -> None:
        if queue < len(self._senders):
            self._senders[queue].run()

    def _send(self, frame: bytes) -> None:
        self._transmit(self._index, frame)

    def _receive_fault(self, queue: int, fault: QueueFault) -> None:
        self._blocked(pf.WQBR_RX, fault, "rx", queue)

    def _transmit_fault(self, queue: int, fault: QueueFault) -> None:
        self._blocked(pf.WQBR_TX, fault, "tx", queue)

    def _blocked(self, register: Register, fault: QueueFault, direction: str, queue: int) -> None:
        key = fault, direction, queue
        self.faults[key] = self.faults.get(key, 0) + 1
        place = self._index * len(self._senders) + queue
        offset = register.address(place >> 5)
        self._device.poke(offset, self._device.peek(offset) | 1 << (place & 31))

    def stop(self) -> None:
        """Touch no memory and raise nothing from now on."""
        self.stopped = True

    def kick(self) -> None:
        """Go on: send what is between heads and tails, and raise once whatever the driver might wait for.

        An interrupt on its way is lost when a VM moves, and one too many is harmless: the driver looks at its rings and
        finds nothing. The mailbox's is raised where there is something unread in it.
        """
        self.stopped = False
        vectors = self.interrupts.held
        for queue, (receiver, sender) in enumerate(zip(self._receivers, self._senders, strict=True)):
            self._tail_moved(queue, 0)
            if receiver.ring.control & ENABLE or sender.ring.control & ENABLE:
                vectors |= self.interrupts.vectors(queue)
        if vectors:
            self.interrupts.raise_now(vectors)
        if self._bar.peek(vf.VFMAILBOX.offset) & _UNREAD:
            self._mailbox.raise_mailbox()

    def next_service(self) -> float | None:
        """Return when :meth:`service` has something to do; None: nothing waits."""
        if not self._may_run():
            return None
        if any(sender.unfinished for sender in self._senders):
            return self._now()
        return self.interrupts.next_service()

    def service(self) -> None:
        """Do what waited for its time: vectors that were held back, and queues that had done their share."""
        if not self._may_run():
            return
        for queue, sender in enumerate(self._senders):
            if sender.unfinished:
                self._tail_moved(queue, 0)
        self.interrupts.service()

    # State

    def state(self) -> QueueState:
        """Return what the VF's queues are; meaningful while it is stopped."""
        count = range(len(self._senders))
        return QueueState(
            receive=tuple(msgspec.convert(self._words(RECEIVE_REGISTERS, queue), ReceiveState) for queue in count),
            transmit=tuple(
                msgspec.convert(
                    {**self._words(TRANSMIT_REGISTERS, queue), "contexts": tuple(self._senders[queue].contexts)},
                    TransmitState,
                )
                for queue in count
            ),
            interrupts=self._interrupt_state(),
            counters=self._counters.shown(),
        )

    def _words(self, registers: dict[str, Register], index: int) -> dict[str, int]:
        return {name: self._bar.peek(register.addresses[index]) for name, register in registers.items()}

    def _interrupt_state(self) -> InterruptState:
        arrays = {name: tuple(map(self._bar.peek, item.addresses)) for name, item in ARRAY_REGISTERS.items()}
        moderation = {"held": self.interrupts.held, "remaining": self.interrupts.remaining()}
        return msgspec.convert({**self._words(WORD_REGISTERS, 0), **arrays, **moderation}, InterruptState)

    def load(self, state: QueueState) -> None:
        """Become what `state` says, as the device keeps it: nothing is sent, nothing fires, until :meth:`kick`.

        :raises QueueStateError: it is not of such a VF; nothing was changed.
        """
        queue_state.check(state, len(self._senders))
        self.stopped = True
        poke = self._bar.poke
        for queue, receive in enumerate(state.receive):
            for name, item in RECEIVE_REGISTERS.items():
                poke(item.addresses[queue], getattr(receive, name))
        for queue, transmit in enumerate(state.transmit):
            for name, item in TRANSMIT_REGISTERS.items():
                poke(item.addresses[queue], getattr(transmit, name))
            self._senders[queue].contexts[:] = transmit.contexts
            self._senders[queue].unfinished = False
        for name, item in WORD_REGISTERS.items():
            poke(item.offset, getattr(state.interrupts, name))
        for name, item in ARRAY_REGISTERS.items():
            for offset, value in zip(item.addresses, getattr(state.interrupts, name), strict=True):
                poke(offset, value)
        self.interrupts.go_on(state.interrupts.held, state.interrupts.remaining)
        self._counters.rebase(state.counters)


class _VfCounters:
    """A VF's counters as it sees them: the device's, from a base on.

    :param bar: the VF's registers, which show them.
    """

    def __init__(self, bar: RegisterFile, counters: Counters, pool: int) -> None:
        self._pool: Final[int] = pool
        self._device: Final = counters
        self._base: CounterState = CounterState()
        bar.hook(vf.VFGPRC, view=lambda _: self.shown().rx_packets & 0xFFFFFFFF)
        bar.hook(vf.VFGORC_LSB, view=lambda _: self.shown().rx_octets & 0xFFFFFFFF)
        bar.hook(vf.VFGORC_MSB, view=lambda _: self.shown().rx_octets >> 32 & 0xF)
        bar.hook(vf.VFMPRC, view=lambda _: self.shown().rx_multicast & 0xFFFFFFFF)
        bar.hook(vf.VFGPTC, view=lambda _: self.shown().tx_packets & 0xFFFFFFFF)
        bar.hook(vf.VFGOTC_LSB, view=lambda _: self.shown().tx_octets & 0xFFFFFFFF)
        bar.hook(vf.VFGOTC_MSB, view=lambda _: self.shown().tx_octets >> 32 & 0xF)

    def _counted(self) -> dict[str, int]:
        return {name: getattr(self._device, name)[self._pool] for name in queue_state.COUNTERS}

    def shown(self) -> CounterState:
        """Return what the VF sees, not wrapped."""
        return CounterState(**{name: value + getattr(self._base, name) for name, value in self._counted().items()})

    def rebase(self, shown: CounterState) -> None:
        """Let the VF see these values now."""
        base = {name: getattr(shown, name) - value for name, value in self._counted().items()}
        self._base = CounterState(**base)

    def uncount_rx(self, frame: bytes) -> None:
        """Take a frame back that the device counted, and that did not reach the guest."""
        device, pool = self._device, self._pool
        device.rx_packets[pool] -= 1
        device.rx_octets[pool] -= len(frame) + FCS
        device.rx_multicast[pool] -= is_group(frame) and frame[:6] != BROADCAST
