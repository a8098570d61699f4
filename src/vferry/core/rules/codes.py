# SPDX-License-Identifier: Apache-2.0
"""The codes of findings: stable names, each explained in ``docs/findings.md``."""

from __future__ import annotations

import enum

from vferry.core.capability import Feature, Verdict

__all__ = ["Code", "all_codes", "feature_code"]


class Code(enum.StrEnum):
    """The codes that stand alone; :func:`feature_code` makes those of the capability table."""

    RECORD_NOT_FINAL = "record-not-final"
    TARGET_TWICE = "target-twice"
    SAVED_TWICE = "saved-twice"

    MAC_AMBIGUOUS = "mac-ambiguous"
    MAC_DECLARED = "mac-declared"
    MAC_INVALID = "mac-invalid"
    MAC_IN_USE = "mac-in-use"

    PF_NO_NETDEV = "pf-no-netdev"
    PF_IN_LAG = "pf-in-lag"
    PF_DOWN = "pf-down"
    PF_NO_CARRIER = "pf-no-carrier"
    RDMA_IN_USE = "rdma-in-use"
    RDMA_PRESENT = "rdma-present"
    ESWITCH_MODE = "eswitch-mode"
    SWITCHDEV_WIRING = "switchdev-wiring"
    FUNCTION_MISSING = "function-missing"

    VF_IN_USE = "vf-in-use"
    VF_DEVICE_DIFFERS = "vf-device-differs"
    VECTORS_FEWER = "vectors-fewer"

    MTU_SMALLER = "mtu-smaller"
    MTU_UNKNOWN = "mtu-unknown"
    MTU_JUMBO_RULE = "mtu-jumbo-rule"
    MTU_JUMBO_SESSION = "mtu-jumbo-session"

    VLAN_LIST_TOO_LONG = "vlan-list-too-long"
    VLAN_IN_USE = "vlan-in-use"
    MIN_ABOVE_MAX = "min-above-max"
    RATE_ABOVE_LINK_SPEED = "rate-above-link-speed"
    LINK_SPEED_UNKNOWN = "link-speed-unknown"

    POLICY_TRUST = "policy-trust"
    POLICY_SPOOFCHK = "policy-spoofchk"
    POLICY_VLAN = "policy-vlan"
    POLICY_UNTAGGED = "policy-untagged"
    POLICY_VLAN_PROTOCOL = "policy-vlan-protocol"
    POLICY_MAX_TX_RATE = "policy-max-tx-rate"
    POLICY_MIN_TX_RATE = "policy-min-tx-rate"
    POLICY_RSS_QUERY = "policy-rss-query"
    POLICY_FUNCTION_RATE = "policy-function-rate"

    NO_VF_SETTINGS = "no-vf-settings"
    PRIVILEGE_NOT_OFFERED = "privilege-not-offered"
    UNPROBED = "unprobed"


def feature_code(feature: Feature, verdict: Verdict) -> str:
    """Return the code of what a capability table knows against a feature: ``min-tx-rate-refused``."""
    return f"{feature.value.replace('_', '-')}-{verdict.value}"


def all_codes() -> frozenset[str]:
    """Return every code that a finding can have."""
    verdicts = [verdict for verdict in Verdict if verdict is not Verdict.ACCEPTED]
    of_features = {feature_code(feature, verdict) for feature in Feature for verdict in verdicts}
    return frozenset({code.value for code in Code} | of_features)
