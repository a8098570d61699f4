# SPDX-License-Identifier: Apache-2.0
"""What each act does to the world, one step at a time.

Between any two steps the other side, the hypervisors or a crash may come. A step on a VF is one step; so is a
compare-and-swap. The answer of a compare-and-swap may be lost: then the act reads, so every act takes its outcome from
what the registry says afterwards. An act that fails may have done any part of what it does, all of it included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from vferry.core.migration.phases import Act, Event, Role
from vferry.testing.exploration.world import CHANGES, LETTING_GO, Change, Entry, Sent, Shared, Side, Vm, changed

__all__ = ["ACTS", "ActSteps", "Move", "View", "is_patient", "then"]


class Move(NamedTuple):
    """One thing that may happen next."""

    what: str
    side: Side
    shared: Shared
    event: Event | None = None
    """Given to the machine at once."""
    fault: bool = False
    """Something goes wrong here; it need never happen."""


class View(NamedTuple):
    """What one side sees."""

    role: Role
    side: Side
    shared: Shared
    knows: frozenset[Event]
    """What the phase has a successor for."""
    vfs: int
    cold: bool
    """Nothing waits on the destination for a stream."""

    @property
    def vm(self) -> int:
        """This host's VM."""
        return self.shared.source_vm if self.role is Role.SOURCE else self.shared.destination_vm

    @property
    def entry(self) -> int:
        """The registry's entry."""
        return self.shared.entry

    @property
    def defaults(self) -> int:
        """VFs at their defaults."""
        return self.vfs - self.side.receiving - self.side.parked

    def step(self, what: str, **changes: int) -> Move:
        """Return a step that changes fields of the side or of what is shared; ``vm`` is this host's."""
        if "vm" in changes:
            changes["source_vm" if self.role is Role.SOURCE else "destination_vm"] = changes.pop("vm")
        shared = {name: changes.pop(name) for name in Shared._fields if name in changes}
        return Move(what, self.side._replace(**changes), self.shared._replace(**shared))

    def ends(self, event: Event, *, sends: int = 0) -> Move:
        """Return the end of the act."""
        return Move("", self.side, self.shared._replace(sent=self.shared.sent | sends), event)

    def goes_wrong(self, event: Event = Event.FAILED) -> Move:
        """Return an end of the act that need not be."""
        return Move("", self.side, self.shared, event, fault=True)

    def sends(self, message: int, what: str) -> Iterator[Move]:
        """Send a message, if that was not done yet."""
        if not self.shared.sent & message:
            yield self.step(what, sent=self.shared.sent | message)

    def swaps(self, change: int) -> tuple[Move, ...]:
        """Return a compare-and-swap of the entry, with and without an answer; nothing where it changes nothing."""
        after = changed(self.entry, change)
        if after is None or after == self.entry:
            return ()
        name = CHANGES[change]
        late = self.step(f"registry: {name}, no answer, not seen when read", late=self.shared.late | change)
        return (self.step(f"registry: {name}", entry=after, late=0), late._replace(fault=True))


ActSteps: TypeAlias = Callable[[View], Iterator[Move]]


def then(first: ActSteps, second: ActSteps) -> ActSteps:
    """Return an act that is two acts, one after the other."""

    def both(now: View) -> Iterator[Move]:
        for move in first(now):
            if move.event is Event.DONE:
                yield from second(now)
            else:
                yield move

    return both


# The source


def _open(now: View) -> Iterator[Move]:
    if now.entry == Entry.SOURCES:  # Another migration was faster, and is over again by the time that anybody looks.
        yield now.step("", late=0)._replace(event=Event.REFUSED, fault=True)
    swaps = now.swaps(Change.OPEN)
    yield from swaps
    if not swaps:
        yield now.ends(Event.DONE if now.entry == Entry.OPEN else Event.REFUSED)
    yield now.goes_wrong()


def _offer(now: View) -> Iterator[Move]:
    yield from now.sends(Sent.OFFER, "sends the offer")
    yield now.goes_wrong()


