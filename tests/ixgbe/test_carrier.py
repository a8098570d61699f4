# SPDX-License-Identifier: Apache-2.0
"""Stopping a VF, saving it, giving its state to another one, and letting it work again."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from tests.ixgbe.nic_rig import STATION, VM_MAC, Clock, Host, frame
from vferry.core.frames import mac_octets
from vferry.core.model import ZERO_MAC, AdminState, LinkState, PciState, Rate
from vferry.nic.ixgbe import device_state, pci_config
from vferry.nic.ixgbe.carrier import IxgbeCarrier
from vferry.nic.ixgbe.messages import API_ORDER, Api, Id, XcastMode
from vferry.nic.ixgbe.registers import pf, vf
from vferry.nic.ixgbe.switch import SwitchLoss
from vferry.nic.ixgbe.vf_driver import VfDriver
from vferry.ports.carrier import BadStateError, CarrierError

GROUP = bytes.fromhex("01005e010203")
OTHER_GROUP = bytes.fromhex("01005e0a0b0c")
FURTHER = bytes.fromhex("02aa00000099")
MAC = mac_octets(VM_MAC)
SETTINGS = AdminState(mac=VM_MAC, trust=True)


class Ferry:
    """Two hosts; the VM is on VF 1 of ``a`` and comes to VF 2 of ``b``."""

    def __init__(
        self, *, here: int = 1500, there: int = 1500, resume_extension: bool = False, num_vfs: int = 4
    ) -> None:
        clock = Clock()
        self.a = Host("a", clock=clock, mtu=here, resume_extension=resume_extension)
        self.b = Host("b", clock=clock, mtu=there, resume_extension=resume_extension, num_vfs=num_vfs)
        self.old, self.new = IxgbeCarrier(self.a.nic), IxgbeCarrier(self.b.nic)
        for host, index in ((self.a, 1), (self.b, 2)):
            assert host.nic.program("eth0", {index: SETTINGS}) == {index: None}

    def guest(self, *, mtu: int = 1500, versions: Sequence[Api] = API_ORDER) -> VfDriver:
        driver = self.a.guest(1, versions, mtu=mtu)
        self.a.run(driver.set_rx_mode(multicasts=[GROUP], unicasts=[FURTHER], xcast_mode=XcastMode.ALLMULTI))
        return driver

    def move(self, driver: VfDriver, *, session: bool) -> bytes:
        """Everything but the start."""
        self.old.stop("eth0", 1)
        state = self.old.save("eth0", 1, session=session)
        self.new.load("eth0", 2, state)
        self.b.adopt(2, driver, self.a)
        return state

    def reached(self, destination: bytes) -> bool:
        """Whether the VM on ``b`` gets a frame from the wire."""
        before = len(self.b.received[2])
        self.b.software.hardware.receive(frame(destination))
        return len(self.b.received[2]) > before


# Stop


def test_a_stopped_vf_neither_sends_nor_receives_nor_interrupts() -> None:
    ferry = Ferry()
    host = ferry.a
    ferry.guest()
    ferry.old.stop("eth0", 1)
    host.vectors.clear()
    registers = [host.software.hardware.vf_peek(1, offset) for offset in range(0, vf.BAR_SIZE, 4)]
    sent = len(host.wire)
    assert not host.software.transmit(1, frame(STATION, MAC))
    host.software.hardware.receive(frame(MAC))
    assert (len(host.wire), host.received[1], host.vectors) == (sent, [], [])
    assert [host.software.hardware.vf_peek(1, offset) for offset in range(0, vf.BAR_SIZE, 4)] == registers
    assert host.software.hardware.losses == {(SwitchLoss.NO_SINK, 1): 1}
    host.software.driver.ping_vf(1)
    assert host.vectors == []
    ferry.old.start("eth0", 1)
    assert [index for index, _vector in host.vectors] == [1]
    assert host.software.transmit(1, frame(STATION, MAC))
    host.software.hardware.receive(frame(MAC))
    assert len(host.wire) == sent + 1
    assert len(host.received[1]) == 1


def test_a_stop_is_no_fence() -> None:
    """The filters are the PF's: a neighbour's frame for the VM is led to the stopped VF and lost."""
    ferry = Ferry()
    ferry.guest()
    ferry.a.guest(0)
    ferry.old.stop("eth0", 1)
    ferry.a.software.transmit(0, frame(MAC, bytes.fromhex("02aa00000000")))
    ferry.a.software.send(frame(MAC, ferry.a.software.driver.mac))
    assert ferry.a.wire == []
    assert ferry.a.software.hardware.losses[SwitchLoss.NO_SINK, 1] == 2
    ferry.a.nic.program("eth0", {1: AdminState(mac="02:00:00:00:00:99")})
    ferry.a.software.transmit(0, frame(MAC, bytes.fromhex("02aa00000000")))
    assert len(ferry.a.wire) == 1


def test_what_waits_for_the_rate_limiter_is_lost_and_counted() -> None:
    ferry = Ferry()
    ferry.guest()
    ferry.a.nic.program("eth0", {1: AdminState(rate=Rate(min_tx=0, max_tx=11))})
    for _ in range(20):
        ferry.a.software.transmit(1, frame(STATION, MAC, 1500))
    sent = len(ferry.a.wire)
    assert sent < 20
    ferry.old.stop("eth0", 1)
    ferry.a.clock.now += 10
    ferry.a.software.hardware.switch.service(ferry.a.clock.now)
    assert len(ferry.a.wire) == sent
    assert ferry.a.lost(1) == 20 - sent


def test_every_act_may_come_twice() -> None:
    ferry = Ferry()
    driver = ferry.guest()
    ferry.old.stop("eth0", 1)
    ferry.old.stop("eth0", 1)
    state = ferry.old.save("eth0", 1, session=True)
    assert ferry.old.save("eth0", 1, session=True) == state
    ferry.new.load("eth0", 2, state)
    once = ferry.b.snapshot()
    ferry.new.load("eth0", 2, state)
    assert ferry.b.snapshot() == once
    ferry.b.adopt(2, driver, ferry.a)
    ferry.new.start("eth0", 2)
    once = ferry.b.snapshot()
    ferry.new.start("eth0", 2)
    assert ferry.b.snapshot() == once
    ferry.new.drop("eth0", 2)
    once = ferry.b.snapshot()
    ferry.new.drop("eth0", 2)
    assert ferry.b.snapshot() == once


def test_only_a_stopped_vf_is_saved() -> None:
    ferry = Ferry()
    ferry.guest()
    with pytest.raises(CarrierError, match="not stopped"):
        ferry.old.save("eth0", 1, session=True)
    for act in (ferry.old.stop, ferry.old.start, ferry.old.drop):
        for name, index in (("eth9", 0), ("eth0", 4), ("eth0", -1)):
            with pytest.raises(CarrierError, match=r"no PF has this name|the PF has 4 VFs"):
                act(name, index)


def test_a_save_changes_nothing() -> None:
    """With a message and an acknowledgement that wait, and a PF that has not looked yet."""
    ferry = Ferry()
    ferry.guest()
    ferry.a.software.hardware.write(pf.EIMC.offset, 0xFFFFFFFF)
    ferry.a.ask(1, Id.GET_LINK_STATE)
    ferry.a.software.driver.ping_vf(1)
    ferry.a.software.hardware.vf_write(1, vf.VTEIMC.offset, 0x7)
    ferry.a.software.hardware.vf_write(1, vf.VTEICS.offset, 0x7)
    ferry.old.stop("eth0", 1)
    before, peeked = ferry.a.snapshot(), ferry.a.peeked()
    for session in (True, False):
        ferry.old.save("eth0", 1, session=session)
    assert (ferry.a.snapshot(), ferry.a.peeked()) == (before, peeked)


# A session that is carried


def test_a_carried_session_goes_on() -> None:
    ferry = Ferry()
    driver = ferry.guest()
    before, messages = ferry.a.software.driver.programmed(1), len(driver.log)
    queues = device_state.queue_offsets(4)
    registers = [ferry.a.software.hardware.vf_peek(1, offset) for offset in queues]
    ferry.move(driver, session=True)
    assert not ferry.reached(MAC)
    ferry.new.start("eth0", 2)
    ferry.b.tick(driver, 10)
    assert len(driver.log) == messages, "the driver had to say anything again"
    assert driver.frames_can_flow
    assert ferry.b.software.driver.programmed(2) == before
    assert [ferry.b.software.hardware.vf_peek(2, offset) for offset in queues] == registers
    assert [ferry.reached(to) for to in (MAC, FURTHER, GROUP, OTHER_GROUP, STATION)] == [True, True, True, True, False]
    assert ferry.b.run(driver.add_vlan(9)), "the session does not accept messages"


def test_allmulti_is_programmed_although_the_stored_mode_is_the_wanted_one() -> None:
    """The 2015 series copied ``xcast_mode``, and the driver's short cut then left VMOLR alone."""
    ferry = Ferry()
    driver = ferry.guest()
    ferry.b.software.driver.vfinfo[2].xcast_mode = XcastMode.ALLMULTI
    assert not ferry.b.software.driver.programmed(2).all_multicast
    ferry.move(driver, session=True)
    assert ferry.b.software.driver.programmed(2).all_multicast


