# SPDX-License-Identifier: Apache-2.0
"""VMs of QEMU, by QMP.

A source's VM that is stopped for the switch-over has a guard (:mod:`vferry.hypervisor.qemu_guard`): without it QEMU
would let it run when the stream dies or is cancelled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

import anyio
import msgspec

from vferry.hypervisor import qemu_guard
from vferry.hypervisor.qemu_devices import device_ids, take_device
from vferry.hypervisor.qemu_launch import Device, DeviceOf, Launch, QemuVm, vfio_device
from vferry.hypervisor.qemu_states import (
    REFUSED_CAPABILITIES,
    Capability,
    Migration,
    Ram,
    Stage,
    VmStatus,
    refused_capabilities,
    stage_of,
    vm_state,
)
from vferry.hypervisor.qmp import (
    AnswerLostError,
    CommandRefusedError,
    NoAnswerError,
    QmpConnection,
    UnreadableAnswerError,
)
from vferry.ports.hypervisor import HypervisorError, StreamFailedError, VmAbsentError, VmState

__all__ = [
    "LaunchError",
    "MigrationBlockedError",
    "NotDefinedError",
    "QemuHypervisor",
    "QemuTimes",
    "UnsafeCapabilityError",
    "VmBusyError",
]

_SENDING = ("pause-before-switchover", "events", "return-path")
"""``return-path``: "completed" is then said only after the destination has said that it has everything."""
_RECEIVING = ("events", "return-path", "late-block-activate")
"""``late-block-activate``: the destination takes the disks' locks when the VM starts, not before."""


class QemuTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Deadlines, in seconds.

    :ivar command: of one QMP command. QEMU answers in milliseconds, but its main loop blocks while it sends the rest.
    :ivar launch: until a started QEMU answers.
    :ivar end: until a QEMU that was told to quit is gone, and until a migration that was given up is over.
    :ivar unplug: until the guest has let go of a device. QEMU's own limit for a failover's unplug is 30.
    :ivar shut_down: until a guest that was asked to shut down is gone.
    :ivar poll: between two looks at a migration.
    """

    command: float = 10.0
    launch: float = 30.0
    end: float = 10.0
    unplug: float = 30.0
    shut_down: float = 300.0
    poll: float = 0.02


class NotDefinedError(HypervisorError):
    """The VM is not known here, or not how to start it."""


class LaunchError(HypervisorError):
    """QEMU did not come up."""


class VmBusyError(HypervisorError):
    """The VM is not in a state in which the act makes sense."""


class UnsafeCapabilityError(HypervisorError):
    """A migration capability is on with which the VM could run on both hosts.

    :param capabilities: their names.
    """

    def __init__(self, what: str, *, host: str, capabilities: Sequence[str]) -> None:
        self.capabilities = tuple(capabilities)
        super().__init__(
            what,
            host=host,
            why="; ".join(f"'{name}' is on: {REFUSED_CAPABILITIES[name]}" for name in capabilities),
            next_step="switch it off with 'migrate-set-capabilities', then try again",
        )


class MigrationBlockedError(HypervisorError):
    """QEMU would refuse to migrate the VM.

    :param reasons: QEMU's own words.
    """

    def __init__(self, what: str, *, host: str, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(
            what,
            host=host,
            why="QEMU says: " + "; ".join(reasons),
            next_step="take the device out of the VM, or move it in failover or cold mode",
        )


class QemuHypervisor:
    """The VMs of one host; a :class:`vferry.ports.hypervisor.Hypervisor`. Runs on AnyIO's asyncio backend.

    :param host: this host's name, for errors.
    :param listen: where a destination listens: ``tcp:ADDRESS:0`` (the kernel chooses the port), or ``unix:PATH`` with
        ``{vm}`` in it.
    :param advertise: the address at which sources reach this host, for ``tcp``.
    :param device_of: the device of a VF.
    """

    def __init__(
        self,
        host: str,
        vms: Iterable[QemuVm],
        *,
        listen: str = "tcp:0.0.0.0:0",
        advertise: str = "127.0.0.1",
        device_of: DeviceOf = vfio_device,
        times: QemuTimes | None = None,
    ) -> None:
        self._host = host
        self._vms = {vm.name: vm for vm in vms}
        self._listen = listen
        self._advertise = advertise
        self._device_of = device_of
        self._times = times or QemuTimes()
        self._connections = {
            vm.name: QmpConnection(host, vm.name, vm.qmp, seconds=self._times.command) for vm in self._vms.values()
        }

    async def close(self) -> None:
        """End the connections; the VMs stay."""
        for connection in self._connections.values():
            await connection.close()

    # As either side

    async def state(self, vm: str) -> VmState:
        """Return what the VM is doing; a QEMU that does not answer is an error, not absent."""
        try:
            status = await self._status(vm)
        except VmAbsentError:
            return VmState.ABSENT
        known = vm_state(status)
        if known is None:
            raise UnreadableAnswerError(
                f"look at VM {vm}", host=self._host, why=f"QEMU says it is '{status}', which is not known"
            )
        return known

    async def progress(self, vm: str) -> Ram | None:
        """Return how far the copy of the VM's memory is; ``None`` where none was begun."""
        return (await self._migration(vm)).ram

    async def resume(self, vm: str) -> None:
        """Let a stopped VM run on; a migration that is under way or complete is given up first."""
        if await self.state(vm) is VmState.INCOMING:
            raise self._busy("resume", vm, "it is not complete")
        connection = self._connection(vm)
        stage = await self._calm(vm)
        if stage is Stage.SWITCHING:  # the guard stays in until nothing of it can arrive any more
            await self._give_up(vm)
        await qemu_guard.remove_guard(connection, self._guard(vm))
        if stage in (Stage.COPYING, Stage.STOPPED):
            await self._give_up(vm)
        status = await self._status(vm)
        if status == "finish-migrate":
            gdb = f"{self._find(vm).qmp}.gdb"
            await qemu_guard.release(connection, gdb, host=self._host, vm=vm, seconds=self._times.command)
        elif status != "running":
            await connection.run("cont")
        await self._until(vm, "resume", self._runs, self._times.command)

    async def destroy(self, vm: str) -> None:
        """End the VM here at once."""
        connection = self._connection(vm)
        try:
            await self._unblock(vm)
            await connection.run("quit")
        except VmAbsentError:
            pass
        except AnswerLostError:
            pass  # it may end before its answer is out
        if not await connection.gone(self._times.end):
            raise VmBusyError(
                f"end VM {vm}",
                host=self._host,
                why=f"QEMU still listens {self._times.end:g} s after 'quit'",
                next_step="end its process by hand",
            )
        qemu_guard.drop_file(self._guard(vm))

    # As the source

    async def send(self, vm: str, uri: str) -> None:
        """Begin to copy the VM's memory to ``uri``: ``tcp:HOST:PORT`` or ``unix:PATH``.

        :raise UnsafeCapabilityError: post-copy or background-snapshot is on.
        :raise MigrationBlockedError: QEMU says that it would refuse.
        :raise StreamFailedError: QEMU did not begin.
        """
        what = f"send VM {vm}"
        connection = self._connection(vm)
        found = await self._migration(vm)
        if self._stage(vm, found) in (Stage.COPYING, Stage.STOPPED, Stage.SWITCHING):
            return
        await self._refuse_unsafe(vm, what)
        if found.blocked_reasons:
            raise MigrationBlockedError(what, host=self._host, reasons=found.blocked_reasons)
        if await self.state(vm) is VmState.INCOMING:
            raise self._busy("send", vm, "it is not complete")
        await qemu_guard.remove_guard(connection, self._guard(vm))
        await self._switch_on(vm, _SENDING)
        try:
            await connection.run("migrate", {"uri": uri})
        except CommandRefusedError as error:
            raise StreamFailedError(what, host=self._host, why=f"QEMU says: {error.reason}") from error

    async def wait_stopped(self, vm: str) -> None:
        """Wait until the VM is stopped for the switch-over, and guarded."""
        what = f"wait for VM {vm} to stop"
        while True:
            found = await self._migration(vm)
            stage = self._stage(vm, found)
            if stage in (Stage.SWITCHING, Stage.COMPLETED):
                return
            if stage is Stage.STOPPED:
                await qemu_guard.add_guard(self._connection(vm), self._guard(vm))
                if self._stage(vm, await self._migration(vm)) is Stage.STOPPED:
                    return
                continue  # the stream died before the guard was in, or under it
            if stage in (Stage.NONE, Stage.FAILED):
                raise self._stream_failed(what, found)
            await anyio.sleep(self._times.poll)

    async def switch(self, vm: str) -> None:
        """Send the rest; QEMU may say so only when it has sent it.

        :raise StreamFailedError: there is nothing to go on with.
        """
        found = await self._migration(vm)
        stage = self._stage(vm, found)
        if stage in (Stage.SWITCHING, Stage.COMPLETED):
            return
        if stage is not Stage.STOPPED:
            raise self._stream_failed(f"switch VM {vm}", found)
        connection = self._connection(vm)
        await qemu_guard.add_guard(connection, self._guard(vm))
        try:
            await connection.run("migrate-continue", {"state": "pre-switchover"})
        except CommandRefusedError as error:
            raise StreamFailedError(f"switch VM {vm}", host=self._host, why=f"QEMU says: {error.reason}") from error

    async def cancel(self, vm: str) -> None:
        """End an outgoing migration; the VM stays as it is, running or stopped."""
        stage = await self._calm(vm)
        if stage in (Stage.STOPPED, Stage.SWITCHING):
            await qemu_guard.add_guard(self._connection(vm), self._guard(vm))
        if stage in (Stage.COPYING, Stage.STOPPED, Stage.SWITCHING):
            await self._give_up(vm)

    async def shut_down(self, vm: str) -> None:
        """Ask the guest to shut down, and wait until the VM is gone.

        :raise VmBusyError: the guest does not.
        """
        connection = self._connection(vm)
        with anyio.move_on_after(self._times.shut_down):
            try:
                if await self._status(vm) != "shutdown":
                    await connection.run("system_powerdown")
                while await self._status(vm) != "shutdown":  # noqa: ASYNC110 -- as in _until
                    await anyio.sleep(self._times.poll)
            except VmAbsentError:
                return
            except AnswerLostError:
                if await self.state(vm) is VmState.ABSENT:
                    return
                raise
            await self.destroy(vm)  # QEMU was told to stay (-no-shutdown)
            return
        raise self._busy("shut down", vm, f"its guest has not shut down in {self._times.shut_down:g} s")

    async def start(self, vm: str) -> None:
        """Start a defined VM anew, with the VFs of its definition."""
        found = await self.state(vm)
        if found is VmState.ABSENT:
            await self._launch(vm, incoming=False, devices=self._devices(self._find(vm).vfs))
        elif found is not VmState.RUNNING:
            raise self._busy("start", vm, f"it is {found.value}")

    async def unplug(self, vm: str, vfs: Sequence[tuple[str, int]]) -> None:
        """Take VFs from the running guest, and wait until it has let go of them.

        :raise UnplugError: it has not, in time.
        """
        for device in self._devices(vfs):
            await take_device(
                self._connection(vm), str(device["id"]), host=self._host, vm=vm, seconds=self._times.unplug
            )

    async def plug(self, vm: str, vfs: Sequence[tuple[str, int]]) -> None:
        """Give VFs to the running guest."""
        connection = self._connection(vm)
        present = await device_ids(connection)
        for device in self._devices(vfs):
            if device["id"] not in present:
                await connection.run("device_add", dict(device))

    # As the destination

    async def receive(self, vm: str, vfs: Sequence[tuple[str, int]]) -> str:
        """Start a VM that waits for a migration and stays paused when complete; return where to send it."""
        found = await self.state(vm)
        if found is VmState.ABSENT:
            await self._launch(vm, incoming=True, devices=self._devices(vfs))
        elif found is not VmState.INCOMING:
            raise self._busy("receive", vm, f"it is {found.value} here")
        await self._refuse_unsafe(vm, f"receive VM {vm}")
        if self._stage(vm, await self._migration(vm)) is Stage.NONE:
            await self._switch_on(vm, _RECEIVING)
            await self._connection(vm).run("migrate-incoming", {"uri": self._listen.replace("{vm}", vm)})
        return await self._where(vm)

    async def wait_held(self, vm: str) -> None:
        """Wait until the VM is complete and held.

        :raise StreamFailedError: it never will be.
        """
        what = f"wait for VM {vm} to arrive"
        while True:
            try:
                found, state = await self._migration(vm), await self.state(vm)
            except VmAbsentError as error:
                raise StreamFailedError(what, host=self._host, why="it is gone: its stream ended early") from error
            stage = self._stage(vm, found)
            if state is VmState.PAUSED and stage in (Stage.COMPLETED, Stage.NONE):
                return
            if state not in (VmState.PAUSED, VmState.INCOMING):
                raise StreamFailedError(what, host=self._host, why=f"it is {state.value}")
            if stage is Stage.FAILED:
                raise self._stream_failed(what, found)
            await anyio.sleep(self._times.poll)

    # What these are made of

    def _find(self, vm: str) -> QemuVm:
        if vm not in self._vms:
            raise NotDefinedError(
                f"find VM {vm}",
                host=self._host,
                why="it is not defined here",
                next_step="give its name, its QMP socket and how to start it",
            )
        return self._vms[vm]

    def _connection(self, vm: str) -> QmpConnection:
        return self._connections[self._find(vm).name]

    def _guard(self, vm: str) -> str:
        return f"{self._find(vm).qmp}.guard"

    def _devices(self, vfs: Iterable[tuple[str, int]]) -> tuple[Device, ...]:
        try:
            return tuple(self._device_of(pf, vf) for pf, vf in vfs)
        except OSError as error:
            raise NotDefinedError("find a VF's device", host=self._host, why=str(error)) from error

    def _busy(self, what: str, vm: str, why: str) -> VmBusyError:
        return VmBusyError(f"{what} VM {vm}", host=self._host, why=why, next_step="look at the VM on this host")

    def _stream_failed(self, what: str, found: Migration) -> StreamFailedError:
        why = "no migration is under way" if found.status == "none" else f"the migration has {found.status}"
        return StreamFailedError(what, host=self._host, why=f"{why}: {found.error_desc}" if found.error_desc else why)

    async def _status(self, vm: str) -> str:
        return (await self._connection(vm).ask("query-status", VmStatus)).status

    async def _runs(self, vm: str) -> bool:
        return await self.state(vm) is VmState.RUNNING

    async def _answers(self, vm: str) -> bool:
        try:
            return await self.state(vm) is not VmState.ABSENT
        except NoAnswerError:  # it may be ending
            return False

    async def _migration(self, vm: str) -> Migration:
        return await self._connection(vm).ask("query-migrate", Migration)

    def _stage(self, vm: str, found: Migration) -> Stage:
        stage = stage_of(found.status)
        if stage is None:
            raise VmBusyError(
                f"look at the migration of VM {vm}",
                host=self._host,
                why=f"it is '{found.status}', which was not begun by vferry",
                next_step="let it end, or end it by hand",
            )
        return stage

    async def _calm(self, vm: str) -> Stage:
        """Return how far the migration is, once QEMU answers and is not about to end it."""
        await self._unblock(vm)
        await self._until(vm, "look at the migration of", self._is_settled, self._times.end)
        return self._stage(vm, await self._migration(vm))

    async def _unblock(self, vm: str) -> None:
        """Make QEMU answer: its main loop is blocked while the rest is sent.

        A destination that reads no more blocks it for good; then the stream is broken out of band.
        """
        try:
            await self._migration(vm)
        except NoAnswerError as error:
            try:
                await self._connection(vm).run("yank", {"instances": [{"type": "migration"}]}, oob=True)
            except CommandRefusedError:  # it is not the migration that blocks it
                raise error from None

    async def _is_settled(self, vm: str) -> bool:
        return self._stage(vm, await self._migration(vm)) is not Stage.ENDING

    async def _is_over(self, vm: str) -> bool:
        return self._stage(vm, await self._migration(vm)) in (Stage.NONE, Stage.FAILED, Stage.COMPLETED)

    async def _give_up(self, vm: str) -> None:
        """Cancel, and wait until it is over; it may also complete meanwhile."""
        await self._connection(vm).run("migrate_cancel")
        await self._until(vm, "cancel the migration of", self._is_over, self._times.end)

    async def _until(self, vm: str, what: str, holds: Callable[[str], Awaitable[bool]], seconds: float) -> None:
        with anyio.move_on_after(seconds):
            while not await holds(vm):  # noqa: ASYNC110 -- QEMU is asked, for events are lost with a connection
                await anyio.sleep(self._times.poll)
            return
        raise NoAnswerError(f"{what} VM {vm}", host=self._host, why=f"not so after {seconds:g} s")

    async def _refuse_unsafe(self, vm: str, what: str) -> None:
        found = await self._connection(vm).ask("query-migrate-capabilities", list[Capability])
        unsafe = refused_capabilities(found)
        if unsafe:
            raise UnsafeCapabilityError(what, host=self._host, capabilities=unsafe)

    async def _switch_on(self, vm: str, capabilities: Iterable[str]) -> None:
        wanted = [{"capability": name, "state": True} for name in capabilities]
        await self._connection(vm).run("migrate-set-capabilities", {"capabilities": wanted})

    async def _where(self, vm: str) -> str:
        """Return where an incoming migration listens, as the source reaches it."""
        if self._listen.startswith("unix:"):
            return self._listen.replace("{vm}", vm)
        for address in (await self._migration(vm)).socket_address:
            if address.get("type") == "inet":
                return f"tcp:{self._advertise}:{address.get('port')}"
        raise UnreadableAnswerError(f"receive VM {vm}", host=self._host, why="QEMU does not say where it listens")

    async def _launch(self, vm: str, *, incoming: bool, devices: tuple[Device, ...]) -> None:
        defined, what = self._find(vm), f"start VM {vm}"
        if defined.launch is None:
            raise NotDefinedError(what, host=self._host, why="nothing says how to start it")
        try:
            failed = defined.launch(Launch(vm=vm, qmp=defined.qmp, incoming=incoming, devices=devices))
        except OSError as error:
            raise LaunchError(what, host=self._host, why=str(error)) from error
        with anyio.move_on_after(self._times.launch):
            while not await self._answers(vm):
                why = failed()
                if why is not None:
                    raise LaunchError(what, host=self._host, why=why, next_step="correct the VM's command line")
                await anyio.sleep(self._times.poll)
            return
        raise LaunchError(what, host=self._host, why=f"QEMU does not answer after {self._times.launch:g} s")
