# SPDX-License-Identifier: Apache-2.0
"""The aims: ratios within one run, so that they mean the same on any machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from bench.groups import Table
from bench.guest.startup import BARE


class Aim(NamedTuple):
    """One aim and what came of it."""

    what: str
    aimed: str
    found: str
    met: bool


Tables = Mapping[str, Table]
Imports = Mapping[str, Mapping[str, Any]]


def judge(tables: Tables, imports: Imports) -> list[Aim]:
    """Compare one run with the aims."""
    return [*_read(tables), *_program(tables), *_startup(tables), _imports(imports)]


def _read(tables: Tables) -> Iterator[Aim]:
    read = tables["read-64"]
    yield _at_most("typed and checked read of 64 VFs, against C", 8, read.ratio("vferry"))
    yield _at_least("read of 64 VFs, against `ip -d -j` and its decoding", 10, read.ratio("ip -d -j", "vferry"))


def _program(tables: Tables) -> Iterator[Aim]:
    one, all_vfs = tables["program-1"], tables["program-64"]
    for name in ("vferry, armed", "vferry"):
        yield _at_most(f"program one VF ({_way(name)}), against C", 5, one.ratio(name))
        yield _at_least(f"program one VF ({_way(name)}), against one `ip`", 100, one.ratio("ip, one call", name))
    yield _at_most("program 64 VFs in one send (armed), against C", 5, all_vfs.ratio("vferry, armed"))


def _way(series: str) -> str:
    return "armed" if series.endswith("armed") else "cold"


def _startup(tables: Tables) -> Iterator[Aim]:
    yield _process(tables["startup-native"], "vferry --version", 2.5, "natively")
    lab = tables["startup"]
    yield _process(lab, "vferry --version", 2.5, "lab")
    for name in lab.wall:
        if name.startswith(("vferry save", "vferry verify")):
            yield _process(lab, name, 6, "lab")


def _process(table: Table, name: str, limit: float, where: str) -> Aim:
    """Judge a process by wall time and by processor time: by whichever is worse."""
    wall, cpu = table.ratio(name, BARE), table.cpu_ratio(name, BARE)
    return Aim(
        what=f"`{name}`, {where}, against `{BARE}`",
        aimed=f"at most {limit:g} x",
        found=f"{wall:.2f} x wall, {cpu:.2f} x processor",
        met=max(wall, cpu) <= limit,
    )


def _imports(imports: Imports) -> Aim:
    wrong = sorted({package for found in imports.values() for package in found["forbidden"]})
    return Aim(
        what="nothing slow is imported on the way of `--version`, `save` and `verify`",
        aimed="no pyroute2, asyncio, rich, ...",
        found=", ".join(wrong) or "none",
        met=not wrong,
    )


def _at_most(what: str, limit: float, found: float) -> Aim:
    return Aim(what, f"at most {limit:g} x", f"{found:.2f} x", found <= limit)


def _at_least(what: str, limit: float, found: float) -> Aim:
    return Aim(what, f"at least {limit:g} x faster", f"{found:.0f} x", found >= limit)
