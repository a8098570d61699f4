# SPDX-License-Identifier: Apache-2.0
"""Frames that vferry itself sends from a software PF: announcements, and probes of a fence.

They leave from the PF's own pool, as from its network interface: the internal switch leads them to local VFs, to the
wire, or to both.
"""

from __future__ import annotations

from vferry.core.frames import probe, rarp
from vferry.core.model import Vlan
from vferry.nic.ixgbe.nic import IxgbeNic
from vferry.ports.announcer import AnnounceError, Announcer
from vferry.ports.nic import NoSuchFunctionError
from vferry.ports.witness import Prober, WitnessError

__all__ = ["IxgbeAnnouncer", "IxgbeProber"]


class IxgbeAnnouncer(Announcer):
    """Announces from the PFs of one software host."""

    def __init__(self, nic: IxgbeNic) -> None:
        self._nic = nic

    def announce(self, pf: str, mac: str, *, vlans: tuple[Vlan, ...] = ()) -> None:
        """Send a RARP request with the VM's MAC as its source."""
        try:
            software = self._nic.software(pf)
        except NoSuchFunctionError as error:
            raise self._failed(pf, mac, error.why) from error
        if not software.carrier:
            raise self._failed(pf, mac, "the PF has no carrier")
        software.send(rarp(mac, vlans=vlans))

    def _failed(self, pf: str, mac: str, why: str) -> AnnounceError:
        next_step = "the network learns from the VM's next frame"
        return AnnounceError(f"announce {mac}", why=why, next_step=next_step, host=self._nic.host().hostname, pf=pf)


class IxgbeProber(Prober):
    """Sends probes from the PFs of one software host."""

    def __init__(self, nic: IxgbeNic) -> None:
        self._nic = nic

    def send(self, netdev: str, destination: str, nonce: bytes, *, count: int, vlans: tuple[Vlan, ...] = ()) -> None:
        """Send ``count`` probes to the MAC ``destination``, tagged with ``vlans``."""
        try:
            software = self._nic.software(netdev)
        except NoSuchFunctionError as error:
            raise WitnessError(f"send a probe from {netdev}", why=error.why) from error
        if not software.driver.is_up:
            raise WitnessError(f"send a probe from {netdev}", why="the interface is down")
        frame = probe(destination, software.driver.mac, nonce, vlans=vlans)
        for _ in range(count):
            software.send(frame)
