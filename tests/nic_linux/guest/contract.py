# SPDX-License-Identifier: Apache-2.0
"""The contract of ``vferry.ports.nic`` over the real adapter and real drivers; runs inside a host of the lab."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar

import pytest

from vferry.core.capability import Feature
from vferry.core.model import EswitchMode
from vferry.nic.linux import LinuxNic
from vferry.ports.nic import Nic, NicError, NotSupportedError, RejectedError
from vferry.testing.nic_contract import NicContract

GUIDS: dict[Feature, type[NicError]] = {Feature.NODE_GUID: NotSupportedError, Feature.PORT_GUID: NotSupportedError}
RATES: dict[Feature, type[NicError]] = {Feature.MIN_TX_RATE: NotSupportedError, Feature.MAX_TX_RATE: NotSupportedError}


class RealContract(NicContract):
    pf = os.environ.get("VFERRY_TEST_PF", "eth0")
    spare = (1, 3)

    @pytest.fixture
    def nic(self) -> Nic:
        return LinuxNic()

    def test_every_feature_is_covered(self) -> None:
        assert self.accepted | self.refused.keys() == set(Feature)


class TestNetdevsim(RealContract):
    accepted = frozenset(Feature) - GUIDS.keys()
    refused: ClassVar[Mapping[Feature, type[NicError]]] = GUIDS
    offers_statistics = True


class TestNetdevsimInSwitchdevMode(RealContract):
    accepted = frozenset(Feature) - GUIDS.keys() - RATES.keys()
    refused: ClassVar[Mapping[Feature, type[NicError]]] = GUIDS | RATES
    offers_statistics = True

    @pytest.fixture
    def nic(self) -> Nic:
        nic = LinuxNic()
        nic.set_eswitch_mode(self.pf, EswitchMode.SWITCHDEV)
        return nic


class TestIgb(RealContract):
    refused: ClassVar[Mapping[Feature, type[NicError]]] = {
        Feature.MIN_TX_RATE: RejectedError,
        Feature.LINK_STATE_ENABLE: NotSupportedError,
        Feature.LINK_STATE_DISABLE: NotSupportedError,
        Feature.VLAN_DOT1AD: RejectedError,
        Feature.RSS_QUERY: NotSupportedError,
        **GUIDS,
    }
    accepted = frozenset(Feature) - refused.keys()
    offers_statistics = True
    can_reset = True


class TestVirtio(RealContract):
    has_settings = False
    refused: ClassVar[Mapping[Feature, type[NicError]]] = dict.fromkeys(Feature, NotSupportedError)
    can_reset = True
