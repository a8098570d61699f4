# SPDX-License-Identifier: Apache-2.0
"""One run of a verb: adapters made, the verb called, its outcome printed and turned into an exit code."""

from __future__ import annotations

import importlib
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Protocol, cast

import msgspec

from vferry.clock import SystemClock
from vferry.core.errors import PersonNeededError, RefusedError, UsageError, VferryError
from vferry.ports.nic import Nic
from vferry.state.files import exclusive
from vferry.state.journal import DirectoryJournal
from vferry.verbs.context import Context

if TYPE_CHECKING:
    from vferry.core.capability import CapabilityTable

__all__ = ["Command", "Session"]

DONE, FAILED, USAGE, REFUSED, PERSON_NEEDED = range(5)

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

    @property
    def context(self) -> Context:
        """The ports, made when first used."""
        if self._context is None:
            from vferry.nic.linux import LinuxNic  # noqa: PLC0415 -- 'vferry witness' and help do without it

            journal = DirectoryJournal(self.arguments.state_dir)
            self._context = Context(self._nic or LinuxNic(), journal, SystemClock())
        return self._context

    @property
    def json(self) -> bool:
        """Whether the outcome is printed as JSON."""
        return bool(self.arguments.json)

    def tables(self) -> tuple[CapabilityTable, ...]:
        """Return what is known of drivers on this host."""
        from vferry.state.capabilities import CapabilityDirectory  # noqa: PLC0415

        return CapabilityDirectory(self.arguments.state_dir).tables()

    def keep(self, tables: tuple[CapabilityTable, ...]) -> None:
        """Keep what was learned."""
        from vferry.state.capabilities import CapabilityDirectory  # noqa: PLC0415

        directory = CapabilityDirectory(self.arguments.state_dir)
        for table in tables:
            directory.put(table)

    def print(self, result: object, *lines: str) -> None:
        """Print ``result`` as JSON, or ``lines`` for people."""
        if self.json:
            self._print_json(result)
        else:
            for line in lines:
                print(line)

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
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            failure = VferryError(self.arguments.verb, why=str(error), next_step="see the system's message above")
            return self._report(failure, FAILED)
        except KeyboardInterrupt:
            return self._interrupted()

    def _interrupted(self) -> int:
        left = [record for record in self.context.journal.records() if not record.completed]
        if not left:
            return self._report(VferryError(self.arguments.verb, why="interrupted before anything was changed"), FAILED)
        names = " ".join(f"{record.identity.pf}/{record.key.index}" for record in left)
        error = PersonNeededError(
            self.arguments.verb,
            why=f"interrupted while {names} were being changed; their undo records are kept",
            next_step="the same command again completes the change; 'vferry doctor' names the way back",
        )
        return self._report(error, PERSON_NEEDED)

    def _report(self, error: VferryError, code: int) -> int:
        if self.json:
            self._print_json({**error.to_dict(), "exit": code})
        print(f"vferry: {error}", file=sys.stderr)
        return code

    def _print_json(self, result: object) -> None:
        encoded = msgspec.json.format(msgspec.json.encode(result), indent=2)
        print(encoded.decode(), flush=True)


def _exit_code(error: VferryError) -> int:
    if isinstance(error, UsageError):
        return USAGE
    if isinstance(error, RefusedError):
        return REFUSED
    return PERSON_NEEDED if isinstance(error, PersonNeededError) else FAILED