def test_counters_go_on_from_the_total() -> None:
    ferry = Ferry()
    driver = ferry.guest()
    hardware = ferry.b.software.hardware
    for _ in range(3):
        ferry.a.software.hardware.receive(frame(MAC))
    hardware.counters.rx_packets[2] = 1000  # of a former tenant
    ferry.move(driver, session=True)
    ferry.new.start("eth0", 2)
    assert ferry.reached(MAC)
    shown = ferry.b.nic.read("eth0", statistics=True).vfs[2].statistics
    assert shown is not None
    assert (shown.rx_packets, shown.rx_bytes) == (4, 4 * 64)


def test_a_message_on_its_way_arrives_at_the_new_pf() -> None:
    """Asked on the old host, whose PF did not look any more; answered by the new one, at the start."""
    ferry = Ferry()
    driver = ferry.guest()
    ferry.a.software.hardware.write(pf.EIMC.offset, 0xFFFFFFFF)
    ferry.a.ask(1, Id.SET_VLAN | 1 << 16, 33)
    ferry.move(driver, session=True)
    assert 33 not in ferry.b.software.driver.programmed(2).vlans
    ferry.new.start("eth0", 2)
    assert 33 in ferry.b.software.driver.programmed(2).vlans
    bar = ferry.b.software.hardware.vf_bar(2)
    assert bar.peek(vf.VFMAILBOX.offset) & vf.VFMAILBOX_R2C_BITS == vf.VFMAILBOX_PFACK | vf.VFMAILBOX_PFSTS
    vectors = list(ferry.b.vectors)
    ferry.new.stop("eth0", 2)
    ferry.new.start("eth0", 2)
    assert ferry.b.vectors == vectors, "it was sent twice"


