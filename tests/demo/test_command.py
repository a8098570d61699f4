# SPDX-License-Identifier: Apache-2.0
"""``vferry demo``: exit codes, JSON, the page, and what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vferry.cli import DONE, FAILED, USAGE
from vferry.cli.main import main
from vferry.demo.report import Report


def test_for_people(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    assert main(["demo", "--run", "vferry"]) == DONE
    out = capsys.readouterr().out
    assert "vferry: A is fenced before B owns the VM" in out
    assert out.count("  holds: ") == 7
    assert max(map(len, out.splitlines())) <= 90


def test_json_and_a_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "demo.html"
    assert main(["demo", "--run", "vferry", "--seed", "4", "--mode", "cold", "--json", "--html", str(path)]) == DONE
    report = json.loads(capsys.readouterr().out)
    assert (report["seed"], report["mode"], [run["name"] for run in report["runs"]]) == (4, "cold", ["vferry"])
    assert all(claim["holds"] for claim in report["runs"][0]["claims"])
    assert report["counts"]["vferry"]["neighbour-A"]["dead"] == 0
    assert path.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("path", [".", "missing/demo.html", "file/demo.html"])
def test_a_page_that_cannot_be_opened_is_said_before_anything_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (tmp_path / "file").touch()
    runs: list[object] = []
    monkeypatch.setattr("vferry.cli.commands.demo.show", lambda **arguments: runs.append(arguments))
    assert main(["demo", "--html", str(tmp_path / path)]) == USAGE
    assert runs == []
    text = capsys.readouterr()
    assert text.out == ""
    assert "name another file" in text.err


EMPTY = Report(seed=1, mode="cold", runs=())


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_page_that_cannot_be_written_after_all_leaves_the_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.setattr("vferry.cli.commands.demo.show", lambda **_: EMPTY)
    assert main(["demo", "--html", "/dev/full", *options]) == FAILED
    text = capsys.readouterr()
    assert "/dev/full: No space left" in text.err
    if options:
        found = json.loads(text.out)
        assert (found["error"], found["seed"], found["exit"]) == ("PageNotWrittenError", 1, FAILED)
    else:
        assert "A VM moves from A to B" in text.out


def test_a_page_takes_the_place_of_an_older_one_only_when_there_is_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old.html", tmp_path / "new.html"
    old.write_text("old " * 10_000)
    for path in (old, new):
        assert main(["demo", "--run", "copied", "--mode", "cold", "--html", str(path)]) == USAGE
    assert old.read_text().startswith("old old")
    assert not new.exists()
    monkeypatch.setattr("vferry.cli.commands.demo.show", lambda **_: EMPTY)
    assert main(["demo", "--html", str(old)]) == DONE
    assert old.read_text().startswith("<!DOCTYPE html>")
    assert "old old" not in old.read_text()
    assert main(["demo", "--html", "/dev/null"]) == DONE
    assert capsys.readouterr().out


def test_a_naive_run_that_does_not_show_its_defect_fails_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vferry.demo.runs._program_destination", lambda scene, **_: scene.mark("program", "B"))
    assert main(["demo", "--run", "early", "--mode", "cold"]) == FAILED
    text = capsys.readouterr()
    assert "BROKEN: B swallows" in text.out
    assert "claims do not hold: early: B swallows" in text.err


def test_a_defect_inside_is_no_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vferry.demo.account.Accountant.settle", lambda *_: None)
    assert main(["demo", "--run", "early", "--seed", "5", "--json"]) == FAILED
    text = capsys.readouterr()
    assert "Traceback" not in text.err
    assert "report this line" in text.err
    error = json.loads(text.out)
    assert (error["error"], error["seed"], error["run"]) == ("SimulationFailedError", 5, "early")


def test_a_run_that_makes_no_sense(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--run", "copied", "--mode", "failover"]) == USAGE
    assert "choose one of early, vferry" in capsys.readouterr().err


def test_it_fails_where_vferry_is_not_clean(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vferry.migration.source_acts.fence", lambda *_: None)
    assert main(["demo", "--run", "vferry"]) == FAILED
    text = capsys.readouterr()
    assert "BROKEN: no frame was swallowed" in text.out
    assert "claims do not hold: vferry: no frame was swallowed" in text.err
    assert main(["demo", "--run", "vferry", "--json"]) == FAILED
    error = json.loads(capsys.readouterr().out)
    assert (error["error"], error["exit"], error["runs"][0]["name"]) == ("DemoNotCleanError", FAILED, "vferry")


WITHOUT_TRIO = """
import sys
sys.modules["trio"] = None
from vferry.cli.main import main
sys.exit(main(["demo"]))
"""


def test_without_trio() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TRIO], capture_output=True, text=True, check=False)
    assert done.returncode == FAILED
    assert "pip install 'vferry[sim]'" in done.stderr
    assert "Traceback" not in done.stderr


IMPORTS = """
import sys
import vferry.cli.arguments, vferry.cli.session, vferry.cli.commands.{verb}
vferry.cli.arguments.make_parser()
print(*(name for name in sys.modules if name.startswith(("trio", "vferry.demo", "vferry.testing"))))
"""


@pytest.mark.parametrize(("verb", "loaded"), [("list", []), ("demo", ["vferry.demo"])])
def test_nothing_of_it_is_imported_before_it_is_needed(verb: str, loaded: list[str]) -> None:
    program = IMPORTS.format(verb=verb)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == loaded
