# SPDX-License-Identifier: Apache-2.0
"""``vferry demo``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vferry.cli import DONE
from vferry.cli.progress import progress
from vferry.cli.session import Session
from vferry.core.errors import FailedError
from vferry.demo import DemoNotCleanError, show

if TYPE_CHECKING:
    from vferry.demo.report import Report

__all__ = ["PageNotWrittenError", "run"]

COLUMNS = 110
"""Where neither the terminal nor COLUMNS says how many there are."""


class PageNotWrittenError(FailedError):
    """The page cannot be written."""

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__("write the demo's page", why=f"{path}: {error.strerror}", next_step="name another file")


def run(session: Session) -> int:
    """Do the runs, draw them, and make sure that vferry's own is clean.

    :raise DemoNotCleanError: it is not; everything was printed.
    """
    arguments = session.arguments
    with progress("moving a VM"):
        report = show(seed=arguments.seed, mode=arguments.mode, run=arguments.run)
    _write_page(report, arguments.html)
    if not (report.broken and session.json):  # there the error is the outcome, and has the report
        _print(session, report)
    if report.broken:
        raise DemoNotCleanError(report)
    return DONE


def _write_page(report: Report, path: str | None) -> None:
    if path is None:
        return
    from vferry.demo.html import page  # noqa: PLC0415 -- only where it is asked for

    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(page(report))
    except OSError as error:
        raise PageNotWrittenError(path, error) from error


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
