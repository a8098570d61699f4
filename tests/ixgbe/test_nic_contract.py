# SPDX-License-Identifier: Apache-2.0
"""The NIC contract over software 82599s, bare and with faults in front."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import ClassVar

import pytest

from vferry.core.capability import Feature
from vferry.core.model import ZERO_MAC, AdminState, Attribute, LinkState
from vferry.nic.ixgbe.nic import make_host
from vferry.ports.nic import Nic, NicError, NotSupportedError, RejectedError
from vferry.testing import (
    CrashingNic,
    CrashPoints,
    ErrnoFault,
    Fault,
    FaultNic,
    ResetFault,
    SimClock,
    SlowFault,
)
from vferry.testing.nic_contract import NicContract

REFUSED: dict[Feature, type[NicError]] = {
    Feature.VLAN_DOT1AD: RejectedError,
    Feature.MIN_TX_RATE: RejectedError,
    Feature.NODE_GUID: NotSupportedError,
    Feature.PORT_GUID: NotSupportedError,
}
ACCEPTED = frozenset(Feature) - REFUSED.keys() - {Feature.LINK_STATE_ENABLE}


class IxgbeContract(NicContract):
    pf = "eth0"
    spare = (1, 3)
    accepted = ACCEPTED
    changed: ClassVar[Mapping[Feature, AdminState]] = {Feature.LINK_STATE_ENABLE: AdminState(link_state=LinkState.AUTO)}
    refused: ClassVar[Mapping[Feature, type[NicError]]] = REFUSED
    offers_statistics = True
    can_reset = True
    pause = 0.0

    @pytest.fixture
    def nic(self) -> Nic:
        nic = make_host("a", num_vfs=5)
        nic.assign_vf("eth0", 4, "the neighbour")
        return nic

    def give_back(self, nic: Nic, vf: int, before: AdminState) -> None:
        """Set an address first: after a bare reset its filter is gone, and ixgbe refuses to take it away (ENOMEM)."""
        if before.mac == ZERO_MAC != self.admin(nic, vf).mac:
            self.program(nic, {vf: AdminState(mac="02:76:66:72:7a:ff")})
        super().give_back(nic, vf, before)

    def test_every_feature_is_covered(self) -> None:
        assert self.accepted | self.changed.keys() | self.refused.keys() == set(Feature)


class TestIxgbe(IxgbeContract):
    pf = "eth1"

    @pytest.fixture
    def nic(self) -> Nic:
        nic = make_host("a", pfs=2, num_vfs=5)
        nic.assign_vf("eth1", 4, "the neighbour")
        return nic


class TestWithoutLink(IxgbeContract):
    """Rates are refused while the link is down."""

    accepted = ACCEPTED - {Feature.MAX_TX_RATE}
    refused: ClassVar[Mapping[Feature, type[NicError]]] = {**REFUSED, Feature.MAX_TX_RATE: RejectedError}

    @pytest.fixture
    def nic(self) -> Nic:
        nic = make_host("a", num_vfs=5)
        nic.set_link("eth0", up=False)
        return nic


class TestManyVfs(IxgbeContract):
    """Pools of two queues, and VFs in the upper word of the bitmaps."""

    spare = (31, 40)

    @pytest.fixture
    def nic(self) -> Nic:
        return make_host("a", num_vfs=41)


class FaultContract(IxgbeContract):
    faults: ClassVar[tuple[Fault, ...]] = ()

    @pytest.fixture
    def nic(self) -> Nic:
        inner = make_host("a", num_vfs=5)
        inner.assign_vf("eth0", 4, "the neighbour")
        return FaultNic(inner, self.faults, clock=SimClock())


class TestWithoutFaults(FaultContract):
    pass


class TestBusyForAWhile(FaultContract):
    faults = (
        ErrnoFault(vf=1, number=errno.EAGAIN, times=2),
        ErrnoFault(vf=3, number=errno.EBUSY, times=3, at_call=4),
    )


class TestSlowWithinTheDeadline(FaultContract):
    faults = (
        SlowFault(seconds=0.4, deadline=1.0, times=None),
        SlowFault(seconds=0.4, deadline=1.0, times=None, method="read"),
    )


class TestFaultsOfOtherVfs(FaultContract):
    faults = (ErrnoFault(vf=0, number=errno.EINVAL, times=None), ErrnoFault(pf="eth1", number=errno.EIO, times=None))


class TestCrashPointsThatNeverCome(IxgbeContract):
    @pytest.fixture
    def nic(self) -> Nic:
        inner = make_host("a", num_vfs=5)
        inner.assign_vf("eth0", 4, "the neighbour")
        return CrashingNic(inner, CrashPoints())


class TestResettingAndBusy(FaultContract):
    faults = (ResetFault(attribute=Attribute.TRUST, busy=2),)


class TestRefusedInTheMiddle(FaultContract):
    accepted = ACCEPTED - {Feature.SPOOFCHK, Feature.RSS_QUERY}
    refused: ClassVar[Mapping[Feature, type[NicError]]] = {
        **REFUSED,
        Feature.SPOOFCHK: RejectedError,
        Feature.RSS_QUERY: NotSupportedError,
    }
    faults = (
        ErrnoFault(attribute=Attribute.SPOOFCHK, number=errno.EINVAL, times=None),
        ErrnoFault(attribute=Attribute.RSS_QUERY, number=errno.EOPNOTSUPP, times=None),
    )
