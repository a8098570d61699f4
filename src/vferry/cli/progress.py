# SPDX-License-Identifier: Apache-2.0
"""Say on standard error that something takes longer than a second."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

__all__ = ["progress"]


@contextlib.contextmanager
def progress(what: str, *, every: float = 1.0) -> Iterator[None]:
    """While the block runs, print ``what`` and the seconds passed, from the first second on."""
    over = threading.Event()
    thread = threading.Thread(target=_tell, args=(what, every, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _tell(what: str, every: float, over: threading.Event) -> None:
    start = time.monotonic()
    terminal = sys.stderr.isatty()
    told = False
    while not over.wait(every):
        text = f"{what} ... {time.monotonic() - start:.0f} s"
        print(f"\r{text}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)
        told = True
    if told and terminal:
        print(file=sys.stderr)
