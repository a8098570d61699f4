# SPDX-License-Identifier: Apache-2.0
"""The name of a host and the end of its console, for errors that say what happened there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_TAIL_BYTES = 3000


@dataclass(frozen=True)
class HostLog:
    """Where a host's console and QEMU's own messages are.

    :ivar name: the host's name.
    :ivar directory: holds ``console`` and ``qemu.log``.
    """

    name: str
    directory: Path

    def tail(self) -> str:
        """Return the end of both logs, empty where there is nothing."""
        return "".join(self._end_of(name) for name in ("console", "qemu.log"))

    def _end_of(self, name: str) -> str:
        try:
            raw = (self.directory / name).read_bytes()
        except FileNotFoundError:
            return ""
        return raw[-_TAIL_BYTES:].decode(errors="replace").replace("\r", "")
