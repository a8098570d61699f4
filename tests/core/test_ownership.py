# SPDX-License-Identifier: Apache-2.0
"""Every arrow of the stage diagram, every one that is not in it, and what no sequence of steps can do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vferry.core.errors import UsageError
from vferry.core.ownership import (
    NotOursError,
    OwnedVf,
    Ownership,
    Stage,
    Token,
    adopted,
    committed,
    opened,
    recalled,
    settled,
)
from vferry.ports.registry import Entry, StaleTokenError
from vferry.testing.memory_registry import MemoryRegistry
from vferry.testing.registry_contract import identity

VFS = (OwnedVf(pf="eth0", vf=1), OwnedVf(pf="eth1", vf=2))
MOVED = (OwnedVf(pf="eth9", vf=3),)

SETTLED = adopted("vm1", "a", vfs=VFS, identities=(identity(),))
OPEN = opened(SETTLED, "m1", source="a", destination="b")
ABORTING = recalled(OPEN, "m1")
COMMITTED = committed(OPEN, "m1")
ENTRIES = {"settled": SETTLED, "open": OPEN, "aborting": ABORTING, "committed": COMMITTED}

Step = Callable[[Ownership], Ownership]


def settling(migration: str, owner: str) -> Step:
    return lambda entry: settled(entry, migration, owner=owner)


STEPS: dict[str, Step] = {
    "open m1": lambda entry: opened(entry, "m1", source="a", destination="b"),
    "open m2": lambda entry: opened(entry, "m2", source="a", destination="c"),
    "open m2 from elsewhere": lambda entry: opened(entry, "m2", source="c", destination="b"),
    "commit m1": lambda entry: committed(entry, "m1"),
    "commit m2": lambda entry: committed(entry, "m2"),
    "recall m1": lambda entry: recalled(entry, "m1"),
    "recall m2": lambda entry: recalled(entry, "m2"),
    **{f"settle {migration} on {owner}": settling(migration, owner) for migration in ("m1", "m2") for owner in "abc"},
}


class After(NamedTuple):
    """What an arrow changes."""

    stage: Stage
    owner: str
    generation: int
    migration: str | None


ARROWS: dict[tuple[str, str], After] = {
    ("settled", "open m1"): After(Stage.OPEN, "a", 0, "m1"),
    ("settled", "open m2"): After(Stage.OPEN, "a", 0, "m2"),
    ("open", "commit m1"): After(Stage.COMMITTED, "b", 1, "m1"),
    ("open", "recall m1"): After(Stage.ABORTING, "a", 0, "m1"),
    ("open", "settle m1 on a"): After(Stage.SETTLED, "a", 0, None),
    ("aborting", "settle m1 on a"): After(Stage.SETTLED, "a", 0, None),
    ("committed", "settle m1 on b"): After(Stage.SETTLED, "b", 1, None),
    ("committed", "settle m1 on a"): After(Stage.SETTLED, "a", 2, None),
}
"""The diagram of vferry.core.ownership."""

AGAIN = {("open", "open m1"), ("committed", "commit m1"), ("aborting", "recall m1")}
"""Steps that are done already: the entry stays as it is."""

UNDECIDED_TO_DESTINATION = {("open", "settle m1 on b"), ("aborting", "settle m1 on b")}
"""Not in the diagram: the owner would change without a commit."""

ALL = list(product(ENTRIES, STEPS))
REFUSED = [pair for pair in ALL if pair not in ARROWS and pair not in AGAIN and pair not in UNDECIDED_TO_DESTINATION]


@pytest.mark.parametrize(("stage", "step"), ARROWS)
def test_an_arrow_leads_where_the_diagram_says(stage: str, step: str) -> None:
    after = STEPS[step](ENTRIES[stage])
    assert After(after.stage, after.owner, after.generation, after.migration) == ARROWS[stage, step]
    assert (after.vm, after.vfs, after.identities) == ("vm1", VFS, (identity(),)), "and changes nothing else"
    hosts = (None, None) if after.stage is Stage.SETTLED else ("a", "c" if after.migration == "m2" else "b")
    assert (after.source, after.destination) == hosts


@pytest.mark.parametrize(("stage", "step"), sorted(AGAIN))
def test_a_step_that_is_done_already_changes_nothing(stage: str, step: str) -> None:
    assert STEPS[step](ENTRIES[stage]) == ENTRIES[stage]


@pytest.mark.parametrize(("stage", "step"), REFUSED)
def test_what_is_no_arrow_is_refused(stage: str, step: str) -> None:
    with pytest.raises(NotOursError) as raised:
        STEPS[step](ENTRIES[stage])
    assert raised.value.entry == ENTRIES[stage]
    assert raised.value.host == ENTRIES[stage].owner
    assert "VM vm1" in raised.value.what


@pytest.mark.parametrize(("stage", "step"), sorted(UNDECIDED_TO_DESTINATION))
def test_the_owner_does_not_change_without_a_commit(stage: str, step: str) -> None:
    with pytest.raises(NotOursError):
        STEPS[step](ENTRIES[stage])


def test_a_migration_has_two_sides() -> None:
    """Committed, it would grow the generation of a VM that never moved."""
    with pytest.raises(UsageError):
        opened(SETTLED, "m1", source="a", destination="a")


def test_the_same_migration_to_another_host_is_another_one() -> None:
    with pytest.raises(NotOursError):
        opened(OPEN, "m1", source="a", destination="c")


def test_settling_forgets_its_migration() -> None:
    """The one step that cannot be told from never having begun: who repeats it reads the owner instead."""
    for entry, owner in ((OPEN, "a"), (COMMITTED, "b"), (COMMITTED, "a")):
        after = settled(entry, "m1", owner=owner)
        with pytest.raises(NotOursError, match="no migration is open"):
            settled(after, "m1", owner=owner)


def test_vfs_change_with_the_owner() -> None:
    """They are the VM's VFs on its owner, and stay where nothing is said."""
    there = committed(OPEN, "m1", vfs=MOVED)
    assert there.vfs == MOVED
    assert committed(there, "m1", vfs=VFS) == there, "the first commit counts"
    assert settled(there, "m1", owner="b").vfs == MOVED
    assert settled(there, "m1", owner="a", vfs=VFS).vfs == VFS
    assert settled(there, "m1", owner="b", vfs=()).vfs == ()


