# SPDX-License-Identifier: Apache-2.0
"""An agent's process: it may be killed from outside at any await, and at any step of any port from inside.

Every port that a coordinator uses is wrapped here. A dead process can do nothing more, whatever its clean-up tries.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from vferry.core.migration.messages import Message
from vferry.core.model import Vlan
from vferry.core.ownership import Ownership, Token
from vferry.ports.announcer import Announcer
from vferry.ports.carrier import Carrier
from vferry.ports.channel import Channel
from vferry.ports.hypervisor import Hypervisor, VmState
from vferry.ports.registry import Entry, Registry
from vferry.testing.crash import Crash, CrashPoints
from vferry.testing.world.clock import WorldClock

__all__ = ["Process", "ProcessAnnouncer", "ProcessCarrier", "ProcessChannel", "ProcessHypervisor", "ProcessRegistry"]

T = TypeVar("T")


class Process(CrashPoints):
    """One life of an agent.

    :param changed: called after every step, also one that the process dies at: something may be different now.
    :param at: the step to die at, from 1; None: never by itself.
    """

    def __init__(self, changed: Callable[[], None], *, at: int | None = None) -> None:
        super().__init__()
        self.clock = WorldClock()
        self.scope = trio.CancelScope()
        """Everything that the process runs is inside."""
        self.count = 0
        self.last = "nothing"
        self.dead = trio.Event()
        self._die_at = at
        self._changed = changed

    def step(self, what: str) -> None:
        """Count a step, and die if it is the one.

        :raise Crash: it is, or the process was dead before.
        """
        self.look()
        self.count += 1
        self.last = what
        if not what.startswith("before"):
            self._changed()
        if self.count == self._die_at:
            self.kill()
            raise Crash(f"step {self.count}: {what}")

    def look(self) -> None:
        """Make sure that the process is alive.

        :raise Crash: it is not.
        """
        if self.crashed:
            raise Crash(f"dead since {self.last}")

    def die_at(self, step: int | None) -> None:
        """Die when so many steps were taken; None: never by itself."""
        self._die_at = step

    def kill(self) -> None:
        """End the process at once."""
        self.crashed = True
        self.dead.set()
        self.scope.cancel()

    async def do(self, what: str, act: Callable[[], Awaitable[T]]) -> T:
        """Do something asynchronous that changes the world, with a step before and after."""
        await self.clock.pay()
        self.step(f"before {what}")
        result = await act()
        self.step(f"after {what}")
        return result

    async def ask(self, act: Callable[[], Awaitable[T]]) -> T:
        """Do something asynchronous that changes nothing."""
        await self.clock.pay()
        self.look()
        result = await act()
        self.look()
        return result


class ProcessHypervisor(Hypervisor):
    """A hypervisor as a process sees it."""

    def __init__(self, inner: Hypervisor, process: Process) -> None:
        self._inner = inner
        self._process = process

    async def state(self, vm: str) -> VmState:
        """Return what the VM is doing."""
        return await self._process.ask(lambda: self._inner.state(vm))

    async def send(self, vm: str, uri: str) -> None:
        """Begin to copy the VM's memory."""
        await self._process.do(f"send {vm}", lambda: self._inner.send(vm, uri))

    async def wait_stopped(self, vm: str) -> None:
        """Wait until the VM is stopped for the switch-over."""
        await self._process.ask(lambda: self._inner.wait_stopped(vm))

    async def switch(self, vm: str) -> None:
        """Send the rest."""
        await self._process.do(f"switch {vm}", lambda: self._inner.switch(vm))

    async def cancel(self, vm: str) -> None:
        """End an outgoing migration."""
        await self._process.do(f"cancel {vm}", lambda: self._inner.cancel(vm))

    async def resume(self, vm: str) -> None:
        """Let a stopped VM run on."""
        await self._process.do(f"resume {vm}", lambda: self._inner.resume(vm))

    async def shut_down(self, vm: str) -> None:
        """Ask the guest to shut down."""
        await self._process.do(f"shut_down {vm}", lambda: self._inner.shut_down(vm))

    async def start(self, vm: str) -> None:
        """Start a defined VM anew."""
        await self._process.do(f"start {vm}", lambda: self._inner.start(vm))

    async def destroy(self, vm: str) -> None:
        """End the VM here at once."""
        await self._process.do(f"destroy {vm}", lambda: self._inner.destroy(vm))

    async def unplug(self, vm: str, vfs: Sequence[tuple[str, int]]) -> None:
        """Take VFs from the running guest."""
        await self._process.do(f"unplug {vm}", lambda: self._inner.unplug(vm, vfs))

    async def plug(self, vm: str, vfs: Sequence[tuple[str, int]]) -> None:
        """Give VFs to the running guest."""
        await self._process.do(f"plug {vm}", lambda: self._inner.plug(vm, vfs))

    async def receive(self, vm: str, vfs: Sequence[tuple[str, int]]) -> str:
        """Make a VM that waits for a migration."""
        return await self._process.do(f"receive {vm}", lambda: self._inner.receive(vm, vfs))

    async def wait_held(self, vm: str) -> None:
        """Wait until the VM is complete and held."""
        await self._process.ask(lambda: self._inner.wait_held(vm))


