# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for the model, within the bounds that the model sets; needs hypothesis."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from vferry.core.model import (
    DOT1AD,
    DOT1Q,
    MAX_VF_INDEX,
    ZERO_MAC,
    AdminState,
    EswitchMode,
    FunctionState,
    HostFacts,
    LinkState,
    PciState,
    PfFacts,
    PfReading,
    Rate,
    SriovCapability,
    VfFacts,
    VfReading,
    VfStatistics,
    Vlan,
)
from vferry.core.undo import UndoKind, UndoRecord, VfIdentity, VfKey
from vferry.testing.behaviour import Behaviour
from vferry.testing.faults import (
    LASTING,
    PASSING,
    SETTABLE,
    ErrnoFault,
    Fault,
    HiddenFault,
    IgnoredFault,
    LossyProtocolFault,
    ResetFault,
    ShortReadingFault,
    SlowFault,
    VanishFault,
)

__all__ = [
    "admin_states",
    "faults",
    "function_states",
    "guids",
    "harmless_faults",
    "host_facts",
    "macs",
    "pci_states",
    "pf_facts",
    "pf_readings",
    "rates",
    "undo_records",
    "vf_facts",
    "vf_statistics",
    "vlans",
]

U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFF_FFFF)
U63 = st.integers(0, 0x7FFF_FFFF_FFFF_FFFF)
NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=16)
PCI_IDS = U16.map("{:04x}".format)
IFINDEXES = st.integers(1, 0x7FFF_FFFF)


def _octets(count: int) -> SearchStrategy[str]:
    return st.binary(min_size=count, max_size=count).map(lambda octets: octets.hex(":"))


def macs() -> SearchStrategy[str]:
    """Return unicast Ethernet addresses that are not zero."""
    octets = st.tuples(st.integers(1, 0x7F).map(lambda octet: octet * 2), st.binary(min_size=5, max_size=5))
    return octets.map(lambda pair: (bytes([pair[0]]) + pair[1]).hex(":"))


def guids() -> SearchStrategy[str]:
    """Return InfiniBand GUIDs."""
    return _octets(8)


def vlans(*, protocols: Sequence[str | None] = (None, DOT1Q, DOT1AD)) -> SearchStrategy[Vlan]:
    """Return VLAN entries that are not "no VLAN"."""
    return st.builds(Vlan, vid=st.integers(1, 4095), qos=st.integers(0, 7), proto=st.sampled_from(protocols))


def rates(*, limit: int = 0xFFFF_FFFF, guarantees: bool = True) -> SearchStrategy[Rate]:
    """Return rates that the kernel takes: no guarantee above the limit."""
    highest = st.integers(0, limit)
    if not guarantees:
        return st.builds(Rate, min_tx=st.just(0), max_tx=highest)
    pairs = st.tuples(highest, highest).map(sorted)
    return pairs.map(lambda pair: Rate(min_tx=pair[0], max_tx=pair[1]))


def admin_states(behaviour: Behaviour | None = None, *, speed: int = 1000) -> SearchStrategy[AdminState]:
    """Return settings: any that the model allows, or those that a PF of ``behaviour`` accepts.

    :param speed: the PF's link speed in Mbit/s, where the behaviour refuses more.
    """
    if behaviour is None:
        return _any_admin_states()
    if not behaviour.has_settings:
        return st.just(AdminState())
    limit = speed if behaviour.rate_within_speed else 0xFFFF_FFFF
    fields = {field: _accepted(behaviour, field, choices) for field, choices in _choices(limit).items()}
    return st.builds(AdminState, **fields)


def _any_admin_states() -> SearchStrategy[AdminState]:
    protocols = (None, DOT1Q, DOT1AD, "0x9100")
    entries = st.builds(Vlan, vid=st.integers(0, 4095), qos=st.integers(0, 7), proto=st.sampled_from(protocols))
    return st.builds(
        AdminState,
        mac=st.none() | _octets(6) | _octets(20),
        vlans=st.none() | st.lists(entries, max_size=3).map(tuple),
        rate=st.none() | st.builds(Rate, min_tx=U32, max_tx=U32),
        spoofchk=st.none() | st.booleans(),
        link_state=st.none() | st.sampled_from(LinkState),
        rss_query=st.none() | st.booleans(),
        trust=st.none() | st.booleans(),
        node_guid=st.none() | guids(),
        port_guid=st.none() | guids(),
    )


