# SPDX-License-Identifier: Apache-2.0
"""The switch itself: which ports a frame leaves by. No sockets, no clock.

It learns as a VLAN-aware bridge does (IEEE 802.1Q, independent VLAN learning): an address is known in one VLAN at one
port, the one it was last seen at. Every port carries every VLAN; untagged frames are VLAN 0.
"""

from __future__ import annotations

from collections.abc import Mapping

Station = tuple[int, bytes]
"""A VLAN id and a MAC address in it."""

_TAG_TYPES = (b"\x81\x00", b"\x88\xa8")
_SHORTEST = 14


def vlan_of(frame: bytes) -> int:
    """Return the VLAN id of the outer tag, 0 without one."""
    if frame[12:14] in _TAG_TYPES and len(frame) >= 18:
        return int.from_bytes(frame[14:16], "big") & 0xFFF
    return 0


class LearningSwitch:
    """Ports, by number, and what has been learned about them."""

    def __init__(self) -> None:
        self._links: dict[int, bool] = {}
        self._learned: dict[Station, int] = {}
        #: Flood every frame and learn nothing, as a hub.
        self.hub = False

    def add_port(self, port: int) -> None:
        """Add a port; its link is up."""
        self._links[port] = True

    def set_link(self, port: int, *, up: bool) -> None:
        """Bring a port's link up or down. What was learned at it is forgotten when it goes down."""
        self._links[port] = up
        if not up:
            self._learned = {station: at for station, at in self._learned.items() if at != port}

    def link(self, port: int) -> bool:
        """Tell whether the port's link is up."""
        return self._links[port]

    def forget(self) -> None:
        """Forget all addresses."""
        self._learned.clear()

    @property
    def learned(self) -> Mapping[Station, int]:
        """Where each address was last seen."""
        return self._learned

    def forward(self, port: int, frame: bytes) -> tuple[int, ...]:
        """Learn from a frame that came in at ``port`` and return the ports it leaves by.

        The result is empty for a frame whose destination is behind ``port`` itself: a switch filters it.
        """
        others = tuple(other for other, up in self._links.items() if up and other != port)
        if len(frame) < _SHORTEST:
            return ()
        if self.hub:
            return others
        vlan, destination, source = vlan_of(frame), frame[:6], frame[6:12]
        if not source[0] & 1:
            self._learned[(vlan, source)] = port
        if destination[0] & 1:
            return others
        known = self._learned.get((vlan, destination))
        if known is None:
            return others
        return (known,) if known in others else ()
