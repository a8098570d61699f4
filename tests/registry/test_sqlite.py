# SPDX-License-Identifier: Apache-2.0
"""What only a file can do: modes, versions, locks, disks that fail, backups that come back."""

# ruff: noqa: ASYNC240 - nothing else runs on this event loop

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vferry.core.errors import UsageError
from vferry.core.ownership import Token
from vferry.ports.registry import (
    IdentityTakenError,
    RegistryUnreachableError,
    StaleTokenError,
    UnclearOutcomeError,
)
from vferry.registry import MAX_VALUE_BYTES, MalformedEntryError
from vferry.registry.sqlite import SCHEMA_VERSION, RegistryFileError, SqliteRegistry, _use_wal
from vferry.testing.registry_contract import identity, owned

pytestmark = pytest.mark.anyio
Open = Callable[..., SqliteRegistry]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite"


@pytest.fixture
def open_one(path: Path) -> Iterator[Open]:
    opened: list[SqliteRegistry] = []

    def open_it(*, epoch: int = 1, busy_seconds: float = 0.01) -> SqliteRegistry:
        opened.append(SqliteRegistry(str(path), epoch=epoch, busy_seconds=busy_seconds))
        return opened[-1]

    yield open_it
    for registry in opened:
        registry.close()


def execute(path: Path, statement: str, *parameters: object) -> list[tuple[object, ...]]:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        return db.execute(statement, parameters).fetchall()
    finally:
        db.close()


async def test_all_files_are_for_their_owner_only(path: Path, open_one: Open) -> None:
    old = os.umask(0)
    try:
        await open_one().create(owned())
    finally:
        os.umask(old)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == {"registry.sqlite": 0o600, "registry.sqlite-wal": 0o600, "registry.sqlite-shm": 0o600}


async def test_a_change_is_flushed_in_wal_mode(path: Path, open_one: Open) -> None:
    registry = open_one()
    await registry.create(owned())
    db = registry._connection
    assert db is not None
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"


async def test_a_value_can_be_read_by_a_person(path: Path, open_one: Open) -> None:
    await open_one().create(owned("vm1", identity()))
    ((text,),) = execute(path, "SELECT CAST(value AS TEXT) FROM entries")
    assert isinstance(text, str)
    assert text.startswith('{"vm":"vm1","owner":"a"')


@pytest.mark.parametrize("change", ["PRAGMA user_version = {}", "PRAGMA application_id = {}"])
async def test_a_newer_or_another_file_is_refused_unchanged(path: Path, open_one: Open, change: str) -> None:
    registry = open_one()
    await registry.create(owned())
    registry.close()
    execute(path, change.format(SCHEMA_VERSION + 1))
    before = path.read_bytes()
    with pytest.raises(RegistryFileError, match=r"version 2|another program"):
        await open_one().read("vm1")
    with pytest.raises(RegistryFileError):
        await open_one().create(owned("vm2"))
    assert path.read_bytes() == before


