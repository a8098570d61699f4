# SPDX-License-Identifier: Apache-2.0
"""A VM's VF moved by hand between two igb hosts, with everybody talking to it; and what a driver refuses."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.images.build import Images
from lab.machine.host import Host
from lab.move import PER_PHASE, PHASES, RECORD, SENDERS, VM_MAC, Move, Story, move_hosts

pytestmark = pytest.mark.lab

RUNS_ON_A, STOPPED, FENCED, RUNS_ON_B, RELEASED = PHASES


def vfinfo(host: Host, vf: int) -> dict[str, object]:
    shown = json.loads(host.run(f"ip -d -j link show {host.pf()}").out)[0]["vfinfo_list"]
    (found,) = [entry for entry in shown if entry["vf"] == vf]
    return dict(found)


@pytest.fixture(scope="module")
def moved(lab_images: Images, lab_program: Path) -> Iterator[tuple[Move, Story]]:
    """The VM has moved; hosts a, b and c still run."""
    with move_hosts(lab_images, lab_program, print) as move:
        yield move, move.run()


def test_traffic_follows_the_vm(moved: tuple[Move, Story]) -> None:
    outcomes = moved[1].outcomes
    for sender in SENDERS:
        assert len(outcomes[RUNS_ON_A, sender].inside_a) == PER_PHASE, sender
        for phase in (RUNS_ON_B, RELEASED):
            assert len(outcomes[phase, sender].inside_b) == PER_PHASE, (phase, sender)
            assert outcomes[phase, sender].inside_a == set(), (phase, sender)


def test_without_a_fence_the_dead_vf_receives(moved: tuple[Move, Story]) -> None:
    """The control: the same frames in the same run, after the VM stopped and before the fence."""
    outcomes = moved[1].outcomes
    for sender in SENDERS:
        assert len(outcomes[STOPPED, sender].inside_a) == PER_PHASE, sender
    for sender in ("PF of a", "neighbour on a"):
        assert outcomes[STOPPED, sender].wire == set(), sender


def test_once_fenced_no_nic_swallows_what_another_should_get(moved: tuple[Move, Story]) -> None:
    outcomes = moved[1].outcomes
    for sender in SENDERS:
        assert outcomes[FENCED, sender].inside_a == set(), sender
        assert len(outcomes[FENCED, sender].wire) == PER_PHASE, sender
        for phase in (FENCED, RUNS_ON_B, RELEASED):
            assert outcomes[phase, sender].swallowed == 0, (phase, sender)


def test_the_fence_was_observed(moved: tuple[Move, Story]) -> None:
    (step,) = [step for step in moved[1].steps if " fence " in step.command]
    assert "admin_unicast (observed)" in step.result.out
    assert "NOT covered: dma" in step.result.out


def test_b_keeps_what_a_had_over_a_reset_and_a_rebind(moved: tuple[Move, Story]) -> None:
    move = moved[0]
    pf = move.b.pf()
    move.b.vferry("verify", RECORD, f"{pf}/0")
    shown = vfinfo(move.b, 0)
    assert shown["vlan_list"] == [{"vlan": 100, "qos": 3}]
    assert shown["rate"] == {"max_tx": 500, "min_tx": 0}
    assert (shown["address"], shown["trust"], shown["spoofchk"]) == (VM_MAC, False, True)
    vf = move.b.vfs()[0]
    move.b.run(f"echo 1 > /sys/bus/pci/devices/{vf.address}/reset")
    move.b.vferry("verify", RECORD, f"{pf}/0")
    move.b.bind(vf, "igbvf")
    time.sleep(1)
    move.b.vferry("verify", RECORD, f"{pf}/0")
    assert vfinfo(move.b, 0) == shown


def test_a_is_released_to_defaults(moved: tuple[Move, Story]) -> None:
    shown = vfinfo(moved[0].a, 0)
    assert (shown["address"], shown["vlan_list"], shown["trust"]) == ("00:00:00:00:00:00", [{}], False)
    assert shown["rate"] == {"max_tx": 0, "min_tx": 0}
    assert moved[0].a.vferry("unfence", f"{moved[0].a.pf()}/0", check=False).rc == 3


def test_what_igb_refuses_is_refused_by_check_before_anything_changes(moved: tuple[Move, Story]) -> None:
    host = moved[0].b
    sim = host.netdevsim(3, vfs=1)
    host.run(
        f"ip link set {sim} vf 0 mac 52:54:00:0a:0b:0c vlan 300 qos 2 proto 802.1ad max_tx_rate 400 min_tx_rate 40 "
        "state enable spoofchk on"
    )
    host.vferry("save", f"{sim}/0", "--mac", f"{sim}/0=52:54:00:0a:0b:0c", "-o", "/root/sim.json")
    vf = host.vfs()[1]
    host.unbind(vf)
    before = vfinfo(host, 1)
    refused = host.vferry("check", "/root/sim.json", f"{host.pf()}/1", "--json", check=False)
    assert refused.rc == 3
    findings = json.loads(refused.out)["findings"]
    errors = {finding["attribute"]: finding for finding in findings if finding["severity"] == "error"}
    assert set(errors) == {"vlan_proto", "min_tx_rate", "link_state"}
    assert all(f"--accept-loss {name}" in finding["remedy"] for name, finding in errors.items())
    assert host.vferry("restore", "/root/sim.json", f"{host.pf()}/1", check=False).rc == 3
    assert vfinfo(host, 1) == before
    accept = ("--accept-loss", "vlan_proto,min_tx_rate", "--accept-loss", "link_state")
    done = host.vferry("restore", "/root/sim.json", f"{host.pf()}/1", "--json", *accept)
    assert {loss["attribute"] for loss in json.loads(done.out)["losses"]} == set(errors)
    after = vfinfo(host, 1)
    assert after["vlan_list"] == [{"vlan": 300, "qos": 2}]
    assert after["rate"] == {"max_tx": 400, "min_tx": 0}
    host.vferry("release", f"{host.pf()}/1")


def test_a_guest_s_own_mac_is_refused_and_the_rest_restored(moved: tuple[Move, Story]) -> None:
    """Without an administrative MAC igb shows the one that igbvf made up."""
    move = moved[0]
    vf = move.a.vfs()[1]
    move.a.run(f"ip link set {move.a.pf()} vf 1 mac 00:00:00:00:00:00 vlan 0")
    move.a.bind(vf, "igbvf")
    found = move.a.vfs()[1]
    move.a.run(f"ip link set {found.netdev} up")
    time.sleep(1)
    move.a.vferry("save", f"{move.a.pf()}/1", "-o", "/root/own.json")
    assert json.loads(move.a.read("/root/own.json"))["vfs"][0]["admin"]["mac"] != "00:00:00:00:00:00"
    move.b.write("/root/own.json", move.a.read("/root/own.json"))
    move.b.unbind(move.b.vfs()[1])
    target = f"{move.b.pf()}/1"
    refused = move.b.vferry("check", "/root/own.json", target, "--json", check=False)
    assert refused.rc == 3
    assert "mac-ambiguous" in refused.out
    assert move.b.vferry("restore", "/root/own.json", target, "--accept-loss", "mac").rc == 0
    assert vfinfo(move.b, 1)["address"] == "00:00:00:00:00:00"
