# SPDX-License-Identifier: Apache-2.0
"""What the package offers by its own name."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import pytest

from vferry.nic import ixgbe

HOMES = {
    "Ixgbe82599": "hardware",
    "IxgbeCarrier": "carrier",
    "IxgbeNic": "nic",
    "SoftwarePf": "host",
    "make_host": "nic",
}


def test_the_example_of_the_docstring_runs() -> None:
    results = doctest.testmod(ixgbe)
    assert (results.failed, results.attempted) == (0, 9)


def test_all_names_are_those_of_their_modules() -> None:
    assert set(ixgbe.__all__) == HOMES.keys()
    for name, home in HOMES.items():
        assert getattr(ixgbe, name) is getattr(importlib.import_module(f"vferry.nic.ixgbe.{home}"), name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ixgbe.nothing


def test_a_part_does_not_load_all() -> None:
    code = "import sys, vferry.nic.ixgbe.frame; sys.exit('vferry.nic.ixgbe.nic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
