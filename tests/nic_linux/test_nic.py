# SPDX-License-Identifier: Apache-2.0
"""The adapter as a whole: a sysfs that the test made, with this machine's kernel behind the loopback interface."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.nic_linux.kernel import rtm_newlink, vf_info
from tests.nic_linux.tree import Tree, config_space, msix
from vferry.core.model import AdminState, EswitchMode, FunctionState, PciState, PfReading, Rate, Vlan
from vferry.nic.linux import LinuxNic, fdb
from vferry.nic.linux import nic as nic_module
from vferry.nic.linux.failure import GarbledMessageError, KernelError
from vferry.nic.linux.linkinfo import decode_reading
from vferry.nic.linux.netlink import messages
from vferry.ports.nic import (
    IncompleteReadingError,
    NicError,
    NoSuchFunctionError,
    NotPermittedError,
    NotSupportedError,
    RejectedError,
    UnknownOutcomeError,
)

if TYPE_CHECKING:
    from vferry.ports.nic import ArmedRequest, Nic

PF = "0000:01:00.0"
MAC = "02:00:00:00:00:01"
TRUST = AdminState(trust=True)
PRIVILEGED = os.geteuid() == 0


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A PF with two VFs whose interface is called ``lo``, so that the kernel has one of that name."""
    tree = Tree(tmp_path)
    pf = tree.pci(PF, sriov_numvfs=2, sriov_totalvfs=7, sriov_offset=128, sriov_stride=2, sriov_vf_device="10ca")
    tree.bind(pf, "somepf")
    tree.netdev(pf, "lo", ifindex=socket.if_nametoindex("lo"), speed=1000)
    for index in range(2):
        vf = tree.vf(pf, index, f"0000:01:10.{2 * index}", group=8 + index)
        (vf / "config").write_bytes(config_space(capabilities=(msix(0x8002),)))
        (vf / "reset").write_text("")
    return tree


@pytest.fixture
def nic(tree: Tree) -> LinuxNic:
    return LinuxNic(str(tree.sys), str(tree.proc))


def test_it_is_a_nic(nic: LinuxNic) -> None:
    """For the type checker."""
    port: Nic = nic
    request: ArmedRequest = port.arm("lo", {})
    assert request.send() == {}


def test_facts_of_a_pf(nic: LinuxNic, tree: Tree) -> None:
    tree.pci("0000:00:03.0", sriov_numvfs=0, sriov_totalvfs=4)
    bare, facts = nic.pfs()
    assert nic.pf("lo") == nic.pf(PF) == facts
    assert (facts.name, facts.device, facts.bus, facts.netdev, facts.driver) == ("lo", PF, "pci", "lo", "somepf")
    assert (facts.num_vfs, facts.total_vfs, facts.speed) == (2, 7, 1000)
    assert (facts.mtu, facts.admin_up, facts.address) == (65536, True, "00:00:00:00:00:00")
    assert facts.sriov is not None
    assert facts.sriov.vf_device == "10ca"
    assert (bare.name, bare.netdev, bare.ifindex, bare.num_vfs, bare.total_vfs) == ("0000:00:03.0", None, None, 0, 4)
    with pytest.raises(NotSupportedError, match="no network interface"):
        nic.read("0000:00:03.0")
    with pytest.raises(NotSupportedError, match="no network interface"):
        nic.program("0000:00:03.0", {})
    with pytest.raises(NotSupportedError, match="no network interface"):
        nic.read_fdb("0000:00:03.0")
    for change in (nic.add_fdb, nic.remove_fdb):
        with pytest.raises(NotSupportedError, match="no network interface"):
            change("0000:00:03.0", MAC)


def test_facts_of_the_host(nic: LinuxNic) -> None:
    assert nic.host().hostname == os.uname().nodename
    assert nic.host().boot_id.startswith("11111111")


def test_facts_of_vfs(nic: LinuxNic) -> None:
    vfs = nic.vfs("lo")
    assert [(vf.index, vf.address, vf.vectors) for vf in vfs] == [(0, "0000:01:10.0", 3), (1, "0000:01:10.2", 3)]
    assert nic.find_vf_address("0000:01:10.2") == ("lo", 1)
    assert nic.find_vf_address(PF) is None


def test_the_lag(nic: LinuxNic, tree: Tree) -> None:
    assert nic.pf("lo").lag is None
    (tree.sys / "class/net/bond0/bonding").mkdir(parents=True)
    tree.link(tree.sys / "devices/pci-root" / PF / "net/lo/master", tree.sys / "class/net/bond0")
    assert nic.pf("lo").lag == "bond0"