def _send_memory(now: View) -> Iterator[Move]:
    if now.vm == Vm.STOPPED:
        yield now.ends(Event.STOPPED)
    elif now.vm == Vm.RUNNING and now.shared.destination_vm == Vm.INCOMING:
        yield now.step("begins to copy memory", vm=Vm.COPYING)
    elif now.vm != Vm.COPYING:
        yield now.ends(Event.FAILED)
    yield now.goes_wrong()


def _unplug(now: View) -> Iterator[Move]:
    if not now.side.plugged:
        yield now.ends(Event.DONE)
    elif now.vm == Vm.ABSENT:
        yield now.ends(Event.FAILED)
    elif now.side.plugged != LETTING_GO:
        yield now.step("asks the guest to let go of the VFs", plugged=LETTING_GO)
    yield now.goes_wrong()


def _shut_down(now: View) -> Iterator[Move]:
    if now.vm == Vm.RUNNING:
        yield now.step("asks the guest to shut down", vm=Vm.SHUTTING_DOWN)
    elif now.vm == Vm.ABSENT:
        yield now.ends(Event.DONE)
    yield now.goes_wrong()


def _fence(now: View) -> Iterator[Move]:
    if now.side.receiving:
        yield now.step("fences a VF", receiving=now.side.receiving - 1, parked=now.side.parked + 1)
    else:
        yield now.ends(Event.DONE)
    yield now.goes_wrong()


def _forward_standby(now: View) -> Iterator[Move]:
    yield now.ends(Event.DONE) if now.side.standby else now.step("forwards the MAC to the standby", standby=1)
    yield now.goes_wrong()


def _stop_standby(now: View) -> Iterator[Move]:
    yield now.step("takes the standby's entry out", standby=0) if now.side.standby else now.ends(Event.DONE)
    yield now.goes_wrong()


def _hand_over(now: View) -> Iterator[Move]:
    yield from now.sends(Sent.FINAL, "sends the final record")
    if now.vm == Vm.PAUSED:
        yield now.ends(Event.FAILED)
    yield now.goes_wrong()


def _switch(now: View) -> Iterator[Move]:
    if now.vm == Vm.STOPPED:
        yield now.step("lets the rest flow", vm=Vm.SWITCHED)
    else:  # Where the VM is gone, too: the only whole one may be the destination's.
        yield now.ends(Event.DONE)
    yield now.ends(Event.FAILED) if now.vm == Vm.PAUSED else now.goes_wrong()


_DECIDED = {Entry.SOURCES: Event.ABORTED, Entry.COMMITTED: Event.COMMITTED, Entry.DESTINATIONS: Event.FINISHED}


def _watch(now: View) -> Iterator[Move]:
    if now.entry in _DECIDED:
        yield now.ends(_DECIDED[now.entry])
    if now.vm == Vm.PAUSED and Event.FAILED in now.knows:
        yield now.ends(Event.FAILED)


def _abort(now: View) -> Iterator[Move]:
    if now.entry in (Entry.OPEN, Entry.ABORTING):
        yield from now.swaps(Change.SETTLE_ON_SOURCE)
    elif now.entry == Entry.SOURCES and now.shared.late:
        # It cannot be seen whether our own opening is still under way: so the entry is always written.
        yield now.step("registry: write the settled entry anew, so that nothing late changes it", late=0)
    elif now.entry == Entry.SOURCES:
        yield now.ends(Event.DONE, sends=Sent.ABORT)
    else:
        yield now.ends(_DECIDED[now.entry])


def _recall(now: View) -> Iterator[Move]:
    if now.entry == Entry.OPEN:
        yield from now.swaps(Change.RECALL)
    elif now.entry == Entry.ABORTING:
        yield now.ends(Event.DONE, sends=Sent.ABORT)
    else:
        yield now.ends(_DECIDED[now.entry])


def _unfence(now: View) -> Iterator[Move]:
    side = now.side
    if side.receiving < now.vfs:
        yield now.step("brings a VF back", receiving=side.receiving + 1, parked=max(0, side.parked - 1))
    if (
        side.receiving == now.vfs or side.rebooted
    ):  # What a fence had kept for its undo is gone with the NIC's settings.
        yield now.ends(Event.DONE)
    yield now.goes_wrong()


