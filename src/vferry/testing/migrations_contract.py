# SPDX-License-Identifier: Apache-2.0
"""What every :class:`~vferry.ports.migrations.MigrationJournal` must do; needs pytest.

.. code-block:: python

    class TestMyMigrationJournal(MigrationsContract):
        @pytest.fixture
        def journals(self) -> MigrationJournals: ...
"""

# ruff: noqa: S101 - asserts are how tests speak

from __future__ import annotations

from typing import Protocol

import msgspec
import pytest

from vferry.core.fence import Mode
from vferry.core.migration.messages import VfTarget
from vferry.core.migration.phases import DestinationPhase, Role, SourcePhase
from vferry.core.migration.tables import Order, first_phase
from vferry.core.ownership import Token
from vferry.ports.migrations import MigrationEntry, MigrationJournal, MigrationJournalError

__all__ = ["MigrationJournals", "MigrationsContract", "migration_entry"]


class MigrationJournals(Protocol):
    """One store, and the processes that come and go over it."""

    def open(self) -> MigrationJournal:
        """Return the journal as a new process finds it."""
        ...

    def stored(self, migration: str, role: Role) -> bytes:
        """Return the stored bytes of an entry as they are."""
        ...

    def store(self, migration: str, role: Role, data: bytes) -> None:
        """Store any bytes in the place of an entry that is there."""
        ...


def migration_entry(migration: str = "m1", role: Role = Role.SOURCE) -> MigrationEntry:
    """Return some entry in its role's first phase."""
    return MigrationEntry(
        migration=migration,
        vm="vm1",
        role=role,
        order=Order.DEVICE_STATE,
        phase=first_phase(role).value,
        source="a",
        destination="b",
        mode=Mode.DEVICE_STATE,
        boot_id="boot",
        token=Token(1, 7),
        targets=(VfTarget(saved="eth0/1", pf="eth9", vf=3),),
        history=("claim 2026-01-01T00:00:00.000Z",),
    )


