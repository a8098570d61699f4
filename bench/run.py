# SPDX-License-Identifier: Apache-2.0
"""One run: a virtual host, every group in it, and what is measured on this machine itself."""

from __future__ import annotations

import base64
import json
import os
import platform
import tomllib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from bench import native
from bench.groups import GROUPS, IGB_VFS, SIMULATED, STARTUP_TITLE, Group, Table, table
from bench.guest.startup import BARE
from lab import Host, Igb, Images, build_images, program_image
from lab.images.cache import digest, make_piece
from lab.images.command import run
from lab.images.program import distribution_name, installed
from lab.standard import host_mac

_PROJECT = Path(__file__).resolve().parent.parent
_ENVIRONMENT = {"PYTHONPATH": "/opt/program:/opt/program/src:/opt/program/site-packages"}
_FLOOR = "/opt/program/floor/floor"
_LONGEST = 600.0


class Size(NamedTuple):
    """How much to measure."""

    rounds: int
    seconds: float
    """For each contender, over all rounds; one sample a round it takes at least."""


class Measured(NamedTuple):
    """What came of a run."""

    tables: dict[str, Table]
    imports: dict[str, dict[str, Any]]
    facts: dict[str, str]
    samples: dict[str, Any]


def measure(size: Size, say: Callable[[str], None]) -> Measured:
    """Carry out a run.

    :raise LabError: the lab cannot be had, or something went wrong in it.
    """
    images = build_images(say)
    floor = _build_floor()
    load = os.getloadavg()[0]
    with Host("bench", nics=(Igb(mac=host_mac("bench")),), images=images, program=_program(images, floor)) as host:
        lab = _Lab(host, size, say)
        samples = lab.measure()
        imports = lab.ask({"group": "imports", "pfs": lab.pfs_of_processes})
        answer = base64.b64decode(lab.ask({"group": "capture", "pf": lab.pfs["netdevsim", 64]}))
        facts = lab.ask({"group": "facts"})
    say("on this machine itself")
    samples["startup-native"] = native.startup(size.rounds, size.seconds)
    samples["read-native"] = native.read(answer, 64, floor, size.rounds, size.seconds)
    return Measured(
        tables=_tables(samples), imports=imports, facts={**_facts(size, load), **_named(facts)}, samples=samples
    )


def _build_floor() -> Path:
    """Compile ``floor.c``, once for each version of it."""
    source = _PROJECT / "bench" / "floor.c"

    def make(work: Path) -> None:
        run(["gcc", "-O2", "-static", "-o", work / "floor", source])

    return make_piece("bench-floor", [digest([source.read_bytes()])], make) / "floor"


def _program(images: Images, floor: Path) -> Path:
    project = tomllib.loads((_PROJECT / "pyproject.toml").read_text())["project"]
    names = [distribution_name(requirement) for requirement in project["dependencies"]]
    content: dict[str, Path | Sequence[Path]] = {
        "src": _PROJECT / "src",
        "site-packages": installed(*names, "pyroute2"),
        "bench": [_PROJECT / "bench" / name for name in ("guest", "__init__.py")],
        "floor": [floor],
    }
    return program_image(content, images)


class _Lab:
    """The virtual host with its NICs."""

    def __init__(self, host: Host, size: Size, say: Callable[[str], None]) -> None:
        self._host = host
        self._size = size
        self._say = say
        host.make_vfs(IGB_VFS)
        self.pfs = {("igb", IGB_VFS): host.pf()}
        for vfs, number in SIMULATED.items():
            self.pfs["netdevsim", vfs] = host.netdevsim(number, vfs=vfs)
        self.pfs_of_processes = {"netdevsim": self.pfs["netdevsim", 7], "igb": self.pfs["igb", IGB_VFS]}

    def ask(self, spec: dict[str, Any]) -> Any:
        """Run the script in the host and return what it prints."""
        command = ["python3", "-m", "bench.guest", json.dumps(spec)]
        return json.loads(self._host.run(command, timeout=_LONGEST, env=_ENVIRONMENT).out)

    def measure(self) -> dict[str, Any]:
        """Measure every group; nothing else is asked of the host meanwhile."""
        found = {}
        for number, group in enumerate(GROUPS, 1):
            self._say(f"{number:2}/{len(GROUPS) + 1}  {group.title}")
            found[group.key] = self._measure(group)
        self._say(f"{len(GROUPS) + 1:2}/{len(GROUPS) + 1}  {STARTUP_TITLE}")
        found["startup"] = self.ask({"group": "startup", "pfs": self.pfs_of_processes, **self._size._asdict()})
        return found

    def _measure(self, group: Group) -> Any:
        pf = self.pfs[group.nic, group.on or group.vfs]
        return self.ask({**group.spec(pf), "floor": _FLOOR, **self._size._asdict()})


def _tables(samples: dict[str, Any]) -> dict[str, Table]:
    found = [table(group.key, group.title, group.floor, samples[group.key]) for group in GROUPS]
    found.append(table("startup", STARTUP_TITLE, BARE, samples["startup"]))
    found.append(table("startup-native", "Whole processes, natively", BARE, samples["startup-native"]))
    title = "Read a captured answer with 64 VFs, natively"
    found.append(table("read-native", title, "C", samples["read-native"]))
    return {one.key: one for one in found}


def _facts(size: Size, load: float) -> dict[str, str]:
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": machine(load),
        "python": platform.python_version(),
        "pyroute2": version("pyroute2"),
        "rounds": f"{size.rounds}, about {size.seconds:g} s for each contender of a group",
    }


def machine(load: float | None = None) -> str:
    """Name this machine.

    :param load: at the start; None: what it is now.
    """
    load = os.getloadavg()[0] if load is None else load
    return f"{_processor()}, {os.cpu_count()} cores, Linux {os.uname().release}, load at start {load:.1f}"


def _named(facts: dict[str, str]) -> dict[str, str]:
    return {
        "host": f"QEMU TCG (emulated), 1 processor, Linux {facts['kernel']}, CPython {facts['python']}",
        "iproute2": facts["iproute2"],
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
