# SPDX-License-Identifier: Apache-2.0
"""Gives every frame to the VM exactly one fate, by looking at the counters of everything before and after it.

All of the simulated data path happens within the call that sends a frame, so what has changed since is its doing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from vferry.demo.report import Fate, Swallowed, Talker
from vferry.nic.ixgbe.hardware import Ixgbe82599
from vferry.nic.ixgbe.switch import WIRE, SwitchLoss
from vferry.testing.world.guest import Flow, Guest

__all__ = ["Account", "AccountError", "Accountant", "VmVf"]


class AccountError(AssertionError):
    """A frame has no fate, or two: the demo's own figures would be wrong."""


class VmVf(NamedTuple):
    """The VM's talking VF on one host."""

    host: str
    pf: str
    hardware: Ixgbe82599
    vf: int
    own_pool: int
    """The PF's."""


class _Look(NamedTuple):
    received: int
    dead: int
    delivered: tuple[int, ...]
    losses: tuple[Mapping[tuple[SwitchLoss, int], int], ...]


class Account:
    """The frames of one talker."""

    def __init__(self, name: str, first: float) -> None:
        self.name = name
        self.first = first
        self.letters: list[str] = []
        self.dead_copies = 0

    def talker(self, to_vm: Flow, to_peer: Flow) -> Talker:
        """Return the account, closed.

        :raise AccountError: it does not add up.
        """
        frames = "".join(self.letters)
        received = frames.count(Fate.ON_A.value) + frames.count(Fate.ON_B.value)
        if (len(frames), received) != (to_vm.sent, to_vm.received) or to_vm.doubled:
            raise AccountError(f"{self.name}: {len(frames)} fates, {received} received, the flow says {vars(to_vm)}")
        return Talker(
            name=self.name,
            first=self.first,
            frames=frames,
            dead_copies=self.dead_copies,
            sent_by_vm=to_peer.sent,
            lost_from_vm=to_peer.lost,
        )


class Accountant:
    """Watches the VM's VFs on all hosts.

    :param vfs: source first.
    """

    def __init__(self, guest: Guest, vfs: tuple[VmVf, ...]) -> None:
        self._guest = guest
        self._vfs = vfs
        self._swallowed: Counter[tuple[str, str, str]] = Counter()
        self.running: str | None = vfs[0].host
        """The host on which the VM runs now; None: stopped on all."""
        self.arrived: str | None = None
        """The host that has the VM whole, and is about to run it, or does."""

    def look(self, flow: Flow) -> _Look:
        """Return everything that a frame may change."""
        return _Look(
            flow.received,
            self._guest.dead_deliveries,
            tuple(vf.hardware.counters.rx_packets[vf.vf] for vf in self._vfs),
            tuple(dict(vf.hardware.losses) for vf in self._vfs),
        )

    def settle(self, account: Account, flow: Flow, before: _Look) -> None:
        """Note the fate of the frame that was sent since the look ``before``."""
        after = self.look(flow)
        reached = [vf for vf, old, new in zip(self._vfs, before.delivered, after.delivered, strict=True) if new > old]
        dead = [vf for vf in reached if vf.host not in (self.running, self.arrived)]
        account.dead_copies += bool(dead)
        account.letters.append(self._fate(before, after, reached, dead).value)

    def swallowed(self) -> tuple[Swallowed, ...]:
        """Return what the NICs swallowed, by host, pool and reason."""
        return tuple(
            Swallowed(host=host, pool=pool, why=why, frames=frames)
            for (host, pool, why), frames in sorted(self._swallowed.items())
        )

    def _fate(self, before: _Look, after: _Look, reached: list[VmVf], dead: list[VmVf]) -> Fate:
        if after.received > before.received:
            return Fate.ON_A if self.running == self._vfs[0].host else Fate.ON_B
        if dead:
            return Fate.DEAD
        lost = self._losses(before, after)
        if any(not self._is_awaited(vf, reason, pool) for vf, reason, pool in lost):
            for vf, reason, pool in lost:
                self._swallowed[vf.host, _pool_name(vf, pool), reason.value] += 1
            return Fate.SWALLOWED
        if lost or reached:
            return Fate.HELD
        return Fate.STOPPED if self.running is None else Fate.MISLED

    def _losses(self, before: _Look, after: _Look) -> list[tuple[VmVf, SwitchLoss, int]]:
        return [
            (vf, reason, pool)
            for vf, old, new in zip(self._vfs, before.losses, after.losses, strict=True)
            for (reason, pool), count in new.items()
            if count > old.get((reason, pool), 0)
        ]

    def _is_awaited(self, vf: VmVf, reason: SwitchLoss, pool: int) -> bool:
        """Whether a loss is of the VM's new VF, which is not ready; NO_POOL names the sender in its place."""
        return vf.host == self.arrived and (pool == vf.vf or reason is SwitchLoss.NO_POOL)


def _pool_name(vf: VmVf, pool: int) -> str:
    if pool == WIRE:
        return "the wire"
    return vf.pf if pool == vf.own_pool else f"{vf.pf}/{pool}"