class MigrationsContract:
    """Derive a test class from this and give it a ``journals`` fixture."""

    @pytest.fixture
    def journals(self) -> MigrationJournals:
        """Return an empty store."""
        raise NotImplementedError

    def test_nothing_is_on_record_at_first(self, journals: MigrationJournals) -> None:
        """An empty store is no error, and may be told to forget."""
        assert journals.open().entries() == ()
        assert journals.open().read("m1", Role.SOURCE) is None
        journals.open().forget("m1", Role.SOURCE)
        assert journals.open().entries() == ()

    def test_an_entry_outlives_the_process(self, journals: MigrationJournals) -> None:
        """Another process reads exactly what was written."""
        journals.open().write(migration_entry())
        assert journals.open().read("m1", Role.SOURCE) == migration_entry()
        assert journals.open().entries() == (migration_entry(),)

    def test_an_entry_may_be_large(self, journals: MigrationJournals) -> None:
        """Records, states of VFs, reasons: they come back to the last octet."""
        large = msgspec.structs.replace(
            migration_entry(),
            record=bytes(range(256)) * 4096,
            states=(b"\xff" * (1 << 20), b"", b"\0"),
            identities=(b"i",) * 256,
            history=("ß\n" * 64,) * 256,
            why="\0 \N{SNOWMAN} \x1b[31m",
            uri="tcp:[fd00::1]:49152",
            carried=True,
            token=None,
        )
        journals.open().write(large)
        assert journals.open().read("m1", Role.SOURCE) == large

    @pytest.mark.parametrize("role", Role)
    def test_every_phase_can_be_written(self, journals: MigrationJournals, role: Role) -> None:
        """The newest is what is there."""
        journal = journals.open()
        for phase in SourcePhase if role is Role.SOURCE else DestinationPhase:
            entry = msgspec.structs.replace(migration_entry(role=role), phase=phase.value)
            journal.write(entry)
            assert journals.open().read("m1", role) == entry
        assert len(journals.open().entries()) == 1

    def test_both_roles_of_one_migration_have_a_place(self, journals: MigrationJournals) -> None:
        """A VM may move between two services of one host."""
        entries = (migration_entry(role=Role.DESTINATION), migration_entry(role=Role.SOURCE))
        for entry in entries:
            journals.open().write(entry)
        assert journals.open().entries() == entries
        journals.open().forget("m1", Role.DESTINATION)
        assert journals.open().read("m1", Role.DESTINATION) is None
        assert journals.open().entries() == entries[1:]

    def test_entries_come_oldest_first(self, journals: MigrationJournals) -> None:
        """In the order of their first writing; one that was forgotten begins anew."""
        journal = journals.open()
        for name in ("m2", "m1", "m3"):
            journal.write(migration_entry(name))
        newer = msgspec.structs.replace(migration_entry("m2"), phase=SourcePhase.OFFER.value)
        journal.write(newer)
        assert journals.open().entries() == (newer, migration_entry("m1"), migration_entry("m3"))
        journal.forget("m1", Role.SOURCE)
        journal.write(migration_entry("m1"))
        assert [entry.migration for entry in journals.open().entries()] == ["m2", "m3", "m1"]

    def test_every_migration_has_a_place_of_its_own(self, journals: MigrationJournals) -> None:
        """Whatever it is called."""
        names = ["m", "M", "m ", "%", "'; DROP TABLE entries; --", "../m", "m/source", "\u20ac" * 256]
        for name in names:
            journals.open().write(migration_entry(name))
        assert [entry.migration for entry in journals.open().entries()] == names
        for name in names:
            assert journals.open().read(name, Role.SOURCE) == migration_entry(name)

    @pytest.mark.parametrize("keep", [None, 0, 1, 40, -1])
    def test_damage_is_an_error_and_never_an_entry(self, journals: MigrationJournals, keep: int | None) -> None:
        """It names the migration, hides no other, and can be forgotten or written anew."""
        journal = journals.open()
        journal.write(migration_entry("broken"))
        journal.write(migration_entry("m2"))
        data = journals.stored("broken", Role.SOURCE)
        for mend in (True, False):
            journals.store("broken", Role.SOURCE, b"\0" + data[1:] if keep is None else data[:keep])
            with pytest.raises(MigrationJournalError, match="broken"):
                journals.open().read("broken", Role.SOURCE)
            with pytest.raises(MigrationJournalError, match="broken"):
                journals.open().entries()
            assert journals.open().read("m2", Role.SOURCE) == migration_entry("m2")
            if mend:
                journals.open().write(migration_entry("broken"))
                assert journals.open().read("broken", Role.SOURCE) == migration_entry("broken")
        journals.open().forget("broken", Role.SOURCE)
        assert journals.open().entries() == (migration_entry("m2"),)

    @pytest.mark.parametrize(
        "other", [migration_entry("m2"), migration_entry("m1", Role.DESTINATION)], ids=["migration", "role"]
    )
    def test_an_entry_in_anothers_place_is_damage(self, journals: MigrationJournals, other: MigrationEntry) -> None:
        """A side must never go on from the other's phase."""
        journals.open().write(migration_entry("m1"))
        journals.open().write(other)
        journals.store(other.migration, other.role, journals.stored("m1", Role.SOURCE))
        with pytest.raises(MigrationJournalError, match=other.migration):
            journals.open().read(other.migration, other.role)
        with pytest.raises(MigrationJournalError, match=other.migration):
            journals.open().entries()

    @pytest.mark.parametrize("field", ["quorum", "phase"])
    def test_an_entry_of_a_newer_form_is_refused(self, journals: MigrationJournals, field: str) -> None:
        """A field or a phase that is not known: it is not acted upon."""
        journals.open().write(migration_entry())
        fields = msgspec.msgpack.decode(journals.stored("m1", Role.SOURCE))
        journals.store("m1", Role.SOURCE, msgspec.msgpack.encode({**fields, field: "dance"}))
        with pytest.raises(MigrationJournalError, match="m1"):
            journals.open().read("m1", Role.SOURCE)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"phase": "dance"},
            {"phase": DestinationPhase.READY.value},
            {"history": ("",) * 257},
            {"identities": (b"",) * 257},
            {"vm": ""},
            {"source": "a\nb"},
            {"boot_id": "x" * 257},
            {"why": "\udc80"},
            {"token": Token(-1, 0)},
            {"token": Token(1, 1 << 64)},
        ],
        ids=str,
    )
    def test_what_could_not_be_read_again_is_not_written(
        self, journals: MigrationJournals, wrong: dict[str, object]
    ) -> None:
        """The old entry stays."""
        journals.open().write(migration_entry())
        with pytest.raises(MigrationJournalError, match="m1"):
            journals.open().write(msgspec.structs.replace(migration_entry(), **wrong))
        assert journals.open().entries() == (migration_entry(),)
