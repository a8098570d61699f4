# SPDX-License-Identifier: Apache-2.0
"""The mailbox between the PF and each VF, and the two ways in which one hears of the other's reset.

One word of storage for each VF holds VFU, PFU, PFSTS, PFACK, RSTI and RSTD as VFMAILBOX shows them; PFMAILBOX is the
PF's view of the first two. The buffer, 16 words, is not guarded: owning it is a matter of manners, as in hardware.

* The side that writes its ownership bit gets it unless the other side has it; writing 0 gives it up. So a driver that
  writes REQ, STS or ACK alone drops its ownership with it (the legacy scheme), one that writes VFU | REQ keeps it.
* STS and ACK of the PF set PFSTS and PFACK, and raise the VF's mailbox vector. REQ and ACK of the VF set their bits in
  PFMBICR, and raise EICR.MAILBOX unless PFMBIMR masks them.
* A reading of VFMAILBOX clears PFSTS, PFACK and RSTD (ixgbevf keeps a copy of them for that reason). RSTI is a level.
* RSTI stands from a reset of the device until CTRL_EXT.PFRSTD goes from 0 to 1; that and every reset of a VF while
  PFRSTD stands set RSTD, which ixgbevf waits for after its reset.
"""

from __future__ import annotations

from typing import Final

from vferry.nic.ixgbe.interrupts import PfInterrupts, VfInterrupts
from vferry.nic.ixgbe.register_file import RegisterFile
from vferry.nic.ixgbe.registers import pf, vf

__all__ = ["Mailboxes", "VfMailbox"]


class VfMailbox:
    """One VF's mailbox, as its own BAR shows it."""

    def __init__(self, index: int, bar: RegisterFile, mailboxes: Mailboxes) -> None:
        self._vf: Final = index
        self._mailboxes: Final = mailboxes
        bar.hook(vf.VFMAILBOX, guard=self._own, effect=self._tell)

    def _own(self, _index: int, stored: int, written: int) -> int:
        """Take or give up the buffer."""
        if not written & vf.VFMAILBOX_VFU:
            return stored & ~vf.VFMAILBOX_VFU
        return stored if stored & vf.VFMAILBOX_PFU else stored | vf.VFMAILBOX_VFU

    def _tell(self, _index: int, written: int) -> None:
        if written & (vf.VFMAILBOX_REQ | vf.VFMAILBOX_ACK):
            self._mailboxes.from_vf(
                self._vf, request=bool(written & vf.VFMAILBOX_REQ), ack=bool(written & vf.VFMAILBOX_ACK)
            )


class Mailboxes:
    """All mailboxes, as the PF's BAR shows them.

    :param bar: the PF's registers, which get their behaviour here.
    :param interrupts: where the PF hears of requests and resets.
    :param vf_interrupts: where each VF hears of messages and acknowledgements.
    """

    def __init__(self, bar: RegisterFile, interrupts: PfInterrupts, vf_interrupts: list[VfInterrupts]) -> None:
        self._words: Final = bar.words
        self._interrupts: Final = interrupts
        self._vf_interrupts: Final = vf_interrupts
        self._first: Final[int] = bar.slot(pf.PVFMAILBOX.offset)
        self._icr: Final[int] = bar.slot(pf.PFMBICR.offset)
        self._imr: Final[int] = bar.slot(pf.PFMBIMR.offset)
        self._vflre: Final = [bar.slot(offset) for offset in pf.VFLRE.addresses]
        self._ctrl_ext: Final[int] = bar.slot(pf.CTRL_EXT.offset)
        bar.hook(pf.PFMAILBOX, view=self._owners, effect=self._from_pf)
        bar.hook(pf.VFLREC, effect=self._forget_resets)
        bar.hook(pf.CTRL_EXT, guard=self._reset_done)

    def from_vf(self, index: int, *, request: bool, ack: bool) -> None:
        """Set the VF's bits in PFMBICR, and interrupt the PF unless they are masked."""
        word = index >> pf.PFMBICR_SHIFT
        causes = (pf.PFMBICR_VFREQ * request | pf.PFMBICR_VFACK * ack) << (index & 15)
        self._words[self._icr + word] |= causes
        if causes & self._words[self._imr + word]:
            self._interrupts.raise_causes(pf.EICR_MAILBOX)

    def vf_was_reset(self, index: int) -> None:
        """Empty the VF's side, and tell the PF through VFLRE and the mailbox cause. PFMBICR stays as it is."""
        stored = self._words[self._first + index] & vf.VFMAILBOX_PFU
        done = self._words[self._ctrl_ext] & pf.CTRL_EXT_PFRSTD
        self._words[self._first + index] = stored | (vf.VFMAILBOX_RSTD if done else vf.VFMAILBOX_RSTI)
        self._words[self._vflre[index >> 5]] |= 1 << (index & 31)
        self._interrupts.raise_causes(pf.EICR_MAILBOX)

    def _owners(self, index: int) -> int:
        return self._words[self._first + index] & (pf.PFMAILBOX_VFU | pf.PFMAILBOX_PFU)

    def _from_pf(self, index: int, written: int) -> None:
        stored = self._words[self._first + index]
        if written & pf.PFMAILBOX_RVFU:
            stored &= ~vf.VFMAILBOX_VFU
        if not written & pf.PFMAILBOX_PFU:
            stored &= ~vf.VFMAILBOX_PFU
        elif not stored & vf.VFMAILBOX_VFU:
            stored |= vf.VFMAILBOX_PFU
        if written & pf.PFMAILBOX_STS:
            stored |= vf.VFMAILBOX_PFSTS
        if written & pf.PFMAILBOX_ACK:
            stored |= vf.VFMAILBOX_PFACK
        self._words[self._first + index] = stored
        if written & (pf.PFMAILBOX_STS | pf.PFMAILBOX_ACK) and index < len(self._vf_interrupts):
            self._vf_interrupts[index].raise_mailbox()

    def _forget_resets(self, index: int, written: int) -> None:
        self._words[self._vflre[index]] &= ~written

    def _reset_done(self, _index: int, stored: int, written: int) -> int:
        """Store CTRL_EXT; when PFRSTD rises, RSTI falls and RSTD rises in every VF."""
        if written & ~stored & pf.CTRL_EXT_PFRSTD:
            for slot in range(self._first, self._first + pf.POOLS):
                self._words[slot] = (self._words[slot] & ~vf.VFMAILBOX_RSTI) | vf.VFMAILBOX_RSTD
        return written
