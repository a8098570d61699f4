# SPDX-License-Identifier: Apache-2.0
"""Results in words, one line each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vferry.core.compare import Difference
from vferry.core.findings import Finding, Severity
from vferry.core.model import AdminState, PfFacts, VfFacts, Vlan

__all__ = ["admin_text", "finding_lines", "not_shown_lines", "pf_text", "vf_text", "worth_saying"]


def admin_text(state: AdminState) -> str:
    """Return VF settings in the words of ``ip link``; what is absent is left out."""
    words: list[str] = []
    if state.mac is not None:
        words.append(f"mac {state.mac}")
    if state.vlans is not None:
        words.append("vlan " + (",".join(_vlan_text(vlan) for vlan in state.vlans) or "none"))
    if state.rate is not None:
        words.append(f"rate {state.rate.min_tx}-{state.rate.max_tx or 'unlimited'} Mbit/s")
    for name, value in (("spoofchk", state.spoofchk), ("trust", state.trust), ("query_rss", state.rss_query)):
        if value is not None:
            words.append(f"{name} {'on' if value else 'off'}")
    if state.link_state is not None:
        words.append(f"link-state {state.link_state.value}")
    for name, guid in (("node_guid", state.node_guid), ("port_guid", state.port_guid)):
        if guid is not None:
            words.append(f"{name} {guid}")
    return ", ".join(words) or "nothing"


def _vlan_text(vlan: Vlan) -> str:
    proto = f" {vlan.proto}" if vlan.proto is not None else ""
    return f"{vlan.vid} qos {vlan.qos}{proto}"


def pf_text(pf: PfFacts) -> str:
    """Return a PF in one line."""
    words = [pf.name, pf.device]
    if pf.driver is not None:
        words.append(pf.driver)
    if pf.vendor is not None:
        words.append(f"{pf.vendor}:{pf.device_id}")
    total = "" if pf.total_vfs is None else f" of {pf.total_vfs}"
    words.append(f"{pf.num_vfs}{total} VFs")
    if pf.mtu is not None:
        words.append(f"mtu {pf.mtu}")
    if pf.speed is not None:
        words.append(f"{pf.speed} Mbit/s")
    if pf.admin_up is not None:
        words.append("up" if pf.admin_up else "down")
    if pf.carrier is False and pf.admin_up:
        words.append("no carrier")
    if pf.eswitch_mode is not None:
        words.append(f"eswitch {pf.eswitch_mode.value}")
    return "  ".join(words)


def vf_text(pf: PfFacts, vf: VfFacts, admin: AdminState | None) -> str:
    """Return a VF in one line."""
    words = [f"  {pf.name}/{vf.index}"]
    words += [word for word in (vf.address, vf.driver) if word is not None]
    if vf.user is not None:
        words.append(f"({vf.user})")
    if admin is not None:
        words.append(admin_text(admin))
    return "  ".join(words)


def finding_lines(findings: Iterable[Finding]) -> list[str]:
    """Return findings, one or two lines each."""
    lines: list[str] = []
    for finding in findings:
        where = finding.pf or ""
        if finding.vf is not None:
            where += f"/{finding.vf}"
        severity = "accepted loss" if finding.accepted else finding.severity.value
        lines.append(f"{severity}: {finding.code}{f' ({where})' if where else ''}: {finding.why}")
        if finding.remedy:
            lines.append(f"  remedy: {finding.remedy}")
    return lines


def worth_saying(findings: Iterable[Finding]) -> list[Finding]:
    """Leave out mere facts, which ``check`` prints: what is left is a warning, or a loss that was accepted."""
    return [finding for finding in findings if finding.accepted or finding.severity is not Severity.INFO]


def not_shown_lines(vf: str, differences: Sequence[Difference], *, sent: bool = True) -> list[str]:
    """Say what a driver does not report; with ``sent``, what it has accepted and does not report."""
    what = (
        "was accepted, and the driver does not show it" if sent else "cannot be verified: the driver does not show it"
    )
    return [f"  {vf}: {difference.attribute.value} {difference.wanted} {what}" for difference in differences]
