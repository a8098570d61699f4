# SPDX-License-Identifier: Apache-2.0
"""Initramfs archives: cpio in the ``newc`` format.

The format is described in Linux ``Documentation/driver-api/early-userspace/buffer-format.rst``.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A file or a directory of the archive, owned by root.

    :ivar mode: type and permissions, as in ``st_mode``.
    """

    mode: int
    content: bytes = b""


def directory() -> Entry:
    """Return a directory with mode 0755."""
    return Entry(stat.S_IFDIR | 0o755)


def file(content: bytes, *, executable: bool = False) -> Entry:
    """Return a regular file with mode 0755 or 0644."""
    return Entry(stat.S_IFREG | (0o755 if executable else 0o644), content)


def archive(entries: Mapping[str, Entry]) -> bytes:
    """Return the archive; directories must stand before what is in them."""
    records = [_record(number, name, entry) for number, (name, entry) in enumerate(entries.items(), start=1)]
    return b"".join([*records, _record(0, "TRAILER!!!", Entry(0))])


def _record(inode: int, name: str, entry: Entry) -> bytes:
    path = name.encode() + b"\0"
    fields = (inode, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0, 0, 0, len(path), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    return _padded(header + path) + _padded(entry.content)


def _padded(raw: bytes) -> bytes:
    return raw + b"\0" * (-len(raw) % 4)
