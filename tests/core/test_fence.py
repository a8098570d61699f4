# SPDX-License-Identifier: Apache-2.0
"""Fence plans: coverage first, then the cost of the undo; what is not covered is named."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vferry.core.capability import CapabilityKey, CapabilityTable, Feature, Learned, Verdict
from vferry.core.fence import (
    ASSUMED_PARKING_VID,
    Column,
    FenceImpossibleError,
    FencePlan,
    Lever,
    LeverRow,
    Mode,
    UndoCost,
    is_parking_mac,
    parking_mac,
    plan_fence,
)
from vferry.core.levers import ANY, LEVERS
from vferry.core.model import ZERO_MAC, AdminState, LinkState, Vlan

PARKING = "02:76:66:00:00:01"
NOW = AdminState(mac="52:54:00:00:00:01", vlans=(), spoofchk=False, link_state=LinkState.AUTO, trust=True)


def row(
    lever: Lever, *covers: Column, cost: UndoCost = UndoCost.NONE, needs: tuple[Lever, ...] = (), loses: str = ""
) -> LeverRow:
    return LeverRow(
        lever=lever, covers=frozenset(covers), undo_cost=cost, needs=frozenset(needs), loses=loses, source=lever.value
    )


MAC = row(Lever.PARKING_MAC, Column.ADMIN_UNICAST, needs=(Lever.TRUST_OFF,), loses="the guest's own MAC")
VLAN = row(Lever.PARKING_VLAN, Column.MULTICAST, Column.TRANSMIT, cost=UndoCost.SETTING, loses="stripping")
SPOOFCHK = row(Lever.SPOOFCHK, Column.TRANSMIT, needs=(Lever.PARKING_MAC,))
TRUST = row(Lever.TRUST_OFF)
LINK = row(Lever.LINK_STATE, Column.DMA, cost=UndoCost.LINK_FLAP)
RESET = row(Lever.RESET, Column.GUEST_UNICAST, Column.DMA, cost=UndoCost.VF_RESET)
ALL = (MAC, VLAN, SPOOFCHK, TRUST, LINK, RESET)


def plan(
    *rows: LeverRow,
    mode: Mode = Mode.DEVICE_STATE,
    now: AdminState = NOW,
    can_reset: bool = True,
    capabilities: CapabilityTable | None = None,
    required: frozenset[Column] = frozenset(),
    parking_vid: int = ASSUMED_PARKING_VID,
) -> FencePlan:
    return plan_fence(
        rows,
        mode=mode,
        now=now,
        can_reset=can_reset,
        capabilities=capabilities,
        parking=PARKING,
        parking_vid=parking_vid,
        required=required,
    )


def table(**verdicts: Verdict) -> CapabilityTable:
    return CapabilityTable(
        key=CapabilityKey(driver="d", kernel_release="6.12"),
        learned_on="2026-01-01",
        source="probe",
        features={Feature(name): Learned(verdict=verdict) for name, verdict in verdicts.items()},
    )


def test_a_whole_plan() -> None:
    found = plan(*ALL)
    assert set(found.levers) == {Lever.PARKING_MAC, Lever.PARKING_VLAN, Lever.TRUST_OFF, Lever.LINK_STATE}
    assert found.change == AdminState(mac=PARKING, vlans=(Vlan(vid=4094),), trust=False, link_state=LinkState.DISABLE)
    assert found.covered[Column.ADMIN_UNICAST] == (Lever.PARKING_MAC,)
    assert set(found.uncovered) == {Column.GUEST_UNICAST, Column.GUEST_VLAN}
    assert found.undo_cost is UndoCost.LINK_FLAP
    assert found.loses == ("the guest's own MAC", "stripping")
    assert set(found.sources) == {"parking_mac", "parking_vlan", "trust_off", "link_state"}


def test_the_cheaper_of_two_levers_for_the_same() -> None:
    dear = row(Lever.LINK_STATE, Column.TRANSMIT, cost=UndoCost.LINK_FLAP)
    found = plan(MAC, TRUST, dear, SPOOFCHK)
    assert Lever.SPOOFCHK in found.levers
    assert Lever.LINK_STATE not in found.levers
    assert found.undo_cost is UndoCost.NONE


def test_coverage_goes_before_cost() -> None:
    dear = row(Lever.LINK_STATE, Column.TRANSMIT, Column.MULTICAST, cost=UndoCost.LINK_FLAP)
    found = plan(MAC, TRUST, SPOOFCHK, dear)
    assert Lever.LINK_STATE in found.levers
    assert Lever.SPOOFCHK not in found.levers, "it covers nothing more"


def test_no_lever_is_used_that_covers_nothing() -> None:
    useless = row(Lever.LINK_STATE)
    assert plan(MAC, TRUST, useless).levers == (Lever.PARKING_MAC, Lever.TRUST_OFF)
    assert plan(MAC, TRUST, now=AdminState(trust=False)).levers == (Lever.PARKING_MAC,)


@pytest.mark.parametrize(
    ("trust", "capabilities", "possible"),
    [
        (False, None, True),
        (True, None, False),
        (None, None, False),
        (None, table(trust=Verdict.REFUSED), True),
        (None, table(trust=Verdict.ACCEPTED), False),
        (True, table(trust=Verdict.REFUSED), False),
    ],
)
def test_a_parking_mac_needs_that_the_guest_is_not_trusted(
    trust: bool | None, capabilities: CapabilityTable | None, possible: bool
) -> None:
    """Absent is not "off": unless the driver is known to have no trust, it has to be taken away."""
    now = AdminState(mac="52:54:00:00:00:01", trust=trust)
    if possible:
        assert plan(MAC, now=now, capabilities=capabilities).levers == (Lever.PARKING_MAC,)
    else:
        with pytest.raises(FenceImpossibleError):
            plan(MAC, now=now, capabilities=capabilities)


def test_needs_of_needs() -> None:
    assert set(plan(MAC, SPOOFCHK, TRUST).levers) == {Lever.PARKING_MAC, Lever.SPOOFCHK, Lever.TRUST_OFF}
    with pytest.raises(FenceImpossibleError) as impossible:
        plan(SPOOFCHK, MAC)
    assert "together with a lever that cannot be used here" in impossible.value.why


def test_a_reset_is_for_vfs_that_nobody_has_to_find_again() -> None:
    assert Lever.RESET not in plan(*ALL).levers
    for mode in (Mode.FAILOVER, Mode.COLD):
        found = plan(*ALL, mode=mode)
        assert Lever.RESET in found.levers
        assert Column.GUEST_UNICAST in found.covered
        assert Lever.RESET not in plan(*ALL, mode=mode, can_reset=False).levers


def test_a_setting_that_resets_the_vf_is_no_lever_for_device_state() -> None:
    resetting = row(Lever.PARKING_MAC, Column.ADMIN_UNICAST, cost=UndoCost.VF_RESET)
    with pytest.raises(FenceImpossibleError, match="mode does not allow"):
        plan(resetting)
    assert plan(resetting, mode=Mode.COLD).undo_cost is UndoCost.VF_RESET


@pytest.mark.parametrize("verdict", Verdict)
def test_a_lever_that_the_driver_is_known_not_to_have(verdict: Verdict) -> None:
    found = plan(MAC, TRUST, VLAN, capabilities=table(vlan=verdict))
    usable = verdict in (Verdict.ACCEPTED, Verdict.NOT_SHOWN)
    assert (Lever.PARKING_VLAN in found.levers) == usable
    if not usable:
        assert found.uncovered[Column.MULTICAST] == "parking_vlan would, and the driver or the mode does not allow it"


def test_required_columns_refuse() -> None:
    assert plan(*ALL, required=frozenset({Column.TRANSMIT})).covered[Column.TRANSMIT]
    with pytest.raises(FenceImpossibleError) as impossible:
        plan(*ALL, required=frozenset({Column.GUEST_UNICAST, Column.GUEST_VLAN}))
    assert "guest_unicast: reset would" in impossible.value.why
    assert "guest_vlan: no lever known" in impossible.value.why
    assert "vferry probe" in impossible.value.next_step


def test_the_vms_own_address_is_always_required() -> None:
    with pytest.raises(FenceImpossibleError, match="admin_unicast"):
        plan(VLAN, LINK)
    with pytest.raises(FenceImpossibleError):
        plan()


def test_the_parking_vlan_is_the_operators() -> None:
    assert plan(*ALL, parking_vid=7).change.vlans == (Vlan(vid=7),)


def test_an_exchanged_port_vlan_loses_nothing() -> None:
    tagged = AdminState(mac=NOW.mac, vlans=(Vlan(vid=5),), trust=False)
    assert plan(MAC, VLAN, now=tagged).loses == ("the guest's own MAC",)
    assert plan(MAC, VLAN, now=tagged).undo_cost is UndoCost.NONE


def test_what_is_not_shown_cannot_come_back_and_that_is_said() -> None:
    found = plan(MAC, TRUST, VLAN, now=AdminState(mac=NOW.mac))
    assert "trust: the driver does not show what it was" in found.loses
    assert "vlans: the driver does not show what it was" in found.loses
    assert not any(loss.startswith("mac:") for loss in found.loses)


@st.composite
def rows(draw: st.DrawFn) -> list[LeverRow]:
    levers = draw(st.lists(st.sampled_from(Lever), unique=True, max_size=6))
    columns = st.frozensets(st.sampled_from(Column), max_size=3)
    return [
        row(
            lever,
            *draw(columns),
            cost=draw(st.sampled_from(UndoCost)),
            needs=tuple(draw(st.frozensets(st.sampled_from(Lever), max_size=1)) - {lever}),
        )
        for lever in levers
    ]


@given(rows(), st.sampled_from(Mode), st.booleans(), st.booleans())
def test_no_other_plan_covers_more_or_the_same_for_less(
    found: list[LeverRow], mode: Mode, trust: bool, can_reset: bool
) -> None:
    """Against every other choice that there is."""
    allowed = [
        one
        for one in found
        if (one.lever is not Lever.RESET and (mode is not Mode.DEVICE_STATE or one.undo_cost < UndoCost.VF_RESET))
        or (one.lever is Lever.RESET and can_reset and mode is not Mode.DEVICE_STATE)
    ]
    given_levers = set() if trust else {Lever.TRUST_OFF}
    sound = [
        chosen
        for size in range(len(allowed) + 1)
        for chosen in combinations(allowed, size)
        if all(one.needs <= given_levers | {other.lever for other in chosen} for one in chosen)
    ]
    most = max(len(frozenset().union(*(one.covers for one in chosen))) for chosen in sound)
    now = AdminState(mac=NOW.mac, trust=trust)
    try:
        best = plan(*found, mode=mode, now=now, can_reset=can_reset)
    except FenceImpossibleError:
        assert not any(Column.ADMIN_UNICAST in one.covers for chosen in sound for one in chosen)
        return
    assert len(best.covered) == most
    assert set(best.covered) | set(best.uncovered) == set(Column)
    assert not set(best.covered) & set(best.uncovered)
    cheapest = min(
        max(one.undo_cost for one in chosen)
        for chosen in sound
        if chosen and len(frozenset().union(*(one.covers for one in chosen))) == most
    )
    assert max(one.undo_cost for one in allowed if one.lever in best.levers) == cheapest


@pytest.mark.parametrize("matrix", [ANY, *LEVERS.values()])
def test_every_row_that_ships_names_its_source_and_needs_what_it_has(matrix: tuple[LeverRow, ...]) -> None:
    levers = [one.lever for one in matrix]
    assert len(set(levers)) == len(levers)
    for one in matrix:
        assert one.source
        assert one.needs <= set(levers)


@given(st.text(min_size=1, max_size=40), st.integers(0, 0xFFFF))
def test_a_parking_mac_is_unicast_local_and_recognised(address: str, index: int) -> None:
    mac = parking_mac(address, index)
    octets = bytes.fromhex(mac.replace(":", ""))
    assert len(octets) == 6
    assert octets[0] & 1 == 0, "unicast"
    assert octets[0] & 2 == 2, "locally administered"
    assert is_parking_mac(mac)
    assert parking_mac(address, index) == mac


def test_no_two_vfs_of_a_pf_have_the_same_parking_mac() -> None:
    macs = {parking_mac("52:54:00:aa:00:01", index) for index in range(0x10000)}
    assert len(macs) == 0x10000


def test_vfs_of_several_pfs_have_others() -> None:
    macs = [parking_mac(f"52:54:00:aa:{pf:02x}:01", index) for pf in range(64) for index in range(64)]
    assert len(set(macs)) == len(macs)


@pytest.mark.parametrize("mac", [None, ZERO_MAC, "52:54:00:00:00:01", "02:76:67:00:00:01"])
def test_what_is_no_parking_mac(mac: str | None) -> None:
    assert not is_parking_mac(mac)
