# SPDX-License-Identifier: Apache-2.0
"""Layouts and numbers against what a C compiler makes of <linux/vfio.h>, and of libvfio-user's header where it is."""

from __future__ import annotations

import enum
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from vferry.core.vfio import constants
from vferry.core.vfio.layouts import HEADER, LAYOUTS, REGION_ACCESS, REGION_MESSAGE, Layout
from vferry.core.vfio.migration_states import DeviceState

KERNEL_HEADER = Path("/usr/include/linux/vfio.h")
IN_KERNEL = [layout for layout in LAYOUTS if layout.kernel]
ELSEWHERE = [layout for layout in LAYOUTS if not layout.kernel and layout.c]

KERNEL_NUMBERS: dict[str, tuple[type[enum.IntEnum | enum.IntFlag], str]] = {
    "VFIO_DEVICE_FLAGS_": (constants.DeviceFlags, ""),
    "VFIO_REGION_INFO_FLAG_": (constants.RegionFlags, ""),
    "VFIO_PCI_": (constants.RegionIndex, "_REGION_INDEX"),
    "VFIO_PCI_.": (constants.IrqIndex, "_IRQ_INDEX"),
    "VFIO_IRQ_INFO_": (constants.IrqFlags, ""),
    "VFIO_IRQ_SET_": (constants.IrqSetFlags, ""),
    "VFIO_DEVICE_FEATURE_": (constants.FeatureFlags, ""),
    "VFIO_DEVICE_FEATURE_.": (constants.Feature, ""),
    "VFIO_MIGRATION_": (constants.MigrationFlags, ""),
    "VFIO_DMA_UNMAP_FLAG_": (constants.UnmapFlags, ""),
}
"""Enumerations by what stands before and behind each name in C."""


def compiler() -> str:
    found = shutil.which("gcc") or shutil.which("cc")
    if not found:
        pytest.skip("no C compiler")
    if not KERNEL_HEADER.exists():
        pytest.skip(f"no {KERNEL_HEADER}")
    return found


def run(tmp_path: Path, includes: list[str], lines: list[str], *options: str) -> dict[str, int]:
    text = [*(f"#include {name}" for name in ["<stddef.h>", "<stdio.h>", *includes]), "int main(void) {"]
    source = tmp_path / "layouts.c"
    source.write_text("\n".join([*text, *lines, "return 0; }"]))
    program = tmp_path / "layouts"
    subprocess.run([compiler(), *options, "-o", program, source], check=True)
    output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in (line.split() for line in output.splitlines())}


def questions(layout: Layout[Any]) -> list[str]:
    return [f'printf("{layout.c}.{name} %zu\\n", offsetof(struct {layout.c}, {name}));' for name in layout.offsets] + [
        f'printf("{layout.c} %zu\\n", sizeof(struct {layout.c}));'
    ]


def answers(layout: Layout[Any]) -> dict[str, int]:
    return {f"{layout.c}.{name}": at for name, at in layout.offsets.items()} | {layout.c: layout.size}


def test_structures_of_the_kernel(tmp_path: Path) -> None:
    found = run(tmp_path, ["<linux/vfio.h>"], [line for layout in IN_KERNEL for line in questions(layout)])
    assert found == {name: at for layout in IN_KERNEL for name, at in answers(layout).items()}


def test_numbers_of_the_kernel(tmp_path: Path) -> None:
    names = {
        f"{prefix.rstrip('.')}{member.name}{suffix}": int(member)
        for prefix, (numbers, suffix) in KERNEL_NUMBERS.items()
        for member in numbers
    }
    # An old header lacks what came later; what it has must agree, and most of it is there.
    header = KERNEL_HEADER.read_text() if KERNEL_HEADER.exists() else ""
    present = {name: value for name, value in names.items() if re.search(rf"\b{name}\b", header)}
    lines = [f'printf("{name} %llu\\n", (unsigned long long){name});' for name in present]
    assert run(tmp_path, ["<linux/vfio.h>"], lines) == present
    assert len(names) - len(present) <= 6


def test_numbers_that_an_old_header_lacks() -> None:
    """As in Linux 6.12's header."""
    assert int(constants.MigrationFlags.PRE_COPY) == 4
    assert (DeviceState.ERROR, DeviceState.STOP, DeviceState.RUNNING, DeviceState.STOP_COPY) == (0, 1, 2, 3)
    assert (DeviceState.RESUMING, DeviceState.RUNNING_P2P) == (4, 5)
    assert (DeviceState.PRE_COPY, DeviceState.PRE_COPY_P2P) == (6, 7)


def test_structures_of_libvfio_user(tmp_path: Path) -> None:
    directory = os.environ.get("LIBVFIO_USER")
    if not directory:
        pytest.skip("LIBVFIO_USER does not name libvfio-user's source tree")
    # There the request of REGION_IO_FDS is a type of its own; reserved fields have the same name here.
    lines = [line for layout in ELSEWHERE for line in questions(layout)]
    found = run(tmp_path, ['"vfio-user.h"'], lines, f"-I{directory}/include")
    wanted = {name: at for layout in ELSEWHERE for name, at in answers(layout).items()}
    assert found == wanted
    lines = [f'printf("{one.name} %d\\n", VFIO_USER_{one.name});' for one in constants.Command]
    found = run(tmp_path, ['"vfio-user.h"'], lines, f"-I{directory}/include")
    assert found == {one.name: int(one) for one in constants.Command}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.record.__name__)
def test_every_field_comes_back(layout: Layout[Any]) -> None:
    names = layout.record.__struct_fields__
    values: list[Any] = [b"datadata" if name == "data" else n + 1 for n, name in enumerate(names)]
    octets = b"\xff" * 3 + layout.pack(*values)
    assert layout.unpack(octets, 3) == layout.record(*values)
    assert list(layout.offsets) == list(names)
    with pytest.raises(struct.error):
        layout.unpack(octets, 4)


def test_the_hot_path_reads_a_header_and_an_access() -> None:
    octets = HEADER.pack(1, 9, 32, 0x10, 5) + REGION_ACCESS.pack(6, 7, 8)
    assert REGION_MESSAGE.unpack(octets) == (1, 9, 32, 0x10, 5, 6, 7, 8)
    assert REGION_MESSAGE.size == HEADER.size + REGION_ACCESS.size == 32


def test_traps_of_the_protocol() -> None:
    """Sizes that older trees and other clients got wrong."""
    sizes = {layout.record.__name__: layout.size for layout in LAYOUTS}
    assert sizes["DmaAccess"] == 16  # a 64-bit count, unlike a region's
    assert sizes["RegionAccess"] == 16
    assert sizes["WriteMultiEntry"] == 24
    assert sizes["Header"] == constants.HEADER_SIZE
