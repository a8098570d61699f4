# SPDX-License-Identifier: Apache-2.0
"""What is measured of the software NIC, group by group; as a program it prints the samples of one process as JSON.

``python -m bench.nic_groups ROUNDS SECONDS GROUP...``
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from bench import mailbox, registers, simulation, veb
from bench.rates import Size, Work, measure


class Group(NamedTuple):
    """One table."""

    key: str
    title: str
    works: Callable[[], list[Work]]


GROUPS: Final = (
    Group("registers", "Register accesses", registers.works),
    Group("mailbox", "Mailbox handshakes", mailbox.works),
    Group("veb", "Frames of 64 octets through the switch, 64 pools", veb.works),
    Group("simulation", "Simulated migrations", simulation.works),
)
BY_KEY: Final = {group.key: group for group in GROUPS}

COMPILED: Final = tuple(
    f"vferry.nic.ixgbe.{name}" for name in ("register_file", "frame", "filters", "rate_limiter", "switch")
)
"""Modules that are written so that mypyc compiles them; one unit, which calls itself without Python's calls."""

Samples = dict[str, dict[str, list[float]]]
"""By group and contender."""


def compiled() -> list[str]:
    """Return which of :data:`COMPILED` this process runs as machine code."""
    return [name for name in COMPILED if not str(importlib.import_module(name).__file__).endswith(".py")]


def main(arguments: list[str]) -> int:
    """Measure the named groups and print what was found."""
    rounds, seconds, *keys = arguments
    size = Size(int(rounds), float(seconds))
    samples = {key: measure(BY_KEY[key].works(), size) for key in keys}
    found: dict[str, Any] = {"compiled": compiled(), "samples": samples}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