Choice = tuple[object, SearchStrategy[object]]
"""One value that stands for all of a strategy, and the strategy."""


def _choices(limit: int) -> dict[str, tuple[Choice, ...]]:
    plain = st.builds(Vlan, vid=st.integers(1, 4095), proto=st.just(DOT1Q))
    with_qos = vlans(protocols=(DOT1Q,))
    with_dot1ad = vlans(protocols=(DOT1AD,))
    guid = "00:00:00:00:00:00:00:01"
    return {
        "mac": ((ZERO_MAC, st.just(ZERO_MAC)), ("02:00:00:00:00:01", macs())),
        "vlans": (
            ((), st.just(())),
            ((Vlan(vid=1, proto=DOT1Q),), st.tuples(plain)),
            ((Vlan(vid=1, qos=1, proto=DOT1Q),), st.tuples(with_qos)),
            ((Vlan(vid=1, qos=1, proto=DOT1AD),), st.tuples(with_dot1ad)),
        ),
        "rate": (
            (Rate(min_tx=0, max_tx=1), rates(limit=limit, guarantees=False)),
            (Rate(min_tx=1, max_tx=1), rates(limit=limit)),
        ),
        "spoofchk": ((True, st.booleans()),),
        "link_state": tuple((state, st.just(state)) for state in LinkState),
        "rss_query": ((True, st.booleans()),),
        "trust": ((True, st.booleans()),),
        "node_guid": ((guid, guids()),),
        "port_guid": ((guid, guids()),),
    }


def _accepted(behaviour: Behaviour, field: str, choices: tuple[Choice, ...]) -> SearchStrategy[object]:
    accepted = [strategy for value, strategy in choices if behaviour.errno_for(field, value) is None]
    return st.one_of(st.none(), *accepted)


def vf_statistics() -> SearchStrategy[VfStatistics]:
    """Return a VF's counters."""
    return st.builds(VfStatistics, **dict.fromkeys(VfStatistics.__struct_fields__, U63))


def pci_states() -> SearchStrategy[PciState]:
    """Return a VF's PCI words."""
    return st.builds(PciState, command=U16, msix_control=st.none() | U16)


def function_states() -> SearchStrategy[FunctionState]:
    """Return port functions."""
    flag = st.none() | st.booleans()
    return st.builds(
        FunctionState,
        hw_addr=st.none() | macs(),
        state=st.sampled_from((None, "inactive", "active")),
        roce=flag,
        migratable=flag,
        ipsec_crypto=flag,
        ipsec_packet=flag,
        tx_share=st.none() | U63,
        tx_max=st.none() | U63,
    )


def host_facts() -> SearchStrategy[HostFacts]:
    """Return facts of hosts."""
    return st.builds(HostFacts, hostname=NAMES, boot_id=st.uuids().map(str), kernel_release=NAMES)


def _pci_addresses() -> SearchStrategy[str]:
    parts = st.tuples(U16, st.integers(0, 0xFF), st.integers(0, 0x1F), st.integers(0, 7))
    return parts.map(lambda part: "{:04x}:{:02x}:{:02x}.{}".format(*part))


def pf_facts(*, max_vfs: int = MAX_VF_INDEX + 1) -> SearchStrategy[PfFacts]:
    """Return facts of PFs on PCI."""
    return st.builds(
        PfFacts,
        name=NAMES,
        device=_pci_addresses(),
        bus=st.just("pci"),
        netdev=st.none() | NAMES,
        ifindex=st.none() | IFINDEXES,
        driver=st.none() | NAMES,
        driver_version=st.none() | NAMES,
        firmware_version=st.none() | NAMES,
        vendor=st.none() | PCI_IDS,
        device_id=st.none() | PCI_IDS,
        permanent_address=st.none() | macs(),
        address=st.none() | macs(),
        mtu=st.none() | st.integers(68, 9216),
        admin_up=st.none() | st.booleans(),
        carrier=st.none() | st.booleans(),
        speed=st.none() | st.sampled_from((1000, 10_000, 25_000, 100_000)),
        num_vfs=st.integers(0, max_vfs),
        total_vfs=st.none() | st.integers(0, max_vfs),
        sriov=st.none() | st.builds(SriovCapability, vf_offset=U16, vf_stride=U16, vf_device=PCI_IDS),
        eswitch_mode=st.none() | st.sampled_from(EswitchMode),
        lag=st.none() | NAMES,
        rdma=st.lists(NAMES, max_size=2).map(tuple),
    )


