# SPDX-License-Identifier: Apache-2.0
"""An import goes down only: cli, demo, testing > migration > verbs > adapters > ports > core."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"

ADAPTERS = ("nic", "state", "registry", "vfio_user", "hypervisor", "witness", "clock")

MAY_IMPORT: dict[str, frozenset[str]] = {
    "": frozenset(),
    "__main__": frozenset({"", "cli"}),
    "core": frozenset({"core"}),
    "ports": frozenset({"ports", "core"}),
    **{name: frozenset({name, "ports", "core"}) for name in ADAPTERS},
    "verbs": frozenset({"verbs", "ports", "core"}),
    "migration": frozenset({"migration", "verbs", "ports", "core"}),
    "cli": frozenset({"", "cli", "demo", "migration", "verbs", *ADAPTERS, "ports", "core"}),
    "demo": frozenset({"", "demo", "testing", "migration", "verbs", *ADAPTERS, "ports", "core"}),
    "testing": frozenset({"testing", "migration", "verbs", *ADAPTERS, "ports", "core", "cli"}),
}
"""What a module may import of vferry; ``""`` is the package itself."""

INPUT_OUTPUT = frozenset(
    {
        *("asyncio", "concurrent", "multiprocessing", "queue", "sched", "selectors", "threading"),
        *("ctypes", "fcntl", "glob", "io", "mmap", "os", "pathlib", "shutil", "tempfile", "termios", "pty"),
        *("http", "select", "socket", "socketserver", "ssl", "urllib"),
        *("atexit", "logging", "platform", "signal", "sqlite3", "subprocess", "syslog"),
        *("datetime", "random", "secrets", "time", "uuid"),
    }
)
"""What makes a module depend on anything but its arguments."""

THIRD_PARTY: dict[str, frozenset[str]] = {
    "core": frozenset({"msgspec"}),
    "ports": frozenset({"msgspec"}),
    "verbs": frozenset({"msgspec"}),
    "cli": frozenset({"msgspec"}),
    "nic": frozenset({"msgspec", "pyroute2"}),
    "state": frozenset({"msgspec"}),
    "registry": frozenset({"msgspec"}),
    "vfio_user": frozenset({"msgspec"}),
    "hypervisor": frozenset({"msgspec", "anyio", "qemu"}),
    "migration": frozenset({"msgspec", "anyio"}),
    "demo": frozenset({"msgspec"}),
    "testing": frozenset({"msgspec", "hypothesis", "pytest", "anyio", "trio"}),
}


def violations(source: Path) -> list[str]:
    return [
        f"{path.relative_to(source)}:{line}: {layer or 'the package'} imports {name}"
        for path in sorted((source / "vferry").rglob("*.py"))
        for layer in [_layer(path.relative_to(source / "vferry").with_suffix("").parts)]
        for line, name in _imports(path, source)
        if not _allowed(layer, name)
    ]


def _layer(parts: tuple[str, ...]) -> str:
    return "" if parts == ("__init__",) else parts[0]


def _allowed(layer: str, name: str) -> bool:
    top, *rest = name.split(".")
    if top == "vferry":
        return _layer_of_import(rest) in MAY_IMPORT.get(layer, frozenset())
    if top in sys.stdlib_module_names:
        return layer not in ("core", "ports") or top not in INPUT_OUTPUT
    return top in THIRD_PARTY.get(layer, frozenset())


def _layer_of_import(rest: list[str]) -> str:
    return rest[0] if rest and rest[0] in MAY_IMPORT else ""


def _imports(path: Path, source: Path) -> Iterator[tuple[int, str]]:
    package = path.relative_to(source).parent.parts
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
            module = base if node.level else node.module or ""
            # "from vferry import nic" imports the layer, not the package alone.
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and _is_import_call(node):
            for argument in node.args[:1]:
                yield node.lineno, _text(argument)


def _is_import_call(node: ast.Call) -> bool:
    function = node.func
    return (isinstance(function, ast.Attribute) and function.attr == "import_module") or (
        isinstance(function, ast.Name) and function.id in ("__import__", "import_module")
    )


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    return "unknown"


def test_imports_go_down_only() -> None:
    assert violations(SOURCE) == []


def test_every_module_has_a_layer() -> None:
    layers = {_layer(path.relative_to(SOURCE / "vferry").with_suffix("").parts) for path in SOURCE.rglob("*.py")}
    assert layers == set(MAY_IMPORT)


WRONG = [
    ("core/a.py", "import vferry.ports.nic"),
    ("core/a.py", "from vferry.verbs import save"),
    ("core/a.py", "from vferry import verbs"),
    ("core/a.py", "from .. import ports"),
    ("core/rules/a.py", "from ...ports.nic import Nic"),
    ("core/a.py", "import os"),
    ("core/a.py", "from os.path import join"),
    ("core/a.py", "import time"),
    ("core/a.py", "import random"),
    ("core/a.py", "from socket import socket"),
    ("core/a.py", "import pyroute2"),
    ("core/a.py", "def f():\n    from subprocess import run"),
    ("core/a.py", "if True:\n    import importlib\n    importlib.import_module('vferry.nic.linux')"),
    ("ports/a.py", "from vferry.state.files import exclusive"),
    ("ports/a.py", "import asyncio"),
    ("nic/linux/a.py", "from vferry.verbs.context import Context"),
    ("nic/linux/a.py", "from vferry.state.files import exclusive"),
    ("state/a.py", "from vferry.nic.linux import LinuxNic"),
    ("witness.py", "from vferry.clock import SystemClock"),
    ("verbs/a.py", "from vferry.nic.linux import LinuxNic"),
    ("verbs/a.py", "from vferry.state.journal import DirectoryJournal"),
    ("verbs/a.py", "import vferry.clock"),
    ("verbs/a.py", "from vferry.cli.session import Session"),
    ("verbs/a.py", "from vferry.testing import MemoryNic"),
    ("cli/a.py", "from vferry.testing import MemoryNic"),
    ("cli/a.py", "import rich"),
    ("__init__.py", "from vferry.core.model import Mac"),
]

RIGHT = [
    ("core/rules/a.py", "from vferry.core.model import Mac\nfrom ..model import Vlan\nimport enum, msgspec"),
    ("ports/a.py", "from vferry.core.model import Mac"),
    ("nic/linux/a.py", "import os, socket\nfrom vferry.ports.nic import Nic\nfrom .b import c"),
    ("verbs/a.py", "import time\nfrom vferry.ports.nic import Nic\nfrom vferry.verbs.context import Context"),
    ("cli/a.py", "from vferry import __version__\nfrom vferry.nic.linux import LinuxNic"),
    ("testing/a.py", "import hypothesis, pytest\nfrom vferry.cli.main import main"),
]


@pytest.mark.parametrize(("path", "text"), WRONG, ids=[f"{path}: {text}" for path, text in WRONG])
def test_a_violation_is_found(tmp_path: Path, path: str, text: str) -> None:
    _write(tmp_path, path, text)
    assert len(violations(tmp_path)) == 1


@pytest.mark.parametrize(("path", "text"), RIGHT, ids=[path for path, _ in RIGHT])
def test_what_is_allowed_is_none(tmp_path: Path, path: str, text: str) -> None:
    _write(tmp_path, path, text)
    assert violations(tmp_path) == []


def _write(source: Path, path: str, text: str) -> None:
    file = source / "vferry" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")
