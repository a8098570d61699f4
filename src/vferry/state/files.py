# SPDX-License-Identifier: Apache-2.0
"""Files that a crash leaves whole: the old content or the new."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator

from vferry.core.errors import RefusedError

__all__ = [
    "DEFAULT_STATE_DIRECTORY",
    "StateBusyError",
    "exclusive",
    "flush_directory",
    "make_directory",
    "write_durably",
]

DEFAULT_STATE_DIRECTORY = "/var/lib/vferry"
"""Where the state of this host is kept (Filesystem Hierarchy Standard 3.0, 5.8)."""


class StateBusyError(RefusedError):
    """Another vferry is changing this host's VFs."""


def write_durably(path: str, data: bytes, *, mode: int = 0o600, beside: str | None = None) -> None:
    """Replace the file ``path`` by ``data``; when this returns it survives a crash of the host.

    :param beside: where the new file is made first, in the same directory (default: ``path`` and ``.new``).
    :raise OSError: it could not be written; the old file is unchanged, unless only its directory could not be flushed.
    """
    beside = beside or f"{path}.new"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    flush_directory(os.path.dirname(path) or ".")


def make_directory(path: str) -> None:
    """Make a directory for root only, and those above it, so that they survive a crash; nothing if it is there."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path) or "."
    make_directory(above)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    flush_directory(above)


def flush_directory(path: str) -> None:
    """Make renames and removals in a directory survive a crash."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def exclusive(state_directory: str) -> Iterator[None]:
    """Hold the lock of a host's state directory, so that two verbs never change VFs at once.

    The kernel drops the lock when the process ends, however it ends.

    :raise StateBusyError: another process holds it.
    :raise OSError: the directory cannot be made or written.
    """
    make_directory(state_directory)
    path = os.path.join(state_directory, "lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK:
                raise
            raise StateBusyError(
                "change VFs of this host",
                why=f"another vferry holds {path}",
                next_step="wait until it is done; 'fuser' on that file names it",
            ) from error
        yield
    finally:
        os.close(descriptor)
