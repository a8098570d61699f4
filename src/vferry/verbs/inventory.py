# SPDX-License-Identifier: Apache-2.0
"""``list`` and ``show``: what there is. Reads only."""

from __future__ import annotations

import msgspec

from vferry.core.capability import CapabilityTable, capability_key, find_table
from vferry.core.model import FunctionState, HostFacts, PciState, PfFacts, VfFacts, VfReading
from vferry.core.undo import UndoRecord
from vferry.ports.nic import NicError
from vferry.verbs.context import Context, VfRef
from vferry.verbs.pending import open_record
from vferry.verbs.places import survey

__all__ = ["ListedPf", "ShownVf", "list_pfs", "show"]


class ListedPf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One PF with its VFs."""

    pf: PfFacts
    vfs: tuple[VfFacts, ...]
    readings: tuple[VfReading, ...]
    has_settings: bool
    problem: str = ""
    """Why the VFs' settings could not be read, in words."""


class ShownVf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything known of one VF."""

    host: HostFacts
    pf: PfFacts
    vf: VfFacts
    has_settings: bool
    reading: VfReading
    pci: PciState | None = None
    function: FunctionState | None = None
    undo: UndoRecord | None = None
    capabilities: CapabilityTable | None = None


def list_pfs(context: Context, pf: str | None = None) -> list[ListedPf]:
    """Return every PF of the host, or the one named, with its VFs.

    A PF whose settings cannot be read is listed with the reason.

    :raise NoSuchFunctionError: the PF named is not there.
    """
    facts = context.nic.pfs() if pf is None else (context.nic.pf(pf),)
    return [_listed(context, one) for one in facts]


def _listed(context: Context, pf: PfFacts) -> ListedPf:
    try:
        vfs = context.nic.vfs(pf.name)
        reading = context.nic.read(pf.name)
    except NicError as error:
        return ListedPf(pf=pf, vfs=(), readings=(), has_settings=False, problem=f"{error.what}: {error.why}")
    return ListedPf(pf=pf, vfs=vfs, readings=reading.vfs, has_settings=reading.has_settings)


def show(context: Context, ref: VfRef, tables: tuple[CapabilityTable, ...]) -> ShownVf:
    """Return everything known of one VF, its counters included.

    :raise NicError: the VF is not there, or its PF cannot be read.
    """
    place = survey(context, [ref], statistics=_statistics_fit(context, ref.pf))[0]
    return ShownVf(
        host=place.host,
        pf=place.pf,
        vf=place.facts,
        has_settings=place.pf_reading.has_settings,
        reading=place.reading,
        pci=context.nic.read_pci(*place.ref),
        function=context.nic.read_function(*place.ref),
        undo=open_record(context, place.key),
        capabilities=find_table(capability_key(place.host, place.pf), tables),
    )


def _statistics_fit(context: Context, pf: str) -> bool:
    """With counters the kernel's list holds 221 VFs only (a 16-bit length, net/core/rtnetlink.c)."""
    return context.nic.pf(pf).num_vfs <= 221
