# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import msgspec
import pytest
from hypothesis import given

from tests.core.preflight_cases import FRESH, MAC, OTHER_MAC, admin_states
from vferry.core.compare import Difference, DifferenceKind, change_needed, differences, overlay
from vferry.core.model import DOT1AD, DOT1Q, AdminState, Attribute, LinkState, Rate, Vlan


def test_nothing_wanted_is_never_different() -> None:
    assert differences(AdminState(), FRESH) == ()


@pytest.mark.parametrize(
    ("wanted", "attribute", "wanted_text", "shown_text"),
    [
        (AdminState(mac=MAC), Attribute.MAC, MAC, OTHER_MAC),
        (AdminState(spoofchk=False), Attribute.SPOOFCHK, "off", "on"),
        (AdminState(link_state=LinkState.ENABLE), Attribute.LINK_STATE, "enable", "auto"),
        (AdminState(vlans=(Vlan(vid=100, qos=3),)), Attribute.VLANS, "100 qos 3", "5"),
        (AdminState(vlans=()), Attribute.VLANS, "none", "5"),
        (AdminState(rate=Rate(min_tx=0, max_tx=50)), Attribute.MAX_TX_RATE, "50 Mbit/s", "none"),
        (AdminState(rate=Rate(min_tx=50, max_tx=0)), Attribute.MIN_TX_RATE, "50 Mbit/s", "none"),
        (AdminState(vlans=(Vlan(vid=5, proto=DOT1AD),)), Attribute.VLAN_PROTO, DOT1AD, DOT1Q),
    ],
)
def test_a_value_that_differs(wanted: AdminState, attribute: Attribute, wanted_text: str, shown_text: str) -> None:
    shown = msgspec.structs.replace(FRESH, mac=OTHER_MAC, vlans=(Vlan(vid=5, proto=DOT1Q),))
    assert differences(wanted, shown) == (
        Difference(attribute=attribute, wanted=wanted_text, shown=shown_text, kind=DifferenceKind.DIFFERS),
    )


def test_what_the_driver_does_not_report_is_not_shown() -> None:
    wanted = AdminState(mac=MAC, vlans=(Vlan(vid=5, proto=DOT1Q),), rate=Rate(min_tx=0, max_tx=0), trust=False)
    found = differences(wanted, AdminState())
    assert {difference.kind for difference in found} == {DifferenceKind.NOT_SHOWN}
    assert [difference.attribute for difference in found] == [
        Attribute.MAC,
        Attribute.VLANS,
        Attribute.VLAN_PROTO,
        Attribute.MIN_TX_RATE,
        Attribute.MAX_TX_RATE,
        Attribute.TRUST,
    ]


def test_a_protocol_that_is_not_reported_is_not_shown_and_is_sent() -> None:
    wanted, shown = AdminState(vlans=(Vlan(vid=5, proto=DOT1AD),)), AdminState(vlans=(Vlan(vid=5),))
    (found,) = differences(wanted, shown)
    assert (found.attribute, found.kind) == (Attribute.VLAN_PROTO, DifferenceKind.NOT_SHOWN)
    assert change_needed(wanted, shown) == wanted


def test_a_protocol_that_nobody_wants_is_not_compared() -> None:
    assert differences(AdminState(vlans=(Vlan(vid=5),)), AdminState(vlans=(Vlan(vid=5, proto=DOT1AD),))) == ()


def test_another_vlan_with_another_protocol_differs_in_both() -> None:
    found = differences(AdminState(vlans=(Vlan(vid=1, proto=DOT1AD),)), AdminState(vlans=(Vlan(vid=2, proto=DOT1Q),)))
    assert [difference.attribute for difference in found] == [Attribute.VLANS, Attribute.VLAN_PROTO]


def test_the_order_of_a_vlan_list_means_nothing() -> None:
    one, two = Vlan(vid=1, proto=DOT1Q), Vlan(vid=2, proto=DOT1AD)
    assert differences(AdminState(vlans=(one, two)), AdminState(vlans=(two, one))) == ()


def test_only_what_differs_is_sent_and_a_rate_goes_whole() -> None:
    wanted = msgspec.structs.replace(FRESH, rate=Rate(min_tx=0, max_tx=500), trust=True)
    assert change_needed(wanted, FRESH) == AdminState(rate=Rate(min_tx=0, max_tx=500), trust=True)


@given(admin_states)
def test_nothing_is_sent_where_everything_reads_as_wanted(state: AdminState) -> None:
    assert change_needed(state, state) == AdminState()


@given(admin_states, admin_states)
def test_the_change_makes_it_read_as_wanted(wanted: AdminState, shown: AdminState) -> None:
    after = overlay(shown, change_needed(wanted, shown))
    assert [found for found in differences(wanted, after) if found.kind is DifferenceKind.DIFFERS] == []


@given(admin_states, admin_states)
def test_the_change_is_the_smallest(wanted: AdminState, shown: AdminState) -> None:
    change = change_needed(wanted, shown)
    for field in AdminState.__struct_fields__:
        if getattr(change, field) is None:
            continue
        less = msgspec.structs.replace(change, **{field: None})
        assert differences(wanted, overlay(shown, less)) != ()


@given(admin_states, admin_states)
def test_an_overlay_touches_nothing_else(base: AdminState, change: AdminState) -> None:
    after = overlay(base, change)
    for field in AdminState.__struct_fields__:
        value = getattr(change, field)
        assert getattr(after, field) == (getattr(base, field) if value is None else value)
