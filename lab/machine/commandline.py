# SPDX-License-Identifier: Apache-2.0
"""The command line of QEMU for a host.

Emulation only (TCG): the lab needs no KVM. The machine is a q35 with Intel's IOMMU, so that VFs have IOMMU groups and
vfio-pci works. ``-nodefaults`` and the PVH entry of ``vmlinux`` leave out firmware for NICs and the boot loader.
Interfaces get no IPv6 addresses, so that a host is silent until it is told to speak.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab.images.build import Images
from lab.images.cache import digest
from lab.machine.nics import Nic, qemu_options, unplugged

_KERNEL_OPTIONS = (
    "console=ttyS0",
    "panic=-1",
    "quiet",
    "mitigations=off",
    "nokaslr",
    "intel_iommu=on",
    "iommu=pt",
    "no_timer_check",
    "random.trust_cpu=on",
    "tsc=nowatchdog",
    "8250.nr_uarts=1",
    "cryptomgr.notests",
    "net.ifnames=0",
    "ipv6.disable_ipv6=1",
)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What decides how a host comes up.

    :ivar name: the host's name, also its ``uname -n``.
    :ivar memory: MiB.
    """

    images: Images
    name: str
    nics: tuple[Nic, ...]
    memory: int

    def key(self, preparation: str) -> str:
        """Return what a snapshot of such a host is filed under: all but the paths of sockets and of the program.

        :param preparation: what is done in the host before the snapshot.
        """
        bare = Machine(images=self.images, name=self.name, nics=unplugged(self.nics), memory=self.memory)
        return digest([self.images.key, preparation, *bare.command(Path("/run"), Path("/program"))])

    def command(self, directory: Path, program: Path) -> list[str]:
        """Return the argument vector.

        :param directory: where QEMU makes its sockets and the console log.
        :param program: the image of the program drive.
        """
        qemu = self.images.qemu
        return [
            *qemu.command(
                "qemu-system-x86_64", "-L", qemu.path("usr/share/qemu"), "-L", qemu.path("usr/share/seabios")
            ),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", str(self.memory), "-smp", "1"),
            *("-kernel", str(self.images.vmlinux), "-initrd", str(self.images.initrd)),
            *("-append", " ".join([*_KERNEL_OPTIONS, f"lab.host={self.name}"])),
            *("-serial", f"file:{directory / 'console'}"),
            *("-qmp", f"unix:{directory / 'qmp'},server=on,wait=off"),
            *("-device", "virtio-rng-pci"),
            *("-device", "virtio-serial-pci,id=serial"),
            *_serial_port(directory, "agent", "lab", 1),
            *_serial_port(directory, "wire", "wire", 2),
            *_drive("root", self.images.root),
            *_drive("program", program),
            *("-device", "intel-iommu,intremap=on,caching-mode=on"),
            *qemu_options(self.nics),
        ]

    def environment(self) -> dict[str, str]:
        """Return what QEMU needs in its environment: without it, it would load the machine's own QEMU modules."""
        return {"QEMU_MODULE_DIR": str(self.images.qemu.path("usr/lib/x86_64-linux-gnu/qemu"))}


def _serial_port(directory: Path, name: str, guest_name: str, number: int) -> list[str]:
    channel = f"socket,id={name},path={directory / name},server=on,wait=off"
    return ["-chardev", channel, "-device", f"virtserialport,bus=serial.0,nr={number},chardev={name},name={guest_name}"]


def _drive(name: str, image: Path) -> list[str]:
    source = f"file={image},if=none,id={name},format=raw,readonly=on"
    return ["-drive", source, "-device", f"virtio-blk-pci,drive={name},serial=lab-{name}"]
