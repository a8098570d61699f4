# SPDX-License-Identifier: Apache-2.0
"""Records for tests: one with everything in it, any, and what must be refused of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

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
from vferry.core.record import (
    Record,
    RecordDuplicateError,
    RecordError,
    RecordMalformedError,
    RecordRangeError,
    RecordUnknownFieldError,
    RecordVersionError,
    SavedVf,
    encode_json,
)
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


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


Document = dict[str, Any]
Change = Callable[[Document], None]


def document() -> Document:
    parsed: Document = json.loads(encode_json(RECORD))
    return parsed


def sealed(content: Document) -> Document:
    """The document with a digest that is right, so that nothing else can be the reason of a refusal."""
    return {**content, "digest": plain_digest(content)}


def plain_digest(content: Document) -> str:
    """The digest by the standard library alone, as the documentation says."""
    without = {name: value for name, value in content.items() if name != "digest"}
    text = json.dumps(without, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def put(path: str, value: object) -> Change:
    """Set the member at ``path``, whose parts are separated by dots."""

    def change(content: Document) -> None:
        *parents, last = path.split(".")
        target: Any = content
        for part in parents:
            target = target[int(part) if part.isdecimal() else part]
        target[int(last) if last.isdecimal() else last] = value

    return change


def drop(path: str) -> Change:
    def change(content: Document) -> None:
        *parents, last = path.split(".")
        target: Any = content
        for part in parents:
            target = target[int(part) if part.isdecimal() else part]
        del target[last]

    return change


ADMIN = "vfs.0.admin"
REFUSALS: list[tuple[Change, type[RecordError], str]] = [
    (put("format", "other"), RecordMalformedError, "format"),
    (drop("format"), RecordMalformedError, "format"),
    (put("version", 2), RecordVersionError, "version"),
    (put("version", 0), RecordVersionError, "version"),
    (put("version", "1"), RecordMalformedError, "version"),
    (put("version", True), RecordMalformedError, "version"),
    (drop("version"), RecordMalformedError, "version"),
    (put("saved_at", "yesterday"), RecordRangeError, "saved_at"),
    (put("saved_at", "2026-01-01T00:00:00Z\n"), RecordRangeError, "saved_at"),
    (put("saved_at", "٢٠٢٦-01-01T00:00:00Z"), RecordRangeError, "saved_at"),
    (drop("saved_at"), RecordMalformedError, "saved_at"),
    (drop("host"), RecordMalformedError, "host"),
    (drop("host.boot_id"), RecordMalformedError, "host.boot_id"),
    (put("host.hostname", ""), RecordRangeError, "host.hostname"),
    (put("host.hostname", "x" * 257), RecordRangeError, "host.hostname"),
    (put("vm", 1), RecordMalformedError, "vm"),
    (put("vm", "web\x1b[2J"), RecordRangeError, "vm"),
    (put("vm", "web\n"), RecordRangeError, "vm"),
    (put("final", "yes"), RecordMalformedError, "final"),
    (put("vfs", []), RecordRangeError, "vfs"),
    (put("vfs", {}), RecordMalformedError, "vfs"),
    (drop("vfs"), RecordMalformedError, "vfs"),
    (put("surprise", 1), RecordUnknownFieldError, "surprise"),
    (put("vfs.0.surprise", 1), RecordUnknownFieldError, "vfs[0].surprise"),
    (put("vfs.1.pf.surprise", 1), RecordUnknownFieldError, "vfs[1].pf.surprise"),
    (put(f"{ADMIN}.surprise", 1), RecordUnknownFieldError, "vfs[0].admin.surprise"),
    (put(f"{ADMIN}.vlans.0.surprise", 1), RecordUnknownFieldError, "vfs[0].admin.vlans[0].surprise"),
    (put(f"{ADMIN}.mac", "52:54:00:12:34"), RecordRangeError, "vfs[0].admin.mac"),
    (put(f"{ADMIN}.mac", "52:54:00:12:34:5G"), RecordRangeError, "vfs[0].admin.mac"),
    (put(f"{ADMIN}.mac", "52:54:00:12:34:56\n"), RecordRangeError, "vfs[0].admin.mac"),
    (put(f"{ADMIN}.mac", 0), RecordMalformedError, "vfs[0].admin.mac"),
    (put(f"{ADMIN}.vlans.0.vid", 4096), RecordRangeError, "vfs[0].admin.vlans[0].vid"),
    (put(f"{ADMIN}.vlans.0.vid", -1), RecordRangeError, "vfs[0].admin.vlans[0].vid"),
    (put(f"{ADMIN}.vlans.0.vid", "5"), RecordMalformedError, "vfs[0].admin.vlans[0].vid"),
    (put(f"{ADMIN}.vlans.0.qos", 8), RecordRangeError, "vfs[0].admin.vlans[0].qos"),
    (put(f"{ADMIN}.vlans.0.proto", "8021q"), RecordRangeError, "vfs[0].admin.vlans[0].proto"),
    (put(f"{ADMIN}.rate.max_tx", 1 << 32), RecordRangeError, "vfs[0].admin.rate.max_tx"),
    (put(f"{ADMIN}.rate.min_tx", -1), RecordRangeError, "vfs[0].admin.rate.min_tx"),
    (drop(f"{ADMIN}.rate.min_tx"), RecordMalformedError, "vfs[0].admin.rate.min_tx"),
    (put(f"{ADMIN}.spoofchk", 1), RecordMalformedError, "vfs[0].admin.spoofchk"),
    (put(f"{ADMIN}.link_state", "up"), RecordRangeError, "vfs[0].admin.link_state"),
    (put(f"{ADMIN}.node_guid", "00:11"), RecordRangeError, "vfs[0].admin.node_guid"),
    (put("vfs.0.facts.index", 0x10000), RecordRangeError, "vfs[0].facts.index"),
    (put("vfs.0.facts.index", 7), RecordRangeError, "vfs[0].facts.index"),
    (put("vfs.0.facts.address", "3b:02.3"), RecordRangeError, "vfs[0].facts.address"),
    (put("vfs.0.pci.command", 0x10000), RecordRangeError, "vfs[0].pci.command"),
    (put("vfs.0.function.state", "sleeping"), RecordRangeError, "vfs[0].function.state"),
    (put("vfs.0.function.tx_max", 1 << 63), RecordRangeError, "vfs[0].function.tx_max"),
    (put("vfs.0.statistics.rx_bytes", -1), RecordRangeError, "vfs[0].statistics.rx_bytes"),
    (put("vfs.0.declared.mtu", 67), RecordRangeError, "vfs[0].declared.mtu"),
    (put("vfs.0.declared.mtu", 65536), RecordRangeError, "vfs[0].declared.mtu"),
    (put("vfs.0.pf.eswitch_mode", "offline"), RecordRangeError, "vfs[0].pf.eswitch_mode"),
    (put("vfs.1.name", "eth0/3"), RecordDuplicateError, "vfs[1].name"),
    (put("vfs.1.facts.index", 3), RecordDuplicateError, "vfs[1]"),
    (put(f"{ADMIN}.vlans", [{"vid": 5}, {"vid": 5, "qos": 1}]), RecordDuplicateError, "vfs[0].admin.vlans"),
]
