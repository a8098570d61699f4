# SPDX-License-Identifier: Apache-2.0
"""What the destination does in each phase. Every act may be done again after a crash."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import anyio

from vferry.core.errors import VferryError
from vferry.core.fence import Mode
from vferry.core.migration.messages import Accept, Finished, Ready, Refuse
from vferry.core.migration.phases import Act, Event
from vferry.core.migration.tables import Order
from vferry.core.ownership import NotOursError, Ownership, Stage, committed, settled
from vferry.core.preflight import Preflight
from vferry.migration.coordinator import ActFunction, Coordinator, refuse_unfinished
from vferry.migration.destination_checks import (
    mac_resets_vf,
    pairs_of,
    preflight,
    refuse_foreign,
    refuse_reserved,
    terms_of,
    validated,
)
from vferry.migration.ownership import read_entry, step
from vferry.migration.vfs import (
    destination_refs,
    forget_earlier_life,
    identities_of,
    mac_of,
    macs_by_pf,
    owned_vfs,
    program,
    record_of,
    refuse_changed,
    source_refs,
    stop_forwarding,
    without_mac,
)
from vferry.ports.announcer import AnnounceError
from vferry.ports.hypervisor import HypervisorError, NoAnswerError, VmState
from vferry.ports.nic import NoSuchFunctionError
from vferry.ports.registry import RegistryError
from vferry.verbs.places import survey
from vferry.verbs.verify import verify

__all__ = ["DESTINATION_ACTS"]


# Before the source stops


async def _check(side: Coordinator) -> Event:
    """Hold the offer against NICs, policy, registry and hypervisor; changes nothing."""
    try:
        await refuse_foreign(side)
        await refuse_reserved(side)
        refuse_unfinished(side)
        preflight(side)
    except VferryError as error:
        return await _refuse(side, error)
    places = survey(side.host.context, destination_refs(side.entry))
    early = side.entry.mode is Mode.DEVICE_STATE and any(mac_resets_vf(place.pf) for place in places)
    side.note(
        before=tuple(place.reading.admin for place in places),
        identities=identities_of(places),
        order=Order.DEVICE_STATE_EARLY if early else side.entry.order,
    )
    return Event.DONE


async def _refuse(side: Coordinator, error: VferryError) -> Event:
    side.refusal = str(error)
    await side.channel.send(Refuse(migration=side.entry.migration, why=side.refusal[:4096]))
    return Event.FAILED


async def _stage(side: Coordinator) -> Event:
    """Program everything but the MAC: every refusal of a driver shows now, while the VM runs on the source."""
    try:
        wanted = preflight(side).wanted
        refs = destination_refs(side.entry)
        program(side.host, [(ref, without_mac(state)) for ref, state in zip(refs, wanted, strict=True)], "stage")
    except VferryError as error:
        return await _refuse(side, error)
    return Event.DONE


async def _receive(side: Coordinator) -> Event:
    """Make a VM that waits, accept the offer, await the final record."""
    entry, hypervisor = side.entry, side.host.hypervisor
    if entry.mode is not Mode.COLD:
        plugged = () if entry.mode is Mode.FAILOVER else destination_refs(entry)
        try:
            side.note(uri=await hypervisor.receive(entry.vm, plugged))
        except VferryError as error:
            return await _refuse(side, error)
    early = entry.order is Order.DEVICE_STATE_EARLY
    accept = Accept(migration=entry.migration, uri=side.entry.uri, early=early)
    return await side.wait(lambda: _called_off(side), seconds=side.host.deadlines.incoming, send=accept)


# While the VM is stopped on both sides


async def _validate(side: Coordinator) -> Event:
    """Hold the final record and every VF's state against this host, whole, before anything is sent or applied."""
    return await _with_final(side, lambda: validated(side))


async def _with_final(side: Coordinator, act: Callable[[], object]) -> Event:
    """Do an act on the final record; where it fails, the offered one is what is known of the VM."""
    offered = side.entry.record
    side.note(record=side.entry.final_record or offered)
    try:
        act()
    except VferryError as error:
        side.note(record=offered)
        return await _refuse(side, error)
    return Event.DONE


async def _program_early(side: Coordinator) -> Event:
    """Validate, and program everything, the MAC too: the source is silent, and a later setting would reset the VF."""
    return await _with_final(side, lambda: _program_all(side, validated(side)))


async def _say_ready(side: Coordinator) -> Event:
    """Say so, and wait until the VM is complete and held; a VM that was shut down has nothing to wait for."""
    entry = side.entry
    ready = Ready(migration=entry.migration)
    if entry.mode is Mode.COLD:
        await side.channel.send(ready)
        return Event.DONE

    async def held() -> Event:
        await side.host.hypervisor.wait_held(entry.vm)
        return Event.HELD

    event = await side.wait(held, lambda: _called_off(side), seconds=side.host.deadlines.held, send=ready)
    if event is Event.TIMEOUT and await side.host.hypervisor.state(entry.vm) is VmState.PAUSED:
        return Event.HELD  # it came with the last of our patience: it may be the only whole one
    return event


