# SPDX-License-Identifier: Apache-2.0
"""The VF driver: probe, open, close, the service task, lost sessions, a dead mailbox, and the guest's settings."""

from __future__ import annotations

import pytest

from tests.ixgbe.driver_rig import ADMIN_MAC, GROUP, GUEST_MAC, OTHER_MAC, Api, LinkState, Rig, flows, sent
from vferry.nic.ixgbe.messages import ACK, CTS, NACK, Id, XcastMode
from vferry.nic.ixgbe.registers import pf, vf
from vferry.nic.ixgbe.vf_driver import RESET_LIMIT_SECONDS

HANDSHAKE = ["RESET", *["API_NEGOTIATE"] * 4]
OPEN = ["GET_QUEUES", "UPDATE_XCAST_MODE", "SET_MULTICAST", "SET_MACVLAN", "SET_LPE", "SET_MAC_ADDR", "GET_LINK_STATE"]


# --- probe and open


def test_messages_of_probe_and_open_in_order() -> None:
    """``ixgbevf_probe()`` and ``ixgbevf_open()``."""
    rig = Rig()
    driver = rig.driver(0)
    rig.run(driver.probe())
    assert sent(driver) == [*HANDSHAKE, "GET_QUEUES"]
    rig.run(driver.open())
    assert sent(driver, 6) == OPEN


def test_api_settles_at_1_4() -> None:
    """``ixgbevf_negotiate_api()``: 1.7, 1.6, 1.5 refused by the in-tree PF driver, 1.4 granted."""
    rig = Rig()
    driver = rig.guest(0)
    asked = [(exchange.request[1], exchange.reply and exchange.reply[0]) for exchange in driver.log[1:5]]
    refused = Id.API_NEGOTIATE | NACK | CTS
    assert asked == [(8, refused), (7, refused), (6, refused), (5, Id.API_NEGOTIATE | ACK | CTS)]
    assert driver.api_version == rig.pf.vfinfo[0].vf_api == Api.V1_4


def test_the_address_is_the_administrators_or_a_random_one() -> None:
    rig = Rig()
    rig.pf.set_vf_mac(0, ADMIN_MAC)
    assert rig.guest(0).mac == ADMIN_MAC
    assert rig.guest(1).mac == GUEST_MAC[:5] + b"\x01"
    assert rig.programmed(1).macs == (GUEST_MAC[:5] + b"\x01",)


def test_probe_takes_ten_milliseconds_and_open_a_millisecond_for_each_queue() -> None:
    """``mdelay(10)`` in ``ixgbevf_reset_hw_vf()``; two transmit and two receive queues."""
    rig = Rig()
    driver = rig.driver(0)
    rig.run(driver.probe())
    assert rig.now == pytest.approx(1000.010)
    rig.run(driver.open())
    assert rig.now == pytest.approx(1000.014, abs=1e-4)


def test_queues_are_on_after_open_and_off_after_close() -> None:
    rig = Rig()
    driver = rig.guest(0)
    bar = rig.hw.vf_bar(0)

    def enabled() -> list[bool]:
        offsets = [register.address(queue) for register in (vf.VFTXDCTL, vf.VFRXDCTL) for queue in (0, 1, 2)]
        return [bool(bar.peek(offset) & vf.TXDCTL_ENABLE) for offset in offsets]

    assert enabled() == [True, True, False] * 2
    assert bar.peek(vf.VFTDLEN.address(1)) == 1024 * 16
    assert bar.peek(vf.VFRDT.address(0)) == 511
    rig.run(driver.close())
    assert enabled() == [False] * 6
    assert not flows(driver)


def test_close_and_open_again() -> None:
    """``ixgbevf_down()`` resets the device, so open needs no RESET of its own."""
    rig = Rig()
    driver = rig.guest(0)
    rig.run(driver.add_vlan(100))
    before = len(driver.log)
    rig.run(driver.close())
    assert sent(driver, before) == HANDSHAKE
    before = len(driver.log)
    rig.run(driver.open())
    assert sent(driver, before) == [*OPEN[:4], "SET_VLAN[1]", *OPEN[4:]]
    rig.service(driver)
    assert flows(driver)
    assert rig.programmed(0).vlans == (0, 100)


