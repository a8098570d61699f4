# SPDX-License-Identifier: Apache-2.0
"""Readings: values, absence, the list that wraps, and the two ways to decode agreeing."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.nic_linux import kernel, states
from tests.nic_linux.kernel import nla, read_back, rtm_newlink, vf_info
from vferry.core.model import AdminState, LinkState, PfReading, Rate, VfReading, VfStatistics, Vlan
from vferry.nic.linux import linkinfo, vfcolumns
from vferry.nic.linux.failure import GarbledMessageError
from vferry.nic.linux.linkinfo import decode_link, decode_reading
from vferry.nic.linux.netlink import messages

PLAIN = AdminState(
    mac="52:54:00:00:00:01",
    vlans=(),
    rate=Rate(min_tx=0, max_tx=0),
    spoofchk=True,
    link_state=LinkState.AUTO,
    trust=False,
)
COUNTERS = VfStatistics(
    rx_packets=1, tx_packets=2, rx_bytes=3, tx_bytes=4, broadcast=5, multicast=6, rx_dropped=7, tx_dropped=8
)


def decode(message: bytes) -> PfReading:
    (answer,) = messages(message)
    return decode_reading(answer)


@pytest.fixture
def walk_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linkinfo, "decode_columns", lambda *_arguments: None)


@pytest.fixture
def columns_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise AssertionError("this list must not need the walk")

    monkeypatch.setattr(linkinfo, "_walk_list", refuse)


def test_the_link_itself() -> None:
    reading = read_back([vf_info(0, PLAIN)])
    assert (reading.ifindex, reading.mtu) == (7, 1500)
    assert (reading.admin_up, reading.carrier) == (True, True)
    assert (reading.address, reading.permanent_address) == ("52:54:00:aa:00:01", "52:54:00:aa:00:02")
    assert (reading.num_vfs, reading.has_settings, len(reading.vfs)) == (1, True, 1)


@pytest.mark.parametrize(("flags", "up", "carrier"), [(0x1, True, False), (0x41, True, False), (0x10000, False, True)])
def test_flags(flags: int, up: object, carrier: object) -> None:
    """IFF_UP, IFF_RUNNING, IFF_LOWER_UP."""
    (answer,) = messages(kernel.newlink(b"", flags=flags))
    for found in (decode_link(answer), decode_reading(answer)):
        assert (found.admin_up, found.carrier) == (up, carrier)


def test_a_short_mtu_is_refused() -> None:
    with pytest.raises(GarbledMessageError, match="link attribute 4 has 2 octets"):
        decode(kernel.newlink(nla(4, b"\0\0") + nla(9, bytes(8))))


def test_facts_of_a_link() -> None:
    info = nla(18, nla(4, b"team\0") + nla(5, b""))
    attributes = nla(3, b"eth9\0") + nla(10, struct.pack("=I", 42)) + info + nla(1, b"\x02\0\0\0\0\x09")
    (answer,) = messages(kernel.newlink(attributes, ifindex=3, flags=0x1))
    facts = decode_link(answer)
    assert (facts.ifindex, facts.name, facts.master, facts.master_kind) == (3, "eth9", 42, "team")
    assert (facts.admin_up, facts.carrier, facts.mtu, facts.permanent_address) == (True, False, None, None)
    assert facts.address == "02:00:00:00:00:09"


@pytest.mark.usefixtures("columns_only")
def test_every_value_of_one_vf() -> None:
    state = AdminState(
        mac="02:00:00:00:00:05",
        vlans=(Vlan(vid=100, qos=3, proto="802.1ad"),),
        rate=Rate(min_tx=10, max_tx=20),
        spoofchk=False,
        link_state=LinkState.DISABLE,
        rss_query=True,
        trust=True,
        node_guid="00:02:c9:03:00:11:22:33",
        port_guid="00:02:c9:03:00:11:22:34",
    )
    vf = read_back([vf_info(0, state, statistics=COUNTERS)]).vfs[0]
    assert (vf.index, vf.admin, vf.statistics) == (0, state, COUNTERS)
    assert vf.broadcast == "ff:ff:ff:ff:ff:ff"


def test_what_is_not_reported_is_absent() -> None:
    admin = read_back([vf_info(0, AdminState(mac=PLAIN.mac, rate=PLAIN.rate))]).vfs[0].admin
    assert (admin.spoofchk, admin.rss_query, admin.trust) == (None, None, None)
    assert (admin.node_guid, admin.port_guid) == (None, None)


def test_a_setting_is_on_unless_it_is_zero() -> None:
    """As ``ip link`` has it; some drivers hand out the bits of a mask."""
    block = bytearray(vf_info(0, PLAIN))
    place = block.index(struct.pack("=HHII", 12, 4, 0, 1))
    block[place + 8 : place + 12] = struct.pack("=I", 0x40)
    assert read_back([bytes(block)]).vfs[0].admin.spoofchk is True


@pytest.mark.parametrize(
    ("entry", "vlans"),
    [
        (Vlan(vid=0, proto=None), ()),
        (Vlan(vid=0, proto="802.1ad"), ()),
        (Vlan(vid=0, qos=3, proto="802.1Q"), (Vlan(vid=0, qos=3, proto="802.1Q"),)),
        (Vlan(vid=7, proto=None), (Vlan(vid=7),)),
        (Vlan(vid=7, proto="0x9100"), (Vlan(vid=7, proto="0x9100"),)),
    ],
)
def test_vlans(entry: Vlan, vlans: tuple[Vlan, ...]) -> None:
    state = AdminState(mac=PLAIN.mac, rate=PLAIN.rate, vlans=(entry,))
    assert read_back([vf_info(0, state)]).vfs[0].admin.vlans == vlans


def test_several_vlans_are_all_kept() -> None:
    several = tuple(Vlan(vid=vid, proto="802.1Q") for vid in (1, 2, 3))
    state = AdminState(mac=PLAIN.mac, rate=PLAIN.rate, vlans=several)
    assert read_back([vf_info(vf, state) for vf in range(2)]).vfs[1].admin.vlans == several


def old_block(vf: int) -> bytes:
    """What kernels had before 3.16 and 4.9: neither a rate with a minimum, nor a list of VLANs, nor trust."""
    mac = struct.pack("=I", vf) + bytes(range(6)).ljust(32, b"\0")
    return nla(
        1,
        nla(1, mac) + nla(2, struct.pack("=III", vf, 5, 1)) + nla(3, struct.pack("=II", vf, 70)) + nla(99, b"\x01\x02"),
    )


@pytest.mark.parametrize("way", ["columns_only", "walk_only"])
def test_older_kernels(way: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(way)
    for vf in read_back([old_block(0), old_block(1)]).vfs:
        assert vf.broadcast is None
        assert vf.admin == AdminState(
            mac="00:01:02:03:04:05", vlans=(Vlan(vid=5, qos=1),), rate=Rate(min_tx=0, max_tx=70)
        )


@pytest.mark.usefixtures("columns_only")
def test_infiniband_has_long_addresses() -> None:
    mac = bytes(range(20)).hex(":")
    state = AdminState(
        mac=mac,
        rate=PLAIN.rate,
        vlans=(),
        link_state=LinkState.AUTO,
        node_guid="00:00:00:00:00:00:00:01",
        port_guid="ff:00:00:00:00:00:00:02",
    )
    broadcast = ("ff:" * 20).rstrip(":")
    blocks = [vf_info(vf, state, broadcast=broadcast) for vf in range(3)]
    reading = read_back(blocks, mac=mac, permanent=mac)
    assert {vf.admin for vf in reading.vfs} == {state}
    assert {vf.broadcast for vf in reading.vfs} == {broadcast}
    assert reading.permanent_address == mac


def test_an_address_of_unknown_length_is_no_address() -> None:
    """Without VFs it is of no matter; with VFs nothing tells how long theirs are."""
    assert read_back([], mac="02:00:00:01", permanent="02:00:00:01").address is None
    with pytest.raises(GarbledMessageError, match="4 octets instead of 6 or 20"):
        read_back([vf_info(0, PLAIN)], mac="02:00:00:01")


def test_no_list_is_no_settings() -> None:
    reading = read_back([], num_vfs=3, has_settings=False)
    assert (reading.num_vfs, reading.vfs, reading.has_settings) == (3, (), False)


def test_an_empty_list_is_a_pf_without_vfs() -> None:
    reading = read_back([])
    assert (reading.num_vfs, reading.vfs, reading.has_settings) == (0, (), True)


def test_of_attributes_with_one_type_the_first_counts() -> None:
    """Behind a wrapped list VF blocks look like hardware addresses of the link."""
    attributes = nla(1, bytes(6)) + nla(4, struct.pack("=I", 1500)) + nla(1, b"\xee" * 6) + nla(4, b"\xee" * 4)
    reading = decode(kernel.newlink(attributes))
    assert (reading.address, reading.mtu) == ("00:00:00:00:00:00", 1500)


# Section: lists that are not whole


def test_a_driver_that_fails_for_a_vf() -> None:
    with pytest.raises(GarbledMessageError, match=r"announced 4 VFs and listed 3; the driver failed to describe VF 2$"):
        read_back([vf_info(vf, PLAIN) for vf in (0, 1, 3)], num_vfs=4)


def test_a_list_without_any_vf() -> None:
    with pytest.raises(
        GarbledMessageError, match=r"announced 9 VFs and listed 0; .* VF 0, 1, 2, 3, 4, 5, 6, 7, \.\.\."
    ):
        read_back([], num_vfs=9)


def test_blocks_that_are_about_another_vf() -> None:
    with pytest.raises(GarbledMessageError, match="block 1 of the list says that it is about VF 2"):
        read_back([vf_info(0, PLAIN), vf_info(2, PLAIN)])


def test_an_attribute_about_another_vf() -> None:
    block = vf_info(0, PLAIN).replace(struct.pack("=HHII", 12, 9, 0, 0), struct.pack("=HHII", 12, 9, 1, 0))
    with pytest.raises(GarbledMessageError, match="block 0 of the list says that it is about VF 1"):
        read_back([block])


def replaced(block: bytes, kind: int, payload: bytes) -> bytes:
    """A VF block with one attribute's payload changed; nothing is the attribute gone."""
    parts = [nla(found, payload if found == kind else old) for found, old in kernel.attributes(block[4:])]
    return nla(1, b"".join(part for part in parts if part != nla(kind, b"")))


