# SPDX-License-Identifier: Apache-2.0
"""``doctor``: look for hazards on a host. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from vferry.core.capability import CapabilityTable, Verdict, capability_key, find_table
from vferry.core.fence import is_parking_mac
from vferry.core.findings import Finding, Severity
from vferry.core.model import ZERO_MAC, HostFacts, PfFacts, VfReading
from vferry.core.undo import UndoRecord, VfKey, identity_changes
from vferry.ports.journal import JournalError
from vferry.ports.nic import NicError, NoSuchFunctionError
from vferry.verbs.context import Context, VfRef
from vferry.verbs.fence import fence_differences
from vferry.verbs.inventory import ListedPf, list_pfs
from vferry.verbs.pending import unfinished
from vferry.verbs.places import survey

__all__ = ["examine"]


def examine(context: Context, tables: tuple[CapabilityTable, ...]) -> tuple[Finding, ...]:
    """Return every hazard of this host.

    :raise NicError: the PFs cannot be listed.
    """
    host = context.nic.host()
    listed = list_pfs(context)
    records, damaged = _records(context)
    findings = [
        *_unreadable(listed),
        *damaged,
        *_macs_twice(listed),
        *_parked(listed, records),
        *_stale(context, host, tuple(records.values())),
        *_down(listed),
        *_not_shown(host, listed, tables),
    ]
    order = list(Severity)
    return tuple(sorted(findings, key=lambda finding: order.index(finding.severity)))


def _records(context: Context) -> tuple[dict[VfKey, UndoRecord], list[Finding]]:
    try:
        return {record.key: record for record in context.journal.records()}, []
    except JournalError as error:
        finding = Finding(
            severity=Severity.ERROR,
            code="records-unreadable",
            why=f"{error.what}: {error.why}",
            remedy="mend or move the file away; until then nothing is changed on this host's VFs",
        )
        return {}, [finding]


def _unreadable(listed: Iterable[ListedPf]) -> Iterator[Finding]:
    for entry in listed:
        if entry.problem:
            yield Finding(
                severity=Severity.ERROR,
                code="unreadable",
                pf=entry.pf.name,
                why=f"the VFs' settings cannot be read: {entry.problem}",
                remedy="use fewer VFs on this PF, or mend its driver",
            )


def _macs_twice(listed: Sequence[ListedPf]) -> Iterator[Finding]:
    """One MAC on two VFs of a PF: its switch delivers to one of them, or to both."""
    owners: dict[str, list[tuple[PfFacts, VfReading | None]]] = {}
    for entry in listed:
        if entry.pf.address is not None:
            owners.setdefault(entry.pf.address, []).append((entry.pf, None))
        for reading in entry.readings:
            if reading.admin.mac not in (None, ZERO_MAC):
                owners.setdefault(str(reading.admin.mac), []).append((entry.pf, reading))
    for mac, found in owners.items():
        if len(found) < 2:
            continue
        same_pf = len({pf.device for pf, _ in found}) < len(found)
        names = ", ".join(pf.name if reading is None else f"{pf.name}/{reading.index}" for pf, reading in found)
        first_pf, first = found[0]
        yield Finding(
            severity=Severity.ERROR if same_pf else Severity.WARNING,
            code="mac-twice",
            pf=first_pf.name,
            vf=None if first is None else first.index,
            why=f"{mac} stands on {names}",
            remedy="'vferry release VF' on those that no VM uses"
            + ("" if same_pf else "; on several PFs it is right for VFs that are bonded"),
        )


def _parked(listed: Iterable[ListedPf], records: dict[VfKey, UndoRecord]) -> Iterator[Finding]:
    for entry in listed:
        for reading in entry.readings:
            key = VfKey(device=entry.pf.device, index=reading.index)
            if is_parking_mac(reading.admin.mac) and key not in records:
                yield Finding(
                    severity=Severity.ERROR,
                    code="parked-without-record",
                    pf=entry.pf.name,
                    vf=reading.index,
                    why=f"it shows the parking MAC {reading.admin.mac}, and no fence is on record",
                    remedy=f"'vferry release {entry.pf.name}/{reading.index}' if no VM uses it, else set its MAC anew",
                )


def _stale(context: Context, host: HostFacts, records: Sequence[UndoRecord]) -> Iterator[Finding]:
    for record in unfinished(records):
        yield from _one_record(context, host, record)


def _one_record(context: Context, host: HostFacts, record: UndoRecord) -> Iterator[Finding]:
    pf, vf = record.identity.pf, record.key.index
    try:
        names = {facts.device: facts.name for facts in context.nic.pfs()}
        place = survey(context, [VfRef(names.get(record.key.device, pf), vf)])[0]
        pf = place.pf.name  # it may have another name than when the record was written
        changes = identity_changes(record.identity, place.identity)
        broken = fence_differences(record, place)
    except NoSuchFunctionError as error:
        changes, broken = (error.why or error.what,), []
    except NicError:
        return  # said by _unreadable()
    if changes:
        other_boot = record.identity.boot_id != host.boot_id
        yield Finding(
            severity=Severity.ERROR,
            code="record-of-another-boot" if other_boot else "record-of-another-life",
            pf=pf,
            vf=vf,
            why=f"the undo record of '{record.kind.value}' ({record.started}) no longer fits: {'; '.join(changes)}",
            remedy=f"look at it with 'vferry show {pf}/{vf}', then drop the record with 'vferry release {pf}/{vf}'",
        )
    elif not record.completed:
        yield Finding(
            severity=Severity.ERROR,
            code="interrupted",
            pf=pf,
            vf=vf,
            why=f"'{record.kind.value}' of {record.started} was interrupted",
            remedy="the same command again completes it; 'unfence' or 'restore --undo' takes it back",
        )
    elif broken:
        shown = "; ".join(f"{d.attribute.value} is {d.shown}, the fence had set {d.wanted}" for d in broken)
        yield Finding(
            severity=Severity.ERROR,
            code="fence-broken",
            pf=pf,
            vf=vf,
            why=f"fenced since {record.started}, and somebody else has set it since: {shown}",
            remedy=f"'vferry fence {pf}/{vf}' closes it again; if the VF is somebody else's by now, see 'vferry show'",
        )
    else:
        yield Finding(severity=Severity.INFO, code="fenced", pf=pf, vf=vf, why=f"fenced since {record.started}")


def _down(listed: Iterable[ListedPf]) -> Iterator[Finding]:
    for entry in listed:
        configured = any(reading.admin.mac not in (None, ZERO_MAC) for reading in entry.readings)
        if entry.pf.num_vfs and entry.pf.admin_up is False:
            yield Finding(
                severity=Severity.WARNING if configured else Severity.INFO,
                code="pf-down",
                pf=entry.pf.name,
                why=f"the PF is down and has {entry.pf.num_vfs} VFs: they pass no traffic",
                remedy=f"ip link set {entry.pf.name} up",
            )


def _not_shown(host: HostFacts, listed: Iterable[ListedPf], tables: tuple[CapabilityTable, ...]) -> Iterator[Finding]:
    hidden = (Verdict.NOT_SHOWN, Verdict.CHANGED)
    for entry in listed:
        table = find_table(capability_key(host, entry.pf), tables)
        found = {} if table is None or not entry.readings else table.features
        names = [feature.value for feature, learned in found.items() if learned.verdict in hidden]
        if names:
            yield Finding(
                severity=Severity.WARNING,
                code="not-shown",
                pf=entry.pf.name,
                why=f"the driver accepts {', '.join(names)} and does not report it as set: it cannot be verified",
                remedy="look at the VM's traffic after a restore; ask for a driver that reports it",
            )
