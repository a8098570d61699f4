# SPDX-License-Identifier: Apache-2.0
"""The migration journal's contract, in memory and in a file; what only files do; and crashes inside a write."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vferry.core.fence import Mode
from vferry.core.migration.messages import VfTarget
from vferry.core.migration.phases import DestinationPhase, Role, SourcePhase
from vferry.core.migration.tables import Order
from vferry.core.ownership import Token
from vferry.ports.migrations import MigrationEntry, MigrationJournal, MigrationJournalError
from vferry.state.migrations import MAX_ENTRY_BYTES, SCHEMA_VERSION, SqliteMigrationJournal, _use_wal, decode_entry
from vferry.testing.crash import Crash, CrashPoints, each_crash
from vferry.testing.memory_migrations import MemoryDisk, MemoryMigrationJournal
from vferry.testing.migrations_contract import MigrationJournals, MigrationsContract, migration_entry


class InMemory:
    def __init__(self) -> None:
        self.disk = MemoryDisk()

    def open(self) -> MigrationJournal:
        self.disk.lose_power()  # whatever was not flushed is gone
        return MemoryMigrationJournal(self.disk)

    def stored(self, migration: str, role: Role) -> bytes:
        return self.disk.content[migration, role.value]

    def store(self, migration: str, role: Role, data: bytes) -> None:
        self.disk.put((migration, role.value), data)
        self.disk.flush()


class InFile:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.journals: list[SqliteMigrationJournal] = []

    def open(self) -> SqliteMigrationJournal:
        self.journals.append(SqliteMigrationJournal(str(self.path), busy_seconds=0.01))
        return self.journals[-1]

    def stored(self, migration: str, role: Role) -> bytes:
        query = "SELECT entry FROM entries WHERE migration = ? AND role = ?"
        return bytes(self.execute(query, migration, role.value)[0][0])

    def store(self, migration: str, role: Role, data: bytes) -> None:
        self.execute("UPDATE entries SET entry = ? WHERE migration = ? AND role = ?", data, migration, role.value)

    def execute(self, query: str, *parameters: bytes | str | int) -> list[tuple[bytes]]:
        db = sqlite3.connect(self.path, isolation_level=None)
        try:
            return db.execute(query, parameters).fetchall()
        finally:
            db.close()

    def close(self) -> None:
        for journal in self.journals:
            journal.close()


class TestMemoryMigrationJournal(MigrationsContract):
    @pytest.fixture
    def journals(self) -> MigrationJournals:
        return InMemory()


class TestSqliteMigrationJournal(MigrationsContract):
    @pytest.fixture
    def journals(self, store: InFile) -> MigrationJournals:
        return store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[InFile]:
    found = InFile(tmp_path / "new" / "state" / "migrations.sqlite")
    yield found
    found.close()


# In a file


def test_reading_makes_no_file(store: InFile) -> None:
    journal = store.open()
    assert journal.read("m1", Role.SOURCE) is None
    assert journal.entries() == ()
    journal.forget("m1", Role.SOURCE)
    assert not store.path.parent.exists()


def test_everything_is_for_its_owner_only(store: InFile) -> None:
    old = os.umask(0)
    try:
        store.open().write(migration_entry())
    finally:
        os.umask(old)
    modes = {file.name: file.stat().st_mode & 0o777 for file in store.path.parent.iterdir()}
    assert modes == {"migrations.sqlite": 0o600, "migrations.sqlite-wal": 0o600, "migrations.sqlite-shm": 0o600}
    assert store.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_write_is_flushed_in_wal_mode(store: InFile) -> None:
    journal = store.open()
    journal.write(migration_entry())
    db = journal._opened()
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"
    assert not db.in_transaction


@pytest.mark.parametrize("pragma", ["PRAGMA user_version = {}", "PRAGMA application_id = {}"])
def test_a_newer_or_another_file_is_refused_unchanged(store: InFile, pragma: str) -> None:
    journal = store.open()
    journal.write(migration_entry())
    journal.close()
    store.execute(pragma.format(SCHEMA_VERSION + 1))
    before = store.path.read_bytes()
    for act in (
        lambda: store.open().write(migration_entry()),
        lambda: store.open().read("m1", Role.SOURCE),
        lambda: store.open().entries(),
        lambda: store.open().forget("m1", Role.SOURCE),
    ):
        with pytest.raises(MigrationJournalError, match=r"version 2|another program"):
            act()
    assert store.path.read_bytes() == before


def test_what_is_no_database(store: InFile) -> None:
    store.path.parent.mkdir(parents=True)
    store.path.write_bytes(b"no database at all" * 100)
    with pytest.raises(MigrationJournalError, match=r"migration m1, source.*not a database"):
        store.open().write(migration_entry())


def test_a_directory_that_cannot_be_made(store: InFile) -> None:
    store.path.parents[1].write_text("a file stands here")
    with pytest.raises(MigrationJournalError, match="m1"):
        store.open().write(migration_entry())


def test_another_process_that_holds_the_lock(store: InFile) -> None:
    journal = store.open()
    journal.write(migration_entry())
    newer = msgspec.structs.replace(migration_entry(), phase=SourcePhase.OFFER.value)
    other = sqlite3.connect(store.path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(MigrationJournalError, match=r"migration m1, source.*locked"):
            journal.write(newer)
        with pytest.raises(MigrationJournalError, match="locked"):
            journal.forget("m1", Role.SOURCE)
        other.execute("ROLLBACK")
        assert journal.entries() == (migration_entry(),)
    finally:
        other.close()
    journal.write(newer)
    assert store.open().entries() == (newer,)


class Busy:
    """Stands before a connection that another one is in the way of, some times."""

    def __init__(self, inner: sqlite3.Connection, times: int) -> None:
        self.inner = inner
        self.times = times

    def execute(self, statement: str) -> sqlite3.Cursor:
        if self.times:
            self.times -= 1
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error
        return self.inner.execute(statement)


@pytest.mark.parametrize("refusals", [0, 3])
def test_two_that_make_the_file_at_once(tmp_path: Path, refusals: int) -> None:
    """SQLite refuses one that would set WAL mode at the same moment, without waiting for its busy time-out."""
    db = sqlite3.connect(tmp_path / "x", isolation_level=None)
    busy = Busy(db, refusals)
    _use_wal(busy, float("inf"))  # type: ignore[arg-type]
    assert (busy.times, db.execute("PRAGMA journal_mode").fetchone()) == (0, ("wal",))
    busy.times = 1
    with pytest.raises(sqlite3.OperationalError):
        _use_wal(busy, 0)  # type: ignore[arg-type]
    db.close()


def test_a_full_disk_leaves_the_old_entry(store: InFile) -> None:
    journal = store.open()
    journal.write(migration_entry())
    journal._opened().execute("PRAGMA max_page_count = 1")
    with pytest.raises(MigrationJournalError, match="full"):
        journal.write(msgspec.structs.replace(migration_entry(), record=b"x" * 100_000))
    assert journal.entries() == (migration_entry(),)


def test_an_entry_that_is_too_long_is_not_read_whole(store: InFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vferry.state.migrations.MAX_ENTRY_BYTES", 1000)
    store.open().write(migration_entry())
    with pytest.raises(MigrationJournalError, match=r"m1.*more than 1000 octets"):
        store.open().write(msgspec.structs.replace(migration_entry(), record=b"x" * 1000))
    with pytest.raises(MigrationJournalError, match=r"m1.*more than 1000 octets"):
        decode_entry("m1", "source", b"\0" * 1001)
    assert store.open().entries() == (migration_entry(),)


def test_all_that_the_messages_allow_can_be_written() -> None:
    assert MAX_ENTRY_BYTES > 256 * (1 << 20) + (8 << 20)


def test_a_file_that_has_gone(store: InFile) -> None:
    """It is not made again: who read it would believe that nothing is under way."""
    journal = store.open()
    journal.write(migration_entry())
    away = store.path.with_name("away")
    os.rename(store.path, away)
    with pytest.raises(MigrationJournalError, match="gone"):
        journal.write(migration_entry("m2"))
    with pytest.raises(MigrationJournalError, match="gone"):
        journal.entries()
    assert not store.path.exists()
    os.rename(away, store.path)
    assert journal.entries() == (migration_entry(),)


def test_a_file_in_the_place_of_ours_is_opened_anew(store: InFile) -> None:
    """What is written to a file without a name is lost."""
    journal = store.open()
    journal.write(migration_entry())
    other = InFile(store.path.with_name("other"))
    other.open().write(migration_entry("m3"))
    other.close()
    for beside in ("-wal", "-shm"):
        os.unlink(f"{store.path}{beside}")
    os.rename(other.path, store.path)
    journal.write(migration_entry("m2"))
    assert store.open().entries() == (migration_entry("m3"), migration_entry("m2"))


BYTES = st.binary(max_size=40)
NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=16)
ENTRIES = st.sampled_from(Role).flatmap(
    lambda role: st.builds(
        MigrationEntry,
        migration=st.sampled_from(["m1", "m2"]),
        vm=NAMES,
        role=st.just(role),
        order=st.sampled_from(Order),
        phase=st.sampled_from([phase.value for phase in (SourcePhase if role is Role.SOURCE else DestinationPhase)]),
        source=NAMES,
        destination=NAMES,
        mode=st.sampled_from(Mode),
        boot_id=NAMES,
        token=st.none() | st.builds(Token, st.integers(0, 0x7FFF_FFFF), st.integers(0, (1 << 63) - 1)),
        targets=st.lists(st.builds(VfTarget, saved=NAMES, pf=NAMES, vf=st.integers(0, 0xFFFF)), max_size=3).map(tuple),
        uri=st.text(max_size=8),
        carried=st.booleans(),
        record=st.none() | BYTES,
        states=st.lists(BYTES, max_size=3).map(tuple),
        identities=st.lists(BYTES, max_size=3).map(tuple),
        why=st.text(max_size=8),
        history=st.lists(st.text(max_size=8), max_size=3).map(tuple),
    )
)


@settings(max_examples=40, deadline=None)
@given(st.lists(ENTRIES, max_size=4))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, entries: list[MigrationEntry]) -> None:
    journal = SqliteMigrationJournal(str(tmp_path_factory.mktemp("state") / "migrations.sqlite"))
    for entry in entries:
        journal.write(entry)
    newest = {(entry.migration, entry.role): entry for entry in entries}
    assert journal.entries() == tuple(newest.values())
    journal.close()


@given(st.binary(max_size=200))
def test_arbitrary_octets_are_damage(data: bytes) -> None:
    with pytest.raises(MigrationJournalError, match="m1"):
        decode_entry("m1", "source", data)


# Crashes

OLD = migration_entry()
NEW = msgspec.structs.replace(migration_entry(), phase=SourcePhase.OFFER.value)


@pytest.mark.parametrize("keep", [None, 0, 1])
def test_a_crash_in_memory_leaves_the_old_entry_or_the_new(keep: int | None) -> None:
    """Of the process alone (None), or of the host, with what was not flushed lost or kept."""
    disks: list[MemoryDisk] = []

    def run(points: CrashPoints) -> None:
        disks.append(MemoryDisk())
        MemoryMigrationJournal(disks[-1]).write(OLD)
        journal = MemoryMigrationJournal(disks[-1], points)
        journal.write(NEW)
        journal.forget("m1", Role.SOURCE)

    seen: list[tuple[str, tuple[MigrationEntry, ...]]] = []
    for points in each_crash(run):
        if keep is not None:
            disks[-1].lose_power(keep=keep)
        seen.append((points.steps[-1], MemoryMigrationJournal(disks[-1]).entries()))
    lost = keep == 0
    assert seen == [
        ("before write m1/source", (OLD,)),
        ("inside write m1/source", (OLD,) if lost else (NEW,)),
        ("after write m1/source", (NEW,)),
        ("before forget m1/source", (NEW,)),
        ("inside forget m1/source", (NEW,) if lost else ()),
        ("after forget m1/source", ()),
    ]


def test_the_dead_neither_write_nor_read() -> None:
    journal = MemoryMigrationJournal(points=CrashPoints(1))
    with pytest.raises(Crash):
        journal.write(OLD)
    for act in (journal.entries, lambda: journal.read("m1", Role.SOURCE), lambda: journal.write(OLD)):
        with pytest.raises(Crash):
            act()
    assert journal.disk.content == {}


def test_a_full_simulated_disk_leaves_the_old_entry() -> None:
    journal = MemoryMigrationJournal()
    journal.write(OLD)
    journal.refused_writes = 2
    with pytest.raises(MigrationJournalError, match="m1"):
        journal.write(NEW)
    with pytest.raises(MigrationJournalError, match="m1"):
        journal.forget("m1", Role.SOURCE)
    assert journal.disk.unflushed == 0
    assert journal.entries() == (OLD,)
    journal.write(NEW)


WRITER = """
import itertools, msgspec, sys
from vferry.core.migration.phases import Role
from vferry.state.migrations import SqliteMigrationJournal
from vferry.testing.migrations_contract import migration_entry

