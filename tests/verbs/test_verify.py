# SPDX-License-Identifier: Apache-2.0
"""``verify`` and ``check`` compare, and change nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.verbs.cases import TWO_PFS
from tests.verbs.world import context_of, new_host, pairs_of, record_of, source, terms_of
from vferry.core.errors import FailedError
from vferry.core.model import DOT1AD, AdminState, Attribute, EswitchMode, FunctionState, Rate, Vlan
from vferry.testing import IGB_LIKE, LOSSY, NETDEVSIM_LIKE, RESETTING, VIRTIO_LIKE, Behaviour, MemoryJournal
from vferry.verbs.check import CheckRefusedError, check_record
from vferry.verbs.restore import restore
from vferry.verbs.save import save
from vferry.verbs.verify import VerifyFailedError, verify

WITH_SETTINGS = (IGB_LIKE, NETDEVSIM_LIKE, RESETTING, LOSSY)
READS = {"host", "pfs", "pf", "vfs", "read", "read_pci", "read_function"}


@pytest.mark.parametrize("behaviour", WITH_SETTINGS, ids=lambda kind: kind.name)
def test_check_and_verify_leave_the_state_byte_identical(behaviour: Behaviour) -> None:
    record = record_of(source(behaviour, TWO_PFS), TWO_PFS)
    nic, journal = new_host("b", behaviour), MemoryJournal()
    context, terms = context_of(nic, journal), terms_of(nic, behaviour)
    before = nic.snapshot()
    nic.calls.clear()
    assert not check_record(context, record, pairs_of(record, TWO_PFS), terms).refused
    with pytest.raises(VerifyFailedError):
        verify(context, record, pairs_of(record, TWO_PFS), terms)
    assert nic.snapshot() == before
    assert journal.snapshot() == b""
    assert {call.method for call in nic.calls} <= READS


def test_every_difference_is_named() -> None:
    record = record_of(source(IGB_LIKE, TWO_PFS), TWO_PFS)
    nic = new_host()
    context, terms = context_of(nic, MemoryJournal()), terms_of(nic, IGB_LIKE)
    restore(context, record, pairs_of(record, TWO_PFS), terms)
    assert verify(context, record, pairs_of(record, TWO_PFS), terms).differences == ()
    nic.program("eth1", {2: AdminState(trust=False, rate=Rate(min_tx=0, max_tx=10))})
    with pytest.raises(VerifyFailedError) as failed:
        verify(context, record, pairs_of(record, TWO_PFS), terms)
    assert isinstance(failed.value, FailedError)
    assert failed.value.report.differences == (
        "eth1/2 max_tx_rate is 10 Mbit/s, the record says 200 Mbit/s",
        "eth1/2 trust is off, the record says on",
    )
    data: dict[str, Any] = failed.value.to_dict()
    assert list(data["differences"]) == list(failed.value.report.differences)
    assert "vferry restore" in failed.value.next_step


def test_what_the_driver_shows_as_something_else_differs() -> None:
    ref = TWO_PFS[:1]
    home = source(NETDEVSIM_LIKE, ref)
    home.program("eth0", {3: AdminState(vlans=(Vlan(vid=5, proto=DOT1AD),))})
    record = record_of(home, ref)
    nic = new_host("b", LOSSY)
    nic.program("eth0", {3: record.vfs[0].admin})
    with pytest.raises(VerifyFailedError, match=r"vlan_proto is 802\.1Q, the record says 802\.1ad"):
        verify(context_of(nic, MemoryJournal()), record, pairs_of(record, ref), terms_of(nic, LOSSY))


def test_port_functions_are_compared() -> None:
    ref = TWO_PFS[:1]
    home, nic = source(NETDEVSIM_LIKE, ref), new_host("b", NETDEVSIM_LIKE)
    for host in (home, nic):
        host.set_eswitch_mode("eth0", EswitchMode.SWITCHDEV)
    home.program_function("eth0", 3, FunctionState(tx_max=1000))
    record = record_of(home, ref)
    nic.program("eth0", {3: record.vfs[0].admin})
    context, terms = context_of(nic, MemoryJournal()), terms_of(nic, NETDEVSIM_LIKE)
    with pytest.raises(VerifyFailedError, match="function tx_max is 0, the record says 1000"):
        verify(context, record, pairs_of(record, ref), terms)


def test_a_nic_without_settings_verifies_nothing() -> None:
    record = record_of(source(IGB_LIKE, TWO_PFS), TWO_PFS)
    nic = new_host("b", VIRTIO_LIKE)
    with pytest.raises(CheckRefusedError):
        verify(context_of(nic, MemoryJournal()), record, pairs_of(record, TWO_PFS), terms_of(nic, VIRTIO_LIKE))


def test_an_undeclared_mac_is_compared_as_it_was_read() -> None:
    ref = TWO_PFS[:1]
    record = save(context_of(source(IGB_LIKE, ref), MemoryJournal()), ref)
    nic = source(IGB_LIKE, ref)
    context, terms = context_of(nic, MemoryJournal()), terms_of(nic, IGB_LIKE)
    assert verify(context, record, pairs_of(record, ref), terms).differences == ()
    nic.program(ref[0].pf, {ref[0].vf: AdminState(mac="52:54:00:99:99:99")})
    with pytest.raises(VerifyFailedError, match="mac is 52:54:00:99:99:99"):
        verify(context, record, pairs_of(record, ref), terms)
    accepted = msgspec.structs.replace(terms, accept_loss=frozenset({Attribute.MAC}))
    assert verify(context, record, pairs_of(record, ref), accepted).differences == ()


def test_what_the_driver_is_known_to_refuse_is_not_held() -> None:
    ref = TWO_PFS[:1]
    home = source(NETDEVSIM_LIKE, ref)
    home.program("eth0", {3: AdminState(rss_query=True)})
    record = record_of(home, ref)
    nic = new_host("b", IGB_LIKE)
    with pytest.raises(VerifyFailedError, match="rss_query is not held here"):
        verify(context_of(nic, MemoryJournal()), record, pairs_of(record, ref), terms_of(nic, IGB_LIKE))
