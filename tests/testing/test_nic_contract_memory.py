# SPDX-License-Identifier: Apache-2.0
"""The contract over MemoryNic, with every preset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec
import pytest

from vferry.core.capability import Feature, Verdict
from vferry.core.model import DOT1Q, AdminState, Attribute, EswitchMode, LinkState, Vlan
from vferry.ports.nic import Nic, NicError, NotSupportedError, RejectedError
from vferry.testing import (
    IGB_LIKE,
    LOSSY,
    NETDEVSIM_LIKE,
    RESETTING,
    VIRTIO_LIKE,
    Behaviour,
    MemoryNic,
    MemoryPf,
)
from vferry.testing.nic_contract import NicContract


def accepted_by(behaviour: Behaviour) -> frozenset[Feature]:
    return frozenset(feature for feature, learned in behaviour.learned().items() if learned.verdict is Verdict.ACCEPTED)


GUIDS_REFUSED: dict[Feature, type[NicError]] = {
    Feature.NODE_GUID: NotSupportedError,
    Feature.PORT_GUID: NotSupportedError,
}


class MemoryContract(NicContract):
    pf = "eth0"
    spare = (1, 3)
    behaviour: ClassVar[Behaviour]
    pause = 0.0

    @pytest.fixture
    def nic(self) -> Nic:
        pfs = [MemoryPf(name=name, num_vfs=5, behaviour=self.behaviour) for name in ("eth1", "eth0")]
        nic = MemoryNic(host="a", pfs=pfs)
        nic.bind_driver("eth0", 4, "vfio-pci")
        return nic


class TestIgbLike(MemoryContract):
    behaviour = IGB_LIKE
    accepted = accepted_by(IGB_LIKE)
    refused: ClassVar[Mapping[Feature, type[NicError]]] = {
        Feature.MIN_TX_RATE: RejectedError,
        Feature.LINK_STATE_ENABLE: NotSupportedError,
        Feature.LINK_STATE_DISABLE: NotSupportedError,
        Feature.VLAN_DOT1AD: RejectedError,
        Feature.RSS_QUERY: NotSupportedError,
        **GUIDS_REFUSED,
    }
    can_reset = True

    def test_every_feature_is_covered(self) -> None:
        assert self.accepted | self.refused.keys() == set(Feature)


class TestNetdevsimLike(MemoryContract):
    behaviour = NETDEVSIM_LIKE
    accepted = accepted_by(NETDEVSIM_LIKE)
    refused: ClassVar[Mapping[Feature, type[NicError]]] = GUIDS_REFUSED

    @pytest.fixture
    def nic(self) -> Nic:
        pf = MemoryPf(name="eth0", num_vfs=5, behaviour=NETDEVSIM_LIKE, bus="netdevsim")
        return MemoryNic(host="a", pfs=[pf])

    def test_every_feature_is_covered(self) -> None:
        assert self.accepted | self.refused.keys() == set(Feature)


class TestNetdevsimLikeInSwitchdevMode(TestNetdevsimLike):
    accepted = accepted_by(NETDEVSIM_LIKE) - {Feature.MAX_TX_RATE, Feature.MIN_TX_RATE}
    refused: ClassVar[Mapping[Feature, type[NicError]]] = {
        Feature.MAX_TX_RATE: NotSupportedError,
        Feature.MIN_TX_RATE: NotSupportedError,
        **GUIDS_REFUSED,
    }

    @pytest.fixture
    def nic(self) -> Nic:
        pf = MemoryPf(name="eth0", num_vfs=5, behaviour=NETDEVSIM_LIKE, bus="netdevsim")
        nic = MemoryNic(host="a", pfs=[pf])
        nic.set_eswitch_mode("eth0", EswitchMode.SWITCHDEV)
        return nic


class TestVirtioLike(MemoryContract):
    behaviour = VIRTIO_LIKE
    has_settings = False
    refused: ClassVar[Mapping[Feature, type[NicError]]] = dict.fromkeys(Feature, NotSupportedError)
    can_reset = True


class TestResetting(MemoryContract):
    behaviour = RESETTING
    accepted = accepted_by(RESETTING)
    refused: ClassVar[Mapping[Feature, type[NicError]]] = {
        Feature.MIN_TX_RATE: RejectedError,
        Feature.VLAN_DOT1AD: RejectedError,
        Feature.RSS_QUERY: NotSupportedError,
        **GUIDS_REFUSED,
    }
    offers_statistics = True
    can_reset = True


class TestLossy(MemoryContract):
    behaviour = LOSSY
    accepted = accepted_by(LOSSY)
    changed: ClassVar[Mapping[Feature, AdminState]] = {
        Feature.VLAN_DOT1AD: AdminState(vlans=(Vlan(vid=3002, proto=DOT1Q),))
    }
    refused: ClassVar[Mapping[Feature, type[NicError]]] = {Feature.RSS_QUERY: NotSupportedError, **GUIDS_REFUSED}
    can_reset = True


QUIET = msgspec.structs.replace(
    NETDEVSIM_LIKE,
    name="quiet",
    hidden=NETDEVSIM_LIKE.hidden | {Attribute.SPOOFCHK},
    ignored=frozenset({Feature.LINK_STATE_ENABLE}),
    lost_at_flr=frozenset({Attribute.TRUST}),
    has_fdb=False,
)
"""Accepts spoofchk and does not show it, ignores ``enable`` as ixgbe does, forgets trust at a reset, has no entries."""


class TestQuiet(MemoryContract):
    behaviour = QUIET
    accepted = accepted_by(QUIET)
    not_shown = frozenset({Feature.SPOOFCHK})
    changed: ClassVar[Mapping[Feature, AdminState]] = {Feature.LINK_STATE_ENABLE: AdminState(link_state=LinkState.AUTO)}
    refused: ClassVar[Mapping[Feature, type[NicError]]] = GUIDS_REFUSED
    can_reset = True
    lost_at_reset = QUIET.lost_at_flr
    has_fdb = False

    def test_the_verdicts_are_the_declared_ones(self) -> None:
        learned = QUIET.learned()
        assert learned[Feature.SPOOFCHK].verdict is Verdict.NOT_SHOWN
        assert learned[Feature.LINK_STATE_ENABLE].verdict is Verdict.CHANGED
