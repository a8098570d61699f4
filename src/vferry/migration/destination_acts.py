# SPDX-License-Identifier: Apache-2.0
"""What the destination does in each phase. Every act may be done again after a crash."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import anyio

from vferry.core.errors import RefusedError, VferryError
from vferry.core.fence import Lever, Mode, UndoCost
from vferry.core.levers import lever_rows
from vferry.core.migration.messages import Accept, Finished, Ready, Refuse
from vferry.core.migration.phases import Act, Event, Role
from vferry.core.migration.tables import FINAL_PHASES, Order
from vferry.core.model import PfFacts
from vferry.core.ownership import NotOursError, Ownership, Stage, committed, settled
from vferry.core.preflight import Preflight
from vferry.core.record import RecordError
from vferry.migration.coordinator import ActFunction, Coordinator, phase_of, refuse_unfinished
from vferry.migration.ownership import read_entry, step
from vferry.migration.vfs import (
    destination_refs,
    forget_earlier_life,
    identities_of,
    macs_by_pf,
    owned_vfs,
    program,
    record_of,
    saved_pairs,
    source_refs,
    stop_forwarding,
    without_mac,
)
from vferry.ports.announcer import AnnounceError
from vferry.ports.hypervisor import HypervisorError, NoAnswerError, VmState
from vferry.ports.nic import NicError, NoSuchFunctionError
from vferry.ports.registry import RegistryError
from vferry.verbs.check import CheckRefusedError, Pair, Terms, check_record
from vferry.verbs.context import VfRef
from vferry.verbs.places import survey
from vferry.verbs.verify import verify

__all__ = ["DESTINATION_ACTS", "NotSilentError", "ReservedError"]


class ReservedError(RefusedError):
    """A VF is promised to another migration."""

    def __init__(self, ref: VfRef, migration: str, host: str) -> None:
        super().__init__(
            "reserve a VF",
            host=host,
            pf=ref.pf,
            vf=ref.vf,
            why=f"it is promised to migration {migration}",
            next_step="offer another VF, or wait until that migration is over",
        )


class NotSilentError(RefusedError):
    """A VM of that name is here already, in a state in which it cannot receive a migration."""

    def __init__(self, vm: str, state: VmState, host: str) -> None:
        super().__init__(
            f"make room for VM {vm}",
            host=host,
            why=f"a VM of that name is {state.value} here",
            next_step="end it, or give it another name",
        )


# Before the source stops


async def _check(side: Coordinator) -> Event:
    """Hold the offer against NICs, policy, registry and hypervisor; changes nothing."""
    try:
        await _refuse_foreign(side)
        _refuse_reserved(side)
        refuse_unfinished(side)
        _preflight(side)
    except VferryError as error:
        return await _refuse(side, error)
    places = survey(side.host.context, destination_refs(side.entry))
    early = side.entry.mode is Mode.DEVICE_STATE and any(_mac_resets_vf(place.pf) for place in places)
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


async def _refuse_foreign(side: Coordinator) -> None:
    """The offer must be what the registry says is under way, and the VM must not be here.

    :raise NotOursError: it is not.
    :raise NotSilentError: a VM of that name is here.
    """
    entry, host = side.entry, side.host
    found = await read_entry(host.registry, entry.vm)
    if found.ownership.migration != entry.migration or found.ownership.stage is not Stage.OPEN:
        raise NotOursError("accept", found.ownership)
    side.note(token=found.token)
    state = await host.hypervisor.state(entry.vm)
    if state is not VmState.ABSENT:
        raise NotSilentError(entry.vm, state, host.name)


def _refuse_reserved(side: Coordinator) -> None:
    """The journal is the reservation: VFs that an unfinished migration here names are taken.

    :raise ReservedError: one of ours is among them.
    """
    ours = set(destination_refs(side.entry))
    for other in side.host.migrations.entries():
        if other.migration == side.entry.migration or other.role is Role.SOURCE or phase_of(other) in FINAL_PHASES:
            continue
        for ref in destination_refs(other):
            if ref in ours:
                raise ReservedError(ref, other.migration, side.host.name)


def _preflight(side: Coordinator) -> Preflight:
    """Check the newest record against the VFs that it is to live on.

    :raise RecordError: it is damaged, or does not have the VFs that the offer names.
    :raise CheckRefusedError: the VFs cannot hold it, or the policy forbids it.
    """
    record = record_of(side.entry)
    preflight = check_record(side.host.context, record, _pairs(side), _terms(side))
    if preflight.refused:
        raise CheckRefusedError(preflight, host=side.host.name)
    return preflight


def _mac_resets_vf(pf: PfFacts) -> bool:
    """Whether setting a MAC resets the VF there: it would destroy a state that was loaded before."""
    return any(row.lever is Lever.PARKING_MAC and row.undo_cost is UndoCost.VF_RESET for row in lever_rows(pf))


async def _stage(side: Coordinator) -> Event:
    """Program everything but the MAC: every refusal of a driver shows now, while the VM runs on the source."""
    try:
        wanted = _preflight(side).wanted
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
    try:
        _validated(side)
    except VferryError as error:
        return await _refuse(side, error)
    return Event.DONE


def _validated(side: Coordinator) -> Preflight:
    if not record_of(side.entry).final:
        raise RecordError("the record is not final: the VM may have changed since", field="final")
    preflight = _preflight(side)
    if side.host.carrier is not None and side.entry.mode is Mode.DEVICE_STATE:
        refs = destination_refs(side.entry)
        if len(side.entry.states) != len(refs):
            raise RecordError(f"{len(side.entry.states)} VF states came for {len(refs)} VFs", field="states")
        for ref, state in zip(refs, side.entry.states, strict=True):
            side.host.carrier.validate(*ref, state)
    return preflight


async def _program_early(side: Coordinator) -> Event:
    """Validate, and program everything, the MAC too: the source is silent, and a later setting would reset the VF."""
    try:
        _program_all(side, _validated(side))
    except VferryError as error:
        return await _refuse(side, error)
    return Event.DONE


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

    return await side.wait(held, lambda: _called_off(side), seconds=side.host.deadlines.held, send=ready)


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

    async def swap() -> Event:
        try:
            found = await step(side.host.registry, entry.vm, lambda now: committed(now, entry.migration, vfs=vfs))
        except NotOursError:
            return Event.LOST
        side.note(token=found.token)
        return Event.DONE

    return await side.insist(swap, RegistryError)


async def _activate(side: Coordinator) -> Event:
    """The MAC and the rest, read back; then the VFs' own state, which no later setting may disturb."""
    _program_all(side, _preflight(side))
    return await _activate_loaded(side)


