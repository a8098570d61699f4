# SPDX-License-Identifier: Apache-2.0
"""The internal switch of the NIC: who gets a frame that a pool sends, or that comes in by the wire.

It decides by PF registers and nothing else (see :mod:`vferry.nic.ixgbe.filters` for the order of decisions), and it is
what makes a stale filter dangerous: after a VM has moved to another host, the RAL/RAH entry with its address keeps
taking its neighbours' frames off the wire, and a cleared VFRE bit only turns delivery into loss
(:attr:`SwitchLoss.VFRE_OFF`). Once the entry is gone, frames for that address leave by the wire.

A pool's own frame passes, in this order: VFTE; the rate limiter; MAC anti-spoof; VLAN anti-spoof; VMVIR; the switch.

* MAC anti-spoof: the source address must be in a valid RAL/RAH entry whose MPSAR names the pool.
* VLAN anti-spoof: the VLAN of a tagged frame must be in a valid VLVF entry whose VLVFB names the pool. An untagged
  frame passes. (How the 82599 treats untagged frames is specification clarification 15 of its update; only its title
  was seen. ixgbe makes every VF a member of VLAN 0, with which both readings are the same.)
* VMVIR with "default" tags every frame of the pool. A frame that has a tag already is judged by that tag, and then
  gets the port VLAN as a second one, outside: the pool cannot leave its port VLAN. With VLAN anti-spoof, which ixgbe
  switches on, such a frame is dropped unless its own tag names a VLAN of the pool. (A tag that a guest's driver asks
  for in the descriptor and one in the data are the same here; the hardware replaces the former.)

A pool never gets its own frame back from the switch. In VEPA mode every frame goes to the wire, and what the next
switch reflects comes back to all, the sender included: the 82599 does not prune by source address.

MAXFRS limits what comes in by the wire, not what is sent.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

from vferry.nic.ixgbe.filters import FILTER_OFFSETS, POOLS, ROUTES_KEPT, Filters, Route, pools_of
from vferry.nic.ixgbe.frame import FCS_SIZE, HEADER_SIZE, TAG_SIZE, TPID, UNTAGGED, vlan_of, with_tag, without_tag
from vferry.nic.ixgbe.rate_limiter import RateLimiter
from vferry.nic.ixgbe.registers import pf

__all__ = ["FILTER_OFFSETS", "WIRE", "Switch", "SwitchLoss"]

WIRE: Final = POOLS
"""In place of a pool, for a frame that came in by the wire and is lost without any pool having been chosen."""


class SwitchLoss(enum.Enum):
    """Why a frame, or one pool's copy of it, was lost within the NIC. The pool is the sender, but where told."""

    VFRE_OFF = "VFRE off"
    """The pool is the one that should have got it: its filters took the frame, its receiver is off."""
    VFTE_OFF = "VFTE off"
    SPOOFED_MAC = "spoofed MAC"
    SPOOFED_VLAN = "spoofed VLAN"
    NO_POOL = "no pool"
    """Nobody is there to get it; the pool is the sender, or :data:`WIRE`."""
    VLAN_FILTERED = "VLAN filtered"
    """From the wire, with a VLAN that is not in VFTA; the pool is :data:`WIRE`."""
    TOO_LONG = "too long"
    """From the wire, longer than MAXFRS; the pool is :data:`WIRE`."""
    TOO_SHORT = "too short"
    """Not even an Ethernet header; the pool is the sender, or :data:`WIRE`."""
    RATE_LIMITED = "rate limited"
    """The pool's backlog is full, or was discarded."""
    NO_SINK = "no sink"
    """For the switch's user: the pool that got it has nowhere to put it."""


def _zero(_offset: int) -> int:
    return 0


_NOTHING: Final = Filters(_zero)
"""Stands in until the registers are read for the first time."""


class _Port:
    """What a pool may send, decoded."""

    __slots__ = ("plain", "sources", "tag", "transmits", "vlans")

    def __init__(self, *, transmits: bool, limited: bool, tag: bytes) -> None:
        self.transmits = transmits
        self.tag = tag
        """The port VLAN, or nothing."""
        self.plain = transmits and not limited and not tag
        """Whether an untagged frame is only checked for its source and leaves as it is."""
        self.sources: set[bytes] | None = None
        """Addresses that it may send from; ``None``: any."""
        self.vlans: set[int] | None = None
        """VLANs that it may tag with; ``None``: any."""


