# SPDX-License-Identifier: Apache-2.0
"""The registry of a single host: one SQLite file, which several processes may use at once.

Every change is one ``BEGIN IMMEDIATE`` transaction of a database in WAL mode with ``synchronous=FULL``: it is on the
disk when the call returns, and a process that is killed inside leaves the old entry or the new one.

The methods are coroutines because the port's are; they call SQLite on the event loop's own thread, without a thread of
their own. A read takes about 0.01 ms, a change as long as the disk takes to flush: about 0.3 ms, some milliseconds
where the disk is busy. Only when another process holds the lock does a call block longer, for at most the time-out. No
method gives way to other tasks, so that a cancellation never cuts a change in two. An object belongs to one thread, and
not across a fork.

An epoch that is raised is on record, and an older one changes nothing any more: after a backup is put back,
revisions repeat, and only a new epoch tells the tokens of before and after from each other. (What stands beside the
file, ``-wal`` and ``-shm``, is removed first: SQLite would replay it on the backup.)
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from typing import TypeAlias

from vferry.core.errors import UsageError
from vferry.core.ownership import Ownership, Token
from vferry.ports.registry import (
    Entry,
    IdentityTakenError,
    Registry,
    RegistryError,
    RegistryUnreachableError,
    StaleTokenError,
    TakenError,
    UnclearOutcomeError,
)
from vferry.registry import MAX_VALUE_BYTES, claims, decode_value, encode_value

__all__ = ["BUSY_SECONDS", "SCHEMA_VERSION", "RegistryFileError", "SqliteRegistry"]

BUSY_SECONDS = 2.0
"""How long a call waits for another process's transaction, which takes one flush of the disk."""

SCHEMA_VERSION = 1
"""``PRAGMA user_version`` of the file."""

APPLICATION_ID = 0x76667267
"""``PRAGMA application_id`` of the file: "vfrg"."""

MAX_EPOCH = 0x7FFF_FFFF
"""Of :class:`~vferry.core.ownership.Token`."""