def test_a_reset_of_the_old_pf_is_none_of_the_new_one() -> None:
    """RSTI stands while a PF resets; a VF that is given it for good would wait for ever."""
    ferry = Ferry()
    ferry.guest()
    ferry.old.stop("eth0", 1)
    state = device_state.decode(ferry.old.save("eth0", 1, session=True))
    assert state.mailbox is not None
    resetting = msgspec.structs.replace(state.mailbox, control=vf.VFMAILBOX_RSTI | vf.VFMAILBOX_PFSTS)
    ferry.new.load("eth0", 2, device_state.encode(msgspec.structs.replace(state, mailbox=resetting)))
    assert ferry.b.software.hardware.vf_peek(2, vf.VFMAILBOX.offset) == vf.VFMAILBOX_PFSTS


def test_what_a_read_would_clear_comes_along() -> None:
    ferry = Ferry()
    driver = ferry.guest()
    ferry.a.software.driver.ping_vf(1)  # nobody has read it
    bar = ferry.a.software.hardware.vf_bar(1)
    assert bar.peek(vf.VFMAILBOX.offset) & vf.VFMAILBOX_PFSTS
    ferry.move(driver, session=True)
    assert ferry.b.software.hardware.vf_peek(2, vf.VFMAILBOX.offset) & vf.VFMAILBOX_PFSTS
    assert ferry.b.software.hardware.vf_peek(2, vf.VFMBMEM.offset) == Id.PF_CONTROL_MSG | 0x20000000