async def _called_off(side: Coordinator) -> Event:
    """Read the registry now and then: the source's word that it is called off may be lost."""
    entry = side.entry
    while True:
        await anyio.sleep(side.host.deadlines.look)
        try:
            found = (await read_entry(side.host.registry, entry.vm)).ownership
        except RegistryError:
            continue
        if found.migration != entry.migration or found.stage is not Stage.OPEN:
            return Event.ABORTED


# From the commit on


async def _commit(side: Coordinator) -> Event:
    """One compare-and-swap: from here on only this host may run the VM, or never."""
    entry = side.entry
    vfs = owned_vfs(destination_refs(entry))

    def commit(found: Ownership) -> Ownership:
        return committed(found, entry.migration, host=side.host.name, vfs=vfs)

    async def swap() -> Event:
        try:
            found = await step(side.host.registry, entry.vm, commit)
        except NotOursError:
            return Event.LOST
        side.note(token=found.token)
        return Event.DONE

    return await side.insist(swap, RegistryError)


async def _activate(side: Coordinator) -> Event:
    """The MAC and the rest, read back; then the VFs' own state, which no later setting may disturb."""
    await _refuse_given_away(side, "activate")
    _program_all(side, preflight(side))
    return _load(side)


async def _activate_loaded(side: Coordinator) -> Event:
    """See that what was programmed early is still there, then load the VFs' own state.

    :raise VerifyFailedError: it is not.
    """
    await _refuse_given_away(side, "activate")
    refuse_changed(side.host.context, side.entry, destination_refs(side.entry))
    verify(side.host.context, record_of(side.entry), pairs_of(side), terms_of(side))
    return _load(side)


def _load(side: Coordinator) -> Event:
    carrier = side.host.carrier
    if carrier is not None and side.entry.mode is Mode.DEVICE_STATE:
        for ref, state in zip(destination_refs(side.entry), side.entry.states, strict=True):
            carrier.load(*ref, state)
    return Event.DONE


async def _refuse_given_away(side: Coordinator, what: str) -> None:
    """A person may have decided otherwise since the commit, as while this host was down.

    :raise NotOursError: the VM is not this host's to run.
    """

    async def read() -> Ownership:
        return (await read_entry(side.host.registry, side.entry.vm)).ownership

    found = await side.insist(read, RegistryError)
    ours = (found.migration, found.stage, found.owner) == (side.entry.migration, Stage.COMMITTED, side.host.name)
    if not ours:
        raise NotOursError(what, found)


def _program_all(side: Coordinator, checked: Preflight) -> None:
    refs = destination_refs(side.entry)
    refuse_changed(side.host.context, side.entry, refs)
    program(side.host, list(zip(refs, checked.wanted, strict=True)), "activate")


async def _forward_standby(side: Coordinator) -> Event:
    """Let the PF take frames for the VM's MAC: its standby is behind the PF until the VFs are plugged."""
    await _refuse_given_away(side, "activate")
    for pf, mac in macs_by_pf(pairs_of(side)):
        side.host.context.nic.add_fdb(pf, mac)
    return Event.DONE


async def _start(side: Coordinator) -> Event:
    """Let the VM run. What the hypervisor says decides whether it may have run."""
    entry, host = side.entry, side.host
    try:
        state = await side.patiently(lambda: host.hypervisor.state(entry.vm))
    except HypervisorError as error:  # an earlier process may have started it
        side.refusal = str(error)
        return Event.UNPROVEN
    if state is VmState.RUNNING:
        return Event.DONE
    await _refuse_given_away(side, "start")
    if entry.mode is not Mode.COLD and state is not VmState.PAUSED:
        side.refusal = f"the VM is {state.value} here; it was complete and held"
        return Event.FAILED
    if host.carrier is not None and entry.mode is Mode.DEVICE_STATE:
        for ref in destination_refs(entry):
            host.carrier.start(*ref)
    try:
        await (host.hypervisor.start(entry.vm) if entry.mode is Mode.COLD else host.hypervisor.resume(entry.vm))
    except VferryError as error:
        side.refusal = str(error)
        return await _whether_it_started(side, state, answered=not isinstance(error, NoAnswerError))
    return Event.DONE


async def _whether_it_started(side: Coordinator, before: VmState, *, answered: bool) -> Event:
    """The start failed: only a VM that is where it was, and stays there, has certainly not run.

    :param answered: the hypervisor refused; else the command may still be carried out.
    """
    hypervisor, vm = side.host.hypervisor, side.entry.vm
    try:
        after = await side.patiently(lambda: hypervisor.state(vm))
    except HypervisorError:
        return Event.UNPROVEN
    if after is VmState.RUNNING:
        return Event.DONE
    return Event.FAILED if answered and after is before else Event.UNPROVEN


async def _finish(side: Coordinator) -> Event:
    """Tell the network, read everything back, end the migration in the registry."""
    _announce(side)
    if side.entry.mode is not Mode.FAILOVER:
        _verify(side)
    entry = side.entry

    async def settle() -> Event:
        await step(side.host.registry, entry.vm, lambda found: _settled_here(found, entry.migration, side.host.name))
        return Event.DONE

    event = await side.insist(settle, RegistryError)
    await side.channel.send(Finished(migration=entry.migration))
    return event


