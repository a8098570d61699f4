# SPDX-License-Identifier: Apache-2.0
"""An import goes down the layers only (``docs/architecture.md``)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "vferry"

LAYERS: dict[str, set[str]] = {
    "core": set(),
    "ports": {"core"},
    "nic": {"core", "ports"},
    "state": {"core", "ports"},
    "witness": {"core", "ports"},
    "clock": {"core", "ports"},
    "verbs": {"core", "ports"},
    "cli": {"core", "ports", "nic", "state", "witness", "clock", "verbs"},
    "testing": {"core", "ports", "nic", "state", "witness", "clock", "verbs", "cli"},
    "__main__": {"cli"},
    "__init__": set(),
}
"""What each part may import, beside itself and the package's own ``__init__``."""

IMPURE = {
    "asyncio",
    "ctypes",
    "datetime",
    "fcntl",
    "logging",
    "os",
    "pathlib",
    "random",
    "secrets",
    "select",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
}
"""What the pure core must not import: clocks, randomness, files, sockets, processes."""


def imports(source: str) -> Iterator[str]:
    """Yield the full name of every module imported, wherever in the source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "vferry")


def violations(package: Path) -> list[str]:
    found: list[str] = []
    for path in sorted(package.rglob("*.py")):
        part = path.relative_to(package).parts[0].removesuffix(".py")
        assert part in LAYERS, f"{path}: which layer is {part}?"
        for name in imports(path.read_text()):
            top, *rest = name.split(".")
            if top == "vferry" and rest and rest[0] in LAYERS and rest[0] not in {part, *LAYERS[part]}:
                found.append(f"{path.relative_to(package)}: {part} imports {name}")
            if part in {"core", "ports"} and top in IMPURE:
                found.append(f"{path.relative_to(package)}: {part} imports {name}")
    return found


def test_imports_go_down_only() -> None:
    assert violations(PACKAGE) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("core/fence.py", "import time"),
        ("core/fence.py", "def late():\n    from vferry.verbs.fence import fence"),
        ("ports/nic.py", "from vferry.nic.linux import LinuxNic"),
        ("verbs/fence.py", "from vferry.state.journal import DirectoryJournal"),
        ("verbs/fence.py", "import vferry.nic.linux"),
        ("nic/linux/nic.py", "from vferry.verbs.context import Context"),
        ("cli/main.py", "from vferry.testing import MemoryNic"),
    ],
)
def test_a_violation_is_found(tmp_path: Path, path: str, source: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)
    assert len(violations(tmp_path)) == 1


def test_no_driver_is_named_in_logic() -> None:
    """Drivers are named in data tables only."""
    names = {"igb", "igbvf", "ixgbe", "i40e", "ice", "mlx5_core", "bnxt_en", "netdevsim", "virtio-pci"}
    tables = {"core/levers.py", "core/reference_tables.py"}
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE).as_posix()
        if relative in tables or relative.startswith("testing/"):
            continue
        tree = ast.parse(path.read_text())
        compared = [
            constant.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Compare | ast.MatchValue)
            for constant in ast.walk(node)
            if isinstance(constant, ast.Constant)
        ]
        assert not names & {value for value in compared if isinstance(value, str)}, relative
