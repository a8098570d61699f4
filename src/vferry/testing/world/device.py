# SPDX-License-Identifier: Apache-2.0
"""What a simulated host needs of its NICs beside vferry's own ports: cables, guests, and a look inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

import trio

from vferry.ports.carrier import Carrier
from vferry.ports.nic import Nic

__all__ = ["Device", "FrameSink", "Gate", "GuestDriver", "Port"]

FrameSink: TypeAlias = Callable[[bytes], None]
"""Takes a frame: ``bytes`` from the destination address on, 802.1Q tag inline, without FCS."""


class Gate:
    """Open while a guest's processors run."""

    def __init__(self, *, is_open: bool = False) -> None:
        self._event = trio.Event()
        if is_open:
            self._event.set()

    @property
    def is_open(self) -> bool:
        """Whether the guest runs."""
        return self._event.is_set()

    def open(self) -> None:
        """Let the guest run."""
        self._event.set()

    def close(self) -> None:
        """Stop the guest."""
        if self._event.is_set():
            self._event = trio.Event()

    async def wait(self) -> None:
        """Wait until the guest runs."""
        await self._event.wait()


class GuestDriver(Protocol):
    """The driver of one VF inside a guest: it lives in the guest's memory and moves with it."""

    @property
    def works(self) -> bool:
        """Whether frames can flow, as far as the driver knows."""
        ...

    def moved(self, port: Port, vf: int) -> None:
        """Go on with another VF: the guest was migrated with its device's state."""
        ...

    async def serve(self, gate: Gate) -> None:
        """Set the VF up, then serve it without end; do nothing while the gate is closed."""
        ...


class Port(Protocol):
    """The data path of one PF."""

    def connect(self, wire: FrameSink) -> None:
        """Plug the cable in: ``wire`` takes what leaves by it."""
        ...

    def give_host(self, sink: FrameSink) -> None:
        """Let ``sink`` take what the switch delivers to the PF's own pool."""
        ...

    def receive(self, frame: bytes, /) -> None:
        """Take a frame from the cable."""
        ...

    def host_transmit(self, frame: bytes) -> None:
        """Take a frame of the host's own stack, or of a standby behind the PF."""
        ...

    def transmit(self, vf: int, frame: bytes) -> None:
        """Take a frame from a VF's transmit queue."""
        ...

    def open(self, vf: int, sink: FrameSink) -> None:
        """Give a VF to a guest, reset as vfio does."""
        ...

    def close(self, vf: int) -> None:
        """Take a VF from its guest, reset as vfio does."""
        ...

    def driver(self, vf: int, mac: bytes) -> GuestDriver:
        """Return a new driver for a VF.

        :param mac: used where the administrator assigned none.
        """
        ...

    def forwards_to_host(self, mac: bytes) -> bool:
        """Return whether the PF has a forwarding entry of its own for an address."""
        ...

    def receivers(self, mac: str) -> tuple[str, ...]:
        """Return the pools that the switch leads a MAC's frames to, from the cable or from a neighbour."""
        ...

    def swallowed(self) -> int:
        """Return how many unicast frames were lost inside because their pool did not take them."""
        ...


class Device(Protocol):
    """All NICs of one simulated host."""

    @property
    def nic(self) -> Nic:
        """The port that vferry uses."""
        ...

    @property
    def carrier(self) -> Carrier:
        """What takes and gives the VFs' own states."""
        ...

    @property
    def ports(self) -> Mapping[str, Port]:
        """The data path of each PF, by its name."""
        ...

    def reboot(self) -> None:
        """Boot the host again: a new boot id, settings and guests gone."""
        ...