async def _activate_loaded(side: Coordinator) -> Event:
    carrier = side.host.carrier
    if carrier is not None and side.entry.mode is Mode.DEVICE_STATE:
        for ref, state in zip(destination_refs(side.entry), side.entry.states, strict=True):
            carrier.load(*ref, state)
    return Event.DONE


def _program_all(side: Coordinator, preflight: Preflight) -> None:
    refs = destination_refs(side.entry)
    program(side.host, list(zip(refs, preflight.wanted, strict=True)), "activate")


async def _forward_standby(side: Coordinator) -> Event:
    """Let the PF take frames for the VM's MAC: its standby is behind the PF until the VFs are plugged."""
    for pf, mac in macs_by_pf(_pairs(side)):
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
    for saved, ref in _pairs(side):
        mac = saved.declared.mac or saved.admin.mac
        if mac is None:
            continue
        try:
            side.host.announcer.announce(ref.pf, mac, vlans=saved.admin.vlans or ())
        except AnnounceError as error:
            side.refusal = str(error)


def _verify(side: Coordinator) -> None:
    """What differs is reported; the VM runs here, and there is no way back."""
    try:
        verify(side.host.context, record_of(side.entry), _pairs(side), _terms(side))
    except VferryError as error:
        side.refusal = str(error)


async def _plug(side: Coordinator) -> Event:
    """From the standby to the VFs: the standby's entry out, the VFs programmed, the guest gets them.

    :raise VferryError: the VM stays on its standby, whose entry is in place again.
    """
    nic, hypervisor, vm = side.host.context.nic, side.host.hypervisor, side.entry.vm
    refs, macs = destination_refs(side.entry), macs_by_pf(_pairs(side))
    is_here = await side.patiently(lambda: hypervisor.state(vm)) is not VmState.ABSENT
    if _rebooted(side):
        forget_earlier_life(side.host, refs)
    try:
        preflight = _preflight(side)
        stop_forwarding(nic, macs)
        _program_all(side, preflight)
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
    if _rebooted(side):
        try:
            forget_earlier_life(host, destination_refs(entry))
        except NoSuchFunctionError:  # the VFs were not made again: nothing is there that could receive
            return Event.DONE
    if host.carrier is not None and entry.mode is Mode.DEVICE_STATE:
        for ref in destination_refs(entry):
            host.carrier.drop(*ref)
    if entry.mode is Mode.FAILOVER:
        stop_forwarding(host.context.nic, macs_by_pf(_pairs(side)))

    async def take_out() -> Event:
        _take_out(side)
        return Event.DONE

    # Each failure leaves everything as it was: what keeps it may pass, and the source waits for this silence.
    return await side.insist(take_out, NicError, seconds=host.deadlines.stubborn)


def _rebooted(side: Coordinator) -> bool:
    return side.host.context.nic.host().boot_id != side.entry.boot_id


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


def _pairs(side: Coordinator) -> list[Pair]:
    """Return every saved VF with its target.

    :raise RecordError: the record does not have the VFs that the offer names.
    """
    try:
        return saved_pairs(side.entry, record_of(side.entry))
    except KeyError as error:
        raise RecordError(f"it has no VF {error}, which the offer names", field="vfs") from error


def _terms(side: Coordinator) -> Terms:
    return Terms(policy=side.host.policy, tables=side.host.tables)


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
