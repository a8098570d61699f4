# SPDX-License-Identifier: Apache-2.0
"""The whole world: hosts on a switch, VMs with traffic, a registry, a control network, and somebody who watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import trio

from vferry.core.fence import Mode
from vferry.core.migration.phases import Role
from vferry.core.migration.tables import FINAL_PHASES
from vferry.core.model import AdminState, DeclaredState
from vferry.core.ownership import Identity, OwnedVf, Ownership, adopted
from vferry.core.policy import Policy
from vferry.migration.begin import begin
from vferry.migration.entries import phase_of
from vferry.migration.host import Deadlines
from vferry.ports.migrations import MigrationEntry
from vferry.testing.memory_registry import MemoryRegistry, RegistryStorage
from vferry.testing.memory_state import MemoryPf
from vferry.testing.world.device import Device
from vferry.testing.world.guest import Flow, Guest
from vferry.testing.world.host import SHORT, SimHost
from vferry.testing.world.hypervisor import QUICK, Definition, SimHypervisor, Timing
from vferry.testing.world.invariants import Watch
from vferry.testing.world.ixgbe_device import ixgbe_device
from vferry.testing.world.log import EventLog
from vferry.testing.world.memory_device import MemoryDevice
from vferry.testing.world.network import ControlNetwork
from vferry.testing.world.peers import Conversation, Neighbour, Peer, Station, Traffic
from vferry.testing.world.registry import WorldRegistry
from vferry.testing.world.resetting import ResettingNic
from vferry.testing.world.switch import EthernetSwitch
from vferry.verbs.context import VfRef

__all__ = ["HOSTS", "NEIGHBOUR_VF", "World", "memory_device"]

HOSTS = ("A", "B")
NEIGHBOUR_VF = 7
NUM_VFS = 8
ANYTHING = Policy()
STATION_MAC = "02:00:00:00:99:01"


def memory_device(host: str, pfs: Sequence[str]) -> Device:
    """Return NICs in memory."""
    return MemoryDevice(host, [MemoryPf(name=name, num_vfs=NUM_VFS) for name in pfs])


class World:
    """Hosts, named, each with the same PFs, all on one switch.

    :param seed: decides everything that is left to chance.
    :param pfs: the names of the PFs of each host; VF 7 of the first is a neighbour's.
    :param device: makes a host's NICs.
    :param hypervisor_carries: the VFs' own states travel with the memory, not with the final record.
    :param resetting: hosts whose PF driver resets a VF at every new MAC, as i40e does.
    """

    def __init__(
        self,
        seed: object,
        *,
        hosts: Sequence[str] = HOSTS,
        pfs: Sequence[str] = ("eth0",),
        device: Callable[[str, Sequence[str]], Device] = ixgbe_device,
        timing: Timing = QUICK,
        deadlines: Deadlines = SHORT,
        policy: Policy = ANYTHING,
        hypervisor_carries: bool = False,
        resetting: Sequence[str] = (),
    ) -> None:
        self.seed = seed
        self.log = EventLog()
        self.hosts: dict[str, SimHost] = {}
        self.guests: dict[str, Guest] = {}
        self.peers: list[Peer] = []
        self.violations: list[str] = []
        self.on_violation: Callable[[], object] = lambda: None
        self.storage = RegistryStorage()
        self.traffic = Traffic(())
        self.settings: dict[str, tuple[AdminState, ...]] = {}
        """By VM: what its VFs were set to when it was adopted."""
        self._names = tuple(hosts)
        self._pfs = tuple(pfs)
        self._device = device
        self._timing = timing
        self._deadlines = deadlines
        self._policy = policy
        self._hypervisor_carries = hypervisor_carries
        self._resetting = tuple(resetting)
        self._stack = AsyncExitStack()
        self._hypervisors: dict[str, SimHypervisor] = {}
        self._owned: dict[str, Ownership] = {}
        self.watch = Watch(self.hosts, owned=self._owned.get, violated=self._violated)
        self._flows: dict[str, dict[int, Flow]] = {}
        self._conversations: list[Conversation] = []

    async def __aenter__(self) -> Self:
        """Build everything; agents run, no VM does."""
        self.nursery = await self._stack.enter_async_context(trio.open_nursery())
        self.switch = EthernetSwitch()
        self.network = ControlNetwork(self.seed, self.nursery, self.log)
        for name in self._names:
            self.hosts[name] = self._make_host(name)
        self.peers.append(Station("station", STATION_MAC, self.switch))
        for name, host in self.hosts.items():
            self._make_neighbour(name, host)
            await host.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """End everything at once."""
        self.nursery.cancel_scope.cancel()
        return await self._stack.__aexit__(kind, error, traceback)

    # Building

    def _make_host(self, name: str) -> SimHost:
        device = self._device(name, self._pfs)
        for pf, port in device.ports.items():
            port.connect(self.switch.attach((name, pf), port.receive))
        hypervisor = SimHypervisor(
            name,
            device,
            self.nursery,
            peers=self._hypervisors,
            changed=self._vm_changed,
            seed=self.seed,
            timing=self._timing,
            carries=self._hypervisor_carries,
        )
        self._hypervisors[name] = hypervisor
        registry = WorldRegistry(name, self.storage, self.seed, self.nursery, self._entry_changed)
        host = SimHost(
            name,
            device,
            hypervisor,
            registry,
            network=self.network,
            log=self.log,
            nursery=self.nursery,
            changed=self.watch.look,
            seed=self.seed,
            policy=self._policy,
            deadlines=self._deadlines,
            observer=self._observe,
        )
        if name in self._resetting:
            host.wrap_nic = lambda nic, process: ResettingNic(nic, process.clock)
        return host

    def _make_neighbour(self, name: str, host: SimHost) -> None:
        pf = self._pfs[0]
        mac = f"02:00:00:00:98:{len(self.peers):02x}"
        neighbour = Neighbour(f"neighbour-{name}", mac, host.device.ports[pf], NEIGHBOUR_VF)

        def provision() -> None:
            host.device.nic.program(pf, {NEIGHBOUR_VF: AdminState(mac=mac)})
            neighbour.start(self.nursery)

        provision()
        host.on_boot = provision
        self.peers.append(neighbour)

    async def add_vm(
        self,
        name: str,
        host: str,
        *,
        vfs: Mapping[str, Sequence[tuple[str, int]]],
        settings: Sequence[AdminState],
        standby: bool = False,
    ) -> Guest:
        """Program VFs on a host, start a VM on them, and adopt it.

        :param vfs: for every host the VFs that the VM has there.
        :param settings: of each VF; VFs with the same MAC are a bond.
        """
        flows = self._flows.setdefault(name, {})
        guest = Guest(name, tuple(str(state.mac) for state in settings), standby=standby, flows=flows)
        self.guests[name] = guest
        for where, places in vfs.items():
            self.hosts[where].hypervisor.defined[name] = Definition(guest, tuple(places))
        nic = self.hosts[host].device.nic
        for (pf, vf), state in zip(vfs[host], settings, strict=True):
            nic.program(pf, {vf: state})
        self.settings[name] = tuple(self.admin(host, pf, vf) for pf, vf in vfs[host])
        for mac in guest.macs:
            for peer in self.peers:
                number = 2 * len(self._conversations)
                self._conversations.append(Conversation(guest, mac, peer, number, flows))
        self.traffic = Traffic(self._conversations)
        owned = tuple(OwnedVf(pf=pf, vf=vf) for pf, vf in vfs[host])
        identities = tuple(Identity(segment="lan", mac=mac) for mac in guest.macs)
        await MemoryRegistry(self.storage).create(adopted(name, host, vfs=owned, identities=identities))
        self._entry_changed(name)
        self.watch.add(name, guest.macs)
        self.hosts[host].hypervisor.boot(name)
        return guest

    def admin(self, host: str, pf: str, vf: int) -> AdminState:
        """Return a VF's settings as its PF reports them."""
        return next(one.admin for one in self.hosts[host].device.nic.read(pf).vfs if one.index == vf)

    # Migrations

    def migrate(self, name: str, vm: str, source: str, destination: str, mode: Mode, *, carried: bool = True) -> None:
        """Let the source's agent begin a migration of a VM with all its VFs."""
        old = self.hosts[source].hypervisor.defined[vm].vfs
        new = self.hosts[destination].hypervisor.defined[vm].vfs
        moves = [(VfRef(*one), VfRef(*other)) for one, other in zip(old, new, strict=True)]
        macs = [interface.mac for interface in self.guests[vm].interfaces]
        declared = {old: DeclaredState(mac=mac) for (old, _), mac in zip(moves, macs, strict=True)}
        host = self.hosts[source]
        self.log.add("world", f"{name}: VM {vm} from {source} to {destination}, {mode.value}")
        host.run(
            lambda ports, channel: begin(
                ports,
                channel,
                migration=name,
                vm=vm,
                destination=destination,
                moves=moves,
                mode=mode,
                carried=carried,
                declared=declared,
                observer=host.observe,
            ),
            name,
            destination,
        )

    def entry(self, host: str, migration: str, role: Role) -> MigrationEntry | None:
        """Return one side's journal entry."""
        found = [one for one in self.hosts[host].entries() if (one.migration, one.role) == (migration, role)]
        return found[0] if found else None

    def owner(self, vm: str) -> Ownership:
        """Return a VM's entry in the registry as it is stored."""
        return self._owned[vm]

    @property
    def settled(self) -> bool:
        """Whether no agent has anything left that it can go on with."""
        return all(
            phase_of(entry) in FINAL_PHASES or f"{entry.migration}/{entry.role.value}" in host.contradictions
            for host in self.hosts.values()
            for entry in host.entries()
        )

    async def wait_settled(self, *, seconds: float) -> bool:
        """Wait until everything is over; False where it is not in time."""
        with trio.move_on_after(seconds):
            while True:
                await trio.sleep(0.1)
                if self.settled:
                    break
        return self.settled

    @property
    def doubled(self) -> int:
        """How many frames arrived more than once."""
        return sum(flow.doubled for one in self.traffic.conversations for flow in (one.to_vm, one.to_peer))

    def counters(self) -> dict[str, int]:
        """Return what was counted, by name."""
        flows = [flow for one in self.traffic.conversations for flow in (one.to_vm, one.to_peer)]
        return {
            "frames sent": sum(flow.sent for flow in flows),
            "frames received": sum(flow.received for flow in flows),
            "frames lost": sum(flow.lost for flow in flows),
            "delivered to a dead VF": sum(guest.dead_deliveries for guest in self.guests.values()),
            "swallowed by a NIC": sum(
                port.swallowed() for host in self.hosts.values() for port in host.device.ports.values()
            ),
            "longest gap, ms": round(1000 * max((flow.longest_gap for flow in flows), default=0.0)),
            "messages sent": self.network.sent,
            "messages lost": self.network.lost,
            "agents' lives": sum(host.lives for host in self.hosts.values()),
            "looks": self.watch.looks,
            **{f"steps on {name}": host.process.count for name, host in self.hosts.items() if host.process},
        }

    # What is told

    def _violated(self, what: str) -> None:
        self.violations.append(what)
        self.log.add("VIOLATION", what)
        self.on_violation()

    def _vm_changed(self, host: str, what: str) -> None:
        self.log.add(host, what)
        self.watch.look()

    def _entry_changed(self, vm: str) -> None:
        before = self._owned.get(vm)
        found = MemoryRegistry(self.storage)._find(vm)  # noqa: SLF001 -- a look that nobody can disturb
        if found is None:
            return
        self._owned[vm] = found.ownership
        entry = found.ownership
        if before != entry:
            what = f"VM {vm}: {entry.stage.value}, owner {entry.owner}, token {found.token}"
            self.log.add("registry", what)
        self.watch.look()

    def _observe(self, entry: MigrationEntry) -> None:
        if entry.role is Role.DESTINATION:
            self.watch.orders[entry.migration] = entry.order
