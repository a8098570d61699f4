# SPDX-License-Identifier: Apache-2.0
"""How the two sides of a migration speak to each other."""

from __future__ import annotations

from typing import Protocol

from vferry.core.migration.messages import Message

__all__ = ["Channel"]


class Channel(Protocol):
    """A way to one peer for one migration. It may lose, double, delay and reorder; it never invents."""

    async def send(self, message: Message) -> None:
        """Send a message; returns whether or not it will arrive, and raises nothing for a peer that is gone."""
        ...

    async def receive(self) -> Message:
        """Wait for the next message."""
        ...
