# SPDX-License-Identifier: Apache-2.0
"""A simulated host: NICs, a hypervisor, a disk, and an agent that listens, and takes up what a crash interrupted."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeAlias

import trio

from vferry.core.capability import CapabilityTable
from vferry.core.errors import VferryError
from vferry.core.frames import rarp
from vferry.core.migration.messages import Message, Offer
from vferry.core.migration.phases import Phase
from vferry.core.model import Vlan
from vferry.core.policy import Policy
from vferry.migration.begin import accept_offer, late_answer, take_up
from vferry.migration.coordinator import ContradictionError, Coordinator
from vferry.migration.entries import is_over, phase_of
from vferry.migration.host import Deadlines, MigrationHost
from vferry.ports.announcer import Announcer
from vferry.ports.migrations import MigrationEntry
from vferry.ports.nic import Nic
from vferry.testing.crash import Crash, CrashingJournal, CrashingNic
from vferry.testing.memory_journal import MemoryJournal, Storage
from vferry.testing.memory_migrations import MemoryDisk, MemoryMigrationJournal
from vferry.testing.world.device import Device
from vferry.testing.world.hypervisor import SimHypervisor
from vferry.testing.world.log import EventLog
from vferry.testing.world.network import ControlNetwork, SimChannel
from vferry.testing.world.process import (
    Process,
    ProcessAnnouncer,
    ProcessCarrier,
    ProcessChannel,
    ProcessHypervisor,
    ProcessRegistry,
)
from vferry.testing.world.registry import WorldRegistry
from vferry.verbs.context import Context, Patience

__all__ = ["SHORT", "SimDisk", "SimHost"]

SHORT = Deadlines(
    offer=3.0,
    copy=20.0,
    handover=1.0,
    arrival=2.0,
    incoming=25.0,
    held=3.0,
    stubborn=5.0,
    resend=0.1,
    poll=0.05,
    retry=0.05,
)
"""Patience that suits a world in which a copy of the memory takes a third of a second."""

RETRY_SECONDS = 1.0
"""Before an agent looks again at a migration that it could not go on with."""

NicWrapper: TypeAlias = Callable[[Nic, "Process"], Nic]


class SimDisk:
    """What survives: undo records at once, the migration journal's writes once they are flushed."""

    def __init__(self) -> None:
        self.undo: Storage = {}
        self.migrations = MemoryDisk()

    def lose_power(self, *, keep: int) -> None:
        """Forget what was not flushed, but for the first ``keep`` writes."""
        self.migrations.lose_power(keep=keep)


class _PortAnnouncer(Announcer):
    def __init__(self, device: Device) -> None:
        self._device = device

    def announce(self, pf: str, mac: str, *, vlans: tuple[Vlan, ...] = ()) -> None:
        """Send the frame by the PF's own queue, as a packet socket does."""
        del vlans
        self._device.ports[pf].host_transmit(rarp(mac))


