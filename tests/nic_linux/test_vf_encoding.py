# SPDX-License-Identifier: Apache-2.0
"""What goes to the kernel, octet by octet, and what it would make of it."""

from __future__ import annotations

import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.nic_linux import kernel, states
from vferry.core.model import AdminState, LinkState, Rate, Vlan
from vferry.nic.linux.vfinfo import encode_change

little = pytest.mark.skipif(sys.byteorder != "little", reason="the golden octets are little-endian")

# struct nlattr: u16 length, u16 type. IFLA_VFINFO_LIST = 22 (0x16), IFLA_VF_INFO = 1. VF 5 everywhere.
GOLDEN = {
    "mac": (
        AdminState(mac="52:54:00:ab:cd:ef"),
        (
            "30001600 2c000100"
            " 28000100 05000000 525400abcdef0000 0000000000000000 0000000000000000 0000000000000000"  # IFLA_VF_MAC 1
        ),
    ),
    "infiniband mac": (
        AdminState(mac="80:00:00:48:fe:80:00:00:00:00:00:00:00:02:c9:03:00:11:22:33"),
        "30001600 2c000100 28000100 05000000 80000048fe800000 000000000002c903 0011223300000000 0000000000000000",
    ),
    "vlan": (
        AdminState(vlans=(Vlan(vid=100, qos=3, proto="802.1Q"),)),
        # IFLA_VF_VLAN_LIST 12 > IFLA_VF_VLAN_INFO 1: vf, vlan, qos, be16 vlan_proto, 2 octets of padding
        "20001600 1c000100 18000c00 14000100 05000000 64000000 03000000 81000000",
    ),
    "vlan 802.1ad": (
        AdminState(vlans=(Vlan(vid=4095, qos=7, proto="802.1ad"),)),
        "20001600 1c000100 18000c00 14000100 05000000 ff0f0000 07000000 88a80000",
    ),
    "vlan of another protocol": (
        AdminState(vlans=(Vlan(vid=1, proto="0x9100"),)),
        "20001600 1c000100 18000c00 14000100 05000000 01000000 00000000 91000000",
    ),
    "vlan without protocol": (
        AdminState(vlans=(Vlan(vid=1),)),
        "20001600 1c000100 18000c00 14000100 05000000 01000000 00000000 81000000",
    ),
    "no vlan": (
        AdminState(vlans=()),
        "20001600 1c000100 18000c00 14000100 05000000 00000000 00000000 81000000",
    ),
    "rate": (
        AdminState(rate=Rate(min_tx=10, max_tx=0xFFFFFFFF)),
        "18001600 14000100 10000600 05000000 0a000000 ffffffff",  # IFLA_VF_RATE 6
    ),
    "spoofchk on": (AdminState(spoofchk=True), "14001600 10000100 0c000400 05000000 01000000"),
    "spoofchk off": (AdminState(spoofchk=False), "14001600 10000100 0c000400 05000000 00000000"),
    "link auto": (AdminState(link_state=LinkState.AUTO), "14001600 10000100 0c000500 05000000 00000000"),
    "link enable": (AdminState(link_state=LinkState.ENABLE), "14001600 10000100 0c000500 05000000 01000000"),
    "link disable": (AdminState(link_state=LinkState.DISABLE), "14001600 10000100 0c000500 05000000 02000000"),
    "rss query": (AdminState(rss_query=True), "14001600 10000100 0c000700 05000000 01000000"),
    "trust": (AdminState(trust=True), "14001600 10000100 0c000900 05000000 01000000"),
    "node guid": (
        AdminState(node_guid="00:02:c9:03:00:11:22:33"),
        # struct ifla_vf_guid: vf, 4 octets of padding, u64 in host order
        "1c001600 18000100 14000a00 05000000 00000000 3322110003c90200",
    ),
    "port guid": (
        AdminState(port_guid="00:02:c9:03:00:11:22:34"),
        "1c001600 18000100 14000b00 05000000 00000000 3422110003c90200",
    ),
    "mac and trust": (
        AdminState(mac="00:00:00:00:00:00", trust=False),
        (
            "3c001600 38000100"
            " 28000100 05000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000"
            " 0c000900 05000000 00000000"
        ),
    ),
}


