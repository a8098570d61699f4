# SPDX-License-Identifier: Apache-2.0
"""``vferry resolve``: a person says who owns a VM."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.cli.test_recover import entry, registry
from vferry.cli import DONE, FAILED, USAGE
from vferry.cli.main import main
from vferry.core.migration.phases import Role, SourcePhase
from vferry.core.ownership import Ownership, Stage
from vferry.registry.sqlite import SqliteRegistry
from vferry.state.migrations import SqliteMigrationJournal


def run(state: Path, *words: str) -> int:
    return main(["resolve", "--json", "--state-dir", str(state), *words])


def owner(state: Path) -> Ownership:
    store = SqliteRegistry(str(state / "registry.sqlite"))
    try:
        found = asyncio.run(store.read("web"))
        assert found is not None
        return found.ownership
    finally:
        store.close()


@pytest.mark.parametrize(("to", "other"), [("a", "b"), ("b", "a")])
def test_a_person_decides(tmp_path: Path, to: str, other: str) -> None:
    registry(tmp_path, is_committed=True)
    assert run(tmp_path, "web", "--owner", to, "--i-have-fenced", other) == DONE
    now = owner(tmp_path)
    assert (now.owner, now.stage, now.migration) == (to, Stage.SETTLED, None)


def test_not_without_a_word_about_the_other_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry(tmp_path, is_committed=True)
    assert run(tmp_path, "web", "--owner", "a") == USAGE
    assert "--i-have-fenced b" in json.loads(capsys.readouterr().out)["next"]
    assert run(tmp_path, "web", "--owner", "a", "--i-have-fenced", "c") == USAGE
    assert owner(tmp_path).stage is Stage.COMMITTED


def test_not_for_a_host_without_a_part_in_it(tmp_path: Path) -> None:
    registry(tmp_path, is_committed=False)
    assert run(tmp_path, "web", "--owner", "c", "--i-have-fenced", "a") == USAGE
    assert owner(tmp_path).stage is Stage.OPEN


def test_a_dry_run_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry(tmp_path, is_committed=True)
    assert run(tmp_path, "web", "--owner", "a", "--i-have-fenced", "b", "--dry-run") == DONE
    assert json.loads(capsys.readouterr().out)["after"]["owner"] == "a"
    assert owner(tmp_path).stage is Stage.COMMITTED


def test_what_was_blocked_here_is_forgotten(tmp_path: Path) -> None:
    registry(tmp_path, is_committed=True)
    journal = SqliteMigrationJournal(str(tmp_path / "migrations.sqlite"))
    journal.write(entry(SourcePhase.BLOCKED))
    assert run(tmp_path, "web", "--owner", "a", "--i-have-fenced", "b") == DONE
    assert journal.read("m1", Role.SOURCE) is None


def test_a_side_that_goes_on_by_itself_is_kept(tmp_path: Path) -> None:
    registry(tmp_path, is_committed=True)
    journal = SqliteMigrationJournal(str(tmp_path / "migrations.sqlite"))
    journal.write(entry(SourcePhase.AWAIT))
    assert run(tmp_path, "web", "--owner", "a", "--i-have-fenced", "b") == DONE
    assert journal.read("m1", Role.SOURCE) is not None


def test_there_is_no_registry(tmp_path: Path) -> None:
    assert run(tmp_path, "web", "--owner", "a") == FAILED
    assert list(tmp_path.iterdir()) == []