def _resume(now: View) -> Iterator[Move]:
    if now.vm == Vm.ABSENT:
        yield now.ends(Event.VM_GONE)
    elif now.vm == Vm.RUNNING:
        yield now.ends(Event.DONE)
    else:
        yield now.step("gives the stream up and lets the VM run", vm=Vm.RUNNING)
    yield now.goes_wrong()


def _start_again(now: View) -> Iterator[Move]:
    if now.side.receiving < now.vfs:  # After a reboot UNFENCE had nothing to bring back.
        yield next(_unfence(now))
    elif now.vm == Vm.ABSENT:
        yield now.step("starts the VM again", vm=Vm.RUNNING)
    elif now.vm == Vm.RUNNING:
        yield now.ends(Event.DONE)
    yield now.goes_wrong()


def _replug(now: View) -> Iterator[Move]:
    side = now.side
    if side.standby:
        yield now.step("takes the standby's entry out", standby=0)
    else:
        if side.receiving < now.vfs:
            yield next(_unfence(now))
        if side.receiving == now.vfs or side.rebooted:
            if not side.plugged and now.vm != Vm.ABSENT:
                yield now.step("plugs the VFs", plugged=1)
            elif side.plugged != LETTING_GO or now.vm == Vm.ABSENT:  # Otherwise the guest's answer is waited for.
                yield now.ends(Event.DONE)
    yield now.goes_wrong()


def _release(now: View) -> Iterator[Move]:
    if now.vm != Vm.ABSENT:
        yield now.step("ends what is left of the VM", vm=Vm.ABSENT)
    elif now.side.parked:
        yield now.step("brings a VF to its defaults", parked=now.side.parked - 1)
    else:
        yield now.ends(Event.DONE)
    yield now.goes_wrong()


# The destination


def _check(now: View) -> Iterator[Move]:
    if now.entry == Entry.OPEN:
        yield now.ends(Event.DONE)
    yield now.ends(Event.FAILED, sends=Sent.REFUSE)._replace(fault=now.entry == Entry.OPEN)


def _stage(now: View) -> Iterator[Move]:
    if now.defaults:
        yield now.step("stages a VF", parked=now.side.parked + 1)
    else:
        yield now.ends(Event.DONE)
    yield now.goes_wrong()


def _receive(now: View) -> Iterator[Move]:
    if now.vm == Vm.ABSENT and not now.cold:
        yield now.step("makes a VM that waits", vm=Vm.INCOMING)
    else:
        yield from now.sends(Sent.ACCEPT, "accepts")
    yield now.goes_wrong()


def _validate(now: View) -> Iterator[Move]:
    yield now.ends(Event.DONE)
    yield now.goes_wrong()


def _program(now: View) -> Iterator[Move]:
    side = now.side
    if side.receiving < now.vfs:
        yield now.step("programs a VF", receiving=side.receiving + 1, parked=max(0, side.parked - 1))
    else:
        yield now.ends(Event.DONE)
    yield now.goes_wrong()


def _activate_loaded(now: View) -> Iterator[Move]:
    yield now.ends(Event.DONE if now.side.receiving == now.vfs else Event.FAILED)
    yield now.goes_wrong()


def _say_ready(now: View) -> Iterator[Move]:
    yield from now.sends(Sent.READY, "says that it is ready")
    if now.shared.sent & Sent.READY and Event.DONE in now.knows:
        yield now.ends(Event.DONE)
    if now.vm == Vm.HELD and Event.HELD in now.knows:
        yield now.ends(Event.HELD)
    yield now.ends(Event.FAILED) if now.vm == Vm.ABSENT and not now.cold else now.goes_wrong()


def _commit(now: View) -> Iterator[Move]:
    swaps = now.swaps(Change.COMMIT)
    yield from swaps
    if not swaps:
        yield now.ends(Event.DONE if now.entry in (Entry.COMMITTED, Entry.DESTINATIONS) else Event.LOST)


