# SPDX-License-Identifier: Apache-2.0
"""``vferry recover``: the truth table, and what it says of this host's migrations."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from vferry.cli import DONE, PERSON_NEEDED, REFUSED, USAGE
from vferry.cli.arguments import make_parser
from vferry.cli.session import Session
from vferry.core.fence import Mode
from vferry.core.migration.messages import VfTarget
from vferry.core.migration.phases import Role, SourcePhase
from vferry.core.migration.recovery import ROWS
from vferry.core.migration.tables import Order
from vferry.core.ownership import adopted, committed, opened
from vferry.ports.migrations import MigrationEntry
from vferry.registry.sqlite import SqliteRegistry
from vferry.state.migrations import SqliteMigrationJournal
from vferry.testing import IGB_LIKE, MemoryJournal, MemoryNic, MemoryPf, SimClock
from vferry.verbs.context import Context


def run(state: Path, *words: str) -> int:
    arguments = make_parser(["recover"]).parse_args(["recover", "--json", "--state-dir", str(state), *words])
    context = Context(nic=host_nic(), journal=MemoryJournal(), clock=SimClock())
    return Session(arguments, context=context).run()


def host_nic() -> MemoryNic:
    return MemoryNic(pfs=[MemoryPf(name="eth0", num_vfs=2, behaviour=IGB_LIKE)])


def entry(phase: SourcePhase) -> MigrationEntry:
    return MigrationEntry(
        migration="m1",
        vm="web",
        role=Role.SOURCE,
        order=Order.DEVICE_STATE,
        phase=phase.value,
        source="a",
        destination="b",
        mode=Mode.DEVICE_STATE,
        boot_id=host_nic().host().boot_id,
        targets=(VfTarget(saved="eth0/0", pf="eth0", vf=1),),
    )


def journal(state: Path, phase: SourcePhase) -> None:
    SqliteMigrationJournal(str(state / "migrations.sqlite")).write(entry(phase))


def registry(state: Path, *, is_committed: bool) -> None:
    async def fill() -> None:
        store = SqliteRegistry(str(state / "registry.sqlite"))
        first = await store.create(adopted("web", "a"))
        second = await store.replace(opened(first.ownership, "m1", source="a", destination="b"), first.token)
        if is_committed:
            await store.replace(committed(second.ownership, "m1"), second.token)
        store.close()

    asyncio.run(fill())


def test_the_table_is_printed_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--table") == DONE
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["why"] for row in rows] == [row.why for row in ROWS]
    assert {"running"} == set(rows[2]["here"]) == set(rows[2]["there"])


def test_nothing_is_under_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == DONE
    assert json.loads(capsys.readouterr().out) == {"migrations": []}
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_vm_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal(tmp_path, SourcePhase.AWAIT)
    registry(tmp_path, is_committed=True)
    assert run(tmp_path, "--here", "web=migrated") == DONE
    (found,) = json.loads(capsys.readouterr().out)["migrations"]
    assert (found["journal"], found["registry"], found["event"], found["alarm"]) == (
        "await",
        "committed",
        "restarted",
        False,
    )


def test_a_vm_that_runs_where_the_registry_says_otherwise_is_an_alarm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal(tmp_path, SourcePhase.AWAIT)
    registry(tmp_path, is_committed=True)
    assert run(tmp_path, "--here", "web=running") == PERSON_NEEDED
    (found,) = json.loads(capsys.readouterr().out)["migrations"]
    assert found["alarm"]
    assert "the destination's" in found["why"]


def test_a_hypervisor_that_nobody_asked_is_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal(tmp_path, SourcePhase.FENCE)
    registry(tmp_path, is_committed=False)
    assert run(tmp_path) == PERSON_NEEDED
    assert json.loads(capsys.readouterr().out)["migrations"][0]["here"] == "unknown"


def test_what_is_over_is_not_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal(tmp_path, SourcePhase.KEPT)
    assert run(tmp_path) == DONE
    assert json.loads(capsys.readouterr().out) == {"migrations": []}


@pytest.mark.parametrize("word", ["web", "web=asleep", "=running"])
def test_a_state_that_there_is_not(tmp_path: Path, word: str) -> None:
    assert run(tmp_path, "--here", word) == USAGE


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / "migrations.sqlite").write_bytes(b"no database at all, and long enough to be taken for one" * 20)
    assert run(tmp_path) not in (DONE, USAGE, REFUSED)
