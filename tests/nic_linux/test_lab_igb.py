# SPDX-License-Identifier: Apache-2.0
"""The adapter with igb and virtio-net: PCI functions, their facts and users, configuration space, resets."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from lab import Host, Vf
from tests.nic_linux.inside import inside
from tests.nic_linux.test_lab_netdevsim import shown_by_ip

pytestmark = pytest.mark.lab

PF = "0000:01:00.0"


@pytest.fixture(scope="module")
def vfs(igb: Host) -> Iterator[tuple[Vf, ...]]:
    """Five VFs: in a namespace, up, handed to VFIO with a process on it, unbound, down."""
    made = igb.vfs()
    igb.vf_namespace(made[0], "g0", "10.0.0.1/24")
    igb.run(f"ip link set {made[1].netdev} up")
    group = igb.bind_vfio(made[2])
    igb.unbind(made[3])
    script = f"import os, time; os.open('/dev/vfio/{group}', os.O_RDWR); print('open', flush=True); time.sleep(600)"
    holder = igb.spawn(["python3", "-c", script])
    holder.wait_for_output("open")
    yield igb.vfs()
    holder.kill()


def test_facts_of_the_pf(igb: Host, vfs: tuple[Vf, ...]) -> None:
    name = igb.pf()
    by_name, by_address, listed = inside(igb, f'tell(nic.pf("{name}")); tell(nic.pf("{PF}")); tell(nic.pfs())')
    assert by_name == by_address == listed[0]
    sriov = igb.run("lspci -vvs 01:00.0").out
    offset, stride, device = re.search(r"VF offset: (\d+), stride: (\d+), Device ID: (\w+)", sriov).groups()  # type: ignore[union-attr]
    assert by_name == {
        "name": name,
        "device": PF,
        "bus": "pci",
        "netdev": name,
        "ifindex": int(igb.run(f"cat /sys/class/net/{name}/ifindex").out),
        "driver": "igb",
        "firmware_version": by_name["firmware_version"],
        "vendor": "8086",
        "device_id": "10c9",
        "permanent_address": "52:54:00:aa:00:11",
        "address": "52:54:00:aa:00:11",
        "mtu": 1500,
        "admin_up": True,
        "carrier": True,
        "speed": 1000,
        "num_vfs": len(vfs),
        "total_vfs": 7,
        "sriov": {"vf_offset": int(offset), "vf_stride": int(stride), "vf_device": device},
    }
    assert f"firmware-version: {by_name['firmware_version']}" in igb.run(f"ethtool -i {name}").out


def test_facts_of_vfs_and_who_uses_them(igb: Host, vfs: tuple[Vf, ...]) -> None:
    told = inside(igb, f'tell(nic.vfs("{igb.pf()}"))')
    assert [vf["address"] for vf in told] == [vf.address for vf in vfs]
    assert {(vf["vendor"], vf["device_id"], vf["vectors"]) for vf in told} == {("8086", "10ca", 3)}
    assert [vf.get("driver") for vf in told] == ["igbvf", "igbvf", "vfio-pci", None, "igbvf"]
    assert [vf.get("netdev") for vf in told] == [None, vfs[1].netdev, None, None, vfs[4].netdev]
    assert len({vf["iommu_group"] for vf in told}) == 5
    users = [vf.get("user") for vf in told]
    assert users[0] == "driver igbvf is bound and its network interface is in another namespace"
    assert users[1] == f"network interface {vfs[1].netdev} is up"
    assert re.fullmatch(rf"process \d+ \(python3\) through /dev/vfio/{told[2]['iommu_group']}", users[2])
    assert users[3:] == [None, None]


def test_vfs_are_found_by_address(igb: Host, vfs: tuple[Vf, ...]) -> None:
    addresses = [vf.address for vf in vfs]
    told = inside(igb, f'tell([nic.find_vf_address(address) for address in {addresses} + ["{PF}", "0000:00:00.0"]])')
    assert told == [[igb.pf(), vf.index] for vf in vfs] + [None, None]


def test_computed_addresses_are_the_linked_ones(igb: Host, vfs: tuple[Vf, ...]) -> None:
    told = inside(
        igb,
        f"""