def _start(now: View) -> Iterator[Move]:
    if now.vm == Vm.RUNNING:
        yield now.ends(Event.DONE)
    elif now.vm == Vm.HELD or now.cold:
        yield now.step("lets the VM run", vm=Vm.RUNNING)
    elif now.vm == Vm.ABSENT:  # The act looks before it starts anything: this VM never ran.
        yield now.ends(Event.FAILED)
    else:
        yield now.ends(Event.UNPROVEN)
    if now.vm not in (Vm.RUNNING, Vm.RAN):
        yield now.goes_wrong()  # Proven: it never ran.
    yield now.goes_wrong(Event.UNPROVEN)


def _finish(now: View) -> Iterator[Move]:
    yield from now.swaps(Change.SETTLE_ON_DESTINATION) or (now.ends(Event.DONE),)


def _plug(now: View) -> Iterator[Move]:
    side, is_here = now.side, now.vm == Vm.RUNNING
    if side.receiving < now.vfs and side.standby:
        yield now.step("takes the standby's entry out", standby=0)
    elif side.receiving < now.vfs:
        yield next(_program(now))
    elif is_here and not side.plugged:
        yield now.step("plugs the VFs", plugged=1)
    else:
        yield now.ends(Event.DONE)
    if not is_here:
        yield now.goes_wrong()
    elif not side.plugged:  # A failure puts the standby back before it is one.
        yield now.step("", standby=1, receiving=0)._replace(event=Event.FAILED, fault=True)


def _silence(now: View) -> Iterator[Move]:
    side = now.side
    yield from now.sends(Sent.REFUSE, "says that it goes back")
    if now.vm not in (Vm.ABSENT, Vm.RAN):
        yield now.step("ends the waiting VM", vm=Vm.RAN if now.vm == Vm.RUNNING else Vm.ABSENT)
    elif side.standby:
        yield now.step("takes the standby's entry out", standby=0)
    elif side.receiving:
        yield now.step("takes a VF's settings out", receiving=side.receiving - 1)
    elif side.parked:
        yield now.step("unstages a VF", parked=side.parked - 1)
    else:
        yield now.ends(Event.DONE)
    yield now.goes_wrong()


def _give_back(now: View) -> Iterator[Move]:
    yield from now.swaps(Change.SETTLE_ON_SOURCE) or (now.ends(Event.DONE),)


ACTS: Mapping[Act, ActSteps] = MappingProxyType(
    {
        Act.OPEN: _open,
        Act.OFFER: _offer,
        Act.SEND_MEMORY: _send_memory,
        Act.UNPLUG: _unplug,
        Act.SHUT_DOWN: _shut_down,
        Act.FENCE: _fence,
        Act.FORWARD_STANDBY: _forward_standby,
        Act.STOP_STANDBY: _stop_standby,
        Act.HAND_OVER: _hand_over,
        Act.SWITCH: _switch,
        Act.WATCH: _watch,
        Act.ABORT: _abort,
        Act.RECALL: _recall,
        Act.UNFENCE: _unfence,
        Act.RESUME: _resume,
        Act.START_AGAIN: _start_again,
        Act.REPLUG: _replug,
        Act.RELEASE: _release,
        Act.CHECK: _check,
        Act.STAGE: _stage,
        Act.RECEIVE: _receive,
        Act.VALIDATE: _validate,
        Act.PROGRAM_EARLY: _program,
        Act.SAY_READY: _say_ready,
        Act.COMMIT: _commit,
        Act.ACTIVATE: _program,
        Act.ACTIVATE_LOADED: _activate_loaded,
        Act.START: _start,
        Act.FINISH: _finish,
        Act.PLUG: _plug,
        Act.SILENCE: _silence,
        Act.GIVE_BACK: _give_back,
    }
)
"""The steps of every act."""


def is_patient(act: Act, now: View) -> bool:
    """Whether the deadline of an act may not pass now: it looks at the hypervisor first, once more.

    The only whole VM may be the destination's where it is held, and where the source's is gone.
    """
    if act is Act.SAY_READY:
        return now.vm == Vm.HELD
    return act is Act.WATCH and now.vm == Vm.ABSENT and not now.cold
