# SPDX-License-Identifier: Apache-2.0
"""The verbs over the software 82599: what its PF driver makes hard."""

from __future__ import annotations

import pytest

from tests.ixgbe.nic_rig import VM_MAC, Host
from vferry.core.fence import Column, FenceImpossibleError, Lever, Mode
from vferry.core.model import ZERO_MAC, AdminState, LinkState
from vferry.core.policy import Policy
from vferry.core.reference_tables import REFERENCE_TABLES
from vferry.nic.ixgbe.pf_driver import DriverError
from vferry.testing import MemoryJournal, SimClock
from vferry.verbs.check import Terms, check_record
from vferry.verbs.context import Context, VfRef
from vferry.verbs.fence import FenceRequest, fence, unfence
from vferry.verbs.release import release
from vferry.verbs.save import save

REF = VfRef("eth0", 1)


def context_of(host: Host) -> Context:
    return Context(nic=host.nic, journal=MemoryJournal(), clock=SimClock())


def admin(host: Host) -> AdminState:
    return host.nic.read("eth0").vfs[1].admin


def test_release_takes_a_mac_away_whose_filter_a_reset_has_dropped() -> None:
    """ixgbe_ndo_set_vf_mac(): ENOMEM, because the filter of the old MAC is not found."""
    host = Host()
    assert host.nic.program("eth0", {1: AdminState(mac=VM_MAC)}) == {1: None}
    host.nic.reset_vf("eth0", 1)
    with pytest.raises(DriverError, match=r"."):
        host.software.driver.set_vf_mac(1, bytes(6))
    released = release(context_of(host), [REF], REFERENCE_TABLES)
    assert released[0].kept == ()
    assert admin(host).mac == ZERO_MAC


def test_a_trusted_vf_is_fenced_only_while_its_guest_is_stopped() -> None:
    """Taking trust away resets the VF on this driver, and a device-state migration cannot bear that."""
    host = Host()
    host.nic.program("eth0", {1: AdminState(mac=VM_MAC, trust=True)})
    before = admin(host)
    context = context_of(host)
    with pytest.raises(FenceImpossibleError):
        fence(context, [REF], FenceRequest(mode=Mode.DEVICE_STATE))
    assert admin(host) == before
    fenced = fence(context, [REF], FenceRequest(mode=Mode.DEVICE_STATE, guest_stopped=True))
    assert Lever.TRUST_OFF not in fenced[0].plan.levers
    assert Column.ADMIN_UNICAST in fenced[0].evidence.claims
    assert admin(host).mac != VM_MAC
    unfence(context, [REF])
    assert admin(host) == before


def test_the_jumbo_rule_is_known_of_the_82599() -> None:
    """(standard, jumbo) is refused unless the operator has looked at the guest."""
    source, destination = Host("a"), Host("b", mtu=9000)
    source.nic.program("eth0", {1: AdminState(mac=VM_MAC)})
    record = save(context_of(source), [REF], vm="web")
    terms = Terms(policy=Policy(), tables=REFERENCE_TABLES)
    preflight = check_record(context_of(destination), record, [(record.vfs[0], REF)], terms)
    assert "mtu-jumbo-session" in {finding.code for finding in preflight.findings}


def test_link_state_enable_is_known_not_to_stick() -> None:
    """A record that asks for it is refused before anything is programmed, and not found out afterwards."""
    table = next(table for table in REFERENCE_TABLES if table.key.driver == "ixgbe")
    host = Host()
    assert host.nic.program("eth0", {1: AdminState(link_state=LinkState.ENABLE)}) == {1: None}
    assert admin(host).link_state is LinkState.AUTO
    assert table.defaults == admin(Host("c"))