from vferry.nic.linux import pci
from vferry.nic.linux.sysfs import Device, Sysfs, vf_routing_address
sysfs = Sysfs("/sys", "/proc")
capability = sysfs.sriov(Device("pci", "{PF}"))
registers = pci.sriov_registers("/sys/bus/pci/devices/{PF}")
tell([vf_routing_address("{PF}", vf, capability) for vf in range({len(vfs)})])
tell([registers.vf_offset == capability.vf_offset, registers.vf_stride == capability.vf_stride, registers.num_vfs])
""",
    )
    assert told == [[vf.address for vf in vfs], [True, True, len(vfs)]]


def test_settings_are_what_ip_shows(igb: Host, vfs: tuple[Vf, ...]) -> None:
    name = igb.pf()
    told = inside(
        igb,
        f"""
tell(outcomes(nic.program("{name}", {{
    4: AdminState(mac="02:00:00:00:00:44", vlans=(Vlan(vid=100, qos=3),), rate=Rate(min_tx=0, max_tx=100),
                  spoofchk=False, trust=True),
    3: AdminState(link_state=LinkState.ENABLE, trust=True),
    1: AdminState(vlans=(Vlan(vid=5, proto="802.1ad"),), trust=True),
}})))
tell([[vf.admin for vf in nic.read("{name}").vfs], ip("{name}")["vfinfo_list"]])
""",
    )
    assert told[0] == {
        "4": None,
        "3": ["NotSupportedError", 95, "EOPNOTSUPP: Operation not supported"],
        "1": ["RejectedError", 93, "EPROTONOSUPPORT: Protocol not supported"],
    }
    ours, theirs = told[1]
    expected = [shown_by_ip({"query_rss_en": None, **entry}) for entry in theirs]
    for state in expected:
        del state["rss_query"]
    assert ours == expected
    assert [state["trust"] for state in ours] == [False, False, False, False, True]


def test_pci_words(igb: Host, vfs: tuple[Vf, ...]) -> None:
    told = inside(
        igb,
        f"""
name = "{igb.pf()}"
tell([nic.read_pci(name, vf) for vf in range({len(vfs)})])
tell(attempt(nic.write_pci, name, 1, PciState(command=0)))
nic.write_pci(name, 3, PciState(command=0x0004, msix_control=0x8002))
tell(nic.read_pci(name, 3))
""",
    )
    for vf, state in zip(vfs, told[0], strict=True):
        command, control = igb.run(f"setpci -s {vf.address} COMMAND CAP_MSIX+2.w").out.split()
        if vf.index != 3:
            assert (state["command"], state["msix_control"]) == (int(command, 16), int(control, 16))
    assert told[1][0] == "NotPermittedError"
    assert "driver igbvf is bound" in told[1][2]
    assert told[2] == {"command": 0x0004, "msix_control": 0x8002}
    assert igb.run(f"setpci -s {vfs[3].address} COMMAND CAP_MSIX+2.w").out.split() == ["0004", "8002"]


def test_a_reset_clears_the_pci_words_and_keeps_the_settings(igb: Host, vfs: tuple[Vf, ...]) -> None:
    told = inside(
        igb,
        f"""
name = "{igb.pf()}"
nic.program(name, {{3: AdminState(mac="02:00:00:00:00:33", vlans=(Vlan(vid=9),))}})
nic.write_pci(name, 3, PciState(command=0x0004))
nic.reset_vf(name, 3)
tell(nic.read("{PF}").vfs[3].admin)
""",
    )
    assert (told["mac"], told["vlans"]) == ("02:00:00:00:00:33", [{"vid": 9, "proto": "802.1Q"}])
    assert igb.run(f"cat /sys/bus/pci/devices/{vfs[3].address}/reset_method").out.split()[0] == "flr"


def test_without_privileges_what_lies_behind_the_header_is_absent(igb: Host, vfs: tuple[Vf, ...]) -> None:
    told = inside(
        igb,
        f"""
name = "{igb.pf()}"
tell(nic.read_pci(name, 1))
tell(nic.vfs(name))
tell(attempt(nic.reset_vf, name, 3))
tell(attempt(nic.write_pci, name, 3, PciState(command=0)))
""",
        user=1000,
    )
    assert list(told[0]) == ["command"]
    assert not [vf for vf in told[1] if "vectors" in vf]
    assert told[2][0] == told[3][0] == "NotPermittedError"


def test_a_pf_without_eswitch(igb: Host) -> None:
    told = inside(
        igb,
        f"""
