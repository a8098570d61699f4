# SPDX-License-Identifier: Apache-2.0
"""Fences: keep frames from an old VF, by what a NIC offers, and say what that proves.

A *lever* is one way to fence. What it covers, and what its undo costs, differs from NIC to NIC: that is data
(:mod:`vferry.core.levers`), and :func:`plan_fence` chooses among it. What no lever of a NIC covers is named in the
plan and in the evidence; it is never claimed.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from itertools import combinations

import msgspec

from vferry.core.capability import CapabilityTable, Feature, Verdict
from vferry.core.errors import RefusedError
from vferry.core.model import AdminState, LinkState, Vlan

__all__ = [
    "ASSUMED_PARKING_VID",
    "Column",
    "Evidence",
    "FenceImpossibleError",
    "FencePlan",
    "Grade",
    "Lever",
    "LeverRow",
    "Mode",
    "UndoCost",
    "is_parking_mac",
    "parking_mac",
    "plan_fence",
]

ASSUMED_PARKING_VID = 4094
"""The VLAN that fenced VFs are parked in unless the operator names another: the last one that may be used (802.1Q)."""

PARKING_PREFIX = "02:76:66:"
"""First octets of a parking MAC: locally administered, unicast, and "vf" in ASCII, so that it can be recognised."""


class Column(enum.Enum):
    """What a fence has to cover.

    A unicast column is covered if the VF does not receive such frames *and* those that the PF or a neighbour VF sends
    leave by the wire; the other columns, if the VF does not receive (or send) them.
    """

    ADMIN_UNICAST = "admin_unicast"
    """Unicast to the MAC that the PF holds for the VF, whatever its VLAN tag."""
    GUEST_UNICAST = "guest_unicast"
    """Unicast to MACs that the guest asked for beside it."""
    MULTICAST = "multicast"
    """Broadcast, multicast and what a promiscuous VF receives, outside the guest's VLANs."""
    GUEST_VLAN = "guest_vlan"
    """The same, tagged with a VLAN that the guest asked for."""
    TRANSMIT = "transmit"
    """Late frames of the VM, in its network under its address."""
    DMA = "dma"
    """Any write of the VF into the VM's memory."""


class UndoCost(enum.IntEnum):
    """What taking a lever back costs the guest, least first."""

    NONE = 0
    SETTING = 1
    """Something small that the guest had set is lost; the row says what."""
    LINK_FLAP = 2
    """The guest sees its link go down and up."""
    VF_RESET = 3
    """The guest's driver has to set up the VF again."""


class Mode(enum.Enum):
    """How the VM will move; says what its VF's driver can bear."""

    DEVICE_STATE = "device-state"
    """The VF's own state moves and must still be there after an undo: no reset."""
    FAILOVER = "failover"
    """The VF was unplugged from the guest: a reset harms nobody."""
    COLD = "cold"
    """The VM was shut down: a reset harms nobody."""


class Lever(enum.Enum):
    """One way to fence a VF."""

    PARKING_MAC = "parking_mac"
    """Another administrative MAC, so that the VM's leaves the NIC's switch."""
    PARKING_VLAN = "parking_vlan"
    """A port VLAN in which nobody else is."""
    SPOOFCHK = "spoofchk"
    """Anti-spoof on: with a parking MAC the NIC drops what the VM still sends under its own address."""
    TRUST_OFF = "trust_off"
    """No trust: the guest cannot put its MAC back, or stay promiscuous."""
    LINK_STATE = "link_state"
    """Link state "disable"."""
    RESET = "reset"
    """Function level reset: what the guest had asked for is dropped."""


_CHANGE_OF: dict[Lever, Feature | None] = {
    Lever.PARKING_MAC: Feature.MAC,
    Lever.PARKING_VLAN: Feature.VLAN,
    Lever.SPOOFCHK: Feature.SPOOFCHK,
    Lever.TRUST_OFF: Feature.TRUST,
    Lever.LINK_STATE: Feature.LINK_STATE_DISABLE,
    Lever.RESET: None,
}
"""The feature that a driver must have for a lever."""


class LeverRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one lever does on one kind of NIC."""

    lever: Lever
    covers: frozenset[Column]
    undo_cost: UndoCost
    needs: frozenset[Lever] = frozenset()
    """Levers without which this one covers nothing."""
    loses: str = ""
    """What is not as before after the undo, in words."""
    partly: dict[Column, str] = {}
    """Columns that it covers in part only, and what is missing, in words."""
    source: str
    """Where this was seen or read, with its date or version."""


class Grade(enum.IntEnum):
    """How well a fence is proven, weakest first."""

    ASSERTED = 0
    """The request was accepted."""
    READ_BACK = 1
    """The driver shows the setting."""
    OBSERVED = 2
    """A witness elsewhere on the segment received the probe, or the VF's counters stayed constant under it."""


class FencePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which levers fence a VF, what they cover and what their undo costs."""

    levers: tuple[Lever, ...]
    change: AdminState
    """What the levers set; a reset is not in it."""
    covered: dict[Column, tuple[Lever, ...]]
    uncovered: dict[Column, str]
    """Columns that are not covered, each with the reason. Never claimed."""
    undo_cost: UndoCost
    loses: tuple[str, ...]
    """What ``unfence`` does not bring back."""
    sources: tuple[str, ...]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What is proven of one fenced VF."""

    claims: dict[Column, Grade]
    uncovered: dict[Column, str]
    shown: AdminState
    observation: str
    """What was observed, or why nothing was."""


class FenceImpossibleError(RefusedError):
    """The NIC offers no lever that takes the VM's address out of its switch."""


def parking_mac(pf_address: str, index: int) -> str:
    """Return the parking MAC of a VF: always the same for it, unlike that of any other VF of the PF.

    VFs of other PFs have others as well, but for the odd chance that two of 2^24 starting points lie close together.

    :param pf_address: the PF's permanent address, or whatever names the PF on the segment.
    """
    from hashlib import sha256  # noqa: PLC0415 -- loads OpenSSL; only fences need it

    start = int.from_bytes(sha256(pf_address.encode()).digest()[:3], "big")
    return PARKING_PREFIX + ((start + index) % (1 << 24)).to_bytes(3, "big").hex(":")


def is_parking_mac(mac: str | None) -> bool:
    """Return whether ``mac`` was given by a fence."""
    return mac is not None and mac.startswith(PARKING_PREFIX)


def plan_fence(
    rows: Sequence[LeverRow],
    *,
    mode: Mode,
    now: AdminState,
    can_reset: bool,
    capabilities: CapabilityTable | None,
    parking: str,
    parking_vid: int = ASSUMED_PARKING_VID,
    required: frozenset[Column] = frozenset(),
    guest_stopped: bool = False,
) -> FencePlan:
    """Choose the levers that cover the most at the least undo cost.

    :param rows: what each lever does on this NIC.
    :param now: the VF's settings; a lever for a setting that the driver does not report is still tried.
    :param can_reset: whether the VF is a function that can be reset.
    :param parking: the parking MAC.
    :param required: columns that must be covered; ``ADMIN_UNICAST`` always must.
    :param guest_stopped: the guest does not run and has no VF: a trusted one cannot put its MAC back.
    :raise FenceImpossibleError: a required column cannot be covered.
    """
    usable = [row for row in rows if _usable(row, mode=mode, can_reset=can_reset, capabilities=capabilities)]
    cannot_come_back = guest_stopped or _never_trusts(now, capabilities)
    chosen = _cheapest(usable, given=frozenset({Lever.TRUST_OFF}) if cannot_come_back else frozenset())
    covered = _covered(chosen)
    levers = tuple(row.lever for row in chosen)
    change = _change(levers, parking, parking_vid)
    losses = [*(_loss(row, now) for row in chosen), *_cannot_come_back(change, now)]
    plan = FencePlan(
        levers=levers,
        change=change,
        covered=covered,
        uncovered={column: _why_not(column, rows, usable) for column in Column if column not in covered},
        undo_cost=max((_undo_cost(row, now) for row in chosen), default=UndoCost.NONE),
        loses=tuple(dict.fromkeys(loss for loss in losses if loss)),
        sources=tuple(dict.fromkeys(row.source for row in chosen)),
    )
    missing = [column for column in Column if column in plan.uncovered and column in {*required, Column.ADMIN_UNICAST}]
    if missing:
        raise FenceImpossibleError(
            "plan a fence",
            why="; ".join(f"{column.value}: {plan.uncovered[column]}" for column in missing),
            next_step="unplug the VF from the VM and unbind it, or move the VM by failover or cold; "
            "'vferry probe PF' learns what this driver can do",
        )
    return plan


