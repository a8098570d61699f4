# SPDX-License-Identifier: Apache-2.0
"""What to do after a crash: a truth table over four witnesses.

The journal says how far this side had come, the registry whose the VM is, the device whether this host's VFs can
receive for the VM, and the hypervisors of both sides what the VM is doing. The rows are tried from the top; the first
that fits decides. A row either gives the machine an event, with which it goes on, or raises an alarm: then the
witnesses contradict each other, nothing is changed, and a person decides.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

from vferry.core.migration.phases import DestinationPhase, Event, Phase, Role, SourcePhase
from vferry.core.migration.tables import TABLES, Order
from vferry.core.ownership import Ownership, Stage

__all__ = [
    "ROWS",
    "DeviceSays",
    "RegistrySays",
    "Row",
    "Verdict",
    "VmSays",
    "Witnesses",
    "all_witnesses",
    "judge",
    "registry_says",
]


class RegistrySays(enum.Enum):
    """The second witness, seen from one migration."""

    UNREACHABLE = "unreachable"
    ABSENT = "absent"
    """No entry for the VM."""
    SOURCE = "source's"
    """Settled on the source."""
    OPEN = "open"
    ABORTING = "aborting"
    COMMITTED = "committed"
    """The destination's, not finished."""
    DESTINATION = "destination's"
    """Settled on the destination."""
    OTHER = "other"
    """Another migration, or another host."""


class DeviceSays(enum.Enum):
    """The third witness: this host's VFs of the VM."""

    SILENT = "silent"
    """Fenced, or never programmed: the VM's MAC is nowhere on this host's NICs."""
    RECEIVING = "receiving"
    """At least one VF receives for the VM."""
    RELOADED = "reloaded"
    """The PF's driver was reloaded, or the VFs were made anew: settings are gone, and so is what was written down."""
    REBOOTED = "rebooted"
    """The host was booted again."""
    UNKNOWN = "unknown"


class VmSays(enum.Enum):
    """The fourth witness: what a hypervisor says of the VM."""

    RUNNING = "running"
    PAUSED = "paused"
    INCOMING = "incoming"
    MIGRATED = "migrated"
    ABSENT = "absent"
    UNKNOWN = "unknown"
    """Nobody could be asked."""


class Witnesses(NamedTuple):
    """What the four say, on the side that recovers."""

    order: Order
    role: Role
    phase: Phase
    """The journal."""
    registry: RegistrySays
    device: DeviceSays
    here: VmSays
    """This host's hypervisor."""
    there: VmSays
    """The other host's; mostly unknown."""


class Verdict(NamedTuple):
    """What follows."""

    event: Event | None
    """Given to the machine; None: alarm, or nothing is left to do."""
    alarm: bool
    why: str


class Row(NamedTuple):
    """One row: it fits where every column that it names contains what the witness says."""

    why: str
    event: Event | None = None
    alarm: bool = False
    roles: frozenset[Role] | None = None
    orders: frozenset[Order] | None = None
    phases: frozenset[Phase] | None = None
    registry: frozenset[RegistrySays] | None = None
    device: frozenset[DeviceSays] | None = None
    here: frozenset[VmSays] | None = None
    there: frozenset[VmSays] | None = None

    def fits(self, seen: Witnesses) -> bool:
        """Whether the row is about these witnesses."""
        pairs = (
            (self.roles, seen.role),
            (self.orders, seen.order),
            (self.phases, seen.phase),
            (self.registry, seen.registry),
            (self.device, seen.device),
            (self.here, seen.here),
            (self.there, seen.there),
        )
        return all(allowed is None or value in allowed for allowed, value in pairs)


_S = SourcePhase
_D = DestinationPhase
_R = RegistrySays
_V = VmSays
_SOURCE = frozenset({Role.SOURCE})
_DESTINATION = frozenset({Role.DESTINATION})
_OVER: frozenset[Phase] = frozenset(
    {_S.RELEASED, _S.KEPT, _S.REFUSED, _D.ARRIVED, _D.ON_STANDBY, _D.RETURNED, _D.DECLINED}
)
_ABLE = frozenset({_V.RUNNING})
_GONE = frozenset({_V.ABSENT})

