# SPDX-License-Identifier: Apache-2.0
"""The scene of every run: hosts A and B with software 82599s, a VM on A, and others that talk with it all the time.

The talkers are a station outside, another VM's VF on each host's PF, and the PFs themselves (not in failover mode,
where the VM's standby is behind them). All are on one learning switch. The VM has two VFs: one that talks, and one in a
port VLAN, which moves along.
"""

from __future__ import annotations

import random

from vferry.core.fence import Mode
from vferry.core.model import AdminState, LinkState, Rate, Vlan
from vferry.demo.account import Account, Accountant, VmVf
from vferry.demo.report import Mark
from vferry.nic.ixgbe.host import SoftwarePf
from vferry.nic.ixgbe.messages import XcastMode
from vferry.ports.hypervisor import VmState
from vferry.ports.migrations import MigrationEntry
from vferry.testing.world.clock import WorldClock
from vferry.testing.world.guest import Guest, frame_of
from vferry.testing.world.host import SimHost
from vferry.testing.world.hypervisor import SimHypervisor, Timing
from vferry.testing.world.ixgbe_device import IxgbeGuestDriver, IxgbePort
from vferry.testing.world.peers import Conversation, Peer
from vferry.testing.world.world import World

__all__ = ["PF", "VFS", "VM", "DemoWorld", "Scene"]

VM = "web"
PF = "eth0"
VFS = {"A": ((PF, 0), (PF, 1)), "B": ((PF, 2), (PF, 3))}
_TALKING = AdminState(
    mac="52:54:00:c0:ff:ee",
    vlans=(),
    rate=Rate(min_tx=0, max_tx=500),
    spoofchk=True,
    trust=False,
    link_state=LinkState.AUTO,
    rss_query=True,
)
_IN_VLAN = AdminState(
    mac="52:54:00:c0:ff:ef",
    vlans=(Vlan(vid=100, qos=3, proto="802.1Q"),),
    rate=Rate(min_tx=0, max_tx=1000),
    spoofchk=False,
    trust=True,
    link_state=LinkState.AUTO,
    rss_query=False,
)

SETTINGS = _TALKING, _IN_VLAN
"""What the VM's VFs are set to; the second is trusted, and its driver asks for all multicasts."""

GROUP = bytes.fromhex("01005e0000fb")
"""224.0.0.251, multicast DNS: the guest has joined it on both VFs."""

INTERVAL = 0.001
"""Seconds between two frames of a talker, each way."""
LEAD, SPAN = 0.05, 0.7
"""Seconds of traffic before the move is asked for, and in all."""
WARM_UP = 12.0
"""Seconds before: a VF driver mends a lost session only ten seconds after its last reset."""
COPY = 0.2, 0.3
"""The copy of the memory takes so many seconds, as the seed says."""
SHUT_DOWN, BOOT = 0.2, 0.1
"""Seconds that the guest takes to shut down, while it still runs, and to boot, while nobody reaches it; in cold mode
every run pays both. Assumed, and short: a guest that boots for seconds would dwarf all that the ways differ in."""
SETTLE = 3.0
"""Seconds after the traffic until the VFs are compared: the guests' drivers look at them every two."""


class _PfTalker(Peer):
    """The host's own network interface."""

    def __init__(self, host: str, port: IxgbePort) -> None:
        super().__init__(f"PF of {host}", port.software.driver.mac.hex(":"))
        self._port = port
        port.give_host(self.receive)

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        self._port.host_transmit(frame)


def _boot_slowly(hypervisor: SimHypervisor, seconds: float) -> None:
    """Let the start of a VM take the time of its boot; the VFs' drivers come at its end."""
    start, clock = hypervisor.start, WorldClock()

    async def boot(vm: str) -> None:
        if await hypervisor.state(vm) is VmState.ABSENT:
            clock.sleep(seconds)
            await clock.pay()
        await start(vm)

    hypervisor.start = boot  # type: ignore[method-assign]


class DemoWorld(World):
    """A world that tells the scene what happens."""

    scene: Scene | None = None

    def _vm_changed(self, host: str, what: str) -> None:
        super()._vm_changed(host, what)
        if self.scene is not None:
            self.scene.look_at_vm(host)

    def _observe(self, entry: MigrationEntry) -> None:
        super()._observe(entry)
        if self.scene is not None:
            self.scene.look_at_phase(entry)