def test_configuration_space_and_vectors_come_along() -> None:
    ferry = Ferry()
    driver = ferry.guest()
    old, new = ferry.a.software, ferry.b.software
    config = old.hardware.vf_config(1)
    config.write(pci_config.COMMAND, 2, 0x0006)
    config.write(pci_config.MSIX_CONTROL, 2, 0x8000)
    config.write(pci_config.BAR0, 4, 0xFEBC0000)
    config.write(pci_config.BAR3 + 4, 4, 0x12)
    old.vfs[1].table[:4] = [0xFEE00000, 0, 0x4041, 0]
    ferry.old.stop("eth0", 1)
    old.driver.ping_vf(1)  # its vector waits
    ferry.move(driver, session=True)
    there = new.hardware.vf_config(2)
    assert [there.read(offset, 4) for offset in range(0, 256, 4)] == [
        config.read(offset, 4) for offset in range(0, 256, 4)
    ]
    assert new.vfs[2].table == old.vfs[1].table
    assert ferry.b.vectors == []
    ferry.new.start("eth0", 2)
    assert [index for index, _vector in ferry.b.vectors] == [2]


def test_a_vf_that_was_just_reset_has_no_session() -> None:
    """Its PF has not heard of the reset: what was granted before is not granted any more."""
    ferry = Ferry()
    ferry.guest()
    ferry.a.software.hardware.write(pf.EIMC.offset, 0xFFFFFFFF)
    ferry.a.software.hardware.vf_write(1, vf.VFCTRL.offset, vf.VFCTRL_RST)
    ferry.old.stop("eth0", 1)
    session = device_state.decode(ferry.old.save("eth0", 1, session=True)).session
    assert session is not None
    assert not session.clear_to_send


# A session that is rebuilt


def test_a_session_is_rebuilt_by_the_vfs_own_reset() -> None:
    ferry = Ferry()
    driver = ferry.guest()
    ferry.a.tick(driver, 10)  # the driver resets itself at most every 10 s
    resets, expected = driver.resets, ferry.a.software.driver.programmed(1)
    ferry.move(driver, session=False)
    assert not ferry.b.software.driver.vfinfo[2].clear_to_send
    assert ferry.b.vectors == []
    ferry.new.start("eth0", 2)
    ferry.new.start("eth0", 2)
    assert not ferry.reached(MAC)
    assert len(ferry.b.vectors) == 1, "the driver is to be told, and once"
    ferry.b.service(driver)
    ferry.b.tick(driver, 2)
    assert driver.resets == resets + 1
    assert driver.frames_can_flow
    assert [ferry.reached(to) for to in (MAC, FURTHER, GROUP)] == [True, True, True]
    there = ferry.b.software.driver.programmed(2)
    assert (sorted(there.macs), there.vlans) == (sorted(expected.macs), expected.vlans)


def test_a_pf_that_knows_resume_programs_at_that_message() -> None:
    ferry = Ferry(resume_extension=True)
    driver = ferry.guest()
    expected, resets = ferry.a.software.driver.programmed(1), driver.resets
    ferry.move(driver, session=False)
    ferry.new.start("eth0", 2)
    assert not ferry.reached(MAC)
    assert ferry.b.run(driver.resume())
    assert driver.resets == resets
    assert ferry.b.software.driver.programmed(2) == expected
    assert [ferry.reached(to) for to in (MAC, FURTHER, GROUP)] == [True, True, True]


