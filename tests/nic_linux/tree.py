# SPDX-License-Identifier: Apache-2.0
"""A sysfs and a procfs in a directory, with the links that the kernel has."""

from __future__ import annotations

import os
from pathlib import Path


class Tree:
    """Devices, network interfaces and processes, as many as a test wants."""

    def __init__(self, base: Path) -> None:
        self.sys = base / "sys"
        self.proc = base / "proc"
        for bus in ("pci", "netdevsim", "virtio", "auxiliary"):
            (self.sys / "bus" / bus / "devices").mkdir(parents=True)
        (self.sys / "class/net").mkdir(parents=True)
        random = self.proc / "sys/kernel/random"
        random.mkdir(parents=True)
        (random / "boot_id").write_text("11111111-2222-3333-4444-555555555555\n")

    @staticmethod
    def write(directory: Path, **files: object) -> None:
        for name, content in files.items():
            (directory / name).write_text(f"{content}\n")

    @staticmethod
    def link(path: Path, target: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # As kernfs_get_target_path() makes them: the last part is always the target's own name, never "..".
        path.symlink_to(os.path.join(os.path.relpath(target.parent, path.parent), target.name))

    def device(self, bus: str, name: str, parent: Path | None = None, **files: object) -> Path:
        """Make a device, with a file for each keyword."""
        directory = (parent or self.sys / "devices" / f"{bus}-root") / name
        directory.mkdir(parents=True)
        self.link(directory / "subsystem", self.sys / "bus" / bus)
        self.link(self.sys / "bus" / bus / "devices" / name, directory)
        self.write(directory, **files)
        return directory

    def pci(self, address: str, **files: object) -> Path:
        directory = self.device("pci", address)
        self.write(directory, **{"vendor": "0x8086", "device": "0x10c9", **files})
        return directory

    def bind(self, device: Path, driver: str) -> None:
        self.link(device / "driver", self.sys / "bus/pci/drivers" / driver)

    def netdev(self, device: Path, name: str, *, ifindex: int = 5, flags: int = 0x1002, **files: object) -> Path:
        """Give a device a network interface."""
        directory = device / "net" / name
        directory.mkdir(parents=True)
        self.write(directory, **{"ifindex": ifindex, "flags": hex(flags), "dev_port": 0, **files})
        self.link(directory / "device", device)
        self.link(self.sys / "class/net" / name, directory)
        return directory

    def vf(self, pf: Path, index: int, address: str, *, group: int | None = None, linked: bool = True) -> Path:
        """Give a PF a VF."""
        directory = self.pci(address, device="0x10ca")
        self.link(directory / "physfn", pf)
        if linked:
            self.link(pf / f"virtfn{index}", directory)
        if group is not None:
            (self.sys / f"kernel/iommu_groups/{group}").mkdir(parents=True)
            self.link(directory / "iommu_group", self.sys / f"kernel/iommu_groups/{group}")
        return directory

    def vfio_group(self, group: int | str) -> None:
        """Make a group one that a VFIO driver has a device of."""
        (self.sys / f"class/vfio/{group}").mkdir(parents=True)

    def process(self, pid: int, name: str, *files: str) -> Path:
        """Make a process with open files."""
        fds = self.proc / str(pid) / "fd"
        fds.mkdir(parents=True)
        self.write(self.proc / str(pid), comm=name)
        for number, target in enumerate(files):
            (fds / str(number)).symlink_to(target)
        return fds


def config_space(
    *,
    command: int = 0x0406,
    capabilities: tuple[tuple[int, bytes], ...] = (),
    extended: tuple[tuple[int, bytes], ...] = (),
    size: int = 4096,
) -> bytes:
    """Configuration space with capabilities from 0x70 on, and extended ones from 0x100 on, 64 octets each."""
    space = bytearray(4096)
    space[4:6] = command.to_bytes(2, "little")
    space[6] = 0x10 if capabilities else 0
    space[0x34] = 0x70 if capabilities else 0
    for number, (identifier, body) in enumerate(capabilities):
        place = 0x70 + 0x10 * number
        following = place + 0x10 if number + 1 < len(capabilities) else 0
        space[place : place + 2 + len(body)] = bytes([identifier, following]) + body
    for number, (identifier, body) in enumerate(extended):
        place = 0x100 + 0x40 * number
        following = place + 0x40 if number + 1 < len(extended) else 0
        header = identifier | 1 << 16 | following << 20
        space[place : place + 4 + len(body)] = header.to_bytes(4, "little") + body
    return bytes(space[:size])


def sriov(*, total: int, offset: int, stride: int, device: int) -> tuple[int, bytes]:
    """The SR-IOV Extended Capability: id 0x10, fields from offset 4 on."""
    body = bytearray(0x3C)
    for place, value in ((0x0E, total), (0x10, 2), (0x14, offset), (0x16, stride), (0x1A, device)):
        body[place - 4 : place - 2] = value.to_bytes(2, "little")
    return 0x10, bytes(body)


def msix(control: int) -> tuple[int, bytes]:
    return 0x11, control.to_bytes(2, "little") + bytes(8)
