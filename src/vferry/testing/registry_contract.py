# SPDX-License-Identifier: Apache-2.0
"""What every :class:`~vferry.ports.registry.Registry` must do; needs pytest, and AnyIO's plugin of it.

.. code-block:: python

    class TestMyRegistry(RegistryContract):
        @pytest.fixture
        def registries(self) -> Registries: ...
"""

# ruff: noqa: S101 - asserts are how tests speak

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec
import pytest

from vferry.core.ownership import (
    Identity,
    NotOursError,
    OwnedVf,
    Ownership,
    Token,
    adopted,
    committed,
    opened,
    recalled,
    settled,
)
from vferry.ports.registry import Entry, IdentityTakenError, Registry, RegistryError, StaleTokenError, TakenError

__all__ = ["Registries", "RegistryContract", "identity", "owned"]

NOWHERE = Token(1, 0)
"""No entry ever has it: the first revision is 1."""


class Registries(Protocol):
    """One store, and the processes that come and go over it."""

    def open(self, *, epoch: int = 1) -> Registry:
        """Return the registry as a new process finds it."""
        ...

    async def value(self, vm: str) -> bytes:
        """Return the stored value of a VM as it is."""
        ...

    async def put_value(self, vm: str, value: bytes) -> None:
        """Store any bytes as the value of a VM that has one."""
        ...


def identity(number: int = 1, *, segment: str = "physnet1", vlan: int = 0, shared: bool = False) -> Identity:
    """Return some address."""
    return Identity(segment=segment, vlan=vlan, mac=f"52:54:00:00:00:{number:02x}", shared=shared)


def owned(vm: str = "vm1", *identities: Identity, owner: str = "a") -> Ownership:
    """Return some first entry."""
    return adopted(vm, owner, vfs=(OwnedVf(pf="eth0", vf=1),), identities=identities)


