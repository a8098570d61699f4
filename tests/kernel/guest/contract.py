# SPDX-License-Identifier: Apache-2.0
"""The NIC contract over the real kernel; runs inside a host (``python3 -m pytest contract.py``).

The PF is eth0; the environment says which kind it is: ``VFERRY_CONTRACT=igb`` or ``netdevsim``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar

import pytest

from vferry.core.capability import Feature, Verdict
from vferry.core.reference_tables import REFERENCE_TABLES
from vferry.nic.linux import LinuxNic
from vferry.ports.nic import Nic, NicError, NotSupportedError, RejectedError
from vferry.testing.fault_nic import FaultNic
from vferry.testing.nic_contract import NicContract

KIND = os.environ["VFERRY_CONTRACT"]
(TABLE,) = [table for table in REFERENCE_TABLES if table.key.driver == KIND]
EOPNOTSUPP = 95


class _OfTheKernel(NicContract):
    pf = "eth0"
    spare = (1, 3)
    accepted = frozenset(name for name, learned in TABLE.features.items() if learned.verdict is Verdict.ACCEPTED)
    refused: ClassVar[Mapping[Feature, type[NicError]]] = {
        name: NotSupportedError if learned.errno == EOPNOTSUPP else RejectedError
        for name, learned in TABLE.features.items()
        if learned.verdict is Verdict.REFUSED
    }
    can_reset = KIND == "igb"

    def test_the_reference_table_is_of_this_kind(self) -> None:
        assert self.accepted | self.refused.keys() == set(Feature)


class TestLinuxNic(_OfTheKernel):
    @pytest.fixture
    def nic(self) -> Nic:
        return LinuxNic()


class TestLinuxNicUnderFaultNic(_OfTheKernel):
    @pytest.fixture
    def nic(self) -> Nic:
        return FaultNic(LinuxNic(), ())
