# SPDX-License-Identifier: Apache-2.0
"""The NIC port over software 82599s: what it shows, what a reset or a reboot leaves, and the verbs on it."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from tests.ixgbe.nic_rig import STATION, VM_MAC, Host, frame
from vferry.core.fence import Column, Lever
from vferry.core.frames import mac_octets, rarp
from vferry.core.levers import lever_rows
from vferry.core.model import (
    DOT1Q,
    ZERO_MAC,
    AdminState,
    DeclaredState,
    EswitchMode,
    FunctionState,
    LinkState,
    PciState,
    PfFacts,
    Rate,
    SriovCapability,
    VfFacts,
    VfStatistics,
    Vlan,
)
from vferry.core.policy import Policy
from vferry.core.record import Record
from vferry.nic.ixgbe import pci_config
from vferry.nic.ixgbe.announcer import IxgbeAnnouncer, IxgbeProber
from vferry.nic.ixgbe.nic import IxgbeNic, make_host
from vferry.nic.ixgbe.registers import vf
from vferry.nic.ixgbe.switch import SwitchLoss
from vferry.ports.announcer import AnnounceError
from vferry.ports.nic import NicError, NoSuchFunctionError, NotPermittedError, NotSupportedError, RejectedError
from vferry.ports.witness import WitnessError
from vferry.testing import MemoryJournal, SimClock
from vferry.verbs.check import Terms
from vferry.verbs.context import Context, VfRef
from vferry.verbs.fence import FenceRequest, fence, unfence
from vferry.verbs.restore import restore
from vferry.verbs.save import save
from vferry.verbs.verify import verify

MAC = mac_octets(VM_MAC)
NOBODY = AdminState(
    mac=ZERO_MAC,
    vlans=(),
    rate=Rate(min_tx=0, max_tx=0),
    spoofchk=True,
    link_state=LinkState.AUTO,
    rss_query=False,
    trust=False,
)


def context_of(nic: IxgbeNic) -> Context:
    return Context(nic, MemoryJournal(), SimClock())


def admin(nic: IxgbeNic, index: int) -> AdminState:
    return nic.read("eth0").vfs[index].admin


# Facts


def test_facts_are_those_of_a_kernel_with_ixgbe() -> None:
    nic = make_host("a", pfs=3, num_vfs=2)
    own = nic.software("eth1").permanent_address.hex(":")
    assert [(pf.name, pf.device, pf.ifindex) for pf in nic.pfs()] == [
        ("eth0", "0000:01:00.0", 2),
        ("eth1", "0000:01:00.1", 3),
        ("eth2", "0000:02:00.0", 4),
    ]
    assert nic.pf("eth1") == PfFacts(
        name="eth1",
        device="0000:01:00.1",
        bus="pci",
        netdev="eth1",
        ifindex=3,
        driver="ixgbe",
        vendor="8086",
        device_id="10fb",
        permanent_address=own,
        address=own,
        mtu=1500,
        admin_up=True,
        carrier=True,
        speed=10000,
        num_vfs=2,
        total_vfs=63,
        sriov=SriovCapability(vf_offset=128, vf_stride=2, vf_device="10ed"),
    )
    assert len({pf.permanent_address for host in ("a", "b") for pf in make_host(host, pfs=2).pfs()}) == 4


def test_vfs_have_the_addresses_that_lspci_shows() -> None:
    nic = make_host("a", pfs=2, num_vfs=63)
    assert [nic.vfs(pf)[index].address for pf, index in (("eth0", 0), ("eth0", 1), ("eth1", 0), ("eth0", 62))] == [
        "0000:01:10.0",
        "0000:01:10.2",
        "0000:01:10.1",
        "0000:01:1f.4",
    ]
    assert len({facts.address for pf in ("eth0", "eth1") for facts in nic.vfs(pf)}) == 126


def test_a_vf_and_its_user() -> None:
    nic = make_host("a", num_vfs=2)
    free = VfFacts(index=1, address="0000:01:10.2", vendor="8086", device_id="10ed", iommu_group=0x182, vectors=3)
    assert nic.vfs("eth0")[1] == free
    nic.assign_vf("eth0", 1, "VM web")
    assert (nic.vfs("eth0")[1].driver, nic.vfs("eth0")[1].user) == ("vfio-pci", "VM web")
    nic.unassign_vf("eth0", 1)
    assert nic.vfs("eth0")[1] == free


@pytest.mark.parametrize("speed", [100, 1000, 10000])
def test_carrier_and_speed_follow_the_link(speed: int) -> None:
    nic = make_host("a")
    nic.set_link("eth0", up=True, speed=speed)
    assert (nic.pf("eth0").carrier, nic.pf("eth0").speed) == (True, speed)
    nic.set_link("eth0", up=False)
    assert (nic.pf("eth0").carrier, nic.pf("eth0").speed, nic.read("eth0").carrier) == (False, None, False)
    nic.set_link("eth0", up=True, speed=speed)
    nic.set_pf("eth0", admin_up=False)
    assert (nic.pf("eth0").admin_up, nic.pf("eth0").carrier, nic.pf("eth0").speed) == (False, False, None)
    nic.set_pf("eth0", mtu=9000)
    assert nic.pf("eth0").admin_up is False
    nic.set_pf("eth0", admin_up=True)
    assert (nic.pf("eth0").carrier, nic.pf("eth0").mtu, nic.read("eth0").mtu) == (True, 9000, 9000)


@pytest.mark.parametrize("mtu", [67, 9711])
def test_an_mtu_that_the_82599_cannot_have(mtu: int) -> None:
    with pytest.raises(RejectedError, match="EINVAL"):
        make_host("a").set_pf("eth0", mtu=mtu)


def test_there_is_no_devlink() -> None:
    nic = make_host("a")
    assert nic.pf("eth0").eswitch_mode is None
    assert nic.read_function("eth0", 0) is None
    with pytest.raises(NotSupportedError):
        nic.set_eswitch_mode("eth0", EswitchMode.SWITCHDEV)
    with pytest.raises(NotSupportedError):
        nic.program_function("eth0", 0, FunctionState(roce=True))


def test_the_lever_matrix_knows_this_nic() -> None:
    rows = {row.lever: row for row in lever_rows(make_host("a").pf("eth0"))}
    assert Column.ADMIN_UNICAST in rows[Lever.PARKING_MAC].covers
    assert Lever.SPOOFCHK in rows


# Settings


def test_a_vf_that_nobody_has_touched() -> None:
    nic = make_host("a", num_vfs=3)
    assert [reading.admin for reading in nic.read("eth0").vfs] == [NOBODY] * 3


def test_enable_is_accepted_and_not_stored() -> None:
    nic = make_host("a")
    for before in (LinkState.AUTO, LinkState.DISABLE):
        nic.program("eth0", {1: AdminState(link_state=before)})
        assert nic.program("eth0", {1: AdminState(link_state=LinkState.ENABLE)}) == {1: None}
        assert admin(nic, 1).link_state is before


@pytest.mark.parametrize(("speed", "rate", "taken"), [(10000, 11, True), (10000, 10, False), (1000, 100, False)])
def test_rates_need_a_link_of_ten_gigabits(speed: int, rate: int, *, taken: bool) -> None:
    nic = make_host("a")
    nic.set_link("eth0", up=True, speed=speed)
    error = nic.program("eth0", {1: AdminState(rate=Rate(min_tx=0, max_tx=rate))})[1]
    assert (error is None) is taken
    assert admin(nic, 1).rate == Rate(min_tx=0, max_tx=rate if taken else 0)


def test_a_slower_link_ends_rates() -> None:
    nic = make_host("a")
    nic.program("eth0", {1: AdminState(rate=Rate(min_tx=0, max_tx=100))})
    nic.set_link("eth0", up=True, speed=1000)
    assert admin(nic, 1).rate == Rate(min_tx=0, max_tx=0)


def test_a_guests_own_mac_is_shown_as_any() -> None:
    host = Host()
    driver = host.guest(1)
    assert admin(host.nic, 1).mac == driver.mac.hex(":")
    assert host.run(driver.set_mac(MAC))
    assert admin(host.nic, 1).mac == VM_MAC
    host.nic.program("eth0", {1: AdminState(mac="02:00:00:00:00:05")})
    assert not host.run(driver.set_mac(MAC))
    assert admin(host.nic, 1).mac == "02:00:00:00:00:05"


def test_settings_reach_the_hardware() -> None:
    nic = make_host("a")
    change = AdminState(
        mac=VM_MAC, vlans=(Vlan(vid=5, qos=3, proto=DOT1Q),), rate=Rate(min_tx=0, max_tx=100), spoofchk=False
    )
    assert nic.program("eth0", {1: change}) == {1: None}
    there = nic.software("eth0").driver.programmed(1)
    assert (there.macs, there.port_vlan, there.vlans) == ((MAC,), (5, 3), (5,))
    assert (there.mac_anti_spoof, there.vlan_anti_spoof) == (False, False)
    assert all(there.rates)


def test_the_first_error_stops_and_what_came_before_stays() -> None:
    """MAC, VLANs, rate, spoofchk, link state, RSS query, trust, GUIDs."""
    nic = make_host("a")
    change = AdminState(
        mac=VM_MAC,
        vlans=(Vlan(vid=5, proto=DOT1Q),),
        rate=Rate(min_tx=7, max_tx=100),
        spoofchk=False,
        rss_query=True,
        trust=True,
    )
    error = nic.program("eth0", {1: change})[1]
    assert isinstance(error, RejectedError)
    assert (error.errno, error.pf, error.vf, error.host) == (errno.EINVAL, "eth0", 1, "a")
    assert "a least rate is not supported" in str(error)
    shown = admin(nic, 1)
    assert (shown.mac, shown.vlans) == (VM_MAC, change.vlans)
    assert (shown.rate, shown.spoofchk, shown.rss_query, shown.trust) == (NOBODY.rate, True, False, False)


def test_an_address_cannot_be_taken_away_after_a_bare_reset() -> None:
    """A quirk of ixgbe: the filter went with the reset, and then it refuses; setting any address first helps."""
    nic = make_host("a")
    nic.program("eth0", {1: AdminState(mac=VM_MAC)})
    nic.reset_vf("eth0", 1)
    error = nic.program("eth0", {1: AdminState(mac=ZERO_MAC)})[1]
    assert isinstance(error, NicError)
    assert error.errno == errno.ENOMEM
    assert nic.program("eth0", {1: AdminState(mac="02:00:00:00:00:01")}) == {1: None}
    assert nic.program("eth0", {1: AdminState(mac=ZERO_MAC)}) == {1: None}
    assert admin(nic, 1).mac == ZERO_MAC


def test_counters_are_the_vfs_own() -> None:
    host = Host()
    host.nic.program("eth0", {1: AdminState(mac=VM_MAC)})
    host.guest(1)
    for destination in (MAC, MAC, b"\xff" * 6, bytes.fromhex("01005e000001")):
        host.software.hardware.receive(frame(destination))
    host.software.transmit(1, frame(STATION, MAC, 100))
    before = [reading.statistics for reading in host.nic.read("eth0", statistics=True).vfs]
    assert before[1] == VfStatistics(
        rx_packets=4,
        rx_bytes=4 * 64,
        tx_packets=1,
        tx_bytes=104,
        multicast=1,
        broadcast=0,
        rx_dropped=0,
        tx_dropped=0,
    )
    host.nic.reset_vf("eth0", 1)
    assert [reading.statistics for reading in host.nic.read("eth0", statistics=True).vfs] == before


def test_forwarding_entries_can_run_out() -> None:
    nic = make_host("a")
    for number in range(127):  # of 128 entries, one is the PF's own address
        nic.add_fdb("eth0", f"02:00:00:00:01:{number:02x}")
    with pytest.raises(RejectedError) as refused:
        nic.add_fdb("eth0", "02:00:00:00:02:00")
    assert refused.value.errno == errno.ENOMEM
    assert len(nic.read_fdb("eth0")) == 127


# PCI


def test_a_reset_restores_what_the_kernel_restores() -> None:
    """The header always; MSI-X where a driver had it enabled."""
    nic = make_host("a")
    config = nic.software("eth0").hardware.vf_config(1)
    config.write(pci_config.BAR0, 4, 0xFEBC0000)
    nic.write_pci("eth0", 1, PciState(command=6, msix_control=0x8002))
    nic.reset_vf("eth0", 1)
    assert nic.read_pci("eth0", 1) == PciState(command=6, msix_control=2)
    assert config.read(pci_config.BAR0, 4) == 0xFEBC0004
    nic.assign_vf("eth0", 1, "VM web")
    assert nic.read_pci("eth0", 1) == PciState(command=0, msix_control=2)
    config.write(pci_config.MSIX_CONTROL, 2, 0x8002)
    nic.reset_vf("eth0", 1)
    assert nic.read_pci("eth0", 1) == PciState(command=0, msix_control=0x8002)


def test_read_only_bits_stay() -> None:
    nic = make_host("a")
    nic.write_pci("eth0", 1, PciState(command=0xFFFF, msix_control=0xFFFF))
    assert nic.read_pci("eth0", 1) == PciState(command=6, msix_control=0xC002)
    nic.write_pci("eth0", 1, PciState(command=0))
    assert nic.read_pci("eth0", 1) == PciState(command=0, msix_control=0xC002)


# Other lives


def test_a_new_driver_knows_nothing() -> None:
    nic = make_host("a", pfs=2)
    nic.program("eth0", {1: AdminState(mac=VM_MAC, trust=True)})
    nic.program("eth1", {1: AdminState(mac="02:00:00:00:00:05")})
    nic.add_fdb("eth0", "02:00:00:00:00:07")
    armed, others = nic.arm("eth0", {1: AdminState(trust=True)}), nic.read("eth1")
    nic.reload_driver("eth0")
    assert [reading.admin for reading in nic.read("eth0").vfs] == [NOBODY] * 8
    assert (nic.read("eth0").ifindex, nic.pf("eth0").ifindex, nic.read_fdb("eth0")) == (4, 4, ())
    assert nic.read("eth1") == others
    assert isinstance(armed.send()[1], NoSuchFunctionError)
    assert admin(nic, 1) == NOBODY
    assert nic.software("eth0").driver.programmed(1).macs == ()


def test_a_reboot_leaves_what_was_made() -> None:
    nic = make_host("a")
    first = nic.host()
    nic.program("eth0", {1: AdminState(mac=VM_MAC)})
    nic.set_pf("eth0", mtu=9000)
    nic.assign_vf("eth0", 1, "VM web")
    nic.reload_driver("eth0")
    nic.reboot()
    assert (first.boot_id, nic.host().boot_id, nic.host().hostname) == ("a-boot-1", "a-boot-2", "a")
    fresh = make_host("a")
    assert nic.pfs() == fresh.pfs()
    assert nic.vfs("eth0") == fresh.vfs("eth0")
    assert nic.read("eth0", statistics=True) == fresh.read("eth0", statistics=True)
    assert [nic.software("eth0").hardware.peek(4 * word) for word in range(0x8000)] == [
        fresh.software("eth0").hardware.peek(4 * word) for word in range(0x8000)
    ]


def test_other_numbers_of_vfs() -> None:
    nic = make_host("a", num_vfs=8)
    nic.program("eth0", {1: AdminState(mac=VM_MAC)})
    nic.software("eth0").set_num_vfs(3)
    assert nic.pf("eth0").num_vfs == len(nic.vfs("eth0")) == len(nic.read("eth0").vfs) == 3
    assert admin(nic, 1) == NOBODY
    with pytest.raises(NoSuchFunctionError):
        nic.program("eth0", {3: AdminState(trust=True)})
    nic.software("eth0").set_num_vfs(0)
    assert nic.read("eth0").vfs == ()
    assert make_host("b", num_vfs=0).vfs("eth0") == ()


def test_the_pfs_own_interface_goes_on_receiving() -> None:
    host = Host()
    got: list[bytes] = []
    host.software.receive_own(got.append)
    lives: tuple[Callable[[], object], ...] = (
        lambda: None,
        lambda: host.nic.reload_driver("eth0"),
        lambda: host.software.set_num_vfs(2),
        host.nic.reboot,
    )
    for life in lives:
        life()
        got.clear()
        host.software.hardware.receive(frame(host.software.driver.mac))
        assert len(got) == 1


def test_a_guest_works_after_its_pf_was_reloaded() -> None:
    host = Host()
    driver = host.guest(1)
    host.nic.reload_driver("eth0")
    host.attach(1, driver)
    for _ in range(10):
        host.tick(driver)
    assert driver.frames_can_flow
    host.software.hardware.receive(frame(driver.mac))
    assert len(host.received[1]) == 1


# Frames of vferry's own


def test_an_announcement_reaches_the_wire_and_local_vfs() -> None:
    host = Host()
    host.guest(0)
    IxgbeAnnouncer(host.nic).announce("eth0", VM_MAC)
    assert host.wire == host.received[0] == [rarp(VM_MAC)]
    host.wire.clear()
    IxgbeAnnouncer(host.nic).announce("eth0", VM_MAC, vlans=(Vlan(vid=5, qos=3),))
    assert host.wire == [rarp(VM_MAC, vlans=(Vlan(vid=5, qos=3),))]


def test_an_announcement_needs_a_pf_with_carrier() -> None:
    host = Host()
    with pytest.raises(AnnounceError, match="no PF has this name"):
        IxgbeAnnouncer(host.nic).announce("eth9", VM_MAC)
    host.nic.set_link("eth0", up=False)
    with pytest.raises(AnnounceError, match="no carrier"):
        IxgbeAnnouncer(host.nic).announce("eth0", VM_MAC)


def test_a_probe_shows_who_takes_the_vms_frames() -> None:
    host = Host()
    host.nic.program("eth0", {1: AdminState(mac=VM_MAC)})
    host.guest(1)
    prober = IxgbeProber(host.nic)
    prober.send("eth0", VM_MAC, b"nonce", count=2)
    assert (len(host.received[1]), host.wire) == (2, [])
    assert host.received[1][0][12:] == b"\x88\xb5vferry-probenonce".ljust(48, b"\0")
    host.nic.program("eth0", {1: AdminState(mac="02:00:00:00:00:99")})
    prober.send("eth0", VM_MAC, b"nonce", count=3, vlans=(Vlan(vid=9),))
    assert len(host.wire) == 3
    assert host.wire[0][12:16] == b"\x81\x00\x00\x09"
    host.nic.set_pf("eth0", admin_up=False)
    for netdev in ("eth0", "eth9"):
        with pytest.raises(WitnessError):
            prober.send(netdev, VM_MAC, b"nonce", count=1)


# Verbs


def record_of(nic: IxgbeNic, index: int) -> Record:
    declared = {VfRef("eth0", index): DeclaredState(mac=VM_MAC, mtu=1500)}
    return save(context_of(nic), [VfRef("eth0", index)], vm="web", declared=declared)


GUEST = AdminState(
    mac=VM_MAC,
    vlans=(Vlan(vid=5, qos=3, proto=DOT1Q),),
    rate=Rate(min_tx=0, max_tx=200),
    spoofchk=True,
    link_state=LinkState.AUTO,
    rss_query=True,
    trust=True,
)


@pytest.mark.parametrize("bound", [False, True])
def test_pci_words_are_restored_by_their_owner(*, bound: bool) -> None:
    """Saved always; written and read back where no driver is bound, and else left to the driver and told."""
    source, target = make_host("a"), make_host("b")
    source.program("eth0", {1: GUEST})
    source.assign_vf("eth0", 1, "VM web")
    config = source.software("eth0").hardware.vf_config(1)
    config.write(pci_config.COMMAND, 2, 0x0006)
    config.write(pci_config.MSIX_CONTROL, 2, 0xC000)
    record = record_of(source, 1)
    assert record.vfs[0].pci == PciState(command=6, msix_control=0xC002)
    context, pairs = context_of(target), [(record.vfs[0], VfRef("eth0", 3))]
    terms = Terms(policy=Policy())
    learned = restore(context, record, pairs, terms).learned
    terms = Terms(policy=Policy(), tables=learned)
    target.program("eth0", {3: NOBODY})
    target.write_pci("eth0", 3, PciState(command=0, msix_control=2))
    if bound:
        target.assign_vf("eth0", 3, "VM web")
    said = restore(context, record, pairs, terms).vfs[0].pci
    shown = target.read_pci("eth0", 3)
    verified = verify(context, record, pairs, terms).vfs[0].pci
    if bound:
        assert shown == PciState(command=0, msix_control=2)
        with pytest.raises(NotPermittedError):
            target.write_pci("eth0", 3, PciState(command=6))
        assert said == verified
        assert said == ("left to the VF's driver: COMMAND 0x0000 (saved 0x0006), MSI-X control 0x0002 (saved 0xc002)")
    else:
        assert shown == PciState(command=6, msix_control=0xC002)
        assert (said, verified) == ("written and read back", "as saved")


def test_a_fence_lets_neighbours_reach_the_vm_by_the_wire() -> None:
    host = Host()
    host.nic.program("eth0", {1: GUEST})
    host.nic.program("eth0", {1: AdminState(vlans=(), trust=False)})
    host.nic.assign_vf("eth0", 1, "VM web")
    host.guest(1)
    neighbour = host.guest(0)
    context, refs = context_of(host.nic), [VfRef("eth0", 1)]
    before = host.nic.read("eth0")

    def arrives() -> tuple[int, int]:
        host.wire.clear()
        host.received[1].clear()
        host.software.transmit(0, frame(MAC, neighbour.mac))
        host.software.send(frame(MAC, host.software.driver.mac))
        return len(host.received[1]), len(host.wire)

    assert arrives() == (2, 0)
    fence(context, refs, FenceRequest())
    assert arrives() == (0, 2)
    unfence(context, refs)
    assert host.nic.read("eth0") == before
    assert host.software.driver.programmed(1).macs == (MAC,)


def test_only_vfre_off_is_a_trap() -> None:
    """Link state off: the filter goes on taking the VM's frames off the wire."""
    host = Host()
    host.nic.program("eth0", {1: AdminState(mac=VM_MAC)})
    host.guest(1)
    host.nic.program("eth0", {1: AdminState(link_state=LinkState.DISABLE)})
    host.software.send(frame(MAC, host.software.driver.mac))
    assert host.wire == []
    assert host.software.hardware.losses == {(SwitchLoss.VFRE_OFF, 1): 1}


def test_vectors_reach_whoever_serves_the_vf() -> None:
    host = Host()
    host.guest(1)
    host.vectors.clear()
    host.software.hardware.vf_write(1, vf.VTEICS.offset, 0x1)
    host.software.hardware.vf_write(2, vf.VTEICS.offset, 0x1)
    assert host.vectors == [(1, 0)]
