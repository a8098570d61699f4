# SPDX-License-Identifier: Apache-2.0
"""What has no VFs, and what has VFs without any settings: virtio-net's SR-IOV."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.images.build import Images
from lab.machine.host import Host
from lab.machine.nics import VirtioSriov
from lab.wire.wire import Wire

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def virtio(lab_images: Images, lab_program: Path) -> Iterator[Host]:
    with Wire() as wire:
        nic = VirtioSriov(mac="52:54:00:dd:00:00", ports=tuple(wire.port(f"v{number}") for number in range(3)))
        with Host("virtio", nics=(nic,), images=lab_images, program=lab_program) as host:
            yield host


def test_a_pf_without_vfs(virtio: Host) -> None:
    pf = virtio.pf()
    listed = json.loads(virtio.vferry("list", "--json").out)["pfs"]
    assert [(entry["pf"]["name"], entry["pf"]["num_vfs"]) for entry in listed] == [(pf, 0)]
    missing = virtio.vferry("save", f"{pf}/0", check=False)
    assert missing.rc == 2
    assert "no VFs" in missing.err
    assert virtio.vferry("probe", pf, check=False).rc == 3


def test_virtio_offers_no_settings_and_that_is_said(virtio: Host) -> None:
    vfs = virtio.make_vfs(2)
    pf = virtio.pf()
    assert "no VF settings" in virtio.vferry("list", pf).out
    shown = json.loads(virtio.vferry("show", vfs[1].address, "--json").out)
    assert (shown["has_settings"], shown["vf"]["index"], shown["vf"]["address"]) == (False, 1, vfs[1].address)
    assert shown["pci"]["command"] & 4, "bus mastering is on: a driver uses it"
    before = virtio.run(f"ip -d link show {pf}; lspci -vvnn").out
    for verb in (("save", f"{pf}/0"), ("fence", f"{pf}/0"), ("fence", f"{pf}/0", "--dry-run"), ("probe", pf)):
        refused = virtio.vferry(*verb, check=False)
        assert refused.rc == 3, (verb, refused)
        assert "Next" in refused.err or "settings" in refused.err
    assert virtio.vferry("unfence", f"{pf}/0", check=False).rc == 3
    assert virtio.run(f"ip -d link show {pf}; lspci -vvnn").out == before
