# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.core.preflight_cases import FRESH, MAC, codes, only, pf_facts, run, saved_vf, table, target
from vferry.core.capability import Learned, Verdict
from vferry.core.findings import Severity
from vferry.core.model import DOT1AD, DOT1Q, AdminState, Attribute, EswitchMode, FunctionState, Rate, Vlan
from vferry.core.policy import Policy, VlanRange
from vferry.core.record import SavedVf

ERROR = Severity.ERROR
REFUSED = Learned(verdict=Verdict.REFUSED, errno=95)


def _saved(**changes: Any) -> SavedVf:
    return saved_vf(admin=msgspec.structs.replace(FRESH, mac=MAC, **changes))


def _vlan(vid: int, proto: str | None = None) -> tuple[Vlan, ...]:
    return (Vlan(vid=vid, proto=proto),)


def _rate(min_tx: int, max_tx: int) -> Rate:
    return Rate(min_tx=min_tx, max_tx=max_tx)


ROWS: list[tuple[Policy, dict[str, Any], str, Attribute, dict[str, Any]]] = [
    (Policy(trust=False), {"trust": True}, "policy-trust", Attribute.TRUST, {"trust": False}),
    (Policy(spoofchk_off=False), {"spoofchk": False}, "policy-spoofchk", Attribute.SPOOFCHK, {"spoofchk": True}),
    (Policy(rss_query=False), {"rss_query": True}, "policy-rss-query", Attribute.RSS_QUERY, {"rss_query": False}),
    (
        Policy(vlans=(VlanRange(first=100, last=199),)),
        {"vlans": _vlan(200)},
        "policy-vlan",
        Attribute.VLANS,
        {"vlans": ()},
    ),
    (
        Policy(vlan_protocols=(DOT1Q,)),
        {"vlans": _vlan(100, DOT1AD)},
        "policy-vlan-protocol",
        Attribute.VLAN_PROTO,
        {"vlans": _vlan(100, DOT1Q)},
    ),
    (
        Policy(max_tx_rate=500),
        {"rate": _rate(0, 600)},
        "policy-max-tx-rate",
        Attribute.MAX_TX_RATE,
        {"rate": _rate(0, 500)},
    ),
    (
        Policy(max_tx_rate=500),
        {"rate": _rate(0, 0)},
        "policy-max-tx-rate",
        Attribute.MAX_TX_RATE,
        {"rate": _rate(0, 500)},
    ),
    (
        Policy(min_tx_rate=50),
        {"rate": _rate(60, 500)},
        "policy-min-tx-rate",
        Attribute.MIN_TX_RATE,
        {"rate": _rate(0, 500)},
    ),
]


@pytest.mark.parametrize(("policy", "asked", "code", "attribute", "left"), ROWS)
def test_what_the_policy_does_not_grant(
    policy: Policy, asked: dict[str, Any], code: str, attribute: Attribute, left: dict[str, Any]
) -> None:
    pair = (_saved(**asked), target())
    finding = only(run(pair, policy=policy))
    assert (finding.code, finding.severity, finding.attribute) == (code, ERROR, attribute)
    assert "policy file" in finding.remedy
    assert run(pair).findings == ()
    found = run(pair, policy=policy, accept=[attribute])
    assert not found.refused
    assert found.wanted == (msgspec.structs.replace(pair[0].admin, **left),)


@pytest.mark.parametrize(("policy", "asked", "code", "attribute", "left"), ROWS)
def test_what_a_former_tenant_left_is_not_granted_either(
    policy: Policy, asked: dict[str, Any], code: str, attribute: Attribute, left: dict[str, Any]
) -> None:
    saved = saved_vf(admin=AdminState(mac=MAC))
    pair = (saved, target(admin=msgspec.structs.replace(FRESH, **asked)))
    assert code in codes(run(pair, policy=policy), ERROR)
    found = run(pair, policy=policy, accept=[attribute])
    assert not found.refused
    assert {name: getattr(found.wanted[0], name) for name in left} == left


def test_no_vlan_on_a_host_that_wants_one() -> None:
    policy = Policy(untagged=False)
    assert codes(run((_saved(), target()), policy=policy, accept=Attribute), ERROR) == ["policy-untagged"]
    assert codes(run((_saved(vlans=_vlan(0)), target()), policy=policy), ERROR) == ["policy-untagged"]
    assert run((_saved(vlans=_vlan(7)), target()), policy=policy).findings == ()