_SOURCE_GOT_IT_BACK: frozenset[Phase] = frozenset({_S.UNFENCE, _S.RESUME, _S.REJOIN, _S.REPLUG})
_VM_MAY_RUN_HERE: frozenset[Phase] = frozenset(
    {
        *(_S.CLAIM, _S.OFFER, _S.UNPLUG, _S.SHUTDOWN, _S.PRECOPY, _S.FENCE, _S.STANDBY, _S.ABORT),
        *_SOURCE_GOT_IT_BACK,
    }
)
_BEFORE_HANDOVER: frozenset[Phase] = frozenset(
    {*(_S.CLAIM, _S.OFFER, _S.UNPLUG, _S.SHUTDOWN, _S.PRECOPY, _S.FENCE, _S.STANDBY, _S.LEAVE)}
)
"""The destination cannot have committed: it has no final record."""
_BEFORE_COMMIT: frozenset[Phase] = frozenset({_D.CHECK, _D.STAGE, _D.INCOMING, _D.PREPARE, _D.READY})
_DESTINATION_MAY_RUN: frozenset[Phase] = frozenset({_D.START, _D.FINISH, _D.PLUG})
_ACTIVATED: frozenset[Phase] = frozenset({_D.ACTIVATE, *_DESTINATION_MAY_RUN})
_DESTINATIONS = frozenset({_R.COMMITTED, _R.DESTINATION})

