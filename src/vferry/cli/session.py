# SPDX-License-Identifier: Apache-2.0
"""One run of a verb: adapters made, the verb called, its outcome printed and turned into an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Protocol, cast

import msgspec

from vferry.cli import DONE, FAILED, PERSON_NEEDED, REFUSED, USAGE
from vferry.clock import SystemClock
from vferry.core.errors import FailedError, PersonNeededError, RefusedError, UsageError, VferryError
from vferry.core.undo import UndoRecord, VfKey
from vferry.ports.journal import Journal
from vferry.ports.nic import Nic
from vferry.state.files import exclusive
from vferry.state.journal import DirectoryJournal
from vferry.verbs.context import Context
from vferry.verbs.pending import unfinished

if TYPE_CHECKING:
    from vferry.core.capability import CapabilityTable

__all__ = ["Command", "Session"]

CHANGING = frozenset({"restore", "fence", "unfence", "release", "probe"})
"""Verbs that change a NIC: one at a time on a host."""


class Command(Protocol):
    """A module in :mod:`vferry.cli.commands`."""

    def run(self, session: Session) -> int:
        """Run the verb, print its outcome, return the exit code."""
        ...


class Session:
    """What a command is given: its arguments, the ports, and where to print."""

    def __init__(self, arguments: Namespace, *, nic: Nic | None = None, context: Context | None = None) -> None:
        """Use the host's own NICs and state directory, unless others are given."""
        self.arguments = arguments
        self._nic = nic
        self._context = context
        self._watched: _WatchedJournal | None = None

    @property
    def context(self) -> Context:
        """The ports, made when first used."""
        if self._context is None:
            from vferry.nic.linux import LinuxNic  # noqa: PLC0415 -- 'vferry witness' and help do without it

            journal = DirectoryJournal(self.arguments.state_dir)
            self._context = Context(self._nic or LinuxNic(), journal, SystemClock())
        if self._watched is None:
            self._watched = _WatchedJournal(self._context.journal)
            self._context = self._context._replace(journal=self._watched)
        return self._context

    @property
    def json(self) -> bool:
        """Whether the outcome is printed as JSON."""
        return bool(self.arguments.json)

    def tables(self) -> tuple[CapabilityTable, ...]:
        """Return what is known of drivers on this host."""
        from vferry.state.capabilities import CapabilityDirectory  # noqa: PLC0415

        tables, problems = CapabilityDirectory(self.arguments.state_dir).tables()
        for problem in problems:  # a fence that is needed now must not fail over something merely learned
            print(f"vferry: left out: {_printable(str(problem))}", file=sys.stderr)
        return tables

    def keep(self, tables: tuple[CapabilityTable, ...]) -> None:
        """Keep what was learned."""
        from vferry.state.capabilities import CapabilityDirectory  # noqa: PLC0415

        directory = CapabilityDirectory(self.arguments.state_dir)
        for table in tables:
            directory.put(table)

    def keep_if_possible(self, tables: tuple[CapabilityTable, ...]) -> None:
        """Keep what was learned beside the verb's own work; if that fails, the work is done all the same."""
        try:
            self.keep(tables)
        except FailedError as error:
            print(f"vferry: what was learned of the driver is not kept: {_printable(str(error))}", file=sys.stderr)

    def print(self, result: object, *lines: str) -> None:
        """Print ``result`` as JSON, or ``lines`` for people."""
        if self.json:
            self._print_json(result)
        else:
            _write_out("".join(f"{_printable(line)}\n" for line in lines))

    def run(self) -> int:
        """Run the verb and return the exit code; errors are printed, never raised."""
        try:
            command = cast("Command", importlib.import_module(f"vferry.cli.commands.{self.arguments.verb}"))
            if self.arguments.verb in CHANGING and not self.arguments.dry_run:
                with exclusive(self.arguments.state_dir):
                    return command.run(self)
            return command.run(self)
        except VferryError as error:
            return self._report(error, _exit_code(error))
        except BrokenPipeError:  # the reader of a record on standard output went away ('vferry save | head')
            return DONE
        except OSError as error:
            permitted = not isinstance(error, PermissionError)
            next_step = "" if permitted else "run it as root, or name another state directory with --state-dir"
            return self._report(VferryError(self.arguments.verb, why=str(error), next_step=next_step), FAILED)
        except KeyboardInterrupt:
            return self._interrupted()

    def _interrupted(self) -> int:
        if self._watched is None or not self._watched.writes:
            return self._report(VferryError(self.arguments.verb, why="interrupted, and nothing is changed"), FAILED)
        try:
            left = [record for record in unfinished(self._watched.records()) if not record.completed]
        except VferryError as error:
            return self._report(error, PERSON_NEEDED)
        names = " ".join(f"{record.identity.pf}/{record.key.index}" for record in left)
        why = f"interrupted while {names} were being changed; their undo records are kept"
        next_step = "the same command again completes the change; 'vferry doctor' names the way back"
        if not left:
            why = "interrupted when the change was complete, or taken back"
            next_step = "'vferry show' says which it is; the same command again is harmless"
        return self._report(PersonNeededError(self.arguments.verb, why=why, next_step=next_step), PERSON_NEEDED)

    def _report(self, error: VferryError, code: int) -> int:
        if self.json:
            self._print_json({**error.to_dict(), "exit": code})
        with contextlib.suppress(OSError):
            print(f"vferry: {_printable(str(error))}", file=sys.stderr)
        return code

    def _print_json(self, result: object) -> None:
        encoded = msgspec.json.format(msgspec.json.encode(result), indent=2)
        _write_out(f"{encoded.decode()}\n")


class _WatchedJournal:
    """A journal that knows whether anything was written: before that, no verb touches a NIC."""

    def __init__(self, inner: Journal) -> None:
        self._inner = inner
        self.writes = 0

    def put(self, record: UndoRecord) -> None:
        self.writes += 1
        self._inner.put(record)

    def get(self, key: VfKey) -> UndoRecord | None:
        return self._inner.get(key)

    def remove(self, key: VfKey) -> None:
        self._inner.remove(key)

    def records(self) -> tuple[UndoRecord, ...]:
        return self._inner.records()


def _write_out(text: str) -> None:
    """Print; that nobody can read it does not change what the verb has done."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"vferry: the outcome cannot be printed: {error}", file=sys.stderr)


def _printable(text: str) -> str:
    """Names come from records and from the system: none may command the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _exit_code(error: VferryError) -> int:
    if isinstance(error, UsageError):
        return USAGE
    if isinstance(error, RefusedError):
        return REFUSED
    return PERSON_NEEDED if isinstance(error, PersonNeededError) else FAILED
