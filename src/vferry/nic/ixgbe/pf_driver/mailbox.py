# SPDX-License-Identifier: Apache-2.0
"""The PF's side of the mailboxes: taking a buffer, reading, writing, and what is pending.

``drivers/net/ethernet/intel/ixgbe/ixgbe_mbx.c`` (Linux 6.12).
"""

from __future__ import annotations

from collections.abc import Sequence

from vferry.nic.ixgbe.pf_driver.registers import Registers
from vferry.nic.ixgbe.registers import pf

__all__ = ["PfMailbox"]


class PfMailbox:
    """All mailboxes of a PF; a mailbox is named by the index of its VF."""

    def __init__(self, registers: Registers) -> None:
        self._registers = registers

    def check_for_rst(self, vf: int) -> bool:
        """Tell whether the VF was reset (FLR or VFCTRL.RST) since the last call."""
        if not self._registers.bit(pf.VFLRE, vf):
            return False
        self._registers.write(pf.VFLREC, 1 << vf % 32, vf // 32)
        return True

    def check_for_msg(self, vf: int) -> bool:
        """Tell whether the VF sent a message since the last call."""
        return self._check(vf, pf.PFMBICR_VFREQ)

    def check_for_ack(self, vf: int) -> bool:
        """Tell whether the VF took a message since the last call."""
        return self._check(vf, pf.PFMBICR_VFACK)

    def read(self, vf: int) -> list[int] | None:
        """Take the VF's message, all 16 words, and acknowledge it; None where the VF owns the buffer."""
        if not self._lock(vf):
            return None
        words = [self._registers.read(pf.PFMBMEM, first) for first in self._memory(vf)]
        self._registers.write(pf.PFMAILBOX, pf.PFMAILBOX_ACK, vf)  # and gives the buffer back
        return words

    def write(self, vf: int, words: Sequence[int]) -> bool:
        """Send a message of 1 to 16 words; False where the VF owns the buffer, and the message is lost.

        What the VF had sent and not yet seen answered is lost too: the buffer is overwritten, so its request and its
        acknowledgement are dropped.
        """
        if not self._lock(vf):
            return False
        self.check_for_msg(vf)
        self.check_for_ack(vf)
        for index, word in zip(self._memory(vf), words, strict=False):
            self._registers.write(pf.PFMBMEM, word, index)
        self._registers.write(pf.PFMAILBOX, pf.PFMAILBOX_STS, vf)  # and gives the buffer back
        return True

    def clear(self, vf: int) -> None:
        """Write zeroes over the buffer, without taking it (``ixgbe_vf_clear_mbx()``)."""
        for index in self._memory(vf):
            self._registers.write(pf.PFMBMEM, 0, index)

    def _memory(self, vf: int) -> range:
        return range(pf.MAILBOX_WORDS * vf, pf.MAILBOX_WORDS * (vf + 1))

    def _check(self, vf: int, cause: int) -> bool:
        word, bit = vf >> pf.PFMBICR_SHIFT, cause << (vf & 15)
        if not self._registers.read(pf.PFMBICR, word) & bit:
            return False
        self._registers.write(pf.PFMBICR, bit, word)
        return True

    def _lock(self, vf: int) -> bool:
        self._registers.write(pf.PFMAILBOX, pf.PFMAILBOX_PFU, vf)
        return bool(self._registers.read(pf.PFMAILBOX, vf) & pf.PFMAILBOX_PFU)
