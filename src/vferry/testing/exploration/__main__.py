# SPDX-License-Identifier: Apache-2.0
"""``python -m vferry.testing.exploration``: explore the migration, and say how far it went.

Exits with 1 where something does not hold, and prints the way there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vferry.core.migration.tables import Order
from vferry.testing.exploration.explorer import explore

VFS = 2
VFS_LARGE = 8
"""Up to some two million states for an order, and 1.1 GB."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Explore, print, and return the exit code.

    :param arguments: None: those of the command line.
    """
    chosen = _parser().parse_args(arguments)
    orders = [order for order in Order if chosen.order in (None, order.name.lower().replace("_", "-"))]
    broken = False
    for order in orders:
        report = explore(order, vfs=VFS_LARGE if chosen.large else VFS, seconds=chosen.seconds)
        print(report, flush=True)
        for end, count in sorted(report.ends.items()):
            print(f"  {count:6} {end}")
        if report.violation is not None:
            broken = True
            print(report.violation, flush=True)
    return int(broken)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vferry.testing.exploration", description=__doc__)
    names = [order.name.lower().replace("_", "-") for order in Order]
    parser.add_argument("--order", choices=names, help="only this order; otherwise all")
    parser.add_argument("--large", action="store_true", help=f"a VM with {VFS_LARGE} VFs instead of {VFS}")
    parser.add_argument("--seconds", type=float, help="stop each order after so many seconds")
    return parser


if __name__ == "__main__":
    sys.exit(main())