class SimHost:
    """One host of a world.

    :param changed: called after every step of the agent.
    """

    def __init__(
        self,
        name: str,
        device: Device,
        hypervisor: SimHypervisor,
        registry: WorldRegistry,
        *,
        network: ControlNetwork,
        log: EventLog,
        nursery: trio.Nursery,
        changed: Callable[[], None],
        seed: object,
        policy: Policy,
        tables: Sequence[CapabilityTable] = (),
        deadlines: Deadlines = SHORT,
        observer: Callable[[MigrationEntry], None] = lambda _entry: None,
    ) -> None:
        self.name = name
        self._observer = observer
        self.device = device
        self.hypervisor = hypervisor
        self.registry = registry
        self.disk = SimDisk()
        self.deadlines = deadlines
        self.patience = Patience(busy=2.0, settle=0.2)
        self.wrap_nic: NicWrapper = lambda nic, _process: nic
        """Puts faults between the agent and its NIC."""
        self.process: Process | None = None
        self.die_at: int | None = None
        """The step at which the agent's next life ends."""
        self.lives = 0
        self.crashes = 0
        """How often the host, not only its agent, has crashed."""
        self.lost_vms: set[str] = set()
        """VMs that a fault has ended here."""
        self.contradictions: dict[str, str] = {}
        """By migration and role: what a recovery cannot make sense of."""
        self.alarms: dict[str, int] = {}
        """By migration and role: how often in a row a recovery raised an alarm."""
        self.failures: list[str] = []
        """Errors that ended a coordinator."""
        self._network = network
        self._log = log
        self._nursery = nursery
        self._changed = changed
        self._random = random.Random(f"{seed}/host/{name}")  # noqa: S311 -- a simulation
        self._policy = policy
        self._tables = tuple(tables)
        self._channels: dict[str, SimChannel] = {}
        self._tasks: trio.Nursery | None = None
        self.on_boot: Callable[[], None] = lambda: None
        """Called when the host was booted again: what an operator's provisioning does then."""
        self.coordinators: dict[str, Coordinator] = {}
        """By migration: what runs now."""

    # The agent's life

    async def start(self) -> None:
        """Start the agent; it takes up what its journal has."""
        process = Process(self._changed, at=self.die_at)
        self.die_at = None
        self.process = process
        self.lives += 1
        self._channels.clear()
        self.coordinators.clear()
        self._log.add(self.name, f"agent starts, life {self.lives}")
        await self._nursery.start(self._live, process)

    def kill(self) -> None:
        """Kill the agent."""
        if self.process is not None and not self.process.crashed:
            self._log.add(self.name, "agent is killed")
            self.process.kill()

    def crash(self) -> None:
        """Let the whole host crash and boot again at once: VMs, settings and unsynced writes are gone."""
        self.kill()
        self.crashes += 1
        self._log.add(self.name, "host crashes")
        self.lost_vms |= set(self.hypervisor.instances)
        self.hypervisor.power_off()
        self.device.reboot()
        self.hypervisor.wire_standbys()
        self.on_boot()
        self.disk.lose_power(keep=self._random.randint(0, self.disk.migrations.unflushed))
        self._changed()

    @property
    def alive(self) -> bool:
        """Whether the agent runs."""
        return self.process is not None and not self.process.crashed

    async def _live(self, process: Process, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            with process.scope:
                async with trio.open_nursery() as nursery:
                    self._tasks = nursery
                    self._network.listen(self.name, self._hear)
                    for entry in self._journal(process).entries():
                        if not is_over(entry):
                            nursery.start_soon(self._recover, process, entry)
                    task_status.started()
                    await trio.sleep_forever()
        except* Crash as group:
            del group
        if self.process is process:
            self._log.add(self.name, f"agent is dead; its last step was '{process.last}'")
            self._network.listen(self.name, None)
            self._tasks = None

    # Migrations

    def ports(self, process: Process) -> MigrationHost:
        """Return this host as a coordinator of one of the agent's lives sees it."""
        nic = CrashingNic(self.wrap_nic(self.device.nic, process), process)
        return MigrationHost(
            name=self.name,
            context=Context(nic, CrashingJournal(MemoryJournal(self.disk.undo), process), process.clock, self.patience),
            hypervisor=ProcessHypervisor(self.hypervisor, process),
            registry=ProcessRegistry(self.registry, process),
            migrations=self._journal(process),
            policy=self._policy,
            announcer=ProcessAnnouncer(_PortAnnouncer(self.device), process),
            carrier=None if self.hypervisor.carries else ProcessCarrier(self.device.carrier, process),
            tables=self._tables,
            deadlines=self.deadlines,
        )

    def run(self, make: Callable[[MigrationHost, ProcessChannel], Coordinator | None], name: str, peer: str) -> None:
        """Let the agent run a coordinator for a migration that begins."""
        process = self.process
        if process is None or process.crashed or self._tasks is None:
            return
        channel = SimChannel(self._network, self.name, peer)
        coordinator = make(self.ports(process), ProcessChannel(channel, process))
        if coordinator is not None:
            self._channels[name] = channel
            self.coordinators[name] = coordinator
            self._tasks.start_soon(self._run, process, coordinator)

    def observe(self, entry: MigrationEntry) -> None:
        """Note a phase in the log."""
        self._observer(entry)
        name = f"{entry.migration}/{entry.role.value}"
        self.alarms.pop(name, None)
        self.contradictions.pop(name, None)
        why = f" ({entry.why})" if entry.why else ""
        self._log.add(self.name, f"{entry.migration} {entry.role.value}: {entry.phase}{why}")

    def entries(self) -> tuple[MigrationEntry, ...]:
        """Return what the migration journal has."""
        return MemoryMigrationJournal(self.disk.migrations).entries()

    def phases(self) -> dict[str, Phase]:
        """Return where each migration is, by ``migration/role``."""
        return {f"{entry.migration}/{entry.role.value}": phase_of(entry) for entry in self.entries()}

    async def _run(self, process: Process, coordinator: Coordinator) -> None:
        try:
            await coordinator.run()
        except VferryError as error:
            self._failed(coordinator.entry, error)
            await self._again(process, coordinator.entry)

    async def _again(self, process: Process, entry: MigrationEntry) -> None:
        """Look again a little later, as an agent's supervision does."""
        await trio.sleep(RETRY_SECONDS)
        found = self._journal(process).read(entry.migration, entry.role)
        if found is not None and not is_over(found):
            await self._recover(process, found)

    async def _recover(self, process: Process, entry: MigrationEntry) -> None:
        name = f"{entry.migration}/{entry.role.value}"
        while True:
            channel = ProcessChannel(self._open(entry.migration, self._peer(entry)), process)
            coordinator = take_up(self.ports(process), channel, entry, observer=self.observe)
            self.coordinators[entry.migration] = coordinator
            try:
                await coordinator.recover()
            except ContradictionError as error:
                self._alarm(name, error.why)
            except VferryError as error:
                self._failed(entry, error)
            else:
                return
            await trio.sleep(RETRY_SECONDS)
            found = self._journal(process).read(entry.migration, entry.role)
            if found is None or is_over(found):
                return
            entry = found

    def _alarm(self, name: str, why: str) -> None:
        """Note a contradiction; it counts once it has been there three times, since a hypervisor may answer later."""
        self.alarms[name] = self.alarms.get(name, 0) + 1
        if self.alarms[name] == 1:
            self._log.add(self.name, f"{name}: {why}")
        if self.alarms[name] >= 3:
            self.contradictions[name] = why

    def well(self) -> None:
        """Forget what could not be made sense of: the faults are over."""
        self.alarms.clear()
        self.contradictions.clear()

    def _failed(self, entry: MigrationEntry, error: VferryError) -> None:
        words = f"{entry.migration}/{entry.role.value} {entry.phase}: {type(error).__name__}: {error}"
        self.failures.append(words)
        self._log.add(self.name, words)

    def _hear(self, source: str, message: Message) -> None:
        process = self.process
        if process is None or process.crashed:
            return
        coordinator = self.coordinators.get(message.migration)
        if coordinator is not None and not is_over(coordinator.entry):
            self._channels[message.migration].deliver(message)
            return
        try:
            answer = late_answer(self.ports(process), message)
        except Crash:
            return
        if answer is not None:
            self._network.send(self.name, source, answer)
        elif isinstance(message, Offer):
            self.run(
                lambda host, way: accept_offer(host, way, message, observer=self.observe), message.migration, source
            )

    def _open(self, migration: str, peer: str) -> SimChannel:
        channel = SimChannel(self._network, self.name, peer)
        self._channels[migration] = channel
        return channel

    def _peer(self, entry: MigrationEntry) -> str:
        return entry.destination if entry.source == self.name else entry.source

    def _journal(self, process: Process) -> MemoryMigrationJournal:
        return MemoryMigrationJournal(self.disk.migrations, process)
