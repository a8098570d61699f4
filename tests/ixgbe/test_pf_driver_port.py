# SPDX-License-Identifier: Apache-2.0
"""The port as the PF driver starts it: rates after a reset of the device, RSS, its own pool."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

import pytest

from tests.ixgbe.driver_rig import ADMIN_MAC, GROUP, OTHER_MAC, Rig
from tests.ixgbe.queues_rig import IP4, Guest, admit, ethernet, ipv4, tcp
from vferry.nic.ixgbe.hardware import Ixgbe82599
from vferry.nic.ixgbe.host import SoftwarePf
from vferry.nic.ixgbe.messages import ACK, Id, word0
from vferry.nic.ixgbe.pf_driver import DriverError, PfDriver, VfSession
from vferry.nic.ixgbe.pf_driver.rss import DEFAULT_RSS_KEY
from vferry.nic.ixgbe.registers import pf
from vferry.nic.ixgbe.rss import Toeplitz

BROADCAST = b"\xff" * 6
ALL_HOSTS = bytes.fromhex("01005e000001")


# --- rates: the watchdog's link-up (ixgbe_main.c, ixgbe_watchdog_link_is_up()) programs them again


def down_and_up(rig: Rig) -> None:
    rig.pf.down()
    assert rig.programmed(0).rates == (0,) * 4
    rig.pf.up()


@pytest.mark.parametrize("restart", [lambda rig: rig.pf.set_mtu(1600), down_and_up])
def test_a_rate_outlives_a_reset_of_the_device(restart: Callable[[Rig], None]) -> None:
    rig = Rig()
    rig.pf.set_vf_rate(0, 500)
    before = rig.programmed(0).rates
    assert all(before)
    restart(rig)
    assert rig.pf.get_vf_config(0).max_tx_rate == 500
    assert rig.programmed(0).rates == before
    assert rig.programmed(1).rates == (0,) * 4


def test_without_a_link_a_rate_waits_for_it() -> None:
    rig = Rig()
    rig.pf.set_vf_rate(0, 500)
    before = rig.programmed(0).rates
    rig.hw.set_link(False)
    rig.pf.set_mtu(1600)
    assert rig.programmed(0).rates == (0,) * 4
    rig.hw.set_link(True)
    assert rig.programmed(0).rates == before


def test_a_port_that_comes_up_at_another_speed_has_no_rates() -> None:
    rig = Rig()
    rig.pf.set_vf_rate(0, 500)
    rig.pf.down()
    rig.hw.set_link(True, 1000)
    rig.pf.up()
    assert (rig.pf.get_vf_config(0).max_tx_rate, rig.programmed(0).rates) == (0, (0,) * 4)


# --- a session cannot be loaded where its rate cannot


def test_a_session_of_a_vf_with_a_rate_needs_a_link() -> None:
    rig = Rig()
    rig.pf.set_vf_rate(0, 500)
    rig.pf.check_session(0, VfSession())
    rig.hw.set_link(False)
    with pytest.raises(DriverError, match="10000") as why:
        rig.pf.load_session(0, VfSession())
    assert why.value.errno == errno.EINVAL


def test_a_session_of_a_vf_with_a_rate_needs_a_link_of_ten_gigabits() -> None:
    source, rig = Rig(host="a"), Rig(host="b", resume_extension=True)
    source.pf.set_vf_rate(0, 500)
    rig.hw.set_link(True, 1000)
    rig.pf.plant_vfinfo(0, source.pf.vfinfo[0].copy())
    with pytest.raises(DriverError, match="10000"):
        rig.pf.check_session(0, VfSession())
    rig.hw.set_link(True, 10000)
    rig.pf.plant_vfinfo(0, source.pf.vfinfo[0].copy())
    rig.pf.check_session(0, VfSession())


# --- RSS: ixgbe_setup_mrqc()


def test_rss_query_answers_the_ports_key_and_table() -> None:
    rig = Rig()
    rig.pf.set_vf_rss_query_en(0, on=True)
    for _ in range(2):
        rig.handshake(0)
        words = rig.ask(0, Id.GET_RSS_KEY)
        assert words[0] & ACK
        assert struct.pack("<10I", *words[1:11]) == DEFAULT_RSS_KEY
        words = rig.ask(0, Id.GET_RETA)
        assert words[1:9] == [0b11100100_11100100_11100100_11100100] * 8
        assert rig.hw.peek(pf.MRQC.offset) == pf.MRQC_VMDQRSS32EN | 0x0033 << 16
        rig.pf.set_mtu(1600)  # the reset of the device took them; the start of the port wrote them again


def test_the_key_is_the_one_that_was_given() -> None:
    hardware = Ixgbe82599(now=lambda: 0.0, permanent_address=ADMIN_MAC, pools=2)
    key = bytes(range(40))
    PfDriver(hardware, rss_key=key).enable_sriov(2)
    assert struct.pack("<10I", *(hardware.peek(offset) for offset in pf.RSSRK.addresses)) == key
    with pytest.raises(DriverError, match="40 octets"):
        PfDriver(hardware, rss_key=key[1:])
    made = SoftwarePf("eth0", device="0000:01:00.0", permanent_address=ADMIN_MAC, num_vfs=1, now=float, rss_key=key)
    made.boot()
    assert made.hardware.peek(pf.RSSRK.address(1)) == 0x07060504


def test_two_flows_land_on_two_queues_of_a_vf() -> None:
    rig = Rig(num_vfs=2)
    guest = Guest(rig, 0, queues=2)
    admit(rig, guest, 1500)
    guest.up()
    toeplitz = Toeplitz(DEFAULT_RSS_KEY)
    found: dict[int, int] = {}
    for port in range(1000, 1016):
        segment = struct.pack(">H", port) + tcp(b"data", IP4)[2:]
        rig.hw.receive(ethernet(guest.mac, OTHER_MAC, ipv4(segment, 6)))
        value = toeplitz.hash(b"".join(IP4) + segment[:4])
        queue = value & 0x7F & 1  # entry n of the table is queue n % 4, of which the VF has two
        assert (guest.clean_rx(1 - queue), guest.clean_rx(queue)) == (0, 1)
        got = guest.received[-1]
        assert (got.hash, got.queue) == (value, queue)
        found[queue] = found.get(queue, 0) + 1
    assert set(found) == {0, 1}


# --- the PF's own pool


def test_the_pfs_own_interface_takes_broadcasts_and_its_multicasts() -> None:
    """``ixgbe_set_rx_mode()``: BAM and ROMPE of its pool; every interface joins all hosts."""
    rig = Rig()
    got: list[bytes] = []
    rig.hw.sinks[rig.pf.num_vfs] = got.append
    for destination in (BROADCAST, ALL_HOSTS, GROUP):
        rig.hw.receive(destination + OTHER_MAC + b"\x08\x00" + bytes(46))
    assert [frame[:6] for frame in got] == [BROADCAST, ALL_HOSTS]
    assert rig.hw.peek(pf.FCTRL.offset) & (pf.FCTRL_BAM | pf.FCTRL_UPE | pf.FCTRL_MPE) == pf.FCTRL_BAM


def test_a_vf_that_leaves_a_vlan_of_the_pf_leaves_the_ports_filter_to_it() -> None:
    """``ixgbe_clear_vf_vlans()``: the entry is given up, the bit in VFTA is the PF's still."""
    rig = Rig()
    vlans = rig.pf._adapter.vlans
    for vid in (7, 8):
        rig.handshake(0)
        if vid == 7:
            vlans.active_vlans.add(vid)
            vlans.set_vfta(vid, rig.pf.num_vfs, on=True, bypass=True)
        assert rig.ask(0, word0(Id.SET_VLAN, 1), vid)[0] & ACK
    filters = rig.hw.peek(pf.VFTA.address(0))
    assert filters & (1 << 7 | 1 << 8) == 1 << 7 | 1 << 8
    rig.hw.flr(0)
    assert rig.hw.peek(pf.VFTA.address(0)) & (1 << 7 | 1 << 8) == 1 << 7
    assert not {7, 8} & set(vlans.of_pool(rig.pf.num_vfs))


# --- what a reset takes


def test_the_reset_message_zeroes_the_buffer_behind_its_answer() -> None:
    """``ixgbe_vf_reset_msg()``, ``ixgbe_vf_clear_mbx()``: nothing of the former tenant's messages is left to read."""
    rig = Rig()
    rig.ask(0, Id.SET_MULTICAST, *range(0x1000, 0x100F))
    assert all(rig.buffer(0)[4:])
    assert rig.ask(0, Id.RESET)[4:] == [0] * 12


def test_a_reset_takes_the_frame_size_from_the_session() -> None:
    rig = Rig()
    rig.handshake(0)
    rig.ask(0, Id.SET_LPE, 1518)
    assert rig.pf.session(0).max_frame == 1518
    rig.hw.flr(0)
    assert rig.pf.session(0).max_frame is None