def _usable(row: LeverRow, *, mode: Mode, can_reset: bool, capabilities: CapabilityTable | None) -> bool:
    if row.lever is Lever.RESET:
        return can_reset and mode is not Mode.DEVICE_STATE
    if mode is Mode.DEVICE_STATE and row.undo_cost is UndoCost.VF_RESET:
        return False
    feature = _CHANGE_OF[row.lever]
    if capabilities is None or feature is None or feature not in capabilities.features:
        return True
    return capabilities.features[feature].verdict not in (Verdict.REFUSED, Verdict.CHANGED)


def _never_trusts(now: AdminState, capabilities: CapabilityTable | None) -> bool:
    """Return whether the VF is not trusted already; a driver that does not say so must be known to have no trust."""
    if now.trust is not None or capabilities is None:
        return now.trust is False
    trust = capabilities.features.get(Feature.TRUST)
    return trust is not None and trust.verdict is Verdict.REFUSED


def _cheapest(usable: Sequence[LeverRow], *, given: frozenset[Lever]) -> tuple[LeverRow, ...]:
    """Among all sets of levers whose needs are met: most columns, then least cost, then fewest levers."""
    best: tuple[LeverRow, ...] = ()
    best_merit = (0, 0, 0, 0)
    for size in range(1, len(usable) + 1):
        for rows in combinations(usable, size):
            levers = given.union(row.lever for row in rows)
            if any(not row.needs <= levers for row in rows):
                continue
            costs = [int(row.undo_cost) for row in rows]
            merit = (len(_covered(rows)), -max(costs), -sum(costs), -size)
            if merit > best_merit:
                best, best_merit = rows, merit
    return best


def _covered(rows: Iterable[LeverRow]) -> dict[Column, tuple[Lever, ...]]:
    found: dict[Column, tuple[Lever, ...]] = {}
    for row in rows:
        for column in row.covers:
            found[column] = (*found.get(column, ()), row.lever)
    return {column: found[column] for column in Column if column in found}


def _only_exchanged(row: LeverRow, now: AdminState) -> bool:
    """Whether a port VLAN takes the place of another one: the undo brings exactly that back, and nothing is lost."""
    return row.lever is Lever.PARKING_VLAN and bool(now.vlans)


def _loss(row: LeverRow, now: AdminState) -> str:
    return "" if _only_exchanged(row, now) else row.loses


def _undo_cost(row: LeverRow, now: AdminState) -> UndoCost:
    small = row.undo_cost is UndoCost.SETTING
    return UndoCost.NONE if small and _only_exchanged(row, now) else row.undo_cost


def _cannot_come_back(change: AdminState, now: AdminState) -> Iterable[str]:
    for field in change.__struct_fields__:
        if getattr(change, field) is not None and getattr(now, field) is None:
            yield f"{field}: the driver does not show what it was"


def _change(levers: Iterable[Lever], parking: str, parking_vid: int) -> AdminState:
    chosen = set(levers)
    return AdminState(
        mac=parking if Lever.PARKING_MAC in chosen else None,
        vlans=(Vlan(vid=parking_vid),) if Lever.PARKING_VLAN in chosen else None,
        spoofchk=True if Lever.SPOOFCHK in chosen else None,
        trust=False if Lever.TRUST_OFF in chosen else None,
        link_state=LinkState.DISABLE if Lever.LINK_STATE in chosen else None,
    )


def _why_not(column: Column, rows: Sequence[LeverRow], usable: Sequence[LeverRow]) -> str:
    possible = [row for row in rows if column in row.covers]
    partly = [f"{row.lever.value}: {row.partly[column]}" for row in rows if column in row.partly]
    if not possible and partly:
        return "; ".join(partly)
    if not possible:
        return "no lever known for this NIC covers it"
    names = ", ".join(row.lever.value for row in possible)
    if any(row in usable for row in possible):
        return f"{names} would, together with a lever that cannot be used here"
    return f"{names} would, and the driver or the mode does not allow it"
