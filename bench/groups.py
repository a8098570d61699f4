# SPDX-License-Identifier: Apache-2.0
"""What is measured, group by group."""

from __future__ import annotations

from typing import Any, NamedTuple

from bench.summary import Summary

FLOOR = "C"

READ = "read"
PROGRAM = "program"
FENCE = "fence"
STARTUP = "startup"

SIMULATED = {1: 1, 7: 2, 64: 3}
"""VFs of each netdevsim device, and its number."""
IGB_VFS = 7


class Group(NamedTuple):
    """One table: contenders that take turns."""

    key: str
    title: str
    kind: str
    vfs: int
    nic: str
    """``netdevsim`` or ``igb``."""
    on: int = 0
    """VFs of the PF; 0: as many as are used."""
    floor: str | None = FLOOR
    """The series that all others are divided by."""

    @property
    def everything(self) -> bool:
        """Whether the driver has all seven attributes."""
        return self.nic == "netdevsim"

    def spec(self, pf: str) -> dict[str, Any]:
        """Return what the script in the host is told."""
        return {"group": self.kind, "pf": pf, "vfs": self.vfs, "everything": self.everything}


GROUPS = (
    *(Group(f"read-{n}", f"Read a PF with {n} VF{'s' * (n > 1)} (netdevsim)", READ, n, "netdevsim") for n in SIMULATED),
    Group("read-igb", "Read a PF with 7 VFs (igb)", READ, IGB_VFS, "igb"),
    Group("program-1", "Program one VF, seven attributes (netdevsim)", PROGRAM, 1, "netdevsim", on=7),
    Group("program-igb", "Program one VF, five attributes (igb)", PROGRAM, 1, "igb", on=IGB_VFS),
    Group("program-64", "Program 64 VFs, seven attributes each (netdevsim)", PROGRAM, 64, "netdevsim"),
    *(
        Group(
            f"fence-{n}",
            f"Fence and unfence {n} VF{'s' * (n > 1)} (netdevsim)",
            FENCE,
            n,
            "netdevsim",
            on=7,
            floor=None,
        )
        for n in (1, 7)
    ),
    Group("fence-igb", "Fence and unfence 7 VFs (igb)", FENCE, IGB_VFS, "igb", floor=None),
)

STARTUP_TITLE = "Whole processes, in the lab"


class Table(NamedTuple):
    """What was measured of one group."""

    key: str
    title: str
    floor: str | None
    wall: dict[str, Summary]
    cpu: dict[str, Summary]

    def ratio(self, series: str, to: str | None = None) -> float:
        """Return by how much the median of a series is that of another one, the floor's where none is named."""
        other = to or self.floor
        assert other is not None
        return self.wall[series].median / self.wall[other].median

    def cpu_ratio(self, series: str, to: str) -> float:
        """Return the same for processor time."""
        return self.cpu[series].median / self.cpu[to].median


def table(key: str, title: str, floor: str | None, series: dict[str, dict[str, list[int]]]) -> Table:
    """Make a table of samples."""
    return Table(
        key=key,
        title=title,
        floor=floor,
        wall={name: Summary.of(found["wall"]) for name, found in series.items()},
        cpu={name: Summary.of(found["cpu"]) for name, found in series.items() if found.get("cpu")},
    )