ROWS: tuple[Row, ...] = (
    Row("the migration is over", phases=_OVER),
    Row("a person was asked already", alarm=True, phases=frozenset({_S.BLOCKED, _D.BLOCKED})),
    Row("the VM runs on both hosts", alarm=True, here=_ABLE, there=_ABLE),
    Row("the registry has no entry for the VM", alarm=True, registry=frozenset({_R.ABSENT})),
    # Another migration's entry: what is left of ours can only be the end of it.
    Row(
        "the registry names another migration, and this side has nothing left that runs or receives",
        Event.RESTARTED,
        registry=frozenset({_R.OTHER}),
        roles=_DESTINATION,
        phases=frozenset({_D.SILENCE, _D.GIVE_BACK}),
        here=frozenset({_V.ABSENT, _V.INCOMING, _V.PAUSED}),
    ),
    Row("the registry names another migration or another owner", alarm=True, registry=frozenset({_R.OTHER})),
    # The source
    Row(
        "the registry says the VM is the destination's, and it runs here",
        alarm=True,
        roles=_SOURCE,
        registry=_DESTINATIONS,
        here=_ABLE,
    ),
    Row(
        "the VM runs on the destination, and the registry does not say that it is the destination's",
        alarm=True,
        roles=_SOURCE,
        registry=frozenset(says for says in _R if says not in _DESTINATIONS),
        there=_ABLE,
    ),
    Row(
        "this side had the VM back, and the registry does not say so",
        alarm=True,
        roles=_SOURCE,
        phases=_SOURCE_GOT_IT_BACK,
        registry=frozenset({_R.UNREACHABLE, _R.OPEN, _R.ABORTING, *_DESTINATIONS}),
    ),
    Row(
        "nothing was handed over yet, and the registry says the VM is the destination's",
        alarm=True,
        roles=_SOURCE,
        phases=_BEFORE_HANDOVER,
        registry=_DESTINATIONS,
    ),
    Row(
        "the registry says the VM is the destination's, and the VFs receive for it here",
        alarm=True,
        roles=_SOURCE,
        phases=frozenset({_S.ABORT}),
        registry=_DESTINATIONS,
        device=frozenset({DeviceSays.RECEIVING}),
    ),
    Row(
        "nothing was sent yet, and the VM is here as if it came from elsewhere, or had gone",
        alarm=True,
        roles=_SOURCE,
        phases=frozenset({_S.CLAIM, _S.OFFER}),
        here=frozenset({_V.INCOMING, _V.MIGRATED}),
    ),
    Row(
        "this side was told that the VM has arrived on the destination, and it still waits there",
        alarm=True,
        roles=_SOURCE,
        phases=frozenset({_S.RELEASE}),
        registry=frozenset({_R.DESTINATION, _R.UNREACHABLE}),
        there=frozenset({_V.INCOMING}),
    ),
    Row(
        "this side had given the VM away, and the registry says otherwise",
        alarm=True,
        roles=_SOURCE,
        phases=frozenset({_S.RELEASE}),
        registry=frozenset({_R.SOURCE, _R.OPEN, _R.ABORTING, _R.COMMITTED}),
    ),
    Row(
        "the VM should be stopped here, and it runs",
        alarm=True,
        roles=_SOURCE,
        phases=frozenset(phase for phase in _S if phase not in _VM_MAY_RUN_HERE),
        here=_ABLE,
    ),
    # The destination
    Row(
        "the VM runs here, and the registry says it is the source's",
        alarm=True,
        roles=_DESTINATION,
        registry=frozenset({_R.SOURCE, _R.OPEN, _R.ABORTING}),
        here=_ABLE,
    ),
    Row(
        "the VM runs here, and the journal says that it was never started",
        alarm=True,
        roles=_DESTINATION,
        phases=frozenset(phase for phase in _D if phase not in _DESTINATION_MAY_RUN),
        here=_ABLE,
    ),
    Row(
        "the VM was committed to this host, and it runs on the source",
        alarm=True,
        roles=_DESTINATION,
        registry=_DESTINATIONS,
        there=_ABLE,
    ),
    Row(
        "the VM was stopped on the source for the switch-over, and it runs there undecided",
        alarm=True,
        roles=_DESTINATION,
        phases=frozenset({_D.READY, _D.COMMIT}),
        registry=frozenset({_R.OPEN, _R.UNREACHABLE}),
        there=_ABLE,
    ),
    Row(
        "the VM was given to the source before it ran here: go back",
        Event.FAILED,
        roles=_DESTINATION,
        phases=frozenset({_D.ACTIVATE, _D.START}),
        registry=frozenset({_R.SOURCE}),
        device=frozenset(DeviceSays) - {DeviceSays.RELOADED},
        here=frozenset({_V.ABSENT, _V.INCOMING, _V.PAUSED}),
    ),
    Row(
        "this side had activated the VM, and it runs on the source",
        alarm=True,
        roles=_DESTINATION,
        phases=_ACTIVATED,
        there=_ABLE,
    ),
    Row(
        "this side had activated the VM, and the registry says it is not committed",
        alarm=True,
        roles=_DESTINATION,
        phases=_ACTIVATED,
        registry=frozenset({_R.SOURCE, _R.OPEN, _R.ABORTING}),
    ),
    Row(
        "the VM is about to be started, and the registry does not answer",
        alarm=True,
        roles=_DESTINATION,
        phases=frozenset({_D.ACTIVATE, _D.START}),
        registry=frozenset({_R.UNREACHABLE}),
    ),
    Row(
        "this side has not tried to commit yet, and the registry says that it has",
        alarm=True,
        roles=_DESTINATION,
        phases=_BEFORE_COMMIT,
        registry=frozenset({_R.COMMITTED}),
    ),
    Row(
        "this side was about to give the VM back, and the registry says that it has arrived here",
        alarm=True,
        roles=_DESTINATION,
        phases=frozenset(phase for phase in _D if phase not in _OVER | {_D.FINISH, _D.PLUG}),
        registry=frozenset({_R.DESTINATION}),
    ),
    # The device
    Row(
        "the PF's driver was reloaded: the VFs' settings are gone, and so is the fence",
        alarm=True,
        device=frozenset({DeviceSays.RELOADED}),
    ),
    Row(
        "the host was booted again, and its hypervisor still has the VM",
        alarm=True,
        device=frozenset({DeviceSays.REBOOTED}),
        here=frozenset({_V.RUNNING, _V.PAUSED, _V.INCOMING, _V.MIGRATED}),
    ),
    Row(
        "the VFs receive for the VM where they must be silent",
        alarm=True,
        roles=_SOURCE,
        phases=frozenset({_S.HANDOVER, _S.SWITCH, _S.AWAIT, _S.RECALL, _S.RETRACT, _S.RELEASE}),
        device=frozenset({DeviceSays.RECEIVING}),
    ),
    Row(
        "the VFs receive for the VM, and nothing was committed to this host",
        alarm=True,
        roles=_DESTINATION,
        orders=frozenset({Order.DEVICE_STATE, Order.FAILOVER, Order.COLD}),
        phases=frozenset({_D.CHECK, _D.STAGE, _D.INCOMING, _D.PREPARE, _D.READY, _D.COMMIT}),
        device=frozenset({DeviceSays.RECEIVING}),
    ),
    # Nothing contradicts: the machine goes on
    Row("the hypervisor does not answer: what the VM does must be known", alarm=True, here=frozenset({_V.UNKNOWN})),
    Row("the VM runs here: go on from what the journal says", Event.VM_RUNS, here=_ABLE),
    # Nothing waits in a cold migration: that the VM is absent does not say that it ran, unless the host was lost too.
    Row(
        "the VM was not started here yet, or has ended since: it is this host's to start",
        Event.RESTARTED,
        roles=_DESTINATION,
        orders=frozenset({Order.COLD}),
        phases=frozenset({_D.START}),
        registry=frozenset({_R.COMMITTED}),
        device=frozenset({DeviceSays.RECEIVING}),
        here=_GONE,
    ),
    Row("the VM is not here any more: go on from what the journal says", Event.VM_GONE, here=_GONE),
    Row("go on from what the journal says", Event.RESTARTED),
)


