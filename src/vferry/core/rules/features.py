# SPDX-License-Identifier: Apache-2.0
"""Rules of the capability table: what this kind of PF is known to refuse, to change, or not to report.

Only what has to be sent counts: a setting that already reads as wanted needs nothing of the driver (igb shows link
state "auto" and refuses to set it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from errno import EOPNOTSUPP, errorcode

import msgspec

from vferry.core.capability import CapabilityTable, Feature, Learned, Verdict
from vferry.core.compare import differences
from vferry.core.model import DOT1Q, AdminState, Attribute, LinkState, Rate
from vferry.core.rules.case import Case, Issue, Rule, Wanted, is_zero
from vferry.core.rules.codes import Code, feature_code

__all__ = ["FEATURE_RULES", "needed_features", "unprobed"]


def needed_features(wanted: AdminState, shown: AdminState) -> tuple[Feature, ...]:
    """Return what a driver must offer so that a VF that reads ``shown`` can be made to read ``wanted``."""
    differing = frozenset(difference.attribute for difference in differences(wanted, shown))
    return tuple(feature for feature, needed in _NEEDED.items() if needed(wanted, shown, differing))


_Need = Callable[[AdminState, AdminState, frozenset[Attribute]], bool]


def _differs(attribute: Attribute) -> _Need:
    return lambda _wanted, _shown, differing: attribute in differing


def _mac(wanted: AdminState, _shown: AdminState, differing: frozenset[Attribute]) -> bool:
    return Attribute.MAC in differing and wanted.mac is not None and not is_zero(wanted.mac)


def _mac_zero(wanted: AdminState, _shown: AdminState, differing: frozenset[Attribute]) -> bool:
    return Attribute.MAC in differing and wanted.mac is not None and is_zero(wanted.mac)


def _vlan_qos(wanted: AdminState, _shown: AdminState, differing: frozenset[Attribute]) -> bool:
    return Attribute.VLANS in differing and any(vlan.qos for vlan in wanted.vlans or ())


def _vlan_dot1ad(wanted: AdminState, shown: AdminState, differing: frozenset[Attribute]) -> bool:
    # Any protocol but 802.1Q: a driver that takes none but 802.1Q refuses all the others alike.
    sent = bool(differing & {Attribute.VLANS, Attribute.VLAN_PROTO})
    others = [vlan for vlan in wanted.vlans or () if vlan.proto not in {None, DOT1Q}]
    return sent and any(vlan not in (shown.vlans or ()) for vlan in others)


def _min_tx_rate(wanted: AdminState, shown: AdminState, _differing: frozenset[Attribute]) -> bool:
    # A rate goes as a pair; a minimum of 0 where none is shown asks for nothing.
    return wanted.rate is not None and wanted.rate.min_tx != (shown.rate.min_tx if shown.rate else 0)


def _max_tx_rate(wanted: AdminState, shown: AdminState, _differing: frozenset[Attribute]) -> bool:
    if wanted.rate is None or shown.rate is not None:
        return wanted.rate is not None and shown.rate is not None and wanted.rate.max_tx != shown.rate.max_tx
    # Not reported: the pair is sent, and without a minimum it is the limit that is asked for, be it 0.
    return wanted.rate.max_tx != 0 or wanted.rate.min_tx == 0


def _link_enable(wanted: AdminState, _shown: AdminState, differing: frozenset[Attribute]) -> bool:
    return Attribute.LINK_STATE in differing and wanted.link_state is LinkState.ENABLE


def _link_disable(wanted: AdminState, _shown: AdminState, differing: frozenset[Attribute]) -> bool:
    # "auto" is not tried by itself: a driver that takes "disable" must have the way back.
    return Attribute.LINK_STATE in differing and wanted.link_state in {LinkState.DISABLE, LinkState.AUTO}


# In this order, so that what depends on a loss sees it: the VLAN before its parts, the minimum before the maximum.
_NEEDED: dict[Feature, _Need] = {
    Feature.MAC: _mac,
    Feature.MAC_ZERO: _mac_zero,
    Feature.VLAN: _differs(Attribute.VLANS),
    Feature.VLAN_QOS: _vlan_qos,
    Feature.VLAN_DOT1AD: _vlan_dot1ad,
    Feature.MIN_TX_RATE: _min_tx_rate,
    Feature.MAX_TX_RATE: _max_tx_rate,
    Feature.SPOOFCHK: _differs(Attribute.SPOOFCHK),
    Feature.LINK_STATE_ENABLE: _link_enable,
    Feature.LINK_STATE_DISABLE: _link_disable,
    Feature.RSS_QUERY: _differs(Attribute.RSS_QUERY),
    Feature.TRUST: _differs(Attribute.TRUST),
    Feature.NODE_GUID: _differs(Attribute.NODE_GUID),
    Feature.PORT_GUID: _differs(Attribute.PORT_GUID),
}


# Section: what is left of the wanted settings without a feature


class _Without(msgspec.Struct, frozen=True):
    """What is left without a feature, and how to say so."""

    lose: Callable[[Case], Wanted]
    instead: str


def _unset(field: str, instead: str) -> _Without:
    return _Without(lambda case: case.keep(**{field: None}), instead)


def _lose_vlan(case: Case) -> Wanted:
    # "No VLAN" stays a demand where it needs nothing of the driver, so that verify still looks at it.
    return case.keep(vlans=() if case.shown.vlans == () else None)


def _lose_qos(case: Case) -> Wanted:
    vlans = tuple(msgspec.structs.replace(vlan, qos=0) for vlan in case.wanted.admin.vlans or ())
    return case.keep(vlans=vlans)


def _lose_protocol(case: Case) -> Wanted:
    vlans = tuple(msgspec.structs.replace(vlan, proto=DOT1Q) for vlan in case.wanted.admin.vlans or ())
    return case.keep(vlans=vlans)


def _lose_min_rate(case: Case) -> Wanted:
    shown, wanted = case.shown.rate, case.wanted.admin.rate
    max_tx = wanted.max_tx if wanted else 0
    if shown is None and max_tx == 0:
        return case.keep(rate=None)
    return case.keep(rate=Rate(min_tx=shown.min_tx if shown else 0, max_tx=max_tx))


def _lose_max_rate(case: Case) -> Wanted:
    shown, wanted = case.shown.rate, case.wanted.admin.rate
    min_tx = wanted.min_tx if wanted else 0
    if shown is None and min_tx == 0:
        return case.keep(rate=None)
    return case.keep(rate=Rate(min_tx=min_tx, max_tx=shown.max_tx if shown else 0))


_WITHOUT: dict[Feature, _Without] = {
    Feature.MAC: _unset("mac", "no MAC is programmed"),
    Feature.MAC_ZERO: _unset("mac", "the VF keeps the MAC that it has"),
    Feature.VLAN: _Without(_lose_vlan, "no VLAN is programmed, so the VF is on another network"),
    Feature.VLAN_QOS: _Without(_lose_qos, "the VLAN is programmed with priority 0"),
    Feature.VLAN_DOT1AD: _Without(_lose_protocol, "the same VLAN number with 802.1Q, which is another network"),
    Feature.MIN_TX_RATE: _Without(_lose_min_rate, "the VF keeps the target's guarantee, which is none by default"),
    Feature.MAX_TX_RATE: _Without(_lose_max_rate, "the VF keeps the target's limit, which is none by default"),
    Feature.SPOOFCHK: _unset("spoofchk", "spoofchk stays as the target has it"),
    Feature.LINK_STATE_ENABLE: _unset("link_state", "the link state stays as the target has it"),
    Feature.LINK_STATE_DISABLE: _unset("link_state", "the link state stays as the target has it"),
    Feature.RSS_QUERY: _unset("rss_query", "RSS query stays as the target has it"),
    Feature.TRUST: _unset("trust", "trust stays as the target has it"),
    Feature.NODE_GUID: _unset("node_guid", "no node GUID is programmed"),
    Feature.PORT_GUID: _unset("port_guid", "no port GUID is programmed"),
}


# Section: the rules


def _rule(feature: Feature) -> Rule:
    def rule(case: Case) -> Iterator[Issue]:
        if not _NEEDED[feature](case.wanted.admin, case.shown, case.differing):
            return
        if not case.target.reading.has_settings:
            yield from _no_settings(case, feature)
            return
        table = case.target.capabilities
        learned = table and table.features.get(feature)
        if learned and _needless(case, feature, learned):
            yield _not_offered(case, feature)
        elif table and learned and learned.verdict is not Verdict.ACCEPTED:
            yield _issue(case, feature, table, learned)

    return rule


_PRIVILEGES = {Feature.RSS_QUERY: "rss_query", Feature.TRUST: "trust"}


def _needless(case: Case, feature: Feature, learned: Learned) -> bool:
    """A privilege that the record denies, and that this kind of NIC cannot grant to anybody, needs no setting."""
    name = _PRIVILEGES.get(feature)
    if name is None or getattr(case.wanted.admin, name) is not False or getattr(case.shown, name) is not None:
        return False
    return learned.verdict is Verdict.REFUSED and learned.errno == EOPNOTSUPP


def _not_offered(case: Case, feature: Feature) -> Issue:
    return case.info(
        Code.PRIVILEGE_NOT_OFFERED,
        f"{case.target.pf.name} cannot grant {_words(feature)}, and the record does not want it granted",
        attribute=feature.attribute,
        lose=_WITHOUT[feature].lose,
    )


def _no_settings(case: Case, feature: Feature) -> Iterator[Issue]:
    said = {finding.attribute for finding in case.found if finding.code == Code.NO_VF_SETTINGS}
    if feature.attribute in said:
        return
    without = _WITHOUT[feature]
    yield case.error(
        Code.NO_VF_SETTINGS,
        f"the driver of {case.target.pf.name} offers no VF settings at all, and the record has {_words(feature)}",
        "choose a PF whose driver has them",
        attribute=feature.attribute,
        lose=without.lose,
        instead=without.instead,
    )


def _issue(case: Case, feature: Feature, table: CapabilityTable, learned: Learned) -> Issue:
    code = feature_code(feature, learned.verdict)
    why = f"{_words(feature)}: the driver of {case.target.pf.name} {_answer(learned)}; {_provenance(case, table)}"
    if learned.verdict is Verdict.NOT_SHOWN:
        remedy = "verify cannot read it back; look at the VM's traffic instead"
        return case.warning(code, why, remedy, attribute=feature.attribute)
    without = _WITHOUT[feature]
    return case.error(
        code,
        why,
        "choose another PF" if case.target.capability_exact else f"'vferry probe {case.target.pf.name}' to try it here",
        attribute=feature.attribute,
        lose=without.lose,
        instead=without.instead,
    )


def _answer(learned: Learned) -> str:
    if learned.verdict is Verdict.NOT_SHOWN:
        return "accepts it and does not report it"
    if learned.verdict is Verdict.CHANGED:
        return f"accepts it and shows {learned.shown or 'something else'} instead"
    if learned.errno is None:
        return "refuses it"
    # 95 has two names in C; the kernel only knows this one.
    name = "EOPNOTSUPP" if learned.errno == EOPNOTSUPP else errorcode.get(learned.errno, "unknown")
    return f"refuses it with errno {learned.errno} ({name})"


def _provenance(case: Case, table: CapabilityTable) -> str:
    text = f"learned on {table.learned_on} with kernel {table.key.kernel_release} ({table.source})"
    return text if case.target.capability_exact else f"{text}, and this host runs another kernel or driver release"


def _words(feature: Feature) -> str:
    return _WORDS.get(feature, feature.value.replace("_", " "))


_WORDS = {
    Feature.MAC: "a MAC",
    Feature.MAC_ZERO: "a zero MAC (the guest may choose)",
    Feature.VLAN: "a VLAN list",
    Feature.VLAN_QOS: "a VLAN priority",
    Feature.VLAN_DOT1AD: "a VLAN protocol other than 802.1Q",
    Feature.MAX_TX_RATE: "a transmit rate limit",
    Feature.MIN_TX_RATE: "a guaranteed transmit rate",
    Feature.LINK_STATE_ENABLE: "link state enable",
    Feature.LINK_STATE_DISABLE: "link state auto or disable",
    Feature.RSS_QUERY: "RSS query",
    Feature.NODE_GUID: "a node GUID",
    Feature.PORT_GUID: "a port GUID",
}

FEATURE_RULES: tuple[Rule, ...] = tuple(_rule(feature) for feature in _NEEDED)


def unprobed(case: Case) -> Iterator[Issue]:
    """Warn, once per VF, of what is needed and was never tried on this kind of PF."""
    if not case.target.reading.has_settings:
        return
    table = case.target.capabilities
    known = table.features if table else {}
    unknown = [feature.value for feature in needed_features(case.wanted.admin, case.shown) if feature not in known]
    if unknown:
        pf = case.target.pf.name
        nothing = "nothing is known of this kind of PF" if table is None else "its capability table does not say"
        yield case.warning(
            Code.UNPROBED, f"whether {pf} takes {', '.join(unknown)} was never tried: {nothing}", f"'vferry probe {pf}'"
        )
