# SPDX-License-Identifier: Apache-2.0
"""Learned capability tables, kept in the state directory: ``<directory>/capabilities/<kind>.json``."""

from __future__ import annotations

import os

import msgspec

from vferry.core.capability import CapabilityKey, CapabilityTable
from vferry.core.errors import FailedError
from vferry.core.reference_tables import REFERENCE_TABLES
from vferry.state.files import DEFAULT_STATE_DIRECTORY, make_directory, write_durably

__all__ = ["CapabilityDirectory", "CapabilityFileError"]

MAX_TABLE_BYTES = 256 << 10


class CapabilityFileError(FailedError):
    """A capability table cannot be read or written."""


class CapabilityDirectory:
    """The tables that this host has learned, beside those that ship with vferry."""

    def __init__(self, state_directory: str = DEFAULT_STATE_DIRECTORY) -> None:
        """Use ``state_directory``; it is made when the first table is stored."""
        self._directory = os.path.join(state_directory, "capabilities")

    def tables(self) -> tuple[tuple[CapabilityTable, ...], tuple[CapabilityFileError, ...]]:
        """Return all learned tables, then the reference tables; and why others could not be read."""
        try:
            names = sorted(name for name in os.listdir(self._directory) if name.endswith(".json"))
        except FileNotFoundError:
            names = []
        except OSError as error:
            return REFERENCE_TABLES, (CapabilityFileError("list capability tables", why=str(error)),)
        found: list[CapabilityTable] = []
        problems: list[CapabilityFileError] = []
        for name in names:
            try:
                found.append(self._load(os.path.join(self._directory, name)))
            except CapabilityFileError as error:
                problems.append(error)
        return (*found, *REFERENCE_TABLES), tuple(problems)

    def put(self, table: CapabilityTable) -> str:
        """Store a table, replacing the one of the same kind; return the file's name.

        :raise CapabilityFileError: it could not be stored.
        """
        path = os.path.join(self._directory, _file_name(table.key))
        try:
            make_directory(self._directory)
            write_durably(path, msgspec.json.format(msgspec.json.encode(table), indent=2) + b"\n")
        except OSError as error:
            raise CapabilityFileError(f"write the capability table {path}", why=str(error)) from error
        return path

    def _load(self, path: str) -> CapabilityTable:
        try:
            with open(path, "rb") as file:
                return msgspec.json.decode(file.read(MAX_TABLE_BYTES), type=CapabilityTable)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CapabilityFileError(
                f"read the capability table {path}",
                why=str(error),
                next_step="remove the file and learn it again with 'vferry probe PF'",
            ) from error


def _file_name(key: CapabilityKey) -> str:
    parts = (key.vendor, key.device_id, key.driver, key.driver_version, key.kernel_release)
    plain = "_".join(part or "-" for part in parts)
    return "".join(char if char.isalnum() or char in ".+-_" else "-" for char in plain).lstrip(".") + ".json"
