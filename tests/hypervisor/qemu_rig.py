# SPDX-License-Identifier: Apache-2.0
"""Two real QEMUs on this machine: a guest of 34 bytes that writes memory and counts, on a disk that both share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from lab.images.build import Images
from vferry.hypervisor.qemu import QemuHypervisor, QemuTimes
from vferry.hypervisor.qemu_launch import Device, Launch, Launched, Launcher, QemuVm, command_launcher
from vferry.hypervisor.qmp import QmpConnection

VM = "tiny"

# xor ax,ax; mov ds,ax; mov bx,0x1000; L: inc dword [0x7e00]; mov es,bx; inc byte [es:0]; add bx,0x100;
# cmp bx,0x9000; jb +3; mov bx,0x1000; jmp L: a counter, and 128 pages that are written in turn
_GUEST = bytes.fromhex("31c08ed8bb001066ff06007e8ec326fe06000081c3000181fb00907203bb0010ebe5")
_COUNTER = 0x7E00
_ANY_MEMORY = 24 << 20  # bytes that are not zero: the rest of a migration that is to be cut off

TIMES = QemuTimes(command=5.0, launch=30.0, end=10.0, unplug=10.0, shut_down=10.0)


def device_of(pf: str, vf: int) -> Device:
    """Stand for a VF: a USB device, which QEMU takes out without the guest's help; or one that needs a guest's help."""
    identity = f"vf-{pf}-{vf}"
    if pf == "slow":
        return {"driver": "virtio-rng-pci", "id": identity, "bus": "rootport0"}
    return {"driver": "usb-tablet", "id": identity, "bus": "hub.0"}


class Side:
    """One host: a hypervisor adapter, and a QMP connection of the test's own."""

    def __init__(self, name: str, directory: Path, images: Images, *extra: str) -> None:
        self.name = name
        self.directory = directory
        self.pids: list[int] = []
        self.qmp = str(directory / f"{name}.qmp")
        self._own = str(directory / f"{name}.own")
        self.launch = self._tracked(command_launcher([*self._command(images), *extra], environment=_modules(images)))
        self.listen = f"unix:{directory}/{{vm}}.stream"
        self.hypervisor = self.adapter()
        self.test = QmpConnection(name, VM, self._own, seconds=TIMES.command)

    def adapter(self, times: QemuTimes = TIMES, listen: str | None = None) -> QemuHypervisor:
        """Return an adapter as another process would have it."""
        vm = QemuVm(name=VM, qmp=self.qmp, launch=self.launch)
        return QemuHypervisor(self.name, [vm], listen=listen or self.listen, device_of=device_of, times=times)

    async def counter(self) -> int:
        """Return how far the guest has counted."""
        line = f"xp /1wx {_COUNTER:#x}"
        said = str(await self.test.run("human-monitor-command", {"command-line": line}))
        return int(said.rsplit(maxsplit=1)[-1], 16)

    async def counts(self) -> bool:
        """Whether the guest runs, by its own work; waits until it does."""
        before = await self.counter()
        for _ in range(500):
            if await self.counter() != before:
                return True
            await asyncio.sleep(0.01)
        return False

    async def stands(self) -> bool:
        """Whether the guest's counter stands still for a while in which it would count thousands."""
        before = await self.counter()
        await asyncio.sleep(0.2)
        return await self.counter() == before

    def stop_process(self) -> None:
        """Let QEMU itself do nothing any more: it reads no stream."""
        os.kill(self.pids[-1], signal.SIGSTOP)

    def kill(self) -> None:
        """End every QEMU of this side, as a power failure would."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self.pids.clear()

    async def close(self) -> None:
        """End all."""
        await self.hypervisor.close()
        await self.test.close()
        self.kill()

    def _command(self, images: Images) -> list[str]:
        qemu = images.qemu
        memory = f"loader,file={self.directory / 'memory'},addr=0x1000000,force-raw=on"
        return [
            *qemu.command(
                "qemu-system-x86_64", "-L", qemu.path("usr/share/qemu"), "-L", qemu.path("usr/share/seabios")
            ),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-name", VM),
            *("-M", "q35", "-accel", "tcg", "-m", "64"),
            *("-qmp", f"unix:{self.qmp},server=on,wait=off", "-qmp", f"unix:{self._own},server=on,wait=off"),
            *("-device", "qemu-xhci,id=hub", "-device", "pcie-root-port,id=rootport0,chassis=1", "-device", memory),
            *("-drive", f"file={self.directory / 'disk'},if=none,id=disk,format=raw"),
            *("-device", "virtio-blk-pci,drive=disk,bootindex=0"),
        ]

    def _tracked(self, launcher: Launcher) -> Launcher:
        def launch(wanted: Launch) -> Launched:
            child = launcher(wanted)
            self.pids.append(child._pid)  # type: ignore[attr-defined]  # the test ends what it started
            return child

        return launch


def _modules(images: Images) -> dict[str, str]:
    return {"QEMU_MODULE_DIR": str(images.qemu.path("usr/lib/x86_64-linux-gnu/qemu"))}


@contextlib.asynccontextmanager
async def two_sides(
    images: Images, directory: Path, *extra: str, runs: bool = True
) -> AsyncIterator[tuple[Side, Side]]:
    """Give a source whose guest counts, and a destination without a VM.

    :param extra: words for the source's command line.
    :param runs: whether the source's VM runs.
    """
    (directory / "disk").write_bytes(_GUEST.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    (directory / "memory").write_bytes(random.Random(1).randbytes(_ANY_MEMORY))
    sides = Side("a", directory, images, *extra), Side("b", directory, images)
    try:
        await sides[0].hypervisor.start(VM)
        assert not runs or await sides[0].counts()
        yield sides
    finally:
        for side in sides:
            await side.close()
