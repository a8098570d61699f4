# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.core.preflight_cases import FRESH, MAC, OTHER_MAC, codes, only, pf_facts, run, saved_vf, table, target
from vferry.core.capability import Feature, Learned, Verdict
from vferry.core.findings import Severity
from vferry.core.model import DOT1AD, DOT1Q, ZERO_MAC, AdminState, Attribute, DeclaredState, LinkState, Rate, Vlan
from vferry.core.preflight import Preflight
from vferry.core.record import SavedVf
from vferry.core.reference_tables import REFERENCE_TABLES
from vferry.core.rules.features import needed_features

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
REFUSED = Learned(verdict=Verdict.REFUSED, errno=22)
VLAN_AD = Vlan(vid=100, qos=3, proto=DOT1AD)


def _saved(**changes: Any) -> SavedVf:
    return saved_vf(admin=msgspec.structs.replace(FRESH, mac=MAC, **changes))


def _rate(min_tx: int, max_tx: int) -> Rate:
    return Rate(min_tx=min_tx, max_tx=max_tx)


def test_a_limit_above_the_link_speed() -> None:
    pair = (_saved(rate=_rate(5, 20000)), target())
    finding = only(run(pair))
    assert (finding.code, finding.attribute) == ("rate-above-link-speed", Attribute.MAX_TX_RATE)
    assert "20000" in finding.why
    assert "10000" in finding.why
    assert run(pair, accept=[Attribute.MAX_TX_RATE]).wanted[0].rate == _rate(5, 0)


def test_a_limit_of_just_the_link_speed() -> None:
    assert run((_saved(rate=_rate(10000, 10000)), target())).findings == ()


def test_a_guarantee_above_the_link_speed() -> None:
    pair = (_saved(rate=_rate(20000, 0)), target())
    assert only(run(pair)).attribute is Attribute.MIN_TX_RATE
    assert run(pair, accept=[Attribute.MIN_TX_RATE]).wanted[0].rate == _rate(0, 0)


def test_a_limit_that_stands_already_is_no_finding() -> None:
    rate = _rate(0, 20000)
    assert run((_saved(rate=rate), target(admin=msgspec.structs.replace(FRESH, rate=rate)))).findings == ()


def test_a_link_speed_that_is_not_known() -> None:
    assert codes(run((_saved(rate=_rate(0, 500)), target(pf=pf_facts(speed=None))))) == ["link-speed-unknown"]
    assert run((_saved(), target(pf=pf_facts(speed=None)))).findings == ()


def test_a_guarantee_above_the_limit() -> None:
    pair = (_saved(rate=_rate(600, 500)), target())
    assert (only(run(pair)).code, only(run(pair)).attribute) == ("min-above-max", Attribute.MIN_TX_RATE)
    assert run(pair, accept=[Attribute.MIN_TX_RATE]).wanted[0].rate == _rate(0, 500)
    assert run((_saved(rate=_rate(600, 0)), target())).findings == ()


def test_more_vlans_than_a_vf_takes() -> None:
    vlans = (Vlan(vid=1), Vlan(vid=2))
    pair = (_saved(vlans=vlans), target())
    assert (only(run(pair)).code, only(run(pair)).attribute) == ("vlan-list-too-long", Attribute.VLANS)
    assert run(pair, accept=[Attribute.VLANS]).wanted[0].vlans == ()
    two = msgspec.structs.replace(table(), max_vlans=2)
    assert run((_saved(vlans=vlans), target(capabilities=two))).findings == ()


def test_a_long_vlan_list_of_which_only_the_protocol_differs_is_sent_too() -> None:
    shown = msgspec.structs.replace(FRESH, vlans=(Vlan(vid=1), Vlan(vid=2)))
    wanted = (Vlan(vid=1, proto=DOT1Q), Vlan(vid=2, proto=DOT1Q))
    assert codes(run((_saved(vlans=wanted), target(admin=shown)))) == ["vlan-list-too-long"]


def test_a_vlan_that_neighbours_have() -> None:
    neighbours = {index: msgspec.structs.replace(FRESH, vlans=(Vlan(vid=100),)) for index in (1, 3)}
    finding = only(run((_saved(vlans=(Vlan(vid=100),)), target(others=neighbours))))
    assert (finding.code, finding.severity) == ("vlan-in-use", INFO)
    assert "eth0/1, eth0/3" in finding.why


# Section: what the capability table knows


