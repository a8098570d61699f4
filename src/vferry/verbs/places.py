# SPDX-License-Identifier: Apache-2.0
"""Where a VF is: its PF's facts, its own, and one reading, taken together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vferry.core.model import AdminState, HostFacts, PfFacts, PfReading, VfFacts, VfReading
from vferry.core.undo import VfIdentity, VfKey, vf_identity
from vferry.ports.nic import NoSuchFunctionError
from vferry.verbs.context import Context, VfRef
from vferry.verbs.converge import ReloadedError, read_patiently

__all__ = ["Place", "survey"]


class Place(NamedTuple):
    """A VF as found: its PF's facts, its own, and one reading."""

    host: HostFacts
    pf: PfFacts
    facts: VfFacts
    pf_reading: PfReading
    reading: VfReading

    @property
    def ref(self) -> VfRef:
        """How verbs name the VF."""
        return VfRef(self.pf.name, self.facts.index)

    @property
    def identity(self) -> VfIdentity:
        """What must stay the same for an undo record to be about this VF."""
        return vf_identity(self.host, self.pf, self.pf_reading, self.facts)

    @property
    def key(self) -> VfKey:
        """The VF's name in the journal."""
        return VfKey(device=self.pf.device, index=self.facts.index)


def survey(context: Context, refs: Sequence[VfRef], *, statistics: bool = False) -> list[Place]:
    """Read every VF named, each PF once.

    :raise NoSuchFunctionError: a PF or a VF is not there.
    :raise ReloadedError: a PF's driver was reloaded while it was read.
    :raise NicError: a PF cannot be read.
    """
    host = context.nic.host()
    pfs = {name: context.nic.pf(name) for name in dict.fromkeys(ref.pf for ref in refs)}
    vfs = {name: context.nic.vfs(name) for name in pfs}
    readings = {name: read_patiently(context, name, statistics=statistics) for name in pfs}
    return [_place(host, pfs[ref.pf], vfs[ref.pf], readings[ref.pf], ref.vf) for ref in refs]


def _place(host: HostFacts, pf: PfFacts, vfs: Sequence[VfFacts], reading: PfReading, index: int) -> Place:
    facts = next((vf for vf in vfs if vf.index == index), None)
    if facts is None:
        raise NoSuchFunctionError(
            "find the VF",
            host=host.hostname,
            pf=pf.name,
            vf=index,
            why=f"the PF has {len(vfs)} VFs, counted from 0",
            next_step="'vferry list' shows what there is",
        )
    _check_one_life(host, pf, vfs, reading)
    read = next((vf for vf in reading.vfs if vf.index == index), VfReading(index=index, admin=AdminState()))
    return Place(host, pf, facts, reading, read)


def _check_one_life(host: HostFacts, pf: PfFacts, vfs: Sequence[VfFacts], reading: PfReading) -> None:
    """Facts and reading are several requests: they must be of one life of the PF's driver."""
    listed = len(reading.vfs) if reading.has_settings else reading.num_vfs
    if len(vfs) == reading.num_vfs == listed and pf.ifindex in (None, reading.ifindex):
        return
    raise ReloadedError(
        "read the VFs",
        host=host.hostname,
        pf=pf.name,
        why="the PF's driver was reloaded or its VFs were created anew meanwhile: "
        f"interface {pf.ifindex} with {len(vfs)} VFs became {reading.ifindex} with {reading.num_vfs}",
    )
