# SPDX-License-Identifier: Apache-2.0
"""Mailbox words: ids, flags, addresses and hashes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vferry.nic.ixgbe.messages import (
    ACK,
    API_ORDER,
    CTS,
    MAX_MC_HASHES,
    Api,
    Id,
    describe,
    mac_of,
    mac_words,
    message_id,
    msginfo,
    pack_hashes,
    unpack_hashes,
    word0,
)


def test_a_mac_address_stands_with_its_first_octet_in_the_lowest_bits() -> None:
    assert mac_words(bytes.fromhex("010203040506")) == (0x04030201, 0x0605)


@given(st.binary(min_size=6, max_size=6))
def test_a_mac_address_comes_back(mac: bytes) -> None:
    assert mac_of(*mac_words(mac)) == mac


def test_two_hashes_stand_in_a_word_the_first_in_the_lower_half() -> None:
    assert pack_hashes([0x0123, 0x0ABC, 0x0FFF]) == (0x0ABC0123, 0x0FFF)


@given(st.lists(st.integers(0, 0xFFFF), max_size=MAX_MC_HASHES))
def test_hashes_come_back(hashes: list[int]) -> None:
    assert unpack_hashes(pack_hashes(hashes), len(hashes)) == hashes


def test_thirty_hashes_fill_the_payload() -> None:
    assert len(pack_hashes(range(MAX_MC_HASHES))) == 15


def test_word_0_holds_id_and_msginfo() -> None:
    word = word0(Id.SET_MACVLAN, 7)
    assert (word, message_id(word), msginfo(word)) == (0x00070006, 6, 7)


def test_api_values_are_not_in_the_order_of_the_versions() -> None:
    """``enum ixgbe_pfvf_api_rev``: 2.0 was given its value before 1.1."""
    assert (Api.V1_0, Api.V2_0, Api.V1_1, Api.V1_4, Api.V1_7) == (0, 1, 2, 5, 8)
    assert Api.V2_0 not in API_ORDER


def test_resume_has_an_id_of_its_own() -> None:
    """The 2015 series used 0x0c, which is UPDATE_XCAST_MODE since."""
    others = {value for name, value in Id.__members__.items() if name != "RESUME"}
    assert Id.RESUME not in others
    assert Id(0x0C).name == "UPDATE_XCAST_MODE"


def test_a_message_is_described_with_its_flags() -> None:
    assert describe([Id.SET_VLAN | 1 << 16 | ACK | CTS, 100]) == "SET_VLAN[1]|ACK|CTS 0x64"
    assert describe([0x77]) == "0x0077"
