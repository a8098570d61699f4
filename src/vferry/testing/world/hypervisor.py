# SPDX-License-Identifier: Apache-2.0
"""A simulated hypervisor: VMs with states, and streams between hosts that may die at any moment.

The hypervisor is a process of its own: it goes on while an agent is dead.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import trio

from vferry.core.errors import VferryError
from vferry.ports.hypervisor import Hypervisor, HypervisorError, StreamFailedError, VmAbsentError, VmState
from vferry.testing.world.device import Device, FrameSink, Port
from vferry.testing.world.guest import Guest

__all__ = ["QUICK", "Definition", "Instance", "SimHypervisor", "Stream", "Timing"]


class Timing(NamedTuple):
    """How long things take; seconds."""

    answer: float = 0.0005
    """Any command."""
    copy: float = 0.3
    """The memory, while the VM runs."""
    rest: float = 0.03
    """What is sent while the VM is stopped."""
    unplug: float = 0.05
    """Until the guest has let go of a VF."""
    shut_down: float = 0.2


QUICK = Timing()
"""A copy of the memory in a third of a second."""


class Definition(NamedTuple):
    """A VM as it is defined on one host."""

    guest: Guest
    vfs: tuple[tuple[str, int], ...]
    """The VF of each of the guest's interfaces."""


class Instance:
    """A VM on one host."""

    def __init__(self, hypervisor: SimHypervisor, guest: Guest, state: VmState) -> None:
        self.hypervisor = hypervisor
        self.guest = guest
        self.state = state
        self.vfs: list[tuple[str, int] | None] = [None] * len(guest.interfaces)
        """The VF of each interface here; None: not plugged."""
        self.stream: Stream | None = None
        self.changed = trio.Event()
        """Set, and replaced, whenever the state changes."""

    def open(self, index: int, pf: str, vf: int) -> None:
        """Take a VF from the host, as vfio does."""

        def sink(frame: bytes) -> None:
            if self.state is VmState.RUNNING:
                self.guest.receive(frame)
            else:
                self.guest.dead_deliveries += 1

        self.hypervisor.device.ports[pf].open(vf, sink)
        self.vfs[index] = pf, vf

    def close(self, index: int) -> None:
        """Give a VF back to the host."""
        place = self.vfs[index]
        if place is not None:
            self.vfs[index] = None
            self.hypervisor.device.ports[place[0]].close(place[1])

    def saved(self) -> list[bytes]:
        """Stop the VFs and return their own states, where the hypervisor carries them."""
        carrier, states = self.hypervisor.device.carrier, []
        for pf, vf in self._carried():
            carrier.stop(pf, vf)
            states.append(carrier.save(pf, vf, session=True))
        return states

    def loaded(self, states: Sequence[bytes]) -> bool:
        """Give the VFs their states; False where one cannot have it."""
        try:
            for (pf, vf), state in zip(self._carried(), states, strict=False):
                self.hypervisor.device.carrier.load(pf, vf, state)
        except VferryError as error:
            self.hypervisor.note(str(error))
            return False
        return True

    def let_vfs_work(self) -> None:
        """Start the VFs, where the hypervisor carries their state."""
        for pf, vf in self._carried():
            self.hypervisor.device.carrier.start(pf, vf)

    def _carried(self) -> list[tuple[str, int]]:
        return [place for place in self.vfs if place is not None] if self.hypervisor.carries else []

    def transmitter(self, index: int) -> FrameSink | None:
        """Return the transmit queue of an interface's VF."""
        place = self.vfs[index]
        if place is None:
            return None
        port, vf = self.hypervisor.device.ports[place[0]], place[1]
        return lambda frame: port.transmit(vf, frame)