def judge(seen: Witnesses) -> Verdict:
    """Return what to do; total: every combination of witnesses has a verdict.

    An event that the phase does not know is an alarm too: the table has no way on from there.
    """
    row = next(row for row in ROWS if row.fits(seen))
    if row.event is None or row.alarm:
        return Verdict(None, row.alarm, row.why)
    step = TABLES[seen.order, seen.role].get(seen.phase)
    if step is None or row.event not in step.on:
        return Verdict(None, True, f"'{row.event.value}' does not belong to phase '{seen.phase.value}'")
    return Verdict(row.event, False, row.why)


def registry_says(entry: Ownership | None, migration: str, source: str, destination: str) -> RegistrySays:
    """Return what an entry means to a migration; whoever cannot be reached is not asked here."""
    if entry is None:
        return RegistrySays.ABSENT
    if entry.stage is Stage.SETTLED:
        named = {source: RegistrySays.SOURCE, destination: RegistrySays.DESTINATION}
        return named.get(entry.owner, RegistrySays.OTHER)
    if entry.migration != migration:
        return RegistrySays.OTHER
    return {
        Stage.OPEN: RegistrySays.OPEN,
        Stage.ABORTING: RegistrySays.ABORTING,
        Stage.COMMITTED: RegistrySays.COMMITTED,
    }[entry.stage]


def all_witnesses(orders: Iterable[Order] = Order) -> Iterator[Witnesses]:
    """Yield every combination that a table knows, final phases included."""
    for order, role in product(orders, Role):
        phases: set[Phase] = set(TABLES[order, role])
        phases |= {phase for step in TABLES[order, role].values() for phase in step.on.values()}
        ordered = sorted(phases, key=lambda phase: phase.value)
        for phase, registry, device, here, there in product(ordered, RegistrySays, DeviceSays, VmSays, VmSays):
            yield Witnesses(order, role, phase, registry, device, here, there)
