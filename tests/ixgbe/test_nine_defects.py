# SPDX-License-Identifier: Apache-2.0
"""Why a copy of the PF driver's table is no migration: nine defects, each shown against the driver's behaviour.

The 2015 series ("IXGBE: Add sysfs interface for Qemu to migrate VF status in the PF driver") read ``vfinfo[vf]`` on
the source and wrote it over ``vfinfo[vf]`` on the destination. :func:`memcpy_vfinfo` does just that: it is the
negative control, and exists only here. Where there is a sound way, the same test shows that it holds.
Functions are of ``drivers/net/ethernet/intel/ixgbe/ixgbe_sriov.c`` (Linux 6.12) unless a test says otherwise.
"""

from __future__ import annotations

import struct

import pytest

from tests.ixgbe.driver_rig import ADMIN_MAC, GROUP, MPE, OTHER_MAC, ROMPE, Api, Rig
from tests.ixgbe.nic_rig import Host
from vferry.nic.ixgbe import device_state, tlv
from vferry.nic.ixgbe.carrier import IxgbeCarrier
from vferry.nic.ixgbe.messages import ACK, CTS, NACK, Id, XcastMode, mac_words, pack_hashes, word0
from vferry.nic.ixgbe.pf_driver import DriverError, PfDriver, VfSession
from vferry.nic.ixgbe.pf_driver.multicast import mta_vector
from vferry.ports.carrier import BadStateError


def memcpy_vfinfo(source: PfDriver, destination: PfDriver, vf: int) -> None:
    """Copy the whole record, and touch no hardware."""
    destination.vfinfo[vf] = source.vfinfo[vf].copy()


def busy_source() -> Rig:
    """A source whose VF 0 has every kind of state."""
    rig = Rig(host="a")
    rig.pf.set_vf_trust(0, on=True)
    rig.handshake(0)
    rig.ask(0, Id.UPDATE_XCAST_MODE, XcastMode.ALLMULTI)
    rig.ask(0, word0(Id.SET_MULTICAST, 1), *pack_hashes([mta_vector(GROUP)]))
    rig.ask(0, Id.SET_MAC_ADDR, *mac_words(ADMIN_MAC))
    rig.ask(0, word0(Id.SET_VLAN, 1), 100)
    rig.ask(0, word0(Id.SET_MACVLAN, 1), *mac_words(OTHER_MAC))
    return rig


def copied(source: Rig) -> Rig:
    destination = Rig(host="b")
    memcpy_vfinfo(source.pf, destination.pf, 0)
    return destination


def loaded(source: Rig) -> Rig:
    """The sound way: settings by setters, the session by operations."""
    destination = Rig(host="b")
    destination.pf.set_vf_trust(0, on=True)
    destination.pf.load_session(0, source.pf.session(0))
    return destination


# The record as of about Linux 3.9 and 4.1 (x86-64): MAC, 30 hashes and their number, default VLAN, VLANs on, clear to
# send, pf_set_mac, VLAN, priority, rate, VLAN count, spoof check, [RSS query, where there had been padding], API.
LAYOUT_3_9 = struct.Struct("<6s30H3H??4HBxI")
LAYOUT_4_1 = struct.Struct("<6s30H3H??4HB?I")


def test_defect_1_the_layout_is_not_an_interface_and_its_size_tells_nothing() -> None:
    """``ixgbe.h``, ``struct vf_data_storage``: of the same size, and a setting of the newer one is silently lost."""
    fields = (ADMIN_MAC, *(0,) * 33, True, True, 100, 0, 0, 0, 1)
    with_rss_query, without = (LAYOUT_4_1.pack(*fields, allowed, Api.V1_1) for allowed in (True, False))
    assert LAYOUT_3_9.size == LAYOUT_4_1.size == 88
    assert LAYOUT_3_9.unpack(with_rss_query) == LAYOUT_3_9.unpack(without) == (*fields, Api.V1_1)


def test_defect_1_does_not_hit_a_saved_state_that_says_its_version_and_its_entries_lengths() -> None:
    """Another version, and a session entry that is longer than this one knows, are refused before a field is read."""
    host = Host()
    host.guest(1)
    carrier = IxgbeCarrier(host.nic)
    carrier.stop("eth0", 1)
    state = carrier.save("eth0", 1, session=True)
    assert device_state.decode(state).session == host.software.driver.session(1)
    newer = bytearray(state)
    struct.pack_into("<H", newer, len(tlv.MAGIC), tlv.VERSION + 1)
    with pytest.raises(BadStateError, match="version 2; version 1 is known"):
        device_state.decode(bytes(newer))
    entries = tlv.decode(state, range(1, 10))
    entries[device_state.SESSION] += b"\x01"  # a setting of a newer version, behind all others
    longer = tlv.encode(tlv.Tlv(kind, data) for kind, data in sorted(entries.items()))
    with pytest.raises(BadStateError, match="session"):
        device_state.decode(longer)


def test_defect_1_a_copy_imports_a_pointer_of_another_host() -> None:
    """``struct vf_data_storage``: ``vfdev`` is its first member since about Linux 4.6."""
    source = busy_source()
    assert copied(source).pf.vfinfo[0].vfdev == "a/vf0"
    assert loaded(source).pf.vfinfo[0].vfdev == "b/vf0"


