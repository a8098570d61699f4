# SPDX-License-Identifier: Apache-2.0
"""The adapter with the kernel's netdevsim: every attribute, long lists, devlink; judged by ``ip`` and ``devlink``."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from lab import Host
from tests.nic_linux.inside import inside

pytestmark = pytest.mark.lab

STATES = {"auto": "LinkState.AUTO", "enable": "LinkState.ENABLE", "disable": "LinkState.DISABLE"}


@pytest.fixture(scope="module")
def pf(sim: Host) -> str:
    return sim.netdevsim(11, vfs=4)


def shown_by_ip(entry: dict[str, Any]) -> dict[str, Any]:
    """What ``ip`` says of a VF, in the words of :class:`AdminState`."""
    vlans = [
        {
            "vid": vlan["vlan"],
            **({"qos": vlan["qos"]} if "qos" in vlan else {}),
            "proto": vlan.get("protocol", "802.1Q"),
        }
        for vlan in entry["vlan_list"]
        if vlan
    ]
    return {
        "mac": entry["address"],
        "vlans": vlans,
        "rate": {"min_tx": entry["rate"]["min_tx"], "max_tx": entry["rate"]["max_tx"]},
        "spoofchk": entry["spoofchk"],
        "link_state": entry["link_state"],
        "rss_query": entry["query_rss_en"],
        "trust": entry["trust"],
    }


def test_random_states_are_what_ip_shows(sim: Host, pf: str) -> None:
    """Programmed by vferry, shown by ``ip``; programmed by ``ip``, read by vferry."""
    rng = random.Random(5)
    for _ in range(10):
        vf = rng.randrange(4)
        maximum = rng.choice((0, rng.randrange(1, 0x10000)))  # netdevsim keeps 16 bits
        minimum = rng.randrange(maximum) if maximum else 0
        mac = "02:" + rng.randbytes(5).hex(":")
        vid, qos, proto = rng.randrange(1, 4096), rng.randrange(8), rng.choice(("802.1Q", "802.1ad"))
        state, spoofchk, rss, trust = rng.choice(sorted(STATES)), *(rng.random() < 0.5 for _ in range(3))
        told = inside(
            sim,
            f"""
change = AdminState(
    mac="{mac}", vlans=(Vlan(vid={vid}, qos={qos}, proto="{proto}"),), rate=Rate(min_tx={minimum}, max_tx={maximum}),
    spoofchk={spoofchk}, link_state={STATES[state]}, rss_query={rss}, trust={trust})
assert nic.program("{pf}", {{{vf}: change}}) == {{{vf}: None}}
reading = nic.read("{pf}")
assert reading.vfs[{vf}].admin == change
tell([[vf.admin for vf in reading.vfs], ip("{pf}")["vfinfo_list"]])
""",
        )
        ours, theirs = told
        assert ours == [shown_by_ip(entry) for entry in theirs]
        words = {True: "on", False: "off"}
        sim.run(
            f"ip link set {pf} vf {vf} mac 02:00:00:00:00:07 vlan {4096 - vid} qos {7 - qos} proto 802.1Q "
            f"max_tx_rate 9 min_tx_rate 3 spoofchk {words[not spoofchk]} trust {words[not trust]} state enable "
            f"query_rss {words[not rss]}"
        )
        ours, theirs = inside(sim, f'tell([[v.admin for v in nic.read("{pf}").vfs], ip("{pf}")["vfinfo_list"]])')
        assert ours == [shown_by_ip(entry) for entry in theirs]


def test_refusals_have_their_types(sim: Host, pf: str) -> None:
    told = inside(
        sim,
        f"""
tell(outcomes(nic.program("{pf}", {{
    0: AdminState(mac="01:00:00:00:00:01"),
    1: AdminState(node_guid="00:00:00:00:00:00:00:01"),
    2: AdminState(vlans=(Vlan(vid=4095, qos=7),)),
    3: AdminState(rate=Rate(min_tx=5, max_tx=4), trust=True),
}})))
tell(attempt(nic.set_pf, "{pf}", mtu=10))
tell(nic.read("{pf}").vfs[3].admin.trust)
""",
    )
    assert told[0] == {
        "0": ["RejectedError", 22, "EINVAL: Invalid argument"],
        "1": ["NotSupportedError", 95, "EOPNOTSUPP: Operation not supported"],
        "2": None,
        "3": ["RejectedError", 22, "EINVAL: Invalid argument"],
    }
    assert told[1] == ["RejectedError", 22, "EINVAL: mtu less than device minimum"]


def test_the_pf_is_set_up_and_down_with_its_mtu(sim: Host, pf: str) -> None:
    told = inside(
        sim,
        f"""