def test_legacy_api_uses_one_queue_and_asks_for_no_mode() -> None:
    rig = Rig()
    driver = rig.guest(0, versions=[Api.V1_0])
    assert "UPDATE_XCAST_MODE" not in sent(driver)
    assert not rig.hw.vf_bar(0).peek(vf.VFTXDCTL.address(1))
    assert flows(driver)


def test_probe_without_a_pf_driver_fails_and_open_tries_again() -> None:
    """``ixgbevf_probe()`` only warns; ``ixgbevf_open()`` resets again while the adapter is stopped."""
    rig = Rig()
    rig.pf.down()
    driver = rig.driver(0)
    assert not rig.run(driver.probe())
    assert not rig.run(driver.open())
    rig.pf.up()
    assert rig.run(driver.open())
    rig.service(driver)
    assert flows(driver)


# --- link and service task


def test_there_is_no_carrier_before_the_service_task_has_seen_cts() -> None:
    rig = Rig()
    driver = rig.driver(0)
    rig.run(driver.probe())
    rig.run(driver.open())
    assert not flows(driver)
    rig.service(driver)
    assert flows(driver)


def test_the_link_is_looked_at_once_for_each_notice() -> None:
    """``ixgbevf_check_mac_link_vf()``: while ``get_link_status`` is off, nothing is read."""
    rig = Rig()
    driver = rig.guest(0)
    now = rig.now
    rig.run(driver.watchdog())
    assert rig.now == now
    rig.pf.ping_vf(0)
    assert rig.service(driver) == 1
    assert rig.now > now
    assert not driver.hw.get_link_status
    assert flows(driver)


def test_carrier_follows_the_link() -> None:
    rig = Rig()
    driver = rig.guest(0)
    rig.hw.set_link(False)
    rig.service(driver)
    assert not flows(driver)
    rig.hw.set_link(True, 1000)
    rig.service(driver)
    assert flows(driver)
    assert driver.hw.link_speed == 1000


def test_carrier_is_off_where_the_administrator_disabled_the_link() -> None:
    rig = Rig()
    rig.pf.set_vf_link_state(0, LinkState.DISABLE)
    driver = rig.guest(0)
    assert driver.hw.link_up
    assert not flows(driver)


# --- a lost session


def lose_session(rig: Rig, after: float) -> None:
    """What a destination does that leaves clear_to_send at 0: then a ping."""
    rig.advance(after)
    rig.pf.vfinfo[0].clear_to_send = False
    rig.pf.ping_vf(0)


def test_a_ping_without_cts_brings_exactly_one_reset_handshake_and_the_whole_session_back() -> None:
    """Ping, acknowledgement, unsolicited NACK, reset: three runs of the service task, each by interrupt."""
    rig = Rig()
    driver = rig.guest(0)
    for vid in (7, 100):
        rig.run(driver.add_vlan(vid))
    rig.run(driver.set_rx_mode(multicasts=[GROUP], unicasts=[OTHER_MAC]))
    rig.service(driver)
    session, programmed = rig.pf.session(0), rig.programmed(0)
    before, resets = len(driver.log), driver.resets
    lose_session(rig, after=60)
    started = rig.now
    rig.service(driver)
    assert driver.resets == resets + 1
    assert sent(driver, before) == [
        *HANDSHAKE,
        *("GET_QUEUES", "UPDATE_XCAST_MODE", "SET_MULTICAST[1]", "SET_MACVLAN[1]"),
        *("SET_VLAN[1]", "SET_VLAN[1]", "SET_LPE", "SET_MAC_ADDR", "GET_LINK_STATE"),
    ]
    assert all(exchange.reply is not None for exchange in driver.log)
    assert rig.pf.session(0) == session
    assert rig.programmed(0) == programmed
    assert flows(driver)
    assert 0.02 < rig.now - started < 0.07
    before = len(driver.log)
    rig.ticks(driver, 10)
    assert driver.log[before:] == []


