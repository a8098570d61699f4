# SPDX-License-Identifier: Apache-2.0
"""The PF driver: SR-IOV on and off, the messages of a VF, its own addresses, counters and link."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from tests.ixgbe.driver_rig import ADMIN_MAC, GROUP, OTHER_MAC, PF_MAC, Api, LinkState, Rig, flows
from vferry.nic.ixgbe.messages import ACK, CTS, NACK, Id, XcastMode, mac_words, pack_hashes, word0
from vferry.nic.ixgbe.pf_driver import DriverError, VfStats
from vferry.nic.ixgbe.pf_driver.multicast import mta_vector
from vferry.nic.ixgbe.registers import pf


def answer(words: list[int]) -> int:
    """ACK or NACK."""
    return words[0] & (ACK | NACK)


def denied(code: int, why: pytest.ExceptionInfo[DriverError]) -> bool:
    return why.value.errno == code


# --- enabling


def test_defaults_of_a_new_vf() -> None:
    rig = Rig()
    info = rig.pf.vfinfo[0]
    assert (info.spoofchk_enabled, info.link_enable, info.rss_query_enabled, info.trusted) == (True, True, False, False)
    assert (info.xcast_mode, info.vf_mac_addresses, info.clear_to_send) == (XcastMode.NONE, bytes(6), False)
    assert rig.hw.peek(pf.PFDTXGSWC.offset) == pf.PFDTXGSWC_VT_LBEN  # VEB
    assert rig.programmed(0).mac_anti_spoof
    assert rig.programmed(0).vlan_anti_spoof


@pytest.mark.parametrize(
    ("num_vfs", "queues", "mrqc", "mode"),
    [
        (1, 4, pf.MRQC_VMDQRSS32EN, pf.GCR_EXT_VT_MODE_32),
        (31, 4, pf.MRQC_VMDQRSS32EN, pf.GCR_EXT_VT_MODE_32),
        (32, 2, pf.MRQC_VMDQRSS64EN, pf.GCR_EXT_VT_MODE_64),
        (63, 2, pf.MRQC_VMDQRSS64EN, pf.GCR_EXT_VT_MODE_64),
    ],
)
def test_pools_and_queues_follow_the_number_of_vfs(num_vfs: int, queues: int, mrqc: int, mode: int) -> None:
    rig = Rig(num_vfs=num_vfs)
    rig.handshake(num_vfs - 1)
    assert rig.ask(num_vfs - 1, Id.GET_QUEUES)[1:5] == [queues, queues, 0, 0]
    assert rig.hw.peek(pf.MRQC.offset) & pf.MRQC_MRQE_MASK == mrqc
    assert rig.hw.peek(pf.GCR_EXT.offset) & pf.GCR_EXT_VT_MODE_MASK == mode
    control = rig.hw.peek(pf.VT_CTL.offset)
    assert (control & pf.VT_CTL_POOL_MASK) >> pf.VT_CTL_POOL_SHIFT == num_vfs
    assert rig.hw.peek(pf.MPSAR_LO.offset) | rig.hw.peek(pf.MPSAR_HI.offset) << 32 == 1 << num_vfs


def test_the_pfs_pool_and_those_behind_it_are_enabled() -> None:
    rig = Rig(num_vfs=33)
    rig.pf.down()
    rig.pf.up()
    for vf in range(33):
        rig.hw.flr(vf)
    assert [rig.hw.peek(offset) for offset in pf.VFRE.addresses] == [0, 0xFFFFFFFE]


def test_64_vfs_leave_the_pf_no_pool() -> None:
    with pytest.raises(DriverError) as why:
        Rig(num_vfs=64)
    assert denied(errno.EPERM, why)


def test_disabling_sriov_takes_all_vfs_away() -> None:
    rig = Rig()
    rig.pf.disable_sriov()
    assert rig.pf.num_vfs == 0
    assert rig.hw.peek(pf.VT_CTL.offset) == 0
    with pytest.raises(DriverError) as why:
        rig.pf.get_vf_config(0)
    assert denied(errno.EINVAL, why)


def test_enabling_the_same_number_changes_nothing() -> None:
    rig = Rig()
    rig.pf.set_vf_mac(1, ADMIN_MAC)
    rig.pf.enable_sriov(4)
    assert rig.pf.get_vf_config(1).mac == ADMIN_MAC


def test_mac_address_of_the_pf_is_the_permanent_one() -> None:
    assert Rig().pf.mac == PF_MAC


# --- messages


def test_reset_is_answered_in_four_words_with_the_assigned_address_and_the_filter_type() -> None:
    rig = Rig()
    rig.pf.set_vf_mac(0, ADMIN_MAC)
    assert rig.ask(0, Id.RESET)[:4] == [Id.RESET | ACK, *mac_words(ADMIN_MAC), 0]


def test_reset_is_nacked_and_still_opens_the_session_where_no_address_is_assigned() -> None:
    rig = Rig()
    assert rig.ask(0, Id.RESET)[:4] == [Id.RESET | NACK, 0, 0, 0]
    assert rig.pf.vfinfo[0].clear_to_send


def test_reset_enables_the_pool_and_counts_spoofed_frames() -> None:
    rig = Rig()
    rig.hw.flr(0)
    assert not rig.programmed(0).receive
    rig.ask(0, Id.RESET)
    now = rig.programmed(0)
    assert (now.receive, now.transmit, now.count_spoofed, now.broadcast, now.untagged) == (True,) * 5


def test_reset_zeroes_the_head_write_back_addresses() -> None:
    rig = Rig()
    for register in (pf.PVFTDWBAL, pf.PVFTDWBAH):
        rig.hw.write(register.address(0), 0x1234)
    rig.ask(0, Id.RESET)
    assert rig.hw.peek(pf.PVFTDWBAL.address(0)) == rig.hw.peek(pf.PVFTDWBAH.address(0)) == 0


def test_reset_sets_drop_enable_and_hides_the_tag_of_a_port_vlan() -> None:
    rig = Rig()
    rig.ask(0, Id.RESET)
    rig.pf.set_vf_vlan(1, 100)
    rig.ask(1, Id.RESET)
    drop = [rig.hw.peek(pf.QUEUE_DROP.address(queue)) for queue in range(12)]
    assert drop == [pf.QDE_ENABLE] * 4 + [pf.QDE_ENABLE | pf.QDE_HIDE_VLAN] * 4 + [0] * 4


def test_reset_with_msginfo_is_no_reset() -> None:
    """``ixgbe_rcv_msg_from_vf()`` compares the whole word."""
    rig = Rig()
    assert rig.ask(0, word0(Id.RESET, 1))[0] == word0(Id.RESET, 1) | NACK
    assert not rig.pf.vfinfo[0].clear_to_send


def test_before_reset_every_message_is_nacked_in_one_word_without_cts() -> None:
    rig = Rig()
    assert rig.ask(0, Id.API_NEGOTIATE, Api.V1_4)[0] == Id.API_NEGOTIATE | NACK


def test_replies_echo_all_words_with_cts() -> None:
    rig = Rig()
    rig.handshake(0)
    words = rig.ask(0, word0(Id.SET_VLAN, 1), 100, 0xDEAD)
    assert words[:3] == [word0(Id.SET_VLAN, 1) | ACK | CTS, 100, 0xDEAD]


@pytest.mark.parametrize("flag", [ACK, NACK])
def test_a_message_that_carries_an_answer_is_ignored(flag: int) -> None:
    rig = Rig()
    rig.handshake(0)
    assert rig.ask(0, word0(Id.SET_VLAN, 1) | flag, 100)[0] == word0(Id.SET_VLAN, 1) | flag
    assert rig.programmed(0).vlans == (0,)


@pytest.mark.parametrize("api", [Api.V2_0, Api.V1_5, Api.V1_6, Api.V1_7, 9, 0xFFFFFFFF])
def test_unknown_api_versions_are_nacked_not_ignored(api: int) -> None:
    rig = Rig()
    rig.handshake(0, Api.V1_1)
    assert rig.ask(0, Id.API_NEGOTIATE, api)[0] == Id.API_NEGOTIATE | NACK | CTS
    assert rig.pf.vfinfo[0].vf_api == Api.V1_1


@pytest.mark.parametrize("ident", [0x00, 0x07, 0x0F, Id.GET_PF_LINK_STATE, Id.FEATURES_NEGOTIATE, Id.RESUME, 0xFFFF])
def test_unknown_ids_are_nacked(ident: int) -> None:
    rig = Rig()
    rig.handshake(0)
    assert rig.ask(0, ident)[0] == ident | NACK | CTS


@pytest.mark.parametrize("ident", [Id.IPSEC_ADD, Id.IPSEC_DEL])
@pytest.mark.parametrize("trusted", [False, True])
def test_ipsec_needs_trust_and_a_private_flag_that_is_off(ident: int, trusted: bool) -> None:
    """``ixgbe_ipsec.c``, ``ixgbe_ipsec_vf_add_sa()``."""
    rig = Rig()
    rig.pf.set_vf_trust(0, on=trusted)
    rig.handshake(0)
    assert answer(rig.ask(0, ident)) == NACK


def test_set_mac_addr_moves_the_filter() -> None:
    rig = Rig()
    rig.handshake(0)
    assert answer(rig.ask(0, Id.SET_MAC_ADDR, *mac_words(ADMIN_MAC))) == ACK
    assert answer(rig.ask(0, Id.SET_MAC_ADDR, *mac_words(OTHER_MAC))) == ACK
    assert rig.programmed(0).macs == (OTHER_MAC,)


@pytest.mark.parametrize("mac", [bytes(6), GROUP, b"\xff" * 6])
def test_set_mac_addr_refuses_what_is_no_unicast_address(mac: bytes) -> None:
    rig = Rig()
    rig.handshake(0)
    assert answer(rig.ask(0, Id.SET_MAC_ADDR, *mac_words(mac))) == NACK


@pytest.mark.parametrize(
    ("trusted", "mac", "expected"), [(False, OTHER_MAC, NACK), (False, ADMIN_MAC, ACK), (True, OTHER_MAC, ACK)]
)
def test_set_mac_addr_against_an_administrators_address(trusted: bool, mac: bytes, expected: int) -> None:
    rig = Rig()
    rig.pf.set_vf_mac(0, ADMIN_MAC)
    rig.pf.set_vf_trust(0, on=trusted)
    rig.handshake(0)
    assert answer(rig.ask(0, Id.SET_MAC_ADDR, *mac_words(mac))) == expected


def test_set_multicast_sets_hash_bits_and_rompe() -> None:
    rig = Rig()
    rig.handshake(0)
    value = mta_vector(GROUP)
    assert answer(rig.ask(0, word0(Id.SET_MULTICAST, 1), *pack_hashes([value]))) == ACK
    assert rig.hw.peek(pf.MTA.address(value >> 5)) >> (value & 31) & 1
    assert rig.programmed(0).hashed_multicast


def test_set_multicast_takes_thirty_hashes_at_most() -> None:
    rig = Rig()
    rig.handshake(0)
    rig.ask(0, word0(Id.SET_MULTICAST, 255), *pack_hashes(range(30)))
    assert rig.pf.session(0).mc_hashes == tuple(range(30))


def test_set_vlan_adds_and_removes() -> None:
    rig = Rig()
    rig.handshake(0)
    rig.ask(0, word0(Id.SET_VLAN, 1), 100)
    assert rig.programmed(0).vlans == (0, 100)
    assert rig.hw.peek(pf.VFTA.address(3)) == 1 << 4
    rig.ask(0, word0(Id.SET_VLAN, 0), 100)
    assert rig.programmed(0).vlans == (0,)
    assert rig.hw.peek(pf.VFTA.address(3)) == 0


def test_set_vlan_leaves_the_entry_to_other_pools() -> None:
    rig = Rig(num_vfs=40)
    for vf in (0, 39):
        rig.handshake(vf)
        rig.ask(vf, word0(Id.SET_VLAN, 1), 100)
    rig.ask(0, word0(Id.SET_VLAN, 0), 100)
    assert (rig.programmed(0).vlans, rig.programmed(39).vlans) == ((0,), (0, 100))
    assert rig.hw.peek(pf.VFTA.address(3)) == 1 << 4
    rig.hw.flr(39)
    assert rig.hw.peek(pf.VFTA.address(3)) == 0


def test_leaving_vlan_0_is_granted_and_not_done() -> None:
    rig = Rig()
    rig.handshake(0)
    assert answer(rig.ask(0, word0(Id.SET_VLAN, 0), 0)) == ACK
    assert rig.programmed(0).vlans == (0,)


def test_set_vlan_is_refused_under_a_port_vlan() -> None:
    rig = Rig()
    rig.pf.set_vf_vlan(0, 100)
    rig.handshake(0)
    assert answer(rig.ask(0, word0(Id.SET_VLAN, 1), 200)) == NACK
    assert rig.programmed(0).vlans == (100,)


def test_the_64_vlan_entries_are_shared_and_one_is_vlan_0s() -> None:
    rig = Rig()
    rig.handshake(0)
    rig.handshake(1)
    answers = [answer(rig.ask(0, word0(Id.SET_VLAN, 1), vid)) for vid in range(1, 65)]
    assert answers == [ACK] * 63 + [NACK]
    assert answer(rig.ask(1, word0(Id.SET_VLAN, 1), 64)) == NACK
    assert answer(rig.ask(1, word0(Id.SET_VLAN, 1), 63)) == ACK


def macvlan(rig: Rig, vf: int, index: int, number: int) -> int:
    return answer(rig.ask(vf, word0(Id.SET_MACVLAN, index), *mac_words(bytes([2, 0xBB, 0, 0, 0, number]))))


def test_macvlan_index_1_starts_a_new_list_and_0_clears_it() -> None:
    rig = Rig()
    rig.handshake(0)
    assert [macvlan(rig, 0, index, index) for index in (1, 2, 3)] == [ACK] * 3
    assert len(rig.programmed(0).macs) == 3
    assert macvlan(rig, 0, 1, 9) == ACK
    assert rig.programmed(0).macs == (bytes.fromhex("02bb00000009"),)
    assert macvlan(rig, 0, 0, 0) == ACK
    assert rig.programmed(0).macs == ()


def test_macvlan_is_refused_under_an_administrators_address_unless_trusted() -> None:
    rig = Rig()
    rig.pf.set_vf_mac(0, ADMIN_MAC)
    rig.handshake(0)
    assert macvlan(rig, 0, 1, 1) == NACK
    assert macvlan(rig, 0, 0, 0) == ACK  # clearing is always granted
    rig.pf.set_vf_trust(0, on=True)
    rig.handshake(0)
    assert macvlan(rig, 0, 1, 1) == ACK


def test_macvlan_slots_are_receive_addresses_less_fifteen_less_one_for_each_function() -> None:
    rig = Rig(num_vfs=63)
    rig.handshake(0)
    answers = [macvlan(rig, 0, index, index) for index in range(1, 51)]
    assert answers == [ACK] * 49 + [NACK]  # 128 - (15 + 1 + 63)


def test_get_queues_needs_api_1_1() -> None:
    rig = Rig()
    rig.ask(0, Id.RESET)
    assert answer(rig.ask(0, Id.GET_QUEUES)) == NACK
    rig.handshake(0, Api.V1_1)
    assert answer(rig.ask(0, Id.GET_QUEUES)) == ACK


@pytest.mark.parametrize(("vlan", "qos", "hidden"), [(0, 0, 0), (100, 0, 1), (0, 3, 1)])
def test_get_queues_tells_of_a_hidden_tag(vlan: int, qos: int, hidden: int) -> None:
    rig = Rig()
    rig.pf.set_vf_vlan(0, vlan, qos)
    rig.handshake(0)
    assert rig.ask(0, Id.GET_QUEUES)[3] == hidden


@pytest.mark.parametrize("ident", [Id.GET_RETA, Id.GET_RSS_KEY])
def test_rss_query_needs_the_administrators_leave_and_api_1_2(ident: int) -> None:
    rig = Rig()
    rig.handshake(0)
    assert answer(rig.ask(0, ident)) == NACK
    rig.pf.set_vf_rss_query_en(0, on=True)
    assert answer(rig.ask(0, ident)) == ACK
    rig.handshake(0, Api.V1_1)
    assert answer(rig.ask(0, ident)) == NACK


def test_rss_table_is_packed_in_two_bits_an_entry_and_the_key_is_the_ports() -> None:
    rig = Rig()
    for offset in pf.RETA.addresses:
        rig.hw.write(offset, 0)
    rig.hw.write(pf.RETA.address(0), 0x03020100)
    rig.hw.write(pf.RETA.address(31), 0x01000000)
    rig.hw.write(pf.RSSRK.address(9), 0xCAFE)
    rig.pf.set_vf_rss_query_en(0, on=True)
    rig.handshake(0)
    words = rig.ask(0, Id.GET_RETA)
    assert (words[1], words[8]) == (0b11100100, 1 << 30)
    assert rig.ask(0, Id.GET_RSS_KEY)[10] == 0xCAFE


@pytest.mark.parametrize(
    ("trusted", "asked", "granted"),
    [
        (False, XcastMode.NONE, XcastMode.NONE),
        (False, XcastMode.MULTI, XcastMode.MULTI),
        (False, XcastMode.ALLMULTI, XcastMode.MULTI),
        (False, XcastMode.PROMISC, XcastMode.MULTI),
        (True, XcastMode.ALLMULTI, XcastMode.ALLMULTI),
    ],
)
def test_xcast_mode_is_cut_to_multi_without_trust(trusted: bool, asked: int, granted: int) -> None:
    rig = Rig()
    rig.pf.set_vf_trust(0, on=trusted)
    rig.handshake(0)
    words = rig.ask(0, Id.UPDATE_XCAST_MODE, asked)
    assert (answer(words), words[1]) == (ACK, granted)
    now = rig.programmed(0)
    assert now.hashed_multicast == (granted >= XcastMode.MULTI)
    assert now.all_multicast == (granted >= XcastMode.ALLMULTI)


@pytest.mark.parametrize(("mode", "api"), [(XcastMode.PROMISC, Api.V1_4), (4, Api.V1_4), (XcastMode.MULTI, Api.V1_1)])
def test_xcast_modes_that_are_refused(mode: int, api: Api) -> None:
    """PROMISC on an 82599, an unknown mode, any mode before API 1.2."""
    rig = Rig()
    rig.pf.set_vf_trust(0, on=True)
    rig.handshake(0, api)
    assert answer(rig.ask(0, Id.UPDATE_XCAST_MODE, mode)) == NACK


def test_promisc_of_an_untrusted_vf_needs_api_1_3_and_is_cut_to_multi_then() -> None:
    """``ixgbe_update_vf_xcast_mode()``: the version is looked at before trust."""
    rig = Rig()
    rig.handshake(0, Api.V1_2)
    assert answer(rig.ask(0, Id.UPDATE_XCAST_MODE, XcastMode.PROMISC)) == NACK
    assert not rig.programmed(0).hashed_multicast
    rig.handshake(0, Api.V1_3)
    words = rig.ask(0, Id.UPDATE_XCAST_MODE, XcastMode.PROMISC)
    assert (answer(words), words[1]) == (ACK, XcastMode.MULTI)
    assert rig.programmed(0).hashed_multicast


def test_get_link_state_tells_what_the_administrator_set() -> None:
    rig = Rig()
    rig.handshake(0)
    assert rig.ask(0, Id.GET_LINK_STATE)[1] == 1
    rig.pf.set_vf_link_state(0, LinkState.DISABLE)
    rig.handshake(0)
    assert rig.ask(0, Id.GET_LINK_STATE)[1] == 0
    rig.handshake(0, Api.V1_1)
    assert answer(rig.ask(0, Id.GET_LINK_STATE)) == NACK


def test_maxfrs_is_raised_by_vfs_and_never_lowered() -> None:
    rig = Rig(mtu=9000)
    rig.handshake(0)
    for octets, expected in ((9500, 9500), (1518, 9500)):
        assert answer(rig.ask(0, Id.SET_LPE, octets)) == ACK
        assert rig.hw.peek(pf.MAXFRS.offset) >> 16 == expected


@pytest.mark.parametrize("octets", [67, 9729, 0])
def test_frame_sizes_out_of_range_are_refused(octets: int) -> None:
    rig = Rig()
    rig.handshake(0)
    assert answer(rig.ask(0, Id.SET_LPE, octets)) == NACK
    assert rig.programmed(0).receive


def test_a_reset_comes_before_the_message_of_the_same_vf() -> None:
    """``ixgbe_msg_task()``: rst, msg, ack."""
    rig = Rig()
    rig.handshake(0)
    rig.hw.write(pf.EIMC.offset, pf.EICR_MAILBOX)
    rig.hw.flr(0)
    rig.ask(0, word0(Id.SET_VLAN, 1), 100)
    rig.hw.write(pf.EIMS.offset, pf.EICR_MAILBOX)
    assert rig.programmed(0).vlans == (0, 100)


def test_what_the_pf_sends_drops_a_message_it_has_not_seen() -> None:
    """``ixgbe_mbx.c``, ``ixgbe_write_mbx_pf()``: "flush msg and acks as we are overwriting the message buffer"."""
    rig = Rig()
    rig.handshake(0)
    rig.hw.write(pf.EIMC.offset, pf.EICR_MAILBOX)
    rig.ask(0, word0(Id.SET_VLAN, 1), 100)
    rig.pf.ping_vf(0)
    rig.hw.write(pf.EIMS.offset, pf.EICR_MAILBOX)
    assert rig.programmed(0).vlans == (0,)
    assert rig.buffer(0)[0] == Id.PF_CONTROL_MSG | CTS


# --- pings and link


def test_ping_tells_whether_the_session_is_whole() -> None:
    rig = Rig()
    rig.handshake(0)
    rig.pf.ping_all_vfs()
    assert [rig.buffer(vf)[0] for vf in (0, 1)] == [Id.PF_CONTROL_MSG | CTS, Id.PF_CONTROL_MSG]


def test_a_change_of_the_link_is_told_to_all_vfs() -> None:
    rig = Rig()
    rig.handshake(0)
    rig.hw.set_link(False)
    assert rig.buffer(0)[0] == Id.PF_CONTROL_MSG | CTS


def test_pf_down_stops_its_vfs_and_up_lets_them_reset() -> None:
    rig = Rig()
    driver = rig.guest(0)
    rig.advance(60)
    rig.pf.down()
    assert (rig.programmed(0).receive, rig.pf.vfinfo[0].clear_to_send) == (False, False)
    rig.ticks(driver, 1)
    assert not flows(driver)
    rig.pf.up()
    # The reset of the port took the VF's interrupt vectors, so only its timer is left: one run to take the notice,
    # one to see the NACK that its acknowledgement brings, one to reset.
    rig.ticks(driver, 2)
    assert not flows(driver)
    rig.ticks(driver, 1)
    assert flows(driver)
    assert rig.pf.vfinfo[0].clear_to_send


@pytest.mark.parametrize("mtu", [67, 9711])
def test_mtu_out_of_range(mtu: int) -> None:
    with pytest.raises(DriverError) as why:
        Rig().pf.set_mtu(mtu)
    assert denied(errno.EINVAL, why)


def test_mtu_sets_the_ports_frame_size_both_ways_and_resets_every_vf() -> None:
    rig = Rig()
    rig.handshake(0)
    rig.pf.set_mtu(9000)
    assert rig.hw.peek(pf.MAXFRS.offset) >> 16 == 9018
    assert not rig.pf.vfinfo[0].clear_to_send
    rig.pf.set_mtu(1500)
    assert rig.hw.peek(pf.MAXFRS.offset) >> 16 == 1518


# --- the PF's own addresses


def test_fdb_leads_further_addresses_to_the_pfs_pool_also_after_a_reset_of_the_port() -> None:
    rig = Rig()
    rig.pf.add_fdb(OTHER_MAC)
    for _ in range(2):
        assert rig.pf.fdb() == (OTHER_MAC,)
        assert rig.hw.peek(pf.MPSAR_LO.address(1)) == 1 << 4
        rig.pf.set_mtu(1400)
    rig.pf.remove_fdb(OTHER_MAC)
    assert rig.hw.peek(pf.RAH.address(1)) == 0
    assert rig.hw.peek(pf.MPSAR_LO.address(1)) == 0


@pytest.mark.parametrize(("mac", "code"), [(OTHER_MAC, errno.EEXIST), (GROUP, errno.EINVAL), (bytes(6), errno.EINVAL)])
def test_fdb_refuses(mac: bytes, code: int) -> None:
    rig = Rig()
    rig.pf.add_fdb(OTHER_MAC)
    with pytest.raises(DriverError) as why:
        rig.pf.add_fdb(mac)
    assert denied(code, why)
    with pytest.raises(DriverError) as why:
        rig.pf.remove_fdb(ADMIN_MAC)
    assert denied(errno.ENOENT, why)


# --- counters


def test_counters_go_on_over_resets_of_vf_and_port_and_over_a_wrap() -> None:
    rig = Rig()
    rig.hw.sinks[0] = lambda _frame: None
    rig.pf.set_vf_mac(0, ADMIN_MAC)
    rig.handshake(0)
    frame = ADMIN_MAC + OTHER_MAC + b"\x08\x00" + bytes(46)
    resets: tuple[Callable[[], None], ...] = (lambda: rig.hw.flr(0), lambda: rig.pf.set_mtu(1400), lambda: None)
    for reset in resets:
        rig.hw.receive(frame)
        reset()
        rig.handshake(0)
    assert rig.pf.get_vf_stats(0) == VfStats(gprc=3, gorc=3 * 64)


def test_totals_from_elsewhere_are_gone_on_from() -> None:
    rig = Rig()
    rig.hw.sinks[0] = lambda _frame: None
    rig.pf.set_vf_mac(0, ADMIN_MAC)
    rig.handshake(0)
    frame = ADMIN_MAC + OTHER_MAC + b"\x08\x00" + bytes(46)
    rig.hw.receive(frame)
    rig.pf.load_vf_stats(0, VfStats(gprc=1000, gorc=10**9))
    rig.hw.receive(frame)
    assert rig.pf.get_vf_stats(0) == VfStats(gprc=1001, gorc=10**9 + 64)
