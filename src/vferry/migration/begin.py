# SPDX-License-Identifier: Apache-2.0
"""How a migration begins, and how one that a crash has interrupted is taken up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vferry.core.errors import UsageError
from vferry.core.fence import Mode
from vferry.core.migration.messages import Final, Finished, Message, Offer, Refuse, VfTarget
from vferry.core.migration.phases import DestinationPhase, Role, SourcePhase
from vferry.core.migration.tables import order_of
from vferry.core.model import DeclaredState
from vferry.migration.coordinator import Coordinator, Observer
from vferry.migration.destination_acts import DESTINATION_ACTS
from vferry.migration.entries import is_over, phase_of
from vferry.migration.host import MigrationHost
from vferry.migration.source_acts import SOURCE_ACTS
from vferry.ports.channel import Channel
from vferry.ports.migrations import MigrationEntry
from vferry.verbs.context import VfRef

__all__ = ["accept_offer", "begin", "late_answer", "take_up"]


def begin(
    host: MigrationHost,
    channel: Channel,
    *,
    migration: str,
    vm: str,
    destination: str,
    moves: Sequence[tuple[VfRef, VfRef]],
    mode: Mode,
    carried: bool = True,
    declared: Mapping[VfRef, DeclaredState] | None = None,
    observer: Observer | None = None,
) -> Coordinator:
    """Return the source's side of a new migration; nothing is done before it runs.

    :param migration: a name that no other migration has, ever.
    :param moves: every VF of the VM, with the destination's VF that takes it over. They move together or not at all.
    :param carried: move the VF driver's session too; otherwise it is rebuilt by a reset handshake.
    :param declared: what the operator declares of a VF because no reading can tell it.
    :raise UsageError: no VF is to move.
    """
    if not moves:
        raise UsageError(f"move VM {vm}", host=host.name, why="none of its VFs is named")
    known = declared or {}
    targets = tuple(
        VfTarget(saved=str(old), pf=new.pf, vf=new.vf, declared=known.get(old, DeclaredState())) for old, new in moves
    )
    entry = MigrationEntry(
        migration=migration,
        vm=vm,
        role=Role.SOURCE,
        order=order_of(mode),
        phase=SourcePhase.CLAIM.value,
        source=host.name,
        destination=destination,
        mode=mode,
        boot_id=host.context.nic.host().boot_id,
        targets=targets,
        carried=carried,
    )
    return Coordinator(host, entry, channel, SOURCE_ACTS, observer=observer)


def accept_offer(
    host: MigrationHost, channel: Channel, offer: Offer, *, observer: Observer | None = None
) -> Coordinator | None:
    """Return the destination's side of an offered migration; None for an offer that was heard before."""
    if host.migrations.read(offer.migration, Role.DESTINATION) is not None:
        return None
    entry = MigrationEntry(
        migration=offer.migration,
        vm=offer.vm,
        role=Role.DESTINATION,
        order=order_of(offer.mode),
        phase=DestinationPhase.CHECK.value,
        source=offer.source,
        destination=host.name,
        mode=offer.mode,
        boot_id=host.context.nic.host().boot_id,
        token=offer.token,
        targets=offer.targets,
        carried=offer.carried,
        record=offer.record,
    )
    return Coordinator(host, entry, channel, DESTINATION_ACTS, observer=observer)


def late_answer(host: MigrationHost, message: Message) -> Message | None:
    """Return what to tell a source that still speaks of a migration which is over here; None: nothing.

    It may be waiting with the VM stopped, and the first answer may be lost.
    """
    if not isinstance(message, Offer | Final):
        return None
    entry = host.migrations.read(message.migration, Role.DESTINATION)
    if entry is None:
        unknown = isinstance(message, Final)
        return Refuse(migration=message.migration, why="nothing is known of this migration here") if unknown else None
    if not is_over(entry):
        return None
    if phase_of(entry) in (DestinationPhase.ARRIVED, DestinationPhase.ON_STANDBY):
        return Finished(migration=entry.migration)
    return Refuse(migration=entry.migration, why=entry.why[:4096] or "it is over here")


def take_up(
    host: MigrationHost, channel: Channel, entry: MigrationEntry, *, observer: Observer | None = None
) -> Coordinator:
    """Return a side that goes on from its journal; use :meth:`Coordinator.recover`."""
    acts = SOURCE_ACTS if entry.role is Role.SOURCE else DESTINATION_ACTS
    return Coordinator(host, entry, channel, acts, observer=observer)
