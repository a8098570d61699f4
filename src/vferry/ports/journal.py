# SPDX-License-Identifier: Apache-2.0
"""What is written down before a NIC is touched, so that a crash at any point can be completed or undone."""

from __future__ import annotations

from typing import Protocol

from vferry.core.errors import FailedError
from vferry.core.undo import UndoRecord, VfKey

__all__ = ["Journal", "JournalError"]


class JournalError(FailedError):
    """The journal cannot be read or written; nothing was done to the NIC."""


class Journal(Protocol):
    """One undo record for each VF that is fenced or being changed."""

    def put(self, record: UndoRecord) -> None:
        """Store ``record`` under its VF, replacing what was there.

        When this returns, the record survives a crash of the host; a crash inside leaves the old one or the new.

        :raise JournalError: the record could not be stored.
        """
        ...

    def get(self, key: VfKey) -> UndoRecord | None:
        """Return the record of a VF, or None.

        :raise JournalError: there is one and it cannot be read or is damaged.
        """
        ...

    def remove(self, key: VfKey) -> None:
        """Forget the record of a VF; nothing happens if there is none."""
        ...

    def records(self) -> tuple[UndoRecord, ...]:
        """Return all records, in the order of their keys.

        :raise JournalError: one of them cannot be read or is damaged.
        """
        ...
