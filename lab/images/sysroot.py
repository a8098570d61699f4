# SPDX-License-Identifier: Apache-2.0
"""Programs of an unpacked Debian tree, run on this machine by the tree's own dynamic loader.

No chroot and no privileges are needed, and the tree's C library may be newer than the machine's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabUnavailable

_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_PROGRAM_DIRECTORIES = ("usr/bin", "usr/sbin")


@dataclass(frozen=True)
class Sysroot:
    """An unpacked tree.

    :ivar root: its top directory.
    """

    root: Path

    def command(self, program: str, *arguments: str | Path) -> list[str]:
        """Return the argument vector that runs ``program`` of this tree.

        :raise LabUnavailable: When the tree has no such program.
        """
        loader = self.root / "usr/lib64/ld-linux-x86-64.so.2"
        libraries = f"{self.root / _LIBRARIES}:{self.root / _LIBRARIES / 'systemd'}"
        found = self._find(program)
        head = [str(loader), "--library-path", libraries, "--argv0", str(found)]
        return [*head, str(self._inside(found)), *map(str, arguments)]

    def path(self, relative: str) -> Path:
        """Return a path inside the tree."""
        return self.root / relative

    def _find(self, program: str) -> Path:
        for directory in _PROGRAM_DIRECTORIES:
            path = self.root / directory / program
            if path.exists() or path.is_symlink():
                return path
        raise LabUnavailable(f"no program {program!r} in {self.root}")

    def _inside(self, path: Path) -> Path:
        """Follow symbolic links as they would lead with this tree as ``/``."""
        while path.is_symlink():
            target = path.readlink()
            path = self.root / target.relative_to("/") if target.is_absolute() else path.parent / target
        return path
