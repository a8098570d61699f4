# SPDX-License-Identifier: Apache-2.0
"""Observe a fence: send a probe to the VM's MAC from the PF, and find out where it went.

A frame socket on the sending PF sees the frame before the NIC's switch does, so what it sees proves nothing. Proof is
a witness elsewhere on the segment that receives the probe, or a VF counter that stays constant while it is sent.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from vferry.core.errors import FailedError
from vferry.core.model import ZERO_MAC, AdminState, VfStatistics
from vferry.ports.nic import NicError
from vferry.ports.witness import Prober, Witness
from vferry.verbs.context import Context
from vferry.verbs.places import Place

__all__ = ["Observer", "Sighting"]

PROBES = 3
"""Frames sent; one that arrives is enough."""


class Sighting(NamedTuple):
    """What was observed."""

    proves: bool
    in_words: str


class Observer:
    """Sends probes and asks who received them."""

    def __init__(
        self,
        prober: Prober | None = None,
        witness: Witness | None = None,
        *,
        witness_name: str = "",
        seconds: float = 2.0,
    ) -> None:
        """Without a prober nothing is observed; without a witness only counters are watched.

        :param seconds: how long the witness waits for a probe.
        """
        self._prober = prober
        self._witness = witness
        self._witness_name = witness_name
        self._seconds = seconds

    def observe(self, context: Context, place: Place, before: AdminState) -> Sighting:
        """Probe one fenced VF; a failure to observe is said, never raised: the fence stands without it."""
        if self._prober is None:
            return Sighting(False, "nothing was observed: no probe was sent")
        if place.pf.netdev is None or before.mac in (None, ZERO_MAC):
            return Sighting(False, "nothing was observed: the VM's MAC is not known, or the PF has no interface")
        try:
            if self._witness is not None:
                return self._by_witness(self._prober, self._witness, place.pf.netdev, before)
            return self._by_counters(self._prober, context, place, before)
        except FailedError as error:
            return Sighting(False, f"nothing was observed: {error.what}: {error.why}")

    def _by_witness(self, prober: Prober, witness: Witness, netdev: str, vm: AdminState) -> Sighting:
        nonce = os.urandom(16)
        with witness.watch(nonce, seconds=self._seconds) as watch:
            prober.send(netdev, str(vm.mac), nonce, count=PROBES, vlans=vm.vlans or ())
            received = watch.received()
        if received:
            return Sighting(True, f"{self._witness_name} received {received} of {PROBES} probes sent from {netdev}")
        return Sighting(
            False,
            f"{self._witness_name} received none of {PROBES} probes sent from {netdev}: they were swallowed, "
            "or the switch between did not forward them",
        )

    def _by_counters(self, prober: Prober, context: Context, place: Place, vm: AdminState) -> Sighting:
        before = self._counters(context, place)
        if before is None:
            return Sighting(False, "nothing was observed: no witness was named, and the driver has no VF counters")
        prober.send(str(place.pf.netdev), str(vm.mac), os.urandom(16), count=PROBES, vlans=vm.vlans or ())
        context.clock.sleep(0.2)  # counters are read from the hardware by a driver's timer on some NICs
        after = self._counters(context, place)
        if after is not None and after.rx_packets == before.rx_packets:
            return Sighting(True, f"the VF's receive counter stayed at {after.rx_packets} under {PROBES} probes")
        return Sighting(False, "the VF's receive counter moved while probes were sent: it still receives")

    def _counters(self, context: Context, place: Place) -> VfStatistics | None:
        try:
            reading = context.nic.read(place.pf.name, statistics=True)
        except NicError:
            return None
        statistics = {vf.index: vf.statistics for vf in reading.vfs}.get(place.facts.index)
        if statistics is None or statistics.rx_packets == 0:
            return None  # a driver without counters reports zeros (net/core/rtnetlink.c fills the structure itself)
        return statistics
