# SPDX-License-Identifier: Apache-2.0
"""The lever matrix of igb, held against frames: plain ``ip link``, no vferry in between.

The tests share a scene to save time. Each begins with a VM that is whole, and leaves it so.
"""

from collections.abc import Iterator

import pytest

from lab import Host, Images, Wire, running
from lab.standard import igb_host
from tests.fence_lab.scene import (
    COLUMN_KINDS,
    FRAMES,
    KINDS,
    ON_THE_NIC,
    SENDERS,
    VM_MAC,
    Outcome,
    Scene,
    covered,
    set_scene,
    violations,
    watch,
)
from vferry.core.fence import ASSUMED_PARKING_VID, Column, Lever, parking_mac
from vferry.core.levers import LEVERS

pytestmark = pytest.mark.lab

PARKING_MAC = parking_mac("52:54:00:aa:00:01", 0)
SETTINGS = {
    Lever.PARKING_MAC: (f"mac {PARKING_MAC}", f"mac {VM_MAC}"),
    Lever.PARKING_VLAN: (f"vlan {ASSUMED_PARKING_VID}", "vlan 0"),
    Lever.SPOOFCHK: ("spoofchk on", "spoofchk off"),
    Lever.TRUST_OFF: ("trust off", "trust on"),
}
"""What each lever sets, and its undo."""

MAC, VLAN, SPOOFCHK, TRUST = SETTINGS


def pull(scene: Scene, *levers: Lever) -> None:
    for lever in levers:
        scene.set_vf(SETTINGS[lever][0])


def undo(scene: Scene, *levers: Lever) -> None:
    for lever in levers:
        scene.set_vf(SETTINGS[lever][1])


def claimed(*levers: Lever) -> set[Column]:
    """What the matrix claims for these levers, of the columns that frames can tell."""
    rows = [row for row in LEVERS["8086", "10c9", "igb"] if row.lever in levers and row.needs <= set(levers)]
    return {column for row in rows for column in row.covers} - {Column.DMA}


def recover(scene: Scene) -> None:
    """Bring back a VM whose driver was reset under a fence: its MAC first, trust only when the guest knows it again."""
    undo(scene, MAC, VLAN)
    scene.flap()
    undo(scene, TRUST)


@pytest.fixture(scope="module")
def scene(lab_images: Images) -> Iterator[Scene]:
    with Wire() as wire, running(*(igb_host(name, wire, images=lab_images) for name in "ab")) as (a, b):
        yield set_scene(a, b, wire)


@pytest.fixture(scope="module")
def whole(scene: Scene) -> Outcome:
    """What becomes of frames while nothing is fenced."""
    return scene.observe()


def test_a_port_vlan_is_exchanged_and_comes_back(two_hosts: tuple[Host, Host], wire: Wire) -> None:
    scene = set_scene(*two_hosts, wire, port_vid=100, port_qos=3)
    before = scene.observe()
    assert before.sent["to far"] == {(100,)}
    assert covered(before) == set()
    pull(scene, MAC, TRUST, VLAN)
    assert covered(scene.observe()) >= claimed(MAC, TRUST, VLAN)
    scene.set_vf("vlan 100 qos 3")
    undo(scene, TRUST, MAC)
    assert scene.observe() == before
    assert all(scene.traffic().values())


def test_without_a_fence_everything_arrives_and_the_wire_gets_no_unicast(scene: Scene, whole: Outcome) -> None:
    received = {kind for kind in KINDS if kind != "strange multicast"}
    assert set(whole.inside) == {(sender, kind) for sender in SENDERS for kind in received}
    assert set(whole.inside.values()) == {FRAMES}
    groups = {*COLUMN_KINDS[Column.MULTICAST], *COLUMN_KINDS[Column.GUEST_VLAN]}
    assert set(whole.wire) == {(sender, kind) for sender in ON_THE_NIC for kind in groups}
    assert whole.sent == {"to far": {()}, "to far in VLAN": {(50,)}, "to all": {()}, "to all in VLAN": {(50,)}}
    assert covered(whole) == set()
    assert all(scene.traffic().values())


def test_each_lever_covers_what_the_matrix_says_and_comes_back(scene: Scene, whole: Outcome) -> None:
    scene.set_vf("spoofchk off")
    for levers in [(SPOOFCHK, TRUST), (MAC, TRUST), (VLAN,), (MAC, VLAN, SPOOFCHK, TRUST)]:
        pull(scene, *levers)
        assert covered(scene.observe()) == claimed(*levers), levers
        undo(scene, *levers)
    assert scene.observe() == whole
    assert all(scene.traffic().values()), "the guest was not touched"


def test_a_reset_under_a_port_vlan_silences_the_vf_until_its_driver_resets_it(scene: Scene, whole: Outcome) -> None:
    scene.reset_vm()
    levers = (MAC, VLAN, TRUST)
    fenced = watch(scene, lambda scene: pull(scene, *levers))
    assert covered(fenced) == claimed(*levers, Lever.RESET)
    # The filter of the MAC that the guest asked for is still there: its frames are swallowed.
    assert violations(fenced, Column.GUEST_UNICAST) == [f"{who}: second: not all on the wire" for who in ON_THE_NIC]
    recover(scene)
    assert scene.observe() == whole


def test_a_trusted_guest_takes_its_mac_back_and_another_one_cannot(scene: Scene, whole: Outcome) -> None:
    pull(scene, MAC)
    scene.flap()
    assert Column.ADMIN_UNICAST not in covered(scene.observe())
    pull(scene, TRUST, MAC, VLAN)
    scene.flap()
    # A driver that starts under a port VLAN gets no VLANs of its own back.
    assert covered(scene.observe()) == {*claimed(TRUST, MAC, VLAN), Column.GUEST_VLAN}
    assert scene.address_of_vm() == PARKING_MAC, "and it takes the parking MAC for its own"
    recover(scene)
    assert scene.address_of_vm() == VM_MAC
    assert scene.observe() == whole
