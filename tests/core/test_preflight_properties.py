# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given

from tests.core.preflight_cases import losses, pair_lists, policies, record, sound_pairs
from vferry.core.capability import Verdict
from vferry.core.compare import overlay
from vferry.core.findings import Severity
from vferry.core.model import DOT1Q, AdminState, Attribute
from vferry.core.policy import Policy
from vferry.core.preflight import Preflight, Target, check
from vferry.core.record import SavedVf
from vferry.core.rules.case import is_zero
from vferry.core.rules.codes import all_codes
from vferry.core.rules.features import needed_features

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
Pairs = list[tuple[SavedVf, Target]]


def _check(pairs: Pairs, policy: Policy, accept: frozenset[Attribute]) -> Preflight:
    return check(record(*(saved for saved, _ in pairs)), pairs, policy=policy, accept_loss=accept)


def _shown(target: Target) -> AdminState:
    readings = {vf.index: vf.admin for vf in target.reading.vfs}
    return readings.get(target.vf.index, AdminState())


@given(pair_lists(), policies, losses)
def test_every_answer_is_sound(pairs: Pairs, policy: Policy, accept: frozenset[Attribute]) -> None:
    found = _check(pairs, policy, accept)
    assert found.refused == any(finding.severity is Severity.ERROR for finding in found.findings)
    assert len(found.wanted) == len(found.wanted_function) == len(pairs)
    assert found.losses == tuple(finding for finding in found.findings if finding.accepted)
    for finding in found.findings:
        assert finding.code in all_codes()
        assert finding.why
        assert finding.remedy or finding.severity is Severity.INFO
        assert not finding.accepted or (finding.severity is Severity.INFO and finding.attribute in accept)
        # What is accepted is never refused for a reason that could have been lost.
        if finding.severity is Severity.ERROR and finding.attribute in accept:
            assert "--accept-loss" not in finding.remedy.replace("--accept-loss does not waive", "")


@given(pair_lists() | sound_pairs, policies, losses)
def test_what_is_not_refused_needs_nothing_that_is_known_to_fail(
    pairs: Pairs, policy: Policy, accept: frozenset[Attribute]
) -> None:
    found = _check(pairs, policy, accept)
    if found.refused:
        return
    for (_, target), wanted in zip(pairs, found.wanted, strict=True):
        _assert_feasible(target, wanted)


@given(pair_lists(), policies)
def test_with_every_loss_accepted_no_feature_is_an_obstacle(pairs: Pairs, policy: Policy) -> None:
    for (_, target), wanted in zip(pairs, _check(pairs, policy, frozenset(Attribute)).wanted, strict=True):
        _assert_feasible(target, wanted)


def _assert_feasible(target: Target, wanted: AdminState) -> None:
    needed = needed_features(wanted, _shown(target))
    if not target.reading.has_settings:
        assert needed == ()
    known = target.capabilities.features if target.capabilities else {}
    failing = {feature for feature, learned in known.items() if learned.verdict in {Verdict.REFUSED, Verdict.CHANGED}}
    assert failing.isdisjoint(needed)


@given(pair_lists() | sound_pairs, policies, losses)
def test_what_is_not_refused_keeps_to_the_policy(pairs: Pairs, policy: Policy, accept: frozenset[Attribute]) -> None:
    found = _check(pairs, policy, accept)
    if found.refused:
        return
    for (_, target), wanted in zip(pairs, found.wanted, strict=True):
        after = overlay(_shown(target), wanted)
        assert policy.trust or not after.trust
        assert policy.rss_query or not after.rss_query
        assert policy.spoofchk_off or after.spoofchk
        assert policy.max_tx_rate is None or (after.rate and 0 < after.rate.max_tx <= policy.max_tx_rate)
        assert policy.min_tx_rate is None or not after.rate or after.rate.min_tx <= policy.min_tx_rate
        for vlan in after.vlans or ():
            assert policy.allows_vlan(vlan.vid)
            assert policy.allows_protocol(vlan.proto or DOT1Q)
        assert policy.untagged or after.vlans


@given(pair_lists(), policies)
def test_without_a_loss_the_records_settings_are_wanted(pairs: Pairs, policy: Policy) -> None:
    found = _check(pairs, policy, frozenset())
    assert found.losses == ()
    for (saved, _), wanted in zip(pairs, found.wanted, strict=True):
        read = saved.admin.mac
        mac = saved.declared.mac or (read if read and is_zero(read) else None)
        assert wanted == msgspec.structs.replace(saved.admin, mac=mac)


@given(pair_lists(), policies, losses)
def test_only_what_would_be_refused_is_lost(pairs: Pairs, policy: Policy, accept: frozenset[Attribute]) -> None:
    strict = _check(pairs, policy, frozenset())
    useless = accept - {f.attribute for f in strict.findings if f.severity is Severity.ERROR and f.attribute}
    assert _check(pairs, policy, useless) == strict


@given(pair_lists(), policies, losses)
def test_the_order_of_the_pairs_decides_nothing(pairs: Pairs, policy: Policy, accept: frozenset[Attribute]) -> None:
    found = _check(pairs, policy, accept)
    turned = _check(pairs[::-1], policy, accept)
    assert found.refused == turned.refused
    assert sorted(finding.code for finding in found.findings) == sorted(finding.code for finding in turned.findings)


@given(pair_lists())
def test_no_undeclared_mac_of_a_guest_is_ever_wanted(pairs: Pairs) -> None:
    for (saved, _), wanted in zip(pairs, _check(pairs, Policy(), frozenset(Attribute)).wanted, strict=True):
        assert wanted.mac is None or is_zero(wanted.mac) or wanted.mac == saved.declared.mac


def test_the_documentation_lists_every_code_once() -> None:
    text = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    listed = [code for row in rows for code in re.findall(r"`([a-z0-9-]+)`", row)]
    assert sorted(listed) == sorted(all_codes())
