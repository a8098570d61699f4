# SPDX-License-Identifier: Apache-2.0
"""Linters and type checkers are tests like any other."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PYTHON_FOLDERS = ("src", "lab", "tests", "bench")
MAX_LINES = 500
MAX_FUNCTION_LINES = 60


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (PROJECT / folder).rglob("*.py"))


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", *PYTHON_FOLDERS),
        ("ruff", "format", "--check", *PYTHON_FOLDERS),
        ("mypy",),
        ("pyright", "--warnings"),
    ],
    ids=["ruff", "format", "mypy", "pyright"],
)
def test_clean(command: tuple[str, ...]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", *command], cwd=PROJECT, capture_output=True, text=True, check=False, timeout=500
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", files(*PYTHON_FOLDERS), ids=lambda path: str(path.relative_to(PROJECT)))
def test_licence_and_size(path: Path) -> None:
    text = path.read_text()
    lines = text.splitlines()
    assert "# SPDX-License-Identifier: Apache-2.0" in lines[:2]
    if not path.is_relative_to(PROJECT / "tests"):
        assert len(lines) <= MAX_LINES
    if path.is_relative_to(PROJECT / "src"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION_LINES, node.name