class Stream:
    """One migration of memory, from one instance to another."""

    def __init__(self, source: Instance, target: Instance, timing: Timing) -> None:
        self.source = source
        self.target = target
        self.phase = "copying"
        """copying, stopped, sending, done or dead."""
        self.silent_end = False
        """The source is never told that everything has arrived."""
        self._timing = timing
        self._states: list[bytes] = []
        self._scope = trio.CancelScope()
        self._go = trio.Event()
        self.moved = trio.Event()
        """Set when the VM is stopped, and when the stream is dead."""

    async def run(self) -> None:
        """Copy, stop the VM, wait for the word to go on, send the rest."""
        with self._scope:
            await trio.sleep(self._timing.copy)
            self.phase = "stopped"
            self.source.hypervisor.set_state(self.source, VmState.PAUSED)
            self._states = self.source.saved()
            self.moved.set()
            await self._go.wait()
            self.phase = "sending"
            await trio.sleep(self._timing.rest)
            if not self.target.loaded(self._states):
                self.die("the destination cannot load a VF's state")
                return
            self.phase = "done"
            self.target.hypervisor.set_state(self.target, VmState.PAUSED)
            if not self.silent_end:
                self.source.hypervisor.set_state(self.source, VmState.MIGRATED)

    def go_on(self) -> None:
        """Send the rest ("migrate-continue")."""
        self._go.set()

    def die(self, why: str) -> None:
        """End it; what was complete stays complete, a target that was not is gone."""
        if self.phase in ("done", "dead"):
            return
        self.phase = "dead"
        self._scope.cancel()
        self.moved.set()
        self.source.hypervisor.note(f"stream of {self.source.guest.name} dies: {why}")
        self.target.hypervisor.end(self.target)