name = "{igb.pf()}"
tell(nic.read_function(name, 0))
tell(attempt(nic.set_eswitch_mode, name, EswitchMode.SWITCHDEV))
tell(attempt(nic.program_function, name, 0, FunctionState(roce=True)))
""",
    )
    assert told[0] is None
    assert told[1][0] == told[2][0] == "NotSupportedError"


def test_an_igb_has_a_number_of_forwarding_entries(igb: Host) -> None:
    """When all are taken, one more is refused, and one that is there is no error all the same."""
    told = inside(
        igb,
        f"""
name, taken, refused = "{igb.pf()}", [], None
before = nic.read_fdb(name)
while not refused and len(taken) < 32:
    taken.append(f"02:00:00:00:01:{{len(taken):02x}}")
    refused = attempt(nic.add_fdb, name, taken[-1])
tell(refused)
taken.pop()
assert nic.read_fdb(name) == tuple(sorted([*before, *taken]))
nic.add_fdb(name, taken[0])
for mac in taken:
    nic.remove_fdb(name, mac)
assert nic.read_fdb(name) == before
tell(len(taken))
""",
    )
    refused, count = told
    assert refused == ["RejectedError", 12, "ENOMEM: the driver has no filter left for another address"]
    # 82576: 24 receive addresses (e1000_82575.h), of which the PF and each of five VFs have one.
    assert count == 18


def test_a_bridge_has_its_own_forwarding_entries_on_a_pf_that_filters(igb: Host) -> None:
    """A VLAN-aware bridge with one learning port makes that one filter, by its static addresses."""
    name = igb.pf()
    igb.run(f"ip link add br9 type bridge vlan_filtering 1; ip link add dm9 type dummy; ip link set {name} master br9")
    igb.run("ip link set dm9 master br9; bridge link set dev dm9 learning off flood off")
    igb.run("ip link set br9 up; ip link set dm9 up; bridge fdb add 02:00:00:00:00:09 dev dm9 master static")
    told = inside(
        igb,
        f"""
name = "{name}"
tell(nic.read_fdb(name))
nic.add_fdb(name, "02:00:00:00:00:01")
subprocess.run(["ip", "link", "del", "br9"], check=True)
tell(nic.read_fdb(name))
nic.remove_fdb(name, "02:00:00:00:00:01")
tell(nic.read_fdb(name))
""",
    )
    assert "02:00:00:00:00:09" in told[0]
    assert told[1:] == [["02:00:00:00:00:01"], []]


def test_virtio_has_pci_functions_and_no_settings(virtio: Host) -> None:
    made = virtio.vfs()
    virtio.run(f"ip netns add elsewhere; ip link set {made[0].netdev} netns elsewhere; ip link set {made[1].netdev} up")
    name = virtio.pf()
    told = inside(
        virtio,
        f"""
tell(nic.pf("{PF}"))
tell(nic.vfs("{name}"))
tell(nic.read("{name}"))
tell(outcomes(nic.program("{name}", {{0: AdminState(trust=True)}})))
tell(nic.read_pci("{name}", 1))
tell(nic.find_vf_address("{made[2].address}"))
nic.reset_vf("{name}", 3)
""",
    )
    pf, vfs, reading, refused, state, found = told
    assert (pf["name"], pf["num_vfs"], pf["permanent_address"]) == (name, 5, "52:54:00:cc:00:00")
    assert [vf["address"] for vf in vfs] == [vf.address for vf in made]
    assert [vf.get("netdev") for vf in vfs] == [None] + [vf.netdev for vf in made[1:]]
    assert vfs[0]["user"] == "driver virtio-pci is bound and its network interface is in another namespace"
    assert vfs[1]["user"] == f"network interface {made[1].netdev} is up"
    assert (reading["num_vfs"], reading["vfs"], reading["has_settings"]) == (5, [], False)
    assert refused["0"][0] == "NotSupportedError"
    assert state["command"] & 0x0004
    assert found == [name, 2]
