# SPDX-License-Identifier: Apache-2.0
"""Start-up: whole processes against ``python3 -c pass``, and what they import."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from bench.guest.contender import Contender
from bench.guest.processes import finish, start, timed_process

BARE = "python3 -c pass"
"""What any Python program costs."""

LIBRARIES = "import argparse, msgspec, socket"
ITS_LIBRARIES = "its libraries alone"
"""What a verb could not do without, and none of vferry."""

FORBIDDEN = ("pyroute2", "asyncio", "rich", "click", "pydantic", "ssl", "multiprocessing", "concurrent")
"""Packages that no verb may import on its way; each would take longer than the verb."""

_LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| +(\S+)$")


def process_contenders(commands: Mapping[str, list[str]], env: Mapping[str, str]) -> list[Contender]:
    return [Contender(name, partial(timed_process, name, argv, env)) for name, argv in commands.items()]


def imports_of(argv: Sequence[str], env: Mapping[str, str]) -> dict[str, Any]:
    """Return what a Python program imports: how many modules, the slowest, and those that are forbidden.

    :param argv: the interpreter first.
    """
    found = [match for line in _importtime(argv, env).splitlines() if (match := _LINE.match(line))]
    own = sorted(((int(match[1]), match[3]) for match in found), reverse=True)
    packages = {match[3].partition(".")[0] for match in found}
    return {
        "modules": len(found),
        "microseconds": sum(self_time for self_time, _name in own),
        "slowest": [f"{name} {self_time}" for self_time, name in own[:15]],
        "by_package": _by_package(own),
        "forbidden": sorted(packages & set(FORBIDDEN)),
    }


def _by_package(own: Sequence[tuple[int, str]]) -> dict[str, int]:
    def package(item: tuple[int, str]) -> str:
        return item[1].partition(".")[0]

    totals = {name: sum(time for time, _ in group) for name, group in groupby(sorted(own, key=package), package)}
    return dict(sorted(totals.items(), key=lambda item: -item[1])[:15])


def _importtime(argv: Sequence[str], env: Mapping[str, str]) -> str:
    reader, writer = os.pipe()
    words = [argv[0], "-X", "importtime", *argv[1:]]
    process = start(words, env, err=writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        text = pipe.read()
    finish(process, words)
    return text
