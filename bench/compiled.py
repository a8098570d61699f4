# SPDX-License-Identifier: Apache-2.0
"""A trial: the register file and the switch compiled by mypyc, unchanged, beside the same as they are.

The package is copied, compiled there and measured in a process of its own; nothing of the project changes. Both kinds
of process take turns.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any

from bench.nic_groups import COMPILED, Samples
from bench.rates import Size, amount

_PROJECT = Path(__file__).resolve().parent.parent
_SOURCES = _PROJECT / "src"
_LONGEST = 900.0


class CannotCompileError(Exception):
    """There is nothing to compile with, or it did not work; says what is missing."""


def missing() -> list[str]:
    """Return what this machine lacks."""
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    found = {
        "mypyc (it comes with mypy, a development dependency)": importlib.util.find_spec("mypyc") is not None,
        "setuptools, which mypyc builds with": importlib.util.find_spec("setuptools") is not None,
        "a C compiler": any(shutil.which(name) for name in (os.environ.get("CC", "cc").split()[0], "cc", "gcc")),
        f"Python's headers ({header})": header.exists(),
    }
    return [what for what, there in found.items() if not there]


def compile_copy(work: Path) -> None:
    """Copy the package into a directory and compile :data:`~bench.nic_groups.COMPILED` there.

    :raise CannotCompileError: something is missing, or mypyc refuses.
    """
    lacking = missing()
    if lacking:
        raise CannotCompileError(f"missing: {', '.join(lacking)}")
    shutil.copytree(_SOURCES / "vferry", work / "vferry", ignore=shutil.ignore_patterns("__pycache__"))
    files = [name.replace(".", "/") + ".py" for name in COMPILED]
    done = subprocess.run(
        [sys.executable, "-m", "mypyc", *files], cwd=work, check=False, capture_output=True, text=True, timeout=_LONGEST
    )
    if done.returncode:
        raise CannotCompileError("mypyc failed:\n" + "\n".join((done.stdout + done.stderr).splitlines()[-10:]))


def measure_both(size: Size, keys: Sequence[str], say: Callable[[str], None]) -> tuple[Samples, Samples]:
    """Measure groups as they are and compiled, by turns; return the samples of each.

    :raise CannotCompileError: there is nothing to compile with, or what was compiled was not run.
    """
    with tempfile.TemporaryDirectory(prefix="vferry-compiled-") as directory:
        say("compile the register file and the switch with mypyc")
        compile_copy(Path(directory))
        plain: Samples = {}
        fast: Samples = {}
        for turn in range(size.rounds):
            say(f"turn {turn + 1} of {size.rounds}: as they are, compiled")
            for path, samples, expected in ((_SOURCES, plain, []), (Path(directory), fast, list(COMPILED))):
                found = _measure(path, size, keys)
                if found["compiled"] != expected:
                    raise CannotCompileError(f"compiled are {found['compiled']}, not {expected}")
                _add(samples, found["samples"])
    return plain, fast


def _measure(path: Path, size: Size, keys: Sequence[str]) -> dict[str, Any]:
    """Measure in a process of its own, with the package from a directory; two rounds."""
    command = [sys.executable, "-m", "bench.nic_groups", "2", str(size.seconds), *keys]
    env = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(command, cwd=_PROJECT, env=env, check=False, capture_output=True, text=True, timeout=_LONGEST)
    if done.returncode:
        raise CannotCompileError(f"measuring failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _add(samples: Samples, more: Samples) -> None:
    for key, group in more.items():
        for name, rates in group.items():
            samples.setdefault(key, {}).setdefault(name, []).extend(rates)


def rows(plain: Samples, fast: Samples, floors: Container[str | None]) -> list[list[str]]:
    """Return the cells of a table, its head first, without the floors: they are the same code in both."""
    cells = [["", "as it is, a second", "compiled, a second", "gain"]]
    for key, group in plain.items():
        for name, rates in group.items():
            if name in floors:
                continue
            before, after = statistics.median(rates), statistics.median(fast[key][name])
            cells.append([name, amount(before), amount(after), f"{after / before:.2f} x"])
    return cells