class RegistryContract:
    """Derive a test class from this and give it a ``registries`` fixture."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        """The races below are asyncio's."""
        return "asyncio"

    @pytest.fixture
    def registries(self) -> Registries:
        """Return an empty store."""
        raise NotImplementedError

    # One key

    async def test_nothing_is_owned_at_first(self, registries: Registries) -> None:
        """An empty store is no error."""
        assert await registries.open().entries() == ()
        assert await registries.open().read("vm1") is None

    async def test_an_entry_outlives_the_process(self, registries: Registries) -> None:
        """Another process reads exactly what was stored, under the token that was answered."""
        entry = await registries.open().create(owned("vm1", identity()))
        assert entry.ownership == owned("vm1", identity())
        assert await registries.open().read("vm1") == entry
        assert await registries.open().entries() == (entry,)

    async def test_only_the_first_creates(self, registries: Registries) -> None:
        """The second is told what is there."""
        first = await registries.open().create(owned("vm1", owner="a"))
        with pytest.raises(TakenError) as raised:
            await registries.open().create(owned("vm1", owner="b"))
        assert raised.value.entry == first
        assert await registries.open().read("vm1") == first

    async def test_every_change_gives_a_greater_token(self, registries: Registries) -> None:
        """One counter for all keys; a change to the same value counts, and so does a removal in between."""
        registry = registries.open()
        tokens = [(await registry.create(owned("vm1"))).token, (await registry.create(owned("vm2"))).token]
        tokens.append((await registry.replace(owned("vm1"), tokens[0])).token)
        tokens.append((await registry.replace(owned("vm1", owner="b"), tokens[2])).token)
        await registry.delete("vm1", tokens[3])
        tokens.append((await registries.open().create(owned("vm1"))).token)
        assert tokens == sorted(set(tokens))
        assert tokens[4].revision > tokens[3].revision + 1, "the removal was a change"
        assert {token.epoch for token in tokens} == {1}

    async def test_a_stale_token_changes_nothing(self, registries: Registries) -> None:
        """Whoever saw an older entry is told what is there now."""
        registry = registries.open()
        first = await registry.create(owned("vm1"))
        second = await registry.replace(owned("vm1", owner="b"), first.token)
        wrong = [first.token, NOWHERE, Token(1, second.token.revision + 1), Token(2, second.token.revision)]
        for token in wrong:
            for act in (registry.replace(owned("vm1", owner="c"), token), registry.delete("vm1", token)):
                with pytest.raises(StaleTokenError) as raised:
                    await act
                assert raised.value.expected == token
                assert raised.value.entry == second
        assert await registries.open().entries() == (second,)

    async def test_another_keys_token_does_not_fit(self, registries: Registries) -> None:
        """Tokens are of one key."""
        registry = registries.open()
        one, other = await registry.create(owned("vm1")), await registry.create(owned("vm2"))
        with pytest.raises(StaleTokenError):
            await registry.replace(owned("vm1", owner="b"), other.token)
        assert await registry.entries() == (one, other)

    async def test_what_is_not_there_is_stale(self, registries: Registries) -> None:
        """Neither replaced nor removed, nor made by a replacement."""
        registry = registries.open()
        gone = await registry.create(owned("vm1"))
        await registry.delete("vm1", gone.token)
        for vm, token in (("vm1", gone.token), ("vm2", NOWHERE)):
            for act in (registry.replace(owned(vm), token), registry.delete(vm, token)):
                with pytest.raises(StaleTokenError) as raised:
                    await act
                assert raised.value.entry is None
        assert await registries.open().entries() == ()

    async def test_entries_come_in_the_order_of_their_names(self, registries: Registries) -> None:
        """By code point, whatever was written last; every name has a place of its own."""
        names = ["%", "'; DROP TABLE entries; --", "../x", "/", "VM", "a/b", "a/b/", "vm", "vm1", "vm10", "vm2", "ß"]
        names.append("\u20ac" * 256)
        registry = registries.open()
        made = {name: await registry.create(owned(name)) for name in reversed(names)}
        assert await registries.open().entries() == tuple(made[name] for name in sorted(names))
        for name in names:
            assert await registry.read(name) == made[name]
        assert await registry.read("v") is None
        assert await registry.read("\udc80") is None, "no such name can be stored"

    # Races

    async def test_of_two_with_the_same_token_one_wins(self, registries: Registries) -> None:
        """Commit and recall of one open migration, at once: the loser's step is over."""
        for number in range(4):
            vm = f"vm{number}"
            one, other = registries.open(), registries.open()
            entry = await one.create(owned(vm))
            entry = await one.replace(opened(entry.ownership, "m", source="a", destination="b"), entry.token)
            outcomes = await asyncio.gather(
                other.replace(committed(entry.ownership, "m"), entry.token),
                one.replace(recalled(entry.ownership, "m"), entry.token),
                return_exceptions=True,
            )
            (won,) = [outcome for outcome in outcomes if isinstance(outcome, Entry)]
            (lost,) = [outcome for outcome in outcomes if not isinstance(outcome, Entry)]
            assert isinstance(lost, StaleTokenError)
            assert await one.read(vm) == won
            for step in (committed, recalled):
                if step(entry.ownership, "m") != won.ownership:
                    with pytest.raises(NotOursError):
                        step(won.ownership, "m")

    async def test_of_many_that_create_one_wins(self, registries: Registries) -> None:
        """The others see the winner's entry."""
        creations = [registries.open().create(owned("vm1", owner=f"host{number}")) for number in range(8)]
        outcomes = await asyncio.gather(*creations, return_exceptions=True)
        (won,) = [outcome for outcome in outcomes if isinstance(outcome, Entry)]
        lost = [outcome.entry for outcome in outcomes if isinstance(outcome, TakenError)]
        assert lost == [won] * 7

    async def test_a_migration_from_end_to_end(self, registries: Registries) -> None:
        """Four entries in turn, each read by the other side."""
        source, destination = registries.open(), registries.open()
        entry = await source.create(owned("vm1", identity()))
        entry = await source.replace(opened(entry.ownership, "m", source="a", destination="b"), entry.token)
        seen = await destination.read("vm1")
        assert seen == entry
        moved = (OwnedVf(pf="eth9", vf=3),)
        entry = await destination.replace(committed(entry.ownership, "m", vfs=moved), entry.token)
        assert await source.read("vm1") == entry
        entry = await destination.replace(settled(entry.ownership, "m", owner="b"), entry.token)
        assert entry.ownership == msgspec.structs.replace(owned("vm1", identity(), owner="b"), generation=1, vfs=moved)
        assert await source.entries() == (entry,)

    # Addresses

    async def test_an_address_belongs_to_one_vm(self, registries: Registries) -> None:
        """It is refused at creation and at a change, and nothing was changed, other addresses included."""
        registry = registries.open()
        first = await registry.create(owned("vm1", identity(1)))
        second = await registry.create(owned("vm2", identity(2)))
        with pytest.raises(IdentityTakenError) as raised:
            await registries.open().create(owned("vm3", identity(3), identity(1)))
        assert (raised.value.identity, raised.value.owner_vm) == (identity(1), "vm1")
        with pytest.raises(IdentityTakenError):
            await registries.open().replace(owned("vm2", identity(4), identity(1)), second.token)
        assert await registries.open().entries() == (first, second)
        await registry.create(owned("vm4", identity(3), identity(4)))
        with pytest.raises(IdentityTakenError):
            await registry.create(owned("vm5", identity(2)))

    async def test_another_network_or_mac_is_another_address(self, registries: Registries) -> None:
        """Segment, VLAN and MAC make an address, together, whichever is stored first."""
        registry = registries.open()
        addresses = [identity(1), identity(2), identity(1, segment="physnet2"), identity(1, segment="physnet10")]
        addresses += [identity(1, vlan=1), identity(1, vlan=4094)]
        for order in (addresses, addresses[::-1]):
            made = [await registry.create(owned(f"vm{at}", address)) for at, address in enumerate(order)]
            for entry in made:
                await registry.delete(entry.ownership.vm, entry.token)

    async def test_a_vm_keeps_its_own_addresses(self, registries: Registries) -> None:
        """A change may leave them, drop them, and take them back; a VM may have one twice."""
        registry = registries.open()
        entry = await registry.create(owned("vm1", identity(1), identity(2), identity(1)))
        for addresses in ([identity(1), identity(2)], [identity(2)], [], [identity(1)], [identity(1, shared=True)]):
            entry = await registry.replace(owned("vm1", *addresses, owner="b"), entry.token)
            assert await registries.open().read("vm1") == entry

    async def test_an_address_is_free_once_it_is_dropped(self, registries: Registries) -> None:
        """By a change as by a removal."""
        registry = registries.open()
        first = await registry.create(owned("vm1", identity(1), identity(2)))
        first = await registry.replace(owned("vm1", identity(2)), first.token)
        await registry.create(owned("vm2", identity(1)))
        with pytest.raises(IdentityTakenError):
            await registry.create(owned("vm3", identity(2)))
        await registry.delete("vm1", first.token)
        await registry.create(owned("vm3", identity(2)))

    async def test_an_address_is_shared_if_all_say_so(self, registries: Registries) -> None:
        """Not if either of them alone does, nor any more once one would take it back."""
        registry = registries.open()
        alone, shared = identity(1), identity(1, shared=True)
        first = await registry.create(owned("vm1", alone))
        with pytest.raises(IdentityTakenError):
            await registry.create(owned("vm2", shared))
        first = await registry.replace(owned("vm1", shared), first.token)
        for addresses in ((alone,), (shared, alone), (alone, shared)):
            with pytest.raises(IdentityTakenError):
                await registry.create(owned("vm2", *addresses))
        second = await registry.create(owned("vm2", shared))
        await registry.create(owned("vm3", shared))
        with pytest.raises(IdentityTakenError) as raised:
            await registry.replace(owned("vm1", alone), first.token)
        assert raised.value.owner_vm == "vm2"
        assert await registries.open().read("vm1") == first
        assert await registries.open().read("vm2") == second

    async def test_an_older_token_is_told_before_an_address(self, registries: Registries) -> None:
        """Whoever is outdated reads first."""
        registry = registries.open()
        await registry.create(owned("vm1", identity(1)))
        await registry.create(owned("vm2"))
        with pytest.raises(StaleTokenError):
            await registry.replace(owned("vm2", identity(1)), NOWHERE)
        with pytest.raises(TakenError):
            await registry.create(owned("vm2", identity(1)))

    # Epochs and damage

    async def test_a_new_epoch_outdates_every_token(self, registries: Registries) -> None:
        """After a backup was put back, revisions repeat; the operator's number does not."""
        before = await registries.open(epoch=1).create(owned("vm1"))
        registry = registries.open(epoch=2)
        after = await registry.read("vm1")
        assert after is not None
        assert after.ownership == before.ownership
        assert after.token > before.token
        with pytest.raises(StaleTokenError):
            await registry.replace(owned("vm1", owner="b"), before.token)
        await registry.replace(owned("vm1", owner="b"), after.token)

    @pytest.mark.parametrize("keep", [None, 0, 1, 40])
    async def test_damage_is_an_error_and_never_an_entry(self, registries: Registries, keep: int | None) -> None:
        """It names the VM, hides no other, frees no address, and is not created over."""
        await registries.open().create(owned("broken", identity(1)))
        other = await registries.open().create(owned("vm2"))
        value = await registries.value("broken")
        await registries.put_value("broken", b"\0" + value[1:] if keep is None else value[:keep])
        registry = registries.open()
        for act in (registry.read("broken"), registry.entries(), registry.create(owned("broken"))):
            with pytest.raises(RegistryError, match="broken"):
                await act
        assert await registry.read("vm2") == other
        with pytest.raises(IdentityTakenError):
            await registry.create(owned("vm3", identity(1)))

    async def test_an_entry_in_anothers_place_is_damage(self, registries: Registries) -> None:
        """It must never give a VM to the wrong host."""
        await registries.open().create(owned("vm1"))
        await registries.open().create(owned("vm2"))
        await registries.put_value("vm2", await registries.value("vm1"))
        with pytest.raises(RegistryError, match="vm2"):
            await registries.open().read("vm2")
        with pytest.raises(RegistryError, match="vm2"):
            await registries.open().entries()

    async def test_a_value_of_a_newer_form_is_refused(self, registries: Registries) -> None:
        """It is not understood, so it is not acted upon."""
        await registries.open().create(owned("vm1"))
        fields = msgspec.json.decode(await registries.value("vm1"))
        await registries.put_value("vm1", msgspec.json.encode({**fields, "quorum": 3}))
        with pytest.raises(RegistryError, match="quorum"):
            await registries.open().read("vm1")

    @pytest.mark.parametrize(
        "wrong",
        [
            {"owner": ""},
            {"owner": "a\nb"},
            {"owner": "\udc80"},
            {"generation": -1},
            {"generation": 1 << 65},
            {"migration": "x" * 257},
        ],
        ids=str,
    )
    async def test_what_could_not_be_read_again_is_not_stored(
        self, registries: Registries, wrong: dict[str, str | int]
    ) -> None:
        """A frozen record does not check its fields when it is made."""
        registry = registries.open()
        entry = await registry.create(owned("vm1"))
        with pytest.raises(RegistryError, match="vm1"):
            await registry.replace(msgspec.structs.replace(owned("vm1"), **wrong), entry.token)
        with pytest.raises(RegistryError, match="vm2"):
            await registry.create(msgspec.structs.replace(owned("vm2"), **wrong))
        assert await registries.open().entries() == (entry,)
