# SPDX-License-Identifier: Apache-2.0
"""What the two sides tell each other.

Messages only make things faster: each may be lost, doubled, late or out of order, and the registry still decides. All
name their migration; a message of another one, or one that the phase does not know, is dropped.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from vferry.core.fence import Mode
from vferry.core.migration.phases import Event, Role
from vferry.core.model import DeclaredState, Name, VfIndex
from vferry.core.ownership import Token

__all__ = [
    "MAX_STATE",
    "Abort",
    "Accept",
    "Final",
    "Finished",
    "Message",
    "Offer",
    "Ready",
    "Refuse",
    "VfTarget",
    "event_of",
]

MAX_STATE = 1 << 20
"""Longest device state of one VF, octets; a whole 82599 VF needs a few KiB."""

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Blob = Annotated[bytes, msgspec.Meta(max_length=8 << 20)]
_State = Annotated[bytes, msgspec.Meta(max_length=MAX_STATE)]


class VfTarget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which saved VF goes to which VF of the destination."""

    saved: Name
    """The VF's name in the record."""
    pf: Name
    vf: VfIndex
    declared: DeclaredState = DeclaredState()
    """What the operator declares of the VM's VF."""


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    migration: _Id


class Offer(_Message, frozen=True, kw_only=True, tag="offer"):
    """Source: offers a VM, and what its VFs hold."""

    vm: Name
    source: Name
    mode: Mode
    token: Token
    """Of the open migration in the registry."""
    targets: Annotated[tuple[VfTarget, ...], msgspec.Meta(min_length=1, max_length=256)]
    record: _Blob
    """A record, MessagePack, as :mod:`vferry.core.record` has it."""
    carried: bool = False
    """The VFs' own state, session included, will come with the final record."""


class Accept(_Message, frozen=True, kw_only=True, tag="accept"):
    """Destination: staged, and a VM waits."""

    uri: str
    """Where the hypervisor is to send the VM; empty in cold mode."""
    early: bool = False
    """Everything will be programmed before the VM arrives: a later setting would reset a VF."""


class Refuse(_Message, frozen=True, kw_only=True, tag="refuse"):
    """Destination: no, or not any more."""

    why: Annotated[str, msgspec.Meta(max_length=4096)]


class Final(_Message, frozen=True, kw_only=True, tag="final"):
    """Source: fenced; this is the final record, and the VFs' own states in the order of the offer's targets."""

    record: _Blob
    states: Annotated[tuple[_State, ...], msgspec.Meta(max_length=256)] = ()


class Ready(_Message, frozen=True, kw_only=True, tag="ready"):
    """Destination: the final record is valid here; send the rest."""


class Finished(_Message, frozen=True, kw_only=True, tag="finished"):
    """Destination: the VM runs here, and the registry says so."""


class Abort(_Message, frozen=True, kw_only=True, tag="abort"):
    """Source: it is called off."""

    why: Annotated[str, msgspec.Meta(max_length=4096)] = ""


Message: TypeAlias = Offer | Accept | Refuse | Final | Ready | Finished | Abort

_EVENTS: dict[Role, dict[type, Event]] = {
    Role.SOURCE: {Accept: Event.ACCEPTED, Refuse: Event.REFUSED, Ready: Event.READY},
    Role.DESTINATION: {Final: Event.FINAL, Abort: Event.ABORTED},
}


def event_of(message: Message, role: Role) -> Event | None:
    """Return what a message means to the role that receives it.

    None for an offer (it begins a migration), for a message to the other role, and for ``Finished``, which is only a
    hint to read the registry now: the source's VM is not ended on anybody's word.
    """
    return _EVENTS[role].get(type(message))