def test_a_dropped_state_is_not_resumed_by_the_next_tenant() -> None:
    ferry = Ferry(resume_extension=True)
    driver = ferry.guest()
    state = ferry.move(driver, session=False)
    planted = ferry.b.software.driver.is_planted
    assert planted(2)
    for act in (ferry.new.drop, lambda pf, vf: ferry.b.nic.assign_vf(pf, vf, "another VM"), ferry.b.nic.unassign_vf):
        ferry.new.load("eth0", 2, state)
        assert planted(2)
        act("eth0", 2)
        assert not planted(2)


# Refused


def test_a_smaller_number_of_queues() -> None:
    ferry = Ferry(num_vfs=40)
    driver = ferry.guest()
    with pytest.raises(BadStateError, match="it has 4 queues, and this VF 2"):
        ferry.move(driver, session=True)


def test_a_pf_that_is_down() -> None:
    ferry = Ferry()
    driver = ferry.guest()
    ferry.b.nic.set_pf("eth0", admin_up=False)
    with pytest.raises(BadStateError, match="the PF is down"):
        ferry.move(driver, session=True)


@pytest.mark.parametrize(("here", "there"), [(1500, 1500), (9000, 9000)])
def test_frame_sizes_that_go_together(here: int, there: int) -> None:
    ferry = Ferry(here=here, there=there)
    driver = ferry.guest(mtu=here)
    ferry.move(driver, session=True)
    ferry.new.start("eth0", 2)
    assert ferry.reached(MAC)


def test_a_jumbo_vf_is_refused_by_a_pf_without() -> None:
    ferry = Ferry(here=9000)
    driver = ferry.guest(mtu=9000)
    with pytest.raises(BadStateError, match="frames of 9018 octets under a PF with MTU 1500"):
        ferry.move(driver, session=True)


def test_an_old_driver_is_refused_by_a_jumbo_pf() -> None:
    ferry = Ferry(there=9000)
    ferry.a.nic.program("eth0", {1: AdminState(trust=False)})
    driver = ferry.a.guest(1, [Api.V1_0])
    with pytest.raises(BadStateError, match="under a PF with MTU 9000, mailbox API value 0"):
        ferry.move(driver, session=True)
    ferry.new.load("eth0", 2, ferry.old.save("eth0", 1, session=False))


def test_a_vf_without_a_frame_size_is_refused_by_a_jumbo_pf() -> None:
    ferry = Ferry(there=9000)
    ferry.a.handshake(1)
    ferry.a.software.hardware.vf_write(1, vf.VFRXDCTL.offset, vf.RXDCTL_ENABLE)
    ferry.old.stop("eth0", 1)
    with pytest.raises(BadStateError, match="agreed on no frame size"):
        ferry.new.validate("eth0", 2, ferry.old.save("eth0", 1, session=True))


@pytest.mark.parametrize("attribute", ["trust", "mac"])
def test_what_is_not_allowed_here_is_not_had_by_moving(attribute: str) -> None:
    """Without trust: no all-multicast mode; under another administrative MAC: no other one."""
    ferry = Ferry()
    driver = ferry.guest()
    wrong = {"trust": AdminState(trust=False), "mac": AdminState(trust=False, mac="02:00:00:00:00:77")}[attribute]
    ferry.b.nic.program("eth0", {2: wrong})
    with pytest.raises(BadStateError, match=r"no further ones|another MAC"):
        ferry.move(driver, session=True)


def test_what_is_to_be_resumed_is_checked_too() -> None:
    ferry = Ferry(resume_extension=True)
    driver = ferry.guest()
    ferry.b.nic.program("eth0", {2: AdminState(trust=False)})
    with pytest.raises(BadStateError, match="no further ones"):
        ferry.move(driver, session=False)


