# SPDX-License-Identifier: Apache-2.0
"""The linters, the licence header, and the size of files and functions."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = [name for name in ("src", "lab", "tests", "bench", "tools") if (ROOT / name).is_dir()]
TYPED = [name for name in FOLDERS if name != "tools"]

MAX_FILE = 500
MAX_FUNCTION = 60


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}{done.stderr}", pytrace=False)


def test_ruff_check() -> None:
    run(sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", *FOLDERS)


def test_ruff_format() -> None:
    run(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", *FOLDERS)


@pytest.mark.slow
def test_mypy() -> None:
    run(sys.executable, "-m", "mypy", *TYPED)


@pytest.mark.slow
def test_pyright() -> None:
    run(os.path.join(os.path.dirname(sys.executable), "pyright"), "--pythonpath", sys.executable, *TYPED)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_file_names_its_licence_first(folder: str) -> None:
    header = "# SPDX-License-Identifier: Apache-2.0"
    without = [str(path) for path in python_files(folder) if header not in path.read_text().splitlines()[:2]]
    assert without == []


def test_no_file_is_too_long() -> None:
    lengths = {str(path): len(path.read_text().splitlines()) for path in python_files("src", "lab")}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_FILE} == {}


def test_no_function_is_too_long() -> None:
    long = [
        f"{path}:{node.lineno} {node.name}: {length} lines"
        for path in python_files("src")
        for node in _functions(path)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION
    ]
    assert long == []


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