class Scene:
    """A world with its VM, talkers, clock and books.

    :param seed: decides when each talker sends, and how long the copy of the memory takes.
    :param mode: decides whether the VM has a virtio standby behind the PF.
    :param boot: how long the guest takes to start anew, seconds; every run in cold mode pays it.
    """

    def __init__(self, seed: int, mode: Mode, *, boot: float = BOOT) -> None:
        chance = random.Random(f"{seed}/demo")  # noqa: S311 -- a simulation
        self.world = DemoWorld(seed, timing=Timing(copy=chance.uniform(*COPY), shut_down=SHUT_DOWN))
        self.boot = boot
        self.clock = WorldClock()
        self.marks: list[Mark] = []
        self.accounts: list[Account] = []
        self.conversations: list[Conversation] = []
        self._offsets = chance
        self.settings = SETTINGS
        self._standby = mode is Mode.FAILOVER
        self._zero = 0.0
        self._states: dict[str, VmState] = {}
        self._previous_phase: dict[str, str] = {}

    # Building

    async def build(self) -> None:
        """Start the VM on A with its neighbours, and wait until all of them work."""
        if not self._standby:  # a PF with a standby behind it reaches it by the host's bridge, not by the NIC
            self.world.peers += [_PfTalker(name, self.port(name)) for name in self.world.hosts]
        for hypervisor in map(self.hypervisor, self.world.hosts):
            _boot_slowly(hypervisor, self.boot)
        await self.world.add_vm(VM, "A", vfs=VFS, settings=self.settings, standby=self._standby)
        self.join_groups()
        await self.sleep(WARM_UP)
        mac = self.settings[0].mac
        talking = [one for one in self.world.traffic.conversations if one.mac == mac]
        self.conversations = sorted(talking, key=lambda one: _ORDER.index(one.peer.name))
        self.accountant = Accountant(self.guest, tuple(self._vm_vf(host) for host in VFS))
        self.world.scene = self
        self._states = {"A": VmState.RUNNING}

    def _vm_vf(self, host: str) -> VmVf:
        software = self.software(host)
        return VmVf(host, PF, software.hardware, VFS[host][0][1], software.pool)

    def join_groups(self) -> None:
        """Let a driver that has just been bound send what the guest's network stack has asked for, when it opens."""
        for interface, settings in zip(self.guest.interfaces, self.settings, strict=True):
            if isinstance(interface.driver, IxgbeGuestDriver) and not interface.driver.driver.is_open:
                interface.driver.driver.multicasts = [GROUP]
                if settings.trust:
                    interface.driver.driver.xcast_mode = XcastMode.ALLMULTI

    # What is there

    @property
    def guest(self) -> Guest:
        """Return the software of the VM."""
        return self.world.guests[VM]

    def host(self, name: str) -> SimHost:
        """Return a host."""
        return self.world.hosts[name]

    def hypervisor(self, name: str) -> SimHypervisor:
        """Return a host's hypervisor."""
        return self.host(name).hypervisor

    def port(self, name: str) -> IxgbePort:
        """Return the data path of a host's PF."""
        port = self.host(name).device.ports[PF]
        assert isinstance(port, IxgbePort)  # noqa: S101 -- the world makes no other unless asked
        return port

    def software(self, name: str) -> SoftwarePf:
        """Return a host's PF."""
        return self.port(name).software

    # Time

    @property
    def now(self) -> float:
        """Milliseconds since the move was asked for."""
        return round(1000 * (self.clock.monotonic() - self._zero), 3)

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.clock.sleep(seconds)
        await self.clock.pay()

    def mark(self, name: str, host: str) -> None:
        """Note that something happens now."""
        self.marks.append(Mark(at=self.now, name=name, host=host))

    # Traffic

    async def talk(self) -> None:
        """Let everybody talk, from before the move is asked for until long after."""
        began = self.clock.monotonic()
        self._zero = began + LEAD
        offsets = sorted(self._offsets.uniform(0, INTERVAL) for _ in self.conversations)
        self._offsets.shuffle(offsets)
        self.accounts = [
            Account(one.peer.name, round(1000 * (offset - LEAD), 3))
            for one, offset in zip(self.conversations, offsets, strict=True)
        ]
        turns = sorted(zip(offsets, self.accounts, self.conversations, strict=True), key=lambda turn: turn[0])
        for number in range(round(SPAN / INTERVAL)):
            for offset, account, conversation in turns:
                await self.sleep(began + number * INTERVAL + offset - self.clock.monotonic())
                self._exchange(account, conversation)

    def _exchange(self, account: Account, conversation: Conversation) -> None:
        """Send one frame each way; the one to the VM is followed."""
        flow, peer = conversation.to_vm, conversation.peer
        self.join_groups()
        before = self.accountant.look(flow)
        peer.send(frame_of(conversation.octets, peer.octets, flow.number, flow.next()))
        self.accountant.settle(account, flow, before)
        self.guest.transmit(conversation.mac, peer.octets, conversation.to_peer)

    # What happens

    def look_at_vm(self, host: str) -> None:
        """Note that the VM stops or runs."""
        instance = self.hypervisor(host).instances.get(VM)
        state = VmState.ABSENT if instance is None else instance.state
        before, self._states[host] = self._states.get(host), state
        if state is VmState.RUNNING and before is not state:
            self.accountant.running = host
            self.mark("resume", host)
        elif before is VmState.RUNNING and before is not state:
            self.accountant.running = None
            self.mark("stop", host)

    def look_at_phase(self, entry: MigrationEntry) -> None:
        """Note what one side of vferry's migration has done."""
        host = entry.source if entry.role.value == "source" else entry.destination
        left = self._previous_phase.get(host)
        self._previous_phase[host] = entry.phase
        name = _WHEN_LEFT.get((left or "", entry.phase)) or _WHEN_ENTERED.get(entry.phase)
        if name is not None:
            self.mark(name, host)
        if name == "commit":
            self.accountant.arrived = host


_ORDER = ("station", "neighbour-A", "PF of A", "neighbour-B", "PF of B")
"""Of the talkers."""

_WHEN_LEFT = {("fence", "handover"): "fence", ("fence", "standby"): "fence", ("unplug", "fence"): "unplug"}
"""Marks of a phase that was done, by it and the phase that follows."""
_WHEN_ENTERED = {
    "await": "switch",
    "activate": "commit",
    "start": "activate",
    "plug": "plug",
    "released": "release",
}
"""Marks of the phases before, by the phase that is entered."""
