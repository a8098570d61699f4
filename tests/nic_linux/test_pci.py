# SPDX-License-Identifier: Apache-2.0
"""Configuration space: capabilities, words, reset."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.nic_linux.tree import config_space, msix, sriov
from vferry.core.model import PciState
from vferry.nic.linux import pci

PM = (0x01, bytes(6))
EXPRESS = (0x10, bytes(12))


def function(base: Path, space: bytes) -> str:
    (base / "config").write_bytes(space)
    return str(base)


def test_words_are_found_behind_other_capabilities(tmp_path: Path) -> None:
    path = function(tmp_path, config_space(command=0x0406, capabilities=(PM, EXPRESS, msix(0x8002))))
    assert pci.read_state(path) == PciState(command=0x0406, msix_control=0x8002)
    assert pci.read_vectors(path) == 3


def test_the_table_size_is_eleven_bits(tmp_path: Path) -> None:
    assert pci.read_vectors(function(tmp_path, config_space(capabilities=(msix(0xC7FF),)))) == 2048


@pytest.mark.parametrize("capabilities", [(), (PM,)])
def test_a_function_without_msix(tmp_path: Path, capabilities: tuple[tuple[int, bytes], ...]) -> None:
    path = function(tmp_path, config_space(capabilities=capabilities))
    assert pci.read_state(path) == PciState(command=0x0406)
    assert pci.read_vectors(path) is None


def test_what_this_process_may_not_read_is_absent(tmp_path: Path) -> None:
    path = function(tmp_path, config_space(capabilities=(msix(0x8002),), size=64))
    assert pci.read_state(path) == PciState(command=0x0406)
    assert pci.read_vectors(path) is None
    assert pci.sriov_registers(path) is None


def test_a_function_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="all ones") as caught:
        pci.read_state(function(tmp_path, b"\xff" * 4096))
    assert caught.value.errno == errno.ENODEV
    with pytest.raises(OSError, match="COMMAND") as caught:
        pci.read_state(function(tmp_path, b"\x86\x80"))
    assert caught.value.errno == errno.EIO
    with pytest.raises(FileNotFoundError):
        pci.read_state(str(tmp_path / "nothing"))
    assert pci.read_vectors(str(tmp_path / "nothing")) is None


def test_capabilities_that_are_a_loop(tmp_path: Path) -> None:
    space = bytearray(config_space(capabilities=(PM, EXPRESS)))
    space[0x81] = 0x70
    path = function(tmp_path, bytes(space))
    assert pci.read_state(path) == PciState(command=0x0406)


def test_extended_capabilities_that_are_a_loop(tmp_path: Path) -> None:
    space = bytearray(config_space(extended=((0x01, b""), (0x0E, b""))))
    space[0x140:0x144] = (0x0E | 1 << 16 | 0x100 << 20).to_bytes(4, "little")
    assert pci.sriov_registers(function(tmp_path, bytes(space))) is None


def test_the_sriov_capability(tmp_path: Path) -> None:
    extended = ((0x01, b""), (0x0E, b""), sriov(total=8, offset=128, stride=2, device=0x10CA))
    registers = pci.sriov_registers(function(tmp_path, config_space(extended=extended)))
    assert registers == pci.SriovRegisters(total_vfs=8, num_vfs=2, vf_offset=128, vf_stride=2, vf_device=0x10CA)


def test_a_sriov_capability_that_is_cut(tmp_path: Path) -> None:
    space = config_space(extended=(sriov(total=8, offset=128, stride=2, device=0x10CA),), size=0x118)
    assert pci.sriov_registers(function(tmp_path, space)) is None


@given(space=st.binary(min_size=0, max_size=400), status=st.sampled_from((0, 0x10)))
def test_any_configuration_space_is_read_without_harm(
    tmp_path_factory: pytest.TempPathFactory, space: bytes, status: int
) -> None:
    raw = bytearray(space)
    if len(raw) > 6:
        raw[6] = status
    path = function(tmp_path_factory.getbasetemp(), bytes(raw))
    pci.read_vectors(path)
    pci.sriov_registers(path)
    try:
        pci.read_state(path)
    except OSError as error:
        assert error.errno in (errno.ENODEV, errno.EIO)  # noqa: PT017 - one of two outcomes


def test_words_are_written_msix_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = function(tmp_path, config_space(command=0x0002, capabilities=(PM, msix(0x0002))))
    order: list[int] = []
    write = pci.ConfigSpace.write_word

    def note(self: pci.ConfigSpace, place: int, word: int) -> None:
        order.append(place)
        write(self, place, word)

    monkeypatch.setattr(pci.ConfigSpace, "write_word", note)
    wanted = PciState(command=0x0406, msix_control=0x8002)
    pci.write_state(path, wanted)
    assert pci.read_state(path) == wanted
    assert order == [0x82, 0x04]


def test_command_alone_leaves_msix_alone(tmp_path: Path) -> None:
    path = function(tmp_path, config_space(command=0x0002, capabilities=(msix(0x8002),)))
    pci.write_state(path, PciState(command=0x0006))
    assert pci.read_state(path) == PciState(command=0x0006, msix_control=0x8002)


def test_a_bound_driver_owns_the_words(tmp_path: Path) -> None:
    space = config_space(capabilities=(msix(0x8002),))
    path = function(tmp_path, space)
    (tmp_path / "driver").symlink_to("../drivers/somedriver")
    with pytest.raises(OSError, match="somedriver is bound") as caught:
        pci.write_state(path, PciState(command=0))
    assert caught.value.errno == errno.EPERM
    assert (tmp_path / "config").read_bytes() == space


def test_msix_cannot_be_written_where_there_is_none(tmp_path: Path) -> None:
    path = function(tmp_path, config_space())
    with pytest.raises(OSError, match="no MSI-X") as caught:
        pci.write_state(path, PciState(command=0, msix_control=0))
    assert caught.value.errno == errno.EINVAL
    assert pci.read_state(path).command == 0x0406


def test_reset(tmp_path: Path) -> None:
    (tmp_path / "reset").write_text("")
    pci.reset(str(tmp_path))
    assert (tmp_path / "reset").read_text() == "1"


def test_a_function_that_cannot_be_reset(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no way to reset") as caught:
        pci.reset(str(tmp_path))
    assert caught.value.errno == errno.EOPNOTSUPP
    with pytest.raises(FileNotFoundError):
        pci.reset(str(tmp_path / "nothing"))