journal = SqliteMigrationJournal(sys.argv[1], busy_seconds=30)
found = journal.read("m1", Role.SOURCE)
for number in itertools.count(int(found.why) + 1 if found else 0):
    state = bytes([number % 251]) * (1 + 5000 * (number % 7))
    journal.write(msgspec.structs.replace(migration_entry(), why=str(number), states=(state,)))
    print(number, flush=True)
"""


def kill_in_a_write(path: Path, moment: float) -> None:
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        lines = [first.rstrip(), *process.stdout.read().split("\n")[:-1]]
    journal = SqliteMigrationJournal(str(path))
    (entry,) = journal.entries()
    journal.close()
    number = int(entry.why)
    assert number in (int(lines[-1]), int(lines[-1]) + 1), "the old or the new"
    assert entry.states == (bytes([number % 251]) * (1 + 5000 * (number % 7)),), "and whole"


def test_kill_9_leaves_the_old_entry_or_the_new(tmp_path: Path) -> None:
    kill_in_a_write(tmp_path / "migrations.sqlite", 0.01)


@pytest.mark.slow
def test_kill_9_at_random_moments_leaves_the_old_entry_or_the_new(tmp_path: Path) -> None:
    """Each process goes on with the file that the one before left."""
    moments = random.Random(1)
    for _ in range(25):
        kill_in_a_write(tmp_path / "migrations.sqlite", moments.uniform(0, 0.02))


@pytest.mark.slow
def test_two_processes_write_at_once(tmp_path: Path) -> None:
    """Each its own migration; neither loses a write, and both may make the file."""
    program = WRITER.replace('"m1"', "sys.argv[2]").replace("migration_entry()", "migration_entry(sys.argv[2])")
    program = program.replace("itertools.count(int(found.why) + 1 if found else 0)", "range(200)")
    path = tmp_path / "migrations.sqlite"
    commands = [[sys.executable, "-c", program, str(path), name] for name in ("m1", "m2")]
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE)) for command in commands]
        assert [len(process.communicate()[0].split()) for process in processes] == [200, 200]
    journal = SqliteMigrationJournal(str(path))
    assert sorted((entry.migration, entry.why) for entry in journal.entries()) == [("m1", "199"), ("m2", "199")]
    journal.close()
