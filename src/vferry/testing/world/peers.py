# SPDX-License-Identifier: Apache-2.0
"""Who the VM talks to: a neighbour VF on each host's PF, and a station outside; numbered frames both ways."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from vferry.core.frames import mac_octets
from vferry.testing.world.device import FrameSink, Gate, Port
from vferry.testing.world.guest import Flow, Guest, Interface, frame_of
from vferry.testing.world.switch import EthernetSwitch

__all__ = ["Conversation", "Neighbour", "Peer", "Station", "Traffic"]


class Peer:
    """Something with one address that sends and receives."""

    def __init__(self, name: str, mac: str) -> None:
        self.name = name
        self.octets = mac_octets(mac)
        self.flows: dict[int, Flow] = {}
        """What it receives, by number."""

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        raise NotImplementedError

    def receive(self, frame: bytes) -> None:
        """Take a frame."""
        if frame[:6] == self.octets:
            flow = self.flows.get(int.from_bytes(frame[14:16], "big"))
            if flow is not None:
                flow.arrived(int.from_bytes(frame[16:20], "big"))


class Station(Peer):
    """A station on the switch outside."""

    def __init__(self, name: str, mac: str, switch: EthernetSwitch) -> None:
        super().__init__(name, mac)
        self._send = switch.attach(name, self.receive)

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        self._send(frame)


class Neighbour(Peer):
    """Another tenant's VF on a host; it needs no VM to be told about."""

    def __init__(self, name: str, mac: str, port: Port, vf: int) -> None:
        super().__init__(name, mac)
        self._interface = Interface(0, mac)
        self._port = port
        self._vf = vf

    def start(self, nursery: trio.Nursery) -> None:
        """Open the VF, and start its driver."""
        port, vf = self._port, self._vf
        port.open(vf, self.receive)
        self._interface.bind(nursery, port, vf, Gate(is_open=True))
        send: FrameSink = lambda frame: port.transmit(vf, frame)  # noqa: E731 -- a bound queue
        self._interface.send = send

    @property
    def works(self) -> bool:
        """Whether its driver is ready."""
        return self._interface.works

    def send(self, frame: bytes) -> None:
        """Send a frame, once the driver is ready."""
        if self._interface.works and self._interface.send is not None:
            self._interface.send(frame)


class Conversation:
    """One of the VM's addresses and one peer: a flow each way."""

    def __init__(self, guest: Guest, mac: str, peer: Peer, number: int, flows: dict[int, Flow]) -> None:
        self.guest = guest
        self.mac = mac
        self.octets = mac_octets(mac)
        self.peer = peer
        self.to_vm = Flow(f"{peer.name} -> {guest.name} {mac}", number)
        self.to_peer = Flow(f"{guest.name} {mac} -> {peer.name}", number + 1)
        flows[number] = self.to_vm
        peer.flows[number + 1] = self.to_peer

    def exchange(self) -> None:
        """Send one frame each way."""
        self.peer.send(frame_of(self.octets, self.peer.octets, self.to_vm.number, self.to_vm.next()))
        self.guest.transmit(self.mac, self.peer.octets, self.to_peer)


class Traffic:
    """All conversations, at one pace.

    :param interval: seconds between two rounds.
    """

    def __init__(self, conversations: Sequence[Conversation], *, interval: float = 0.05) -> None:
        self.conversations = tuple(conversations)
        self._interval = interval

    async def run(self) -> None:
        """Send without end."""
        while True:
            for conversation in self.conversations:
                conversation.exchange()
            await trio.sleep(self._interval)

    async def dead_flows(self, *, rounds: int = 3) -> list[str]:
        """Send a few rounds; return the names of flows on which not everything arrived."""
        flows = [flow for one in self.conversations for flow in (one.to_vm, one.to_peer)]
        before = [flow.received for flow in flows]
        for _ in range(rounds):
            for conversation in self.conversations:
                conversation.exchange()
            await trio.sleep(self._interval)
        return [flow.name for flow, old in zip(flows, before, strict=True) if flow.received < old + rounds]
