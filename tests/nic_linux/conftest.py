# SPDX-License-Identifier: Apache-2.0
"""Hosts of the lab with what runs in them, for the tests marked ``lab``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Host, Igb, Images, VirtioSriov, Wire, program_image
from lab.fixtures import lab_images
from lab.images.program import installed

__all__ = ("lab_images",)

_PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def nic_program(lab_images: Images) -> Path:
    """A program drive with the adapter, these tests, and what the contract suite needs."""
    content: dict[str, Path | list[Path]] = {
        "src": _PROJECT / "src",
        "tests": _PROJECT / "tests",
        "site-packages": installed("msgspec", "pytest", "hypothesis"),
    }
    return program_image(content, lab_images)


@pytest.fixture(scope="module")
def sim(lab_images: Images, nic_program: Path) -> Iterator[Host]:
    """A host for simulated devices."""
    with Host("nicsim", images=lab_images, program=nic_program) as host:
        yield host


@pytest.fixture(scope="module")
def igb(lab_images: Images, nic_program: Path) -> Iterator[Host]:
    """A host with an igb that has a carrier, and five VFs."""
    with Wire() as wire:
        nic = Igb(mac="52:54:00:aa:00:11", port=wire.port("a"))
        with Host("nicigb", nics=(nic,), images=lab_images, program=nic_program) as host:
            host.make_vfs(5)
            yield host


@pytest.fixture(scope="module")
def virtio(lab_images: Images, nic_program: Path) -> Iterator[Host]:
    """A host with a virtio-net PF and five VFs."""
    nic = VirtioSriov(mac="52:54:00:cc:00:00", ports=(None,) * 6)
    with Host("nicvirt", nics=(nic,), images=lab_images, program=nic_program) as host:
        host.make_vfs(5)
        yield host
