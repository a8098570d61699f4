# SPDX-License-Identifier: Apache-2.0
"""A VF's configuration space, as a guest sees it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vferry.nic.ixgbe.hardware import Ixgbe82599, NoSuchVfError
from vferry.nic.ixgbe.pci_config import ConfigAccessError, VfConfigSpace


@pytest.fixture
def config() -> VfConfigSpace:
    return VfConfigSpace()


def test_identity(config: VfConfigSpace) -> None:
    assert (config.read(0x00, 2), config.read(0x02, 2)) == (0x8086, 0x10ED)
    assert config.read(0x00, 4) == 0x10ED8086
    assert config.read(0x09, 1) == 0
    assert config.read(0x0A, 2) == 0x0200  # Ethernet controller
    assert config.read(0x0E, 1) == 0  # header type
    assert config.read(0x100, 4) == config.read(0xFFC, 4) == 0


def test_command_has_two_bits(config: VfConfigSpace) -> None:
    assert (config.read(0x04, 2), config.bus_master) == (0, False)
    config.write(0x04, 2, 0xFFFF)
    assert (config.read(0x04, 2), config.bus_master) == (0x0006, True)
    config.write(0x04, 1, 0x02)
    assert (config.read(0x04, 2), config.bus_master) == (0x0002, False)


def test_the_msix_capability(config: VfConfigSpace) -> None:
    assert config.read(0x06, 2) & 0x10
    assert config.read(0x34, 1) == 0x70
    assert config.read(0x70, 2) == 0x0011  # MSI-X, and it is the last
    assert config.read(0x72, 2) == 3 - 1
    assert (config.read(0x74, 4), config.read(0x78, 4)) == (0x0000 | 3, 0x2000 | 3)
    assert not config.msix_passes
    config.write(0x72, 2, 0xFFFF)
    assert (config.read(0x72, 2), config.msix_passes) == (0xC002, False)
    config.write(0x72, 2, 0x8000)
    assert (config.read(0x72, 2), config.msix_passes) == (0x8002, True)
    config.write(0x70, 4, 0)
    assert config.read(0x70, 4) == 0x00020011


@pytest.mark.parametrize("bar", [0x10, 0x1C])
def test_the_bars_are_sized_as_16_kib(config: VfConfigSpace, bar: int) -> None:
    config.write(bar, 4, 0xFFFFFFFF)
    config.write(bar + 4, 4, 0xFFFFFFFF)
    assert (config.read(bar, 4), config.read(bar + 4, 4)) == (0xFFFFC004, 0xFFFFFFFF)
    config.write(bar, 4, 0xFEBD1234)
    assert config.read(bar, 4) == 0xFEBD0004


@pytest.mark.parametrize(("offset", "size"), [(1, 2), (2, 4), (0, 3), (0, 8), (-4, 4), (0x1000, 1), (0xFFF, 2), (0, 0)])
def test_no_bus_makes_such_an_access(config: VfConfigSpace, offset: int, size: int) -> None:
    with pytest.raises(ConfigAccessError):
        config.read(offset, size)
    with pytest.raises(ConfigAccessError):
        config.write(offset, size, 0)


def test_flr_clears_command_and_msix_control() -> None:
    nic = Ixgbe82599(now=lambda: 0.0, permanent_address=bytes(6), pools=2)
    fresh = [nic.vf_config_read(1, offset, 4) for offset in range(0, 0x100, 4)]
    for index in (0, 1):
        for offset in range(0, 0x100, 4):
            nic.vf_config_write(index, offset, 4, 0xFFFFFFFF)
    nic.flr(1)
    assert [nic.vf_config_read(1, offset, 4) for offset in range(0, 0x100, 4)] == fresh
    assert (nic.vf_config_read(0, 0x04, 2), nic.vf_config_read(0, 0x72, 2)) == (6, 0xC002)
    nic.vf_bar(0).write(0, 1 << 26)  # a software reset is no FLR
    assert (nic.vf_config_read(0, 0x04, 2), nic.vf_config_read(0, 0x72, 2)) == (6, 0xC002)
    nic.power_on()
    assert nic.vf_config(0).read(0x04, 2) == 0
    with pytest.raises(NoSuchVfError):
        nic.vf_config_read(2, 0, 4)


WRITABLE = {0x04: 0x6, 0x10: 0xFFFFC000, 0x14: 0xFFFFFFFF, 0x1C: 0xFFFFC000, 0x20: 0xFFFFFFFF, 0x70: 0xC0000000}


@given(st.lists(st.tuples(st.integers(0, 0xFFF), st.sampled_from([1, 2, 4]), st.integers(0, 0xFFFFFFFF)), max_size=30))
def test_only_the_writable_bits_ever_change(writes: list[tuple[int, int, int]]) -> None:
    config = VfConfigSpace()
    before = {offset: config.read(offset, 4) for offset in range(0, 0x1000, 4)}
    for offset, size, value in writes:
        config.write(offset - offset % size, size, value)
    for offset, word in before.items():
        assert (config.read(offset, 4) ^ word) & ~WRITABLE.get(offset, 0) == 0
