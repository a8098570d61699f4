# SPDX-License-Identifier: Apache-2.0
"""The world of one migration: two hosts, one VM, the registry and what was ever sent, as a flat tuple of small ints.

A state is the source's side, what both sides touch, and the destination's side, one after the other, so that a slice is
all that one side can see or change: ``state[:SHARED_END]`` for the source, ``state[SHARED:]`` for the destination.

Two things keep it small, and neither leaves anything out:

* The VFs of a VM are interchangeable: every act treats them alike, one by one. So a host has counts, not one value for
  each VF. Nor has an act a position: it is idempotent, so what the world shows is how far it came.
* A message may be lost, doubled, late and overtaken, any number of times. So everything that was ever sent may arrive
  now, later, again or never: the set of what was sent is the whole state of the channel.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from vferry.core.migration.phases import DestinationPhase, Phase, Role, SourcePhase
from vferry.core.migration.recovery import RegistrySays, VmSays, registry_says
from vferry.core.migration.tables import FINAL_PHASES
from vferry.core.ownership import NotOursError, Ownership, adopted, committed, opened, recalled, settled

__all__ = [
    "CHANGES",
    "DESTINATION_PHASES",
    "ENTRY_SAYS",
    "LETTING_GO",
    "NOT_BEGUN",
    "OVER",
    "SHARED",
    "SHARED_END",
    "SOURCE_PHASES",
    "VM_SAYS",
    "Change",
    "Entry",
    "Process",
    "Sent",
    "Shared",
    "Side",
    "State",
    "Vm",
    "changed",
    "describe",
    "describe_end",
    "initial",
    "number_of",
    "parts",
]

State: TypeAlias = tuple[int, ...]


class Process:
    """How the process of one side is; it is volatile, what it journalled stays."""

    UP: Final = 0
    CRASHED: Final = 1
    HOST_DOWN: Final = 2
    """The whole host crashed: no VM, and the NIC is at its defaults, which is silent."""
    ALARMED: Final = 3
    """A recovery found witnesses that contradict each other: this side does nothing more."""


class Vm:
    """What one hypervisor does with the VM, and with the stream between the two."""

    ABSENT: Final = 0
    RUNNING: Final = 1
    COPYING: Final = 2
    """Source: runs, its memory is copied."""
    STOPPED: Final = 3
    """Source: stopped for the switch-over, the stream waits."""
    PAUSED: Final = 4
    """Source: stopped, and the stream has ended before its time."""
    SWITCHED: Final = 5
    """Source: stopped, the rest flows."""
    MIGRATED: Final = 6
    """Source: everything was sent."""
    SHUTTING_DOWN: Final = 7
    """Source: runs, and the guest was asked to shut down."""
    INCOMING: Final = 8
    """Destination: waits, or receives."""
    HELD: Final = 9
    """Destination: complete, not running."""
    RAN: Final = 10
    """Destination: absent, and it ran here before."""


VM_SAYS: tuple[VmSays, ...] = (
    VmSays.ABSENT,
    *(VmSays.RUNNING, VmSays.RUNNING),
    *(VmSays.PAUSED, VmSays.PAUSED, VmSays.PAUSED),
    VmSays.MIGRATED,
    VmSays.RUNNING,
    VmSays.INCOMING,
    VmSays.PAUSED,
    VmSays.ABSENT,
)
"""What a hypervisor says of each :class:`Vm`."""


class Entry:
    """The VM's entry in the registry."""

    SOURCES: Final = 0
    OPEN: Final = 1
    ABORTING: Final = 2
    COMMITTED: Final = 3
    DESTINATIONS: Final = 4


class Sent:
    """Messages that were ever sent, as bits. ``Finished`` is left out: it changes nothing but the moment of a look."""

    OFFER: Final = 1
    FINAL: Final = 2
    ABORT: Final = 4
    ACCEPT: Final = 8
    REFUSE: Final = 16
    READY: Final = 32


class Side(NamedTuple):
    """One host, and its side of the migration. VFs that neither receive nor are parked are at their defaults."""

    phase: int
    """In the journal: an index into the role's phases."""
    process: int
    rebooted: int
    """The host crashed at least once."""
    receiving: int
    """VFs that receive for the VM."""
    parked: int
    """VFs that are fenced (source) or staged (destination): programmed, and silent."""
    standby: int
    """Failover: the VM's MAC is forwarded to its standby."""
    plugged: int
    """Failover: the guest has the VFs: 1; :data:`LETTING_GO`: it was asked to let go of them."""
    seen: int = 0
    """Starting again: what the first witnesses said, as a number; 0: none was asked yet."""


class Shared(NamedTuple):
    """What both sides touch."""

    source_vm: int
    destination_vm: int
    entry: int
    late: int
    """Compare-and-swaps without an answer that may still be carried out, as bits.

    Any change of the entry ends them all: its token is another one then.
    """
    sent: int
    killed: int
    """Hypervisor processes that were killed, each with its VM, as bits: 1 the source's, 2 the destination's."""


LETTING_GO: Final = 2
"""The guest still has the VFs, was asked to let go of them, and may do so at any time."""

SHARED: Final = len(Side._fields)
SHARED_END: Final = SHARED + len(Shared._fields)

NOT_BEGUN: Final = 0
SOURCE_PHASES: tuple[Phase, ...] = tuple(SourcePhase)
DESTINATION_PHASES: tuple[Phase | None, ...] = (None, *DestinationPhase)
"""None: no offer has come yet."""