def test_a_team_says_so_in_its_members_link_only(nic: LinuxNic, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree.sys / "class/net/master0").mkdir(parents=True)
    tree.link(tree.sys / "devices/pci-root" / PF / "net/lo/master", tree.sys / "class/net/master0")
    facts = nic._links.facts("lo")
    for kind, lag in (("team", "master0"), ("bridge", None), (None, None)):
        changed = type(facts)(
            **{**{name: getattr(facts, name) for name in facts.__struct_fields__}, "master_kind": kind}
        )
        monkeypatch.setattr(nic._links, "facts", lambda _name, changed=changed: changed)
        assert nic.pf("lo").lag == lag


@pytest.mark.parametrize("name", ["nope", "", "0000:99:00.0", "..", "lo\0", "x" * 300, "ethé\udcff"])
def test_unknown_pfs(nic: LinuxNic, name: str) -> None:
    acts: list[Callable[[], object]] = [
        lambda: nic.read(name),
        lambda: nic.pf(name),
        lambda: nic.vfs(name),
        lambda: nic.arm(name, {}),
        lambda: nic.program(name, {0: TRUST}),
        lambda: nic.read_pci(name, 0),
        lambda: nic.write_pci(name, 0, PciState(command=0)),
        lambda: nic.reset_vf(name, 0),
        lambda: nic.set_pf(name, mtu=1500),
        lambda: nic.read_fdb(name),
        lambda: nic.add_fdb(name, MAC),
        lambda: nic.remove_fdb(name, MAC),
        lambda: nic.set_eswitch_mode(name, EswitchMode.LEGACY),
        lambda: nic.read_function(name, 0),
        lambda: nic.program_function(name, 0, FunctionState(roce=True)),
    ]
    for act in acts:
        with pytest.raises(NoSuchFunctionError) as caught:
            act()
        assert (caught.value.pf, caught.value.host) == (name, os.uname().nodename)


def test_a_network_interface_that_is_no_pf(tmp_path: Path) -> None:
    """The kernel reads any interface; only PFs are this adapter's."""
    with pytest.raises(NoSuchFunctionError):
        LinuxNic(str(tmp_path), str(tmp_path)).read("lo")


@pytest.mark.parametrize("vf", [-1, 2, 70000])
def test_unknown_vfs(nic: LinuxNic, vf: int) -> None:
    acts: list[Callable[[], object]] = [
        lambda: nic.arm("lo", {0: TRUST, vf: TRUST}),
        lambda: nic.read_pci("lo", vf),
        lambda: nic.write_pci("lo", vf, PciState(command=0)),
        lambda: nic.reset_vf("lo", vf),
        lambda: nic.read_function("lo", vf),
        lambda: nic.program_function("lo", vf, FunctionState(roce=True)),
    ]
    for act in acts:
        with pytest.raises(NoSuchFunctionError, match="2 VFs") as caught:
            act()
        assert (caught.value.pf, caught.value.vf) == ("lo", vf)


# Section: reading, with a kernel that the test makes up


def kernel_says(nic: LinuxNic, monkeypatch: pytest.MonkeyPatch, **readings: PfReading) -> list[tuple[str, bool]]:
    """Let the kernel have interfaces with these readings; return what is asked, as it is asked."""
    asked: list[tuple[str, bool]] = []

    def reading(interface: str, *, statistics: bool) -> PfReading:
        asked.append((interface, statistics))
        if interface not in readings:
            raise KernelError(errno.ENODEV, None)
        return readings[interface]

    monkeypatch.setattr(nic._links, "reading", reading)
    return asked


def shown(count: int, *, has_settings: bool = True) -> PfReading:
    state = AdminState(mac="02:00:00:00:00:01", rate=Rate(min_tx=0, max_tx=0))
    blocks = [vf_info(vf, state) for vf in range(count)] if has_settings else []
    (answer,) = messages(rtm_newlink(blocks, num_vfs=count, has_settings=has_settings))
    return decode_reading(answer)


