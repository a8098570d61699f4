# SPDX-License-Identifier: Apache-2.0
"""A learning Ethernet switch: one address table for each VLAN, flooding for what it does not know."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import trio

from vferry.nic.ixgbe.frame import is_group, vlan_of

__all__ = ["EthernetSwitch"]


class EthernetSwitch:
    """Ports are named by whoever attaches them; each is a callable that takes a frame.

    :param delay: seconds from one port to another; 0: at once, within the call.
    :param nursery: where delayed frames travel; needed with a delay only.
    :param ageing: seconds after which an address that has not been seen is forgotten; None: never.
    """

    def __init__(self, *, delay: float = 0.0, nursery: trio.Nursery | None = None, ageing: float | None = None) -> None:
        self._ports: dict[Hashable, Callable[[bytes], None]] = {}
        self._table: dict[tuple[int, bytes], tuple[Hashable, float]] = {}
        self._delay = delay
        self._nursery = nursery
        self._ageing = ageing
        self.flooded = 0
        """Frames that went out of all ports but one."""
        if delay and nursery is None:
            raise ValueError("frames that take their time need a nursery")

    def attach(self, port: Hashable, output: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """Connect a port; return what takes the frames that come in by it."""
        self._ports[port] = output
        return lambda frame: self.receive(port, frame)

    def receive(self, port: Hashable, frame: bytes) -> None:
        """Take a frame from a port."""
        vlan = vlan_of(frame)
        if not is_group(frame[6:12]):
            self._table[vlan, frame[6:12]] = port, trio.current_time()
        learned = None if is_group(frame[:6]) else self._find(vlan, frame[:6])
        if learned is not None:
            if learned != port:
                self._send(learned, frame)
            return
        self.flooded += 1
        for other in list(self._ports):
            if other != port:
                self._send(other, frame)

    def port_of(self, mac: bytes, vlan: int = -1) -> Hashable | None:
        """Return where an address was learned, or None.

        :param vlan: -1: untagged.
        """
        return self._find(vlan, mac)

    def _find(self, vlan: int, mac: bytes) -> Hashable | None:
        entry = self._table.get((vlan, mac))
        if entry is None:
            return None
        port, seen = entry
        return None if self._ageing is not None and trio.current_time() - seen > self._ageing else port

    def _send(self, port: Hashable, frame: bytes) -> None:
        if self._delay and self._nursery is not None:
            self._nursery.start_soon(self._travel, port, frame)
        else:
            self._ports[port](frame)

    async def _travel(self, port: Hashable, frame: bytes) -> None:
        await trio.sleep(self._delay)
        self._ports[port](frame)