class ProcessRegistry(Registry):
    """A registry as a process sees it."""

    def __init__(self, inner: Registry, process: Process) -> None:
        self._inner = inner
        self._process = process

    async def read(self, vm: str) -> Entry | None:
        """Return a VM's entry."""
        return await self._process.ask(lambda: self._inner.read(vm))

    async def entries(self) -> tuple[Entry, ...]:
        """Return all entries."""
        return await self._process.ask(self._inner.entries)

    async def create(self, ownership: Ownership) -> Entry:
        """Store the first entry of a VM."""
        return await self._process.do(f"create {ownership.vm}", lambda: self._inner.create(ownership))

    async def replace(self, ownership: Ownership, expected: Token) -> Entry:
        """Replace a VM's entry."""
        what = f"replace {ownership.vm}: {ownership.stage.value}, {ownership.owner}"
        return await self._process.do(what, lambda: self._inner.replace(ownership, expected))

    async def delete(self, vm: str, expected: Token) -> None:
        """Remove a VM's entry."""
        await self._process.do(f"delete {vm}", lambda: self._inner.delete(vm, expected))


class ProcessChannel(Channel):
    """A channel as a process sees it."""

    def __init__(self, inner: Channel, process: Process) -> None:
        self._inner = inner
        self._process = process

    async def send(self, message: Message) -> None:
        """Send a message."""
        await self._process.do(f"say {type(message).__name__}", lambda: self._inner.send(message))

    async def receive(self) -> Message:
        """Wait for the next message."""
        return await self._process.ask(self._inner.receive)


class ProcessCarrier(Carrier):
    """A carrier as a process sees it."""

    def __init__(self, inner: Carrier, process: Process) -> None:
        self._inner = inner
        self._process = process

    def _do(self, what: str, act: Callable[[], T]) -> T:
        self._process.step(f"before {what}")
        result = act()
        self._process.step(f"after {what}")
        return result

    def stop(self, pf: str, vf: int) -> None:
        """Stop a VF's own work."""
        self._do(f"stop {pf}/{vf}", lambda: self._inner.stop(pf, vf))

    def save(self, pf: str, vf: int, *, session: bool) -> bytes:
        """Return the stopped VF's state."""
        self._process.look()
        return self._inner.save(pf, vf, session=session)

    def validate(self, pf: str, vf: int, state: bytes) -> None:
        """Check the whole of a state."""
        self._process.look()
        self._inner.validate(pf, vf, state)

    def load(self, pf: str, vf: int, state: bytes) -> None:
        """Give the VF a state."""
        self._do(f"load {pf}/{vf}", lambda: self._inner.load(pf, vf, state))

    def start(self, pf: str, vf: int) -> None:
        """Let the VF work."""
        self._do(f"start {pf}/{vf}", lambda: self._inner.start(pf, vf))

    def drop(self, pf: str, vf: int) -> None:
        """Forget a loaded state."""
        self._do(f"drop {pf}/{vf}", lambda: self._inner.drop(pf, vf))


class ProcessAnnouncer(Announcer):
    """An announcer as a process sees it."""

    def __init__(self, inner: Announcer, process: Process) -> None:
        self._inner = inner
        self._process = process

    def announce(self, pf: str, mac: str, *, vlans: tuple[Vlan, ...] = ()) -> None:
        """Tell the network where the VM is."""
        self._process.step(f"before announce {mac}")
        self._inner.announce(pf, mac, vlans=vlans)
        self._process.step(f"after announce {mac}")