def test_a_read_is_one_request(nic: LinuxNic, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = kernel_says(nic, monkeypatch, lo=shown(2))
    monkeypatch.setattr(nic._sysfs, "find", None)
    assert nic.read("lo").num_vfs == 2
    assert nic.read("lo", statistics=True).num_vfs == 2
    assert asked == [("lo", False), ("lo", True)]


def test_a_read_by_address(nic: LinuxNic, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = kernel_says(nic, monkeypatch, lo=shown(2))
    assert nic.read(PF, statistics=True) == nic.read("lo")
    assert asked[:2] == [(PF, True), ("lo", True)]


def test_without_settings_sysfs_counts_the_vfs(nic: LinuxNic, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent of a virtio interface is no PCI device, so the kernel counts no VFs for it."""
    kernel_says(nic, monkeypatch, lo=shown(0, has_settings=False))
    reading = nic.read("lo")
    assert (reading.num_vfs, reading.vfs, reading.has_settings) == (2, (), False)


def test_of_several_ports_the_one_with_settings(nic: LinuxNic, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    pf = tree.sys / "devices/pci-root" / PF
    tree.netdev(pf, "port1", dev_port=1, ifindex=99)
    tree.netdev(pf, "rep", dev_port=0, ifindex=1, phys_port_name="pf0vf0")
    kernel_says(nic, monkeypatch, lo=shown(2, has_settings=False), port1=shown(2), rep=shown(2, has_settings=False))
    assert nic._netdev(nic._device(PF)) == "port1"
    assert nic.read("port1").has_settings
    assert nic.read("lo").has_settings
    with pytest.raises(NoSuchFunctionError):
        nic.read("rep")
    assert nic.find_vf_address("0000:01:10.0") == ("port1", 0)
    kernel_says(nic, monkeypatch, lo=shown(2), port1=shown(2))
    assert nic._netdev(nic._device(PF)) == "lo"


def test_too_many_vfs_do_not_hide_the_port_that_has_them(
    nic: LinuxNic, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.netdev(tree.sys / "devices/pci-root" / PF, "port1", dev_port=1, ifindex=99)

    def reading(interface: str, *, statistics: bool) -> PfReading:
        if interface == "port1":
            raise GarbledMessageError("400 VFs")
        return shown(2, has_settings=False)

    monkeypatch.setattr(nic._links, "reading", reading)
    assert nic._netdev(nic._device(PF)) == "port1"
    with pytest.raises(IncompleteReadingError, match="400 VFs"):
        nic.read(PF)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (GarbledMessageError("cut"), IncompleteReadingError),
        (TimeoutError(errno.ETIMEDOUT, "late"), UnknownOutcomeError),
        (KernelError(errno.EPERM, None), NotPermittedError),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), NicError),
    ],
)
def test_failures_of_a_read_are_typed(
    nic: LinuxNic, monkeypatch: pytest.MonkeyPatch, failure: Exception, kind: type[NicError]
) -> None:
    def fail(*_arguments: object, **_keywords: object) -> None:
        raise failure

    monkeypatch.setattr(nic._links, "reading", fail)
    with pytest.raises(kind) as caught:
        nic.read("lo")
    assert type(caught.value) is kind
    assert (caught.value.what, caught.value.pf) == ("read VF settings", "lo")


# Section: changes, with the real kernel


def test_changes_reach_the_kernel(nic: LinuxNic) -> None:
    """The kernel's loopback driver has no VFs: it says so for each, to whom it would obey."""
    outcomes = nic.program("lo", {1: TRUST, 0: AdminState(mac="02:00:00:00:00:01")})
    expected = NotSupportedError if PRIVILEGED else NotPermittedError
    assert {vf: type(error) for vf, error in outcomes.items()} == {1: expected, 0: expected}
    assert nic.program(PF, {0: AdminState()}) == {0: None}


def test_an_armed_change_is_sent_later(nic: LinuxNic) -> None:
    armed = nic.arm("lo", {0: TRUST})
    assert list(armed.send()) == list(armed.send()) == [0]


def test_what_cannot_be_said_is_refused_before_anything_is_sent(nic: LinuxNic) -> None:
    two = AdminState(vlans=(Vlan(vid=1), Vlan(vid=2)))
    with pytest.raises(NotSupportedError, match="1 VLAN per VF, not 2") as caught:
        nic.arm("lo", {0: TRUST, 1: two})
    assert (caught.value.pf, caught.value.vf) == ("lo", 1)
    for change in (AdminState(mac="junk"), AdminState(rate=Rate(min_tx=0, max_tx=2**32))):
        with pytest.raises(RejectedError) as refused:
            nic.arm("lo", {1: change})
        assert refused.value.vf == 1


def test_an_interface_that_goes_away_meanwhile(nic: LinuxNic, tree: Tree) -> None:
    (tree.sys / "class/net/lo/ifindex").unlink()
    with pytest.raises(NoSuchFunctionError, match="has gone"):
        nic.arm("lo", {0: TRUST})
    with pytest.raises(NoSuchFunctionError, match="has gone"):
        nic.set_pf("lo", mtu=65536)
    with pytest.raises(NoSuchFunctionError, match="has gone"):
        nic.read_fdb("lo")


def test_forwarding_entries_are_for_ethernet(nic: LinuxNic) -> None:
    """The kernel's loopback interface can have none, and lists none."""
    assert nic.read_fdb("lo") == nic.read_fdb(PF) == ()
    for change, what in ((nic.add_fdb, "add"), (nic.remove_fdb, "remove")):
        with pytest.raises(RejectedError if PRIVILEGED else NotPermittedError) as caught:
            change("lo", MAC)
        assert (caught.value.what, caught.value.pf) == (f"{what} the PF's forwarding entry {MAC}", "lo")


def test_a_driver_without_room_rejects_an_entry(nic: LinuxNic, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise fdb.NoRoomError(errno.ENOMEM, None)

    monkeypatch.setattr(fdb, "add", refuse)
    with pytest.raises(RejectedError, match="no filter left") as caught:
        nic.add_fdb("lo", MAC)
    assert (caught.value.errno, caught.value.pf) == (errno.ENOMEM, "lo")


def test_the_link_is_set(nic: LinuxNic) -> None:
    """To what it is already."""
    if not PRIVILEGED:
        with pytest.raises(NotPermittedError):
            nic.set_pf("lo", mtu=65536)
        return
    nic.set_pf("lo", admin_up=True)
    nic.set_pf(PF, mtu=nic.pf("lo").mtu)


def test_pci_words(nic: LinuxNic, tree: Tree) -> None:
    assert nic.read_pci("lo", 1) == PciState(command=0x0406, msix_control=0x8002)
    nic.write_pci("lo", 1, PciState(command=0x0002, msix_control=0x0002))
    assert nic.read_pci("lo", 1) == PciState(command=0x0002, msix_control=0x0002)
    assert nic.read_pci("lo", 0) == PciState(command=0x0406, msix_control=0x8002)
    tree.bind(tree.sys / "devices/pci-root/0000:01:10.2", "somevf")
    with pytest.raises(NotPermittedError, match="driver somevf is bound") as caught:
        nic.write_pci("lo", 1, PciState(command=0))
    assert (caught.value.pf, caught.value.vf) == ("lo", 1)


def test_resets(nic: LinuxNic, tree: Tree) -> None:
    function = tree.sys / "devices/pci-root/0000:01:10.2"
    nic.reset_vf(PF, 1)
    assert (function / "reset").read_text() == "1"
    (function / "reset").unlink()
    with pytest.raises(NotSupportedError, match="no way to reset"):
        nic.reset_vf("lo", 1)


def test_vfs_that_are_no_pci_functions(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.netdev(tree.device("netdevsim", "netdevsim1", sriov_numvfs=1), "lo")
    nic = LinuxNic(str(tree.sys), str(tree.proc))
    assert nic.read_pci("lo", 0) is None
    with pytest.raises(NotSupportedError, match="no PCI function"):
        nic.write_pci("lo", 0, PciState(command=0))
    with pytest.raises(NotSupportedError, match="no PCI function"):
        nic.reset_vf("netdevsim1", 0)


def test_without_devlink(nic: LinuxNic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nic, "_devlink", lambda: None)
    assert nic.pf("lo").eswitch_mode is None
    assert nic.read_function("lo", 0) is None
    with pytest.raises(NotSupportedError, match="no devlink"):
        nic.set_eswitch_mode("lo", EswitchMode.SWITCHDEV)
    with pytest.raises(NotSupportedError, match="no devlink"):
        nic.program_function("lo", 0, FunctionState(roce=True))


def test_a_device_that_devlink_does_not_know(nic: LinuxNic) -> None:
    """The real kernel, with or without devlink."""
    assert nic.pf("lo").eswitch_mode is None
    assert nic.read_function("lo", 0) is None
    with pytest.raises(NotSupportedError if PRIVILEGED else NicError):
        nic.set_eswitch_mode("lo", EswitchMode.SWITCHDEV)


def test_closing_is_no_end(nic: LinuxNic) -> None:
    nic.read_pci("lo", 0)
    nic.close()
    nic.close()
    assert nic.program("lo", {}) == {}


def test_the_firmware_of_loopback_is_unknown(nic: LinuxNic) -> None:
    assert nic.pf("lo").firmware_version is None
    assert nic_module._firmware("no-such-if") is None


def test_the_verbs_of_the_stopped_window_import_little() -> None:
    """Each of these modules costs some ten milliseconds or more, and devlink is rarely needed."""
    code = (
        "import sys; before = set(sys.modules); import struct, socket, os, msgspec, enum; base = set(sys.modules)\n"
        "from vferry.nic.linux import LinuxNic\n"
        "from vferry.core.model import AdminState\n"
        "nic = LinuxNic('/nonexistent')\n"
        "try: nic.read('lo')\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(sorted(name for name in set(sys.modules) - base if not name.startswith('vferry')))\n"
        "print([name for name in ('devlink', 'ethtool', 'fdb') if f'vferry.nic.linux.{name}' in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kind, extra, lazy = result.stdout.splitlines()
    assert kind == "NoSuchFunctionError"
    assert extra == "['mmap']"
    assert lazy == "[]"