WAYS = ["columns first", "walk only"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 13])
def test_short_attributes_are_refused(way: str, kind: int, request: pytest.FixtureRequest) -> None:
    if way == "walk only":
        request.getfixturevalue("walk_only")
    node, port = "00:00:00:00:00:00:00:01", "00:00:00:00:00:00:00:02"
    block = vf_info(0, AdminState(mac=PLAIN.mac, rate=PLAIN.rate, node_guid=node, port_guid=port))
    whole = dict(kernel.attributes(block[4:]))[kind]
    with pytest.raises(GarbledMessageError, match=rf"VF attribute {kind} has {len(whole) - 4} octets"):
        read_back([replaced(block, kind, whole[:-4])])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (struct.pack("=IIII", 0, 5000, 0, 0), "VLAN 5000 with priority 0 cannot be"),
        (struct.pack("=IIII", 0, 1, 8, 0), "VLAN 1 with priority 8 cannot be"),
        (struct.pack("=IIII", 3, 1, 0, 0), "about VF 3"),
        (struct.pack("=III", 0, 1, 0), "a VLAN has 12 octets instead of 16"),
    ],
)
def test_vlans_that_cannot_be(way: str, entry: bytes, message: str, request: pytest.FixtureRequest) -> None:
    if way == "walk only":
        request.getfixturevalue("walk_only")
    with pytest.raises(GarbledMessageError, match=message):
        read_back([replaced(vf_info(0, PLAIN), 12, nla(1, entry))])