_PHASES: dict[Role, tuple[Phase | None, ...]] = {Role.SOURCE: SOURCE_PHASES, Role.DESTINATION: DESTINATION_PHASES}
OVER: dict[Role, frozenset[int]] = {
    role: frozenset(number for number, phase in enumerate(phases) if phase in FINAL_PHASES)
    for role, phases in _PHASES.items()
}
"""Phases in which nothing more is done, as numbers."""


def number_of(phase: Phase) -> int:
    """Return the number of a phase among its role's."""
    role = Role.SOURCE if isinstance(phase, SourcePhase) else Role.DESTINATION
    return _PHASES[role].index(phase)


def initial(vfs: int) -> State:
    """Return the world before a migration: the VM runs on the source, its VFs receive."""
    source = Side(number_of(SourcePhase.CLAIM), Process.UP, 0, vfs, 0, 0, 1)
    destination = Side(NOT_BEGUN, Process.UP, 0, 0, 0, 0, 0)
    return (*source, *Shared(Vm.RUNNING, Vm.ABSENT, Entry.SOURCES, 0, 0, 0), *destination)


def parts(state: State) -> tuple[Side, Shared, Side]:
    """Return the three parts of a state."""
    return Side(*state[:SHARED]), Shared(*state[SHARED:SHARED_END]), Side(*state[SHARED_END:])


# The registry, by the functions that the real one is changed with.

_MIGRATION: Final = "m"
_FIRST = adopted("vm", "a")
_OPENED = opened(_FIRST, _MIGRATION, source="a", destination="b")
_COMMITTED = committed(_OPENED, _MIGRATION)
_ENTRIES: tuple[Ownership, ...] = (
    _FIRST,
    _OPENED,
    recalled(_OPENED, _MIGRATION),
    _COMMITTED,
    settled(_COMMITTED, _MIGRATION, owner="b"),
)
ENTRY_SAYS: tuple[RegistrySays, ...] = tuple(registry_says(entry, _MIGRATION, "a", "b") for entry in _ENTRIES)
"""What each :class:`Entry` means to the migration."""


class Change:
    """The changes of the entry that there are, as bits."""

    OPEN: Final = 1
    COMMIT: Final = 2
    RECALL: Final = 4
    SETTLE_ON_SOURCE: Final = 8
    SETTLE_ON_DESTINATION: Final = 16


CHANGES: dict[int, str] = {
    Change.OPEN: "open",
    Change.COMMIT: "commit",
    Change.RECALL: "recall",
    Change.SETTLE_ON_SOURCE: "settle on the source",
    Change.SETTLE_ON_DESTINATION: "settle on the destination",
}
"""Every change, and its name."""


def _change(entry: Ownership, change: int) -> Ownership:
    if change == Change.OPEN:
        return opened(entry, _MIGRATION, source="a", destination="b")
    if change == Change.COMMIT:
        return committed(entry, _MIGRATION)
    if change == Change.RECALL:
        return recalled(entry, _MIGRATION)
    return settled(entry, _MIGRATION, owner="a" if change == Change.SETTLE_ON_SOURCE else "b")


def _number(entry: Ownership) -> int:
    """Return the number of an entry; how often the VM has moved before does not matter."""
    shapes = [(known.stage, known.owner, known.migration) for known in _ENTRIES]
    return shapes.index((entry.stage, entry.owner, entry.migration))


def _changes() -> dict[tuple[int, int], int]:
    table: dict[tuple[int, int], int] = {}
    for change in CHANGES:
        for number, entry in enumerate(_ENTRIES):
            try:
                table[change, number] = _number(_change(entry, change))
            except NotOursError:
                continue
    return table


_CHANGES = _changes()


def changed(entry: int, change: int) -> int | None:
    """Return the entry after a compare-and-swap, or None where :mod:`vferry.core.ownership` refuses it."""
    return _CHANGES.get((change, entry))


# For people


def _name(owner: type, value: int) -> str:
    names = {number: name for name, number in vars(owner).items() if isinstance(number, int)}
    return names[value].lower().replace("_", " ")


def describe(state: State) -> str:
    """Return a state in one line."""
    source, shared, destination = parts(state)
    sent = [name.lower() for name, bit in vars(Sent).items() if isinstance(bit, int) and shared.sent & bit]
    return (
        f"A {_describe(source, SOURCE_PHASES)}, VM {_name(Vm, shared.source_vm)}"
        f" | B {_describe(destination, DESTINATION_PHASES)}, VM {_name(Vm, shared.destination_vm)}"
        f" | registry {ENTRY_SAYS[shared.entry].value} | sent {'+'.join(sent) or '-'}"
    )


def describe_end(state: State) -> str:
    """Return the phases of both sides."""
    source, _, destination = parts(state)
    pair = (SOURCE_PHASES[source.phase], DESTINATION_PHASES[destination.phase])
    return " / ".join(phase.value if phase else "not begun" for phase in pair)


def _describe(side: Side, phases: tuple[Phase | None, ...]) -> str:
    phase = phases[side.phase]
    process = "" if side.process == Process.UP else f" ({_name(Process, side.process)})"
    standby = ", standby forwarded" if side.standby else ""
    return f"{phase.value if phase else '-'}{process}: {side.receiving} receiving, {side.parked} parked{standby}"