for up, mtu in ((True, 9000), (False, 1500)):
    nic.set_pf("{pf}", admin_up=up, mtu=mtu)
    facts, reading, shown = nic.pf("{pf}"), nic.read("{pf}"), ip("{pf}")
    tell([facts.admin_up, facts.mtu, reading.admin_up, reading.mtu, "UP" in shown["flags"], shown["mtu"]])
""",
    )
    assert told == [[True, 9000] * 3, [False, 1500] * 3]


@pytest.mark.parametrize("count", [221, 222, 256, 334, 335, 400, 1000])
def test_long_lists_are_whole_or_refused(sim: Host, count: int) -> None:
    """``ip`` returns short lists with success from 222 VFs on; vferry never does."""
    device = "/sys/bus/netdevsim/devices/netdevsim12"
    sim.run(
        f"[ -e {device} ] || echo '12 1' > /sys/bus/netdevsim/new_device; echo 0 > {device}/sriov_numvfs;"
        f"echo 1000 > /sys/kernel/debug/netdevsim/netdevsim12/max_vfs; echo {count} > {device}/sriov_numvfs"
    )
    told = inside(
        sim,
        """
for statistics in (False, True):
    try:
        reading = nic.read("netdevsim12", statistics=statistics)
        tell([reading.num_vfs, [vf.index for vf in reading.vfs]])
    except IncompleteReadingError as error:
        tell(error.why)
tell(nic.pf("netdevsim12").num_vfs)
last = nic.pf("netdevsim12").num_vfs - 1
tell(outcomes(nic.program("netdevsim12", {vf: AdminState(trust=True) for vf in range(last + 1)})) == {
    str(vf): None for vf in range(last + 1)})
""",
    )
    for limit, answer in zip((334, 221), told[:2], strict=True):
        if count <= limit:
            assert answer == [count, list(range(count))]
        else:
            assert "more than about 334 VFs, or 221 with statistics" in answer
    assert told[2:] == [count, True]


def test_facts(sim: Host, pf: str) -> None:
    facts, vfs = inside(sim, f'tell(nic.pf("netdevsim11")); tell(nic.vfs("{pf}"))')
    driver_information = sim.run(f"ethtool -i {pf}").out
    assert (facts["name"], facts["device"], facts["bus"], facts["netdev"]) == (pf, "netdevsim11", "netdevsim", pf)
    assert (facts["num_vfs"], facts["driver"], facts["eswitch_mode"]) == (4, "netdevsim", "legacy")
    assert f"firmware-version: {facts['firmware_version']}" in driver_information
    assert vfs == [{"index": index} for index in range(4)]
    assert "total_vfs" not in facts


def test_a_second_port_and_representors_are_told_apart(sim: Host) -> None:
    first = sim.netdevsim(13, ports=2, vfs=2)
    told = inside(
        sim,
        """
nic.set_eswitch_mode("netdevsim13", EswitchMode.SWITCHDEV)
names = sorted(os.listdir("/sys/bus/netdevsim/devices/netdevsim13/net"))
tell([nic.pf("netdevsim13").name, nic.pf("netdevsim13").eswitch_mode])
tell({name: (attempt(nic.read, name) or ["read"])[0] for name in names})
tell([pf.name for pf in nic.pfs() if pf.device == "netdevsim13"])
""",
    )
    assert told[0] == [first, "switchdev"]
    assert sorted(told[1].values()) == ["NoSuchFunctionError"] * 2 + ["read"] * 2
    assert told[2] == [first]


def test_devlink_rates(sim: Host) -> None:
    sim.netdevsim(14, vfs=3)
    told = inside(
        sim,
        """
