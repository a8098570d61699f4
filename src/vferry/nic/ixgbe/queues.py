# SPDX-License-Identifier: Apache-2.0
"""Whose queue is whose, and what is peculiar about queue registers: heads, and tables behind a select register.

A pool has 8, 4 or 2 queues in 16, 32 and 64 pool mode (GCR_EXT.VT_MODE); queue ``q`` of VF ``v`` is global queue
``v * queues per pool + q``. A VF whose pool has fewer than eight queues has nothing at the other offsets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vferry.nic.ixgbe.register_file import ABSENT, RegisterFile
from vferry.nic.ixgbe.registers import pf, vf
from vferry.nic.ixgbe.registers.declare import Register

__all__ = ["PeekThrough", "QueueHeads", "QueueTables", "queue_slots", "queues_per_pool", "shared_slots"]

_QUEUES: Final = {pf.GCR_EXT_VT_MODE_16: 8, pf.GCR_EXT_VT_MODE_32: 4, pf.GCR_EXT_VT_MODE_64: 2}


def queues_per_pool(gcr_ext: int) -> int:
    """Return how many queues a pool has; without VT mode, where VFs do not exist, as with 64 pools."""
    return _QUEUES.get(gcr_ext & pf.GCR_EXT_VT_MODE_MASK, 2)


def queue_slots(bar: RegisterFile, index: int, per_pool: int) -> dict[int, int]:
    """Return where a VF's queue registers are in the PF's storage, by their offset in the VF's BAR.

    :param bar: the PF's registers.
    :param index: the VF.
    """
    slots: dict[int, int] = {}
    for view in vf.VIEWS:
        if view.per is vf.Per.QUEUE:
            for queue, offset in enumerate(view.vf.addresses):
                there = index * per_pool + queue
                exists = queue < per_pool and there < pf.QUEUES
                slots[offset] = bar.slot(view.pf.address(there)) if exists else ABSENT
    return slots


def shared_slots(bar: RegisterFile, index: int) -> dict[int, int]:
    """Return the same for the VF's registers that are not of a queue."""
    slots: dict[int, int] = {}
    for view in vf.VIEWS:
        first = {vf.Per.DEVICE: 0, vf.Per.POOL: index, vf.Per.POOL_WORDS: index * view.vf.count}.get(view.per)
        if first is not None:
            for element, offset in enumerate(view.vf.addresses):
                slots[offset] = bar.slot(view.pf.address(first + element))
    return slots


class PeekThrough:
    """The view of a VF's register whose value the PF's register computes."""

    __slots__ = ("_bar", "_offset")

    def __init__(self, bar: RegisterFile, offset: int) -> None:
        self._bar: Final = bar
        self._offset: Final[int] = offset

    def view(self, _index: int) -> int:
        """Return what the PF's register shows."""
        return self._bar.peek(self._offset)


class QueueHeads:
    """RDH or TDH: written by hardware as it works; by software, if at all, while the queue is disabled.

    :param bar: the PF's registers or a VF's.
    :param head: the register.
    :param control: RXDCTL or TXDCTL, whose bit 25 enables the queue.
    :param writable: whether software can write it while the queue is disabled.
    """

    __slots__ = ("_bar", "_control", "_writable")

    def __init__(self, bar: RegisterFile, head: Register, control: Register, *, writable: bool) -> None:
        self._bar: Final = bar
        self._control: Final = control
        self._writable: Final[bool] = writable
        bar.hook(head, guard=self._guard)

    def _guard(self, index: int, stored: int, written: int) -> int:
        enabled = self._bar.words[self._bar.slot(self._control.addresses[index])] & pf.TXDCTL_ENABLE
        return written if self._writable and not enabled else stored


class QueueTables:
    """RTTBCNRC by RTTDQSEL, and QDE.

    :param bar: the PF's registers, which get their behaviour here.
    :param set_rate: is told the pool and the value, when RTTBCNRC was written for one of the pool's queues.
    """

    def __init__(self, bar: RegisterFile, set_rate: Callable[[int, int], None]) -> None:
        self.per_pool: int = queues_per_pool(0)
        self._words: Final = bar.words
        self._set_rate: Final = set_rate
        self._select: Final[int] = bar.slot(pf.RTTDQSEL.offset)
        self._qde: Final[int] = bar.slot(pf.QDE.offset)
        self._rates: Final[int] = bar.slot(pf.QUEUE_RATE.offset)
        self._drops: Final[int] = bar.slot(pf.QUEUE_DROP.offset)
        bar.hook(pf.RTTBCNRC, view=self._rate, guard=self._keep, effect=self._write_rate)
        bar.hook(pf.QDE, effect=self._write_drop)

    def regroup(self, per_pool: int) -> None:
        """Let pools have so many queues; each pool's rate is the one of its first queue then."""
        self.per_pool = per_pool
        for pool in range(pf.POOLS):
            queue = pool * per_pool
            self._set_rate(pool, self._words[self._rates + queue] if queue < pf.QUEUES else 0)

    def _selected(self) -> int:
        return self._words[self._select] & pf.RTTDQSEL_TXDQ_IDX_MASK

    def _rate(self, _index: int) -> int:
        return self._words[self._rates + self._selected()]

    def _keep(self, _index: int, stored: int, _written: int) -> int:
        return stored

    def _write_rate(self, _index: int, written: int) -> None:
        queue = self._selected()
        self._words[self._rates + queue] = written
        self._set_rate(queue // self.per_pool, written)

    def _write_drop(self, _index: int, written: int) -> None:
        queue = (written & pf.QDE_IDX_MASK) >> pf.QDE_IDX_SHIFT
        bits = pf.QDE_ENABLE | pf.QDE_HIDE_VLAN
        if written & pf.QDE_WRITE:
            self._words[self._drops + queue] = written & bits
        if written & pf.QDE_READ:
            self._words[self._qde] = (self._words[self._qde] & ~bits) | self._words[self._drops + queue]
