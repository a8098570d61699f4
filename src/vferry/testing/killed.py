# SPDX-License-Identifier: Apache-2.0
"""``python -m vferry.testing.killed STEP ARGUMENTS...``: run a real command that kills itself at a step.

The command is vferry's own, with its own NICs and state directory; between any two steps (before and after each
request to a NIC and each write to the journal) it can die by SIGKILL, as from ``kill -9``. Prints the number of
steps to standard error if it comes to its end.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from vferry.cli.arguments import make_parser
from vferry.cli.session import Session
from vferry.clock import SystemClock
from vferry.nic.linux import LinuxNic
from vferry.state.journal import DirectoryJournal
from vferry.testing.crash import CrashingJournal, CrashingNic, CrashPoints
from vferry.verbs.context import Context

__all__ = ["main"]


def main(words: Sequence[str]) -> int:
    """Run the command; return its exit code if it was not killed.

    :param words: the step to die at, counted from 1, and the command's own arguments.
    """
    points = CrashPoints(int(words[0]), kill=True)
    arguments = make_parser().parse_args(words[1:])
    journal = DirectoryJournal(arguments.state_dir)
    context = Context(CrashingNic(LinuxNic(), points), CrashingJournal(journal, points), SystemClock())
    code = Session(arguments, context=context).run()
    print(f"steps {len(points.steps)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