def test_defect_2_the_copied_xcast_mode_keeps_the_hardware_from_being_programmed() -> None:
    """``ixgbe_update_vf_xcast_mode()`` returns early: the VF asks, is told yes, and gets no multicast."""
    destination = copied(busy_source())
    words = destination.ask(0, Id.UPDATE_XCAST_MODE, XcastMode.ALLMULTI)
    assert (words[0], words[1]) == (Id.UPDATE_XCAST_MODE | ACK | CTS, XcastMode.ALLMULTI)
    assert not destination.programmed(0).vmolr & (MPE | ROMPE)


def test_defect_2_does_not_hit_a_session_loaded_by_operations() -> None:
    """The mode is programmed whatever the record says."""
    destination = loaded(busy_source())
    assert destination.programmed(0).vmolr & (MPE | ROMPE) == MPE | ROMPE


def test_defect_3_the_copied_trust_keeps_the_setter_from_acting() -> None:
    """``ixgbe_ndo_set_vf_trust()`` returns early: no ping, so the VF never asks again for what trust allows."""
    destination = copied(busy_source())
    destination.pf.set_vf_trust(0, on=True)
    assert destination.buffer(0)[0] == Id.PF_CONTROL_MSG  # from the start of the port, nothing since
    assert destination.pf.vfinfo[0].clear_to_send
    assert not destination.programmed(0).all_multicast


def test_defect_3_does_not_hit_trust_set_from_the_reset_state() -> None:
    """The setter acts: the VF has to reset itself and asks for everything again."""
    destination = Rig()
    destination.handshake(0)
    destination.pf.set_vf_trust(0, on=True)
    assert not destination.pf.vfinfo[0].clear_to_send
    destination.handshake(0)
    destination.ask(0, Id.UPDATE_XCAST_MODE, XcastMode.ALLMULTI)
    assert destination.programmed(0).all_multicast


def test_defect_4_the_copied_clear_to_send_admits_a_vf_that_never_did_the_handshake_here() -> None:
    """``ixgbe_rcv_msg_from_vf()``: the VF's pool was never set up, and yet it is told that all is well."""
    destination = copied(busy_source())
    destination.hw.flr(0)
    assert destination.ask(0, word0(Id.SET_VLAN, 1), 100)[0] == word0(Id.SET_VLAN, 1) | ACK | CTS
    now = destination.programmed(0)
    assert (now.receive, now.transmit, now.macs) == (False, False, ())


def test_defect_4_with_clear_to_send_left_at_0_the_vf_is_turned_away_until_it_resets_itself() -> None:
    """``ixgbe_rcv_msg_from_vf()``."""
    destination = Rig()
    assert destination.ask(0, word0(Id.SET_VLAN, 1), 100)[0] == word0(Id.SET_VLAN, 1) | NACK


def test_defect_5_the_copied_api_was_not_negotiated_and_may_be_unknown_here() -> None:
    """``ixgbe_negotiate_vf_api()`` is never asked; a version this PF does not know makes its messages fail."""
    source = busy_source()
    source.pf.vfinfo[0].vf_api = Api.V1_7  # a newer PF driver agreed to it
    destination = copied(source)
    assert destination.ask(0, Id.GET_QUEUES)[0] & NACK
    with pytest.raises(DriverError):
        loaded(source)


def test_defect_6_the_copied_hashes_are_zeroed_by_the_reset_that_follows() -> None:
    """``ixgbe_vf_reset_event()``: the VF owns them and sends them again anyway."""
    destination = copied(busy_source())
    assert destination.pf.session(0).mc_hashes
    destination.hw.flr(0)
    assert destination.pf.session(0).mc_hashes == ()


def test_defect_7_vlans_and_further_addresses_are_not_in_the_record_at_all() -> None:
    """VLVF, VLVFB, the macvlan list and the receive addresses belong to the adapter."""
    source = busy_source()
    session = copied(source).pf.session(0)
    assert (session.vlans, session.macvlans) == ((), ())
    whole = loaded(source)
    assert whole.programmed(0).vlans == source.programmed(0).vlans == (0, 100)
    assert set(whole.programmed(0).macs) == set(source.programmed(0).macs) == {ADMIN_MAC, OTHER_MAC}


def test_defect_8_the_copied_counters_are_of_other_hardware_and_give_garbage() -> None:
    """``ixgbe_main.c``, ``ixgbe_update_stats()``: ``last_vfstats`` is subtracted from this device's counter."""
    source = busy_source()
    source.hw.sinks[0] = lambda _frame: None
    frame = ADMIN_MAC + GROUP[:1] + bytes(5) + b"\x08\x00" + bytes(46)
    for _ in range(5):
        source.hw.receive(frame)
    assert source.pf.get_vf_stats(0).gprc == 5
    assert copied(source).pf.get_vf_stats(0).gprc == 2**32  # 5, and the difference of 0 and 5 as of a wrap
    destination = Rig()
    destination.pf.load_vf_stats(0, source.pf.get_vf_stats(0))
    assert destination.pf.get_vf_stats(0) == source.pf.get_vf_stats(0)


def test_defect_9_nothing_bounds_what_comes_from_the_wire() -> None:
    """``ixgbe_restore_vf_multicasts()`` loops as far as ``num_vf_mc_hashes`` says: past the end of the array."""
    source = busy_source()
    source.pf.vfinfo[0].num_vf_mc_hashes = 200
    destination = copied(source)
    with pytest.raises(IndexError):
        destination.pf._adapter.set_rx_mode()


def test_defect_9_a_session_is_checked_before_anything_is_done() -> None:
    """No word of it is believed."""
    destination = Rig()
    before = destination.programmed(0)
    with pytest.raises(DriverError):
        destination.pf.load_session(0, VfSession(clear_to_send=True, mc_hashes=(1,) * 31))
    assert destination.programmed(0) == before