def vf_facts(*, index: int | None = None) -> SearchStrategy[VfFacts]:
    """Return facts of VFs."""
    return st.builds(
        VfFacts,
        index=st.integers(0, MAX_VF_INDEX) if index is None else st.just(index),
        address=st.none() | _pci_addresses(),
        vendor=st.none() | PCI_IDS,
        device_id=st.none() | PCI_IDS,
        driver=st.none() | NAMES,
        netdev=st.none() | NAMES,
        iommu_group=st.none() | st.integers(0, 0xFFFF),
        vectors=st.none() | st.integers(1, 2048),
        user=st.none() | NAMES,
    )


@st.composite
def pf_readings(draw: st.DrawFn, behaviour: Behaviour | None = None, *, max_vfs: int = 4) -> PfReading:
    """Draw whole readings: as many VFs as the kernel counts, in order."""
    states = draw(st.lists(admin_states(behaviour), max_size=max_vfs))
    return PfReading(
        ifindex=draw(IFINDEXES),
        num_vfs=len(states),
        vfs=tuple(VfReading(index=index, admin=state) for index, state in enumerate(states)),
        has_settings=True,
        mtu=draw(st.none() | st.integers(68, 9216)),
        admin_up=draw(st.none() | st.booleans()),
        carrier=draw(st.none() | st.booleans()),
        permanent_address=draw(st.none() | macs()),
        address=draw(st.none() | macs()),
    )


def _vf_keys() -> SearchStrategy[VfKey]:
    return st.builds(VfKey, device=_pci_addresses(), index=st.integers(0, MAX_VF_INDEX))


def undo_records() -> SearchStrategy[UndoRecord]:
    """Return undo records."""
    identities = st.builds(
        VfIdentity,
        boot_id=st.uuids().map(str),
        pf=NAMES,
        key=_vf_keys(),
        ifindex=st.none() | IFINDEXES,
        permanent_address=st.none() | macs(),
        num_vfs=st.integers(1, MAX_VF_INDEX + 1),
        vf_address=st.none() | _pci_addresses(),
    )
    return st.builds(
        UndoRecord,
        kind=st.sampled_from(UndoKind),
        transaction=NAMES,
        lead=_vf_keys(),
        identity=identities,
        before=admin_states(),
        wanted=admin_states(),
        before_function=st.none() | function_states(),
        before_pci=st.none() | pci_states(),
        completed=st.booleans(),
        started=st.just("2026-01-01T00:00:00Z"),
        details=st.dictionaries(NAMES, NAMES, max_size=2),
    )


def harmless_faults(*, calls: int = 20) -> SearchStrategy[Fault]:
    """Return faults that patience overcomes: busy for a while, and slow within the deadline."""
    at_call, times = st.integers(1, calls), st.integers(1, 3)
    return st.one_of(
        st.builds(ErrnoFault, at_call=at_call, times=times, number=st.sampled_from(PASSING)),
        st.builds(SlowFault, at_call=at_call, times=times, seconds=st.floats(0, 0.5), deadline=st.just(1.0)),
    )


def faults(*, vfs: Sequence[int], calls: int = 20) -> SearchStrategy[Fault]:
    """Return faults of every kind but a reloaded driver, whose defaults only its test knows."""
    at_call, times = st.integers(1, calls), st.integers(1, 3)
    vf, attribute = st.sampled_from(vfs), st.sampled_from(SETTABLE)
    number = st.sampled_from(LASTING)
    late = {"seconds": st.just(30.0), "deadline": st.just(1.0), "applied": st.sampled_from((None, 0, 1))}
    return st.one_of(
        harmless_faults(calls=calls),
        st.builds(ErrnoFault, vf=vf, at_call=at_call, times=times, number=number, attribute=attribute),
        st.builds(ErrnoFault, at_call=at_call, times=times, number=st.just(errno.EAGAIN), method=st.just("read")),
        st.builds(HiddenFault, vf=vf, at_call=at_call, attribute=attribute),
        st.builds(IgnoredFault, vf=vf, at_call=at_call, attribute=attribute),
        st.builds(LossyProtocolFault, vf=vf, at_call=at_call),
        st.builds(SlowFault, at_call=at_call, times=st.just(1), **late),
        st.builds(ResetFault, vf=vf, at_call=at_call, attribute=attribute, busy=st.integers(0, 3)),
        st.builds(VanishFault, vf=vf, at_call=at_call),
        st.builds(ShortReadingFault, at_call=at_call, times=times),
    )
