# SPDX-License-Identifier: Apache-2.0
"""Fixtures for pytest.

Import those that are wanted, and those they are made of, in a ``conftest.py``::

    from lab.fixtures import lab_images, lab_program, netdevsim_host, three_hosts, two_hosts, wire

Without the lab a test that uses them is skipped with the reason, or fails where ``VFERRY_REQUIRE_LAB=1`` is set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.errors import BuildFailed, LabUnavailable
from lab.images.build import Images, build_images
from lab.images.program import project_program
from lab.machine.host import Host, running
from lab.standard import igb_host
from lab.wire.wire import Wire


@pytest.fixture(scope="session")
def lab_images(pytestconfig: pytest.Config) -> Images:
    """Return the build, made now where it is missing."""
    reporter = pytestconfig.pluginmanager.get_plugin("terminalreporter")

    def say(line: str) -> None:
        if reporter is not None:
            reporter.write_line(f"lab: {line}")

    try:
        return build_images(say)
    except (LabUnavailable, BuildFailed) as error:
        if os.environ.get("VFERRY_REQUIRE_LAB") == "1":
            pytest.fail(f"VFERRY_REQUIRE_LAB=1, and the lab cannot be had: {error}", pytrace=False)
        say(f"NOT TESTED, the lab cannot be had: {error}")
        pytest.skip(f"the lab cannot be had: {error}")


@pytest.fixture(scope="session")
def lab_program(lab_images: Images) -> Path:
    """Return a program drive with the project's code and the distributions it depends on."""
    return project_program(lab_images)


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Give a wire without ports."""
    with Wire() as wire:
        yield wire


@pytest.fixture
def two_hosts(lab_images: Images, lab_program: Path, wire: Wire) -> Iterator[tuple[Host, Host]]:
    """Give hosts a and b, an igb PF each, at the ports of their names."""
    with running(*(igb_host(name, wire, images=lab_images, program=lab_program) for name in "ab")) as (a, b):
        yield a, b


@pytest.fixture
def three_hosts(lab_images: Images, lab_program: Path, wire: Wire) -> Iterator[tuple[Host, Host, Host]]:
    """Give hosts a, b and c, an igb PF each, at the ports of their names."""
    with running(*(igb_host(name, wire, images=lab_images, program=lab_program) for name in "abc")) as (a, b, c):
        yield a, b, c


@pytest.fixture
def netdevsim_host(lab_images: Images, lab_program: Path) -> Iterator[Host]:
    """Give a host without a NIC, for simulated devices."""
    with Host("sim", images=lab_images, program=lab_program) as host:
        yield host
