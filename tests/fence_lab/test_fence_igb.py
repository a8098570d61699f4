# SPDX-License-Identifier: Apache-2.0
"""``vferry fence`` and ``unfence`` on igb, held against frames: what a fence claims, it keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import Host, Images, Wire, running
from lab.frames import LabFrame
from lab.machine.traffic import send_frames
from lab.standard import igb_host
from tests.fence_lab.scene import FRAMES, ON_THE_NIC, VM_MAC, Outcome, Scene, covered, set_scene
from vferry.core.fence import Column

pytestmark = pytest.mark.lab

VF = "eth0/0"
OBSERVABLE = set(Column) - {Column.DMA}


@pytest.fixture(scope="module")
def hosts(lab_images: Images, lab_program: Path) -> Iterator[tuple[Host, Host, Wire]]:
    with Wire() as wire:
        pair = [igb_host(name, wire, images=lab_images, program=lab_program) for name in "ab"]
        with running(*pair) as (a, b):
            yield a, b, wire


@pytest.fixture(scope="module")
def scene(hosts: tuple[Host, Host, Wire]) -> Scene:
    return set_scene(*hosts)


@pytest.fixture(scope="module")
def whole(scene: Scene) -> Outcome:
    return scene.observe()


def vferry(scene: Scene, *words: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(scene.a.vferry(*words, "--json").out)
    return result


def claims(fenced: dict[str, Any]) -> set[Column]:
    return {Column(name) for name in fenced["vfs"][0]["evidence"]["claims"]}


def test_the_control_without_a_fence_covers_nothing(whole: Outcome) -> None:
    assert covered(whole) == set()


def test_a_fence_keeps_what_it_claims_and_unfence_brings_everything_back(scene: Scene, whole: Outcome) -> None:
    planned = vferry(scene, "fence", VF, "--dry-run")["vfs"][0]["plan"]
    assert scene.observe() == whole, "a dry run changes nothing"
    fenced = vferry(scene, "fence", VF)
    seen = scene.observe()
    assert claims(fenced) >= {Column.ADMIN_UNICAST, Column.MULTICAST, Column.TRANSMIT}
    assert claims(fenced) <= covered(seen)
    # What is not covered was named before and is named in the evidence, and nothing is in both lists.
    uncovered = {Column(name) for name in fenced["vfs"][0]["evidence"]["uncovered"]}
    assert uncovered == {Column(name) for name in planned["uncovered"]}
    assert claims(fenced) | uncovered == set(Column)
    assert not claims(fenced) & uncovered
    for sender in ON_THE_NIC:
        assert seen.wire[sender, "admin"] == FRAMES, f"unicast of {sender} leaves by the wire"
    vferry(scene, "unfence", VF)
    assert scene.observe() == whole
    assert all(scene.traffic().values()), "the guest's VLAN interface too"


def test_a_cold_fence_resets_the_vf_and_covers_its_vlans_too(scene: Scene, whole: Outcome) -> None:
    fenced = vferry(scene, "fence", VF, "--mode", "cold", "--require", "guest_vlan")
    assert "reset" in fenced["vfs"][0]["plan"]["levers"]
    assert fenced["vfs"][0]["plan"]["undo_cost"] == "vf_reset"
    assert Column.GUEST_VLAN in claims(fenced)
    assert claims(fenced) & OBSERVABLE <= covered(scene.observe())
    vferry(scene, "unfence", VF)
    scene.flap()
    assert scene.observe() == whole, "once the guest's driver has set up the VF again, as the plan said"


def test_what_no_lever_covers_is_refused_if_it_is_required(scene: Scene, whole: Outcome) -> None:
    refused = scene.a.vferry("fence", VF, "--require", "guest_unicast", "--json", check=False)
    assert refused.rc == 3
    assert "guest_unicast" in json.loads(refused.out)["why"]
    assert scene.observe() == whole


def test_with_vfio_as_holder_unicast_leaves_by_the_wire_only_once_fenced(scene: Scene, hosts: Any) -> None:
    """Its queues are off, so only the wire can tell: what the NIC swallows is not there."""
    a, _, wire = hosts
    vf = a.vfs()[0]
    a.bind_vfio(vf)

    def left(kind: str) -> set[int]:
        send_frames(a, a.pf(), LabFrame(sender="pf", kind=kind, seq=0, dst=VM_MAC), count=3)
        found = [frame.lab for frame in wire.frames() if frame.lab is not None]
        return {frame.seq for frame in found if frame.kind == kind}

    assert left("before") == set()
    vferry(scene, "fence", VF)
    assert left("fenced") == {0, 1, 2}
    vferry(scene, "unfence", VF)
    assert left("after") == set()
