# SPDX-License-Identifier: Apache-2.0
"""The migration journal in an SQLite file: one row for each migration and role, its entry as MessagePack.

The database is in WAL mode with ``synchronous=FULL``: a write is on the disk when it returns, and a process that is
killed inside, or a host that loses power, leaves the old entry or the new one. Several processes may use the file at
once. A write takes as long as the disk takes to flush (about 0.2 ms, some milliseconds where the disk is busy), so that
it is done on the caller's own thread; an object belongs to that thread, and not across a fork.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from vferry.core.migration.messages import MAX_STATE
from vferry.core.migration.phases import DestinationPhase, Role, SourcePhase
from vferry.ports.migrations import MigrationEntry, MigrationJournal, MigrationJournalError
from vferry.state.files import flush_directory, make_directory

__all__ = [
    "BUSY_SECONDS",
    "MAX_ENTRY_BYTES",
    "SCHEMA_VERSION",
    "SqliteMigrationJournal",
    "decode_entry",
    "encode_entry",
]

BUSY_SECONDS = 2.0
"""How long a call waits for another process's transaction, which takes one flush of the disk."""

MAX_ENTRY_BYTES = 256 * MAX_STATE + (16 << 20)
"""What the messages allow: the states of 256 VFs and a record of 8 MiB; as much again for the rest of the entry."""

SCHEMA_VERSION = 1
"""``PRAGMA user_version`` of the file."""

APPLICATION_ID = 0x76666D6A
"""``PRAGMA application_id`` of the file: "vfmj"."""

_SCHEMA = (
    "CREATE TABLE entries (number INTEGER PRIMARY KEY, migration TEXT NOT NULL, role TEXT NOT NULL,"
    " entry BLOB NOT NULL, UNIQUE (migration, role))"
)
# Of an entry that is too long no more is read than shows it; what has no octets comes from substr() as NULL.
_ENTRY = f"coalesce(substr(CAST(entry AS BLOB), 1, {MAX_ENTRY_BYTES + 1}), x'')"
_SELECT = f"SELECT migration, role, {_ENTRY} FROM entries"  # noqa: S608
# A row that is written anew keeps its number, and with it its place among the entries.
_WRITE = (
    "INSERT INTO entries (migration, role, entry) VALUES (?, ?, ?)"
    " ON CONFLICT (migration, role) DO UPDATE SET entry = excluded.entry"
)

_DECODER = msgspec.msgpack.Decoder(MigrationEntry)
_PHASES = {
    Role.SOURCE: frozenset(phase.value for phase in SourcePhase),
    Role.DESTINATION: frozenset(phase.value for phase in DestinationPhase),
}
_Row: TypeAlias = tuple[str, str, bytes]


def encode_entry(entry: MigrationEntry) -> bytes:
    """Return an entry as it is stored; what is returned can be read again.

    :raise MigrationJournalError: a field is out of its range, or the whole is too long.
    """
    try:
        data = msgspec.msgpack.encode(entry)
        _decode(data)
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise _failed("write", entry.migration, entry.role.value, error) from error
    return data


def decode_entry(migration: str, role: str, data: bytes) -> MigrationEntry:
    """Return what is stored for a migration and role.

    :raise MigrationJournalError: it is damaged, too long, of a newer form, or speaks of another migration.
    """
    try:
        entry = _decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _failed("read", migration, role, error) from error
    if (entry.migration, entry.role.value) != (migration, role):
        why = f"it speaks of migration {entry.migration}, {entry.role.value}"
        raise _failed("read", migration, role, ValueError(why))
    return entry


def _decode(data: bytes) -> MigrationEntry:
    if len(data) > MAX_ENTRY_BYTES:
        raise ValueError(f"it takes more than {MAX_ENTRY_BYTES} octets")
    entry = _DECODER.decode(data)
    if entry.phase not in _PHASES[entry.role]:
        raise ValueError(f"a {entry.role.value} has no phase '{entry.phase}'")
    return entry