@pytest.mark.parametrize(
    ("feature", "wanted", "left"),
    [
        ("mac", {}, {"mac": None}),
        ("vlan", {"vlans": (Vlan(vid=5),)}, {"vlans": ()}),
        ("vlan_qos", {"vlans": (Vlan(vid=5, qos=3),)}, {"vlans": (Vlan(vid=5),)}),
        ("vlan_dot1ad", {"vlans": (VLAN_AD,)}, {"vlans": (Vlan(vid=100, qos=3, proto=DOT1Q),)}),
        ("max_tx_rate", {"rate": _rate(5, 500)}, {"rate": _rate(5, 0)}),
        ("min_tx_rate", {"rate": _rate(5, 500)}, {"rate": _rate(0, 500)}),
        ("spoofchk", {"spoofchk": False}, {"spoofchk": None}),
        ("link_state_enable", {"link_state": LinkState.ENABLE}, {"link_state": None}),
        ("link_state_disable", {"link_state": LinkState.DISABLE}, {"link_state": None}),
        ("rss_query", {"rss_query": True}, {"rss_query": None}),
        ("trust", {"trust": True}, {"trust": None}),
        ("node_guid", {"node_guid": "00:00:00:00:00:00:00:00"}, {"node_guid": None}),
        ("port_guid", {"port_guid": "00:00:00:00:00:00:00:00"}, {"port_guid": None}),
    ],
)
@pytest.mark.parametrize("verdict", [Verdict.REFUSED, Verdict.CHANGED])
def test_a_feature_that_is_missing(
    feature: str, wanted: dict[str, Any], left: dict[str, Any], verdict: Verdict
) -> None:
    learned = Learned(verdict=verdict, errno=22 if verdict is Verdict.REFUSED else None)
    pair = (_saved(**wanted), target(capabilities=table(**{feature: learned})))
    finding = only(run(pair))
    attribute = Feature(feature).attribute
    assert finding.code == f"{feature.replace('_', '-')}-{verdict.value}"
    assert (finding.severity, finding.attribute) == (ERROR, attribute)
    assert "2026-11-01" in finding.why
    assert "6.12" in finding.why
    assert verdict is Verdict.CHANGED or "errno 22 (EINVAL)" in finding.why
    assert f"--accept-loss {attribute.value}" in finding.remedy
    found = run(pair, accept=[attribute])
    assert not found.refused
    assert found.losses == (only(found),)
    assert found.wanted == (msgspec.structs.replace(pair[0].admin, **left),)


def test_a_zero_mac_is_a_feature_of_its_own() -> None:
    saved = saved_vf(admin=FRESH, declared=DeclaredState())
    shown = msgspec.structs.replace(FRESH, mac=OTHER_MAC)
    assert codes(run((saved, target(admin=shown, capabilities=table(mac_zero=REFUSED))))) == ["mac-zero-refused"]
    assert run((saved, target(capabilities=table(mac_zero=REFUSED)))).findings == ()


def test_what_reads_as_wanted_is_not_sent_and_no_finding() -> None:
    refuses_all = table(**{feature.value: REFUSED for feature in Feature})
    admin = msgspec.structs.replace(FRESH, mac=MAC, vlans=(VLAN_AD,), rate=_rate(5, 500))
    # The VLAN is in use nowhere else, the MAC is the target's own: nothing is left to say.
    assert run((saved_vf(admin=admin), target(admin=admin, capabilities=refuses_all))).findings == ()


def test_what_the_target_does_not_report_is_needed() -> None:
    shown = msgspec.structs.replace(FRESH, rss_query=None)
    pair = (_saved(), target(admin=shown, capabilities=table(rss_query=REFUSED)))
    assert codes(run(pair)) == ["rss-query-refused"]


def test_a_limit_needs_no_minimum() -> None:
    capabilities = table(min_tx_rate=REFUSED)
    assert run((_saved(rate=_rate(0, 500)), target(capabilities=capabilities))).findings == ()
    unreported = msgspec.structs.replace(FRESH, rate=None)
    assert run((_saved(rate=_rate(0, 500)), target(admin=unreported, capabilities=capabilities))).findings == ()


def test_without_its_guarantee_an_unreported_rate_is_not_sent_at_all() -> None:
    unreported = msgspec.structs.replace(FRESH, rate=None)
    capabilities = table(min_tx_rate=REFUSED, max_tx_rate=REFUSED)
    found = run(
        (_saved(rate=_rate(5, 0)), target(admin=unreported, capabilities=capabilities)), accept=[Attribute.MIN_TX_RATE]
    )
    assert (found.refused, found.wanted[0].rate) == (False, None)


def test_auto_needs_what_disable_needs() -> None:
    shown = msgspec.structs.replace(FRESH, link_state=LinkState.ENABLE)
    pair = (_saved(), target(admin=shown, capabilities=table(link_state_disable=REFUSED)))
    assert codes(run(pair)) == ["link-state-disable-refused"]


def test_the_loss_of_a_vlan_protocol_is_called_another_network() -> None:
    pair = (_saved(vlans=(VLAN_AD,)), target(capabilities=table(vlan_dot1ad=REFUSED)))
    assert "another network" in only(run(pair)).remedy
    assert "another network" in run(pair, accept=[Attribute.VLAN_PROTO]).losses[0].why


