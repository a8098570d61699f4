# SPDX-License-Identifier: Apache-2.0
"""Rules of the destination's policy: what the VF would have after the restore, held against what may be granted.

The *outcome* counts: what is wanted, and where the record says nothing, what the target VF has now. Settings that a
bound is about and that nobody can read (a rate limit on a driver that reports none) are refused: a bound that cannot
be seen to hold does not. An accepted loss brings the setting down to what the policy allows; it never waives it.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from vferry.core.compare import overlay
from vferry.core.findings import Severity
from vferry.core.model import DOT1Q, AdminState, Attribute, FunctionState, Vlan
from vferry.core.rules.case import Case, Issue, Rule, Wanted
from vferry.core.rules.codes import Code
from vferry.core.rules.pf import without_function
from vferry.core.rules.settings import min_above_max, some, with_rate, without_vlans

__all__ = ["POLICY_RULES", "still_refused"]

_OCTETS_PER_MBIT = 125_000


def _outcome(case: Case) -> AdminState:
    return overlay(case.shown, case.wanted.admin)


def _file(key: str) -> str:
    return f"change {key} in the policy file"


def policy_trust(case: Case) -> Iterator[Issue]:
    """Refuse trust where the policy does not grant it."""
    if _outcome(case).trust and not case.policy.trust:
        yield case.error(
            Code.POLICY_TRUST,
            "trust would be on, and this host's policy does not grant it",
            _file("allow.trust"),
            attribute=Attribute.TRUST,
            lose=lambda case: case.keep(trust=False),
            instead="trust is off",
        )


def policy_spoofchk(case: Case) -> Iterator[Issue]:
    """Refuse spoofchk off where the policy wants it on."""
    spoofchk = _outcome(case).spoofchk
    if not spoofchk and not case.policy.spoofchk_off:
        state = "would not be known to be on" if spoofchk is None else "would be off"
        yield case.error(
            Code.POLICY_SPOOFCHK,
            f"spoofchk {state}, and this host's policy wants it on",
            _file("allow.spoofchk_off"),
            attribute=Attribute.SPOOFCHK,
            lose=lambda case: case.keep(spoofchk=True),
            instead="spoofchk is on",
        )


def policy_rss_query(case: Case) -> Iterator[Issue]:
    """Refuse RSS query where the policy does not grant it."""
    if _outcome(case).rss_query and not case.policy.rss_query:
        yield case.error(
            Code.POLICY_RSS_QUERY,
            "the guest could read the RSS table, and this host's policy does not grant it",
            _file("allow.rss_query"),
            attribute=Attribute.RSS_QUERY,
            lose=lambda case: case.keep(rss_query=False),
            instead="RSS query is off",
        )


def policy_vlan(case: Case) -> Iterator[Issue]:
    """Refuse a VLAN that the policy does not name."""
    vids = sorted({vlan.vid for vlan in _outcome(case).vlans or () if vlan.vid})
    refused = [str(vid) for vid in vids if not case.policy.allows_vlan(vid)]
    if refused:
        allowed = ", ".join(str(vlans) for vlans in case.policy.vlans or ()) or "none"
        yield case.error(
            Code.POLICY_VLAN,
            f"the VF would be on VLAN {some(refused)}; this host's policy allows {allowed}",
            _file("allow.vlans"),
            attribute=Attribute.VLANS,
            lose=without_vlans,
            instead="the VF has no VLAN, so it is on the untagged network",
        )


def policy_untagged(case: Case) -> Iterator[Issue]:
    """Refuse a VF without a VLAN where the policy wants one; there is no lesser setting to fall back to."""
    vlans = _outcome(case).vlans
    if case.policy.untagged or (vlans and all(vlan.vid for vlan in vlans)):
        return
    state = "would not be known to have a VLAN" if vlans is None else "would be on the untagged network"
    yield case.error(
        Code.POLICY_UNTAGGED,
        f"the VF {state}, and this host's policy does not allow that",
        f"{_file('allow.untagged')}, or give the VF a VLAN on the source and save again",
        attribute=Attribute.VLANS,
    )


def policy_vlan_protocol(case: Case) -> Iterator[Issue]:
    """Refuse a VLAN protocol that the policy does not name; one that nobody named is 802.1Q."""
    vlans = _outcome(case).vlans or ()
    refused = sorted({vlan.proto or DOT1Q for vlan in vlans if not case.policy.allows_protocol(vlan.proto or DOT1Q)})
    if not refused:
        return
    yield case.error(
        Code.POLICY_VLAN_PROTOCOL,
        f"the VF's VLAN would use {some(refused)}; this host's policy allows "
        f"{', '.join(case.policy.vlan_protocols or ()) or 'none'}",
        _file("allow.vlan_protocols"),
        attribute=Attribute.VLAN_PROTO,
        lose=_with_dot1q if case.policy.allows_protocol(DOT1Q) else None,
        instead="the same VLAN number with 802.1Q, which is another network",
    )


def _with_dot1q(case: Case) -> Wanted:
    vlans = _outcome(case).vlans or ()
    return case.keep(vlans=tuple(Vlan(vid=vlan.vid, qos=vlan.qos, proto=DOT1Q) for vlan in vlans))


def policy_max_tx_rate(case: Case) -> Iterator[Issue]:
    """Refuse a limit above the policy's, and no limit at all."""
    limit, rate = case.policy.max_tx_rate, _outcome(case).rate
    if limit is None or (rate is not None and 0 < rate.max_tx <= limit):
        return
    if rate is None:
        state = "would have no limit that can be read"
    else:
        state = f"would have a limit of {rate.max_tx} Mbit/s" if rate.max_tx else "would have no limit"
    speed = case.target.pf.speed
    bound = min(limit, speed) if speed else limit
    yield case.error(
        Code.POLICY_MAX_TX_RATE,
        f"the VF {state}; this host's policy allows at most {limit} Mbit/s",
        _file("allow.max_tx_rate"),
        attribute=Attribute.MAX_TX_RATE,
        lose=lambda case: with_rate(case, max_tx=bound),
        instead=f"the limit is {bound} Mbit/s",
    )


