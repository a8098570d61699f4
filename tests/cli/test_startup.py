# SPDX-License-Identifier: Apache-2.0
"""What a start imports, for every verb sits in the stopped window of a migration."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("asyncio", "dataclasses", "logging", "pathlib", "pyroute2", "rich", "urllib")

VERSION = """
import sys
before = set(sys.modules)
from vferry.cli.main import main
assert main(["--version"]) == 0
"""

VERB = """
import sys
before = set(sys.modules)
from vferry.cli.main import main
import vferry.cli.arguments, vferry.cli.session, vferry.cli.commands.{verb}
vferry.cli.arguments.make_parser()
"""

LOCAL = """
import sys
before = set(sys.modules)
import vferry.nic.linux
"""

TELL = """
print(*sorted(set(sys.modules) - before), file=sys.stderr)
"""


def imported(program: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", program + TELL], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_the_version_is_answered_without_arguments_or_codecs() -> None:
    assert not {"argparse", "msgspec", "vferry.core.model", *HEAVY} & imported(VERSION)


@pytest.mark.parametrize("verb", ["save", "check", "fence", "restore", "verify", "unfence", "release"])
def test_a_verb_imports_nothing_heavy(verb: str) -> None:
    found = imported(VERB.format(verb=verb))
    assert "vferry.verbs.places" in found
    assert not {name for name in found if name.split(".")[0] in HEAVY}
    assert {"subprocess", "socket", "hashlib", "random", "tomllib", "json", "vferry.nic.linux"} & found == set()


def test_the_kernels_adapter_imports_nothing_heavy() -> None:
    assert not {name for name in imported(LOCAL) if name.split(".")[0] in HEAVY}
