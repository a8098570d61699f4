# SPDX-License-Identifier: Apache-2.0
"""No host outlives the driver: a small process that kills what is left when the driver has ended, however it ended.

It reads ``+pid directory`` and ``-pid directory`` lines from its standard input and acts at the end of the input; the
directories of what it kills go too.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

_lock = threading.Lock()
_process: subprocess.Popen[bytes] | None = None


def watch(pid: int, directory: Path) -> None:
    """Have the process killed and its directory removed when this one ends."""
    _tell(f"+{pid} {directory}\n")


def forget(pid: int, directory: Path) -> None:
    """Take back :func:`watch`: the process has ended."""
    _tell(f"-{pid} {directory}\n")


def _tell(line: str) -> None:
    global _process  # noqa: PLW0603 - one for each driver
    with _lock:
        if _process is None:
            _process = subprocess.Popen(
                [sys.executable, "-IS", __file__], stdin=subprocess.PIPE, start_new_session=True
            )
            atexit.register(_close, _process)
        assert _process.stdin is not None
        _process.stdin.write(line.encode())
        _process.stdin.flush()


def _close(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    process.wait()


def _main() -> None:
    alive: dict[int, str] = {}
    for line in sys.stdin:
        number, _, directory = line[1:].strip().partition(" ")
        if line[0] == "+":
            alive[int(number)] = directory
        else:
            alive.pop(int(number), None)
    for pid, directory in alive.items():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _main()
