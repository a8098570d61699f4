# SPDX-License-Identifier: Apache-2.0
"""From a queue's work to a VF's MSI-X vector: VTIVAR says which, VTEITR how often.

A vector that was passed on is not passed on again before its interval is over: until then a cause waits *here*, and is
not in VTEICR yet. Causes, masks, auto-mask and auto-clear are those of
:class:`~vferry.nic.ixgbe.interrupts.VfInterrupts`. The interval runs from the instant at which the vector fired, so a
cause that waited in VTEICR for its mask begins one when it is unmasked.

Only queues are held back. The mailbox's vector, which is another one with ixgbevf, fires at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from vferry.nic.ixgbe.interrupts import VfInterrupts
from vferry.nic.ixgbe.register_file import RegisterFile
from vferry.nic.ixgbe.registers import vf

__all__ = ["LONGEST_INTERVAL", "QueueInterrupts"]

EITR_INTERVAL_SHIFT: Final = 3
EITR_INTERVAL_MASK: Final = 0x1FF
EITR_UNIT: Final = 2e-6
"""Seconds: 200, which ixgbevf calls 20,000 a second, is 25 units (IXGBE_20K_ITR). At 100 Mb/s the unit is longer
(82599 datasheet, 8.2.3.5.12); that is not modelled."""
EITR_CNT_WDIS: Final = 1 << 31
"""In a write: the running interval goes on. Without it, it ends."""
LONGEST_INTERVAL: Final = EITR_INTERVAL_MASK * EITR_UNIT


class QueueInterrupts:
    """The causes of one VF's queues.

    :param bar: the VF's registers, of which VTEIMS and VTEITR get their behaviour here.
    :param interrupts: the VF's causes and masks.
    :param now: seconds.
    """

    def __init__(self, bar: RegisterFile, interrupts: VfInterrupts, now: Callable[[], float]) -> None:
        self.held: int = 0
        """Vectors, as bits, that wait for the end of their interval."""
        self._words: Final = bar.words
        self._interrupts: Final = interrupts
        self._now: Final = now
        self._free_at: Final = [0.0] * vf.VECTORS
        """By vector: when its interval is over."""
        self._vtivar: Final = [bar.slot(offset) for offset in vf.VTIVAR.addresses]
        self._vteitr: Final = [bar.slot(offset) for offset in vf.VTEITR.addresses]
        self._causes: Final[int] = bar.slot(vf.VTEICR.offset)
        self._masks: Final[int] = bar.slot(vf.VTEIMS.offset)
        bar.hook(vf.VTEIMS, effect=self._unmask)
        bar.hook(vf.VTEITR, effect=self._set_interval)

    def reset(self) -> None:
        """Forget what waits."""
        self.held = 0
        self._free_at[:] = [0.0] * vf.VECTORS

    def received(self, queue: int) -> None:
        """Tell that a receive queue has something for its driver."""
        self._raise(self._words[self._vtivar[queue >> 1]] >> 16 * (queue & 1))

    def transmitted(self, queue: int) -> None:
        """Tell that a transmit queue has written descriptors back."""
        self._raise(self._words[self._vtivar[queue >> 1]] >> 16 * (queue & 1) + 8)

    def vectors(self, queue: int) -> int:
        """Return the vectors, as bits, of a queue pair."""
        entries = self._words[self._vtivar[queue >> 1]] >> 16 * (queue & 1)
        return _bit(entries) | _bit(entries >> 8)

    def _raise(self, entry: int) -> None:
        bit = _bit(entry)
        if not bit or self.held & bit:
            return
        free_at = self._free_at[bit.bit_length() - 1]
        if free_at and free_at > self._now():
            self.held |= bit
        else:
            self.raise_now(bit)

    def raise_now(self, vectors: int) -> None:
        """Pass vectors on, whatever their intervals."""
        self.held &= ~vectors
        self._begin(vectors & self._words[self._masks])
        self._interrupts.set_causes(0, vectors)

    def _begin(self, vectors: int) -> None:
        """Begin the intervals of vectors that fire."""
        for vector in range(vf.VECTORS):
            if vectors >> vector & 1:
                interval = self._words[self._vteitr[vector]] >> EITR_INTERVAL_SHIFT & EITR_INTERVAL_MASK
                self._free_at[vector] = self._now() + interval * EITR_UNIT if interval else 0.0

    def _unmask(self, index: int, masks: int) -> None:
        self._begin(self._words[self._causes] & self._words[self._masks] & masks)
        self._interrupts.unmask(index, masks)

    def _set_interval(self, vector: int, written: int) -> None:
        if not written & EITR_CNT_WDIS:
            self._free_at[vector] = 0.0

    def next_service(self) -> float | None:
        """Return when :meth:`service` has something to do; None: nothing waits."""
        waiting = [at for vector, at in enumerate(self._free_at) if self.held >> vector & 1]
        return min(waiting, default=None)

    def service(self) -> None:
        """Pass on what waited, if its interval is over."""
        if self.held:
            now = self._now()
            due = sum(1 << vector for vector, at in enumerate(self._free_at) if at <= now) & self.held
            if due:
                self.raise_now(due)

    def remaining(self) -> tuple[int, ...]:
        """Return by vector how many microseconds of its interval are left, rounded up (but for the clock's own)."""
        now = self._now()
        return tuple(max(0, math.ceil((at - now) * 1e6 - 1e-3)) if at else 0 for at in self._free_at)

    def go_on(self, held: int, remaining: tuple[int, ...]) -> None:
        """Take over what another device held back."""
        now = self._now()
        self.held = held
        self._free_at[:] = [now + left * 1e-6 if left else 0.0 for left in remaining]


def _bit(entry: int) -> int:
    """Return the bit of a VTIVAR entry's vector; 0: it is not valid, or there is no such vector."""
    vector = entry & 0x7F
    return 1 << vector if entry & vf.IVAR_ALLOC_VAL and vector < vf.VECTORS else 0