tell(nic.read_function("netdevsim14", 1))
tell(attempt(nic.program_function, "netdevsim14", 1, FunctionState(tx_max=1)))
nic.set_eswitch_mode("netdevsim14", EswitchMode.SWITCHDEV)
nic.program_function("netdevsim14", 1, FunctionState(tx_share=1_250_000, tx_max=12_500_000))
nic.program_function("netdevsim14", 2, FunctionState(tx_max=2_500_000))
tell([nic.read_function("netdevsim14", vf) for vf in range(3)])
tell(attempt(nic.program_function, "netdevsim14", 1, FunctionState(hw_addr="02:00:00:00:00:09")))
tell(attempt(nic.program_function, "netdevsim14", 1, FunctionState(state="active")))
tell(attempt(nic.program_function, "netdevsim14", 1, FunctionState(roce=True)))
""",
    )
    assert told[0] is None
    assert told[1][0] == "NotSupportedError"
    assert told[2] == [
        {"tx_share": 0, "tx_max": 0},
        {"tx_share": 1_250_000, "tx_max": 12_500_000},
        {"tx_share": 0, "tx_max": 2_500_000},
    ]
    assert [refusal[0] for refusal in told[3:]] == ["NotSupportedError"] * 3
    assert told[3][2] == "EOPNOTSUPP: Port doesn't support function attributes"
    shown = json.loads(sim.run("devlink -j port function rate show").out)["rate"]
    rates = [rate for name, rate in shown.items() if "netdevsim14" in name]
    assert [(rate.get("tx_share", 0), rate.get("tx_max", 0)) for rate in rates] == [
        (0, 0),
        (1_250_000, 12_500_000),
        (0, 2_500_000),
    ]
    told = inside(
        sim,
        """
nic.set_eswitch_mode("netdevsim14", EswitchMode.LEGACY)
tell(nic.pf("netdevsim14").eswitch_mode)
tell(nic.read_function("netdevsim14", 1))
""",
    )
    assert told == ["legacy", None]


def test_a_bond_is_a_lag_and_a_bridge_is_not(sim: Host) -> None:
    first, second = sim.netdevsim(15, vfs=1), sim.netdevsim(16, vfs=1)
    sim.run(f"ip link add lag0 type bond && ip link set {first} master lag0")
    sim.run(f"ip link add br7 type bridge && ip link set {second} master br7")
    assert inside(sim, f'tell([nic.pf("{first}").lag, nic.pf("{second}").lag])') == ["lag0", None]


def test_a_team_is_a_lag(sim: Host) -> None:
    if sim.run("modprobe team; ip link add lag1 type team", check=False).rc:
        pytest.skip("the lab's kernel has no team driver")
    member = sim.netdevsim(18, vfs=1)
    sim.run(f"ip link set {member} master lag1")
    assert inside(sim, f'tell(nic.pf("{member}").lag)') == "lag1"


def test_a_pf_that_goes_away(sim: Host) -> None:
    name = sim.netdevsim(17, vfs=2)
    told = inside(
        sim,
        f"""
armed = nic.arm("{name}", {{0: AdminState(trust=True), 1: AdminState(trust=True)}})
nic.read("{name}")
with open("/sys/bus/netdevsim/del_device", "w") as file:
    file.write("17")
tell(outcomes(armed.send()))
tell(attempt(nic.read, "{name}"))
tell(attempt(nic.arm, "{name}", {{}}))
""",
    )
    assert told[0] == {vf: ["NoSuchFunctionError", 19, "ENODEV: No such device"] for vf in ("0", "1")}
    assert [refusal[0] for refusal in told[1:]] == ["NoSuchFunctionError"] * 2


FDB = """
def shown(name):
    command = ["bridge", "-j", "fdb", "show", "dev", name]
    entries = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return sorted(e["mac"] for e in entries if "self" in e["flags"] and not int(e["mac"][:2], 16) & 1)
"""


def test_forwarding_entries_are_what_bridge_shows(sim: Host, pf: str) -> None:
    """Added by one, shown and removed by the other; up or down, and beside the groups that IPv6 is in."""
    told = inside(
        sim,
        FDB
        + f"""
