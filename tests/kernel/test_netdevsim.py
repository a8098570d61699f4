# SPDX-License-Identifier: Apache-2.0
"""Whole commands on the kernel's netdevsim."""

from __future__ import annotations

import json
import random

import pytest

from lab.machine.host import Host

pytestmark = pytest.mark.lab

PYTHON = "PYTHONPATH=/opt/program/src:/opt/program/site-packages python3 -S"
GUEST = "/opt/program/tests/kernel/guest"


@pytest.fixture(scope="module")
def pfs(sim: Host) -> tuple[str, str]:
    return sim.netdevsim(1, vfs=4), sim.netdevsim(2, vfs=4)


def kernel_state(sim: Host, pf: str) -> str:
    return sim.run(f"ip -d -j link show {pf}").out


def entry(sim: Host, pf: str, vf: int) -> dict[str, object]:
    (found,) = [vf_ for vf_ in json.loads(kernel_state(sim, pf))[0]["vfinfo_list"] if vf_["vf"] == vf]
    del found["vf"]
    return dict(found)


def test_a_thousand_random_states_arrive(sim: Host, pfs: tuple[str, str]) -> None:
    result = sim.run(f"{PYTHON} {GUEST}/random_states.py {pfs[0]} {pfs[1]} 1000 1", timeout=300)
    assert json.loads(result.out) == {"states": 1000, "by_ip": 50, "wrong": []}


def test_every_save_beside_a_writer_is_one_of_two_states(sim: Host, pfs: tuple[str, str]) -> None:
    result = sim.run(f"{PYTHON} {GUEST}/saves_beside_writer.py {pfs[0]} 10000", timeout=400)
    seen = json.loads(result.out)
    assert seen["neither"] == []
    assert sum(seen["counts"]) == 10_000
    assert min(seen["counts"]) > 100, "the writer hardly ran: the test proves nothing"
    assert seen["changes"] > 100


def test_twenty_random_states_by_the_command_line(sim: Host, pfs: tuple[str, str]) -> None:
    rng = random.Random(2)
    source, destination = pfs
    for _ in range(20):
        i, j = rng.randrange(4), rng.randrange(4)
        mac = "52:54:00:" + bytes(rng.randrange(256) for _ in range(3)).hex(":")
        rate = rng.randrange(1, 10_000)
        proto, state = rng.choice(("802.1Q", "802.1ad")), rng.choice(("auto", "enable", "disable"))
        spoofchk, trust, rss = (rng.choice(("on", "off")) for _ in range(3))
        sim.run(
            f"ip link set {source} vf {i} mac {mac} vlan {rng.randrange(1, 4095)} qos {rng.randrange(8)} proto {proto} "
            f"max_tx_rate {rate} min_tx_rate {rng.randrange(rate)} spoofchk {spoofchk} trust {trust} state {state} "
            f"query_rss {rss}"
        )
        before = kernel_state(sim, source)
        sim.vferry("save", f"{source}/{i}", "--mac", f"{source}/{i}={mac}", "-o", "/tmp/r.json")
        assert kernel_state(sim, source) == before, "save is a pure read"
        sim.vferry("restore", "/tmp/r.json", f"{destination}/{j}")
        assert entry(sim, destination, j) == entry(sim, source, i)


def test_check_changes_nothing(sim: Host, pfs: tuple[str, str]) -> None:
    source, destination = pfs
    sim.run(f"ip link set {source} vf 0 mac 52:54:00:00:00:77 vlan 7 qos 5")
    sim.vferry("save", f"{source}/0", "--mac", f"{source}/0=52:54:00:00:00:77", "-o", "/tmp/r.json")
    before = kernel_state(sim, destination)
    sim.vferry("check", "/tmp/r.json", f"{destination}/1")
    sim.vferry("restore", "/tmp/r.json", f"{destination}/1", "--dry-run")
    assert kernel_state(sim, destination) == before


@pytest.mark.parametrize("count", [221, 222, 256, 334, 335, 1000])
def test_many_vfs_are_all_read_or_refused(sim: Host, count: int) -> None:
    pf = sim.netdevsim(7, vfs=count)
    try:
        sim.run(f"ip link set {pf} vf {count - 1} mac 52:54:00:00:0f:0f")
        result = sim.vferry("list", pf, "--json")
        (listed,) = json.loads(result.out)["pfs"]
        saved = sim.vferry("save", f"{pf}/{count - 1}", check=False)
        if count <= 334:
            assert [reading["index"] for reading in listed["readings"]] == list(range(count))
            assert json.loads(saved.out)["vfs"][0]["admin"]["mac"] == "52:54:00:00:0f:0f"
        else:
            assert listed.get("readings", []) == []
            assert listed["pf"]["num_vfs"] == count
            assert "334" in listed["problem"]
            assert saved.rc == 1
            assert saved.out == ""
            assert "334" in saved.err
        _peers_are_wrong(sim, pf, count)
    finally:
        sim.run("echo 7 > /sys/bus/netdevsim/del_device")


def _peers_are_wrong(sim: Host, pf: str, count: int) -> None:
    """Past 221 VFs ip(8) and pyroute2 return a short or a garbage list, and report success."""
    by_ip = sim.run(f"ip -d -j link show {pf}", check=False)
    listed = json.loads(by_ip.out)[0].get("vfinfo_list", [])
    assert by_ip.rc == 0
    assert (len(listed) == count) is (count <= 221)
    code = (
        "from pyroute2 import IPRoute\n"
        f"with IPRoute() as ip: m = ip.link('get', ifname='{pf}', ext_mask=1)[0]\n"
        "print(len(m.get_attr('IFLA_VFINFO_LIST').get_attrs('IFLA_VF_INFO')))"
    )
    sim.write("/tmp/peer.py", code)
    by_pyroute2 = sim.run(f"{PYTHON} /tmp/peer.py", check=False)
    assert (by_pyroute2.out.strip() == str(count)) is (count <= 221)
