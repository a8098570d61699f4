# SPDX-License-Identifier: Apache-2.0
"""The check before a restore: whether a record may land on these VFs, and what will be programmed.

Everything that could fail later is looked for now, while the source still runs: the destination's devices, its policy,
what its driver is known to refuse. Each rule is a function in :data:`IDENTITY_RULES` or :data:`RULES`; a loss that the
operator accepted is taken out at once, so a later rule sees only what is still wanted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from vferry.core.findings import Finding, Severity, has_errors
from vferry.core.model import ZERO_MAC, AdminState, Attribute, FunctionState
from vferry.core.policy import Policy
from vferry.core.record import Record, SavedVf
from vferry.core.rules import features, grants, identity, mtu, pf, settings
from vferry.core.rules.case import Case, Issue, Occupant, Rule, Target, is_zero
from vferry.core.rules.codes import Code, all_codes

__all__ = ["IDENTITY_RULES", "RULES", "Preflight", "Target", "all_codes", "check"]


class Preflight(msgspec.Struct, frozen=True, kw_only=True):
    """What the check found, and what restore will program if it is not refused."""

    findings: tuple[Finding, ...]
    wanted: tuple[AdminState, ...]
    """For each pair, in order: the settings to program, accepted losses left out.

    A MAC that may be the guest's own choice never stands here.
    """
    wanted_function: tuple[FunctionState | None, ...]
    """For each pair, in order: the devlink port-function attributes to program."""
    losses: tuple[Finding, ...]
    """The findings that the operator accepted as losses."""

    @property
    def refused(self) -> bool:
        """Whether restore must not go on."""
        return has_errors(self.findings)


# Every pair's MAC is settled before any pair is held against the others.
IDENTITY_RULES: tuple[Rule, ...] = (
    identity.mac_ambiguous,
    identity.mac_declared,
    identity.mac_invalid,
)

# Devices first; then values; the policy before the driver, because a bound may replace a value by another one that the
# driver has to take; and the policy again at the end.
RULES: tuple[Rule, ...] = (
    identity.target_twice,
    identity.saved_twice,
    pf.pf_no_netdev,
    pf.pf_in_lag,
    pf.pf_down,
    pf.pf_no_carrier,
    pf.rdma,
    pf.eswitch_mode,
    pf.switchdev_wiring,
    pf.function_missing,
    pf.vf_in_use,
    pf.vf_device_differs,
    pf.vectors_fewer,
    identity.mac_in_use,
    mtu.mtu_unknown,
    mtu.frame_size,
    mtu.jumbo_session,
    settings.vlan_list_too_long,
    settings.max_rate_above_link_speed,
    settings.min_rate_above_link_speed,
    settings.link_speed_unknown,
    *grants.POLICY_RULES,
    settings.min_above_max,
    settings.vlan_in_use,
    *features.FEATURE_RULES,
    features.unprobed,
    grants.still_refused,
)


def check(
    record: Record,
    pairs: Sequence[tuple[SavedVf, Target]],
    *,
    policy: Policy,
    accept_loss: Collection[Attribute] = frozenset(),
) -> Preflight:
    """Hold saved VFs against the VFs that they are to land on.

    :param pairs: each saved VF with its target; findings come in this order.
    :param policy: what this host grants.
    :param accept_loss: settings that may be left out where they cannot be restored; one that can be is kept.
    """
    cases = [_case(saved, target, policy) for saved, target in pairs]
    cases = [_apply(IDENTITY_RULES, case, accept_loss) for case in cases]
    occupants = _occupants(cases)
    cases = [msgspec.structs.replace(case, occupants=occupants) for case in cases]
    cases = [_apply(RULES, case, accept_loss) for case in cases]
    findings = (*_record_findings(record), *(finding for case in cases for finding in case.found))
    return Preflight(
        findings=findings,
        wanted=tuple(case.wanted.admin for case in cases),
        wanted_function=tuple(case.wanted.function for case in cases),
        losses=tuple(finding for finding in findings if finding.accepted),
    )


def _case(saved: SavedVf, target: Target, policy: Policy) -> Case:
    index = target.vf.index
    shown = next((vf.admin for vf in target.reading.vfs if vf.index == index), AdminState())
    return Case(saved=saved, target=target, policy=policy, wanted=identity.initial_wanted(saved), shown=shown)


def _apply(rules: Iterable[Rule], case: Case, accept_loss: Collection[Attribute]) -> Case:
    for rule in rules:
        for issue in rule(case):
            case = _settle(case, issue, accept_loss)
    return case


def _settle(case: Case, issue: Issue, accept_loss: Collection[Attribute]) -> Case:
    finding, wanted = issue.finding, case.wanted
    if issue.lose is not None and finding.severity is Severity.INFO:
        wanted = issue.lose(case)
    elif issue.lose is not None and finding.severity is Severity.ERROR and finding.attribute in accept_loss:
        wanted = issue.lose(case)
        why = f"{finding.why}; loss accepted: {issue.instead}"
        finding = msgspec.structs.replace(finding, severity=Severity.INFO, accepted=True, why=why, remedy="")
    return msgspec.structs.replace(case, wanted=wanted, found=(*case.found, finding))


def _record_findings(record: Record) -> Iterable[Finding]:
    if not record.final:
        yield Finding(
            severity=Severity.INFO,
            code=Code.RECORD_NOT_FINAL.value,
            why=f"the record of {record.saved_at} is not final: the VM may have changed since",
            remedy="save again once the VM is stopped, if its settings may still change",
        )


def _occupants(cases: Sequence[Case]) -> dict[str, tuple[Occupant, ...]]:
    """Return each target PF's VFs as they will be: those that get a saved VF, and the others as they read now."""
    by_device: dict[str, list[Case]] = {}
    for case in cases:
        by_device.setdefault(case.target.pf.device, []).append(case)
    return {device: (*_arriving(landing), *_staying(landing)) for device, landing in by_device.items()}


def _arriving(cases: Sequence[Case]) -> Iterable[Occupant]:
    for case in cases:
        macs = identity.wanted_macs(case.wanted)
        # Where no MAC will be programmed, the one that the target has now stays.
        stays = case.wanted.admin.mac is None
        yield _occupant(case.target.vf.index, case.saved.name, case.shown, case.wanted.admin, macs, keeps_mac=stays)


def _staying(cases: Sequence[Case]) -> Iterable[Occupant]:
    taken = {case.target.vf.index for case in cases}
    for vf in cases[0].target.reading.vfs:
        if vf.index not in taken:
            yield _occupant(vf.index, None, vf.admin, AdminState(), frozenset(), keeps_mac=True)


def _occupant(
    index: int, saved: str | None, shown: AdminState, wanted: AdminState, macs: frozenset[str], *, keeps_mac: bool
) -> Occupant:
    mac = shown.mac or ZERO_MAC
    vlans = shown.vlans if wanted.vlans is None else wanted.vlans
    return Occupant(
        index=index,
        saved=saved,
        macs=macs if not keeps_mac or is_zero(mac) else macs | {mac},
        vids=frozenset(vlan.vid for vlan in vlans or () if vlan.vid),
    )