def _settled_here(found: Ownership, migration: str, host: str) -> Ownership:
    if found.migration is None and found.owner == host:
        return found  # done before the last crash
    return settled(found, migration, owner=host)


def _announce(side: Coordinator) -> None:
    """Best effort: the network learns from the VM's next frame in any case."""
    if side.host.announcer is None:
        return
    for saved, ref in pairs_of(side):
        mac = mac_of(saved)
        if mac is None:
            continue
        try:
            side.host.announcer.announce(ref.pf, mac, vlans=saved.admin.vlans or ())
        except AnnounceError as error:
            side.refusal = str(error)


def _verify(side: Coordinator) -> None:
    """What differs is reported; the VM runs here, and there is no way back."""
    try:
        verify(side.host.context, record_of(side.entry), pairs_of(side), terms_of(side))
    except VferryError as error:
        side.refusal = str(error)


async def _plug(side: Coordinator) -> Event:
    """From the standby to the VFs: the standby's entry out, the VFs programmed, the guest gets them.

    :raise VferryError: the VM stays on its standby, whose entry is in place again.
    """
    nic, hypervisor, vm = side.host.context.nic, side.host.hypervisor, side.entry.vm
    refs, macs = destination_refs(side.entry), macs_by_pf(pairs_of(side))
    is_here = await side.patiently(lambda: hypervisor.state(vm)) is not VmState.ABSENT
    if side.rebooted:
        forget_earlier_life(side.host, refs)
    try:
        checked = preflight(side)
        stop_forwarding(nic, macs)
        _program_all(side, checked)
        if is_here:  # else it has ended meanwhile; the VFs are as it will need them
            await side.patiently(lambda: hypervisor.plug(vm, refs))
    except VferryError:
        if is_here:
            _back_to_standby(side, macs)
        raise
    _verify(side)
    return Event.DONE


def _back_to_standby(side: Coordinator, macs: list[tuple[str, str]]) -> None:
    """Take the VFs out, and let the PF take frames for the standby again."""
    _take_out(side)
    for pf, mac in macs:
        side.host.context.nic.add_fdb(pf, mac)


# The way back


async def _silence(side: Coordinator) -> Event:
    """End the VM that waits, and take out what was programmed: nothing here receives for it."""
    entry, host = side.entry, side.host
    await side.patiently(lambda: host.hypervisor.destroy(entry.vm))
    if side.rebooted:
        try:
            forget_earlier_life(host, destination_refs(entry))
        except NoSuchFunctionError:  # the VFs were not made again: nothing is there that could receive
            return Event.DONE
    if host.carrier is not None and entry.mode is Mode.DEVICE_STATE:
        for ref in destination_refs(entry):
            host.carrier.drop(*ref)
    if entry.mode is Mode.FAILOVER:
        stop_forwarding(host.context.nic, macs_by_pf(pairs_of(side)))

    async def take_out() -> Event:
        _take_out(side)
        return Event.DONE

    # Each failure leaves everything as it was: what keeps it may pass, and the source waits for this silence.
    return await side.insist(take_out, VferryError, seconds=host.deadlines.stubborn)


def _take_out(side: Coordinator) -> None:
    """Bring the VFs back to what they were before anything was staged."""
    refs, before = destination_refs(side.entry), side.entry.before
    if not before:
        return  # the check was not over: nothing was programmed
    program(side.host, list(zip(refs, before, strict=True)), "take out")


async def _give_back(side: Coordinator) -> Event:
    """Say that the VM is the source's: nothing of it runs or receives here, and never did."""
    entry = side.entry

    def returned(found: Ownership) -> Ownership:
        if found.migration != entry.migration:
            return found
        return settled(found, entry.migration, owner=entry.source, vfs=owned_vfs(source_refs(entry)))

    async def settle() -> Event:
        await step(side.host.registry, entry.vm, returned)
        return Event.DONE

    event = await side.insist(settle, RegistryError)
    await side.channel.send(Refuse(migration=entry.migration, why=(side.refusal or "given back")[:4096]))
    return event


DESTINATION_ACTS: Mapping[Act, ActFunction] = MappingProxyType(
    {
        Act.CHECK: _check,
        Act.STAGE: _stage,
        Act.RECEIVE: _receive,
        Act.VALIDATE: _validate,
        Act.PROGRAM_EARLY: _program_early,
        Act.SAY_READY: _say_ready,
        Act.COMMIT: _commit,
        Act.ACTIVATE: _activate,
        Act.ACTIVATE_LOADED: _activate_loaded,
        Act.FORWARD_STANDBY: _forward_standby,
        Act.START: _start,
        Act.FINISH: _finish,
        Act.PLUG: _plug,
        Act.SILENCE: _silence,
        Act.GIVE_BACK: _give_back,
    }
)
"""What the destination's machine asks for."""