def test_a_vlan_cannot_be_lost_where_untagged_is_not_allowed() -> None:
    policy = Policy(vlans=(VlanRange(first=1, last=9),), untagged=False)
    found = run((_saved(vlans=_vlan(10)), target()), policy=policy, accept=Attribute)
    assert codes(found, ERROR) == ["policy-untagged"]


def test_a_protocol_cannot_be_lost_where_dot1q_is_not_allowed() -> None:
    found = run((_saved(vlans=_vlan(5, "0x9100")), target()), policy=Policy(vlan_protocols=(DOT1AD,)), accept=Attribute)
    assert codes(found, ERROR) == ["policy-vlan-protocol"]
    assert found.losses == ()


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        (Policy(spoofchk_off=False), "policy-spoofchk"),
        (Policy(max_tx_rate=500), "policy-max-tx-rate"),
        (Policy(untagged=False), "policy-untagged"),
    ],
)
def test_a_bound_that_cannot_be_read_does_not_hold(policy: Policy, code: str) -> None:
    saved = saved_vf(admin=AdminState(mac=MAC))
    assert codes(run((saved, target(admin=AdminState())), policy=policy), ERROR) == [code]


@pytest.mark.parametrize(
    ("policy", "asked", "feature", "attribute"),
    [
        (Policy(spoofchk_off=False), {"spoofchk": False}, "spoofchk", Attribute.SPOOFCHK),
        (Policy(max_tx_rate=500), {"rate": _rate(0, 600)}, "max_tx_rate", Attribute.MAX_TX_RATE),
        (Policy(trust=False), {"trust": True}, "trust", Attribute.TRUST),
    ],
)
def test_an_accepted_loss_never_waives_the_policy(
    policy: Policy, asked: dict[str, Any], feature: str, attribute: Attribute
) -> None:
    shown = msgspec.structs.replace(FRESH, **asked)
    pair = (_saved(**asked), target(admin=shown, capabilities=table(**{feature: REFUSED})))
    found = run(pair, policy=policy, accept=[attribute])
    assert found.refused
    assert "with the accepted losses left out" in found.findings[-1].why
    assert found.findings[-1].code == f"policy-{feature.replace('_', '-')}"


def test_a_limit_brought_down_takes_the_guarantee_with_it() -> None:
    pair = (_saved(rate=_rate(600, 700)), target())
    policy = Policy(max_tx_rate=500)
    assert codes(run(pair, policy=policy, accept=[Attribute.MAX_TX_RATE]), ERROR) == ["min-above-max"]
    both = run(pair, policy=policy, accept=[Attribute.MAX_TX_RATE, Attribute.MIN_TX_RATE])
    assert (both.refused, both.wanted[0].rate) == (False, _rate(0, 500))


def test_a_limit_above_link_speed_comes_down_to_what_policy_and_link_allow() -> None:
    pair = (_saved(rate=_rate(0, 20000)), target())
    found = run(pair, policy=Policy(max_tx_rate=15000), accept=[Attribute.MAX_TX_RATE])
    assert (found.refused, found.wanted[0].rate) == (False, _rate(0, 10000))


@pytest.mark.parametrize(
    "function", [FunctionState(tx_max=0), FunctionState(tx_max=10**9), FunctionState(tx_share=10**9)]
)
def test_a_port_functions_rates_obey_the_same_bounds(function: FunctionState) -> None:
    switchdev = pf_facts(eswitch_mode=EswitchMode.SWITCHDEV)
    saved = msgspec.structs.replace(_saved(rate=_rate(0, 400)), pf=switchdev, function=function)
    policy = Policy(max_tx_rate=500, min_tx_rate=0)
    pair = (saved, target(pf=switchdev))
    assert codes(run(pair, policy=policy), ERROR) == ["policy-function-rate"]
    found = run(pair, policy=policy, accept=[Attribute.FUNCTION])
    assert (found.refused, found.wanted_function) == (False, (None,))
    low = msgspec.structs.replace(saved, function=FunctionState(tx_max=500 * 125_000, tx_share=0))
    assert codes(run((low, target(pf=switchdev)), policy=policy), ERROR) == []
