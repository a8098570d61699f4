# SPDX-License-Identifier: Apache-2.0
"""The journal's contract, in memory and on a disk, and what only files can do."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vferry.core.undo import UndoRecord, VfKey
from vferry.ports.journal import Journal, JournalError
from vferry.state.journal import MAX_UNDO_BYTES, DirectoryJournal
from vferry.testing import MemoryJournal
from vferry.testing.journal_contract import JournalContract, Journals, undo_record
from vferry.testing.strategies import undo_records


class InMemory:
    def __init__(self) -> None:
        self.storage: dict[VfKey, bytes] = {}

    def open(self) -> Journal:
        return MemoryJournal(self.storage)

    def damage(self, key: VfKey, keep: int | None) -> None:
        MemoryJournal(self.storage).damage(key, keep=keep)

    def misfile(self, key: VfKey, other: VfKey) -> None:
        self.storage[other] = self.storage[key]


class OnDisk:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self) -> Journal:
        return DirectoryJournal(str(self.directory))

    def file(self, key: VfKey) -> Path:
        return self.directory / "undo" / f"{key.device}_{key.index}.json"

    def damage(self, key: VfKey, keep: int | None) -> None:
        data = self.file(key).read_bytes()
        self.file(key).write_bytes(b"\0" + data[1:] if keep is None else data[:keep])

    def misfile(self, key: VfKey, other: VfKey) -> None:
        self.file(other).write_bytes(self.file(key).read_bytes())


class TestMemoryJournal(JournalContract):
    @pytest.fixture
    def journals(self) -> Journals:
        return InMemory()


class TestDirectoryJournal(JournalContract):
    @pytest.fixture
    def journals(self, tmp_path: Path) -> Journals:
        return OnDisk(tmp_path / "new" / "state")


@pytest.fixture
def disk(tmp_path: Path) -> OnDisk:
    return OnDisk(tmp_path / "state")


def test_an_error_names_the_file(disk: OnDisk) -> None:
    disk.open().put(undo_record(1))
    disk.damage(undo_record(1).key, 10)
    with pytest.raises(JournalError) as raised:
        disk.open().records()
    assert str(disk.file(undo_record(1).key)) in raised.value.what
    assert "mend the file" in raised.value.next_step


def test_records_are_for_root_only(disk: OnDisk) -> None:
    old = os.umask(0)
    try:
        disk.open().put(undo_record(1))
    finally:
        os.umask(old)
    assert disk.file(undo_record(1).key).stat().st_mode & 0o777 == 0o600
    assert disk.file(undo_record(1).key).parent.stat().st_mode & 0o777 == 0o700
    assert disk.directory.stat().st_mode & 0o777 == 0o700


def test_a_record_is_json_that_a_person_can_read(disk: OnDisk) -> None:
    disk.open().put(undo_record(1))
    text = disk.file(undo_record(1).key).read_text()
    assert text.splitlines()[0] == "{"
    assert text[-2:] == "}\n"
    assert msgspec.json.decode(text, type=UndoRecord) == undo_record(1)


def test_nothing_leaves_the_directory(disk: OnDisk) -> None:
    for device in ("../../escape", "/tmp/escape", "..", "a/../../b"):
        disk.open().put(undo_record(1, device=device))
    found = [path for path in disk.directory.parent.rglob("*") if path.is_file()]
    assert len(found) == 4
    assert all(path.parent == disk.directory / "undo" for path in found)


def test_an_oversized_file_is_refused_without_being_read_whole(disk: OnDisk) -> None:
    disk.open().put(undo_record(1))
    with disk.file(undo_record(1).key).open("ab") as file:
        file.write(b" " * (MAX_UNDO_BYTES + 1))
    with pytest.raises(JournalError):
        disk.open().get(undo_record(1).key)


def test_a_write_that_was_cut_short_leaves_the_old_record(disk: OnDisk) -> None:
    """What a crash before the rename leaves: the new file beside the old one, whole or not."""
    disk.open().put(undo_record(1))
    path = disk.file(undo_record(1).key)
    for rest in (b"", b'{"kind": "fe', msgspec.json.encode(undo_record(1, mac="52:54:00:00:00:09"))):
        Path(f"{path}.new").write_bytes(rest)
        assert disk.open().records() == (undo_record(1),)
        assert disk.open().get(undo_record(1).key) == undo_record(1)
    newer = undo_record(1, mac="52:54:00:00:00:02")
    disk.open().put(newer)
    assert disk.open().records() == (newer,)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_record_and_no_rest(
    disk: OnDisk, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.open().put(undo_record(1))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"vferry.state.files.os.{call}", fail)
    with pytest.raises(JournalError, match="No space left"):
        disk.open().put(undo_record(1, mac="52:54:00:00:00:02"))
    with pytest.raises(JournalError):
        disk.open().put(undo_record(2))
    monkeypatch.undo()
    assert disk.open().records() == (undo_record(1),)
    assert list(disk.directory.rglob("*.new")) == []


def test_a_record_is_on_the_disk_before_put_returns(disk: OnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is flushed before the rename, its directory after; new directories are flushed too."""
    steps: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        steps.append(f"flush {os.readlink(f'/proc/self/fd/{descriptor}')}")
        real_fsync(descriptor)

    def replace(source: str, target: str) -> None:
        steps.append("rename")
        real_replace(source, target)

    monkeypatch.setattr("vferry.state.files.os.fsync", fsync)
    monkeypatch.setattr("vferry.state.files.os.replace", replace)
    disk.open().put(undo_record(1))
    path = disk.file(undo_record(1).key)
    assert steps == [
        f"flush {disk.directory.parent}",
        f"flush {disk.directory}",
        f"flush {path}.new",
        "rename",
        f"flush {path.parent}",
    ]
    steps.clear()
    disk.open().remove(undo_record(1).key)
    assert steps == [f"flush {path.parent}"]


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file stands here")
    journal = DirectoryJournal(str(tmp_path / "state"))
    for act in (lambda: journal.put(undo_record(1)), lambda: journal.get(undo_record(1).key), journal.records):
        with pytest.raises(JournalError):
            act()


@given(st.lists(undo_records(), max_size=4))
def test_what_is_put_is_got(tmp_path_factory: pytest.TempPathFactory, records: list[UndoRecord]) -> None:
    journal = DirectoryJournal(str(tmp_path_factory.mktemp("state")))
    for record in records:
        journal.put(record)
    by_key = {record.key: record for record in records}
    assert journal.records() == tuple(by_key[key] for key in sorted(by_key))
