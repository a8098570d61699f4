# SPDX-License-Identifier: Apache-2.0
"""A VM from the inside: network interfaces with their drivers, and the traffic that shows whether they work."""

from __future__ import annotations

import struct

import trio

from vferry.core.frames import mac_octets
from vferry.testing.world.device import FrameSink, Gate, GuestDriver, Port

__all__ = ["ETH_P_EXPERIMENT", "Flow", "Guest", "Interface", "frame_of"]

ETH_P_EXPERIMENT = 0x88B5
"""IEEE Std 802, local experimental EtherType 1."""
_BODY = struct.Struct("!HHI")
_HEADER = 14


def frame_of(target: bytes, source: bytes, flow: int, number: int) -> bytes:
    """Return one numbered frame of a flow."""
    return (target + source + _BODY.pack(ETH_P_EXPERIMENT, flow, number)).ljust(60, b"\0")


class Flow:
    """Numbered frames from one sender to one receiver."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.sent = 0
        self.received = 0
        self.doubled = 0
        """Frames that arrived more than once."""
        self.first: float | None = None
        self.last: float | None = None
        """When a frame arrived, virtual seconds."""
        self.longest_gap = 0.0
        """Seconds between two arrivals."""
        self._seen = -1

    @property
    def lost(self) -> int:
        """How many frames did not arrive."""
        return self.sent - self.received

    def next(self) -> int:
        """Return the number of a frame that is about to be sent."""
        self.sent += 1
        return self.sent - 1

    def arrived(self, number: int) -> None:
        """Count a frame."""
        now = trio.current_time()
        if number <= self._seen:
            self.doubled += 1
            return
        self._seen = number
        self.received += 1
        if self.first is None:
            self.first = now
        if self.last is not None:
            self.longest_gap = max(self.longest_gap, now - self.last)
        self.last = now


class Interface:
    """One of the guest's VFs: a driver in its memory, and the VF that it works on now."""

    def __init__(self, index: int, mac: str) -> None:
        self.index = index
        self.mac = mac
        self.octets = mac_octets(mac)
        self.driver: GuestDriver | None = None
        """None: unplugged, or the guest is off."""
        self.send: FrameSink | None = None
        """The transmit queue of the VF that the guest has now."""
        self._serving: trio.CancelScope | None = None

    @property
    def works(self) -> bool:
        """Whether the guest can use it."""
        return self.driver is not None and self.send is not None and self.driver.works

    def bind(self, nursery: trio.Nursery, port: Port, vf: int, gate: Gate) -> None:
        """Start a new driver on a VF: the guest boots, or a VF was plugged in."""
        self.unbind()
        self.driver = port.driver(vf, self.octets)
        self._serving = trio.CancelScope()
        nursery.start_soon(self._serve, self.driver, self._serving, gate)

    def unbind(self) -> None:
        """Stop the driver: the guest is off, or the VF was unplugged."""
        if self._serving is not None:
            self._serving.cancel()
        self.driver = None
        self._serving = None
        self.send = None

    @staticmethod
    async def _serve(driver: GuestDriver, scope: trio.CancelScope, gate: Gate) -> None:
        with scope:
            await driver.serve(gate)


class Guest:
    """The software of one VM; it runs on at most one host at a time, or somebody notices.

    :param macs: one for each VF; VFs of a bond share theirs.
    :param standby: for every MAC there is a virtio interface with it, behind the first VF's PF.
    """

    def __init__(self, name: str, macs: tuple[str, ...], *, standby: bool, flows: dict[int, Flow]) -> None:
        self.name = name
        self.interfaces = [Interface(index, mac) for index, mac in enumerate(macs)]
        self.macs = tuple(dict.fromkeys(macs))
        self.standby = standby
        self.standby_send: FrameSink | None = None
        """The transmit queue of the standby, where the guest is now."""
        self.gate = Gate()
        self.dead_deliveries = 0
        """Frames that a NIC gave to a VF of this VM while the VM did not run there."""
        self._flows = flows

    @property
    def running(self) -> bool:
        """Whether the guest's processors run, somewhere."""
        return self.gate.is_open

    def sender(self, mac: str) -> FrameSink | None:
        """Return how the guest sends under a MAC now: by a VF that works, else by its standby."""
        for interface in self.interfaces:
            if interface.mac == mac and interface.works:
                return interface.send
        return self.standby_send if self.standby else None

    def transmit(self, mac: str, target: bytes, flow: Flow) -> None:
        """Send one frame, if the guest runs and has an interface that works."""
        if not self.running:
            return
        send = self.sender(mac)
        if send is not None:
            send(frame_of(target, mac_octets(mac), flow.number, flow.next()))

    def receive(self, frame: bytes) -> None:
        """Take a frame from one of the guest's interfaces."""
        if len(frame) < _HEADER + 6:
            return
        kind, flow, number = _BODY.unpack_from(frame, 12)
        if kind == ETH_P_EXPERIMENT and frame[:6].hex(":") in self.macs and flow in self._flows:
            self._flows[flow].arrived(number)
