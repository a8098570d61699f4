# SPDX-License-Identifier: Apache-2.0
"""How agents speak to each other: messages that are lost, doubled, late and out of order, as a seed says."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import trio

from vferry.core.migration.messages import Message
from vferry.ports.channel import Channel
from vferry.testing.world.log import EventLog

__all__ = ["ControlNetwork", "SimChannel", "Weather"]

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


class Weather(NamedTuple):
    """How bad the control network is."""

    loss: float = 0.0
    """Share of messages that are lost, 0 to 1."""
    double: float = 0.0
    """Share of messages that arrive twice."""
    delay: float = 0.001
    """Least seconds under way."""
    jitter: float = 0.0
    """Up to so many seconds more; beyond the sender's pace, messages overtake each other."""


class ControlNetwork:
    """All ways between agents."""

    def __init__(self, seed: object, nursery: trio.Nursery, log: EventLog) -> None:
        self.weather = Weather()
        self.sent = 0
        self.lost = 0
        self.down: set[str] = set()
        """Hosts that hear nothing and cannot be heard."""
        self._random = random.Random(f"{seed}/network")  # noqa: S311 -- a simulation
        self._nursery = nursery
        self._log = log
        self._agents: dict[str, Callable[[str, Message], None]] = {}

    def listen(self, host: str, deliver: Callable[[str, Message], None] | None) -> None:
        """Let a host's agent hear messages, each with its sender's name; None: nobody listens any more."""
        if deliver is None:
            self._agents.pop(host, None)
        else:
            self._agents[host] = deliver

    def send(self, source: str, target: str, message: Message) -> None:
        """Put a message on its way, or lose it."""
        self.sent += 1
        weather, data = self.weather, _encoder.encode(message)
        copies = 1 + (self._random.random() < weather.double)
        for _ in range(copies):
            if self._random.random() < weather.loss or {source, target} & self.down:
                self.lost += 1
                continue
            seconds = weather.delay + self._random.random() * weather.jitter
            self._nursery.start_soon(self._travel, source, target, data, seconds)

    async def _travel(self, source: str, target: str, data: bytes, seconds: float) -> None:
        await trio.sleep(seconds)
        agent = self._agents.get(target)
        if agent is None or target in self.down:
            self.lost += 1
            return
        try:
            message = _decoder.decode(data)
        except msgspec.ValidationError:  # beyond the bounds of a message: a receiver drops it
            self.lost += 1
            return
        self._log.add(target, f"hears {type(message).__name__} of {source}")
        agent(source, message)


class SimChannel(Channel):
    """The way of one migration from one host to its peer."""

    def __init__(self, network: ControlNetwork, host: str, peer: str) -> None:
        self._network = network
        self._host = host
        self._peer = peer
        self._send_in, self._receive_from = trio.open_memory_channel[Message](1000)

    async def send(self, message: Message) -> None:
        """Send a message."""
        await trio.lowlevel.checkpoint()
        self._network.send(self._host, self._peer, message)

    async def receive(self) -> Message:
        """Wait for the next message."""
        return await self._receive_from.receive()

    def deliver(self, message: Message) -> None:
        """Let a message arrive here."""
        self._send_in.send_nowait(message)