def test_within_ten_seconds_of_the_last_reset_the_session_is_not_mended_and_that_shows() -> None:
    """``ixgbevf_watchdog_update_link()``: ``time_after(jiffies, last_reset + 10 * HZ)``."""
    rig = Rig()
    driver = rig.guest(0)
    resets = driver.resets
    lose_session(rig, after=3)
    for _ in range(3):  # to 9 s after the reset
        rig.advance(2)
        rig.run(driver.watchdog())
    assert driver.resets == resets
    assert (driver.reset_pending, driver.reset_requested, flows(driver)) == (True, False, False)
    rig.ticks(driver, 2)
    assert driver.resets == resets + 1
    assert not driver.reset_pending
    assert flows(driver)


def test_the_limit_is_ten_seconds_and_not_less() -> None:
    rig = Rig()
    driver = rig.guest(0)
    for after, requested in ((RESET_LIMIT_SECONDS - 0.1, False), (RESET_LIMIT_SECONDS + 0.1, True)):
        rig.now = driver.last_reset
        lose_session(rig, after)
        rig.run(driver.watchdog())
        rig.run(driver.watchdog())
        assert driver.reset_requested == requested


def test_under_the_limit_vf_and_pf_go_on_acknowledging_and_refusing() -> None:
    """Each look at the NACK is acknowledged, each acknowledgement is answered by a NACK and its interrupt."""
    rig = Rig()
    driver = rig.guest(0)
    lose_session(rig, after=1)
    assert rig.service(driver, runs=50) == 50


def test_a_reset_of_a_closed_interface_is_not_done() -> None:
    """``ixgbevf_reset_subtask()``: a VF that is down has nothing to mend."""
    rig = Rig()
    driver = rig.guest(0)
    rig.run(driver.close())
    before = len(driver.log)
    lose_session(rig, after=60)
    rig.ticks(driver, 5)
    assert driver.log[before:] == []


def test_without_a_ping_a_lost_session_is_noticed_only_when_the_link_is_looked_at() -> None:
    rig = Rig()
    driver = rig.guest(0)
    resets = driver.resets
    rig.advance(60)
    rig.pf.vfinfo[0].clear_to_send = False
    rig.ticks(driver, 5)
    assert driver.resets == resets
    assert flows(driver)


# --- the mailbox


def test_a_reply_is_waited_for_one_second_and_then_the_mailbox_is_dead_until_the_next_reset() -> None:
    """``ixgbevf_poll_for_ack()``: 2000 looks, 500 microseconds apart; then ``mbx->timeout = 0``."""
    rig = Rig()
    driver = rig.guest(0)
    rig.hw.write(pf.EIMC.offset, pf.EICR_MAILBOX)
    now = rig.now
    assert not rig.run(driver.add_vlan(100))
    assert rig.now - now == pytest.approx(1.0)
    assert driver.log[-1].reply is None
    rig.hw.write(pf.EIMS.offset, pf.EICR_MAILBOX)
    now = rig.now
    assert not rig.run(driver.add_vlan(100))
    assert rig.now == now
    rig.ticks(driver, 10)
    assert not flows(driver)  # the service task cannot read the mailbox either
    rig.run(driver.close())
    rig.run(driver.open())
    rig.service(driver)
    assert flows(driver)
    assert rig.run(driver.add_vlan(100))


def test_a_vf_waits_while_the_pf_owns_the_buffer() -> None:
    """``ixgbevf_obtain_mbx_lock_vf()``."""
    rig = Rig()
    driver = rig.guest(0)
    rig.hw.write(pf.PFMAILBOX.address(0), pf.PFMAILBOX_PFU)
    steps = driver.add_vlan(100)
    assert next(steps) == pytest.approx(500e-6)
    rig.hw.write(pf.PFMAILBOX.address(0), 0)
    assert rig.run(steps)


def test_bits_that_reading_clears_are_kept() -> None:
    """``ixgbevf_read_mailbox_vf()``: looking for one bit must not lose another."""
    rig = Rig()
    driver = rig.guest(0)
    rig.pf.ping_vf(0)
    assert not driver.hw.mailbox.check_for_reset()
    assert driver.hw.mailbox._check(vf.VFMAILBOX_PFSTS)
    assert not driver.hw.mailbox._check(vf.VFMAILBOX_PFSTS)