def test_no_room_for_vlans() -> None:
    ferry = Ferry()
    driver = ferry.guest()
    assert ferry.a.run(driver.add_vlan(2000))
    ferry.b.handshake(3)
    for vid in range(1, 64):
        ferry.b.ask(3, Id.SET_VLAN | 1 << 16, vid)
    with pytest.raises(BadStateError, match="1 VLANs do not fit"):
        ferry.move(driver, session=True)


# Drop


@pytest.mark.parametrize("session", [True, False])
def test_a_dropped_vf_is_as_after_a_reset(session: bool) -> None:
    ferry = Ferry()
    driver = ferry.guest()
    ferry.move(driver, session=session)
    ferry.new.drop("eth0", 2)
    there = ferry.b.software.driver.programmed(2)
    assert (there.receive, there.transmit, there.all_multicast, there.vlans) == (False, False, False, (0,))
    assert FURTHER not in there.macs
    assert not ferry.b.software.driver.vfinfo[2].clear_to_send
    assert not ferry.b.software.transmit(2, frame(STATION, MAC))
    assert ferry.b.software.vfs[2].stopped
    assert ferry.b.nic.read_pci("eth0", 2) == PciState(command=0, msix_control=2)
    assert ferry.b.nic.program("eth0", {2: AdminState(mac=ZERO_MAC)}) == {2: None}, "the address cannot be taken away"
    assert ferry.b.software.driver.programmed(2).macs == ()


def test_a_guests_own_mac_is_dropped_with_it() -> None:
    """What the guest chose must not go on taking the VM's frames off the wire."""
    ferry = Ferry()
    for host, index in ((ferry.a, 1), (ferry.b, 2)):
        host.nic.program("eth0", {index: AdminState(mac=ZERO_MAC)})
    driver = ferry.a.guest(1)
    ferry.move(driver, session=True)
    assert ferry.b.nic.read("eth0").vfs[2].admin.mac == driver.mac.hex(":")
    ferry.new.drop("eth0", 2)
    assert ferry.b.nic.read("eth0").vfs[2].admin.mac == ZERO_MAC
    assert ferry.b.software.driver.programmed(2).macs == ()


def test_a_vf_whose_rate_lost_its_link_can_be_dropped() -> None:
    ferry = Ferry()
    driver = ferry.guest()
    ferry.b.nic.program("eth0", {2: AdminState(rate=Rate(min_tx=0, max_tx=100))})
    ferry.move(driver, session=True)
    ferry.b.nic.set_link("eth0", up=False)
    ferry.new.drop("eth0", 2)
    there = ferry.b.software.driver.programmed(2)
    assert (there.receive, there.transmit, there.macs) == (False, False, (MAC,))
    assert not ferry.b.software.driver.vfinfo[2].clear_to_send


def test_the_next_tenant_works() -> None:
    ferry = Ferry()
    driver = ferry.guest()
    ferry.move(driver, session=True)
    ferry.new.drop("eth0", 2)
    ferry.b.nic.assign_vf("eth0", 2, "another VM")
    ferry.b.guest(2)
    assert ferry.reached(MAC)


def test_a_vf_without_link_stays_without() -> None:
    ferry = Ferry()
    driver = ferry.guest()
    ferry.b.nic.program("eth0", {2: AdminState(link_state=LinkState.DISABLE)})
    ferry.move(driver, session=True)
    ferry.new.start("eth0", 2)
    assert not ferry.reached(MAC)


def test_an_aborted_migration_goes_on_at_the_source() -> None:
    ferry = Ferry()
    driver = ferry.guest()
    messages = len(driver.log)
    ferry.old.stop("eth0", 1)
    ferry.old.save("eth0", 1, session=True)
    ferry.old.start("eth0", 1)
    ferry.a.software.hardware.receive(frame(MAC))
    assert len(ferry.a.received[1]) == 1
    ferry.a.tick(driver, 10)
    assert len(driver.log) == messages
