# SPDX-License-Identifier: Apache-2.0
"""Carries a VF's own state (queues, interrupts, session) where vferry does it: a VF served in software.

Where the hypervisor carries it (the kernel's VFIO migration), there is no carrier.
"""

from __future__ import annotations

from typing import Protocol

from vferry.core.errors import FailedError, RefusedError

__all__ = ["BadStateError", "Carrier", "CarrierError"]


class CarrierError(FailedError):
    """The VF's state could not be taken or given."""


class BadStateError(RefusedError):
    """The state is damaged, too large, of an unknown kind, or does not fit this VF; nothing was applied."""


class Carrier(Protocol):
    """The VFs of one host whose state vferry carries itself. Every act is idempotent."""

    def stop(self, pf: str, vf: int) -> None:
        """Stop DMA, interrupts and every change of state, then mark what DMA has written (the dirty flush).

        :raise CarrierError: it did not stop.
        """
        ...

    def save(self, pf: str, vf: int, *, session: bool) -> bytes:
        """Return the stopped VF's state.

        :param session: with what the VF's driver had asked the PF for; without it, the driver rebuilds its session.
        :raise CarrierError: the VF is not stopped.
        """
        ...

    def validate(self, pf: str, vf: int, state: bytes) -> None:
        """Check the whole of a state against this VF; changes nothing.

        :raise BadStateError: it cannot be loaded here.
        """
        ...

    def load(self, pf: str, vf: int, state: bytes) -> None:
        """Give the VF a state; it stays stopped.

        :raise BadStateError: it cannot be loaded here; nothing was applied.
        """
        ...

    def start(self, pf: str, vf: int) -> None:
        """Let the VF work (again), wake up what was pending, and have a session that was not carried rebuilt."""
        ...

    def drop(self, pf: str, vf: int) -> None:
        """Forget a loaded state: the VF is as after a reset, and silent."""
        ...