@little
@pytest.mark.parametrize(("change", "golden"), GOLDEN.values(), ids=GOLDEN.keys())
def test_golden_octets(change: AdminState, golden: str) -> None:
    assert [payload.hex() for payload in encode_change(5, change)] == [golden.replace(" ", "")]


def test_the_second_guid_is_a_second_message() -> None:
    both = AdminState(trust=True, node_guid="00:00:00:00:00:00:00:01", port_guid="00:00:00:00:00:00:00:02")
    first, second = encode_change(3, both)
    assert first == encode_change(3, AdminState(trust=True, node_guid="00:00:00:00:00:00:00:01"))[0]
    assert (second,) == encode_change(3, AdminState(port_guid="00:00:00:00:00:00:00:02"))


def test_nothing_to_change_is_no_message() -> None:
    assert encode_change(3, AdminState()) == ()


@pytest.mark.parametrize(
    "change",
    [
        AdminState(mac="52:54:00:ab:cd"),
        AdminState(mac="52:54:00:ab:cd:zz"),
        AdminState(vlans=(Vlan(vid=1), Vlan(vid=2))),
        AdminState(vlans=(Vlan(vid=1, proto="802.1X"),)),
        AdminState(vlans=(Vlan(vid=1, proto="0x10000"),)),
        AdminState(node_guid="00:00:00:00:00:00:01"),
    ],
)
def test_what_cannot_be_said_is_refused(change: AdminState) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode_change(0, change)


def test_a_number_beyond_32_bits_is_refused() -> None:
    with pytest.raises(struct.error):
        encode_change(0, AdminState(rate=Rate(min_tx=0, max_tx=2**32)))


def mixed() -> st.SearchStrategy[AdminState]:
    """Any change: each part there or not."""
    proto = st.sampled_from(("802.1Q", "802.1ad", "0x9100"))
    vlan = st.builds(Vlan, vid=st.integers(0, 4095), qos=st.integers(0, 7), proto=proto).filter(states.is_vlan)
    return st.builds(
        AdminState,
        mac=st.none() | states.octets(6),
        vlans=st.none() | st.just(()) | vlan.map(lambda one: (one,)),
        rate=st.none() | states.rates,
        spoofchk=states.flags,
        link_state=st.none() | st.sampled_from(LinkState),
        rss_query=states.flags,
        trust=states.flags,
        node_guid=st.none() | states.octets(8),
        port_guid=st.none() | states.octets(8),
    )


@given(change=mixed(), vf=st.integers(0, 0xFFFF))
def test_the_kernel_would_set_exactly_that(change: AdminState, vf: int) -> None:
    """Every attribute is there once, has the length that the kernel checks, and names the VF."""
    merged: dict[str, object] = {}
    for payload in encode_change(vf, change):
        ((outer, lists),) = kernel.attributes(payload)
        ((inner, info),) = kernel.attributes(lists)
        assert (outer, inner) == (22, 1)
        named, applied = kernel.do_setvfinfo(info)
        assert named == vf
        parts = {name: value for name in applied.__struct_fields__ if (value := getattr(applied, name)) is not None}
        assert not merged.keys() & parts.keys()
        merged |= parts
    assert AdminState(**merged) == change  # type: ignore[arg-type]


@given(state=states.shown())
def test_what_was_set_reads_back_as_set(state: AdminState) -> None:
    """Encode, take it as the kernel does, show it as the kernel does, decode."""
    named = tuple(Vlan(vid=one.vid, qos=one.qos, proto=one.proto or "802.1Q") for one in state.vlans or ())
    (payload,) = encode_change(0, state)
    ((_outer, lists),) = kernel.attributes(payload)
    ((_inner, info),) = kernel.attributes(lists)
    _vf, applied = kernel.do_setvfinfo(info)
    reading = kernel.read_back([kernel.vf_info(0, applied)])
    assert reading.vfs[0].admin == AdminState(
        mac=state.mac,
        vlans=named,
        rate=state.rate,
        spoofchk=state.spoofchk,
        link_state=state.link_state,
        rss_query=state.rss_query,
        trust=state.trust,
    )
