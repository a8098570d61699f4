# SPDX-License-Identifier: Apache-2.0
"""A journal in memory whose content is bytes, so that it outlives the process that is simulated."""

from __future__ import annotations

import msgspec

from vferry.core.undo import UndoRecord, VfKey
from vferry.ports.journal import Journal, JournalError

__all__ = ["MemoryJournal"]

Storage = dict[VfKey, bytes]
"""The "disk": one encoded record for each VF."""


class MemoryJournal(Journal):
    """A :class:`~vferry.ports.journal.Journal` over a dictionary of bytes.

    After a simulated crash, ``MemoryJournal(old.storage)`` is the journal that the next process finds.

    :param storage: the "disk"; a new one where it is left out.
    """

    def __init__(self, storage: Storage | None = None) -> None:
        self.storage: Storage = {} if storage is None else storage
        self.refused_writes = 0
        """How many of the next calls of :meth:`put` and :meth:`remove` fail, as on a full disk."""

    def put(self, record: UndoRecord) -> None:
        """Store a record under its VF."""
        self._write("store an undo record", record.key)
        self.storage[record.key] = msgspec.json.encode(record)

    def get(self, key: VfKey) -> UndoRecord | None:
        """Return the record of a VF, or None."""
        encoded = self.storage.get(key)
        return None if encoded is None else _decode(key, encoded)

    def remove(self, key: VfKey) -> None:
        """Forget the record of a VF."""
        self._write("remove an undo record", key)
        self.storage.pop(key, None)

    def records(self) -> tuple[UndoRecord, ...]:
        """Return all records, in the order of their keys."""
        return tuple(_decode(key, self.storage[key]) for key in sorted(self.storage))

    # What tests do to it

    def damage(self, key: VfKey, *, keep: int | None = None) -> None:
        """Spoil the stored record of ``key``: cut it to ``keep`` octets, or make it another format's.

        :raise KeyError: there is no record.
        """
        encoded = self.storage[key]
        self.storage[key] = b"\x00" + encoded[1:] if keep is None else encoded[:keep]

    def snapshot(self) -> bytes:
        """Return the whole content, to compare."""
        return b"\n".join(str(key).encode() + b" " + self.storage[key] for key in sorted(self.storage))

    def _write(self, what: str, key: VfKey) -> None:
        if self.refused_writes > 0:
            self.refused_writes -= 1
            raise JournalError(what, vf=key.index, pf=key.device, why="no space left on the simulated disk")


def _decode(key: VfKey, encoded: bytes) -> UndoRecord:
    try:
        record = msgspec.json.decode(encoded, type=UndoRecord)
    except msgspec.DecodeError as error:
        raise JournalError("read an undo record", pf=key.device, vf=key.index, why=str(error)) from error
    if record.key != key:
        why = f"the record is about {record.key}"
        raise JournalError("read an undo record", pf=key.device, vf=key.index, why=why)
    return record
