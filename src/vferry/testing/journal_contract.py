# SPDX-License-Identifier: Apache-2.0
"""What every :class:`~vferry.ports.journal.Journal` must do; needs pytest.

.. code-block:: python

    class TestMyJournal(JournalContract):
        @pytest.fixture
        def journals(self) -> Journals: ...
"""

# ruff: noqa: S101 - asserts are how tests speak

from __future__ import annotations

from typing import Protocol

import msgspec
import pytest

from vferry.core.model import AdminState, PciState
from vferry.core.undo import UndoKind, UndoRecord, VfIdentity, VfKey
from vferry.ports.journal import Journal, JournalError

__all__ = ["JournalContract", "Journals", "undo_record"]


class Journals(Protocol):
    """One store, and the processes that come and go over it."""

    def open(self) -> Journal:
        """Return the journal as a new process finds it."""
        ...

    def damage(self, key: VfKey, keep: int | None) -> None:
        """Cut the stored record to ``keep`` octets; None: make its first octet zero."""
        ...

    def misfile(self, key: VfKey, other: VfKey) -> None:
        """Store the record of ``key`` in the place of ``other``."""
        ...


def undo_record(index: int, *, device: str = "0000:01:00.0", mac: str = "52:54:00:00:00:01") -> UndoRecord:
    """Return some undo record."""
    key = VfKey(device=device, index=index)
    return UndoRecord(
        kind=UndoKind.FENCE,
        transaction="fence 2026-01-01T00:00:00.000Z",
        lead=key,
        identity=VfIdentity(boot_id="b", pf="eth0", key=key, ifindex=3, num_vfs=7),
        before=AdminState(mac=mac, vlans=(), trust=False),
        wanted=AdminState(mac="02:00:00:00:00:01"),
        before_pci=PciState(command=6),
        started="2026-01-01T00:00:00.000Z",
        details={"levers": "parking_mac"},
    )


class JournalContract:
    """Derive a test class from this and give it a ``journals`` fixture."""

    @pytest.fixture
    def journals(self) -> Journals:
        """Return an empty store."""
        raise NotImplementedError

    def test_nothing_is_on_record_at_first(self, journals: Journals) -> None:
        """An empty store is no error."""
        assert journals.open().records() == ()
        assert journals.open().get(undo_record(1).key) is None

    def test_a_record_outlives_the_process(self, journals: Journals) -> None:
        """Another process reads exactly what was put."""
        journals.open().put(undo_record(1))
        assert journals.open().get(undo_record(1).key) == undo_record(1)
        assert journals.open().records() == (undo_record(1),)

    def test_put_replaces(self, journals: Journals) -> None:
        """One VF has one record."""
        journal = journals.open()
        journal.put(undo_record(1))
        newer = msgspec.structs.replace(undo_record(1), completed=True)
        journal.put(newer)
        assert journals.open().records() == (newer,)

    def test_remove_forgets_one_record(self, journals: Journals) -> None:
        """Others stay; what is not there may be removed too."""
        journal = journals.open()
        journal.put(undo_record(1))
        journal.put(undo_record(2))
        journal.remove(undo_record(1).key)
        journal.remove(undo_record(1).key)
        assert journals.open().records() == (undo_record(2),)

    def test_remove_before_anything_was_put(self, journals: Journals) -> None:
        """An empty store may be told to forget."""
        journals.open().remove(undo_record(1).key)
        assert journals.open().records() == ()

    def test_records_come_in_the_order_of_their_keys(self, journals: Journals) -> None:
        """By device, then by index as a number."""
        expected = [undo_record(2), undo_record(10), undo_record(0, device="0000:02:00.0")]
        for record in reversed(expected):
            journals.open().put(record)
        assert journals.open().records() == tuple(expected)

    @pytest.mark.parametrize(
        "devices",
        [
            ("0000:3b:00.0", "0001:3b:00.0"),
            ("netdevsim1", "netdevsim11"),
            (".", "..", "../a", "/a", "a/b", "a_b", "a b", "%2f", ".a", "a", "..a", "\u02f1", "/f1"),
        ],
    )
    def test_every_device_has_a_place_of_its_own(self, journals: Journals, devices: tuple[str, ...]) -> None:
        """Whatever a device is called, its record is found again and no other is lost."""
        records = [undo_record(index, device=device) for device in devices for index in (0, 1, 11)]
        for record in records:
            journals.open().put(record)
        assert journals.open().records() == tuple(sorted(records, key=lambda record: record.key))
        for record in records:
            assert journals.open().get(record.key) == record

    @pytest.mark.parametrize("keep", [None, 0, 1, 40])
    def test_damage_is_an_error_and_never_a_record(self, journals: Journals, keep: int | None) -> None:
        """A damaged record is named, does not hide the others, and can be removed."""
        journal = journals.open()
        journal.put(undo_record(1))
        journal.put(undo_record(2))
        journals.damage(undo_record(1).key, keep)
        with pytest.raises(JournalError):
            journals.open().get(undo_record(1).key)
        with pytest.raises(JournalError):
            journals.open().records()
        assert journals.open().get(undo_record(2).key) == undo_record(2)
        journals.open().remove(undo_record(1).key)
        assert journals.open().records() == (undo_record(2),)

    def test_a_record_in_anothers_place_is_damage(self, journals: Journals) -> None:
        """It must never undo the wrong VF."""
        journals.open().put(undo_record(1))
        journals.misfile(undo_record(1).key, undo_record(2).key)
        with pytest.raises(JournalError):
            journals.open().get(undo_record(2).key)
        with pytest.raises(JournalError):
            journals.open().records()

    def test_a_record_of_a_newer_format_is_refused(self, journals: Journals) -> None:
        """It is not understood, so it is not acted upon."""
        journals.open().put(msgspec.structs.replace(undo_record(1), version=2))
        with pytest.raises(JournalError):
            journals.open().get(undo_record(1).key)
