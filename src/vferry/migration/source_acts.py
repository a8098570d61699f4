# SPDX-License-Identifier: Apache-2.0
"""What the source does in each phase. Every act may be done again after a crash."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import anyio
import msgspec

from vferry.core.errors import RefusedError, VferryError
from vferry.core.fence import Mode
from vferry.core.migration.messages import Abort, Final, Offer
from vferry.core.migration.phases import Act, Event
from vferry.core.model import AdminState, DeclaredState
from vferry.core.ownership import NotOursError, Ownership, Stage, opened, recalled, settled
from vferry.core.record import SavedVf, encode_msgpack
from vferry.core.undo import UndoKind
from vferry.migration.coordinator import ActFunction, Coordinator, refuse_unfinished
from vferry.migration.ownership import Transition, read_entry, step
from vferry.migration.vfs import (
    forget_earlier_life,
    identities_of,
    mac_of,
    macs_by_pf,
    owned_vfs,
    program,
    refuse_changed,
    source_pairs,
    source_refs,
    stop_forwarding,
)
from vferry.ports.hypervisor import HypervisorError, VmState
from vferry.ports.nic import NicError
from vferry.ports.registry import RegistryError
from vferry.verbs.context import VfRef
from vferry.verbs.fence import FenceRequest, fence, plan, unfence
from vferry.verbs.pending import sweep
from vferry.verbs.places import survey
from vferry.verbs.release import ReleasedVf, release
from vferry.verbs.save import save

__all__ = ["SOURCE_ACTS"]


async def _open(side: Coordinator) -> Event:
    """Open the migration: nobody else may move the VM meanwhile."""
    entry = side.entry

    def transition(found: Ownership) -> Ownership:
        _refuse_part(side, found)
        return opened(found, entry.migration, source=entry.source, destination=entry.destination)

    try:
        refuse_unfinished(side)
        seen = await step(side.host.registry, entry.vm, transition)
    except RefusedError as error:
        side.refusal = str(error)
        return Event.REFUSED
    side.note(token=seen.token)
    return Event.DONE


def _refuse_part(side: Coordinator, found: Ownership) -> None:
    """A VM's VFs move together or not at all, and as what the registry knows them.

    :raise PartialMoveError: they do not.
    """
    moved = set(source_refs(side.entry))
    owned = {VfRef(vf.pf, vf.vf) for vf in found.vfs}
    if owned and owned != moved:
        raise PartialMoveError(found, f"it has the VFs {_names(owned)}, and {_names(moved)} would move")
    known = {identity.mac for identity in found.identities}
    declared = {target.declared.mac for target in side.entry.targets} - {None}
    if known and declared - known:
        raise PartialMoveError(found, f"{', '.join(sorted(map(str, declared - known)))} is not known as its MAC")


def _names(refs: set[VfRef]) -> str:
    return ", ".join(map(str, sorted(refs)))


class PartialMoveError(RefusedError):
    """What is to move is not what the registry knows of the VM."""

    def __init__(self, found: Ownership, why: str) -> None:
        super().__init__(
            f"move VM {found.vm}",
            host=found.owner,
            why=why,
            next_step="name all of its VFs, with the MACs that it is registered with",
        )


async def _offer(side: Coordinator) -> Event:
    """Save what the PFs hold, see that it can be fenced when the time comes, and offer it; a pure read."""
    entry, context = side.entry, side.host.context
    refs = source_refs(entry)
    plan(context, refs, _fence_request(side))
    record = encode_msgpack(save(context, refs, vm=entry.vm, declared=_declared(side)))
    side.note(record=record, identities=identities_of(survey(context, refs)))
    assert entry.token is not None  # noqa: S101 -- the phase before noted it
    offer = Offer(
        migration=entry.migration,
        vm=entry.vm,
        source=entry.source,
        mode=entry.mode,
        token=entry.token,
        targets=entry.targets,
        record=record,
        carried=entry.carried,
    )
    return await side.wait(seconds=side.host.deadlines.offer, send=offer)


async def _send_memory(side: Coordinator) -> Event:
    """Have the memory copied, until the VM is stopped for the switch-over."""
    entry, hypervisor = side.entry, side.host.hypervisor

    async def stopped() -> Event:
        await hypervisor.send(entry.vm, entry.uri)
        await hypervisor.wait_stopped(entry.vm)
        return Event.STOPPED

    return await side.wait(stopped, seconds=side.host.deadlines.copy)


async def _unplug(side: Coordinator) -> Event:
    """Take the VFs from the guest; it may be deaf."""

    async def unplugged() -> Event:
        await side.host.hypervisor.unplug(side.entry.vm, source_refs(side.entry))
        return Event.DONE

    return await side.wait(unplugged, seconds=side.host.deadlines.guest)


async def _shut_down(side: Coordinator) -> Event:
    """Have the guest shut down; it may be deaf."""

    async def gone() -> Event:
        await side.host.hypervisor.shut_down(side.entry.vm)
        return Event.DONE

    return await side.wait(gone, seconds=side.host.deadlines.guest)


async def _fence(side: Coordinator) -> Event:
    """Stop the VFs' own work, save for the last time, fence; what the VM had is then known and reachable nowhere."""
    entry, host = side.entry, side.host
    refs = source_refs(entry)
    refuse_changed(host.context, entry, refs)
    if entry.mode is not Mode.FAILOVER and await host.hypervisor.state(entry.vm) is VmState.RUNNING:
        raise VmStillRunsError(entry.vm, host.name)
    if host.carrier is not None and entry.mode is Mode.DEVICE_STATE:
        for ref in refs:
            host.carrier.stop(*ref)
    record = save(host.context, refs, vm=entry.vm, declared=_declared(side))
    final = encode_msgpack(msgspec.structs.replace(record, final=True))
    states: tuple[bytes, ...] = ()
    if host.carrier is not None and entry.mode is Mode.DEVICE_STATE:
        states = tuple(host.carrier.save(*ref, session=entry.carried) for ref in refs)
    fence(host.context, refs, _fence_request(side))
    side.note(record=final, states=states)
    return Event.DONE


