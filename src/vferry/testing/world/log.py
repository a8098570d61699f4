# SPDX-License-Identifier: Apache-2.0
"""What happened in a world, in order: the same seed gives the same text."""

from __future__ import annotations

import trio

__all__ = ["EventLog"]


class EventLog:
    """Lines with their virtual time."""

    def __init__(self) -> None:
        self._lines: list[tuple[float, str, str]] = []

    def add(self, who: str, what: str) -> None:
        """Note that something happened now.

        :param who: the host or part of the world concerned.
        """
        self._lines.append((trio.current_time(), who, what))

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def text(self) -> str:
        """Everything so far."""
        return "\n".join(f"{at:11.6f} {who:<10} {what}" for at, who, what in self._lines)
