# SPDX-License-Identifier: Apache-2.0
"""Two hosts with VMs on their VFs, and what tests do to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from vferry.core.capability import CapabilityTable, capability_key
from vferry.core.model import DOT1Q, AdminState, DeclaredState, LinkState, Rate, Vlan
from vferry.core.policy import Policy
from vferry.core.record import Record
from vferry.core.undo import UndoRecord
from vferry.ports.journal import Journal
from vferry.ports.nic import BusyError, Nic
from vferry.testing import (
    IGB_LIKE,
    NETDEVSIM_LIKE,
    Behaviour,
    CrashingJournal,
    CrashingNic,
    CrashPoints,
    Fault,
    FaultNic,
    MemoryJournal,
    MemoryNic,
    MemoryPf,
    SimClock,
)
from vferry.testing.settings import fields_of, only
from vferry.verbs.check import Pair, Terms
from vferry.verbs.context import Context, VfRef
from vferry.verbs.fence import FenceRequest
from vferry.verbs.save import save

MACS = tuple(f"52:54:00:00:00:{index:02x}" for index in range(16))

GUEST = AdminState(
    mac=MACS[3],
    vlans=(Vlan(vid=5, qos=3, proto=DOT1Q),),
    rate=Rate(min_tx=0, max_tx=200),
    spoofchk=True,
    link_state=LinkState.AUTO,
    trust=True,
)
"""What a VM of the tests has; every preset with settings takes it."""

OTHER = AdminState(
    mac=MACS[9],
    vlans=(Vlan(vid=7, proto=DOT1Q),),
    rate=Rate(min_tx=0, max_tx=100),
    spoofchk=False,
    link_state=LinkState.AUTO,
    trust=False,
)

FENCE = FenceRequest()

KINDS = (IGB_LIKE, NETDEVSIM_LIKE)
"""Behaviours that hold everything that :data:`GUEST` asks for and show it."""


def pf_of(name: str, behaviour: Behaviour, num_vfs: int = 5) -> MemoryPf:
    return MemoryPf(name=name, num_vfs=num_vfs, behaviour=behaviour)


def new_host(name: str = "b", behaviour: Behaviour = IGB_LIKE, *, pfs: Sequence[str] = ("eth0", "eth1")) -> MemoryNic:
    """A host whose VFs 0 are used by neighbours; everything else is free."""
    nic = MemoryNic(host=name, pfs=[pf_of(pf, behaviour) for pf in pfs])
    for number, pf in enumerate(pfs):
        set_all(nic, pf, 0, msgspec.structs.replace(OTHER, mac=f"52:54:00:00:aa:{number:02x}"))
        nic.bind_driver(pf, 0, "vfio-pci", user="the neighbour")
    return nic


def set_all(nic: Nic, pf: str, vf: int, state: AdminState) -> None:
    """Program a VF; one attribute after the other, as far as the driver takes them, where it does not take all."""
    error = nic.program(pf, {vf: state})[vf]
    while isinstance(error, BusyError):
        error = nic.program(pf, {vf: state})[vf]
    for field in fields_of(state) if error is not None else ():
        nic.program(pf, {vf: only(state, [field])})


def source(behaviour: Behaviour = IGB_LIKE, refs: Iterable[VfRef] = (VfRef("eth0", 3),)) -> MemoryNic:
    """A host with VMs on ``refs``, each with a MAC of its own."""
    nic = new_host("a", behaviour)
    for number, ref in enumerate(refs):
        set_all(nic, ref.pf, ref.vf, msgspec.structs.replace(GUEST, mac=MACS[3 + number]))
    return nic


def context_of(
    nic: Nic,
    journal: MemoryJournal,
    clock: SimClock | None = None,
    *,
    faults: Sequence[Fault] = (),
    points: CrashPoints | None = None,
) -> Context:
    clock = clock or SimClock()
    wrapped_nic: Nic = FaultNic(nic, faults, clock=clock) if faults else nic
    wrapped_journal: Journal = journal
    if points is not None:
        wrapped_nic = CrashingNic(wrapped_nic, points)
        wrapped_journal = CrashingJournal(journal, points)
    return Context(wrapped_nic, wrapped_journal, clock)


def record_of(nic: MemoryNic, refs: Sequence[VfRef], *, vm: str = "web") -> Record:
    """A record whose MACs are declared: nothing of it is ambiguous."""
    declared = {ref: DeclaredState(mac=nic.admin_mac(*ref), mtu=1500) for ref in refs}
    return save(context_of(nic, MemoryJournal()), refs, vm=vm, declared=declared)


def pairs_of(record: Record, refs: Sequence[VfRef]) -> list[Pair]:
    return list(zip(record.vfs, refs, strict=True))


def terms_of(nic: MemoryNic, behaviour: Behaviour) -> Terms:
    """What the destination allows and knows: everything, and its driver."""
    return Terms(policy=Policy(), tables=tables_of(nic, behaviour))


def tables_of(nic: MemoryNic, behaviour: Behaviour) -> tuple[CapabilityTable, ...]:
    keys = [capability_key(nic.host(), pf) for pf in nic.pfs()]
    return tuple(
        CapabilityTable(
            key=key,
            learned_on="2026-01-01",
            source="probe",
            features=behaviour.learned(),
            defaults=behaviour.defaults,
        )
        for key in dict.fromkeys(keys)
        if key is not None
    )


def settings(nic: MemoryNic) -> dict[str, tuple[AdminState, ...]]:
    """Every VF's settings as the driver shows them."""
    return {pf.name: tuple(vf.admin for vf in nic.read(pf.name).vfs) for pf in nic.pfs()}


def shown(nic: MemoryNic, ref: VfRef) -> AdminState:
    return nic.read(ref.pf).vfs[ref.vf].admin


def on_record(journal: MemoryJournal) -> dict[str, UndoRecord]:
    return {f"{record.identity.pf}/{record.key.index}": record for record in journal.records()}
