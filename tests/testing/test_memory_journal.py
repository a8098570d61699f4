# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vferry.core.model import AdminState
from vferry.core.undo import UndoKind, UndoRecord, VfIdentity, VfKey
from vferry.ports.journal import JournalError
from vferry.testing import MemoryJournal
from vferry.testing.strategies import undo_records


def record(index: int, *, mac: str = "52:54:00:00:00:01", device: str = "0000:01:00.0") -> UndoRecord:
    key = VfKey(device=device, index=index)
    return UndoRecord(
        kind=UndoKind.FENCE,
        transaction="t1",
        lead=key,
        identity=VfIdentity(boot_id="b", pf="eth0", key=key, num_vfs=7),
        before=AdminState(mac=mac),
        wanted=AdminState(mac="02:00:00:00:00:01"),
        started="2026-01-01T00:00:00Z",
    )


def test_put_replaces_and_remove_forgets() -> None:
    journal = MemoryJournal()
    journal.put(record(1))
    journal.put(record(1, mac="52:54:00:00:00:02"))
    assert journal.get(record(1).key) == record(1, mac="52:54:00:00:00:02")
    journal.remove(record(1).key)
    journal.remove(record(1).key)
    assert journal.get(record(1).key) is None


def test_records_are_in_the_order_of_their_keys() -> None:
    journal = MemoryJournal()
    expected = [record(2), record(10), record(0, device="0000:02:00.0")]
    for one in reversed(expected):
        journal.put(one)
    assert journal.records() == tuple(expected)


@settings(deadline=None)
@given(st.lists(undo_records(), max_size=4))
def test_storage_outlives_the_process(records: list[UndoRecord]) -> None:
    journal = MemoryJournal()
    for one in records:
        journal.put(one)
    assert MemoryJournal(dict(journal.storage)).records() == journal.records()
    assert {one.key: one for one in journal.records()} == {one.key: one for one in records}


@pytest.mark.parametrize("keep", [None, 0, 1, 40])
def test_damage_is_noticed_and_can_be_removed(keep: int | None) -> None:
    journal = MemoryJournal()
    journal.put(record(1))
    journal.put(record(2))
    journal.damage(record(1).key, keep=keep)
    with pytest.raises(JournalError):
        journal.get(record(1).key)
    with pytest.raises(JournalError):
        journal.records()
    assert journal.get(record(2).key) == record(2)
    journal.remove(record(1).key)
    assert journal.records() == (record(2),)


def test_a_record_under_another_key_is_damage() -> None:
    journal = MemoryJournal()
    journal.storage[record(1).key] = msgspec.json.encode(record(2))
    with pytest.raises(JournalError, match=r"about 0000:01:00\.0/2"):
        journal.get(record(1).key)


def test_a_full_disk_leaves_the_old_record() -> None:
    journal = MemoryJournal()
    journal.put(record(1))
    before = journal.snapshot()
    journal.refused_writes = 2
    with pytest.raises(JournalError):
        journal.put(record(1, mac="52:54:00:00:00:02"))
    with pytest.raises(JournalError):
        journal.remove(record(1).key)
    assert journal.snapshot() == before
    journal.put(record(2))
    assert journal.snapshot() != before