async def test_another_programs_database_is_left_as_it_is(path: Path, open_one: Open) -> None:
    execute(path, "CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(RegistryFileError, match="another program"):
        await open_one().create(owned())
    assert path.read_bytes() == before


async def test_what_is_no_database_is_unreachable(path: Path, open_one: Open) -> None:
    path.write_bytes(b"no database at all" * 100)
    for act in (open_one().read("vm1"), open_one().create(owned())):
        with pytest.raises(RegistryUnreachableError, match="not a database"):
            await act


async def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    registry = SqliteRegistry(str(tmp_path / "none" / "registry.sqlite"))
    with pytest.raises(RegistryUnreachableError, match="No such file"):
        await registry.entries()


async def test_another_process_that_holds_the_lock(path: Path, open_one: Open) -> None:
    """A change gives up within its time-out, certainly not done; reading goes on all the while."""
    registry = open_one()
    entry = await registry.create(owned())
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        for act in (
            registry.create(owned("vm2")),
            registry.replace(owned(owner="b"), entry.token),
            registry.delete("vm1", entry.token),
        ):
            with pytest.raises(RegistryUnreachableError, match="locked"):
                await act
        assert await registry.entries() == (entry,)
        with pytest.raises(RegistryUnreachableError, match="locked"):
            await open_one().read("vm1")
    finally:
        other.close()
    await registry.replace(owned(owner="b"), entry.token)


class FailingConnection:
    """Stands before a connection and fails one statement, before it is carried out or after."""

    def __init__(self, inner: sqlite3.Connection, statement: str, *, after: bool, code: int) -> None:
        self.inner = inner
        self.statement = statement
        self.after = after
        self.error = sqlite3.OperationalError("disk I/O error")
        self.error.sqlite_errorcode = code
        self.times = 1 << 30

    def execute(self, statement: str, parameters: tuple[object, ...] = ()) -> sqlite3.Cursor:
        if self.times == 0 or not statement.startswith(self.statement):
            return self.inner.execute(statement, parameters)
        if self.after:
            self.inner.execute(statement, parameters)
        self.times -= 1
        raise self.error

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


@pytest.mark.parametrize("after", [False, True])
async def test_a_disk_that_fails_at_the_very_end_is_unclear(open_one: Open, after: bool) -> None:
    registry = open_one()
    entry = await registry.create(owned())
    assert registry._connection is not None
    failing = FailingConnection(registry._connection, "COMMIT", after=after, code=sqlite3.SQLITE_IOERR | 4 << 8)
    registry._connection = failing  # type: ignore[assignment]
    with pytest.raises(UnclearOutcomeError):
        await registry.replace(owned(owner="b"), entry.token)
    found = await registry.read("vm1")
    assert found is not None
    assert found.ownership.owner == ("b" if after else "a")


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("BEGIN", sqlite3.SQLITE_IOERR),
        ("INSERT", sqlite3.SQLITE_FULL),
        ("UPDATE state", sqlite3.SQLITE_IOERR),
        ("COMMIT", sqlite3.SQLITE_BUSY),
    ],
)
async def test_a_disk_that_fails_before_the_end_changes_nothing(open_one: Open, statement: str, code: int) -> None:
    registry = open_one()
    entry = await registry.create(owned("vm1", identity(1)))
    assert registry._connection is not None
    registry._connection = FailingConnection(  # type: ignore[assignment]
        registry._connection, statement, after=False, code=code
    )
    with pytest.raises(RegistryUnreachableError):
        await registry.replace(owned("vm1", identity(2), owner="b"), entry.token)
    assert await open_one().entries() == (entry,)
    registry.close()
    await registry.create(owned("vm2", identity(2)))


@pytest.mark.parametrize("refusals", [0, 3])
async def test_two_that_make_the_file_at_once(path: Path, refusals: int) -> None:
    """SQLite refuses one that would set WAL mode at the same moment, without waiting for its busy time-out."""
    db = sqlite3.connect(path, isolation_level=None)
    busy = FailingConnection(db, "PRAGMA journal_mode", after=False, code=sqlite3.SQLITE_BUSY)
    busy.times = refusals
    _use_wal(busy, "x", float("inf"))  # type: ignore[arg-type]
    assert (busy.times, db.execute("PRAGMA journal_mode").fetchone()) == (0, ("wal",))
    busy.times = 1
    with pytest.raises(sqlite3.OperationalError):
        _use_wal(busy, "x", 0)  # type: ignore[arg-type]
    db.close()


async def test_a_file_that_grows_no_more(path: Path, open_one: Open) -> None:
    """SQLite's own "database or disk is full": nothing is left of the change."""
    registry = open_one()
    entry = await registry.create(owned())
    assert registry._connection is not None
    registry._connection.execute("PRAGMA max_page_count = 1")
    many = [identity(number, segment="x" * 200) for number in range(200)]
    with pytest.raises(RegistryUnreachableError, match="full"):
        await registry.replace(owned("vm1", *many), entry.token)
    assert await registry.entries() == (entry,)


