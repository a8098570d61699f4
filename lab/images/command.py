# SPDX-License-Identifier: Apache-2.0
"""Programs run during the build: their output is kept for the error, not shown."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.errors import BuildFailed, LabUnavailable


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
) -> bytes:
    """Run a program to its end and return its standard output.

    :param env: variables in addition to this process's own; messages are asked for in English.
    :raise LabUnavailable: When there is no such program.
    :raise BuildFailed: When it ends with a status other than 0.
    """
    words = [os.fspath(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
            cwd=cwd,
            input=stdin if stdin is not None else b"",
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabUnavailable(f"the program {words[0]!r} is missing on this machine") from error
    if done.returncode != 0:
        output = (done.stdout[-2000:] + done.stderr[-4000:]).decode(errors="replace")
        raise BuildFailed(f"status {done.returncode} from: {' '.join(words)[:400]}", output)
    return done.stdout