_SCHEMA = (
    "CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, revision INTEGER NOT NULL)",
    "INSERT INTO state VALUES (1, 0, 0)",
    "CREATE TABLE entries (vm TEXT PRIMARY KEY, revision INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE identities (segment TEXT NOT NULL, vlan INTEGER NOT NULL, mac TEXT NOT NULL, vm TEXT NOT NULL,
    shared INTEGER NOT NULL, PRIMARY KEY (segment, vlan, mac, vm)) WITHOUT ROWID""",
    "CREATE INDEX identities_by_vm ON identities (vm)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

# Of a value that is too long no more is read than shows it; what has no octets comes from substr() as NULL.
_VALUE = f"coalesce(substr(CAST(value AS BLOB), 1, {MAX_VALUE_BYTES + 1}), x'')"
_SELECT = f"SELECT vm, revision, {_VALUE} FROM entries"  # noqa: S608
_RIVAL = (
    "SELECT vm FROM identities WHERE segment = ? AND vlan = ? AND mac = ? AND vm <> ? AND NOT (shared AND ?)"
    " ORDER BY vm LIMIT 1"
)

_Row: TypeAlias = tuple[str, int, bytes]


class RegistryFileError(RegistryError):
    """The file is not a registry that may be used: of a newer vferry, of something else, or of a newer epoch."""


class SqliteRegistry(Registry):
    """Implements :class:`vferry.ports.registry.Registry` by an SQLite file.

    The file is made, for its owner only (0600), when it is first used; its directory must exist.

    :param path: the file; ``-wal`` and ``-shm`` stand beside it while it is in use.
    :param epoch: the operator's number, 0 to 2**31 - 1; to be raised whenever a backup was put back.
    :param busy_seconds: how long to wait for other processes.
    :raise UsageError: the epoch is out of its range.
    """

    def __init__(self, path: str, *, epoch: int = 1, busy_seconds: float = BUSY_SECONDS) -> None:
        if not 0 <= epoch <= MAX_EPOCH:
            raise UsageError(f"use epoch {epoch}", why=f"an epoch is 0 to {MAX_EPOCH}")
        self._path = os.path.abspath(path)
        self._epoch = epoch
        self._busy_seconds = busy_seconds
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def read(self, vm: str) -> Entry | None:
        """Return a VM's entry, or None; sees every change that was answered before.

        :raise RegistryUnreachableError: the file could not be read.
        :raise MalformedEntryError: the value is damaged.
        """
        with self._reading(f"read the ownership of VM {vm}") as db:
            return self._find(db, vm)

    async def entries(self) -> tuple[Entry, ...]:
        """Return all entries as of one moment, in the order of their VMs' names (by code point).

        :raise RegistryUnreachableError: the file could not be read.
        :raise MalformedEntryError: one of the values is damaged; it names the VM.
        """
        with self._reading("read the ownership of all VMs") as db:
            return tuple(self._entry(row) for row in db.execute(f"{_SELECT} ORDER BY vm").fetchall())

    async def create(self, ownership: Ownership) -> Entry:
        """Store the first entry of a VM.

        :raise TakenError: the VM has one.
        :raise IdentityTakenError: one of its addresses belongs to another VM.
        :raise MalformedEntryError: it is not fit to be stored, or the one that is there is damaged.
        :raise RegistryUnreachableError: certainly not done: the file is locked, full, or cannot be written.
        :raise UnclearOutcomeError: the disk failed at the very end; read.
        """
        value = encode_value(ownership)
        with self._transaction(f"take VM {ownership.vm} under ownership") as db:
            found = self._find(db, ownership.vm)
            if found is not None:
                raise TakenError(found)
            return self._store(db, ownership, value)

    async def replace(self, ownership: Ownership, expected: Token) -> Entry:
        """Replace a VM's entry if its token still is ``expected``; a damaged one can be replaced as well.

        :raise StaleTokenError: it is not; nothing was changed.
        :raise IdentityTakenError: one of its addresses belongs to another VM; nothing was changed.
        :raise MalformedEntryError: it is not fit to be stored.
        :raise RegistryUnreachableError: certainly not done.
        :raise UnclearOutcomeError: the disk failed at the very end; read.
        """
        value = encode_value(ownership)
        with self._transaction(f"change the ownership of VM {ownership.vm}") as db:
            self._expect(db, ownership.vm, expected)
            return self._store(db, ownership, value)

    async def delete(self, vm: str, expected: Token) -> None:
        """Remove a VM's entry if its token still is ``expected``; a damaged one can be removed as well.

        :raise StaleTokenError: it is not, or there is none; nothing was changed.
        :raise RegistryUnreachableError: certainly not done.
        :raise UnclearOutcomeError: the disk failed at the very end; read.
        """
        with self._transaction(f"end the ownership of VM {vm}") as db:
            self._expect(db, vm, expected)
            self._next_revision(db)
            db.execute("DELETE FROM identities WHERE vm = ?", (vm,))
            db.execute("DELETE FROM entries WHERE vm = ?", (vm,))

    # What a transaction does

    def _find(self, db: sqlite3.Connection, vm: str) -> Entry | None:
        row = _row(db, vm)
        return None if row is None else self._entry(row)

    def _entry(self, row: _Row) -> Entry:
        vm, revision, value = row
        token = Token(self._epoch, revision)
        return Entry(ownership=decode_value(vm, value, token), token=token)

    def _expect(self, db: sqlite3.Connection, vm: str, expected: Token) -> None:
        row = _row(db, vm)
        if row is None:
            raise StaleTokenError(vm, expected, None)
        if Token(self._epoch, row[1]) != expected:
            raise StaleTokenError(vm, expected, self._entry(row))

    def _store(self, db: sqlite3.Connection, ownership: Ownership, value: bytes) -> Entry:
        _claim(db, ownership)
        revision = self._next_revision(db)
        db.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", (ownership.vm, revision, value))
        return Entry(ownership=ownership, token=Token(self._epoch, revision))

    def _next_revision(self, db: sqlite3.Connection) -> int:
        epoch, revision = db.execute("SELECT epoch, revision FROM state").fetchone()
        if epoch != self._epoch:
            raise _old_epoch(self._path, self._epoch, epoch)
        db.execute("UPDATE state SET revision = ?", (revision + 1,))
        return int(revision) + 1

    # How a transaction is done

    @contextlib.contextmanager
    def _reading(self, what: str) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connected()
        except (sqlite3.Error, OSError) as error:
            raise self._unreachable(what, error) from error

    @contextlib.contextmanager
    def _transaction(self, what: str) -> Iterator[sqlite3.Connection]:
        with self._reading(what) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                _roll_back(db)
                raise
            self._commit(db, what)

    def _commit(self, db: sqlite3.Connection, what: str) -> None:
        try:
            db.execute("COMMIT")
        except sqlite3.Error as error:
            _roll_back(db)
            if _is_busy(error):
                raise
            # What was written may be found whole by the next process that recovers the file, or not.
            self.close()
            raise UnclearOutcomeError(what, why=f"{self._path}: {error}", next_step="read the entry") from error

    def _connected(self) -> sqlite3.Connection:
        """Return the connection; a file that was put in the place of ours is opened anew, never ours written on."""
        file = _file_id(self._path)
        if self._file is not None and file is None:
            raise FileNotFoundError("the file has gone while it was in use")
        if self._connection is None or file != self._file:
            self.close()
            self._connection = _open(self._path, self._epoch, self._busy_seconds)
            self._file = _file_id(self._path)
        return self._connection

    def _unreachable(self, what: str, error: Exception) -> RegistryUnreachableError:
        if not (isinstance(error, sqlite3.Error) and _is_busy(error)):
            self.close()
        return RegistryUnreachableError(
            what,
            why=f"{self._path}: {error}; nothing was changed",
            next_step="'fuser' on that file names who has it open; its directory must be writable and not full",
        )


def _row(db: sqlite3.Connection, vm: str) -> _Row | None:
    try:
        row: _Row | None = db.execute(f"{_SELECT} WHERE vm = ?", (vm,)).fetchone()
    except UnicodeEncodeError:  # a name that is no text was never stored
        return None
    return row


def _claim(db: sqlite3.Connection, ownership: Ownership) -> None:
    """Make the VM's addresses those of ``ownership``."""
    vm, wanted = ownership.vm, claims(ownership)
    for address, identity in wanted.items():
        rival = db.execute(_RIVAL, (*address, vm, identity.shared)).fetchone()
        if rival is not None:
            raise IdentityTakenError(identity, vm, rival[0])
    db.execute("DELETE FROM identities WHERE vm = ?", (vm,))
    rows = [(*address, vm, identity.shared) for address, identity in wanted.items()]
    db.executemany("INSERT INTO identities VALUES (?, ?, ?, ?, ?)", rows)