def test_accepted_and_not_shown_is_a_warning() -> None:
    found = run((_saved(trust=True), target(capabilities=table(trust=Verdict.NOT_SHOWN))), accept=Attribute)
    assert (only(found).code, only(found).severity) == ("trust-not-shown", WARNING)
    assert found.wanted[0].trust is True
    assert found.losses == ()


def test_a_table_of_another_release_says_so() -> None:
    finding = only(run((_saved(trust=True), target(capabilities=table(trust=REFUSED), exact=False))))
    assert "another kernel or driver release" in finding.why
    assert "vferry probe eth0" in finding.remedy


def test_the_kernels_name_of_errno_95() -> None:
    learned = Learned(verdict=Verdict.REFUSED, errno=95)
    assert "errno 95 (EOPNOTSUPP)" in only(run((_saved(trust=True), target(capabilities=table(trust=learned))))).why


def test_nothing_known_is_one_warning_that_lists_what_is_needed() -> None:
    finding = only(run((_saved(trust=True), target(known=False))))
    assert (finding.code, finding.severity) == ("unprobed", WARNING)
    assert "mac, trust" in finding.why
    assert "vferry probe eth0" in finding.remedy


def test_a_table_that_does_not_say() -> None:
    full = table()
    partly = msgspec.structs.replace(full, features={Feature.MAC: full.features[Feature.MAC]})
    assert "takes trust" in only(run((_saved(trust=True), target(capabilities=partly)))).why
    assert run((_saved(), target(capabilities=partly))).findings == ()


# Section: a driver without VF settings


def _no_settings(accept: Any = (), **changes: Any) -> Preflight:
    pair = (_saved(**changes), target(has_settings=False, vfs=(), known=False))
    return run(pair, accept=accept)


def test_a_driver_without_settings_refuses_every_setting_by_name() -> None:
    found = _no_settings(vlans=(VLAN_AD,))
    assert set(codes(found)) == {"no-vf-settings"}
    attributes = [finding.attribute for finding in found.findings]
    assert len(set(attributes)) == len(attributes)
    assert {Attribute.MAC, Attribute.VLANS, Attribute.VLAN_PROTO, Attribute.TRUST} <= set(attributes)


def test_a_driver_without_settings_takes_a_record_of_which_everything_is_lost() -> None:
    found = _no_settings(accept=Attribute, rate=_rate(5, 500))
    assert not found.refused
    assert found.wanted == (AdminState(),)


def test_a_driver_without_settings_takes_a_record_without_any() -> None:
    saved = saved_vf(admin=AdminState(), declared=DeclaredState())
    assert run((saved, target(has_settings=False, vfs=(), known=False))).findings == ()


# Section: the tables that ship


@pytest.mark.parametrize("reference", REFERENCE_TABLES, ids=lambda reference: reference.key.driver)
def test_a_reference_table_knows_every_feature(reference: Any) -> None:
    assert set(reference.features) == set(Feature)
    for learned in reference.features.values():
        assert (learned.verdict is Verdict.REFUSED) == (learned.errno is not None)


@pytest.mark.parametrize("reference", REFERENCE_TABLES, ids=lambda reference: reference.key.driver)
def test_the_defaults_need_nothing_of_the_driver(reference: Any) -> None:
    defaults = reference.defaults or AdminState()
    assert needed_features(defaults, defaults) == ()
    assert defaults.mac in {None, ZERO_MAC}


@pytest.mark.parametrize(
    ("rss_query", "expected"),
    [(True, ("rss-query-refused", ERROR)), (False, ("privilege-not-offered", INFO))],
)
def test_a_privilege_that_is_not_wanted_needs_no_driver_for_it(rss_query: bool, expected: tuple[str, Severity]) -> None:
    igb = REFERENCE_TABLES[0]
    assert igb.defaults is not None
    found = run((_saved(rss_query=rss_query, link_state=None), target(admin=igb.defaults, capabilities=igb)))
    assert expected in [(finding.code, finding.severity) for finding in found.findings]
    assert found.refused is rss_query
    if not rss_query:
        assert found.wanted[0].rss_query is None


def test_a_full_record_on_igb() -> None:
    igb = REFERENCE_TABLES[0]
    assert igb.defaults is not None
    wanted = {"vlans": (VLAN_AD,), "rate": _rate(5, 500), "link_state": LinkState.ENABLE}
    found = run((_saved(**wanted), target(admin=igb.defaults, capabilities=igb)))
    assert codes(found, ERROR) == [
        "vlan-dot1ad-refused",
        "min-tx-rate-refused",
        "link-state-enable-refused",
    ]
    lost = run((_saved(**wanted), target(admin=igb.defaults, capabilities=igb)), accept=Attribute)
    assert lost.wanted[0] == AdminState(
        mac=MAC, vlans=(Vlan(vid=100, qos=3, proto=DOT1Q),), rate=_rate(0, 500), spoofchk=True, trust=False
    )
