# SPDX-License-Identifier: Apache-2.0
"""The whole build, and the answer to whether it is there.

The pieces depend on each other as follows; what stands side by side is made side by side::

    tools --+-- kernel -- netdevsim --+
            |                         +-- boot
    root ---+-------------------------+
    qemu
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lab.errors import LabUnavailable
from lab.images import boot, kernel, netdevsim, packages
from lab.images.cache import forget_unused
from lab.images.mirror import find_mirror
from lab.images.sysroot import Sysroot

T = TypeVar("T")

Progress = Callable[[str], None]

_NEEDED_PROGRAMS = ("apt-get", "apt-cache", "apt-config", "dpkg-deb", "tar")


@dataclass(frozen=True, kw_only=True)
class Images:
    """A finished build.

    :ivar qemu: the tree that holds QEMU.
    :ivar tools: the tree that holds ``mkfs.erofs``.
    :ivar vmlinux: the kernel.
    :ivar release: what ``uname -r`` says.
    :ivar initrd: the initramfs.
    :ivar root: the root file system's image, read-only.
    :ivar key: stands for the content of all of these.
    """

    qemu: Sysroot
    tools: Sysroot
    vmlinux: Path
    release: str
    initrd: Path
    root: Path
    key: str


def pieces() -> dict[str, Path]:
    """Return the pieces of the build by name; a piece that does not exist has not been made."""
    return {
        "tools": packages.tools_path(),
        "qemu": packages.qemu_path(),
        "root": packages.root_path(),
        "kernel": kernel.kernel_path(),
        "netdevsim": netdevsim.netdevsim_path(),
        "boot": boot.boot_path(),
    }


def load_images() -> Images:
    """Return the finished build, without network and at once.

    :raise LabUnavailable: When a piece is missing.
    """
    missing = [name for name, path in pieces().items() if not path.exists()]
    if missing:
        raise LabUnavailable(f"not built yet: {', '.join(missing)}; run 'python -m lab build'")
    for path in pieces().values():
        os.utime(path)
    found = kernel.Kernel(pieces()["kernel"])
    files = pieces()["boot"]
    return Images(
        qemu=Sysroot(pieces()["qemu"]),
        tools=Sysroot(pieces()["tools"]),
        vmlinux=found.vmlinux,
        release=found.release,
        initrd=files / "initrd",
        root=files / "root.erofs",
        key=f"{files.name}+{pieces()['qemu'].name}+{found.release}",
    )


def build_images(progress: Progress = lambda _line: None) -> Images:
    """Return the build; make what is missing, from Debian's archive.

    :param progress: gets a line for every piece made.
    :raise LabUnavailable: When this machine cannot build it.
    :raise BuildFailed: When a step fails.
    """
    try:
        return load_images()
    except LabUnavailable:
        require_machine()
    steps = _Steps(progress)
    mirror = find_mirror()
    twelve, thirteen = packages.bookworm(mirror), packages.trixie(mirror)
    with ThreadPoolExecutor(max_workers=3) as pool:
        qemu = pool.submit(steps.make, "qemu", lambda: packages.make_qemu(thirteen))
        root = pool.submit(steps.make, "root", lambda: packages.make_root(twelve))
        tools = steps.make("tools", lambda: packages.make_tools(twelve))
        found = steps.make("kernel", lambda: kernel.make_kernel(twelve, tools))
        module = steps.make("netdevsim", lambda: netdevsim.make_netdevsim(twelve, found))
        tree = root.result()
        steps.make("boot", lambda: boot.make_boot(tools, found, module, tree))
        qemu.result()
    images = load_images()
    forget_unused(list(pieces()))
    return images


def require_machine() -> None:
    """Check that this machine can build and run the lab.

    :raise LabUnavailable: With the reason, when it cannot.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise LabUnavailable(f"the lab runs on Linux x86_64 only, this is {platform.system()} {platform.machine()}")
    missing = [name for name in _NEEDED_PROGRAMS if shutil.which(name) is None]
    if missing:
        raise LabUnavailable(f"the lab is built with Debian's tools; missing here: {', '.join(missing)}")


class _Steps:
    """Make pieces, and report what is made and how long it takes."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def make(self, name: str, step: Callable[[], T]) -> T:
        if pieces()[name].exists():
            return step()
        self._progress(f"{name}: started")
        begin = time.monotonic()
        result = step()
        self._progress(f"{name}: ready after {time.monotonic() - begin:.1f} s")
        return result