def _open(path: str, epoch: int, busy_seconds: float) -> sqlite3.Connection:
    _make_file(path)
    db = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = FULL")
        _version(db, path)
        _use_wal(db, path, time.monotonic() + busy_seconds)
        db.execute("BEGIN IMMEDIATE")
        if _version(db, path) == 0:
            for statement in _SCHEMA:
                db.execute(statement)
        _raise_epoch(db, path, epoch)
        db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def _make_file(path: str) -> None:
    """Make an empty file for its owner only; SQLite gives the files beside it the same mode.

    One that is there is not even opened: closing it would drop the locks that this process has on it (fcntl(2)).
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _version(db: sqlite3.Connection, path: str) -> int:
    """Return the version of the file's form, 0 for an empty file.

    :raise RegistryFileError: it is newer than ours, or the file is something else.
    """
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, tables) == (0, 0, 0):
        return 0
    if application != APPLICATION_ID or version < 1:
        raise RegistryFileError(f"open the registry {path}", why="the file is another program's database")
    if version > SCHEMA_VERSION:
        why = f"it has version {version}, and this vferry knows up to {SCHEMA_VERSION}"
        raise RegistryFileError(f"open the registry {path}", why=why, next_step="use the vferry that wrote it")
    return int(version)


def _use_wal(db: sqlite3.Connection, path: str, deadline: float) -> None:
    """Set WAL mode; of two that open a new file at once SQLite refuses one without waiting, which tries again."""
    while True:
        try:
            (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.005)
            continue
        if mode != "wal":
            raise RegistryFileError(f"open the registry {path}", why=f"its file system allows '{mode}' only, not WAL")
        return


def _raise_epoch(db: sqlite3.Connection, path: str, epoch: int) -> None:
    (known,) = db.execute("SELECT epoch FROM state").fetchone()
    if known > epoch:
        raise _old_epoch(path, epoch, known)
    if known < epoch:
        db.execute("UPDATE state SET epoch = ?", (epoch,))


def _old_epoch(path: str, epoch: int, known: int) -> RegistryFileError:
    return RegistryFileError(
        f"use the registry {path} with epoch {epoch}",
        why=f"it was used with epoch {known}",
        next_step=f"give epoch {known}, or a greater one if a backup was put back",
    )


def _roll_back(db: sqlite3.Connection) -> None:
    """Leave the transaction; where even that fails, the connection is closed, which leaves it too."""
    try:
        if db.in_transaction:
            db.execute("ROLLBACK")
    except sqlite3.Error:
        db.close()


def _is_busy(error: sqlite3.Error) -> bool:
    # Extended codes have the primary one in their low octet (sqlite3.h); absent where Python itself raised.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _file_id(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
