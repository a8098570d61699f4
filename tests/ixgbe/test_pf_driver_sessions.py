# SPDX-License-Identifier: Apache-2.0
"""Sessions brought back by the PF driver: loading by operations, planting, and the RESUME message."""

from __future__ import annotations

import errno

import pytest

from tests.ixgbe.driver_rig import ADMIN_MAC, GROUP, MPE, OTHER_MAC, ROMPE, Api, LinkState, Rig, flows, sent
from vferry.nic.ixgbe.messages import ACK, CTS, NACK, Id, XcastMode
from vferry.nic.ixgbe.pf_driver import DriverError, VfSession
from vferry.nic.ixgbe.vf_driver import VfDriver


def busy(rig: Rig) -> VfDriver:
    """A guest with all kinds of session state on VF 0, and all kinds of settings."""
    rig.pf.set_vf_mac(0, ADMIN_MAC)
    rig.pf.set_vf_rate(0, 1000)
    rig.pf.set_vf_trust(0, on=True)
    driver = rig.guest(0)
    for vid in (7, 100):
        assert rig.run(driver.add_vlan(vid))
    rig.run(driver.set_rx_mode(multicasts=[GROUP], unicasts=[OTHER_MAC], xcast_mode=XcastMode.ALLMULTI))
    rig.service(driver)
    return driver


def settings(rig: Rig) -> None:
    """What the administrator's side restores before the VM comes."""
    rig.pf.set_vf_mac(0, ADMIN_MAC)
    rig.pf.set_vf_rate(0, 1000)
    rig.pf.set_vf_trust(0, on=True)


def moved(driver: VfDriver, to: Rig) -> None:
    """The guest's driver goes on over the other host's device, with the guest's memory as it was."""
    driver.rebind(to.hw.vf_bar(0), lambda: to.now)
    to.vfs[0] = driver


def test_a_loaded_session_is_the_source_s_session_in_record_and_hardware() -> None:
    source, destination = Rig(host="a"), Rig(host="b")
    busy(source)
    settings(destination)
    destination.pf.load_session(0, source.pf.session(0))
    assert destination.pf.session(0) == source.pf.session(0)
    assert destination.programmed(0) == source.programmed(0)
    assert destination.pf.vfinfo[0].clear_to_send


def test_a_session_loaded_twice_is_the_same() -> None:
    source, destination = Rig(host="a"), Rig(host="b")
    busy(source)
    settings(destination)
    for _ in range(2):
        destination.pf.load_session(0, source.pf.session(0))
        assert destination.programmed(0) == source.programmed(0)


def test_reading_a_session_changes_nothing() -> None:
    rig = Rig()
    busy(rig)
    before = rig.programmed(0)
    assert rig.pf.session(0) == rig.pf.session(0)
    assert rig.programmed(0) == before


def test_a_session_that_had_lost_anti_spoofing_is_without_it() -> None:
    source, destination = Rig(host="a"), Rig(host="b")
    busy(source)
    settings(destination)
    assert not source.pf.session(0).anti_spoof
    destination.pf.load_session(0, source.pf.session(0))
    assert not destination.programmed(0).mac_anti_spoof
    assert destination.pf.get_vf_config(0).spoofchk


def test_a_session_does_not_switch_a_disabled_vf_on() -> None:
    source, destination = Rig(host="a"), Rig(host="b")
    busy(source)
    settings(destination)
    destination.pf.set_vf_link_state(0, LinkState.DISABLE)
    destination.pf.load_session(0, source.pf.session(0))
    assert (destination.programmed(0).receive, destination.programmed(0).transmit) == (False, False)


GOOD = VfSession(clear_to_send=True, api_version=Api.V1_4, mac=ADMIN_MAC)


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (VfSession(mc_hashes=(0,) * 31), errno.EINVAL),
        (VfSession(mc_hashes=(0x10000,)), errno.EINVAL),
        (VfSession(vlans=(0,)), errno.EINVAL),
        (VfSession(vlans=(4096,)), errno.EINVAL),
        (VfSession(mac=GROUP), errno.EINVAL),
        (VfSession(macvlans=(bytes(6),)), errno.EINVAL),
        (VfSession(xcast_mode=9), errno.EINVAL),
        (VfSession(max_frame=9729), errno.EINVAL),
        (VfSession(api_version=Api.V1_7), errno.EINVAL),
        (VfSession(api_version=Api.V2_0), errno.EINVAL),
        (VfSession(api_version=Api.V1_4, max_frame=9018), errno.EINVAL),
        (VfSession(xcast_mode=XcastMode.ALLMULTI), errno.EPERM),
        (VfSession(macvlans=(OTHER_MAC,) * 109), errno.ENOSPC),
        (VfSession(vlans=tuple(range(1, 65))), errno.ENOSPC),
    ],
)
def test_a_session_that_this_pf_cannot_give_is_refused_and_nothing_is_changed(wanted: VfSession, code: int) -> None:
    rig = Rig()
    rig.pf.load_session(0, GOOD)
    before = rig.programmed(0), rig.pf.session(0)
    with pytest.raises(DriverError) as why:
        rig.pf.load_session(0, wanted)
    assert why.value.errno == code
    assert (rig.programmed(0), rig.pf.session(0)) == before


