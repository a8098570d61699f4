# SPDX-License-Identifier: Apache-2.0
"""Interrupt causes and masks: the PF's (EICR and its kin) and each VF's (VTEICR and its kin).

The PF's *other* causes are raised to one callable, whatever vector IVAR_MISC names. A VF's cause ``n`` is its MSI-X
vector ``n``; the mailbox raises the one that VTIVAR_MISC names, while that entry is valid.

A VF's vector that fires clears its cause if VTEIAC says so, and masks itself if VTEIAM says so, as ixgbevf relies on
(``ixgbevf_msix_other()`` writes VTEIMS again each time, and reads no cause). A cause that came while it was masked
fires when it is unmasked. Every interrupt raised here comes at once: what VTEITR holds back of a VF's queues waits in
:mod:`~vferry.nic.ixgbe.queue_interrupts` before. The PF's own moderation (EITR) is not modelled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vferry.nic.ixgbe.register_file import RegisterFile
from vferry.nic.ixgbe.registers import pf, vf

__all__ = ["PfInterrupts", "PfViews", "VfInterrupts"]


def _nobody() -> None:
    """What is called until someone wants the PF's interrupts."""


def _no_vf(_vf: int, _vector: int) -> None:
    """What is called until someone wants the VFs' interrupts."""


class PfInterrupts:
    """The PF's causes.

    :param bar: the PF's registers, which get their behaviour here.
    """

    def __init__(self, bar: RegisterFile) -> None:
        self.notify: Callable[[], None] = _nobody
        self._words: Final = bar.words
        self._eicr: Final[int] = bar.slot(pf.EICR.offset)
        self._eims: Final[int] = bar.slot(pf.EIMS.offset)
        bar.hook(pf.EICS, view=self._causes, guard=self._nothing, effect=self._set_causes)
        bar.hook(pf.EIMS, effect=self._unmask)
        bar.hook(pf.EIMC, effect=self._mask)

    def raise_causes(self, causes: int) -> None:
        """Set bits of EICR, and interrupt if EIMS lets one of them through."""
        self._words[self._eicr] |= causes
        if self._words[self._eims] & causes:
            self.notify()

    def _causes(self, _index: int) -> int:
        return self._words[self._eicr]

    def _nothing(self, _index: int, stored: int, _written: int) -> int:
        return stored

    def _set_causes(self, _index: int, written: int) -> None:
        self.raise_causes(written)

    def _unmask(self, _index: int, written: int) -> None:
        if self._words[self._eicr] & written:
            self.notify()

    def _mask(self, _index: int, written: int) -> None:
        self._words[self._eims] &= ~written


class VfInterrupts:
    """The causes of one VF.

    :param index: the VF.
    :param bar: its registers, which get their behaviour here.
    :param notify: called with the VF and its MSI-X vector, 0 to 2.
    """

    def __init__(self, index: int, bar: RegisterFile, notify: Callable[[int, int], None] = _no_vf) -> None:
        self.notify: Callable[[int, int], None] = notify
        self._vf: Final = index
        self._words: Final = bar.words
        self._causes: Final[int] = bar.slot(vf.VTEICR.offset)
        self._masks: Final[int] = bar.slot(vf.VTEIMS.offset)
        self._auto_clear: Final[int] = bar.slot(vf.VTEIAC.offset)
        self._auto_mask: Final[int] = bar.slot(vf.VTEIAM.offset)
        self._misc: Final[int] = bar.slot(vf.VTIVAR_MISC.offset)
        bar.hook(vf.VTEICS, effect=self.set_causes)
        bar.hook(vf.VTEIMS, effect=self.unmask)
        bar.hook(vf.VTEIMC, effect=self.mask)

    def raise_mailbox(self) -> None:
        """Raise the vector that VTIVAR_MISC names; none while the entry is not valid or names no vector there is."""
        entry = self._words[self._misc]
        if entry & vf.IVAR_ALLOC_VAL:
            self.set_causes(0, 1 << (entry & 0x7F))

    def set_causes(self, _index: int, causes: int) -> None:
        """Set bits 2:0 of VTEICR, and fire what VTEIMS lets through."""
        self._words[self._causes] |= causes & vf.VECTORS_MASK
        self._fire(causes)

    def unmask(self, _index: int, masks: int) -> None:
        """Fire what waited for VTEIMS; its bits are set already."""
        self._fire(masks)

    def mask(self, _index: int, masks: int) -> None:
        """Clear bits of VTEIMS."""
        self._words[self._masks] &= ~masks

    def _fire(self, concerned: int) -> None:
        words = self._words
        firing = words[self._causes] & words[self._masks] & concerned
        if not firing:
            return
        words[self._causes] &= ~(firing & words[self._auto_clear])
        words[self._masks] &= ~(firing & words[self._auto_mask])
        for vector in range(vf.VECTORS):
            if firing >> vector & 1:
                self.notify(self._vf, vector)


class PfViews:
    """The PF's registers PVTEICS, PVTEIMS and PVTEIMC: what is written there does what it does in the VF's BAR.

    :param bar: the PF's registers.
    :param vfs: by VF.
    """

    def __init__(self, bar: RegisterFile, vfs: list[VfInterrupts]) -> None:
        self._vfs: Final = vfs
        bar.hook(pf.PVTEICS, effect=self._set_causes)
        bar.hook(pf.PVTEIMS, effect=self._unmask)
        bar.hook(pf.PVTEIMC, effect=self._mask)

    def _set_causes(self, index: int, causes: int) -> None:
        if index < len(self._vfs):
            self._vfs[index].set_causes(0, causes)

    def _unmask(self, index: int, masks: int) -> None:
        if index < len(self._vfs):
            self._vfs[index].unmask(0, masks)

    def _mask(self, index: int, masks: int) -> None:
        if index < len(self._vfs):
            self._vfs[index].mask(0, masks)