class SimHypervisor(Hypervisor):
    """The VMs of one host.

    :param peers: all hypervisors of the world, by their host's name.
    :param changed: called with words after every change of a VM.
    :param carries: it moves the VFs' own states too, as the kernel's VFIO migration does.
    """

    def __init__(
        self,
        host: str,
        device: Device,
        nursery: trio.Nursery,
        *,
        peers: Mapping[str, SimHypervisor],
        changed: Callable[[str, str], None],
        seed: object,
        timing: Timing = QUICK,
        carries: bool = False,
    ) -> None:
        self.device = device
        self.carries = carries
        self.timing = timing
        self.instances: dict[str, Instance] = {}
        self.defined: dict[str, Definition] = {}
        self.streams: list[Stream] = []
        self.faults = 0.0
        """Share of commands that fail without effect, 0 to 1."""
        self._host = host
        self._nursery = nursery
        self._peers = peers
        self._changed = changed
        self._random = random.Random(f"{seed}/hypervisor/{host}")  # noqa: S311 -- a simulation
        self._shutting_down: dict[str, trio.Event] = {}
        self.wire_standbys()

    # As either side

    async def state(self, vm: str) -> VmState:
        """Return what the VM is doing."""
        await self._answer("state", vm)
        instance = self.instances.get(vm)
        return VmState.ABSENT if instance is None else instance.state

    async def resume(self, vm: str) -> None:
        """Let a stopped VM run on."""
        await self._answer("resume", vm)
        instance = self._find("resume", vm)
        if instance.state is VmState.INCOMING:
            raise HypervisorError(f"resume VM {vm}", host=self._host, why="it is not complete")
        if instance.stream is not None:
            instance.stream.die("given up")
            instance.stream = None
        if instance.state is not VmState.RUNNING:
            self.set_state(instance, VmState.RUNNING)

    async def destroy(self, vm: str) -> None:
        """End the VM here at once."""
        await self._answer("destroy", vm)
        instance = self.instances.get(vm)
        if instance is not None:
            self.end(instance)

    # As the source

    async def send(self, vm: str, uri: str) -> None:
        """Begin to copy the VM's memory."""
        await self._answer("send", vm)
        instance = self._find("send", vm)
        if instance.stream is not None and instance.stream.phase != "dead":
            return
        host = uri.removeprefix("sim://")
        target = self._peers[host].instances.get(vm) if host in self._peers else None
        if target is None or target.state is not VmState.INCOMING:
            raise StreamFailedError(f"send VM {vm}", host=self._host, why=f"nobody listens at '{uri}'")
        instance.stream = target.stream = Stream(instance, target, self.timing)
        self.streams.append(instance.stream)
        self._nursery.start_soon(instance.stream.run)

    async def wait_stopped(self, vm: str) -> None:
        """Wait until the VM is stopped for the switch-over."""
        instance = self._find("wait for", vm)
        stream = instance.stream
        if stream is None:
            raise StreamFailedError(f"wait for VM {vm}", host=self._host, why="no migration is under way")
        await stream.moved.wait()
        if stream.phase == "dead":
            raise StreamFailedError(f"wait for VM {vm}", host=self._host, why="the stream is dead")

    async def switch(self, vm: str) -> None:
        """Send the rest."""
        await self._answer("switch", vm)
        stream = self._find("switch", vm).stream
        if stream is None or stream.phase == "dead":
            raise StreamFailedError(f"switch VM {vm}", host=self._host, why="the stream is dead")
        stream.go_on()

    async def cancel(self, vm: str) -> None:
        """End an outgoing migration."""
        await self._answer("cancel", vm)
        instance = self._find("cancel", vm)
        if instance.stream is not None:
            instance.stream.die("cancelled")
            instance.stream = None

    async def shut_down(self, vm: str) -> None:
        """Ask the guest to shut down, and wait until the VM is gone."""
        await self._answer("shut_down", vm)
        instance = self.instances.get(vm)
        if instance is None:
            return
        if vm not in self._shutting_down:
            self._shutting_down[vm] = trio.Event()
            self._nursery.start_soon(self._power_down, instance, self._shutting_down[vm])
        await self._shutting_down[vm].wait()

    async def _power_down(self, instance: Instance, gone: trio.Event) -> None:
        await trio.sleep(self.timing.shut_down)
        self._shutting_down.pop(instance.guest.name, None)
        self.end(instance)
        gone.set()

    async def start(self, vm: str) -> None:
        """Start a defined VM anew."""
        await self._answer("start", vm)
        instance = self.instances.get(vm)
        if instance is None:
            self.boot(vm)
        elif instance.state is not VmState.RUNNING:
            raise HypervisorError(f"start VM {vm}", host=self._host, why=f"it is {instance.state.value}")

    def boot(self, vm: str) -> None:
        """Start a defined VM at once.

        :raise HypervisorError: it is not defined here.
        """
        if vm not in self.defined:
            raise HypervisorError(f"start VM {vm}", host=self._host, why="it is not defined here")
        guest, vfs = self.defined[vm]
        instance = Instance(self, guest, VmState.PAUSED)
        self.instances[vm] = instance
        for index, (pf, vf) in enumerate(vfs):
            instance.open(index, pf, vf)
        self.set_state(instance, VmState.RUNNING, fresh=True)

    async def unplug(self, vm: str, vfs: Sequence[tuple[str, int]]) -> None:
        """Take VFs from the running guest."""
        await self._answer("unplug", vm)
        instance = self._find("unplug", vm)
        held = [index for index, place in enumerate(instance.vfs) if place in [tuple(vf) for vf in vfs]]
        if not held:
            return
        await trio.sleep(self.timing.unplug)
        for index in held:
            if instance.state is VmState.RUNNING:
                instance.guest.interfaces[index].unbind()
            instance.close(index)
        self._changed(self._host, f"VM {vm} has lost its VFs")

    async def plug(self, vm: str, vfs: Sequence[tuple[str, int]]) -> None:
        """Give VFs to the running guest."""
        await self._answer("plug", vm)
        instance = self._find("plug", vm)
        if instance.state is not VmState.RUNNING:
            raise HypervisorError(f"plug VFs of VM {vm}", host=self._host, why=f"it is {instance.state.value}")
        for index, (pf, vf) in enumerate(vfs):
            if instance.vfs[index] is None:
                instance.open(index, pf, vf)
                self._bind(instance, index)
        self._changed(self._host, f"VM {vm} has its VFs")

    # As the destination

    async def receive(self, vm: str, vfs: Sequence[tuple[str, int]]) -> str:
        """Make a VM that waits for a migration."""
        await self._answer("receive", vm)
        instance = self.instances.get(vm)
        if instance is not None and instance.state is not VmState.INCOMING:
            raise HypervisorError(f"receive VM {vm}", host=self._host, why=f"it is {instance.state.value} here")
        if instance is None:
            instance = Instance(self, self.defined[vm].guest, VmState.INCOMING)
            self.instances[vm] = instance
            for index, (pf, vf) in enumerate(vfs):
                instance.open(index, pf, vf)
            self._changed(self._host, f"VM {vm} is incoming")
        return f"sim://{self._host}"

    async def wait_held(self, vm: str) -> None:
        """Wait until the VM is complete and held."""
        while True:
            instance = self.instances.get(vm)
            if instance is None:
                raise StreamFailedError(f"wait for VM {vm}", host=self._host, why="it is gone")
            if instance.state is VmState.PAUSED:
                return
            if instance.state is not VmState.INCOMING:
                raise StreamFailedError(f"wait for VM {vm}", host=self._host, why=f"it is {instance.state.value}")
            await instance.changed.wait()

    # What happens to VMs

    def set_state(self, instance: Instance, state: VmState, *, fresh: bool = False) -> None:
        """Change what a VM does.

        :param fresh: the guest boots: its drivers start anew.
        """
        before, instance.state = instance.state, state
        if state is VmState.RUNNING:
            instance.let_vfs_work()
            self._enter(instance, fresh=fresh)
        elif before is VmState.RUNNING:
            instance.guest.gate.close()
        self._tell(instance, f"VM {instance.guest.name} is {state.value}")

    def end(self, instance: Instance) -> None:
        """End a VM: its VFs go back to the host."""
        if self.instances.get(instance.guest.name) is not instance:
            return
        del self.instances[instance.guest.name]
        was_running, instance.state = instance.state is VmState.RUNNING, VmState.ABSENT
        if was_running:
            instance.guest.gate.close()
            for interface in instance.guest.interfaces:
                interface.unbind()
        if instance.stream is not None:
            instance.stream.die("its end is gone")
        for index in range(len(instance.vfs)):
            instance.close(index)
        self._tell(instance, f"VM {instance.guest.name} is gone")

    def power_off(self) -> None:
        """End all VMs: the host has crashed."""
        for instance in list(self.instances.values()):
            self.end(instance)
        self._shutting_down.clear()

    def note(self, what: str) -> None:
        """Tell the world what happened."""
        self._changed(self._host, what)

    def _enter(self, instance: Instance, *, fresh: bool) -> None:
        """Let the guest run here: on the VFs of this instance, with the drivers that it has, or with new ones."""
        guest = instance.guest
        guest.gate.open()
        for index, interface in enumerate(guest.interfaces):
            place = instance.vfs[index]
            if place is None:
                if interface.send is not None:
                    interface.unbind()
                continue
            if fresh or interface.driver is None:
                self._bind(instance, index)
                continue
            interface.driver.moved(self.device.ports[place[0]], place[1])
            interface.send = instance.transmitter(index)
        standby = self.device.ports.get(self.defined[guest.name].vfs[0][0]) if guest.standby else None
        guest.standby_send = None if standby is None else standby.host_transmit

    def _bind(self, instance: Instance, index: int) -> None:
        place = instance.vfs[index]
        assert place is not None  # noqa: S101 -- it was opened
        interface = instance.guest.interfaces[index]
        interface.bind(self._nursery, self.device.ports[place[0]], place[1], instance.guest.gate)
        interface.send = instance.transmitter(index)

    def wire_standbys(self) -> None:
        """Let frames for the PFs' own pools reach the standbys behind them."""
        for port in self.device.ports.values():
            port.give_host(partial(self._host_frame, port))

    def _host_frame(self, port: Port, frame: bytes) -> None:
        """Give a frame to the standbys, where the PF was told of its address: what is only flooded is not theirs."""
        if not port.forwards_to_host(frame[:6]):
            return
        for instance in self.instances.values():
            if instance.guest.standby and instance.state is VmState.RUNNING:
                instance.guest.receive(frame)

    def _tell(self, instance: Instance, what: str) -> None:
        instance.changed.set()
        instance.changed = trio.Event()
        self._changed(self._host, what)

    def _find(self, what: str, vm: str) -> Instance:
        if vm not in self.instances:
            raise VmAbsentError(f"{what} VM {vm}", host=self._host, why="there is no such VM")
        return self.instances[vm]

    async def _answer(self, what: str, vm: str) -> None:
        await trio.sleep(self.timing.answer)
        if self.faults and self._random.random() < self.faults:
            raise HypervisorError(f"{what} VM {vm}", host=self._host, why="the simulated hypervisor does not answer")
