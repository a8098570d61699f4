# SPDX-License-Identifier: Apache-2.0
"""Answers that no kernel would give: they are refused by the one error for that, or are sound readings."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests.nic_linux import states
from tests.nic_linux.kernel import address, rtm_newlink, vf_info
from vferry.core.model import AdminState, PfReading, Rate
from vferry.nic.linux.failure import GarbledMessageError
from vferry.nic.linux.linkinfo import decode_link, decode_reading
from vferry.nic.linux.netlink import messages


def check(datagram: bytes) -> None:
    try:
        for answer in messages(datagram):
            decode_link(answer)
            reading = decode_reading(answer)
            # Sound: every value is in the range that the model allows, and the VFs are all there.
            assert msgspec.json.decode(msgspec.json.encode(reading), type=PfReading) == reading
            assert [vf.index for vf in reading.vfs] == list(range(len(reading.vfs)))
            assert not reading.has_settings or len(reading.vfs) == reading.num_vfs
    except GarbledMessageError:
        return


@st.composite
def datagrams(draw: st.DrawFn) -> bytearray:
    vfs = draw(st.lists(states.shown(), max_size=4))
    counted = draw(st.none() | states.statistics)
    blocks = [vf_info(vf, state, statistics=counted) for vf, state in enumerate(vfs)]
    return bytearray(rtm_newlink(blocks, num_vfs=draw(st.none() | st.integers(0, 2**32 - 1))))


@given(datagram=datagrams(), data=st.data())
def test_changed_octets(datagram: bytearray, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(0, 8))):
        datagram[data.draw(st.integers(0, len(datagram) - 1))] = data.draw(st.integers(0, 255))
    check(bytes(datagram))


@given(datagram=datagrams(), data=st.data())
def test_lengths_and_types_that_lie(datagram: bytearray, data: st.DataObject) -> None:
    """Changes on the boundaries of words, where the headers are."""
    for _ in range(data.draw(st.integers(1, 4))):
        place = 4 * data.draw(st.integers(0, len(datagram) // 4 - 1))
        word = data.draw(st.sampled_from((0, 1, 3, 4, 5, 8, 0x7FFF, 0x8001, 0xFFFF))) & 0xFFFF
        datagram[place : place + 2] = word.to_bytes(2, "little")
    check(bytes(datagram))


@given(datagram=datagrams(), data=st.data())
def test_cut_and_stretched(datagram: bytearray, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(datagram)))
    check(bytes(datagram[:cut]))
    fixed = bytearray(datagram[:cut])
    if cut >= 16:
        fixed[:4] = cut.to_bytes(4, "little")
    check(bytes(fixed))
    check(bytes(datagram) + data.draw(st.binary(max_size=40)))


@given(raw=st.binary(max_size=200))
def test_noise(raw: bytes) -> None:
    check(raw)
    header = (16 + 16 + len(raw)).to_bytes(4, "little") + b"\x10\0" + bytes(10) + bytes(16)
    check(header + raw)


@given(place=st.integers(0, 400), octet=st.integers(0, 255))
def test_every_octet_of_a_block(place: int, octet: int) -> None:
    """One PF's answer, one octet wrong: the addresses of the PF are never those of a VF."""
    state = AdminState(mac="ee:ee:ee:ee:ee:ee", rate=Rate(min_tx=0, max_tx=0))
    message = bytearray(rtm_newlink([vf_info(vf, state) for vf in range(2)]))
    start = message.index(address("ee:ee:ee:ee:ee:ee")) - 16
    message[start + place % 384] = octet
    try:
        (answer,) = messages(bytes(message))
        reading = decode_reading(answer)
    except GarbledMessageError:
        return
    assert (reading.address, reading.permanent_address) == ("52:54:00:aa:00:01", "52:54:00:aa:00:02")