first, second = "02:00:00:00:00:01", "02:00:00:00:00:02"
for state in ("up", "down"):
    subprocess.run(["ip", "link", "set", "{pf}", state], check=True)
    nic.add_fdb("{pf}", second)
    subprocess.run(["bridge", "fdb", "add", first, "dev", "{pf}", "self"], check=True)
    tell([nic.read_fdb("{pf}"), shown("{pf}")])
    nic.remove_fdb("{pf}", first)
    subprocess.run(["bridge", "fdb", "del", second, "dev", "{pf}", "self"], check=True)
    tell([nic.read_fdb("{pf}"), shown("{pf}")])
""",
    )
    both = ["02:00:00:00:00:01", "02:00:00:00:00:02"]
    assert told == [[both, both], [[], []]] * 2


def test_the_kernel_counts_who_holds_a_forwarding_entry(sim: Host) -> None:
    """What a macvlan needs is listed too; adding it once more counts nothing, removing it takes the macvlan's away."""
    name = sim.netdevsim(19, vfs=1)
    mac = "02:00:00:00:00:01"
    sim.run(f"ip link set {name} up; ip link add mv0 link {name} address {mac} type macvlan mode bridge")
    told = inside(
        sim,
        f"""
def macvlan(state):
    subprocess.run(["ip", "link", "set", "mv0", state], check=True)
    tell(nic.read_fdb("{name}"))
def change(act):
    act("{name}", "{mac}")
    tell(nic.read_fdb("{name}"))
macvlan("up"); change(nic.add_fdb); change(nic.remove_fdb); macvlan("down")
change(nic.add_fdb); macvlan("up"); change(nic.remove_fdb); macvlan("down")
""",
    )
    there: list[str] = [mac]
    assert told == [there, there, [], [], there, there, there, []]


def test_forwarding_entries_of_a_pf_under_a_bridge(sim: Host) -> None:
    """The bridge's own entries for the port are no entries of the PF: netdevsim has no address filter to be set."""
    name = sim.netdevsim(20, vfs=1)
    sim.run(f"ip link add br8 type bridge; ip link set {name} master br8; ip link set br8 up; ip link set {name} up")
    sim.run(f"bridge fdb add 02:00:00:00:00:09 dev {name} master static")
    told = inside(
        sim,
        FDB
        + f"""
tell([nic.read_fdb("{name}"), shown("{name}")])
nic.add_fdb("{name}", "02:00:00:00:00:01")
tell([nic.read_fdb("{name}"), shown("{name}")])
""",
    )
    assert told == [[[], []], [["02:00:00:00:00:01"]] * 2]


def test_forwarding_entries_go_with_the_interface(sim: Host) -> None:
    name = sim.netdevsim(21, vfs=1)
    told = inside(
        sim,
        f"""
nic.add_fdb("{name}", "02:00:00:00:00:01")
tell(nic.read_fdb("netdevsim21"))
for file, words in (("del_device", "21"), ("new_device", "21 1")):
    with open("/sys/bus/netdevsim/" + file, "w") as opened:
        opened.write(words)
    tell(attempt(lambda: tell(nic.read_fdb("netdevsim21"))))
""",
    )
    assert told[0] == ["02:00:00:00:00:01"]
    assert told[1][0] == "NoSuchFunctionError"
    assert told[2:] == [[], None]


def test_without_privileges_there_is_reading(sim: Host, pf: str) -> None:
    told = inside(
        sim,
        f"""
tell(nic.read("{pf}").num_vfs)
tell(nic.pf("{pf}"))
tell(outcomes(nic.program("{pf}", {{0: AdminState(trust=True)}})))
tell(attempt(nic.set_pf, "{pf}", mtu=1400))
tell(attempt(nic.set_eswitch_mode, "{pf}", EswitchMode.SWITCHDEV))
tell(nic.read_fdb("{pf}"))
tell(attempt(nic.add_fdb, "{pf}", "02:00:00:00:00:01"))
tell(attempt(nic.remove_fdb, "{pf}", "02:00:00:00:00:01"))
""",
        user=1000,
    )
    assert told[0] == 4
    assert told[5] == []
    assert told[6][0] == told[7][0] == "NotPermittedError"
    assert "eswitch_mode" not in told[1]
    assert told[2]["0"][0] == told[3][0] == told[4][0] == "NotPermittedError"
