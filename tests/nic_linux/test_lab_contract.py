# SPDX-License-Identifier: Apache-2.0
"""The port's contract, kept by the adapter with real drivers of a real kernel."""

from __future__ import annotations

import pytest

from lab import Host
from tests.nic_linux.inside import contract

pytestmark = pytest.mark.lab


def test_netdevsim(sim: Host) -> None:
    result = contract(sim, "TestNetdevsim", sim.netdevsim(1, vfs=5))
    assert result.rc == 0, result.out + result.err


def test_netdevsim_in_switchdev_mode(sim: Host) -> None:
    result = contract(sim, "TestNetdevsimInSwitchdevMode", sim.netdevsim(2, vfs=5))
    assert result.rc == 0, result.out + result.err


def test_igb(igb: Host) -> None:
    for vf in (1, 3):
        igb.unbind(igb.vfs()[vf])
    result = contract(igb, "TestIgb", igb.pf())
    assert result.rc == 0, result.out + result.err


def test_virtio(virtio: Host) -> None:
    result = contract(virtio, "TestVirtio", virtio.pf())
    assert result.rc == 0, result.out + result.err
