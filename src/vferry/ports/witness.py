# SPDX-License-Identifier: Apache-2.0
"""Who sends a probe frame, and who sees it elsewhere on the segment."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from vferry.core.errors import FailedError
from vferry.core.model import Vlan

__all__ = ["Prober", "Watch", "Witness", "WitnessError"]


class WitnessError(FailedError):
    """The witness cannot be asked; the fence itself stands."""


class Prober(Protocol):
    """Sends probe frames from a PF's own network interface."""

    def send(self, netdev: str, destination: str, nonce: bytes, *, count: int, vlans: tuple[Vlan, ...] = ()) -> None:
        """Send ``count`` probe frames that carry ``nonce`` to the MAC ``destination``.

        :param vlans: the VLANs that the frames are in, outermost first.

        :raise WitnessError: they could not be sent.
        """
        ...


class Watch(Protocol):
    """A witness that is looking out for one probe."""

    def received(self) -> int:
        """Return how many of the probe's frames were seen, after the time to wait is over.

        :raise WitnessError: the witness died.
        """
        ...


class Witness(Protocol):
    """Sees frames elsewhere on the segment; never on the host that sends them."""

    def watch(self, nonce: bytes, *, seconds: float) -> AbstractContextManager[Watch]:
        """Look out for frames that carry ``nonce``; ready when this is entered.

        :raise WitnessError: the witness cannot be reached.
        """
        ...
