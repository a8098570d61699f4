# SPDX-License-Identifier: Apache-2.0
"""The verbs that change a NIC, each as: a world, the command, its undo, and what the new state looks like."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.verbs.world import FENCE, new_host, pairs_of, record_of, settings, source, tables_of, terms_of
from vferry.core.policy import Policy
from vferry.core.record import Record
from vferry.testing import IGB_LIKE, NETDEVSIM_LIKE, RESETTING, Behaviour, MemoryJournal, MemoryNic, SimClock
from vferry.verbs.check import Terms
from vferry.verbs.context import Context, VfRef
from vferry.verbs.fence import NotFencedError, fence, unfence
from vferry.verbs.probe import probe
from vferry.verbs.release import release
from vferry.verbs.restore import NothingToUndoError, restore, undo_restore

ONE = (VfRef("eth0", 3),)
TWO = (VfRef("eth0", 3), VfRef("eth0", 4))
TWO_PFS = (VfRef("eth0", 3), VfRef("eth1", 2))
THREE = (*TWO, VfRef("eth1", 2))


class World(NamedTuple):
    nic: MemoryNic
    journal: MemoryJournal


class Case(NamedTuple):
    """One command."""

    name: str
    make: Callable[[], World]
    run: Callable[[Context], object]
    undo: Callable[[Context], object] | None
    """The command that takes it back; None: there is none, it is its own undo or is never undone."""
    refs: Sequence[VfRef]
    stays_on_record: bool = False
    """The new state has completed records (a fence)."""

    def __str__(self) -> str:
        return self.name

    def new_settings(self) -> object:
        """The settings of the host after an undisturbed run."""
        world = self.make()
        self.run(Context(world.nic, world.journal, SimClock()))
        return settings(world.nic)

    def recover_by_undo(self, context: Context) -> None:
        """Take it back; that there is nothing to take back is fine, too."""
        assert self.undo is not None
        with contextlib.suppress(NothingToUndoError, NotFencedError):
            self.undo(context)


def restore_case(name: str, behaviour: Behaviour, refs: Sequence[VfRef], *, known: bool = True) -> Case:
    record: Record = record_of(source(behaviour, refs), refs)
    terms = terms_of(new_host("b", behaviour), behaviour) if known else Terms(policy=Policy())
    return Case(
        name,
        lambda: World(new_host("b", behaviour), MemoryJournal()),
        lambda context: restore(context, record, pairs_of(record, refs), terms),
        lambda context: undo_restore(context, refs),
        refs,
    )


def fence_case(name: str, behaviour: Behaviour, refs: Sequence[VfRef]) -> Case:
    return Case(
        name,
        lambda: World(source(behaviour, refs), MemoryJournal()),
        lambda context: fence(context, refs, FENCE),
        lambda context: unfence(context, refs),
        refs,
        stays_on_record=True,
    )


def fenced(behaviour: Behaviour, refs: Sequence[VfRef]) -> World:
    world = World(source(behaviour, refs), MemoryJournal())
    fence(Context(world.nic, world.journal, SimClock()), refs, FENCE)
    return world


def fence_again_case(name: str, behaviour: Behaviour, refs: Sequence[VfRef]) -> Case:
    """The first VF is fenced already: neither a failure nor a crash may ever let its frames in."""
    return Case(
        name,
        lambda: _part_fenced(behaviour, refs),
        lambda context: fence(context, refs, FENCE),
        None,
        refs,
        stays_on_record=True,
    )


def _part_fenced(behaviour: Behaviour, refs: Sequence[VfRef]) -> World:
    world = World(source(behaviour, refs), MemoryJournal())
    fence(Context(world.nic, world.journal, SimClock()), refs[:1], FENCE)
    return world


def unfence_case(name: str, behaviour: Behaviour, refs: Sequence[VfRef]) -> Case:
    def run(context: Context) -> None:
        with contextlib.suppress(NotFencedError):  # the last crash may have come after the last step
            unfence(context, refs)

    return Case(
        name,
        lambda: fenced(behaviour, refs),
        run,
        lambda context: fence(context, refs, FENCE),
        refs,
    )


def release_case(name: str, behaviour: Behaviour, refs: Sequence[VfRef], *, fence_first: bool) -> Case:
    tables = tables_of(new_host("a", behaviour), behaviour)
    return Case(
        name,
        lambda: fenced(behaviour, refs) if fence_first else World(source(behaviour, refs), MemoryJournal()),
        lambda context: release(context, refs, tables),
        None,
        refs,
    )


def probe_case(name: str, behaviour: Behaviour) -> Case:
    return Case(
        name,
        lambda: World(new_host("b", behaviour), MemoryJournal()),
        lambda context: probe(context, "eth0"),
        None,
        (VfRef("eth0", 4),),
    )


RESTORES = (
    restore_case("restore one", IGB_LIKE, ONE),
    restore_case("restore two", NETDEVSIM_LIKE, TWO),
    restore_case("restore on two PFs", IGB_LIKE, TWO_PFS),
    restore_case("restore three, resetting", RESETTING, THREE),
)
LEARNING = restore_case("restore after a probe", IGB_LIKE, TWO_PFS, known=False)
FENCES = (
    fence_case("fence one", IGB_LIKE, ONE),
    fence_case("fence two", NETDEVSIM_LIKE, TWO),
    fence_case("fence on two PFs", IGB_LIKE, TWO_PFS),
    fence_case("fence three, resetting", RESETTING, THREE),
)
FENCES_AGAIN = (
    fence_again_case("fence again", IGB_LIKE, ONE),
    fence_again_case("fence one more", IGB_LIKE, TWO_PFS),
)
UNFENCES = (
    unfence_case("unfence one", IGB_LIKE, ONE),
    unfence_case("unfence three", RESETTING, THREE),
)
RELEASES = (
    release_case("release", IGB_LIKE, TWO_PFS, fence_first=False),
    release_case("release of fenced ones", IGB_LIKE, TWO, fence_first=True),
)
PROBES = (probe_case("probe", NETDEVSIM_LIKE), probe_case("probe, resetting", RESETTING))
