# SPDX-License-Identifier: Apache-2.0
"""The contract over FaultNic: without faults, and with faults that patience overcomes."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import ClassVar

import pytest

from vferry.core.capability import Feature
from vferry.core.model import DOT1Q, AdminState, Attribute, Vlan
from vferry.ports.nic import Nic, NicError, NotSupportedError, RejectedError
from vferry.testing import (
    NETDEVSIM_LIKE,
    CrashingNic,
    CrashPoints,
    ErrnoFault,
    Fault,
    FaultNic,
    LossyProtocolFault,
    MemoryNic,
    MemoryPf,
    ResetFault,
    SimClock,
    SlowFault,
)
from vferry.testing.nic_contract import NicContract

ALL_BUT_GUIDS = frozenset(Feature) - {Feature.NODE_GUID, Feature.PORT_GUID}
GUIDS_REFUSED: dict[Feature, type[NicError]] = {
    Feature.NODE_GUID: NotSupportedError,
    Feature.PORT_GUID: NotSupportedError,
}


class FaultContract(NicContract):
    pf = "eth0"
    spare = (1, 3)
    accepted = ALL_BUT_GUIDS
    refused: ClassVar[Mapping[Feature, type[NicError]]] = GUIDS_REFUSED
    can_reset = True
    pause = 0.0
    faults: ClassVar[tuple[Fault, ...]] = ()

    @pytest.fixture
    def nic(self) -> Nic:
        inner = MemoryNic(host="a", pfs=[MemoryPf(name="eth0", num_vfs=5, behaviour=NETDEVSIM_LIKE)])
        inner.bind_driver("eth0", 4, "vfio-pci")
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


class TestResettingAndBusy(FaultContract):
    faults = (ResetFault(attribute=Attribute.TRUST, busy=2),)


class TestLossyProtocol(FaultContract):
    accepted = ALL_BUT_GUIDS - {Feature.VLAN_DOT1AD}
    changed: ClassVar[Mapping[Feature, AdminState]] = {
        Feature.VLAN_DOT1AD: AdminState(vlans=(Vlan(vid=3002, proto=DOT1Q),))
    }
    faults = (LossyProtocolFault(),)


class TestRefusedInTheMiddle(FaultContract):
    accepted = ALL_BUT_GUIDS - {Feature.SPOOFCHK, Feature.RSS_QUERY}
    refused: ClassVar[Mapping[Feature, type[NicError]]] = {
        Feature.SPOOFCHK: RejectedError,
        Feature.RSS_QUERY: NotSupportedError,
        **GUIDS_REFUSED,
    }
    faults = (
        ErrnoFault(attribute=Attribute.SPOOFCHK, number=errno.EINVAL, times=None),
        ErrnoFault(attribute=Attribute.RSS_QUERY, number=errno.EOPNOTSUPP, times=None),
    )


class TestCrashPointsThatNeverCome(FaultContract):
    @pytest.fixture
    def nic(self) -> Nic:
        inner = MemoryNic(host="a", pfs=[MemoryPf(name="eth0", num_vfs=5, behaviour=NETDEVSIM_LIKE)])
        return CrashingNic(inner, CrashPoints())
