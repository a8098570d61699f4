# SPDX-License-Identifier: Apache-2.0
"""``vferry show``."""

from __future__ import annotations

from vferry.cli import DONE
from vferry.cli.names import resolve
from vferry.cli.session import Session
from vferry.cli.text import admin_text, pf_text
from vferry.core.undo import UndoRecord
from vferry.verbs.inventory import ShownVf, show

__all__ = ["run"]


def run(session: Session) -> int:
    """Print everything known of one VF."""
    shown = show(session.context, resolve(session.context.nic, session.arguments.vf), session.tables())
    session.print(shown, *_lines(shown))
    return DONE


def _lines(shown: ShownVf) -> list[str]:
    vf = shown.vf
    rows = [
        ("host", f"{shown.host.hostname}, kernel {shown.host.kernel_release}, boot {shown.host.boot_id}"),
        ("PF", pf_text(shown.pf)),
        ("VF", f"{shown.pf.name}/{vf.index}" + (f" at {vf.address}" if vf.address else "")),
        ("driver", vf.driver or ("none bound" if vf.address else None)),
        ("used by", vf.user or "nobody that could be found"),
        ("interface", vf.netdev),
        ("IOMMU group", vf.iommu_group),
        ("MSI-X vectors", vf.vectors),
        ("settings", admin_text(shown.reading.admin) if shown.has_settings else "the driver offers none"),
        ("PCI", _pci(shown)),
        ("counters", _counters(shown)),
        ("undo record", None if shown.undo is None else _undo(shown.undo)),
        ("capabilities", _capabilities(shown)),
    ]
    return [f"{name + ':':<15} {value}" for name, value in rows if value is not None]


def _pci(shown: ShownVf) -> str | None:
    if shown.pci is None:
        return None
    msix = "" if shown.pci.msix_control is None else f", MSI-X control {shown.pci.msix_control:#06x}"
    return f"COMMAND {shown.pci.command:#06x}{msix}"


def _counters(shown: ShownVf) -> str | None:
    counters = shown.reading.statistics
    if counters is None:
        return None
    return (
        f"received {counters.rx_packets} ({counters.rx_bytes} octets), sent {counters.tx_packets} ({counters.tx_bytes})"
    )


def _undo(record: UndoRecord) -> str:
    state = "done" if record.completed else "not completed"
    return f"{record.kind.value} of {record.started}, {state}; before: {admin_text(record.before)}"


def _capabilities(shown: ShownVf) -> str:
    table = shown.capabilities
    if table is None:
        return f"not known: 'vferry probe {shown.pf.name}' learns them"
    accepted = [feature.value for feature, learned in table.features.items() if learned.verdict.value == "accepted"]
    return f"{', '.join(accepted) or 'none'} (learned {table.learned_on} on {table.key.kernel_release}, {table.source})"
