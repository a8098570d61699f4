# SPDX-License-Identifier: Apache-2.0
"""A source, a destination, and hypothesis strategies for both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from hypothesis import strategies as st

from vferry.core.capability import CapabilityKey, CapabilityTable, Feature, Learned, Verdict
from vferry.core.findings import Finding, Severity
from vferry.core.model import (
    DOT1AD,
    DOT1Q,
    ZERO_MAC,
    AdminState,
    Attribute,
    DeclaredState,
    EswitchMode,
    FunctionState,
    HostFacts,
    LinkState,
    PfFacts,
    PfReading,
    Rate,
    VfFacts,
    VfReading,
    Vlan,
)
from vferry.core.policy import Policy, VlanRange
from vferry.core.preflight import Preflight, Target, check
from vferry.core.record import Record, SavedVf

MAC = "52:54:00:00:00:01"
OTHER_MAC = "52:54:00:00:00:02"
PF_MAC = "52:54:00:aa:00:01"

FRESH = AdminState(
    mac=ZERO_MAC,
    vlans=(),
    rate=Rate(min_tx=0, max_tx=0),
    spoofchk=True,
    link_state=LinkState.AUTO,
    rss_query=False,
    trust=False,
)
"""A VF that nobody has touched."""


def pf_facts(**changes: Any) -> PfFacts:
    base = PfFacts(
        name="eth0",
        device="0000:01:00.0",
        bus="pci",
        netdev="eth0",
        driver="nic",
        address=PF_MAC,
        mtu=1500,
        admin_up=True,
        carrier=True,
        speed=10000,
        num_vfs=4,
    )
    return msgspec.structs.replace(base, **changes)


def vf_facts(index: int = 0, **changes: Any) -> VfFacts:
    base = VfFacts(index=index, address=f"0000:01:10.{index % 8}", vendor="8086", device_id="10ed", vectors=3)
    return msgspec.structs.replace(base, **changes)


def saved_vf(index: int = 0, **changes: Any) -> SavedVf:
    base = SavedVf(
        name=f"src/{index}",
        pf=pf_facts(name="src"),
        facts=vf_facts(index),
        admin=msgspec.structs.replace(FRESH, mac=MAC),
        declared=DeclaredState(mac=MAC),
    )
    return msgspec.structs.replace(base, **changes)


def table(**features: Learned | Verdict) -> CapabilityTable:
    """Everything is accepted, except what is named."""
    learned = {feature: Learned(verdict=Verdict.ACCEPTED) for feature in Feature}
    for name, answer in features.items():
        learned[Feature(name)] = Learned(verdict=answer) if isinstance(answer, Verdict) else answer
    return CapabilityTable(
        key=CapabilityKey(driver="nic", kernel_release="6.12"),
        learned_on="2026-11-01",
        source="probe",
        features=learned,
    )


def target(
    index: int = 0,
    *,
    pf: PfFacts | None = None,
    vf: VfFacts | None = None,
    admin: AdminState = FRESH,
    others: dict[int, AdminState] | None = None,
    capabilities: CapabilityTable | None = None,
    known: bool = True,
    exact: bool = True,
    **reading: Any,
) -> Target:
    pf = pf or pf_facts()
    states = dict.fromkeys(range(4), FRESH) | (others or {}) | {index: admin}
    base = PfReading(
        ifindex=2,
        num_vfs=4,
        vfs=tuple(VfReading(index=number, admin=state) for number, state in sorted(states.items())),
        has_settings=True,
        address=pf.address,
    )
    return Target(
        pf=pf,
        vf=vf or vf_facts(index),
        reading=msgspec.structs.replace(base, **reading),
        capabilities=(capabilities or table()) if known else None,
        capability_exact=exact,
    )


def record(*vfs: SavedVf, final: bool = True) -> Record:
    return Record(
        saved_at="2026-11-01T10:00:00Z",
        host=HostFacts(hostname="a", boot_id="b", kernel_release="6.12.1"),
        final=final,
        vfs=vfs,
    )


def run(
    *pairs: tuple[SavedVf, Target], policy: Policy | None = None, accept: Iterable[Attribute] = (), final: bool = True
) -> Preflight:
    saved = tuple({vf.name: vf for vf, _ in pairs}.values())
    return check(record(*saved, final=final), pairs, policy=policy or Policy(), accept_loss=frozenset(accept))


def only(found: Preflight) -> Finding:
    """Return the one finding that there is."""
    (finding,) = found.findings
    return finding


def codes(found: Preflight, severity: Severity | None = None) -> list[str]:
    return [finding.code for finding in found.findings if severity in {None, finding.severity}]


# What hypothesis draws from.

macs = st.sampled_from([ZERO_MAC, MAC, OTHER_MAC, PF_MAC, "01:00:5e:00:00:01", "00:00:5e:00:01:0a"])
guids = st.sampled_from(["00:00:00:00:00:00:00:00", "00:11:22:33:44:55:66:77"])
vlans = st.lists(
    st.builds(
        Vlan,
        vid=st.sampled_from([0, 5, 100, 200]),
        qos=st.sampled_from([0, 3]),
        proto=st.sampled_from([None, DOT1Q, DOT1AD, "0x9100"]),
    ),
    max_size=2,
    unique_by=lambda vlan: (vlan.vid, vlan.proto),
).map(tuple)
numbers = st.sampled_from([0, 100, 500, 1000, 20000])
rates = st.builds(Rate, min_tx=numbers, max_tx=numbers)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


admin_states = st.builds(
    AdminState,
    mac=maybe(macs),
    vlans=maybe(vlans),
    rate=maybe(rates),
    spoofchk=maybe(st.booleans()),
    link_state=maybe(st.sampled_from(LinkState)),
    rss_query=maybe(st.booleans()),
    trust=maybe(st.booleans()),
    node_guid=maybe(guids),
    port_guid=maybe(guids),
)

functions = st.builds(
    FunctionState,
    hw_addr=maybe(macs),
    roce=maybe(st.booleans()),
    tx_share=maybe(st.sampled_from([0, 10**9])),
    tx_max=maybe(st.sampled_from([0, 10**9])),
)

mtus = maybe(st.sampled_from([1500, 9000]))


@st.composite
def pfs(draw: st.DrawFn) -> PfFacts:
    name = draw(st.sampled_from(["eth0", "eth1"]))
    return pf_facts(
        name=name,
        device=f"dev-{name}",
        netdev=draw(maybe(st.just(name))),
        mtu=draw(mtus),
        admin_up=draw(maybe(st.booleans())),
        speed=draw(maybe(st.sampled_from([1000, 10000]))),
        eswitch_mode=draw(maybe(st.sampled_from(EswitchMode))),
        lag=draw(maybe(st.just("bond0"))),
        rdma=draw(st.sampled_from([(), ("mlx5_0",)])),
        address=draw(maybe(st.just(PF_MAC))),
    )


vfs = st.builds(
    vf_facts,
    st.integers(min_value=0, max_value=3),
    address=maybe(st.just("0000:01:10.0")),
    device_id=maybe(st.sampled_from(["10ed", "154c"])),
    vectors=maybe(st.sampled_from([3, 8])),
    user=maybe(st.just("qemu (4711)")),
)

learned = st.builds(
    Learned, verdict=st.sampled_from(Verdict), errno=maybe(st.sampled_from([22, 95])), shown=maybe(st.just("0"))
)


@st.composite
def tables(draw: st.DrawFn) -> CapabilityTable:
    return CapabilityTable(
        key=CapabilityKey(driver="nic", kernel_release="6.12"),
        learned_on="2026-11-01",
        source="probe",
        features=draw(st.dictionaries(st.sampled_from(Feature), learned)),
        max_vlans=draw(st.sampled_from([1, 2])),
        jumbo_rule=draw(st.booleans()),
    )


@st.composite
def targets(draw: st.DrawFn) -> Target:
    has_settings = draw(st.booleans())
    readings = tuple(VfReading(index=index, admin=draw(admin_states)) for index in range(4)) if has_settings else ()
    return Target(
        pf=draw(pfs()),
        vf=draw(vfs),
        reading=PfReading(ifindex=2, num_vfs=4, vfs=readings, has_settings=has_settings, mtu=draw(mtus)),
        capabilities=draw(maybe(tables())),
        capability_exact=draw(st.booleans()),
    )


saved_vfs = st.builds(
    SavedVf,
    name=st.sampled_from(["src/0", "src/1"]),
    pf=pfs(),
    facts=vfs,
    admin=admin_states,
    function=maybe(functions),
    declared=st.builds(DeclaredState, mac=maybe(macs), mtu=maybe(st.sampled_from([1500, 9000]))),
)

policies = st.builds(
    Policy,
    trust=st.booleans(),
    spoofchk_off=st.booleans(),
    vlans=maybe(st.sampled_from([(), (VlanRange(first=5, last=100),)])),
    untagged=st.booleans(),
    vlan_protocols=maybe(st.sampled_from([(), (DOT1Q,), (DOT1AD,), (DOT1Q, DOT1AD)])),
    max_tx_rate=maybe(st.sampled_from([200, 5000])),
    min_tx_rate=maybe(st.sampled_from([0, 200])),
    rss_query=st.booleans(),
    shared_macs=st.sampled_from([frozenset(), frozenset({MAC})]),
)

# Nothing about these devices refuses, so what is left to refuse are the settings.
sound_saved_vfs = st.builds(
    saved_vf,
    st.just(0),
    admin=admin_states.map(lambda state: msgspec.structs.replace(state, node_guid=None, port_guid=None)),
    declared=st.builds(DeclaredState, mac=st.sampled_from([None, MAC]), mtu=st.just(1500)),
)
sound_targets = st.builds(
    lambda drawn, admin: target(admin=admin, capabilities=drawn.capabilities, known=drawn.capabilities is not None),
    targets(),
    admin_states,
)
sound_pairs = st.tuples(sound_saved_vfs, sound_targets).map(lambda pair: [pair])


@st.composite
def pair_lists(draw: st.DrawFn) -> list[tuple[SavedVf, Target]]:
    """Return a few saved VFs with targets on at most two PFs, of each of which there is one reading."""
    hosts: dict[str, Target] = {}
    pairs = []
    for _ in range(draw(st.integers(min_value=1, max_value=3))):
        drawn = draw(targets())
        first = hosts.setdefault(drawn.pf.device, drawn)
        pairs.append((draw(saved_vfs), msgspec.structs.replace(first, vf=drawn.vf)))
    return pairs


losses = st.frozensets(st.sampled_from(Attribute)) | st.just(frozenset(Attribute))
