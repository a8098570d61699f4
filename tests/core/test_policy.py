# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vferry.core.errors import UsageError
from vferry.core.policy import Policy, PolicyError, VlanRange, parse_policy

FULL = """
[allow]
trust = false
spoofchk_off = false
vlans = [5, "100-199"]
untagged = false
vlan_protocols = ["802.1Q"]
max_tx_rate = 2500
min_tx_rate = 0
rss_query = false

[shared]
macs = ["00:00:5E:00:01:0A"]
"""


def test_a_full_file() -> None:
    assert parse_policy(FULL) == Policy(
        trust=False,
        spoofchk_off=False,
        vlans=(VlanRange(first=5, last=5), VlanRange(first=100, last=199)),
        untagged=False,
        vlan_protocols=("802.1Q",),
        max_tx_rate=2500,
        min_tx_rate=0,
        rss_query=False,
        shared_macs=frozenset({"00:00:5e:00:01:0a"}),
    )


@pytest.mark.parametrize("text", ["", "[allow]", "[shared]"])
def test_an_absent_key_allows(text: str) -> None:
    assert parse_policy(text) == Policy()
    assert parse_policy(text).allows_vlan(4094)
    assert parse_policy(text).allows_protocol("802.1ad")


def test_vlans() -> None:
    policy = parse_policy(FULL)
    assert [vid for vid in range(4096) if policy.allows_vlan(vid)] == [5, *range(100, 200)]
    assert not parse_policy("[allow]\nvlans = []").allows_vlan(1)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[allow", ""),
        ("permit = 1", "permit"),
        ("allow = 1", "allow"),
        ("[allow]\ntrusted = true", "allow.trusted"),
        ("[allow]\ntrust = 1", "allow.trust"),
        ('[allow]\ntrust = "no"', "allow.trust"),
        ("[allow]\nvlans = 5", "allow.vlans"),
        ("[allow]\nvlans = [0]", "allow.vlans"),
        ("[allow]\nvlans = [4095]", "allow.vlans"),
        ("[allow]\nvlans = [-5]", "allow.vlans"),
        ("[allow]\nvlans = [true]", "allow.vlans"),
        ('[allow]\nvlans = ["9-5"]', "allow.vlans"),
        ('[allow]\nvlans = ["1-2-3"]', "allow.vlans"),
        ('[allow]\nvlans = ["\u0663"]', "allow.vlans"),
        ('[allow]\nvlans = ["-"]', "allow.vlans"),
        ('[allow]\nvlan_protocols = ["dot1q"]', "allow.vlan_protocols"),
        ("[allow]\nmax_tx_rate = 0", "allow.max_tx_rate"),
        ("[allow]\nmax_tx_rate = 1.5", "allow.max_tx_rate"),
        ("[allow]\nmin_tx_rate = -1", "allow.min_tx_rate"),
        ("[allow]\nmin_tx_rate = true", "allow.min_tx_rate"),
        ('[shared]\nmacs = ["52:54"]', "shared.macs"),
        ("[shared]\nmac = []", "shared.mac"),
    ],
)
def test_a_bad_file_names_the_key(text: str, key: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text)
    assert caught.value.key == key
    assert isinstance(caught.value, UsageError)
    assert caught.value.why
    assert caught.value.to_dict().get("key", "") == key


@given(st.text())
def test_any_text_is_a_policy_or_a_policy_error(text: str) -> None:
    with contextlib.suppress(PolicyError):
        parse_policy(text)


_scalars = st.booleans() | st.integers(-10, 70000) | st.sampled_from(["'802.1Q'", "'1-9'", "'x'"])


@given(st.sampled_from(["trust", "vlans", "vlan_protocols", "max_tx_rate", "untagged"]), st.lists(_scalars), _scalars)
def test_any_value_is_taken_or_refused_by_name(key: str, values: list[object], scalar: object) -> None:
    for value in (values, scalar):
        text = f"[allow]\n{key} = {value}".replace("True", "true").replace("False", "false").replace('"', "")
        assert _refused_key(text) in {None, f"allow.{key}"}


def _refused_key(text: str) -> str | None:
    try:
        parse_policy(text)
    except PolicyError as error:
        return error.key
    return None