@pytest.mark.parametrize("way", WAYS)
def test_statistics_that_are_not_whole(way: str, request: pytest.FixtureRequest) -> None:
    if way == "walk only":
        request.getfixturevalue("walk_only")
    block = vf_info(0, PLAIN, statistics=COUNTERS)
    counters = dict(kernel.attributes(block[4:]))[8]
    with pytest.raises(GarbledMessageError, match="statistics are not whole"):
        read_back([replaced(block, 8, counters[:-12])])
    with pytest.raises(GarbledMessageError, match="a VF's counter has 4 octets instead of 8"):
        read_back([replaced(block, 8, counters[:-12] + nla(8, bytes(4)))])


@pytest.mark.parametrize("count", [1, 2])
def test_something_else_in_the_list(count: int) -> None:
    blocks = [nla(2, vf_info(vf, PLAIN)[4:]) for vf in range(count)]
    with pytest.raises(GarbledMessageError, match="something else"):
        read_back(blocks)


def test_of_an_attribute_that_comes_twice_the_first_counts() -> None:
    twice = nla(1, vf_info(0, PLAIN)[4:] + nla(4, struct.pack("=II", 0, 0)))
    assert read_back([twice]).vfs[0].admin.spoofchk is True


def test_a_block_without_address_is_refused() -> None:
    with pytest.raises(GarbledMessageError, match="no address"):
        read_back([replaced(vf_info(0, PLAIN), 1, b"")])


