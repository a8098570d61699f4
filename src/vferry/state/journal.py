# SPDX-License-Identifier: Apache-2.0
"""A journal in a directory: one file for each VF, replaced atomically.

``<directory>/undo/<device>_<index>.json``. A file is written beside its final name, flushed to the disk, renamed, and
the directory is flushed: a crash at any instruction leaves the old file or the new one. Everything is readable by root
only: the records name MACs and VLANs of tenants.
"""

from __future__ import annotations

import contextlib
import os

import msgspec

from vferry.core.undo import UndoRecord, VfKey
from vferry.ports.journal import JournalError
from vferry.state.files import DEFAULT_STATE_DIRECTORY, flush_directory, make_directory, write_durably

__all__ = ["DirectoryJournal"]

MAX_UNDO_BYTES = 64 << 10
"""An undo record takes about 2 KiB."""


class DirectoryJournal:
    """Implements :class:`vferry.ports.journal.Journal` by files."""

    def __init__(self, state_directory: str = DEFAULT_STATE_DIRECTORY) -> None:
        """Use ``state_directory``; it is made when the first record is stored."""
        self._directory = os.path.join(state_directory, "undo")

    def put(self, record: UndoRecord) -> None:
        """Store ``record``; when this returns it is on the disk.

        :raise JournalError: it could not be stored.
        """
        path = self._path(record.key)
        try:
            make_directory(self._directory)
            write_durably(path, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
        except OSError as error:
            raise _journal_error("write", path, error) from error

    def get(self, key: VfKey) -> UndoRecord | None:
        """Return the record of a VF, or None.

        :raise JournalError: there is one and it cannot be read or is damaged.
        """
        return self._load(self._path(key))

    def remove(self, key: VfKey) -> None:
        """Forget the record of a VF.

        :raise JournalError: the file could not be removed.
        """
        path = self._path(key)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
                flush_directory(self._directory)
        except OSError as error:
            raise _journal_error("remove", path, error) from error

    def records(self) -> tuple[UndoRecord, ...]:
        """Return all records, in the order of their keys.

        :raise JournalError: one of them cannot be read or is damaged.
        """
        try:
            names = [name for name in os.listdir(self._directory) if _is_record_name(name)]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise _journal_error("list", self._directory, error) from error
        found = [self._load(os.path.join(self._directory, name)) for name in names]
        return tuple(sorted((record for record in found if record is not None), key=lambda record: record.key))

    def _path(self, key: VfKey) -> str:
        return os.path.join(self._directory, f"{_file_name(key.device)}_{key.index}.json")

    def _load(self, path: str) -> UndoRecord | None:
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_UNDO_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _journal_error("read", path, error) from error
        if len(data) > MAX_UNDO_BYTES:
            raise _journal_error("read", path, ValueError(f"more than {MAX_UNDO_BYTES} octets"))
        try:
            record = msgspec.json.decode(data, type=UndoRecord)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _journal_error("read", path, error) from error
        if self._path(record.key) != path:
            raise _journal_error("read", path, ValueError(f"it speaks of {record.key}"))
        return record


def _is_record_name(name: str) -> bool:
    """Other files in the directory are nobody's business here."""
    device, _, index = name.removesuffix(".json").rpartition("_")
    return name.endswith(".json") and bool(device) and index.isascii() and index.isdecimal()


def _file_name(device: str) -> str:
    """Bus addresses are plain; anything else is escaped, so that no record can leave the directory."""
    plain = "".join(char if char.isalnum() or char in ":.-" else f"%{ord(char):06x}" for char in device)
    return f"%{ord('.'):06x}{plain[1:]}" if plain.startswith(".") else plain


def _journal_error(act: str, path: str, error: Exception) -> JournalError:
    return JournalError(
        f"{act} the undo record {path}",
        why=str(error),
        next_step="nothing is changed on a NIC without it: mend the file or its directory, and try again",
    )
