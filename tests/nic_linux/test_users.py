# SPDX-License-Identifier: Apache-2.0
"""Who uses a VF."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.nic_linux.tree import Tree
from vferry.nic.linux.sysfs import Device, Sysfs

PF = Device("pci", "0000:01:00.0")


class Case:
    """A PF with one VF in group 12."""

    def __init__(self, base: Path) -> None:
        self.tree = Tree(base)
        self.vf = self.tree.vf(self.tree.pci(PF.address, sriov_numvfs=1), 0, "0000:01:10.0", group=12)

    def user(self) -> str | None:
        return Sysfs(str(self.tree.sys), str(self.tree.proc)).vfs(PF, 1)[0].user


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_nobody(case: Case) -> None:
    assert case.user() is None
    case.tree.process(10, "qemu", "/dev/vfio/12")
    assert case.user() is None, "no VFIO driver has a device of the group, so that file is stale"


def test_a_driver_that_hands_out_the_vf_is_no_user(case: Case) -> None:
    case.tree.bind(case.vf, "handing-out")
    assert case.user() is None


@pytest.mark.parametrize(("flags", "user"), [(0x1003, "network interface vf0 is up"), (0x1002, None)])
def test_an_interface(case: Case, flags: int, user: str | None) -> None:
    case.tree.bind(case.vf, "somevf")
    case.tree.netdev(case.vf, "vf0", flags=flags)
    assert case.user() == user


def test_an_interface_in_another_namespace(case: Case) -> None:
    case.tree.bind(case.vf, "somevf")
    (case.vf / "net").mkdir()
    assert case.user() == "driver somevf is bound and its network interface is in another namespace"


def test_a_virtio_interface_in_another_namespace(case: Case) -> None:
    case.tree.bind(case.vf, "virtio-pci")
    child = case.tree.device("virtio", "virtio3", case.vf)
    (child / "net").mkdir()
    assert case.user() == "driver virtio-pci is bound and its network interface is in another namespace"
    (child / "net").rmdir()
    assert case.user() is None


@pytest.mark.parametrize(
    ("node", "group"),
    [("/dev/vfio/12", "12"), ("/dev/vfio/noiommu-12", "noiommu-12"), ("/dev/vfio/devices/vfio3", None)],
)
def test_a_process_with_the_device(case: Case, node: str, group: str | None) -> None:
    (case.vf / "vfio-dev/vfio3").mkdir(parents=True)
    if group is not None:
        case.tree.vfio_group(group)
    assert case.user() is None
    case.tree.process(9, "other", "/dev/null", "/dev/vfio/120", "socket:[1]")
    case.tree.process(77, "qemu-system-x86", "/dev/null", node)
    case.tree.process(770, "also", node)
    assert case.user() == f"process 77 (qemu-system-x86) through {node}"


def test_a_process_with_a_uio_device(case: Case) -> None:
    (case.vf / "uio/uio4").mkdir(parents=True)
    case.tree.process(5, "testpmd", "/dev/uio4")
    assert case.user() == "process 5 (testpmd) through /dev/uio4"


def test_processes_that_may_not_be_looked_at_or_end(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.tree.vfio_group(12)
    for pid in (20, 30, 40):
        case.tree.process(pid, f"p{pid}", "/dev/vfio/12")
    (case.tree.proc / "40/comm").unlink()
    listdir = os.listdir

    def refuse(path: str) -> list[str]:
        if path.endswith(("/20/fd", "/30/fd")):
            raise PermissionError if path.endswith("/20/fd") else ProcessLookupError
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert case.user() == "process 40 (ended) through /dev/vfio/12"


def test_processes_are_only_looked_at_where_it_matters(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at all of them takes long."""
    case.tree.process(20, "p", "/dev/vfio/12")
    seen: list[str] = []
    listdir = os.listdir

    def note(path: str) -> list[str]:
        seen.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", note)
    case.user()
    assert not [path for path in seen if path.startswith(str(case.tree.proc))]
