# SPDX-License-Identifier: Apache-2.0
"""The benchmark runs, and what it finds makes sense; how fast anything is, is not tested."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import DOCUMENT
from bench.groups import GROUPS
from lab import Images

pytestmark = pytest.mark.lab


def test_a_quick_run(lab_images: Images, tmp_path: Path) -> None:
    before = DOCUMENT.read_bytes()
    file = tmp_path / "bench.json"
    command = [sys.executable, "-m", "bench", "--quick", "--json", str(file)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=DOCUMENT.parent.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Aims" in done.stdout
    assert DOCUMENT.read_bytes() == before
    found = json.loads(file.read_text())
    assert {group.key for group in GROUPS} | {"startup", "startup-native", "read-native"} == found["tables"].keys()
    for table in found["tables"].values():
        assert all(summary["samples"] >= 1 for summary in table["wall"].values())
        assert all(math.isfinite(ratio) and ratio > 0 for ratio in table["ratios"].values())
    assert not any(verb["forbidden"] for verb in found["imports"].values())