@pytest.mark.usefixtures("columns_only")
def test_what_the_kernel_leaves_behind_an_address_is_of_no_matter() -> None:
    leaks = [vf_info(vf, PLAIN, leak=bytes([vf]) * 26) for vf in range(3)]
    assert {vf.broadcast for vf in read_back(leaks).vfs} == {"ff:ff:ff:ff:ff:ff"}


def test_an_unknown_link_state_is_refused() -> None:
    block = vf_info(0, PLAIN).replace(struct.pack("=HHII", 12, 5, 0, 0), struct.pack("=HHII", 12, 5, 0, 7))
    with pytest.raises(GarbledMessageError, match="7 is no link state"):
        read_back([block])


def test_counters_beyond_63_bits_are_refused() -> None:
    block = vf_info(0, PLAIN, statistics=COUNTERS)
    block = block.replace(struct.pack("=HHQ", 12, 7, 7), struct.pack("=HHQ", 12, 7, 2**63))
    with pytest.raises(GarbledMessageError, match="beyond 63 bits"):
        read_back([block])


@pytest.mark.usefixtures("columns_only")
@pytest.mark.parametrize(("count", "statistics"), [(334, None), (221, COUNTERS)])
def test_the_longest_list(count: int, statistics: VfStatistics | None) -> None:
    reading = read_back([vf_info(vf, PLAIN, statistics=statistics) for vf in range(count)])
    assert [vf.index for vf in reading.vfs] == list(range(count))


@pytest.mark.parametrize(
    ("count", "statistics"),
    [
        (335, None),
        (400, None),
        (668, None),
        (1000, None),
        (2000, None),
        (222, COUNTERS),
        (256, COUNTERS),
        (443, COUNTERS),
    ],
)
def test_a_list_that_wraps(count: int, statistics: VfStatistics | None) -> None:
    blocks = [vf_info(vf, PLAIN, statistics=statistics) for vf in range(count)]
    with pytest.raises(GarbledMessageError, match="more than about 334 VFs, or 221 with statistics"):
        read_back(blocks)


def test_a_driver_that_fails_in_a_long_message() -> None:
    """The message is longer than 64 KiB, but the list is not, so the driver is to blame."""
    blocks = [vf_info(vf, PLAIN, statistics=COUNTERS) for vf in range(221)]
    with pytest.raises(GarbledMessageError, match="the driver failed to describe VF 220"):
        read_back(blocks[:-1], num_vfs=221, extra=nla(26, bytes(4000)))


# Section: two ways that agree


