# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import msgspec
import pytest

from tests.core.preflight_cases import FRESH, MAC, OTHER_MAC, PF_MAC, codes, only, pf_facts, run, saved_vf, target
from vferry.core.findings import Severity
from vferry.core.model import ZERO_MAC, AdminState, Attribute, DeclaredState, FunctionState
from vferry.core.policy import Policy


def _admin(**changes: object) -> AdminState:
    return msgspec.structs.replace(FRESH, **changes)


def test_a_plain_vf_has_nothing_to_say() -> None:
    found = run((saved_vf(), target()))
    assert found.findings == ()
    assert found.wanted == (_admin(mac=MAC),)
    assert not found.refused


@pytest.mark.parametrize(("trust", "reason"), [(True, "trust is on"), (False, "an administrator set it")])
def test_an_undeclared_mac_is_ambiguous(*, trust: bool, reason: str) -> None:
    saved = saved_vf(admin=_admin(mac=MAC, trust=trust), declared=DeclaredState())
    found = run((saved, target()))
    finding = only(found)
    assert (finding.code, finding.severity, finding.attribute) == ("mac-ambiguous", Severity.ERROR, Attribute.MAC)
    assert reason in finding.why
    assert f"--mac src/0={MAC}" in finding.remedy
    assert "--accept-loss mac" in finding.remedy
    assert (finding.pf, finding.vf, finding.saved) == ("eth0", 0, "src/0")
    assert found.refused
    # Never silently made an administrative MAC, not even in a plan that is refused.
    assert found.wanted[0].mac is None


def test_an_accepted_ambiguous_mac_is_left_out() -> None:
    found = run((saved_vf(declared=DeclaredState()), target()), accept=[Attribute.MAC])
    finding = only(found)
    assert (finding.severity, finding.accepted) == (Severity.INFO, True)
    assert found.losses == (finding,)
    assert found.wanted == (_admin(mac=None),)
    assert not found.refused


@pytest.mark.parametrize("mac", [ZERO_MAC, None])
def test_nothing_is_ambiguous_about_no_mac(mac: str | None) -> None:
    found = run((saved_vf(admin=_admin(mac=mac), declared=DeclaredState()), target()))
    assert found.findings == ()
    assert found.wanted[0].mac == mac


def test_the_declared_mac_counts() -> None:
    found = run((saved_vf(admin=_admin(mac=OTHER_MAC)), target()))
    assert (only(found).code, only(found).severity) == ("mac-declared", Severity.INFO)
    assert found.wanted[0].mac == MAC


def test_accepting_the_loss_of_a_good_mac_loses_nothing() -> None:
    assert run((saved_vf(), target()), accept=Attribute).wanted == (_admin(mac=MAC),)


@pytest.mark.parametrize("mac", [ZERO_MAC, "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", ":".join(["02"] * 20)])
def test_a_declared_mac_that_no_station_has(mac: str) -> None:
    pair = (saved_vf(admin=_admin(mac=mac), declared=DeclaredState(mac=mac)), target())
    assert codes(run(pair), Severity.ERROR) == ["mac-invalid"]
    assert run(pair, accept=[Attribute.MAC]).wanted[0].mac is None


def test_a_mac_of_a_neighbour() -> None:
    pair = (saved_vf(), target(0, others={2: _admin(mac=MAC)}))
    finding = only(run(pair))
    assert (finding.code, finding.attribute) == ("mac-in-use", Attribute.MAC)
    assert "eth0/2" in finding.why
    assert run(pair, policy=Policy(shared_macs=frozenset({MAC}))).findings == ()
    assert run(pair, accept=[Attribute.MAC]).wanted[0].mac is None


def test_a_mac_of_the_pf() -> None:
    saved = saved_vf(admin=_admin(mac=PF_MAC), declared=DeclaredState(mac=PF_MAC))
    assert "the PF eth0 itself" in only(run((saved, target()))).why


def test_the_target_itself_may_have_the_mac_already() -> None:
    assert run((saved_vf(), target(admin=_admin(mac=MAC)))).findings == ()


def test_two_saved_vfs_with_one_mac() -> None:
    pairs = ((saved_vf(0), target(0)), (saved_vf(1), target(1)))
    found = run(*pairs)
    assert codes(found) == ["mac-in-use", "mac-in-use"]
    assert "where src/1 is to land" in found.findings[0].why
    elsewhere = target(1, pf=pf_facts(name="eth1", device="0000:02:00.0"))
    assert run(pairs[0], (saved_vf(1), elsewhere)).findings == ()


def test_a_neighbour_that_gets_another_mac_is_in_nobodys_way() -> None:
    others = {1: _admin(mac=MAC)}
    second = saved_vf(1, admin=_admin(mac=OTHER_MAC), declared=DeclaredState(mac=OTHER_MAC))
    pairs = ((saved_vf(0), target(0, others=others)), (second, target(1, admin=_admin(mac=MAC))))
    assert run(*pairs).findings == ()


def test_a_neighbour_that_gets_no_mac_keeps_its_own() -> None:
    others = {1: _admin(mac=MAC)}
    second = saved_vf(1, admin=_admin(mac=None), declared=DeclaredState())
    pairs = ((saved_vf(0), target(0, others=others)), (second, target(1, admin=_admin(mac=MAC))))
    assert codes(run(*pairs)) == ["mac-in-use"]


def test_the_declared_mac_is_the_port_functions_too() -> None:
    saved = saved_vf(function=FunctionState(hw_addr=OTHER_MAC, tx_max=1))
    assert run((saved, target())).wanted_function == (FunctionState(hw_addr=MAC, tx_max=1),)


def test_one_target_twice() -> None:
    pairs = ((saved_vf(0), target(0)), (saved_vf(1, declared=DeclaredState(mac=OTHER_MAC)), target(0)))
    assert codes(run(*pairs), Severity.ERROR) == ["target-twice", "target-twice"]


def test_one_saved_vf_twice() -> None:
    elsewhere = target(1, pf=pf_facts(name="eth1", device="0000:02:00.0"))
    assert codes(run((saved_vf(), target(0)), (saved_vf(), elsewhere))) == ["saved-twice", "saved-twice"]