def _fence_request(side: Coordinator) -> FenceRequest:
    """In failover the guest runs on, on its standby; in the other modes it is stopped when the fence is set."""
    mode = side.entry.mode
    return FenceRequest(mode=mode, tables=side.host.tables, guest_stopped=mode is not Mode.FAILOVER)


class VmStillRunsError(VferryError):
    """A final save was asked for while the VM still runs on the VF."""

    def __init__(self, vm: str, host: str) -> None:
        super().__init__(
            f"save the VFs of VM {vm} for the last time",
            host=host,
            why="the VM is running: what is saved now is not what it will have when it stops",
            next_step="nothing was fenced; the migration is called off",
        )


async def _forward_standby(side: Coordinator) -> Event:
    """Let the PF take frames for the VM's MAC: its standby is behind the PF.

    Only where the VF is fenced: two owners of one MAC on a NIC both get its frames.
    """
    fenced = _fenced(side)
    for pf, mac in macs_by_pf([pair for pair in source_pairs(side.entry) if pair[1] in fenced]):
        side.host.context.nic.add_fdb(pf, mac)
    return Event.DONE


async def _stop_standby(side: Coordinator) -> Event:
    """The VM is stopped: nothing here is to receive for it."""
    stop_forwarding(side.host.context.nic, macs_by_pf(source_pairs(side.entry)))
    return Event.DONE


async def _hand_over(side: Coordinator) -> Event:
    """Send what the destination needs before the VM comes."""
    entry = side.entry
    final = Final(migration=entry.migration, record=entry.record or b"", states=entry.states)
    return await side.wait(seconds=side.host.deadlines.handover, send=final)


async def _switch(side: Coordinator) -> Event:
    """Let the rest be sent. A VM that is not stopped here any more may be whole on the other side: wait for that."""
    hypervisor, vm = side.host.hypervisor, side.entry.vm
    try:
        await hypervisor.switch(vm)
    except HypervisorError:
        if await side.patiently(lambda: hypervisor.state(vm)) is VmState.PAUSED:
            raise
    return Event.DONE


