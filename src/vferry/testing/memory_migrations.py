# SPDX-License-Identifier: Apache-2.0
"""A migration journal in memory, on a simulated disk that forgets what was not flushed when its host loses power."""

from __future__ import annotations

from typing import TypeAlias

from vferry.core.migration.phases import Role
from vferry.ports.migrations import MigrationEntry, MigrationJournal, MigrationJournalError
from vferry.state.migrations import decode_entry, encode_entry
from vferry.testing.crash import CrashPoints

__all__ = ["MemoryDisk", "MemoryMigrationJournal"]

Key: TypeAlias = tuple[str, str]
"""Migration and role."""


class MemoryDisk:
    """Bytes by key, oldest first: a cache that every process sees, and beneath it what a loss of power leaves."""

    def __init__(self) -> None:
        self.content: dict[Key, bytes] = {}
        """What processes see."""
        self._durable: dict[Key, bytes] = {}
        self._unflushed: list[tuple[Key, bytes | None]] = []

    @property
    def unflushed(self) -> int:
        """How many writes a loss of power may take."""
        return len(self._unflushed)

    def put(self, key: Key, data: bytes | None) -> None:
        """Store bytes in the cache; None: remove them."""
        self._unflushed.append((key, data))
        _apply(self.content, key, data)

    def flush(self) -> None:
        """Make everything so far durable."""
        self._durable = dict(self.content)
        self._unflushed.clear()

    def lose_power(self, *, keep: int = 0) -> None:
        """Forget what was not flushed, but for its first ``keep`` writes, which had reached the disk by chance.

        A process that is killed alone loses nothing: leave this out.
        """
        for key, data in self._unflushed[:keep]:
            _apply(self._durable, key, data)
        self.content = dict(self._durable)
        self._unflushed.clear()


class MemoryMigrationJournal(MigrationJournal):
    """A :class:`~vferry.ports.migrations.MigrationJournal` on a simulated disk.

    After a simulated crash, ``MemoryMigrationJournal(old.disk)`` is the journal that the next process finds.

    :param disk: a new one where it is left out.
    :param points: where the process may die: before a change, inside (written and not flushed), and after.
    """

    def __init__(self, disk: MemoryDisk | None = None, points: CrashPoints | None = None) -> None:
        self.disk = MemoryDisk() if disk is None else disk
        self.points = CrashPoints() if points is None else points
        self.refused_writes = 0
        """How many of the next calls of :meth:`write` and :meth:`forget` fail, as on a full disk."""

    def write(self, entry: MigrationEntry) -> None:
        """Store an entry; it is durable when this returns."""
        self._put(entry.migration, entry.role, encode_entry(entry))

    def read(self, migration: str, role: Role) -> MigrationEntry | None:
        """Return an entry, or None."""
        self.points.look()
        data = self.disk.content.get((migration, role.value))
        return None if data is None else decode_entry(migration, role.value, data)

    def entries(self) -> tuple[MigrationEntry, ...]:
        """Return all entries, in the order in which they were first written."""
        self.points.look()
        return tuple(decode_entry(*key, data) for key, data in self.disk.content.items())

    def forget(self, migration: str, role: Role) -> None:
        """Remove an entry; nothing happens if there is none."""
        if (migration, role.value) in self.disk.content:
            self._put(migration, role, None)

    def _put(self, migration: str, role: Role, data: bytes | None) -> None:
        act = "forget" if data is None else "write"
        about = f"{act} {migration}/{role.value}"
        self.points.step(f"before {about}")
        if self.refused_writes > 0:
            self.refused_writes -= 1
            what = f"{act} the migration journal of migration {migration}, {role.value}"
            raise MigrationJournalError(what, why="no space left on the simulated disk")
        self.disk.put((migration, role.value), data)
        self.points.step(f"inside {about}")
        self.disk.flush()
        self.points.step(f"after {about}")


def _apply(content: dict[Key, bytes], key: Key, data: bytes | None) -> None:
    if data is None:
        content.pop(key, None)
    else:
        content[key] = data
