# SPDX-License-Identifier: Apache-2.0
"""``kill -9`` of real commands between any two steps, on igb: then the same command again, or its undo."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.images.build import Images
from lab.machine.devices import bring_up
from lab.machine.host import Host
from lab.standard import igb_host
from lab.wire.wire import Wire

pytestmark = pytest.mark.lab

VF = "eth0/0"
OLD = "mac 52:54:00:0a:00:01 vlan 50 qos 1 max_tx_rate 200 spoofchk on trust on"
OTHER = "mac 52:54:00:0a:00:02 vlan 60 qos 6 max_tx_rate 600 spoofchk off trust off"
KILLED = "PYTHONPATH=/opt/program/src:/opt/program/site-packages python3 -m vferry.testing.killed"
SIGKILLED = {137, -9}


@pytest.fixture(scope="module")
def host(lab_images: Images, lab_program: Path) -> Iterator[Host]:
    with Wire() as wire, igb_host("a", wire, images=lab_images, program=lab_program) as host:
        for vf in host.igb_vfs(2):
            host.unbind(vf)
        bring_up(host, "eth0")
        host.run(f"ip link set eth0 vf 1 {OTHER}")
        mac = OTHER.split()[1]
        host.vferry("save", "eth0/1", "--mac", f"eth0/1={mac}", "-o", "/root/other.json")
        host.run("ip link set eth0 vf 1 mac 52:54:00:0a:00:03 vlan 70")
        yield host


def shown(host: Host) -> list[dict[str, object]]:
    return list(json.loads(host.run("ip -d -j link show eth0").out)[0]["vfinfo_list"])


def undo_records(host: Host) -> list[str]:
    return host.run("ls /var/lib/vferry/undo 2>/dev/null || true").out.split()


def set_up(host: Host) -> list[dict[str, object]]:
    host.run(f"rm -rf /var/lib/vferry; ip link set eth0 vf 0 {OLD}")
    return shown(host)


def kill_at(host: Host, step: int, *command: str) -> bool:
    """Run a command that kills itself at a step; False: it came to its end before."""
    result = host.run(f"{KILLED} {step} {' '.join(command)}", check=False)
    assert result.rc == 0 or result.rc in SIGKILLED, result
    return result.rc != 0


def outcome(host: Host, *command: str) -> list[dict[str, object]]:
    """The state that a command alone makes of the old one."""
    set_up(host)
    host.vferry(*command)
    return shown(host)


@pytest.mark.parametrize(
    ("command", "undo", "records_left"),
    [
        (("fence", VF), ("unfence", VF), ["0000:01:00.0_0.json"]),
        (("restore", "/root/other.json", VF), ("restore", "--undo", VF), []),
    ],
    ids=["fence", "restore"],
)
def test_killed_between_any_two_steps(
    host: Host, command: tuple[str, ...], undo: tuple[str, ...], records_left: list[str]
) -> None:
    new = outcome(host, *command)
    old = set_up(host)
    assert old != new
    step = 1
    while kill_at(host, step, *command):
        assert shown(host)[1] == old[1], "the neighbour was touched"
        interrupted = bool(undo_records(host))
        host.vferry(*command)
        assert shown(host) == new, f"killed at step {step}, then the same command"
        assert undo_records(host) == records_left

        set_up(host)
        assert kill_at(host, step, *command)
        if interrupted:
            host.vferry(*undo)
            assert shown(host) == old, f"killed at step {step}, then the undo"
        else:
            assert shown(host) in (old, new)
            assert host.vferry(*undo, check=False).rc == 3
        assert undo_records(host) == []
        assert set_up(host) == old
        step += 1
    assert step > 5, "hardly any step was counted: nothing was tested"


def test_an_interrupted_unfence_is_completed(host: Host) -> None:
    old = set_up(host)
    host.vferry("fence", VF)
    fenced = shown(host)
    step = 1
    while kill_at(host, step, "unfence", VF):
        if undo_records(host):
            host.vferry("unfence", VF)
        assert shown(host) == old
        assert undo_records(host) == []
        host.vferry("fence", VF)
        assert shown(host) == fenced
        step += 1
    assert step > 2
    assert shown(host) == old


def test_a_driver_reload_in_between_needs_a_person(host: Host) -> None:
    set_up(host)
    host.vferry("fence", VF)
    device = "/sys/bus/pci/devices/0000:01:00.0"
    host.run(f"echo 0 > {device}/sriov_numvfs; echo 0000:01:00.0 > {device}/driver/unbind")
    host.run("echo 0000:01:00.0 > /sys/bus/pci/drivers/igb/bind; ip link set eth0 up; sleep 2")
    host.run(f"echo 2 > {device}/sriov_numvfs")
    result = host.vferry("unfence", VF, check=False)
    assert result.rc == 4
    assert "ifindex" in result.err
    assert "vferry release" in result.err
    assert host.vferry("doctor", check=False).rc == 3
    host.vferry("release", VF)
    assert undo_records(host) == []