async def _watch(side: Coordinator) -> Event:
    """Read the registry until it is decided; the other side's word only makes us look sooner."""
    seen: Event | None = None

    async def decided() -> Event:
        nonlocal seen
        while True:
            seen = await _look(side)
            if seen is not None and seen is not Event.COMMITTED:
                return seen
            await anyio.sleep(side.host.deadlines.poll)

    patience = side.host.deadlines.arrival if side.machine.knows(Event.TIMEOUT) else None
    event = await side.wait(decided, seconds=patience)
    if event is not Event.TIMEOUT:
        return event
    # Committed, or the only whole VM may be the destination's: there is nothing to call off, however long it takes.
    return Event.COMMITTED if seen is Event.COMMITTED or await _vm_went(side) else event


async def _vm_went(side: Coordinator) -> bool:
    """Whether the VM that was stopped here is here no more; a cold one never is."""
    if side.entry.mode is Mode.COLD:
        return False
    try:
        return await side.host.hypervisor.state(side.entry.vm) is VmState.ABSENT
    except HypervisorError:
        return False


async def _look(side: Coordinator) -> Event | None:
    """Return what the registry says of the migration; None while it is open or cannot be read."""
    entry = side.entry
    try:
        found = (await read_entry(side.host.registry, entry.vm)).ownership
    except RegistryError:
        return None
    if found.migration == entry.migration:
        return Event.COMMITTED if found.stage is Stage.COMMITTED else None
    return Event.FINISHED if _moved(side, found) else Event.ABORTED


def _moved(side: Coordinator, found: Ownership) -> bool:
    """Whether a migration that is over ended at the destination.

    :raise NotOursError: the VM belongs to a third host, or another migration of it is under way.
    """
    if found.stage is Stage.SETTLED and found.owner in (side.entry.source, side.entry.destination):
        return found.owner == side.entry.destination
    raise NotOursError("follow", found)


async def _abort(side: Coordinator) -> Event:
    """Call it off: whoever swaps first decides."""
    entry = side.entry
    vfs = owned_vfs(source_refs(entry))
    return await _call_off(side, lambda found: settled(found, entry.migration, owner=entry.source, vfs=vfs), Event.DONE)


async def _recall(side: Coordinator) -> Event:
    """Call it off, and leave the entry open until the destination has said there that it is silent."""
    entry = side.entry
    return await _call_off(side, lambda found: recalled(found, entry.migration), Event.ABORTED)


async def _call_off(side: Coordinator, transition: Transition, when_over: Event) -> Event:
    entry = side.entry

    def guarded(found: Ownership) -> Ownership:
        undecided = found.migration == entry.migration and found.stage is not Stage.COMMITTED
        return transition(found) if undecided else found

    async def decide() -> Event:
        found = (await step(side.host.registry, entry.vm, guarded)).ownership
        if found.migration is None and found.owner == entry.source:
            # An answer that was lost may have been to "open it", and the request may still be under way.
            found = (await step(side.host.registry, entry.vm, guarded, renew=True)).ownership
        if found.migration == entry.migration:
            return Event.COMMITTED if found.stage is Stage.COMMITTED else Event.DONE
        return Event.FINISHED if _moved(side, found) else when_over

    event = await side.insist(decide, RegistryError)
    if event in (Event.DONE, when_over):
        await side.channel.send(Abort(migration=entry.migration, why=side.refusal[:4096]))
    return event


async def _unfence(side: Coordinator) -> Event:
    """Bring back what was fenced, and let the VFs work again; nothing happens to what was not."""
    host, refs = side.host, source_refs(side.entry)
    if side.rebooted:
        _after_reboot(side)
        return Event.DONE

    async def bring_back() -> Event:
        _unfence_fenced(side, refs)
        if host.carrier is not None and side.entry.mode is Mode.DEVICE_STATE:
            for ref in refs:
                host.carrier.start(*ref)
        return Event.DONE

    return await side.insist(bring_back, VferryError, seconds=host.deadlines.stubborn)


