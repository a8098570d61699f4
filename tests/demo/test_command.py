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
    assert max(len(line) for line in out.splitlines() if line.startswith(("station", "PF of"))) <= 90


def test_json_and_a_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "demo.html"
    assert main(["demo", "--run", "vferry", "--seed", "4", "--mode", "cold", "--json", "--html", str(path)]) == DONE
    report = json.loads(capsys.readouterr().out)
    assert (report["seed"], report["mode"], [run["name"] for run in report["runs"]]) == (4, "cold", ["vferry"])
    assert all(claim["holds"] for claim in report["runs"][0]["claims"])
    assert report["counts"]["vferry"]["neighbour-A"]["dead"] == 0
    assert path.read_text().startswith("<!DOCTYPE html>")


def test_a_page_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vferry.cli.commands.demo.show", lambda **_: Report(seed=1, mode="cold", runs=()))
    assert main(["demo", "--run", "vferry", "--html", str(tmp_path)]) == FAILED
    assert "name another file" in capsys.readouterr().err


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
    assert "vferry's own claims do not hold: vferry: no frame was swallowed" in text.err
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
