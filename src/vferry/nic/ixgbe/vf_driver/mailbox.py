# SPDX-License-Identifier: Apache-2.0
"""The VF's side of its mailbox, in the legacy scheme, which is the only one that the in-tree PF driver knows.

``drivers/net/ethernet/intel/ixgbevf/mbx.c`` (Linux 6.12). What waits is a generator that yields seconds to wait.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final, NamedTuple

from vferry.nic.ixgbe.bar import VfBar
from vferry.nic.ixgbe.messages import describe
from vferry.nic.ixgbe.registers import vf

__all__ = ["Exchange", "Steps", "VfMailbox"]

Steps = Generator[float, None, bool]
"""A procedure that yields seconds to wait, and returns whether it succeeded."""

POLL_SECONDS: Final = 500e-6
"""``IXGBE_VF_MBX_INIT_DELAY``: between two looks at the mailbox."""
POLLS: Final = 2000
"""``IXGBE_VF_MBX_INIT_TIMEOUT``: so a reply is waited for one second."""
RESET_BITS: Final = vf.VFMAILBOX_RSTD | vf.VFMAILBOX_RSTI


class Exchange(NamedTuple):
    """A message of the VF and the PF's reply; None where there was none."""

    request: tuple[int, ...]
    reply: tuple[int, ...] | None

    @property
    def text(self) -> str:
        """The exchange for people: word 0 of both sides, and the payload of the request."""
        reply = describe(self.reply[:1]) if self.reply else "no reply"
        return f"{describe(self.request)} -> {reply}"


class VfMailbox:
    """One VF's mailbox.

    ``timeout`` is how often to look for a reply; 0 before the first reset and once a reply did not come, and then
    nothing is sent and nothing read until a reset arms it again.
    """

    def __init__(self, bar: VfBar) -> None:
        self._bar = bar
        self._seen = 0  # bits that reading the register cleared in it
        self.timeout = 0
        self.log: list[Exchange] = []

    def rebind(self, bar: VfBar) -> None:
        """Go on over another device's mailbox."""
        self._bar = bar

    def disarm(self) -> None:
        """Send nothing until :meth:`arm`."""
        self.timeout = 0

    def arm(self) -> None:
        """Allow messages."""
        self.timeout = POLLS

    def check_for_reset(self) -> bool:
        """Tell whether the PF was or is being reset."""
        return self._check(RESET_BITS)

    def read(self, size: int) -> Generator[float, None, list[int] | None]:
        """Take what is in the buffer, new or old, and acknowledge it; None where it cannot be had."""
        if not (yield from self._lock()):
            return None
        words = [self._bar.read(vf.VFMBMEM.address(index)) for index in range(size)]
        self._bar.write(vf.VFMAILBOX.offset, vf.VFMAILBOX_ACK)  # and gives the buffer back
        return words

    def write(self, words: Sequence[int]) -> Steps:
        """Send a message and wait until the PF has taken it."""
        if not self.timeout or not (yield from self._lock()):
            return False
        self._check(vf.VFMAILBOX_PFSTS)
        self._check(vf.VFMAILBOX_PFACK)
        for index, word in enumerate(words):
            self._bar.write(vf.VFMBMEM.address(index), word)
        self._bar.write(vf.VFMAILBOX.offset, vf.VFMAILBOX_REQ)  # and gives the buffer back
        return (yield from self._poll(vf.VFMAILBOX_PFACK))

    def poll(self, size: int) -> Generator[float, None, list[int] | None]:
        """Wait for a message and take it; None where none came."""
        if not self.timeout or not (yield from self._poll(vf.VFMAILBOX_PFSTS)):
            return None
        return (yield from self.read(size))

    def exchange(self, words: Sequence[int], size: int = 0) -> Generator[float, None, list[int] | None]:
        """Send a message and return the reply; None where none came.

        :param size: words of the reply to read; 0 stands for as many as were sent.
        """
        reply = None
        if (yield from self.write(words)):
            reply = yield from self.poll(size or len(words))
        self.log.append(Exchange(tuple(words), tuple(reply) if reply is not None else None))
        return reply

    def _poll(self, bit: int) -> Steps:
        for _ in range(self.timeout):
            if self._check(bit):
                return True
            yield POLL_SECONDS
        self.timeout = 0
        return False

    def _lock(self) -> Steps:
        for _ in range(self.timeout):
            self._bar.write(vf.VFMAILBOX.offset, self._read() | vf.VFMAILBOX_VFU)
            if self._read() & vf.VFMAILBOX_VFU:
                return True
            yield POLL_SECONDS
        return False

    def _read(self) -> int:
        """Read the register and keep what the read clears."""
        value = self._bar.read(vf.VFMAILBOX.offset) | self._seen
        self._seen |= value & vf.VFMAILBOX_R2C_BITS
        return value

    def _check(self, bits: int) -> bool:
        found = bool(self._read() & bits)
        self._seen &= ~bits
        return found
