# SPDX-License-Identifier: Apache-2.0
"""How people name VFs, and pairs of a saved VF and where it is to live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vferry.core.errors import UsageError
from vferry.core.model import PfFacts
from vferry.ports.nic import Nic, NoSuchFunctionError
from vferry.verbs.context import Context, VfRef

if TYPE_CHECKING:  # 'save' pairs nothing up, and does without the check and all its rules
    from vferry.core.record import Record, SavedVf
    from vferry.core.undo import UndoRecord
    from vferry.verbs.check import Pair

__all__ = ["VfNameError", "declarations", "find_pf", "pair_up", "record_of_missing_vf", "resolve", "resolve_all"]


class VfNameError(UsageError):
    """Something is not named in a way that vferry understands."""


def resolve(nic: Nic, text: str) -> VfRef:
    """Return the VF named ``eth0/3``, ``0000:3b:00.0/3``, or by its own PCI address.

    :raise VfNameError: the text names no VF in any of these ways, or there is no such VF.
    """
    pf, slash, index = text.rpartition("/")
    if slash and pf and index.isascii() and index.isdecimal() and len(index) <= 5:
        facts = find_pf(nic, pf)
        if int(index) >= facts.num_vfs:
            raise VfNameError(
                "find the VF",
                host=nic.host().hostname,
                pf=facts.name,
                vf=int(index),
                why=f"the PF has {facts.num_vfs} VFs, counted from 0"
                if facts.num_vfs
                else "the PF has no VFs: none were created",
                next_step="'vferry list' shows what there is"
                if facts.num_vfs
                else f"create some: echo N > /sys/class/net/{facts.name}/device/sriov_numvfs",
            )
        return VfRef(facts.name, int(index))
    if not slash and text.count(":") in (1, 2) and "." in text:
        return _by_address(nic, text.lower() if text.count(":") == 2 else f"0000:{text.lower()}")
    raise VfNameError(
        f"understand {text!r} as a VF",
        why="a VF is named eth0/3, 0000:3b:00.0/3 or by its own PCI address",
        next_step="'vferry list' shows what there is",
    )


def record_of_missing_vf(context: Context, text: str) -> UndoRecord | None:
    """Return the undo record of a VF that is named as it was when the record was written, and is there no more."""
    try:
        resolve(context.nic, text)
    except VfNameError:
        for record in context.journal.records():
            names = (f"{record.identity.pf}/{record.key.index}", str(record.key), record.identity.vf_address)
            if text in names:
                return record
    return None


def find_pf(nic: Nic, name: str) -> PfFacts:
    """Return the PF of that name, or of that device address.

    :raise VfNameError: there is none.
    """
    try:
        return nic.pf(name)
    except NoSuchFunctionError as error:
        for facts in nic.pfs():
            if facts.device == name.lower() or facts.device == f"0000:{name.lower()}":
                return facts
        raise VfNameError(
            error.what, host=error.host, pf=name, why=error.why, next_step="'vferry list' shows what there is"
        ) from error


def _by_address(nic: Nic, address: str) -> VfRef:
    for pf in nic.pfs():
        for vf in nic.vfs(pf.name):
            if vf.address == address:
                return VfRef(pf.name, vf.index)
    raise VfNameError(
        f"find the VF {address}",
        host=nic.host().hostname,
        why="no PF of this host has a VF of that address",
        next_step="'vferry list' shows what there is",
    )


def resolve_all(nic: Nic, texts: Sequence[str]) -> list[VfRef]:
    """Resolve several VFs.

    :raise VfNameError: one of them is no VF's name, or two name the same VF.
    """
    refs = [resolve(nic, text) for text in texts]
    _refuse_twice(refs)
    return refs


def _refuse_twice(refs: Sequence[VfRef]) -> None:
    twice = next((ref for ref in refs if refs.count(ref) > 1), None)
    if twice is not None:
        raise VfNameError("take these VFs", pf=twice.pf, vf=twice.vf, why="a VF is named twice")


def pair_up(nic: Nic, record: Record, texts: Sequence[str]) -> list[Pair]:
    """Pair the saved VFs with where they are to live: ``SAVED=VF`` by name, the others in their order.

    :raise VfNameError: the counts differ, a name is unknown, or something is named twice.
    """
    if len(texts) != len(record.vfs):
        raise VfNameError(
            "pair saved VFs with VFs",
            why=f"the record holds {len(record.vfs)} VFs ({_names(record)}), {len(texts)} are named",
            next_step="name one VF for each saved VF, in their order, or SAVED=VF",
        )
    chosen: dict[str, str] = {}
    in_order: list[str] = []
    for text in texts:
        saved, equals, target = text.partition("=")
        if not equals:
            in_order.append(text)
            continue
        name = _saved_named(record, saved).name
        if name in chosen:
            raise VfNameError("pair saved VFs with VFs", why=f"{saved} is paired twice")
        chosen[name] = target
    remaining = iter(in_order)
    pairs = [(vf, resolve(nic, chosen[vf.name] if vf.name in chosen else next(remaining))) for vf in record.vfs]
    _refuse_twice([ref for _, ref in pairs])
    return pairs


def _saved_named(record: Record, text: str) -> SavedVf:
    for vf in record.vfs:
        names = (vf.name, f"{vf.pf.name}/{vf.facts.index}", f"{vf.pf.device}/{vf.facts.index}", vf.facts.address)
        if text in names:
            return vf
    raise VfNameError(
        f"find the saved VF {text!r}", why=f"the record holds {_names(record)}", next_step="name one of those"
    )


def _names(record: Record) -> str:
    shown = [vf.name for vf in record.vfs[:8]]
    return ", ".join(shown) + (", ..." if len(record.vfs) > len(shown) else "")


def declarations(nic: Nic, texts: Sequence[str], option: str) -> dict[VfRef, str]:
    """Parse ``VF=VALUE`` options.

    :raise VfNameError: one has no ``=``, or a VF stands twice.
    """
    found: dict[VfRef, str] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not equals:
            raise VfNameError(f"understand {option} {text!r}", why=f"it takes VF=VALUE, as {option} eth0/3={text}")
        ref = resolve(nic, name)
        if ref in found:
            raise VfNameError(f"understand {option}", pf=ref.pf, vf=ref.vf, why="this VF is declared twice")
        found[ref] = value
    return found
