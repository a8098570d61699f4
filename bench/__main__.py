# SPDX-License-Identifier: Apache-2.0
"""``python -m bench``: measure vferry beside its peers and beside the floor, in one run in the lab."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from bench.aims import judge
from bench.report import as_json, section, terminal, write_document
from bench.run import Size, measure
from lab import LabError

FULL = Size(rounds=20, seconds=3.0)
QUICK = Size(rounds=1, seconds=0.05)
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "performance.md"


def main() -> int:
    """Measure, print, and write the document; the exit code says whether it could be measured, not what came of it."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only see that it works; the document stays as it is")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything, with all samples, to FILE")
    options = parser.parse_args()
    begin = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - begin:6.1f}  {line}", flush=True)

    try:
        measured = measure(QUICK if options.quick else FULL, say)
    except LabError as error:
        print(f"nothing was measured: {error}", file=sys.stderr)
        return 1
    aims = judge(measured.tables, measured.imports)
    print(terminal(measured, aims))
    if options.json:
        options.json.write_text(json.dumps(as_json(measured, aims)))
    if not options.quick:
        write_document(DOCUMENT, section(measured, aims))
    return 0


if __name__ == "__main__":
    sys.exit(main())
