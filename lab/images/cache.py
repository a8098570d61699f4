# SPDX-License-Identifier: Apache-2.0
"""The cache: finished pieces of the build, each in a directory named after what it was made from.

A piece is made in a scratch directory and renamed into place when it is whole, so a directory with a final name is
always a finished one. A lock file for each piece keeps two builds from making the same piece at the same time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_SCRATCH_PREFIX = ".making-"
_UNUSED_SECONDS = 30 * 86400


def cache_root() -> Path:
    """Return the directory that holds everything the lab keeps between runs, and make it.

    ``VFERRY_LAB_CACHE`` names it; otherwise it is ``vferry/lab`` in the user's cache directory (XDG base directories).
    """
    named = os.environ.get("VFERRY_LAB_CACHE")
    standard = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vferry" / "lab"
    root = Path(named) if named else standard
    root.mkdir(parents=True, exist_ok=True)
    return root.resolve()


def digest(parts: Sequence[str | bytes]) -> str:
    """Return 12 hexadecimal digits that stand for ``parts``, order included."""
    total = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        total.update(len(raw).to_bytes(8, "big"))
        total.update(raw)
    return total.hexdigest()[:12]


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock ``name`` of the cache, waiting for it as long as another process has it."""
    directory = cache_root() / "locks"
    directory.mkdir(exist_ok=True)
    descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def scratch(label: str) -> Iterator[Path]:
    """Give a new directory inside the cache that is removed at the end, unless it was renamed away."""
    path = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH_PREFIX}{label}-", dir=cache_root()))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def piece_path(name: str, recipe: Sequence[str | bytes]) -> Path:
    """Return where the piece ``name`` made by ``recipe`` stands, finished or not yet made."""
    return cache_root() / f"{name}-{digest(recipe)}"


def make_piece(name: str, recipe: Sequence[str | bytes], make: Callable[[Path], None]) -> Path:
    """Return the directory of a finished piece; make it first where it does not exist.

    :param name: what it is; also the name of its lock.
    :param recipe: everything that decides its content.
    :param make: fills the directory it is given; it may fail at any point without harm.
    """
    path = piece_path(name, recipe)
    if path.exists():
        return path
    with locked(name):
        if path.exists():
            return path
        with scratch(name) as work:
            make(work)
            os.utime(work)
            work.rename(path)
    return path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or nothing."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_SCRATCH_PREFIX, delete=False) as file:
        file.write(content)
    Path(file.name).chmod(0o644)
    Path(file.name).rename(path)


def forget_unused(names: Sequence[str]) -> None:
    """Remove pieces called one of ``names`` that no one has asked for in 30 days: other versions of the recipes."""
    for name in names:
        for path in cache_root().glob(f"{name}-*"):
            if time.time() - path.stat().st_mtime > _UNUSED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def clear() -> None:
    """Remove everything the lab keeps. Running hosts keep the files that they have open."""
    for entry in cache_root().iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
