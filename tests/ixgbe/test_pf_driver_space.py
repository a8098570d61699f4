# SPDX-License-Identifier: Apache-2.0
"""Room for a session: what the check lets through fits, and what fits is let through."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ixgbe.driver_rig import ADMIN_MAC, OTHER_MAC, Rig
from vferry.nic.ixgbe.messages import Api
from vferry.nic.ixgbe.pf_driver import DriverError, VfSession

ENTRIES = 63  # VLVF has 64, and entry 0 is VLAN 0's


def mac(number: int) -> bytes:
    return bytes.fromhex("02bb0000") + number.to_bytes(2, "big")


def with_addresses(rig: Rig, count: int) -> None:
    """Let the PF have so many further addresses: 127 fill the table."""
    for number in range(count):
        rig.pf.add_fdb(mac(number))


def vlans(first: int, count: int) -> VfSession:
    return VfSession(clear_to_send=True, api_version=Api.V1_4, vlans=tuple(range(first, first + count)))


def test_the_administrators_address_needs_room_too() -> None:
    """The VF's filter went with its reset, and the PF took what was left."""
    rig = Rig(num_vfs=2)
    rig.pf.set_vf_mac(0, ADMIN_MAC)
    rig.hw.flr(0)
    with_addresses(rig, 127)
    for use in (rig.pf.check_session, rig.pf.load_session):
        with pytest.raises(DriverError) as why:
            use(0, VfSession())
        assert why.value.errno == errno.ENOMEM
    assert rig.pf.vfinfo[0].vf_mac_addresses == ADMIN_MAC


def test_a_planted_port_vlan_needs_room_too() -> None:
    source, rig = Rig(num_vfs=2, host="a"), Rig(num_vfs=2, host="b", resume_extension=True)
    source.pf.set_vf_vlan(0, 100)
    rig.pf.load_session(1, vlans(1000, ENTRIES))
    rig.pf.plant_vfinfo(0, source.pf.vfinfo[0].copy())
    with pytest.raises(DriverError) as why:
        rig.pf.check_session(0, VfSession())
    assert why.value.errno == errno.ENOSPC


def test_vlans_that_only_this_vf_uses_make_room() -> None:
    rig = Rig(num_vfs=2)
    rig.pf.load_session(0, vlans(1, ENTRIES))
    rig.pf.load_session(0, vlans(1001, ENTRIES))
    assert rig.pf.session(0).vlans == tuple(range(1001, 1001 + ENTRIES))


def test_a_vlan_that_the_pf_shares_makes_room_and_one_of_another_vf_does_not() -> None:
    rig = Rig(num_vfs=2)
    rig.pf._adapter.vlans.active_vlans.add(1)
    rig.pf.load_session(0, vlans(1, ENTRIES))
    rig.pf.check_session(0, vlans(1001, ENTRIES))
    rig.pf.load_session(1, vlans(2, 1))
    rig.pf.check_session(0, vlans(1001, ENTRIES - 1))
    with pytest.raises(DriverError) as why:
        rig.pf.check_session(0, vlans(1001, ENTRIES))
    assert why.value.errno == errno.ENOSPC


def sessions(most_vlans: int) -> st.SearchStrategy[VfSession]:
    return st.builds(
        VfSession,
        clear_to_send=st.booleans(),
        api_version=st.just(Api.V1_4),
        mac=st.sampled_from([None, ADMIN_MAC, OTHER_MAC]),
        macvlans=st.integers(0, 4).map(lambda count: tuple(mac(0x1000 + number) for number in range(count))),
        vlans=st.tuples(st.integers(1, 20), st.integers(0, most_vlans)).map(lambda at: tuple(range(at[0], sum(at)))),
    )


@settings(max_examples=40, deadline=None)
@given(
    administrators=st.booleans(),
    reset=st.booleans(),
    addresses=st.sampled_from([0, *range(119, 128)]),
    others=st.sampled_from([0, *range(55, ENTRIES + 1)]),
    pf_vlans=st.sets(st.integers(1, 30), max_size=3),
    first=sessions(5),
    second=sessions(10),
)
def test_what_the_check_lets_through_can_be_loaded(  # noqa: PLR0917
    administrators: bool,
    reset: bool,
    addresses: int,
    others: int,
    pf_vlans: set[int],
    first: VfSession,
    second: VfSession,
) -> None:
    rig = Rig(num_vfs=2)
    rig.pf._adapter.vlans.active_vlans |= pf_vlans
    if administrators:
        rig.pf.set_vf_mac(0, ADMIN_MAC)
        rig.pf.set_vf_trust(0, on=True)
    rig.pf.load_session(1, vlans(15, others))
    if len(first.vlans) + others <= ENTRIES:
        rig.pf.load_session(0, first)
    if reset:
        rig.hw.flr(0)
    for number in range(addresses):
        try:
            rig.pf.add_fdb(mac(number))
        except DriverError:
            break
    try:
        rig.pf.check_session(0, second)
    except DriverError:
        return
    rig.pf.load_session(0, second)
    assert rig.pf.session(0).vlans == second.vlans
    assert set(rig.programmed(0).macs) >= {*second.macvlans, *([second.mac] if second.mac else [])}