def policy_min_tx_rate(case: Case) -> Iterator[Issue]:
    """Refuse a guarantee above the policy's."""
    limit, rate = case.policy.min_tx_rate, _outcome(case).rate
    if limit is not None and rate is not None and rate.min_tx > limit:
        yield case.error(
            Code.POLICY_MIN_TX_RATE,
            f"the VF would have a guarantee of {rate.min_tx} Mbit/s; this host's policy allows at most {limit} Mbit/s",
            _file("allow.min_tx_rate"),
            attribute=Attribute.MIN_TX_RATE,
            lose=lambda case: with_rate(case, min_tx=0),
            instead="no rate is guaranteed",
        )


def policy_function_rate(case: Case) -> Iterator[Issue]:
    """Hold a port function's rates against the same bounds: they are another way to the same transmit queue."""
    function = case.wanted.function or FunctionState()
    excesses = [
        *_above("tx_share", function.tx_share, case.policy.min_tx_rate),
        *_above("tx_max", function.tx_max, case.policy.max_tx_rate),
    ]
    if excesses:
        yield case.error(
            Code.POLICY_FUNCTION_RATE,
            f"the port function would have {' and '.join(excesses)}, as this host's policy allows",
            _file("allow.max_tx_rate or allow.min_tx_rate"),
            attribute=Attribute.FUNCTION,
            lose=without_function,
            instead="no port-function attribute is programmed",
        )


def _above(name: str, value: int | None, limit: int | None) -> Iterator[str]:
    """Say how a devlink rate (octets per second) exceeds a limit (Mbit/s); ``tx_max`` 0 is "no limit"."""
    if value is None or limit is None:
        return
    if value == 0 and name == "tx_max":
        yield f"no {name}, and not {limit} Mbit/s"
    elif value > limit * _OCTETS_PER_MBIT:
        yield f"{name} {value / _OCTETS_PER_MBIT:g} Mbit/s, and not {limit} Mbit/s"


POLICY_RULES: tuple[Rule, ...] = (
    policy_trust,
    policy_spoofchk,
    policy_rss_query,
    policy_vlan,
    policy_untagged,
    policy_vlan_protocol,
    policy_max_tx_rate,
    policy_min_tx_rate,
    policy_function_rate,
)


def still_refused(case: Case) -> Iterator[Issue]:
    """Look again once every accepted loss is left out: what that broke cannot be accepted away.

    A driver that refuses spoofchk and a policy that wants it on, for example, leave nothing to restore.
    """
    said = {finding.code for finding in case.found if finding.severity is Severity.ERROR}
    for rule in (*POLICY_RULES, min_above_max):
        for issue in rule(case):
            if issue.finding.code not in said:
                yield _final(issue)


def _final(issue: Issue) -> Issue:
    why = f"with the accepted losses left out, {issue.finding.why}"
    remedy = "choose another PF, or accept less; --accept-loss does not waive this"
    return Issue(finding=msgspec.structs.replace(issue.finding, why=why, remedy=remedy))