async def test_a_value_that_is_too_long(path: Path, open_one: Open) -> None:
    await open_one().create(owned())
    execute(path, "UPDATE entries SET value = zeroblob(?)", MAX_VALUE_BYTES + 10)
    with pytest.raises(MalformedEntryError, match=r"VM vm1: it takes more than"):
        await open_one().read("vm1")
    many = [identity(number % 256, segment=f"{number:0200}") for number in range(5000)]
    with pytest.raises(MalformedEntryError, match=r"VM vm2: it takes more than"):
        await open_one().create(owned("vm2", *many))


@pytest.mark.parametrize("value", ["text", 17, b"\xff"])
async def test_a_damaged_value_is_removed_by_the_token_that_its_error_tells(
    path: Path, open_one: Open, value: str | int | bytes
) -> None:
    await open_one().create(owned("vm1", identity()))
    execute(path, "UPDATE entries SET value = ?", value)
    registry = open_one()
    with pytest.raises(MalformedEntryError) as raised:
        await registry.read("vm1")
    assert (raised.value.vm, raised.value.token) == ("vm1", Token(1, 1))
    with pytest.raises(MalformedEntryError):
        await registry.delete("vm1", Token(1, 2))
    await registry.delete("vm1", Token(1, 1))
    await registry.create(owned("vm2", identity()))


async def test_an_older_epoch_changes_nothing_any_more(open_one: Open) -> None:
    """Neither one that is opened later, nor one that was open when the epoch was raised."""
    old = open_one(epoch=1)
    entry = await old.create(owned())
    await open_one(epoch=2).read("vm1")
    with pytest.raises(RegistryFileError, match=r"epoch 1.*used with epoch 2"):
        await old.replace(owned(owner="b"), entry.token)
    with pytest.raises(RegistryFileError, match="epoch 2"):
        await open_one(epoch=1).read("vm1")
    found = await open_one(epoch=2).read("vm1")
    assert found is not None
    assert found.ownership == entry.ownership


@pytest.mark.parametrize("epoch", [-1, 1 << 31])
def test_an_epoch_out_of_its_range(path: Path, epoch: int) -> None:
    with pytest.raises(UsageError, match=str(epoch)):
        SqliteRegistry(str(path), epoch=epoch)


async def test_a_backup_that_is_put_back_is_opened_anew(path: Path, open_one: Open) -> None:
    """What was open goes on with the file that has the name now; with a new epoch no old token fits."""
    registry = open_one()
    first = await registry.create(owned())
    registry.close()
    shutil.copy(path, backup := path.with_name("backup"))
    lost = await registry.replace(owned(owner="b"), first.token)
    for beside in ("-wal", "-shm"):
        os.unlink(f"{path}{beside}")
    os.replace(backup, path)
    again = await registry.replace(owned(owner="c"), first.token)
    assert again.token == lost.token, "revisions repeat"
    assert await open_one().read("vm1") == again
    with pytest.raises(StaleTokenError):
        await open_one(epoch=2).replace(owned(owner="b"), lost.token)


async def test_a_file_that_has_gone_is_not_made_again(path: Path, open_one: Open) -> None:
    """An empty registry in its place would let another host take the VM."""
    registry = open_one()
    entry = await registry.create(owned())
    os.rename(path, path.with_name("away"))
    for act in (registry.read("vm1"), registry.create(owned(owner="b"))):
        with pytest.raises(RegistryUnreachableError, match="gone"):
            await act
    assert not path.exists()
    os.rename(path.with_name("away"), path)
    assert await registry.read("vm1") == entry


async def test_the_index_is_what_the_values_say(path: Path, open_one: Open) -> None:
    registry = open_one()
    first = await registry.create(owned("vm1", identity(1), identity(2, shared=True)))
    await registry.create(owned("vm2", identity(2, shared=True)))
    with pytest.raises(IdentityTakenError):
        await registry.replace(owned("vm1", identity(3), identity(2)), first.token)
    await registry.replace(owned("vm1", identity(3)), first.token)
    rows = execute(path, "SELECT vm, mac, shared FROM identities ORDER BY vm, mac")
    assert rows == [("vm1", identity(3).mac, 0), ("vm2", identity(2).mac, 1)]
