# SPDX-License-Identifier: Apache-2.0
"""``vferry resolve``."""

from __future__ import annotations

import asyncio
import os

from vferry.cli import DONE
from vferry.cli.session import Session
from vferry.core.errors import FailedError
from vferry.core.ownership import Ownership, resolved
from vferry.migration.entries import is_blocked
from vferry.migration.ownership import read_entry, step
from vferry.registry.sqlite import SqliteRegistry
from vferry.state.migrations import SqliteMigrationJournal

__all__ = ["run"]


def run(session: Session) -> int:
    """Settle a VM on the host that a person names, and forget what was blocked for it here."""
    arguments = session.arguments
    path = arguments.registry or os.path.join(arguments.state_dir, "registry.sqlite")
    if not os.path.exists(path):
        raise FailedError(
            f"resolve who owns VM {arguments.vm}",
            why=f"there is no registry at {path}",
            next_step="name it with --registry",
        )
    before, after = asyncio.run(_settle(session, path))
    blocked = _forget_blocked(session)
    verb = "would be" if arguments.dry_run else "is"
    session.print(
        {"dry_run": arguments.dry_run, "before": before, "after": after, "forgotten": blocked},
        f"{after.vm}: {after.owner} {verb} the owner; it was {before.owner}, {before.stage.value}",
        *(f"  {name}: blocked here, {'would be ' * arguments.dry_run}forgotten" for name in blocked),
    )
    return DONE


async def _settle(session: Session, path: str) -> tuple[Ownership, Ownership]:
    arguments = session.arguments
    registry = SqliteRegistry(path)
    try:
        before = (await read_entry(registry, arguments.vm)).ownership
        after = _decided(session, before)
        if not arguments.dry_run:
            after = (await step(registry, arguments.vm, lambda found: _decided(session, found))).ownership
        return before, after
    finally:
        registry.close()


def _decided(session: Session, found: Ownership) -> Ownership:
    return resolved(found, owner=session.arguments.owner, fenced=session.arguments.fenced)


def _forget_blocked(session: Session) -> list[str]:
    """A blocked side goes on with nothing: once a person has decided, it is only in the way."""
    path = session.arguments.journal or os.path.join(session.arguments.state_dir, "migrations.sqlite")
    if not os.path.exists(path):
        return []
    journal = SqliteMigrationJournal(path)
    try:
        blocked = [one for one in journal.entries() if one.vm == session.arguments.vm and is_blocked(one)]
        for one in blocked if not session.arguments.dry_run else []:
            journal.forget(one.migration, one.role)
        return [one.migration for one in blocked]
    finally:
        journal.close()
