# SPDX-License-Identifier: Apache-2.0
"""The files a host boots from: an initramfs and a read-only root image (erofs) with modules and the lab's programs.

The initramfs mounts the image, lays a writable overlay in memory over it and hands over to the lab's ``init``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from lab.images import cpio
from lab.images.cache import make_piece, piece_path, scratch
from lab.images.command import run
from lab.images.kernel import Kernel, kernel_path, module_dependencies
from lab.images.netdevsim import netdevsim_path
from lab.images.packages import root_path
from lab.images.sysroot import Sysroot

_GUEST = Path(__file__).resolve().parent.parent / "guest"

_INSTALLED = {
    "agent.py": "usr/local/lib/lab/agent.py",
    "frames.py": "usr/local/bin/lab-frames",
    "init": "usr/local/lib/lab/init",
    "vferry": "usr/local/bin/vferry",
    "wire-witness": "usr/local/bin/wire-witness",
}
"""The lab's programs in a host: the name in this package, and where it goes."""

_EARLY_MODULES = ("crc32c_generic", "virtio_blk", "erofs", "overlay")
"""In this order; libcrc32c, which erofs uses, finds crc32c_generic by its alias and not by a symbol."""


def boot_path() -> Path:
    """Return where the boot files stand."""
    return piece_path("boot", _recipe())


def make_boot(tools: Sysroot, kernel: Kernel, netdevsim: Path, root: Sysroot) -> Path:
    """Return the directory with ``root.erofs`` and ``initrd``; make it where it is missing."""
    return make_piece("boot", _recipe(), lambda work: _make(tools, kernel, netdevsim, root, work))


def _recipe() -> list[str | bytes]:
    own = [(_GUEST / name).read_bytes() for name in sorted([*_INSTALLED, "initramfs-init"])]
    return ["2", kernel_path().name, netdevsim_path().name, root_path().name, *_EARLY_MODULES, *own]


def _make(tools: Sysroot, kernel: Kernel, netdevsim: Path, root: Sysroot, work: Path) -> None:
    (work / "initrd").write_bytes(_initramfs(tools, kernel))
    with scratch("root-tree") as tree:
        shutil.copytree(root.root, tree, symlinks=True, dirs_exist_ok=True, copy_function=_link)
        modules = tree / "usr/lib/modules" / kernel.release
        shutil.copytree(kernel.modules, modules, copy_function=_link)
        _install(tree, netdevsim)
        make_erofs(tools, tree, work / "root.erofs")


def _install(tree: Path, netdevsim: Path) -> None:
    for name, place in _INSTALLED.items():
        shutil.copyfile(_GUEST / name, tree / place)
        (tree / place).chmod(0o755)
    shutil.copyfile(netdevsim, tree / "usr/local/lib/lab/netdevsim.ko")


def _link(source: str, target: str) -> None:
    """Let the copy share the original's content: the image is only read from it."""
    Path(target).hardlink_to(source)


def make_erofs(tools: Sysroot, tree: Path, image: Path) -> None:
    """Write the content of ``tree`` as an uncompressed erofs image, all owned by root."""
    run(tools.command("mkfs.erofs", "-d0", "--quiet", "--all-root", image, tree))


def _initramfs(tools: Sysroot, kernel: Kernel) -> bytes:
    entries = {name: cpio.directory() for name in ("bin", "dev", "mods", "new", "proc", "sys")}
    busybox = tools.path("usr/bin/busybox")
    entries["bin/busybox"] = cpio.file(busybox.read_bytes(), executable=True)
    entries["init"] = cpio.file((_GUEST / "initramfs-init").read_bytes(), executable=True)
    names: list[str] = []
    for module in _load_order(kernel):
        entries[f"mods/{module.name}"] = cpio.file(module.read_bytes())
        names.append(module.name)
    entries["mods/list"] = cpio.file("".join(f"{name}\n" for name in names).encode())
    return cpio.archive(entries)


def _load_order(kernel: Kernel) -> list[Path]:
    """Return the files of the early modules, each after those it depends on."""
    found = {path.stem.replace("-", "_"): path for path in kernel.modules.rglob("*.ko")}
    order: dict[str, Path] = {}

    def add(name: str) -> None:
        path = found.get(name)
        if path is None or name in order:
            return
        for dependency in module_dependencies(path.read_bytes()):
            add(dependency)
        order[name] = path

    for name in _EARLY_MODULES:
        add(name)
    return list(order.values())
