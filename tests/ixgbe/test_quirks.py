# SPDX-License-Identifier: Apache-2.0
"""The PF driver's quirks, each as a test that names it.

They are of ``drivers/net/ethernet/intel/ixgbe/``, Linux 6.12. The function stands in each docstring: of
``ixgbe_sriov.c``, unless another file stands before it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from tests.ixgbe.driver_rig import ADMIN_MAC, GROUP, MPE, OTHER_MAC, ROMPE, Api, LinkState, MacType, Rig, flows
from vferry.nic.ixgbe.messages import ACK, CTS, NACK, Id, XcastMode, mac_words, pack_hashes, word0
from vferry.nic.ixgbe.pf_driver import DriverError
from vferry.nic.ixgbe.pf_driver.multicast import mta_vector
from vferry.nic.ixgbe.registers import pf


def answer(words: list[int]) -> int:
    return words[0] & (ACK | NACK)


def allmulti(rig: Rig, vf: int) -> None:
    """Trust the VF and let it have all multicasts."""
    rig.pf.set_vf_trust(vf, on=True)
    rig.handshake(vf)
    assert rig.ask(vf, Id.UPDATE_XCAST_MODE, XcastMode.ALLMULTI)[1] == XcastMode.ALLMULTI


def macvlan(rig: Rig, vf: int) -> int:
    return answer(rig.ask(vf, word0(Id.SET_MACVLAN, 1), *mac_words(OTHER_MAC)))


# --- the FLR event


def test_flr_takes_back_what_the_vf_asked_for() -> None:
    """``ixgbe_vf_reset_event()``: VLANs, addresses, macvlans, hashes and the API; VLAN 0 comes back."""
    rig = Rig()
    rig.handshake(0)
    rig.ask(0, word0(Id.SET_VLAN, 1), 100)
    rig.ask(0, Id.SET_MAC_ADDR, *mac_words(ADMIN_MAC))
    macvlan(rig, 0)
    rig.ask(0, word0(Id.SET_MULTICAST, 1), *pack_hashes([mta_vector(GROUP)]))
    rig.hw.flr(0)
    now, session = rig.programmed(0), rig.pf.session(0)
    assert (now.vlans, now.macs) == ((0,), ())
    assert (session.mc_hashes, session.macvlans, session.api_version) == ((), (), Api.V1_0)
    assert rig.hw.peek(pf.MTA.address(mta_vector(GROUP) >> 5)) == 0


def test_flr_keeps_the_address_in_vfinfo_and_the_next_reset_message_leads_it_to_the_vf_again() -> None:
    """``ixgbe_vf_reset_event()`` removes the filter only; ``ixgbe_vf_reset_msg()`` adds it."""
    rig = Rig()
    rig.handshake(0)
    rig.ask(0, Id.SET_MAC_ADDR, *mac_words(ADMIN_MAC))
    rig.hw.flr(0)
    assert rig.programmed(0).macs == ()
    rig.ask(0, Id.RESET)
    assert rig.programmed(0).macs == (ADMIN_MAC,)


def test_flr_adds_back_the_port_vlan_and_its_tag() -> None:
    """``ixgbe_vf_reset_event()``: VMVIR set, AUPE off."""
    rig = Rig()
    rig.pf.set_vf_vlan(0, 100, 5)
    rig.hw.flr(0)
    now = rig.programmed(0)
    assert (now.vlans, now.port_vlan, now.untagged, now.broadcast) == ((100,), (100, 5), False, True)


def test_flr_restarts_only_the_queues_that_were_configured() -> None:
    """``ixgbe_vf_reset_event()`` toggles PVFTXDCTL.ENABLE of those: they end disabled, their thresholds stay."""
    rig = Rig()
    rig.hw.write(pf.PVFTXDCTL.address(1), pf.TXDCTL_ENABLE | 32)
    rig.hw.flr(0)
    assert [rig.hw.peek(pf.PVFTXDCTL.address(queue)) for queue in (0, 1)] == [0, 32]


def test_a_anti_spoofing_stays_off_after_a_macvlan_request_and_a_reset_although_the_setting_is_on() -> None:
    """``ixgbe_set_vf_macvlan_msg()`` switches it off; ``ixgbe_vf_reset_event()`` switches it on only with port VLAN."""
    rig = Rig()
    rig.handshake(0)
    assert macvlan(rig, 0) == ACK
    rig.hw.flr(0)
    rig.handshake(0)
    assert not rig.programmed(0).mac_anti_spoof
    assert not rig.programmed(0).vlan_anti_spoof
    assert rig.pf.get_vf_config(0).spoofchk


@pytest.mark.parametrize(("vlan", "qos"), [(100, 0), (0, 3)])
def test_a_anti_spoofing_comes_back_with_a_port_vlan_or_a_priority(vlan: int, qos: int) -> None:
    """``ixgbe_vf_reset_event()``: the branch that sets VMVIR."""
    rig = Rig()
    rig.handshake(0)
    macvlan(rig, 0)
    rig.pf.set_vf_vlan(0, vlan, qos)
    assert not rig.programmed(0).mac_anti_spoof
    rig.hw.flr(0)
    assert rig.programmed(0).mac_anti_spoof


def test_a_refused_macvlan_request_switches_anti_spoofing_off_too() -> None:
    """``ixgbe_set_vf_macvlan_msg()`` switches it off before it looks for a slot."""
    rig = Rig(num_vfs=63)
    rig.handshake(0)
    rig.handshake(1)
    for index in range(1, 50):
        rig.ask(0, word0(Id.SET_MACVLAN, index), *mac_words(bytes([2, 0xBB, 0, 0, 0, index])))
    assert rig.programmed(1).mac_anti_spoof
    assert macvlan(rig, 1) == NACK
    assert not rig.programmed(1).mac_anti_spoof


def test_b_xcast_mode_and_mpe_survive_a_reset_of_the_vf() -> None:
    """``ixgbe_vf_reset_event()`` sets BAM and AUPE of VMOLR and leaves the other bits."""
    rig = Rig()
    allmulti(rig, 0)
    rig.hw.flr(0)
    rig.ask(0, Id.RESET)
    assert rig.programmed(0).vmolr & MPE
    assert rig.pf.vfinfo[0].xcast_mode == XcastMode.ALLMULTI


def test_b_rompe_does_not_survive_since_the_hashes_are_gone() -> None:
    """``ixgbe_restore_vf_multicasts()`` clears ROMPE of every VF without hashes: the granted mode is no longer whole,

    and the same request again does not mend it, because the stored mode is the wanted one.
    """
    rig = Rig()
    allmulti(rig, 0)
    rig.hw.flr(0)
    rig.handshake(0)
    assert answer(rig.ask(0, Id.UPDATE_XCAST_MODE, XcastMode.ALLMULTI)) == ACK
    assert not rig.programmed(0).vmolr & ROMPE
    rig.ask(0, Id.SET_MULTICAST)
    assert rig.programmed(0).vmolr & ROMPE


def test_b_the_reset_of_one_vf_takes_rompe_from_another_that_has_no_hashes() -> None:
    """``ixgbe_main.c``, ``ixgbe_set_rx_mode()`` rebuilds the table of the port for all VFs."""
    rig = Rig()
    rig.handshake(0)
    rig.ask(0, Id.UPDATE_XCAST_MODE, XcastMode.MULTI)
    assert rig.programmed(0).vmolr & ROMPE
    rig.hw.flr(1)
    assert not rig.programmed(0).vmolr & ROMPE


def test_the_reset_of_one_vf_keeps_the_hashes_of_another() -> None:
    """``ixgbe_restore_vf_multicasts()``."""
    rig = Rig()
    value = mta_vector(GROUP)
    for vf in (0, 1):
        rig.handshake(vf)
        rig.ask(vf, word0(Id.SET_MULTICAST, 1), *pack_hashes([value]))
    rig.hw.flr(1)
    assert rig.hw.peek(pf.MTA.address(value >> 5)) >> (value & 31) & 1
    rig.hw.flr(0)
    assert rig.hw.peek(pf.MTA.address(value >> 5)) == 0


def test_c_clear_to_send_survives_a_reset_of_the_vf() -> None:
    """``ixgbe_vf_reset_event()``: so a VF may go on asking without a RESET message."""
    rig = Rig()
    rig.handshake(0)
    rig.hw.flr(0)
    assert rig.pf.vfinfo[0].clear_to_send
    assert rig.ask(0, Id.API_NEGOTIATE, Api.V1_4)[0] == Id.API_NEGOTIATE | ACK | CTS


@pytest.mark.parametrize("cleared", [True, False])
def test_d_the_flr_event_touches_neither_vfte_nor_vfre(cleared: bool) -> None:
    """``ixgbe_vf_reset_event()``: after a reset they are what the hardware made of them, until RESET comes."""
    rig = Rig(flr_clears_enables=cleared)
    rig.handshake(0)
    rig.hw.flr(0)
    now = rig.programmed(0)
    assert (now.receive, now.transmit) == (not cleared, not cleared)


# --- dispatch


def test_an_acknowledgement_of_a_vf_without_session_is_answered_with_a_bare_nack() -> None:
    """``ixgbe_rcv_ack_from_vf()``."""
    rig = Rig()
    bar = rig.hw.vf_bar(0)
    bar.write(0x2FC, 0x02)
    assert rig.buffer(0)[0] == NACK


def test_an_acknowledgement_of_a_vf_with_session_is_not_answered() -> None:
    """``ixgbe_rcv_ack_from_vf()``."""
    rig = Rig()
    rig.handshake(0)
    before = rig.buffer(0)
    rig.hw.vf_bar(0).write(0x2FC, 0x02)
    assert rig.buffer(0) == before


# --- mac


def test_an_administrators_address_is_in_force_at_once_and_told_at_the_next_reset() -> None:
    """``ixgbe_ndo_set_vf_mac()``: "Reload the VF driver to make this change effective."."""
    rig = Rig()
    driver = rig.guest(0)
    own = driver.mac
    rig.pf.set_vf_mac(0, ADMIN_MAC)
    assert rig.programmed(0).macs == (ADMIN_MAC,)
    assert driver.mac == own
    rig.run(driver.close())
    rig.run(driver.open())
    assert driver.mac == ADMIN_MAC


def test_duplicate_addresses_are_not_noticed() -> None:
    """``ixgbe_ndo_set_vf_mac()``; ``ixgbe_main.c``, ``ixgbe_add_mac_filter()``: two entries with the same address."""
    rig = Rig()
    rig.pf.set_vf_mac(0, ADMIN_MAC)
    rig.pf.set_vf_mac(1, ADMIN_MAC)
    assert rig.programmed(0).macs == rig.programmed(1).macs == (ADMIN_MAC,)


def test_a_zero_address_removes_the_filter_and_the_administrators_claim() -> None:
    """``ixgbe_ndo_set_vf_mac()``."""
    rig = Rig()
    rig.pf.set_vf_mac(0, ADMIN_MAC)
    rig.pf.set_vf_mac(0, bytes(6))
    assert rig.programmed(0).macs == ()
    assert not rig.pf.vfinfo[0].pf_set_mac
    assert rig.pf.get_vf_config(0).mac == bytes(6)
    rig.pf.set_vf_mac(0, bytes(6))  # nothing to do


def test_a_full_receive_address_table_leaves_the_vf_without_any_address() -> None:
    """``ixgbe_set_vf_mac()``: ENOMEM, and the stored address is zeroed."""
    rig = Rig()
    rig.pf.set_vf_mac(0, OTHER_MAC)
    rig.hw.flr(0)  # gives its entry up, not its address
    for number in range(127):
        rig.pf.add_fdb(bytes([2, 0xCC, 0, 0, 0, number]))
    with pytest.raises(DriverError) as why:
        rig.pf.set_vf_mac(0, ADMIN_MAC)
    assert why.value.errno == errno.ENOMEM
    assert rig.pf.get_vf_config(0).mac == bytes(6)
    assert rig.pf.vfinfo[0].pf_set_mac  # and the claim stays


@pytest.mark.parametrize("mac", [GROUP, b"\xff" * 6, b"\x02\x00"])
def test_an_address_that_is_no_unicast_address_is_refused(mac: bytes) -> None:
    """``ixgbe_ndo_set_vf_mac()``: EINVAL."""
    with pytest.raises(DriverError) as why:
        Rig().pf.set_vf_mac(0, mac)
    assert why.value.errno == errno.EINVAL


# --- vlan


def test_a_port_vlan_revokes_vlan_0_and_untagged_frames_at_once() -> None:
    """``ixgbe_enable_port_vlan()``."""
    rig = Rig()
    rig.handshake(0)
    assert rig.programmed(0).vlans == (0,)
    rig.pf.set_vf_vlan(0, 100, 2)
    now = rig.programmed(0)
    assert (now.vlans, now.untagged, now.port_vlan) == ((100,), False, (100, 2))


def test_removing_a_port_vlan_gives_vlan_0_back() -> None:
    """``ixgbe_disable_port_vlan()``."""
    rig = Rig()
    rig.pf.set_vf_vlan(0, 100, 2)
    rig.pf.set_vf_vlan(0, 0)
    now = rig.programmed(0)
    assert (now.vlans, now.untagged, now.port_vlan) == ((0,), True, None)
    assert rig.hw.peek(pf.VFTA.address(3)) == 0


def test_a_new_port_vlan_replaces_the_old_one() -> None:
    """``ixgbe_ndo_set_vf_vlan()``."""
    rig = Rig()
    rig.pf.set_vf_vlan(0, 100)
    rig.pf.set_vf_vlan(0, 200)
    assert rig.programmed(0).vlans == (200,)


@pytest.mark.parametrize(
    ("vlan", "qos", "proto", "code"),
    [
        (4096, 0, "802.1Q", errno.EINVAL),
        (1, 8, "802.1Q", errno.EINVAL),
        (1, 0, "802.1ad", errno.EPROTONOSUPPORT),
        (0, 0, "802.1ad", errno.EPROTONOSUPPORT),
    ],
)
def test_port_vlans_that_are_refused(vlan: int, qos: int, proto: str, code: int) -> None:
    """``ixgbe_ndo_set_vf_vlan()``."""
    with pytest.raises(DriverError) as why:
        Rig().pf.set_vf_vlan(0, vlan, qos, proto)
    assert why.value.errno == code


@pytest.mark.parametrize(("mac_type", "hidden"), [(MacType.MAC_82599EB, 0), (MacType.X540, 0), (MacType.X550, 4)])
def test_only_an_x550_hides_the_tag_before_the_next_reset(mac_type: MacType, hidden: int) -> None:
    """``ixgbe_enable_port_vlan()``: QDE.HIDE_VLAN at once on X550 and later, else in the answer to RESET."""
    rig = Rig(mac_type=mac_type)
    rig.pf.set_vf_vlan(0, 100)
    drop = [rig.hw.peek(pf.QUEUE_DROP.address(queue)) for queue in range(4)]
    assert sum(bool(word & pf.QDE_HIDE_VLAN) for word in drop) == hidden


def test_a_full_vlan_table_refuses_a_port_vlan() -> None:
    """``ixgbe_ndo_set_vf_vlan()``: ENOSPC from ``ixgbe_common.c``, ``ixgbe_find_vlvf_slot()``."""
    rig = Rig()
    rig.handshake(1)
    for vid in range(1, 64):
        rig.ask(1, word0(Id.SET_VLAN, 1), vid)
    with pytest.raises(DriverError) as why:
        rig.pf.set_vf_vlan(0, 100)
    assert why.value.errno == errno.ENOSPC
    rig.pf.set_vf_vlan(0, 63)


# --- rate


@pytest.mark.parametrize("speed", [100, 1000])
def test_a_rate_is_refused_unless_the_link_has_exactly_10_gbit(speed: int) -> None:
    """``ixgbe_ndo_set_vf_bw()``."""
    rig = Rig()
    rig.hw.set_link(True, speed)
    with pytest.raises(DriverError) as why:
        rig.pf.set_vf_rate(0, 100)
    assert why.value.errno == errno.EINVAL


def test_a_rate_is_refused_while_the_link_is_down() -> None:
    """``ixgbe_ndo_set_vf_bw()``."""
    rig = Rig()
    rig.hw.set_link(False)
    with pytest.raises(DriverError) as why:
        rig.pf.set_vf_rate(0, 0)
    assert why.value.errno == errno.EINVAL


@pytest.mark.parametrize(("least", "most"), [(1, 100), (0, 10), (0, 1), (0, 10001)])
def test_rates_that_are_refused(least: int, most: int) -> None:
    """``ixgbe_ndo_set_vf_bw()``: a least rate, 1 to 10, more than the link has."""
    with pytest.raises(DriverError) as why:
        Rig().pf.set_vf_rate(0, most, least)
    assert why.value.errno == errno.EINVAL


@pytest.mark.parametrize(("rate", "factor"), [(10000, 1 << 14), (1000, 10 << 14), (11, (10000 << 14) // 11)])
def test_a_rate_is_programmed_for_every_queue_of_the_pool(rate: int, factor: int) -> None:
    """``ixgbe_set_vf_rate_limit()``: link speed over rate, 14 bits behind the point, by RTTDQSEL and RTTBCNRC."""
    rig = Rig()
    rig.pf.set_vf_rate(1, rate)
    table = [rig.hw.peek(pf.QUEUE_RATE.address(queue)) for queue in range(12)]
    assert table == [0] * 4 + [pf.RTTBCNRC_RS_ENA | factor] * 4 + [0] * 4
    assert rig.hw.peek(pf.RTTBCNRM.offset) == 4
    rig.pf.set_vf_rate(1, 0)
    assert rig.programmed(1).rates == (0,) * 4


def test_a_change_of_the_link_speed_silently_ends_the_rates_of_all_vfs() -> None:
    """``ixgbe_check_vf_rate_limit()``."""
    rig = Rig()
    rig.pf.set_vf_rate(0, 100)
    rig.pf.set_vf_rate(1, 200)
    rig.hw.set_link(True, 1000)
    assert [rig.pf.get_vf_config(vf).max_tx_rate for vf in (0, 1)] == [0, 0]
    assert rig.programmed(0).rates == (0,) * 4


def test_a_link_that_only_went_down_and_up_keeps_the_rates() -> None:
    """``ixgbe_check_vf_rate_limit()``."""
    rig = Rig()
    rig.pf.set_vf_rate(0, 100)
    rig.hw.set_link(False)
    rig.hw.set_link(True)
    assert rig.pf.get_vf_config(0).max_tx_rate == 100
    assert all(rig.programmed(0).rates)


# --- spoof check, link state, RSS query, trust


def test_spoof_check_is_for_addresses_and_vlans_and_of_one_vf() -> None:
    """``ixgbe_ndo_set_vf_spoofchk()``."""
    rig = Rig(num_vfs=10)
    rig.pf.set_vf_spoofchk(9, on=False)
    assert (rig.programmed(9).mac_anti_spoof, rig.programmed(9).vlan_anti_spoof) == (False, False)
    assert (rig.programmed(8).mac_anti_spoof, rig.programmed(8).vlan_anti_spoof) == (True, True)
    rig.pf.set_vf_spoofchk(9, on=True)
    assert rig.programmed(9).mac_anti_spoof


def test_ethertype_anti_spoofing_is_an_x550s() -> None:
    """``ixgbe_ndo_set_vf_spoofchk()``: ETQF for LLDP and pause frames, and a third octet of PFVFSPOOF."""
    assert Rig(mac_type=MacType.X550).hw.peek(pf.PFVFSPOOF.offset) == 0x0F0F0F
    assert Rig().hw.peek(pf.PFVFSPOOF.offset) == 0x0F0F


def test_vmecm_only_counts_spoofed_frames() -> None:
    """``ixgbe_vf_reset_msg()`` sets it whatever the spoof check is."""
    rig = Rig()
    rig.pf.set_vf_spoofchk(0, on=False)
    rig.ask(0, Id.RESET)
    now = rig.programmed(0)
    assert (now.count_spoofed, now.mac_anti_spoof) == (True, False)


def test_link_state_enable_succeeds_and_changes_nothing() -> None:
    """``ixgbe_ndo_set_vf_link_state()``: logged as "not supported", returns 0."""
    rig = Rig()
    rig.handshake(0)
    before = rig.programmed(0), rig.pf.get_vf_config(0)
    rig.pf.set_vf_link_state(0, LinkState.ENABLE)
    assert (rig.programmed(0), rig.pf.get_vf_config(0)) == before
    assert rig.pf.vfinfo[0].clear_to_send


def test_link_state_disable_stops_the_pool_and_costs_the_vf_its_session() -> None:
    """``ixgbe_set_vf_link_state()``: VFTE and VFRE, clear_to_send, a ping without CTS."""
    rig = Rig()
    driver = rig.guest(0)
    rig.advance(60)
    rig.pf.set_vf_link_state(0, LinkState.DISABLE)
    now = rig.programmed(0)
    assert (now.receive, now.transmit, rig.pf.vfinfo[0].clear_to_send) == (False, False, False)
    resets = driver.resets
    rig.service(driver)
    assert (driver.resets, flows(driver)) == (resets + 1, False)
    assert not rig.programmed(0).transmit
    rig.advance(60)
    rig.pf.set_vf_link_state(0, LinkState.AUTO)
    rig.service(driver)
    assert flows(driver)


def test_set_lpe_lets_a_disabled_vf_receive_again() -> None:
    """``ixgbe_set_vf_lpe()`` sets VFRE on an 82599 without a look at ``link_enable``."""
    rig = Rig()
    rig.pf.set_vf_link_state(0, LinkState.DISABLE)
    rig.handshake(0)
    assert not rig.programmed(0).receive
    rig.ask(0, Id.SET_LPE, STANDARD)
    assert (rig.programmed(0).receive, rig.programmed(0).transmit) == (True, False)


@pytest.mark.parametrize(
    ("mac_type", "allowed"), [(MacType.MAC_82599EB, True), (MacType.X540, True), (MacType.X550, False)]
)
def test_rss_query_is_only_for_controllers_whose_vfs_share_the_table(mac_type: MacType, allowed: bool) -> None:
    """``ixgbe_ndo_set_vf_rss_query_en()``: EOPNOTSUPP from the X550 on."""
    rig = Rig(mac_type=mac_type)
    if allowed:
        rig.pf.set_vf_rss_query_en(0, on=True)
        assert rig.pf.get_vf_config(0).rss_query_en
        return
    with pytest.raises(DriverError) as why:
        rig.pf.set_vf_rss_query_en(0, on=True)
    assert why.value.errno == errno.EOPNOTSUPP


def test_trust_costs_a_running_vf_one_reset() -> None:
    """``ixgbe_ndo_set_vf_trust()``: clear_to_send, and a ping without CTS."""
    rig = Rig()
    driver = rig.guest(0)
    rig.advance(60)
    resets = driver.resets
    rig.pf.set_vf_trust(0, on=True)
    assert not rig.pf.vfinfo[0].clear_to_send
    rig.service(driver)
    assert driver.resets == resets + 1
    assert flows(driver)


def test_trust_that_is_so_already_does_nothing() -> None:
    """``ixgbe_ndo_set_vf_trust()`` returns early."""
    rig = Rig()
    rig.pf.set_vf_trust(0, on=True)
    rig.handshake(0)
    rig.pf.set_vf_trust(0, on=True)
    assert rig.pf.vfinfo[0].clear_to_send


@pytest.mark.parametrize("vf", [-1, 4, 64])
def test_no_such_vf(vf: int) -> None:
    """Every operation: EINVAL."""
    rig = Rig()
    acts: tuple[Callable[[], None], ...] = (
        lambda: rig.pf.set_vf_mac(vf, ADMIN_MAC),
        lambda: rig.pf.set_vf_vlan(vf, 1),
        lambda: rig.pf.set_vf_rate(vf, 100),
        lambda: rig.pf.set_vf_spoofchk(vf, on=True),
        lambda: rig.pf.set_vf_link_state(vf, LinkState.AUTO),
        lambda: rig.pf.set_vf_rss_query_en(vf, on=True),
        lambda: rig.pf.set_vf_trust(vf, on=True),
        lambda: rig.pf.ping_vf(vf),
    )
    for act in acts:
        with pytest.raises(DriverError) as why:
            act()
        assert why.value.errno == errno.EINVAL


# --- the jumbo rule

STANDARD, JUMBO = 1518, 9018


@pytest.mark.parametrize(
    ("pf_mtu", "api", "max_frame", "granted"),
    [
        (1500, Api.V1_0, STANDARD, True),
        (1500, Api.V1_0, JUMBO, False),
        (1500, Api.V1_4, STANDARD, True),
        (1500, Api.V1_1, JUMBO, False),
        (9000, Api.V1_0, STANDARD, False),
        (9000, Api.V1_0, JUMBO, False),
        (9000, Api.V1_1, STANDARD, True),
        (9000, Api.V1_1, JUMBO, True),
        (9000, Api.V1_4, JUMBO, True),
    ],
)
def test_jumbo_rule_of_the_82599(pf_mtu: int, api: Api, max_frame: int, granted: bool) -> None:
    """``ixgbe_set_vf_lpe()``: the answer, and VFRE with it."""
    rig = Rig(mtu=pf_mtu)
    rig.handshake(0, api)
    assert answer(rig.ask(0, Id.SET_LPE, max_frame)) == (ACK if granted else NACK)
    assert rig.programmed(0).receive == granted
    assert rig.programmed(0).transmit


def test_under_a_jumbo_pf_receive_stays_off_until_set_lpe() -> None:
    """``ixgbe_set_vf_rx_tx()``, ``ixgbe_set_vf_lpe()``."""
    rig = Rig(mtu=9000)
    rig.handshake(0)
    assert (rig.programmed(0).receive, rig.programmed(0).transmit) == (False, True)
    rig.ask(0, Id.SET_LPE, STANDARD)
    assert rig.programmed(0).receive


def test_the_jumbo_rule_counts_the_fcs_for_the_vf_and_not_for_the_pf() -> None:
    """``ixgbe_set_vf_lpe()``: 1518 octets of a VF are standard; a PF is jumbo from an MTU of 1501 on."""
    for mtu, max_frame, granted in ((1500, 1518, True), (1500, 1519, False), (1501, 1519, True)):
        rig = Rig(mtu=mtu)
        rig.handshake(0)
        assert answer(rig.ask(0, Id.SET_LPE, max_frame)) == (ACK if granted else NACK)


def test_an_x540_has_no_jumbo_rule() -> None:
    """``ixgbe_set_vf_lpe()``, ``ixgbe_set_vf_rx_tx()``."""
    rig = Rig(mac_type=MacType.X540)
    rig.handshake(0, Api.V1_0)
    assert answer(rig.ask(0, Id.SET_LPE, JUMBO)) == ACK
    rig.pf.set_mtu(9000)
    rig.handshake(0, Api.V1_0)
    assert rig.programmed(0).receive