class SqliteMigrationJournal(MigrationJournal):
    """Implements :class:`vferry.ports.migrations.MigrationJournal` by an SQLite file.

    The file (0600) and its directory (0700) are made when the first entry is stored.

    :param path: the file; ``-wal`` and ``-shm`` stand beside it while it is in use.
    :param busy_seconds: how long to wait for other processes.
    """

    def __init__(self, path: str, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self._path = os.path.abspath(path)
        self._busy_seconds = busy_seconds
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def write(self, entry: MigrationEntry) -> None:
        """Store an entry; when this returns it is on the disk.

        :raise MigrationJournalError: it is not fit to be stored, or could not be; the old one or the new is there.
        """
        data = encode_entry(entry)
        with self._using("write", entry.migration, entry.role.value):
            self._opened().execute(_WRITE, (entry.migration, entry.role.value, data))

    def read(self, migration: str, role: Role) -> MigrationEntry | None:
        """Return an entry, or None.

        :raise MigrationJournalError: there is one and it cannot be read or is damaged.
        """
        with self._using("read", migration, role.value):
            rows = self._rows("WHERE migration = ? AND role = ?", migration, role.value)
        return decode_entry(*rows[0]) if rows else None

    def entries(self) -> tuple[MigrationEntry, ...]:
        """Return all entries, in the order in which they were first written.

        :raise MigrationJournalError: one of them cannot be read or is damaged; it names the migration.
        """
        with self._using("read", "", ""):
            rows = self._rows("ORDER BY number")
        return tuple(decode_entry(*row) for row in rows)

    def forget(self, migration: str, role: Role) -> None:
        """Remove an entry, damaged or not; nothing happens if there is none.

        :raise MigrationJournalError: it could not be removed.
        """
        with self._using("remove", migration, role.value):
            if self._rows("WHERE migration = ? AND role = ?", migration, role.value):
                query = "DELETE FROM entries WHERE migration = ? AND role = ?"
                self._opened().execute(query, (migration, role.value))

    def _rows(self, which: str, *parameters: str) -> list[_Row]:
        """Reading makes no file."""
        if self._file is None and _file_id(self._path) is None:
            return []
        return self._opened().execute(f"{_SELECT} {which}", parameters).fetchall()

    def _opened(self) -> sqlite3.Connection:
        """Return the connection, in autocommit mode: each statement is a transaction.

        A file that was put in the place of ours is opened anew: what is written to one without a name is lost.
        """
        file = _file_id(self._path)
        if self._file is not None and file is None:
            raise FileNotFoundError("the file has gone while it was in use")
        if self._connection is None or file != self._file:
            self.close()
            self._connection = _open(self._path, self._busy_seconds)
            self._file = _file_id(self._path)
        return self._connection

    @contextlib.contextmanager
    def _using(self, act: str, migration: str, role: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeError) as error:
            self.close()
            raise _failed(act, migration, role, error, path=self._path) from error


def _open(path: str, busy_seconds: float) -> sqlite3.Connection:
    _make_file(path)
    db = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = FULL")
        _version(db)
        _use_wal(db, time.monotonic() + busy_seconds)
        db.execute("BEGIN IMMEDIATE")
        if _version(db) == 0:
            db.execute(_SCHEMA)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def _make_file(path: str) -> None:
    """Make an empty file for its owner only; SQLite gives the files beside it the same mode.

    One that is there is not even opened: closing it would drop the locks that this process has on it (fcntl(2)).
    """
    make_directory(os.path.dirname(path))
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        flush_directory(os.path.dirname(path))


def _version(db: sqlite3.Connection) -> int:
    """Return the version of the file's form, 0 for an empty file; a newer or another file is an OSError."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, tables) == (0, 0, 0):
        return 0
    if application != APPLICATION_ID or version < 1:
        raise OSError("it is another program's database")
    if version > SCHEMA_VERSION:
        raise OSError(f"it has version {version}, and this vferry knows up to {SCHEMA_VERSION}")
    return int(version)


def _use_wal(db: sqlite3.Connection, deadline: float) -> None:
    """Set WAL mode; of two that open a new file at once SQLite refuses one without waiting, which tries again."""
    while True:
        try:
            (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(0.005)
            continue
        if mode != "wal":
            raise OSError(f"its file system allows '{mode}' only, not WAL")
        return


def _file_id(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _failed(act: str, migration: str, role: str, error: Exception, *, path: str = "") -> MigrationJournalError:
    whose = f" of migration {migration}, {role}" if migration else ""
    return MigrationJournalError(
        f"{act} the migration journal{whose}",
        why=f"{path}: {error}" if path else str(error),
        next_step="nothing goes on without it: mend the file or its directory, and try again",
    )
