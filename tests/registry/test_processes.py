# SPDX-License-Identifier: Apache-2.0
"""Several processes with one registry file: they race, and they are killed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec
import pytest

from vferry.core.ownership import Ownership, Token, adopted
from vferry.ports.registry import Entry
from vferry.registry import claims
from vferry.registry.sqlite import SqliteRegistry
from vferry.testing.registry_contract import identity, owned

RACER = """
import asyncio, sys
from vferry.core.ownership import Token, adopted
from vferry.ports.registry import StaleTokenError
from vferry.registry.sqlite import SqliteRegistry

registry = SqliteRegistry(sys.argv[1], busy_seconds=30)
print("ready", flush=True)
for line in sys.stdin:
    try:
        entry = asyncio.run(registry.replace(adopted("vm1", sys.argv[2]), Token(1, int(line))))
        print("won", entry.token.revision, flush=True)
    except StaleTokenError as stale:
        print("lost", stale.entry.token.revision, flush=True)
"""

WRITER = """
import asyncio, itertools, sys
from vferry.registry.sqlite import SqliteRegistry
from vferry.testing.registry_contract import identity, owned

async def write():
    registry = SqliteRegistry(sys.argv[1], busy_seconds=30)
    entry = await registry.read("vm1") or await registry.create(owned("vm1", identity(0)))
    for number in itertools.count():
        addresses = [identity(number % 250 + more) for more in range(1 + number % 5)]
        entry = await registry.replace(owned("vm1", *addresses, owner=f"host{number}"), entry.token)
        print(entry.token.revision, flush=True)

asyncio.run(write())
"""

OPENER = """
import asyncio, sys
from vferry.registry.sqlite import SqliteRegistry
from vferry.testing.registry_contract import owned

registry = SqliteRegistry(sys.argv[1], busy_seconds=30)
print("ready", flush=True)
sys.stdin.readline()
print(asyncio.run(registry.create(owned(sys.argv[2]))).token.revision, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite"


@contextlib.contextmanager
def started(program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def race(path: Path, rounds: int) -> None:
    """Give two processes the same token, again and again."""
    registry = SqliteRegistry(str(path))
    revision = asyncio.run(registry.create(adopted("vm1", "nobody"))).token.revision
    with started(RACER, path, "a") as one, started(RACER, path, "b") as other:
        racers = [pipes(one), pipes(other)]
        assert [answers.readline() for _orders, answers in racers] == ["ready\n"] * 2
        for _ in range(rounds):
            for orders, _answers in racers:
                orders.write(f"{revision}\n")
                orders.flush()
            outcomes = [answers.readline().split() for _orders, answers in racers]
            assert sorted(outcome for outcome, _revision in outcomes) == ["lost", "won"]
            assert {int(seen) for _outcome, seen in outcomes} == {revision + 1}, "the loser sees the winner's entry"
            revision += 1
            entry = asyncio.run(registry.read("vm1"))
            assert entry is not None
            assert entry.ownership.owner == ("a" if outcomes[0][0] == "won" else "b")
    registry.close()


@pytest.mark.slow
def test_of_two_processes_with_one_token_exactly_one_wins(path: Path) -> None:
    race(path, 500)


def test_of_two_processes_with_one_token_exactly_one_wins_a_few_times(path: Path) -> None:
    race(path, 20)


def check_after_kill(path: Path, acknowledged: int) -> Entry:
    """Hold what is there against what was answered, the value against the index, and the file against itself."""
    registry = SqliteRegistry(str(path))
    entry = asyncio.run(registry.read("vm1"))
    registry.close()
    assert entry is not None
    assert entry.token.revision in (acknowledged, acknowledged + 1), "the old or the new"
    db = sqlite3.connect(path)
    index = db.execute("SELECT segment, vlan, mac FROM identities WHERE vm = 'vm1'").fetchall()
    state = db.execute("SELECT revision FROM state").fetchone()
    integrity = db.execute("PRAGMA integrity_check").fetchone()
    db.close()
    assert set(index) == set(claims(entry.ownership))
    assert state == (entry.token.revision,)
    assert integrity == ("ok",)
    return entry


def kill_in_a_write(path: Path, moment: float) -> None:
    with started(WRITER, path) as writer:
        _orders, answers = pipes(writer)
        acknowledged = int(answers.readline())
        time.sleep(moment)
        writer.send_signal(signal.SIGKILL)
        # Whole lines only: the last may be cut.
        lines = answers.read().split("\n")[:-1]
    check_after_kill(path, int(lines[-1]) if lines else acknowledged)


def test_kill_9_leaves_the_old_entry_or_the_new_one(path: Path) -> None:
    kill_in_a_write(path, 0.01)


@pytest.mark.slow
def test_kill_9_at_random_moments_leaves_the_old_entry_or_the_new_one(path: Path) -> None:
    """Each process goes on with the file that the one before left."""
    moments = random.Random(1)
    for _ in range(25):
        kill_in_a_write(path, moments.uniform(0, 0.02))


def test_processes_that_make_the_file_at_once(path: Path) -> None:
    with contextlib.ExitStack() as stack:
        openers = [pipes(stack.enter_context(started(OPENER, path, f"vm{number}"))) for number in range(3)]
        assert [answers.readline() for _orders, answers in openers] == ["ready\n"] * 3
        for orders, _answers in openers:
            orders.write("go\n")
            orders.flush()
        revisions = [int(answers.readline()) for _orders, answers in openers]
    assert sorted(revisions) == [1, 2, 3]


# Killed between any two statements: no luck is needed


class KilledConnection:
    """A connection whose process dies before a statement; what it had open is left as the kernel leaves it."""

    def __init__(self, inner: sqlite3.Connection, at: int) -> None:
        self.inner = inner
        self.left = at

    def execute(self, statement: str, parameters: tuple[object, ...] = ()) -> sqlite3.Cursor:
        self._step()
        return self.inner.execute(statement, parameters)

    def executemany(self, statement: str, rows: list[tuple[object, ...]]) -> sqlite3.Cursor:
        self._step()
        return self.inner.executemany(statement, rows)

    @property
    def in_transaction(self) -> bool:
        return False  # the dead roll nothing back

    def _step(self) -> None:
        if self.left == 0:
            self.inner.close()
            raise KeyboardInterrupt
        self.left -= 1


def test_a_change_that_ends_before_any_statement_is_no_change(path: Path) -> None:
    first = asyncio.run(_created(path))
    newer: Ownership = msgspec.structs.replace(owned("vm1", identity(2), identity(3)), owner="b")
    for at in range(100):
        registry = SqliteRegistry(str(path))
        assert asyncio.run(registry.read("vm1")) == first
        registry._connection = KilledConnection(registry._connected(), at)  # type: ignore[assignment]
        try:
            entry = asyncio.run(registry.replace(newer, first.token))
        except KeyboardInterrupt:
            assert check_after_kill(path, first.token.revision) == first
            continue
        assert entry.token == Token(1, 2)
        registry._connection.inner.close()  # type: ignore[union-attr]
        assert at > 6, "each of its statements was the last one, once"
        assert check_after_kill(path, 2) == entry
        return
    pytest.fail("it never came to its end")


async def _created(path: Path) -> Entry:
    registry = SqliteRegistry(str(path))
    try:
        return await registry.create(owned("vm1", identity(1)))
    finally:
        registry.close()
