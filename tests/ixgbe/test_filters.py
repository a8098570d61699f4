# SPDX-License-Identifier: Apache-2.0
"""Frames as the switch reads them, and the filter registers as tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vferry.nic.ixgbe.filters import FILTER_OFFSETS, POOLS, WIRE_ONLY, Filters, Route, pools_of
from vferry.nic.ixgbe.frame import UNTAGGED, hash_index, is_group, vlan_of, with_tag, without_tag

VT_CTL, PFDTXGSWC, VLNCTRL, FCTRL, MAXFRS, VMOLR, VFRE, VFTE = (
    *(0x51B0, 0x8220, 0x5088, 0x5080, 0x4268, 0xF000, 0x51E0, 0x8110),
)
MAC = bytes.fromhex("020304050607")
RAL = {RAR: 0x5400 + 8 * RAR if RAR < 16 else 0xA200 + 8 * RAR for RAR in range(128)}
octets = st.binary(min_size=6, max_size=6)


def filters(registers: dict[int, int]) -> Filters:
    return Filters(lambda offset: registers.get(offset, 0))


def with_address(index: int, mpsar: int, *, valid: bool = True) -> dict[int, int]:
    return {
        VT_CTL: 1,
        RAL[index]: 0x05040302,
        RAL[index] + 4: 0x0706 | valid << 31,
        0xA600 + 8 * index: mpsar & 0xFFFFFFFF,
        0xA604 + 8 * index: mpsar >> 32,
    }


@given(octets, st.integers(0, 3))
def test_the_hash_is_twelve_bits_of_the_address(address: bytes, filter_type: int) -> None:
    value = int.from_bytes(address, "little")
    assert hash_index(address, filter_type) == value >> (36, 35, 34, 32)[filter_type] & 0xFFF


def test_a_hash_known_to_the_kernel() -> None:
    """01:00:5e:00:00:fb (mDNS) by type 0: octet 4 shifted right by 4, octet 5 left by 4 (`ixgbe_mta_vector`)."""
    assert hash_index(bytes.fromhex("01005e0000fb"), 0) == 0xFB0


@given(octets)
def test_a_group_is_told_by_its_lowest_bit(address: bytes) -> None:
    assert is_group(address) is (address[0] % 2 == 1)


@given(octets, octets, st.integers(0, 0xFFFF), st.binary(min_size=2))
def test_a_tag_goes_on_and_off(destination: bytes, source: bytes, tci: int, rest: bytes) -> None:
    frame = destination + source + rest
    tagged = with_tag(frame, b"\x81\x00" + tci.to_bytes(2, "big"))
    assert vlan_of(tagged) == tci & 0xFFF
    assert without_tag(tagged) == frame


@pytest.mark.parametrize("size", range(14, 18))
def test_a_frame_that_ends_in_its_tag_is_untagged(size: int) -> None:
    assert vlan_of((MAC + MAC + b"\x81\x00\x00\x64\x08")[:size]) == UNTAGGED


def test_vlan_0_is_not_untagged() -> None:
    assert vlan_of(MAC + MAC + b"\x81\x00\x00\x00\x08\x00") == 0
    assert vlan_of(MAC + MAC + b"\x08\x00\x00\x00\x00\x00") == UNTAGGED


@given(st.sets(st.integers(0, 63)))
def test_pools_of_a_mask(pools: set[int]) -> None:
    assert pools_of(sum(1 << pool for pool in pools)) == tuple(sorted(pools))


@pytest.mark.parametrize("index", [0, 15, 16, 127])
@pytest.mark.parametrize("pool", [0, 31, 32, 63])
def test_an_address_is_in_wire_order(index: int, pool: int) -> None:
    assert filters(with_address(index, 1 << pool)).addresses == {MAC: 1 << pool}


def test_an_address_without_av_or_without_pools_is_none() -> None:
    assert filters(with_address(3, 1, valid=False)).addresses == {}
    assert filters(with_address(3, 0)).addresses == {}


def test_an_address_in_two_entries_has_the_pools_of_both() -> None:
    assert filters(with_address(3, 1) | with_address(40, 1 << 40)).addresses == {MAC: 1 | 1 << 40}


def test_a_vlan_in_two_entries_has_the_pools_of_both() -> None:
    registers = {VT_CTL: 1, 0xF100: 1 << 31 | 7, 0xF1FC: 1 << 31 | 7, 0xF200: 2, 0xF3FC: 4, 0xF104: 9, 0xF208: 1}
    assert filters(registers).vlans == {7: 2 | 4 << 32}


def test_spoof_checks_are_of_eight_pools_each() -> None:
    found = filters({VT_CTL: 1, 0x8200: 0x0102, 0x821C: 0x8040})
    assert (found.mac_checked, found.vlan_checked) == (1 << 1 | 1 << 62, 1 | 1 << 63)


def test_port_vlans() -> None:
    found = filters(
        {VT_CTL: 1, 0x8000: 0x40006064, 0x8004: 0x80000064, 0x8008: 0x64, 0x800C: 0xC0000064, 0x80FC: 0x40000000}
    ).port_vlans
    assert {pool: tci for pool, tci in enumerate(found) if tci != UNTAGGED} == {0: 0x6064, 63: 0}


def test_the_reset_state_has_no_pools() -> None:
    """Without VT mode pool 0 is the PF, which FCTRL speaks for, and everything sent leaves by the wire."""
    found = filters(with_address(0, 0) | {VT_CTL: 0, FCTRL: 1 << 10, PFDTXGSWC: 1, VLNCTRL: 1 << 30, 0xA000: 1 << 5})
    assert found.from_pool(MAC, UNTAGGED) is WIRE_ONLY
    assert found.from_wire(MAC, UNTAGGED).kept == (0,)
    assert found.from_wire(MAC, 5).kept == (0,)
    assert found.from_wire(b"\xff" * 6, UNTAGGED).kept == (0,)
    assert found.from_wire(MAC[::-1], UNTAGGED).kept == ()
    assert (found.admits_vlan(5), found.admits_vlan(6), found.admits_vlan(UNTAGGED)) == (True, False, True)


@pytest.mark.parametrize(("bit", "address"), [(8, b"\x01" + MAC[1:]), (9, MAC)])
def test_fctrl_is_promiscuous_without_vt_mode_and_ignored_in_it(bit: int, address: bytes) -> None:
    registers = {FCTRL: 1 << bit, VT_CTL: 1 << 29}
    assert filters(registers).from_wire(address, UNTAGGED).kept == (0,)
    assert filters(registers | {VT_CTL: 1 | 1 << 29, VFRE: 1}).from_wire(address, UNTAGGED).kept == ()


def test_limits_and_masks() -> None:
    found = filters({VT_CTL: 1 | 42 << 7, MAXFRS: 9728 << 16 | 1, VFRE + 4: 1, VFTE: 2})
    assert (found.max_frame, found.receiving, found.transmitting) == (9728, 1 << 32, 2)
    assert found.default_pool == 1 << 42


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.booleans())
def test_a_route_gives_each_pool_one_fate(receiving: int, lost: int, stripping: int, wire: bool) -> None:
    route = Route(receiving=receiving & ~lost, lost=lost, stripping=stripping, wire=wire)
    everyone = [*route.kept, *route.stripped, *route.lost]
    assert sorted(everyone) == list(pools_of(receiving | lost))
    assert route.alone is (not wire and len(everyone) <= 1)
    assert route.lossy is (bool(route.lost) or not (wire or everyone))


def test_every_offset_is_of_a_filter() -> None:
    """VFRE and VFTE 4, RAR 512, VLAN tables 128 + 64 + 128, hashes 256, VMOLR and VMVIR 128, PFVFSPOOF 8, 7 alone."""
    assert len(FILTER_OFFSETS) == 4 + 512 + 320 + 256 + 2 * POOLS + 8 + 7
    assert 0x8780 not in FILTER_OFFSETS  # SSVPC: the switch counts there itself
    assert 0x8790 not in FILTER_OFFSETS  # VMECM: asked when a frame is dropped