@pytest.mark.parametrize(
    "wanted", [VfSession(mac=OTHER_MAC), VfSession(macvlans=(OTHER_MAC,)), VfSession(mac=ADMIN_MAC, vlans=(5,))]
)
def test_a_session_gets_no_more_than_the_settings_here_allow(wanted: VfSession) -> None:
    rig = Rig()
    rig.pf.set_vf_mac(0, ADMIN_MAC)
    rig.pf.set_vf_vlan(0, 100)
    with pytest.raises(DriverError) as why:
        rig.pf.load_session(0, wanted)
    assert why.value.errno == errno.EPERM


def test_a_session_is_checked_without_being_loaded() -> None:
    rig = Rig()
    before = rig.programmed(0)
    rig.pf.check_session(0, GOOD)
    with pytest.raises(DriverError):
        rig.pf.check_session(0, VfSession(api_version=Api.V1_5))
    assert rig.programmed(0) == before


# --- the jumbo matrix of a migration


@pytest.mark.parametrize("api", [Api.V1_0, Api.V1_1, Api.V1_4])
@pytest.mark.parametrize("source_mtu", [1500, 9000])
@pytest.mark.parametrize("destination_mtu", [1500, 9000])
def test_jumbo_matrix(source_mtu: int, destination_mtu: int, api: Api) -> None:
    """Kernel ``ixgbe_set_vf_lpe()``: (std, std) and (jumbo, jumbo) with API 1.1 and up are fine;

    a jumbo VF is refused under a standard PF; under a jumbo PF a VF with API 1.0 is cut off, so it is refused too.
    """
    jumbo_vf = source_mtu == 9000 and api != Api.V1_0
    session = VfSession(clear_to_send=True, api_version=api, max_frame=9018 if jumbo_vf else 1518)
    destination = Rig(mtu=destination_mtu)
    granted = api != Api.V1_0 if destination_mtu == 9000 else not jumbo_vf
    if granted:
        destination.pf.load_session(0, session)
        assert destination.programmed(0).receive
        return
    with pytest.raises(DriverError) as why:
        destination.pf.load_session(0, session)
    assert why.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("source_mtu", "destination_mtu", "guest_mtu", "flows"),
    [(1500, 1500, 1500, True), (9000, 9000, 9000, True), (9000, 1500, 9000, False), (1500, 9000, 1500, True)],
)
def test_jumbo_matrix_with_a_guest_that_resets_itself(
    source_mtu: int, destination_mtu: int, guest_mtu: int, flows: bool
) -> None:
    """The guest's driver sends SET_LPE again; refused, its receive is off although its link is up."""
    source, destination = Rig(mtu=source_mtu, host="a"), Rig(mtu=destination_mtu, host="b")
    driver = source.guest(0)
    assert source.run(driver.set_mtu(guest_mtu))
    moved(driver, destination)
    destination.now += 60
    destination.hw.flr(0)
    destination.pf.ping_vf(0)
    destination.ticks(driver, 4)
    assert destination.pf.vfinfo[0].clear_to_send
    assert destination.programmed(0).receive == flows


def test_a_vf_with_api_1_0_is_cut_off_under_a_jumbo_pf() -> None:
    rig = Rig(mtu=9000)
    driver = rig.guest(0, versions=[Api.V1_0])
    assert flows(driver)
    assert not rig.programmed(0).receive


# --- the story of 2015


def test_settings_programmed_before_the_flr_stay_and_the_session_is_lost() -> None:
    """What lives in the PF's record comes back by itself; what lives in hardware and session does not."""
    rig = Rig()
    busy(rig)
    rig.hw.flr(0)
    session, now = rig.pf.session(0), rig.programmed(0)
    assert (session.vlans, session.mc_hashes, session.macvlans, session.api_version) == ((), (), (), Api.V1_0)
    assert (now.receive, now.transmit, now.macs) == (False, False, ())
    config = rig.pf.get_vf_config(0)
    assert (config.mac, config.max_tx_rate, config.trusted) == (ADMIN_MAC, 1000, True)
    assert all(now.rates)  # the rate limiter belongs to the PF's queue tables: a VF's reset does not reach it


