# SPDX-License-Identifier: Apache-2.0
"""Tells the network where a VM is now."""

from __future__ import annotations

from typing import Protocol

from vferry.core.errors import FailedError
from vferry.core.model import Vlan

__all__ = ["AnnounceError", "Announcer"]


class AnnounceError(FailedError):
    """The network was not told; it learns from the VM's next frame."""


class Announcer(Protocol):
    """Sends the VM's address out of a PF, so that switches learn the new port before the VM sends by itself."""

    def announce(self, pf: str, mac: str, *, vlans: tuple[Vlan, ...] = ()) -> None:
        """Send a RARP request (RFC 903) with the VM's MAC as its source, as QEMU's ``qemu_announce_self`` does.

        :param vlans: the VLANs that the VM is in, outermost first.
        :raise AnnounceError: it could not be sent.
        """
        ...