def outcome(way: Callable[[], tuple[VfReading, ...] | None]) -> tuple[VfReading, ...] | str | None:
    try:
        return way()
    except GarbledMessageError:
        return "garbled"


def both(message: bytes, count: int, length: int) -> None:
    """Decode by columns and by the walk; the columns may decline, but never say anything else."""
    (answer,) = messages(message)
    link = linkinfo._Link(answer)
    start, end = link.found[22]
    by_columns = outcome(lambda: vfcolumns.decode_columns(link.data, start, end, count, length))
    by_walk = outcome(lambda: linkinfo._walk_list(link, count, start, end, length))
    assert by_columns is None or by_columns == by_walk


@given(
    vfs=st.lists(st.tuples(states.shown(), states.statistics), min_size=1, max_size=5),
    with_statistics=st.booleans(),
    leak=st.binary(max_size=26),
)
def test_columns_and_walk_agree(
    vfs: list[tuple[AdminState, VfStatistics]], with_statistics: object, leak: bytes
) -> None:
    blocks = [
        vf_info(index, state, statistics=counters if with_statistics else None, leak=leak)
        for index, (state, counters) in enumerate(vfs)
    ]
    message = rtm_newlink(blocks)
    (answer,) = messages(message)
    link = linkinfo._Link(answer)
    by_columns = vfcolumns.decode_columns(link.data, *link.found[22], len(vfs), 6)
    assert by_columns == linkinfo._walk_list(link, len(vfs), *link.found[22], 6)
    for (state, counters), vf in zip(vfs, decode(message).vfs, strict=True):
        assert vf.admin == state
        assert vf.statistics == (counters if with_statistics else None)
        assert vf.broadcast == "ff:ff:ff:ff:ff:ff"


@given(
    vfs=st.lists(st.tuples(states.shown(20, guids=True), st.booleans()), min_size=1, max_size=4),
)
def test_blocks_of_different_layouts(vfs: list[tuple[AdminState, bool]]) -> None:
    """GUIDs and statistics here and there: no one layout, so this is the walk's."""
    broadcast = ("ff:" * 20).rstrip(":")
    blocks = [
        vf_info(index, state, broadcast=broadcast, statistics=COUNTERS if counted else None)
        for index, (state, counted) in enumerate(vfs)
    ]
    reading = read_back(blocks, mac=broadcast)
    assert [vf.admin for vf in reading.vfs] == [state for state, _counted in vfs]
    assert [vf.statistics is not None for vf in reading.vfs] == [counted for _state, counted in vfs]


@given(data=st.data())
def test_columns_never_say_what_the_walk_would_not(data: st.DataObject) -> None:
    """Octets of a list are changed at random: headers, indexes, values."""
    count = data.draw(st.integers(1, 4))
    statistics = COUNTERS if data.draw(st.booleans()) else None
    message = bytearray(rtm_newlink([vf_info(vf, PLAIN, statistics=statistics) for vf in range(count)]))
    (answer,) = messages(bytes(message))
    start, end = linkinfo._Link(answer).found[22]
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(start, end - 1))] = data.draw(st.integers(0, 255))
    both(bytes(message), count, 6)


def test_a_layout_is_checked_every_time() -> None:
    """One PF after the other, with as many VFs and blocks as long, but other attributes in them."""
    plain = [vf_info(vf, PLAIN) for vf in range(2)]
    odd = [block.replace(struct.pack("=HH", 12, 9), struct.pack("=HH", 12, 77)) for block in plain]
    for _ in range(2):
        assert [vf.admin.trust for vf in read_back(plain).vfs] == [False, False]
        assert [vf.admin.trust for vf in read_back(odd).vfs] == [None, None]


def test_few_layouts_are_kept() -> None:
    blocks = [vf_info(vf, PLAIN) for vf in range(vfcolumns._MOST_LAYOUTS + 5)]
    for count in range(1, len(blocks)):
        read_back(blocks[:count])
    assert len(vfcolumns._layouts) <= vfcolumns._MOST_LAYOUTS