def test_a_session_loaded_before_the_flr_is_lost_and_one_loaded_after_it_stays() -> None:
    rig = Rig()
    rig.pf.load_session(0, VfSession(clear_to_send=True, api_version=Api.V1_4, mac=ADMIN_MAC, vlans=(100,)))
    rig.hw.flr(0)
    assert (rig.programmed(0).vlans, rig.programmed(0).macs) == ((0,), ())
    rig.pf.load_session(0, VfSession(clear_to_send=True, api_version=Api.V1_4, mac=ADMIN_MAC, vlans=(100,)))
    assert (rig.programmed(0).vlans, rig.programmed(0).macs) == ((0, 100), (ADMIN_MAC,))


def plant(source: Rig, destination: Rig) -> None:
    destination.pf.plant_vfinfo(0, source.pf.vfinfo[0].copy(), source.pf.session(0))


def test_planting_touches_no_hardware() -> None:
    source, destination = Rig(host="a"), Rig(host="b", resume_extension=True)
    busy(source)
    before = destination.programmed(0)
    plant(source, destination)
    assert destination.programmed(0) == before
    assert destination.pf.is_planted(0)
    assert destination.pf.get_vf_config(0) == source.pf.get_vf_config(0)
    assert destination.pf.vfinfo[0].vfdev == "b/vf0"
    assert not destination.pf.vfinfo[0].clear_to_send


def test_resume_programs_what_was_planted_and_not_before() -> None:
    source, destination = Rig(host="a"), Rig(host="b", resume_extension=True)
    driver = busy(source)
    plant(source, destination)
    destination.hw.flr(0)
    now = destination.programmed(0)
    assert (now.receive, now.macs, now.vmolr & (MPE | ROMPE), now.rates) == (False, (), 0, (0,) * 4)
    moved(driver, destination)
    before, resets = len(driver.log), driver.resets
    assert destination.run(driver.resume())
    destination.service(driver)
    assert sent(driver, before) == ["RESUME"]
    assert driver.resets == resets
    assert flows(driver)
    assert destination.programmed(0) == source.programmed(0)
    assert destination.pf.session(0) == source.pf.session(0)
    assert not destination.pf.is_planted(0)


def test_without_the_extension_resume_is_refused_and_the_guest_resets_itself() -> None:
    source, destination = Rig(host="a"), Rig(host="b")
    driver = busy(source)
    with pytest.raises(DriverError) as why:
        plant(source, destination)
    assert why.value.errno == errno.EOPNOTSUPP
    destination.hw.flr(0)
    moved(driver, destination)
    before = len(driver.log)
    assert not destination.run(driver.resume())
    assert destination.programmed(0).macs == ()
    destination.service(driver)
    assert sent(driver, before)[:2] == ["RESUME", "RESET"]
    assert flows(driver)


def test_resume_without_a_planted_session_is_refused() -> None:
    rig = Rig(resume_extension=True)
    assert rig.ask(0, Id.RESUME)[0] == Id.RESUME | NACK
    rig.handshake(0)
    assert rig.ask(0, Id.RESUME)[0] == Id.RESUME | NACK | CTS


def test_resume_works_once() -> None:
    source, destination = Rig(host="a"), Rig(host="b", resume_extension=True)
    busy(source)
    plant(source, destination)
    assert destination.ask(0, Id.RESUME)[0] == Id.RESUME | ACK | CTS
    assert destination.ask(0, Id.RESUME)[0] == Id.RESUME | NACK | CTS


def test_resume_of_a_session_that_this_pf_cannot_give_is_refused_and_programs_nothing() -> None:
    source, destination = Rig(mtu=9000, host="a"), Rig(host="b", resume_extension=True)
    driver = source.guest(0)
    assert source.run(driver.set_mtu(9000))
    plant(source, destination)
    destination.hw.flr(0)
    before = destination.programmed(0)
    assert destination.ask(0, Id.RESUME)[0] == Id.RESUME | NACK
    assert destination.programmed(0) == before


def test_what_vfinfo_alone_holds_is_resumed_without_vlans_and_further_addresses() -> None:
    source, destination = Rig(host="a"), Rig(host="b", resume_extension=True)
    busy(source)
    destination.pf.plant_vfinfo(0, source.pf.vfinfo[0].copy())
    assert destination.ask(0, Id.RESUME)[0] & ACK
    now = destination.programmed(0)
    assert (now.vlans, now.macs, now.all_multicast) == ((0,), (ADMIN_MAC,), True)


def test_the_notice_to_one_vf_reaches_that_vf_only() -> None:
    rig = Rig()
    first, second = rig.guest(0), rig.guest(1)
    rig.pf.ping_vf(1)
    assert (first.service_wanted, second.service_wanted) == (False, True)
