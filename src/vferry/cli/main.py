# SPDX-License-Identifier: Apache-2.0
"""The entry point: arguments in, one exit code out.

Exit codes: 0 done; 1 failed and everything is as before; 2 usage; 3 refused, findings say why; 4 a person is needed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from vferry import __version__
from vferry.cli import DONE, FAILED, USAGE

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _flushed(_run(words))
    except OSError as error:  # from writing help or the version; a verb reports its own
        return _not_written(error, FAILED)


def _run(words: list[str]) -> int:
    if words in (["--version"], ["-V"]):  # answered before anything else is imported
        print(f"vferry {__version__}")
        return DONE
    from vferry.cli.arguments import make_parser  # noqa: PLC0415 -- see above

    try:
        arguments = make_parser(words).parse_args(words)
    except SystemExit as stop:  # argparse has printed help or a usage error
        return DONE if stop.code in (0, None) else USAGE
    from vferry.cli.session import Session  # noqa: PLC0415

    return Session(arguments).run()


def _flushed(code: int) -> int:
    """Make sure that what was printed got out; what did not is said by the exit code."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return _not_written(error, code)
    return code


def _not_written(error: OSError, code: int) -> int:
    # Whatever is left in the buffer goes nowhere, so that the interpreter's own flush at the end succeeds.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):  # the reader of our output went away ('vferry list | head')
        return code
    print(f"vferry: write to standard output: {error.strerror}", file=sys.stderr)
    return code or FAILED
