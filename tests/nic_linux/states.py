# SPDX-License-Identifier: Apache-2.0
"""VF states that a kernel can show, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from vferry.core.model import AdminState, LinkState, Rate, VfStatistics, Vlan

U32 = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from((0, 1, 100, 2**32 - 1)))
U63 = st.integers(0, 2**63 - 1)
flags = st.sampled_from((None, False, True))


def octets(count: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=count, max_size=count).map(lambda raw: raw.hex(":"))


def is_vlan(vlan: Vlan) -> bool:
    return bool(vlan.vid or vlan.qos)


protocols = st.one_of(
    st.sampled_from((None, "802.1Q", "802.1ad")), st.sampled_from((0x9100, 1, 0xFFFF)).map(lambda n: f"0x{n:04x}")
)
vlans = st.builds(Vlan, vid=st.integers(0, 4095), qos=st.integers(0, 7), proto=protocols).filter(is_vlan)
rates = st.builds(Rate, min_tx=U32, max_tx=U32)
statistics = st.builds(
    VfStatistics,
    rx_packets=U63,
    tx_packets=U63,
    rx_bytes=U63,
    tx_bytes=U63,
    broadcast=U63,
    multicast=U63,
    rx_dropped=U63,
    tx_dropped=U63,
)


def shown(length: int = 6, *, guids: bool = False) -> st.SearchStrategy[AdminState]:
    """A state as a kernel shows it: the rest is always there, flags may be unreported."""
    return st.builds(
        AdminState,
        mac=octets(length),
        vlans=st.one_of(st.just(()), vlans.map(lambda vlan: (vlan,))),
        rate=st.one_of(st.just(Rate(min_tx=0, max_tx=0)), rates),
        spoofchk=flags,
        link_state=st.sampled_from(LinkState),
        rss_query=flags,
        trust=flags,
        node_guid=octets(8) if guids else st.none(),
        port_guid=octets(8) if guids else st.none(),
    )