def _after_reboot(side: Coordinator) -> None:
    """The VM and every setting went with the host. Only a VM that is started again here needs them back."""
    refs = source_refs(side.entry)
    forget_earlier_life(side.host, refs)
    if side.entry.shut_down:
        program(side.host, [(ref, _settings(saved)) for saved, ref in source_pairs(side.entry)], "bring back")


def _settings(saved: SavedVf) -> AdminState:
    """Return what a VF was set to, as far as that can be known: the MAC that was declared, else the one shown."""
    return msgspec.structs.replace(saved.admin, mac=mac_of(saved))


def _unfence_fenced(side: Coordinator, refs: list[VfRef]) -> None:
    if _fenced(side):
        unfence(side.host.context, refs)


def _fenced(side: Coordinator) -> set[VfRef]:
    """Return the VFs on which a fence is on record, and stands: none does after a reboot."""
    context = side.host.context
    if side.rebooted:
        return set()
    fenced = {record.key for record in sweep(context) if record.kind is UndoKind.FENCE}
    return {place.ref for place in survey(context, source_refs(side.entry)) if place.key in fenced}


async def _resume(side: Coordinator) -> Event:
    """Let the VM run on. One that has ended meanwhile, with its host or alone, is nobody else's, and stays ended."""
    hypervisor, vm = side.host.hypervisor, side.entry.vm

    async def run_on() -> Event:
        if await hypervisor.state(vm) is not VmState.ABSENT:
            await hypervisor.resume(vm)
        return Event.DONE

    return await side.patiently(run_on)


async def _start_again(side: Coordinator) -> Event:
    """Start the VM that was shut down for us; it may still be about to go. One that was not is left alone."""
    hypervisor, vm = side.host.hypervisor, side.entry.vm
    if side.entry.shut_down:
        await side.patiently(lambda: hypervisor.shut_down(vm))
        if side.rebooted:  # perhaps since the phase before, in which the VFs were brought back
            _after_reboot(side)
        await side.patiently(lambda: hypervisor.start(vm))
    return Event.DONE


async def _replug(side: Coordinator) -> Event:
    """From the standby back to the VFs: its entry out, the fence off, the VFs back in the guest.

    :raise VferryError: it stays on its standby, whose entry is in place again wherever a fence still stands.
    """
    try:
        return await _to_vfs(side)
    except VferryError:
        await _forward_standby(side)
        raise


async def _to_vfs(side: Coordinator) -> Event:
    refs, hypervisor, vm = source_refs(side.entry), side.host.hypervisor, side.entry.vm
    await _stop_standby(side)

    async def bring_back() -> None:
        if side.rebooted:
            forget_earlier_life(side.host, refs)
        else:
            _unfence_fenced(side, refs)

    await side.insist(bring_back, VferryError, seconds=side.host.deadlines.stubborn)

    async def plug() -> Event:
        if await hypervisor.state(vm) is not VmState.ABSENT:
            await hypervisor.plug(vm, refs)
        return Event.DONE

    return await side.patiently(plug)


async def _release(side: Coordinator) -> Event:
    """The VM runs elsewhere: end what is left of it, and leave nothing to the VFs' next tenant."""
    host, entry = side.host, side.entry
    await side.patiently(lambda: host.hypervisor.destroy(entry.vm))
    if host.carrier is not None:
        for ref in source_refs(entry):
            host.carrier.drop(*ref)

    async def give_up() -> list[ReleasedVf]:
        return release(host.context, source_refs(entry), host.tables)

    released = await side.insist(give_up, NicError, seconds=host.deadlines.stubborn)
    side.refusal = "; ".join(words for one in released for words in one.kept)
    return Event.DONE


def _declared(side: Coordinator) -> dict[VfRef, DeclaredState]:
    return {ref: target.declared for ref, target in zip(source_refs(side.entry), side.entry.targets, strict=True)}


SOURCE_ACTS: Mapping[Act, ActFunction] = MappingProxyType(
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
    }
)
"""What the source's machine asks for."""