def test_the_first_entry() -> None:
    assert adopted("vm1", "a") == Ownership(vm="vm1", owner="a", generation=0, stage=Stage.SETTLED)
    assert (SETTLED.vfs, SETTLED.identities) == (VFS, (identity(),))


def test_an_error_says_whose_the_vm_is() -> None:
    with pytest.raises(NotOursError) as raised:
        committed(ABORTING, "m1")
    assert str(raised.value).startswith(
        "commit the migration of VM vm1 (a): a owns the VM, and migration m1 is aborting"
    )


def test_tokens_are_in_order() -> None:
    tokens = [Token(2, 1), Token(1, 9), Token(1, 10), Token(0, 99)]
    assert sorted(tokens) == [Token(0, 99), Token(1, 9), Token(1, 10), Token(2, 1)]
    assert str(Token(1, 10)) == "1.10"


# Any sequence of steps

HOSTS = ("a", "b")
MIGRATIONS = ("m1", "m2")


class Act(NamedTuple):
    """One host reads, or tries one step with what it has read."""

    host: str
    kind: str
    migration: str


ACTS = st.builds(
    Act,
    st.sampled_from(HOSTS),
    st.sampled_from(["read", "open", "commit", "recall", "settle here", "settle there"]),
    st.sampled_from(MIGRATIONS),
)


def step(entry: Ownership, act: Act) -> Ownership:
    other = HOSTS[act.host == HOSTS[0]]
    if act.kind == "open":
        return opened(entry, act.migration, source=act.host, destination=other)
    if act.kind == "commit":
        return committed(entry, act.migration)
    if act.kind == "recall":
        return recalled(entry, act.migration)
    return settled(entry, act.migration, owner=act.host if act.kind == "settle here" else other)


class Walk:
    """Two hosts and their registry; each host acts on the entry that it read last, however old."""

    def __init__(self) -> None:
        self.registry = MemoryRegistry()
        self.history: list[Entry] = []
        self.seen: dict[str, Entry] = {}

    async def run(self, acts: list[Act]) -> None:
        self.history = [await self.registry.create(SETTLED)]
        self.seen = dict.fromkeys(HOSTS, self.history[0])
        for act in acts:
            if act.kind == "read":
                self.seen[act.host] = self.history[-1]
            else:
                await self.change(act)
            assert await self.registry.entries() == (self.history[-1],)

    async def change(self, act: Act) -> None:
        seen = self.seen[act.host]
        try:
            wanted = step(seen.ownership, act)
            after = await self.registry.replace(wanted, seen.token)
        except (NotOursError, StaleTokenError):
            return
        before = self.history[-1].ownership
        assert seen == self.history[-1], "only who saw the newest entry changes it"
        assert before.migration in (None, act.migration), "another migration's entry is never changed"
        self.history.append(after)
        self.seen[act.host] = after


def the_whole_way(migration: str, source: str, destination: str) -> list[Act]:
    kinds = [(source, "read"), (source, "open"), (destination, "read"), (destination, "commit")]
    return [Act(host, kind, migration) for host, kind in [*kinds, (destination, "settle here")]]


@settings(deadline=None, max_examples=300)
@given(st.lists(ACTS, max_size=40))
@example(the_whole_way("m1", "a", "b") + the_whole_way("m2", "b", "a"))
def test_no_sequence_of_steps_makes_two_owners(acts: list[Act]) -> None:
    walk = Walk()
    asyncio.run(walk.run(acts))
    owners: dict[int, str] = {}
    for entry in walk.history:
        assert entry.ownership.owner in HOSTS
        assert owners.setdefault(entry.ownership.generation, entry.ownership.owner) == entry.ownership.owner
    for before, after in zip(walk.history, walk.history[1:], strict=False):
        moved = before.ownership.owner != after.ownership.owner
        assert after.ownership.generation - before.ownership.generation == moved
        assert after.token > before.token
        idle = after.ownership.stage is Stage.SETTLED
        assert idle == (after.ownership.migration is None)
        assert {after.ownership.source, after.ownership.destination} == ({None} if idle else set(HOSTS))
        kept = ("vm", "vfs", "identities")
        assert [getattr(after.ownership, name) for name in kept] == [getattr(SETTLED, name) for name in kept]


def test_the_sequences_reach_what_they_are_about() -> None:
    """Otherwise the property above would hold of nothing."""
    walk = Walk()
    asyncio.run(walk.run(the_whole_way("m1", "a", "b") + the_whole_way("m2", "b", "a")))
    assert [(entry.ownership.stage, entry.ownership.owner) for entry in walk.history] == [
        (Stage.SETTLED, "a"),
        (Stage.OPEN, "a"),
        (Stage.COMMITTED, "b"),
        (Stage.SETTLED, "b"),
        (Stage.OPEN, "b"),
        (Stage.COMMITTED, "a"),
        (Stage.SETTLED, "a"),
    ]
    assert walk.history[-1].ownership == msgspec.structs.replace(SETTLED, generation=2)
