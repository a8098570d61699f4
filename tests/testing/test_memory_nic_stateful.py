# SPDX-License-Identifier: Apache-2.0
"""MemoryNic as igb against an oracle that was written by hand from what igb does."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from vferry.core.model import ZERO_MAC, AdminState, LinkState, Rate, Vlan
from vferry.ports.nic import NoSuchFunctionError, RejectedError
from vferry.testing import IGB_LIKE, MemoryNic, MemoryPf
from vferry.testing.strategies import admin_states, macs

VFS = 3


class OracleVf:
    """One VF of igb: what the administrator and the guest have done to it, in the plainest way."""

    def __init__(self) -> None:
        self.mac = ZERO_MAC
        self.has_admin_mac = False
        self.vlan: tuple[Vlan, ...] = ()
        self.max_rate = 0
        self.spoofchk = True
        self.trust = False

    def shown(self) -> AdminState:
        return AdminState(
            mac=self.mac,
            vlans=self.vlan,
            rate=Rate(min_tx=0, max_tx=self.max_rate),
            spoofchk=self.spoofchk,
            link_state=LinkState.AUTO,
            trust=self.trust,
        )

    def program(self, change: AdminState, *, link: bool) -> int | None:
        """Apply a change; return the error number of the first refusal."""
        if change.mac is not None:
            if int(change.mac[:2], 16) & 1 or len(change.mac) > 17:
                return errno.EINVAL
            self.mac, self.has_admin_mac = change.mac, change.mac != ZERO_MAC
        if change.vlans is not None:
            if any(vlan.proto not in (None, "802.1Q") for vlan in change.vlans):
                return errno.EPROTONOSUPPORT
            self.vlan = tuple(
                Vlan(vid=vlan.vid, qos=vlan.qos, proto="802.1Q")
                for vlan in change.vlans
                if (vlan.vid, vlan.qos) != (0, 0)
            )
        if change.rate is not None:
            if not link or change.rate.min_tx != 0 or change.rate.max_tx > 1000:
                return errno.EINVAL
            self.max_rate = change.rate.max_tx
        if change.spoofchk is not None:
            self.spoofchk = change.spoofchk
        if change.link_state is not None or change.rss_query is not None:
            return errno.EOPNOTSUPP
        if change.trust is not None:
            self.trust = change.trust
        return errno.EOPNOTSUPP if change.node_guid or change.port_guid else None


class IgbMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.nic = MemoryNic(host="a", pfs=[MemoryPf(name="eth0", num_vfs=VFS), MemoryPf(name="eth1", num_vfs=1)])
        self.vfs = [OracleVf() for _ in range(VFS)]
        self.up = True
        self.ifindex = 2
        self.neighbour = self.nic.read("eth1")
        self.entries: set[str] = set()

    @rule(change=admin_states(IGB_LIKE), vf=st.integers(0, VFS - 1))
    def program_what_igb_takes(self, change: AdminState, vf: int) -> None:
        self.program({vf: change})

    @rule(changes=st.dictionaries(st.integers(0, VFS), admin_states().filter(lambda s: len(s.vlans or ()) <= 1)))
    def program(self, changes: dict[int, AdminState]) -> None:
        if any(vf >= len(self.vfs) for vf in changes):
            with pytest.raises(NoSuchFunctionError):
                self.nic.program("eth0", changes)
            return
        outcomes = self.nic.program("eth0", changes)
        assert list(outcomes) == list(changes)
        for vf, change in changes.items():
            number = self.vfs[vf].program(change, link=self.up)
            error = outcomes[vf]
            assert (error.errno if error is not None else None) == number

    @rule(vf=st.integers(0, VFS - 1), mac=macs())
    def guest_sets_mac(self, vf: int, mac: str) -> None:
        if vf >= len(self.vfs):
            return
        oracle = self.vfs[vf]
        allowed = oracle.trust or not oracle.has_admin_mac
        assert self.nic.guest_sets_mac("eth0", vf, mac) is allowed
        if allowed:
            oracle.mac = mac

    @rule(vf=st.integers(0, VFS - 1))
    def reset(self, vf: int) -> None:
        if vf < len(self.vfs):
            self.nic.reset_vf("eth0", vf)
            if not self.vfs[vf].has_admin_mac:
                self.vfs[vf].mac = ZERO_MAC

    @rule(up=st.booleans())
    def bring_the_pf_up_or_down(self, up: Any) -> None:
        self.nic.set_pf("eth0", admin_up=up)
        self.up = up

    @rule(mac=macs(), there=st.booleans())
    def forward(self, mac: str, there: bool) -> None:
        change = self.nic.add_fdb if there else self.nic.remove_fdb
        if int(mac[:2], 16) & 1 or mac == ZERO_MAC:
            with pytest.raises(RejectedError):
                change("eth0", mac)
            return
        change("eth0", mac)
        (self.entries.add if there else self.entries.discard)(mac)

    @rule()
    def reload_driver(self) -> None:
        self.nic.reload_driver("eth0")
        self.entries.clear()
        self.vfs = [OracleVf() for _ in self.vfs]
        self.ifindex = 4 if self.ifindex == 2 else self.ifindex + 1

    @rule(count=st.integers(0, VFS))
    def set_num_vfs(self, count: int) -> None:
        self.nic.set_num_vfs("eth0", count)
        self.vfs = self.vfs[:count] + [OracleVf() for _ in range(count - len(self.vfs))]

    @rule()
    def reboot(self) -> None:
        boot_id = self.nic.host().boot_id
        self.nic.reboot()
        assert self.nic.host().boot_id != boot_id
        self.entries.clear()
        self.vfs = [OracleVf() for _ in range(VFS)]
        self.up, self.ifindex = True, 2

    @invariant()
    def agrees_with_the_oracle(self) -> None:
        reading = self.nic.read("eth0")
        assert [vf.admin for vf in reading.vfs] == [vf.shown() for vf in self.vfs]
        assert [vf.index for vf in reading.vfs] == list(range(len(self.vfs)))
        assert (reading.num_vfs, reading.ifindex, reading.carrier) == (len(self.vfs), self.ifindex, self.up)
        assert self.nic.pf("eth0").num_vfs == len(self.vfs) == len(self.nic.vfs("eth0"))
        assert self.nic.read_fdb("eth0") == tuple(sorted(self.entries))
        assert self.nic.read("eth1") == self.neighbour
        assert self.nic.read_fdb("eth1") == ()


IgbMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestIgb = IgbMachine.TestCase
