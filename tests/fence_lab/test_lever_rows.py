# SPDX-License-Identifier: Apache-2.0
"""The lever matrix as data: which rows a PF gets, and what plans come of them."""

import pytest

from vferry.core.fence import Column, FenceImpossibleError, FencePlan, Lever, LeverRow, Mode, UndoCost, plan_fence
from vferry.core.levers import ANY, LEVERS, lever_rows
from vferry.core.model import AdminState, EswitchMode, LinkState, PfFacts

ALL_ROWS = [row for rows in (*LEVERS.values(), ANY) for row in rows]


def pf(vendor: str, device_id: str, driver: str, eswitch_mode: EswitchMode | None = None) -> PfFacts:
    return PfFacts(
        name="eth0",
        device="0000:01:00.0",
        bus="pci",
        driver=driver,
        vendor=vendor,
        device_id=device_id,
        num_vfs=2,
        eswitch_mode=eswitch_mode,
    )


IGB, I350 = pf("8086", "10c9", "igb"), pf("8086", "1521", "igb")
IXGBE, I40E, ICE = pf("8086", "10fb", "ixgbe"), pf("8086", "1572", "i40e"), pf("8086", "1592", "ice")
MLX5, BNXT = pf("15b3", "101d", "mlx5_core"), pf("14e4", "16d8", "bnxt_en")


def plan_of(nic: PfFacts, mode: Mode, *, trust: bool = False) -> FencePlan:
    now = AdminState(mac="52:54:00:00:00:01", vlans=(), spoofchk=True, trust=trust, link_state=LinkState.AUTO)
    return plan_fence(
        lever_rows(nic), mode=mode, now=now, can_reset=True, capabilities=None, parking="02:76:66:00:00:01"
    )


def test_a_device_with_rows_of_its_own_comes_before_its_driver() -> None:
    assert {row.source for row in lever_rows(IGB)} != {row.source for row in lever_rows(I350)}
    assert "read, not seen" in lever_rows(I350)[0].source
    assert lever_rows(BNXT) == ANY


def test_in_switchdev_mode_no_lever_is_known() -> None:
    assert lever_rows(pf("8086", "1592", "ice", EswitchMode.LEGACY)) == lever_rows(ICE)
    with pytest.raises(FenceImpossibleError):
        plan_of(pf("8086", "1592", "ice", EswitchMode.SWITCHDEV), Mode.COLD)


@pytest.mark.parametrize("row", ALL_ROWS, ids=lambda row: f"{row.lever.value}-{row.source[:12]}")
def test_every_row_says_where_it_is_from_and_whether_it_was_seen(row: LeverRow) -> None:
    assert ("never on silicon" in row.source) + ("not seen" in row.source) + ("not observed" in row.source) == 1


@pytest.mark.parametrize("rows", [*LEVERS.values(), ANY])
def test_every_need_can_be_met_and_no_lever_has_two_rows(rows: tuple[LeverRow, ...]) -> None:
    levers = [row.lever for row in rows]
    assert len(set(levers)) == len(levers)
    assert all(row.needs <= set(levers) for row in rows)


def test_igb_keeps_the_vf_as_it_is_where_its_state_moves() -> None:
    plan = plan_of(IGB, Mode.DEVICE_STATE, trust=True)
    assert set(plan.levers) == {Lever.PARKING_MAC, Lever.PARKING_VLAN, Lever.TRUST_OFF}
    assert set(plan.covered) == {Column.ADMIN_UNICAST, Column.MULTICAST, Column.TRANSMIT}
    assert plan.undo_cost is UndoCost.SETTING


def test_a_reset_is_never_without_a_port_vlan() -> None:
    for nic in (IGB, I350, IXGBE, I40E, ICE):
        plan = plan_of(nic, Mode.FAILOVER, trust=True)
        assert {Lever.PARKING_MAC, Lever.PARKING_VLAN, Lever.TRUST_OFF, Lever.RESET} == set(plan.levers)
        assert set(plan.uncovered) <= {Column.GUEST_UNICAST}


def test_a_driver_whose_setters_reset_the_vf_cannot_fence_a_vf_whose_state_moves() -> None:
    for nic in (I40E, ICE):
        with pytest.raises(FenceImpossibleError, match="the mode does not allow it"):
            plan_of(nic, Mode.DEVICE_STATE)
    assert plan_of(IXGBE, Mode.DEVICE_STATE).undo_cost is UndoCost.NONE
    with pytest.raises(FenceImpossibleError):
        plan_of(IXGBE, Mode.DEVICE_STATE, trust=True)


@pytest.mark.parametrize("mode", Mode)
def test_mlx5_is_refused_because_its_switch_follows_the_guest(mode: Mode) -> None:
    with pytest.raises(FenceImpossibleError, match="admin_unicast"):
        plan_of(MLX5, mode)
