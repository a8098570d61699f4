# SPDX-License-Identifier: Apache-2.0
"""Records for tests: one with everything in it, and a hypothesis strategy for any."""

from __future__ import annotations

import msgspec
from hypothesis import strategies as st

from vferry.core.model import (
    DOT1Q,
    AdminState,
    DeclaredState,
    EswitchMode,
    FunctionState,
    HostFacts,
    LinkState,
    PciState,
    PfFacts,
    Rate,
    SriovCapability,
    VfFacts,
    VfStatistics,
    Vlan,
)
from vferry.core.record import Record, SavedVf
from vferry.testing import strategies as own

PF = PfFacts(
    name="eth0",
    device="0000:3b:00.0",
    bus="pci",
    netdev="eth0",
    ifindex=3,
    driver="igb",
    driver_version="6.12.0",
    firmware_version="1.2.3",
    vendor="8086",
    device_id="10c9",
    permanent_address="52:54:00:aa:00:01",
    address="52:54:00:aa:00:01",
    mtu=1500,
    admin_up=True,
    carrier=True,
    speed=1000,
    num_vfs=7,
    total_vfs=7,
    sriov=SriovCapability(vf_offset=0x180, vf_stride=2, vf_device="10ca"),
    eswitch_mode=EswitchMode.LEGACY,
    rdma=("mlx5_0",),
)

FULL = SavedVf(
    name="eth0/3",
    pf=PF,
    facts=VfFacts(
        index=3,
        address="0000:3b:02.3",
        vendor="8086",
        device_id="10ca",
        driver="vfio-pci",
        iommu_group=12,
        vectors=3,
        user="qemu (4711)",
    ),
    admin=AdminState(
        mac="52:54:00:12:34:56",
        vlans=(Vlan(vid=5, qos=3, proto=DOT1Q),),
        rate=Rate(min_tx=0, max_tx=200),
        spoofchk=True,
        link_state=LinkState.AUTO,
        rss_query=False,
        trust=False,
        node_guid="00:11:22:33:44:55:66:77",
        port_guid="00:11:22:33:44:55:66:78",
    ),
    pci=PciState(command=0x0406, msix_control=0x8002),
    function=FunctionState(hw_addr="52:54:00:12:34:56", state="active", roce=True, tx_max=125_000_000),
    broadcast="ff:ff:ff:ff:ff:ff",
    statistics=VfStatistics(**dict.fromkeys(VfStatistics.__struct_fields__, 7)),
    declared=DeclaredState(mac="52:54:00:12:34:56", mtu=1500),
)

RECORD = Record(
    saved_at="2026-01-01T00:00:00.000Z",
    host=HostFacts(hostname="a", boot_id="6f2b", kernel_release="6.12.0"),
    vm="web",
    final=True,
    vfs=(
        FULL,
        msgspec.structs.replace(FULL, name="eth0/4", facts=VfFacts(index=4, address="0000:3b:02.4")),
        SavedVf(
            name="eth1/0",
            pf=PfFacts(name="eth1", device="d", bus="b", num_vfs=1),
            facts=VfFacts(index=0),
            admin=AdminState(),
        ),
    ),
)
"""Everything that a record can hold, a VF of the same PF, and one of which nothing is known."""


@st.composite
def saved_vfs(draw: st.DrawFn, position: int) -> SavedVf:
    pf = draw(own.pf_facts(max_vfs=64).filter(lambda facts: facts.num_vfs > 0))
    admin = draw(own.admin_states())
    entries = {(vlan.vid, vlan.proto): vlan for vlan in admin.vlans or ()}
    if admin.vlans is not None:
        admin = msgspec.structs.replace(admin, vlans=tuple(entries.values()))
    return SavedVf(
        name=f"{draw(own.NAMES)}/{position}",
        pf=msgspec.structs.replace(pf, device=f"{pf.device}#{position}"),
        facts=draw(own.vf_facts(index=draw(st.integers(0, pf.num_vfs - 1)))),
        admin=admin,
        pci=draw(st.none() | own.pci_states()),
        function=draw(st.none() | own.function_states()),
        broadcast=draw(st.none() | st.just("ff:ff:ff:ff:ff:ff")),
        statistics=draw(st.none() | own.vf_statistics()),
        declared=DeclaredState(mac=draw(st.none() | own.macs()), mtu=draw(st.none() | st.integers(68, 65535))),
    )


@st.composite
def records(draw: st.DrawFn) -> Record:
    return Record(
        saved_at="2026-01-01T00:00:00Z",
        host=draw(own.host_facts()),
        vm=draw(st.none() | st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=8)),
        final=draw(st.booleans()),
        vfs=tuple(draw(saved_vfs(position)) for position in range(draw(st.integers(1, 3)))),
    )