# --- settings of the guest


def test_set_mac() -> None:
    rig = Rig()
    driver = rig.guest(0)
    assert rig.run(driver.set_mac(OTHER_MAC))
    assert driver.mac == OTHER_MAC
    assert rig.programmed(0).macs == (OTHER_MAC,)


def test_set_mac_against_the_administrator_is_refused_and_the_address_stays() -> None:
    rig = Rig()
    rig.pf.set_vf_mac(0, ADMIN_MAC)
    driver = rig.guest(0)
    assert not rig.run(driver.set_mac(OTHER_MAC))
    assert driver.mac == ADMIN_MAC
    assert rig.programmed(0).macs == (ADMIN_MAC,)


def test_vlans_under_a_port_vlan_are_refused_and_not_kept() -> None:
    rig = Rig()
    rig.pf.set_vf_vlan(0, 100)
    driver = rig.guest(0)
    assert not rig.run(driver.add_vlan(7))
    assert driver.vlans == set()


def test_kill_vlan() -> None:
    rig = Rig()
    driver = rig.guest(0)
    rig.run(driver.add_vlan(7))
    assert rig.run(driver.kill_vlan(7))
    assert rig.programmed(0).vlans == (0,)
    assert driver.vlans == set()


def test_mtu_is_announced_with_the_fcs_and_costs_a_reset() -> None:
    rig = Rig(mtu=9000)
    driver = rig.guest(0)
    resets = driver.resets
    assert rig.run(driver.set_mtu(9000))
    assert driver.resets == resets + 1
    assert rig.pf.session(0).max_frame == 9018
    assert rig.programmed(0).receive


@pytest.mark.parametrize(("api", "mtu"), [(Api.V1_4, 9000), (Api.V1_4, 67), (Api.V1_4, 9711), (Api.V1_0, 1501)])
def test_mtus_that_are_refused(api: Api, mtu: int) -> None:
    """By the PF's jumbo rule, or by the driver's own range (1500 at most with API 1.0 on an 82599)."""
    rig = Rig()
    driver = rig.guest(0, versions=[api])
    assert not rig.run(driver.set_mtu(mtu))
    assert driver.mtu == 1500


def test_thirty_multicasts_at_most_and_no_link_local_ones() -> None:
    rig = Rig()
    driver = rig.guest(0)
    groups = [bytes([1, 0, 0x5E, 0, number, number]) for number in range(40)]
    rig.run(driver.set_rx_mode(multicasts=groups))
    assert len(rig.pf.session(0).mc_hashes) == 30
    rig.run(driver.set_rx_mode(multicasts=[bytes.fromhex("0180c200000e")]))
    assert rig.pf.session(0).mc_hashes == (0,)  # counted, and no hash sent for it (ixgbevf_update_mc_addr_list_vf())


def test_all_multicasts_need_trust_and_come_with_the_reset_that_trust_causes() -> None:
    rig = Rig()
    driver = rig.guest(0)
    rig.run(driver.set_rx_mode(xcast_mode=XcastMode.ALLMULTI))
    assert not rig.programmed(0).all_multicast
    rig.advance(60)
    rig.pf.set_vf_trust(0, on=True)
    rig.service(driver)
    assert rig.programmed(0).all_multicast


def test_rss_table_and_key() -> None:
    rig = Rig()
    driver = rig.guest(0)
    assert rig.run(driver.hw.get_reta()) is None
    assert rig.run(driver.hw.get_rss_key()) is None
    rig.pf.set_vf_rss_query_en(0, on=True)
    rig.hw.write(pf.RETA.address(0), 0x03020100)
    rig.hw.write(pf.RSSRK.address(0), 0x04030201)
    table, key = rig.run(driver.hw.get_reta()), rig.run(driver.hw.get_rss_key())
    assert table is not None
    assert key is not None
    assert (len(table), table[:4]) == (128, [0, 1, 2, 3])
    assert (len(key), key[:4]) == (40, bytes([1, 2, 3, 4]))
