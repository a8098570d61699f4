# SPDX-License-Identifier: Apache-2.0
"""The loop of one side: ask the machine, write down, act, hear what became of it, ask again.

The journal is written before the act that it speaks of. A coordinator that is started from a journal's entry goes on
from there; nothing that it needs is kept anywhere else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias, TypeVar

import anyio
import msgspec

from vferry.core.errors import PersonNeededError, RefusedError, VferryError
from vferry.core.migration.machine import Machine
from vferry.core.migration.messages import Abort, Accept, Final, Finished, Message, Refuse, event_of
from vferry.core.migration.phases import Act, Event, SourcePhase
from vferry.core.migration.recovery import Verdict
from vferry.core.migration.tables import order_of
from vferry.core.ownership import NotOursError
from vferry.migration.entries import is_blocked, is_over, phase_of
from vferry.migration.host import MigrationHost
from vferry.migration.ownership import NoEntryError
from vferry.migration.vfs import identities_of, own_refs
from vferry.migration.witnesses import witnessed
from vferry.ports.channel import Channel
from vferry.ports.hypervisor import HypervisorError
from vferry.ports.migrations import MigrationEntry
from vferry.ports.nic import NicError
from vferry.verbs.places import survey

__all__ = [
    "ActFunction",
    "ContradictionError",
    "Coordinator",
    "Observer",
    "UnfinishedError",
    "refuse_unfinished",
]

T = TypeVar("T")

Observer: TypeAlias = Callable[[MigrationEntry], None]
"""Told about every phase that is entered."""

ActFunction: TypeAlias = Callable[["Coordinator"], Awaitable[Event]]
"""Does one act and returns what became of it; may raise any :class:`VferryError`."""


class ContradictionError(PersonNeededError):
    """The four witnesses of a recovery contradict each other; nothing was changed.

    :param verdict: what the truth table says.
    """

    def __init__(self, entry: MigrationEntry, verdict: Verdict, host: str) -> None:
        self.verdict = verdict
        super().__init__(
            f"go on with migration {entry.migration} of VM {entry.vm}",
            host=host,
            why=f"phase '{entry.phase}': {verdict.why}",
            next_step="look at both hosts; then 'vferry resolve' says who owns the VM",
        )


class UnfinishedError(RefusedError):
    """Another migration of the VM is not over on this host."""

    def __init__(self, other: MigrationEntry, host: str) -> None:
        super().__init__(
            f"move VM {other.vm}",
            host=host,
            why=f"its migration {other.migration} is not over here: it is in phase '{other.phase}'",
            next_step="'vferry recover' shows what is under way and what ends it",
        )


def refuse_unfinished(side: Coordinator) -> None:
    """The registry may be settled before the VM has its VFs back, or before the source's side has heard of it.

    :raise UnfinishedError: another migration of the VM is not over here.
    """
    for other in side.host.migrations.entries():
        another = other.vm == side.entry.vm and other.migration != side.entry.migration
        if another and (is_blocked(other) or not is_over(other)):
            raise UnfinishedError(other, side.host.name)


class Coordinator:
    """One side of one migration."""

    def __init__(
        self,
        host: MigrationHost,
        entry: MigrationEntry,
        channel: Channel,
        acts: Mapping[Act, ActFunction],
        *,
        observer: Observer | None = None,
    ) -> None:
        """Take up a migration where its entry stands; nothing is done yet.

        :param acts: what each act does; the machine's order decides which are used.
        """
        self.host = host
        self.entry = entry
        self.channel = channel
        self._acts = acts
        self._observer = observer
        self._cancelled = anyio.Event()
        self.refusal = ""
        """Why the other side, or this one, called it off."""

    @property
    def machine(self) -> Machine:
        """Where this side is."""
        return Machine(self.entry.order, self.entry.role, phase_of(self.entry))

    @property
    def rebooted(self) -> bool:
        """Whether the host was booted again since the migration began: every setting from before is gone."""
        return self.host.context.nic.host().boot_id != self.entry.boot_id

    def cancel(self) -> None:
        """Ask for the VM to stay where it is; heeded in the next phase that can still do so."""
        self._cancelled.set()

    async def run(self) -> MigrationEntry:
        """Go on until everything is over; return the last entry.

        :raise ContradictionError: an act found the registry in other hands; nothing was changed by it.
        :raise MigrationJournalError: what was decided cannot be written down; the act was not begun.
        """
        if self.host.migrations.read(self.entry.migration, self.entry.role) is None:
            self._write(self.entry)
        while not self.machine.over:
            await self._once()
        return self.entry

    async def recover(self) -> MigrationEntry:
        """Go on after a crash: hear the four witnesses, let the truth table decide, then :meth:`run`.

        :raise ContradictionError: the witnesses contradict each other; nothing was changed.
        """
        verdict = await witnessed(self.host, self.entry)
        if verdict.alarm:
            raise ContradictionError(self.entry, verdict, self.host.name)
        self._renew()
        self.refusal = f"interrupted in phase '{self.entry.phase}': {verdict.why}"
        if verdict.event is not None:
            self._enter(verdict.event)
        return await self.run()

    def note(self, **fields: object) -> None:
        """Change the entry; it is written with the next phase."""
        self.entry = msgspec.structs.replace(self.entry, **fields)

    async def wait(
        self,
        *bodies: Callable[[], Awaitable[Event]],
        seconds: float | None,
        send: Message | None = None,
    ) -> Event:
        """Wait for whatever the phase knows: a message, what a body returns, the operator, the end of patience.

        :param bodies: each waits for something itself; its error ends the waiting too.
        :param seconds: patience; None: without end.
        :param send: sent now and again, until something comes.
        """
        found: list[Event | VferryError] = []
        with anyio.move_on_after(seconds) as patience:
            async with anyio.create_task_group() as group:

                async def first(source: Callable[[], Awaitable[Event]]) -> None:
                    try:
                        came: Event | VferryError = await source()
                    except VferryError as error:  # raised below: a task group would wrap it
                        came = error
                    found.append(came)
                    group.cancel_scope.cancel()

                for body in (*bodies, self._message):
                    group.start_soon(first, body)
                if self.machine.knows(Event.CANCEL):
                    group.start_soon(first, self._cancel)
                if send is not None:
                    group.start_soon(self._resend, send)
        if found:
            result = found[0]
            if isinstance(result, VferryError):
                raise result
            return result
        assert patience.cancelled_caught  # noqa: S101 -- nothing else ends the group
        return Event.TIMEOUT

    async def insist(
        self, act: Callable[[], Awaitable[T]], on: type[VferryError], *, seconds: float | None = None
    ) -> T:
        """Do an act until it does not raise ``on``: there is no way back, and no other way on.

        :param seconds: patience; None: without end.
        """
        pause = self.host.deadlines.retry
        left = seconds
        while True:
            try:
                return await act()
            except on as error:
                if left is not None and left < pause:
                    raise
                self.refusal = str(error)
            await anyio.sleep(pause)
            left = None if left is None else left - pause
            pause = min(pause * 2, 1.0)

    async def patiently(self, act: Callable[[], Awaitable[T]]) -> T:
        """Ask the hypervisor; where it does not answer, ask again for a while.

        :raise HypervisorError: it did not answer to the end.
        """
        before = self.refusal
        found = await self.insist(act, HypervisorError, seconds=self.host.deadlines.stubborn)
        self.refusal = before
        return found

    # Inside

    async def _once(self) -> None:
        machine = self.machine
        act = machine.act
        assert act is not None  # noqa: S101 -- the machine is not over
        try:
            event = await self._acts[act](self)
        except VferryError as error:
            self.refusal = str(error)
            if not machine.knows(Event.FAILED):
                if isinstance(error, NotOursError | NoEntryError):
                    raise ContradictionError(self.entry, Verdict(None, True, str(error)), self.host.name) from error
                raise
            event = Event.FAILED
        self._enter(event)

    def _renew(self) -> None:
        """Write down which life of the host this is: what is programmed from now on belongs to it."""
        context, entry = self.host.context, self.entry
        boot_id = context.nic.host().boot_id
        if boot_id == (entry.seen_boot_id or entry.boot_id):
            return
        refs = own_refs(entry)
        try:
            identities = identities_of(survey(context, refs)) if entry.identities else ()
        except NicError:  # the VFs were not made again; whatever needs them will say so
            identities = ()
        self.note(seen_boot_id=boot_id, identities=identities)
        self._write(self.entry)

    def _enter(self, event: Event) -> None:
        machine = self.machine.after(event)
        if machine.phase is self.machine.phase:
            return  # a look that has not decided anything
        now = f"{machine.phase.value} at {self.host.context.clock.wall():.6f}"
        entry = msgspec.structs.replace(
            self.entry,
            phase=machine.phase.value,
            shut_down=self.entry.shut_down or machine.phase is SourcePhase.SHUTDOWN,
            why=self.refusal,
            history=(*self.entry.history, now)[-256:],
        )
        self._write(entry)
        self.entry = entry

    def _write(self, entry: MigrationEntry) -> None:
        self.host.migrations.write(entry)
        if self._observer is not None:
            self._observer(entry)

    async def _message(self) -> Event:
        """Return the event of the next message that the phase knows; others are late, and dropped."""
        while True:
            message = await self.channel.receive()
            if message.migration != self.entry.migration:
                continue
            event = event_of(message, self.entry.role)
            if isinstance(message, Finished) and self.machine.act is Act.WATCH and self.machine.knows(Event.COMMITTED):
                return Event.COMMITTED  # a hint: look at the registry again, now
            if event is None or not self.machine.knows(event):
                continue
            self._take(message)
            return event

    def _take(self, message: Message) -> None:
        """Keep what a message carries."""
        match message:
            case Accept(uri=uri, early=early):
                self.note(uri=uri, order=order_of(self.entry.mode, early=early))
            case Final(record=record, states=states):
                self.note(final_record=record, states=states)
            case Refuse(why=why) | Abort(why=why):
                self.refusal = why or self.refusal
            case _:
                pass

    async def _cancel(self) -> Event:
        await self._cancelled.wait()
        self.refusal = "the operator called it off"
        return Event.CANCEL

    async def _resend(self, message: Message) -> None:
        while True:
            await self.channel.send(message)
            await anyio.sleep(self.host.deadlines.resend)
