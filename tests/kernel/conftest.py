# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lab.fixtures import lab_images, lab_program
from lab.images.build import Images
from lab.images.program import installed, program_image
from lab.machine.host import Host
from lab.move import Move, move_hosts

__all__ = ("lab_images", "lab_program")

_PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def test_program(lab_images: Images) -> Path:
    """A program drive on which pytest and this project's tests can run inside a host."""
    packages = installed("msgspec", "pytest", "hypothesis", "pyroute2")
    folders: dict[str, Path | Sequence[Path]] = {
        "src": _PROJECT / "src",
        "tests": _PROJECT / "tests",
        "site-packages": packages,
    }
    return program_image(folders, lab_images)


@pytest.fixture(scope="module")
def sim(lab_images: Images, test_program: Path) -> Iterator[Host]:
    """A host for simulated devices, with the tests' own programs on it."""
    with Host("sim", images=lab_images, program=test_program) as host:
        yield host


@pytest.fixture(scope="module")
def move(lab_images: Images, lab_program: Path) -> Iterator[Move]:
    """Hosts a, b and c on a wire, two igb VFs each on a and b."""
    with move_hosts(lab_images, lab_program, print) as move:
        yield move
