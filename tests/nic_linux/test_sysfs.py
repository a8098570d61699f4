# SPDX-License-Identifier: Apache-2.0
"""PFs and VFs in a sysfs that the test made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nic_linux.tree import Tree, config_space, msix, sriov
from vferry.core.model import SriovCapability, VfFacts
from vferry.nic.linux.sysfs import Device, Sysfs, is_representor, vf_routing_address

PF = "0000:01:00.0"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def sysfs(tree: Tree) -> Sysfs:
    return Sysfs(str(tree.sys), str(tree.proc))


def test_pfs_are_devices_with_a_number_of_vfs(tree: Tree, sysfs: Sysfs) -> None:
    tree.netdev(tree.pci(PF, sriov_numvfs=2, sriov_totalvfs=7), "eth0")
    tree.netdev(tree.pci("0000:02:00.0"), "eth1")
    tree.netdev(tree.device("netdevsim", "netdevsim1", sriov_numvfs=4), "eth2")
    assert sysfs.devices() == [Device("pci", PF), Device("netdevsim", "netdevsim1")]
    pci, simulated = sysfs.devices()
    assert (sysfs.num_vfs(pci), sysfs.total_vfs(pci)) == (2, 7)
    assert (sysfs.num_vfs(simulated), sysfs.total_vfs(simulated)) == (4, None)
    assert (sysfs.netdevs(pci), sysfs.netdevs(simulated)) == (["eth0"], ["eth2"])


def test_no_such_buses(tmp_path: Path) -> None:
    assert Sysfs(str(tmp_path), str(tmp_path)).devices() == []


def test_a_pf_is_found_by_interface_and_by_address(tree: Tree, sysfs: Sysfs) -> None:
    tree.netdev(tree.pci(PF, sriov_numvfs=0), "eth0")
    tree.netdev(tree.device("netdevsim", "netdevsim1", sriov_numvfs=0), "eth1")
    tree.netdev(tree.pci("0000:02:00.0"), "plain")
    for name, device in (
        ("eth0", Device("pci", PF)),
        (PF, Device("pci", PF)),
        ("eth1", Device("netdevsim", "netdevsim1")),
        ("netdevsim1", Device("netdevsim", "netdevsim1")),
    ):
        assert sysfs.find(name) == device
    for name in ("plain", "0000:02:00.0", "", ".", "..", "../net/eth0", "eth0/", "eth0\0", f"../devices/{PF}"):
        assert sysfs.find(name) is None


def test_a_virtio_interface_hangs_on_the_pci_device(tree: Tree, sysfs: Sysfs) -> None:
    pf = tree.pci(PF, sriov_numvfs=1)
    tree.netdev(tree.device("virtio", "virtio4", pf), "eth0")
    vf = tree.vf(pf, 0, "0000:01:00.1")
    tree.netdev(tree.device("virtio", "virtio5", vf), "eth1")
    tree.bind(vf, "virtio-pci")
    assert sysfs.find("eth0") == Device("pci", PF)
    assert sysfs.find("eth1") is None
    assert sysfs.netdevs(Device("pci", PF)) == ["eth0"]
    assert sysfs.vfs(Device("pci", PF), 1)[0].netdev == "eth1"


def test_interfaces_of_subfunctions_are_not_the_pfs(tree: Tree, sysfs: Sysfs) -> None:
    pf = tree.pci(PF, sriov_numvfs=1)
    tree.netdev(tree.device("auxiliary", "core.sf.2", pf), "sf0")
    assert sysfs.netdevs(Device("pci", PF)) == []
    assert sysfs.find("sf0") is None


def test_ports_come_in_order_and_representors_not_at_all(tree: Tree, sysfs: Sysfs) -> None:
    pf = tree.pci(PF, sriov_numvfs=1)
    tree.netdev(pf, "b", ifindex=9, dev_port=1, phys_port_name="p1")
    tree.netdev(pf, "c", ifindex=8, dev_port=0, phys_port_name="p0")
    tree.netdev(pf, "a", ifindex=10, dev_port=0)
    tree.netdev(pf, "rep", ifindex=1, phys_port_name="pf0vf0")
    assert sysfs.netdevs(Device("pci", PF)) == ["c", "a", "b"]
    assert sysfs.find("rep") is None
    assert sysfs.find("b") == Device("pci", PF)


@pytest.mark.parametrize("port", ["pf0vf0", "pf1vf127", "pf0sf3", "c1pf0vf2", "c12pf3sf4"])
def test_representors(port: str) -> None:
    assert is_representor(port)


@pytest.mark.parametrize("port", ["", "p0", "p0s1", "pf0", "pf0s1", "pfvf", "pf0vf", "vf0", "c1p0", "pf0vfx"])
def test_no_representors(port: str) -> None:
    assert not is_representor(port)


def test_addresses_of_vfs_come_from_links(tree: Tree, sysfs: Sysfs) -> None:
    pf = tree.pci(PF, sriov_numvfs=1)
    tree.vf(pf, 0, "0000:01:10.6")
    assert sysfs.vf_address(Device("pci", PF), 0) == "0000:01:10.6"
    assert sysfs.find_vf("0000:01:10.6") == (Device("pci", PF), 0)
    for address in (PF, "0000:01:10.5", "junk", "..", "", "a/b"):
        assert sysfs.find_vf(address) is None


def test_addresses_of_vfs_are_computed_where_links_are_missing(tree: Tree, sysfs: Sysfs) -> None:
    pf = tree.pci(PF, sriov_numvfs=7, sriov_offset=128, sriov_stride=2, sriov_vf_device="10ca")
    tree.vf(pf, 5, "0000:01:11.2", linked=False)
    addresses = [sysfs.vf_address(Device("pci", PF), vf) for vf in range(7)]
    assert [address and address[-4:] for address in addresses] == [
        "10.0",
        "10.2",
        "10.4",
        "10.6",
        "11.0",
        "11.2",
        "11.4",
    ]
    assert sysfs.find_vf("0000:01:11.2") == (Device("pci", PF), 5)


@pytest.mark.parametrize(
    ("pf", "vf", "offset", "stride", "address"),
    [
        ("0000:01:00.0", 0, 128, 2, "0000:01:10.0"),
        ("0000:3b:00.1", 0, 1, 1, "0000:3b:00.2"),
        ("0000:3b:00.0", 300, 64, 1, "0000:3c:0d.4"),  # across buses: 0x3b00 + 64 + 300 = 0x3c6c
        ("10000:ff:1f.7", 0, 1, 1, "10000:00:00.0"),  # the bus number has eight bits
    ],
)
def test_routing_arithmetic(pf: str, vf: int, offset: int, stride: int, address: str) -> None:
    capability = SriovCapability(vf_offset=offset, vf_stride=stride, vf_device="10ca")
    assert vf_routing_address(pf, vf, capability) == address


def test_the_capability_comes_from_configuration_space_where_files_are_missing(tree: Tree, sysfs: Sysfs) -> None:
    pf = tree.pci(PF, sriov_numvfs=1)
    device = Device("pci", PF)
    assert sysfs.sriov(device) is None
    assert sysfs.vf_address(device, 0) is None
    (pf / "config").write_bytes(config_space(extended=(sriov(total=8, offset=128, stride=2, device=0x0ABC),)))
    assert sysfs.sriov(device) == SriovCapability(vf_offset=128, vf_stride=2, vf_device="0abc")
    assert sysfs.vf_address(device, 1) == "0000:01:10.2"
    tree.write(pf, sriov_offset=1, sriov_stride=1, sriov_vf_device="10ca")
    assert sysfs.sriov(device) == SriovCapability(vf_offset=1, vf_stride=1, vf_device="10ca")


def test_facts_of_vfs(tree: Tree, sysfs: Sysfs) -> None:
    pf = tree.pci(PF, sriov_numvfs=3)
    bound = tree.vf(pf, 0, "0000:01:10.0", group=8)
    tree.bind(bound, "somevf")
    tree.netdev(bound, "vf0", flags=0x1002)
    (bound / "config").write_bytes(config_space(capabilities=(msix(2),)))
    tree.vf(pf, 1, "0000:01:10.2")
    assert sysfs.vfs(Device("pci", PF), 3) == (
        VfFacts(
            index=0,
            address="0000:01:10.0",
            vendor="8086",
            device_id="10ca",
            driver="somevf",
            netdev="vf0",
            iommu_group=8,
            vectors=3,
        ),
        VfFacts(index=1, address="0000:01:10.2", vendor="8086", device_id="10ca"),
        VfFacts(index=2),
    )


def test_vfs_without_addresses(tree: Tree, sysfs: Sysfs) -> None:
    tree.device("netdevsim", "netdevsim1", sriov_numvfs=2)
    assert sysfs.vfs(Device("netdevsim", "netdevsim1"), 2) == (VfFacts(index=0), VfFacts(index=1))


@pytest.mark.parametrize(
    ("text", "speed"), [("1000", 1000), ("-1", None), ("0", None), ("4294967295", None), ("x", None)]
)
def test_speed(tree: Tree, sysfs: Sysfs, text: str, speed: int | None) -> None:
    tree.netdev(tree.pci(PF), "eth0", speed=text)
    assert sysfs.speed("eth0") == speed
    assert sysfs.speed("eth1") is None


def test_bonds(tree: Tree, sysfs: Sysfs) -> None:
    mine = tree.netdev(tree.pci(PF), "eth0")
    for name in ("bond0", "br0"):
        (tree.sys / "class/net" / name).mkdir()
    assert sysfs.bond("eth0") is None
    tree.link(mine / "upper_br0", tree.sys / "class/net/br0")
    tree.link(mine / "master", tree.sys / "class/net/bond0")
    assert (sysfs.bond("eth0"), sysfs.master("eth0")) == (None, "bond0")
    (tree.sys / "class/net/bond0/bonding").mkdir()
    assert sysfs.bond("eth0") == "bond0"
    (mine / "master").unlink()
    tree.link(mine / "upper_bond0", tree.sys / "class/net/bond0")
    assert sysfs.bond("eth0") == "bond0"


def test_rdma_devices(tree: Tree, sysfs: Sysfs) -> None:
    pf, other = tree.pci(PF), tree.pci("0000:02:00.0")
    tree.link(tree.sys / "class/infiniband/rdma1/device", pf)
    tree.link(tree.sys / "class/infiniband/rdma0/device", pf)
    tree.link(tree.sys / "class/infiniband/rdma2/device", other)
    assert sysfs.rdma(Device("pci", PF)) == ("rdma0", "rdma1")


def test_versions_of_drivers(tree: Tree, sysfs: Sysfs) -> None:
    module = tree.sys / "module/somedriver"
    module.mkdir(parents=True)
    assert sysfs.driver_version("somedriver") is None
    tree.write(module, version="1.2.3")
    assert sysfs.driver_version("somedriver") == "1.2.3"


def test_the_host(sysfs: Sysfs) -> None:
    host = sysfs.host()
    assert host.boot_id == "11111111-2222-3333-4444-555555555555"
    assert host.hostname
    assert host.kernel_release


@pytest.mark.parametrize("content", ["", "x", "0x12345", "-0x1"])
def test_identifiers_that_are_none(tree: Tree, sysfs: Sysfs, content: str) -> None:
    pf = tree.pci(PF, vendor=content)
    assert sysfs.hexadecimal(f"{pf}/vendor") is None