class Switch:
    """The switch of one port, 64 pools and a wire.

    The callables must not be slow, and may call the switch again.

    :param peek: reads a PF register without any side effect.
    :param poke: sets one without any side effect; used to count SSVPC.
    :param now: seconds, for the rate limiter.
    :param deliver: takes a frame for a pool's receive queue.
    :param uplink: takes a frame that leaves by the wire.
    :param lose: is told of what is lost: why, whose (see :class:`SwitchLoss`), the frame.
    """

    def __init__(
        self,
        *,
        peek: Callable[[int], int],
        poke: Callable[[int, int], None],
        now: Callable[[], float],
        deliver: Callable[[int, bytes], None],
        uplink: Callable[[bytes], None],
        lose: Callable[[SwitchLoss, int, bytes], None],
    ) -> None:
        self._peek = peek
        self._poke = poke
        self._now = now
        self._deliver = deliver
        self._uplink = uplink
        self._lose = lose
        self._limiter = RateLimiter(POOLS)
        self._stale = True
        self._filters = _NOTHING
        self._ports: list[_Port] = []
        self._from_pool: dict[bytes, Route] = {}
        self._from_wire: dict[bytes, Route] = {}
        self._longest = 0

    def changed(self) -> None:
        """Forget what was derived from registers: one of :data:`FILTER_OFFSETS` was written. Cheap; repeat freely."""
        self._stale = True

    def transmit(self, pool: int, frame: bytes) -> None:
        """Take a frame from a pool's transmit queue.

        :param pool: 0..63.
        """
        if self._stale:
            self._derive()
        port = self._ports[pool]
        if not port.plain or frame[12:14] == TPID or len(frame) < HEADER_SIZE:
            self._transmit_checked(pool, port, frame)
            return
        if port.sources is not None and frame[6:12] not in port.sources:
            self._drop_spoofed(SwitchLoss.SPOOFED_MAC, pool, frame)
            return
        route = self._from_pool.get(frame[:6])
        if route is None:
            route = self._decide_from_pool(frame[:6], frame)
        for other in route.kept:
            if other != pool:
                self._deliver(other, frame)
            elif route.alone:
                self._lose(SwitchLoss.NO_POOL, pool, frame)
        if route.wire:
            self._uplink(frame)
        if route.lossy:
            self._account(route, pool, frame)

    def receive(self, frame: bytes) -> None:
        """Take a frame from the wire."""
        if self._stale:
            self._derive()
        if len(frame) > self._longest or frame[12:14] == TPID or len(frame) < HEADER_SIZE:
            self._receive_checked(frame)
            return
        route = self._from_wire.get(frame[:6])
        if route is None:
            route = self._decide_from_wire(frame[:6], frame)
        for pool in route.kept:
            self._deliver(pool, frame)
        if route.lossy:
            self._account(route, WIRE, frame)

    def set_rate(self, pool: int, value: int) -> None:
        """Take what was written to RTTBCNRC while RTTDQSEL selected a queue of this pool (see ``rate_limiter``).

        A pool whose limit is taken away sends at once what waited.
        """
        self._limiter.set_rate(pool, value)
        self._stale = True
        self.service(self._now())

    def set_link_speed(self, megabits: int) -> None:
        """Take the link's speed in Mb/s, which rates are relative to; 10000 until told.

        :raise ValueError: if it is not positive.
        """
        self._limiter.set_link_speed(megabits)

    def next_release(self) -> float | None:
        """Return when :meth:`service` has something to do next, on the clock of ``now``; ``None``: nothing waits."""
        return self._limiter.next_release()

    def service(self, now: float) -> None:
        """Send on the frames that the rate limiter held back and that may start by now, in the order of their times."""
        released = self._limiter.pop(now)
        while released is not None:
            self._forward_released(*released)
            released = self._limiter.pop(now)

    def discard(self, pool: int) -> None:
        """Lose what waits for the rate limiter in a pool, as a reset of its function does."""
        self._stale = True
        for frame in self._limiter.discard(pool):
            self._lose(SwitchLoss.RATE_LIMITED, pool, frame)

    def _derive(self) -> None:
        """Decode the registers anew."""
        self._filters = filters = Filters(self._peek)
        self._longest = filters.max_frame - FCS_SIZE
        self._limiter.set_window(self._peek(pf.RTTBCNRM.offset))
        self._from_pool = {}
        self._from_wire = {}
        self._ports = [self._port(filters, pool) for pool in range(POOLS)]
        for pool in pools_of(filters.mac_checked):
            self._ports[pool].sources = set()
        for pool in pools_of(filters.vlan_checked):
            self._ports[pool].vlans = set()
        for address, mask in filters.addresses.items():
            for pool in pools_of(mask & filters.mac_checked):
                _add_address(self._ports[pool], address)
        for vid, mask in filters.vlans.items():
            for pool in pools_of(mask & filters.vlan_checked):
                _add_vlan(self._ports[pool], vid)
        self._stale = False

    def _port(self, filters: Filters, pool: int) -> _Port:
        control = filters.port_vlans[pool]
        return _Port(
            transmits=bool(filters.transmitting >> pool & 1),
            limited=self._limiter.is_limited(pool),
            tag=b"" if control == UNTAGGED else TPID + control.to_bytes(2, "big"),
        )

    def _decide_from_pool(self, key: bytes, frame: bytes) -> Route:
        """Decide, and remember it by the frame's destination and the tag, if any."""
        if len(self._from_pool) >= ROUTES_KEPT:
            self._from_pool.clear()
        route = self._filters.from_pool(frame[:6], vlan_of(frame))
        self._from_pool[key] = route
        return route

    def _decide_from_wire(self, key: bytes, frame: bytes) -> Route:
        if len(self._from_wire) >= ROUTES_KEPT:
            self._from_wire.clear()
        route = self._filters.from_wire(frame[:6], vlan_of(frame))
        self._from_wire[key] = route
        return route

    def _transmit_checked(self, pool: int, port: _Port, frame: bytes) -> None:
        """Transmit what is not plain: short, tagged, to be tagged, rate limited, or not to be sent at all."""
        if len(frame) < HEADER_SIZE:
            self._lose(SwitchLoss.TOO_SHORT, pool, frame)
        elif not port.transmits:
            self._lose(SwitchLoss.VFTE_OFF, pool, frame)
        elif self._limiter.is_limited(pool):
            if not self._limiter.offer(pool, frame, self._now()):
                self._lose(SwitchLoss.RATE_LIMITED, pool, frame)
            self.service(self._now())
        else:
            self._check_and_forward(pool, port, frame)

    def _forward_released(self, pool: int, frame: bytes) -> None:
        """Send on a frame that waited, by the registers of this instant."""
        if self._stale:
            self._derive()
        port = self._ports[pool]
        if not port.transmits:
            self._lose(SwitchLoss.VFTE_OFF, pool, frame)
        else:
            self._check_and_forward(pool, port, frame)

    def _check_and_forward(self, pool: int, port: _Port, frame: bytes) -> None:
        vid = vlan_of(frame)
        if port.sources is not None and frame[6:12] not in port.sources:
            self._drop_spoofed(SwitchLoss.SPOOFED_MAC, pool, frame)
        elif port.vlans is not None and vid != UNTAGGED and vid not in port.vlans:
            self._drop_spoofed(SwitchLoss.SPOOFED_VLAN, pool, frame)
        else:
            self._forward(pool, with_tag(frame, port.tag) if port.tag else frame)

    def _forward(self, pool: int, frame: bytes) -> None:
        """Switch a frame of a pool, tagged or not."""
        key = _key(frame)
        route = self._from_pool.get(key)
        if route is None:
            route = self._decide_from_pool(key, frame)
        self._hand_out(route, pool, frame)
        if route.wire:
            self._uplink(frame)
        if route.lossy:
            self._account(route, pool, frame)

    def _receive_checked(self, frame: bytes) -> None:
        """Receive what is tagged, short or long. A tag does not count towards MAXFRS."""
        vid = vlan_of(frame) if len(frame) >= HEADER_SIZE else UNTAGGED
        if len(frame) < HEADER_SIZE:
            self._lose(SwitchLoss.TOO_SHORT, WIRE, frame)
        elif len(frame) > self._longest + (0 if vid == UNTAGGED else TAG_SIZE):
            self._lose(SwitchLoss.TOO_LONG, WIRE, frame)
        elif not self._filters.admits_vlan(vid):
            self._lose(SwitchLoss.VLAN_FILTERED, WIRE, frame)
        else:
            key = _key(frame)
            route = self._from_wire.get(key)
            if route is None:
                route = self._decide_from_wire(key, frame)
            self._hand_out(route, WIRE, frame)
            if route.lossy:
                self._account(route, WIRE, frame)

    def _hand_out(self, route: Route, source: int, frame: bytes) -> None:
        """Deliver a frame to its pools, without the tag to those whose port VLAN it is."""
        for pool in route.kept:
            if pool != source:
                self._deliver(pool, frame)
            elif route.alone:
                self._lose(SwitchLoss.NO_POOL, source, frame)
        bare = without_tag(frame) if route.stripped else frame
        for pool in route.stripped:
            if pool != source:
                self._deliver(pool, bare)
            elif route.alone:
                self._lose(SwitchLoss.NO_POOL, source, frame)

    def _account(self, route: Route, source: int, frame: bytes) -> None:
        """Tell of what is lost behind the decision; a copy for the sender is none."""
        for pool in route.lost:
            if pool != source:
                self._lose(SwitchLoss.VFRE_OFF, pool, frame)
            elif route.alone:
                self._lose(SwitchLoss.NO_POOL, source, frame)
        if not (route.wire or route.kept or route.stripped or route.lost):
            self._lose(SwitchLoss.NO_POOL, source, frame)

    def _drop_spoofed(self, reason: SwitchLoss, pool: int, frame: bytes) -> None:
        """Drop a frame; SSVPC counts it only for pools in VMECM, which has no other effect."""
        if self._peek(pf.VMECM.address(pool >> 5)) >> (pool & 31) & 1:
            offset = pf.SSVPC.offset
            self._poke(offset, (self._peek(offset) + 1) & 0xFFFFFFFF)
        self._lose(reason, pool, frame)


def _add_address(port: _Port, address: bytes) -> None:
    if port.sources is not None:
        port.sources.add(address)


def _add_vlan(port: _Port, vid: int) -> None:
    if port.vlans is not None:
        port.vlans.add(vid)


def _key(frame: bytes) -> bytes:
    """Return what a decision is remembered by: the destination, and the outer tag's last two octets if there is one."""
    return frame[:6] if vlan_of(frame) == UNTAGGED else frame[:6] + frame[14:16]
