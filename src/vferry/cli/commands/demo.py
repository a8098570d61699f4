# SPDX-License-Identifier: Apache-2.0
"""``vferry demo``."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from vferry.cli import DONE
from vferry.cli.progress import progress
from vferry.cli.session import Session
from vferry.core.errors import FailedError, UsageError
from vferry.demo import DemoNotCleanError, show

if TYPE_CHECKING:
    from vferry.demo.report import Report

__all__ = ["NoSuchPageError", "PageNotWrittenError", "run"]

COLUMNS = 110
"""Where neither the terminal nor COLUMNS says how many there are."""


class NoSuchPageError(UsageError):
    """The page's file cannot be opened for writing; nothing was run."""

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__("run the demo", why=f"--html {path}: {error.strerror}", next_step="name another file")


class PageNotWrittenError(FailedError):
    """The page could be opened before the runs, and not be written after them.

    :param report: what was seen in them.
    """

    def __init__(self, path: str, error: OSError, report: Report) -> None:
        super().__init__("write the demo's page", why=f"{path}: {error.strerror}", next_step="name another file")
        self.report = report

    def to_dict(self) -> dict[str, object]:
        """Return the error as JSON-ready data, with the report."""
        return {**super().to_dict(), **self.report.to_dict()}


def run(session: Session) -> int:
    """Do the runs, draw them, and make sure that what is said of them holds.

    :raise NoSuchPageError: the page cannot be written; nothing was run.
    :raise DemoNotCleanError: a claim does not hold; everything was printed.
    """
    arguments = session.arguments
    with _opened(arguments.html) as file:
        with progress("moving a VM"):
            report = show(seed=arguments.seed, mode=arguments.mode, run=arguments.run)
        error = None if file is None else _written(file, report)
    broken = error or (DemoNotCleanError(report) if report.broken else None)
    if broken is None or not session.json:  # there the error is the outcome, and has the report
        _print(session, report)
    if broken is not None:
        raise broken
    return DONE


@contextlib.contextmanager
def _opened(path: str | None) -> Iterator[TextIO | None]:
    """Open the page's file, before anything runs; what is in it stays until there is something to put in its place."""
    if path is None:
        yield None
        return
    new = not os.path.lexists(path)
    try:
        file = open(path, "a", encoding="utf-8")  # noqa: SIM115 -- closed below, errors of the block are not its own
    except OSError as error:
        raise NoSuchPageError(path, error) from error
    try:
        yield file
    except BaseException:
        if new:
            os.unlink(path)
        raise
    finally:
        with contextlib.suppress(OSError):  # what could not be written was said when it was tried
            file.close()


def _written(file: TextIO, report: Report) -> PageNotWrittenError | None:
    """Write the page, and return what went wrong: the report is to be printed first."""
    from vferry.demo.html import page  # noqa: PLC0415 -- only where it is asked for

    try:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.truncate(0)
        file.write(page(report))
        file.flush()
    except OSError as error:
        return PageNotWrittenError(file.name, error, report)
    return None


def _print(session: Session, report: Report) -> None:
    from vferry.demo.terminal import lines_of  # noqa: PLC0415 -- the report's types are loaded by now, not before

    session.print(report.to_dict(), *([] if session.json else lines_of(report, columns=_columns())))


def _columns() -> int:
    try:
        return int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        pass
    try:
        return os.get_terminal_size(1).columns
    except OSError:
        return COLUMNS
