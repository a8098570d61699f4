# SPDX-License-Identifier: Apache-2.0
"""The Debian packages that the lab is made of, and the unpacked trees they become.

Kernel, tools and root file system are of Debian 12 (bookworm); its Python is 3.11, so binary wheels of a 3.11
environment work in a host. QEMU is the one of trixie-backports, because SR-IOV in virtio-net needs 10.1 or newer.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from lab.images.apt import PrivateApt, unpack
from lab.images.cache import make_piece, piece_path, scratch
from lab.images.command import run
from lab.images.mirror import Mirror
from lab.images.sysroot import Sysroot

TOOLS = ("busybox-static", "erofs-utils", "kmod", "zstd")
QEMU = ("qemu-system-x86",)
ROOT = (
    "base-files",
    "bash",
    "coreutils",
    "dash",
    "diffutils",
    "ethtool",
    "findutils",
    "grep",
    "hostname",
    "iproute2",
    "iputils-arping",
    "iputils-ping",
    "kmod",
    "libpython3-stdlib",
    "mawk",
    "mount",
    "pciutils",
    "procps",
    "python3",
    "sed",
    "tar",
    "tcpdump",
    "util-linux",
)

_RECIPE_VERSION = "1"


def bookworm(mirror: Mirror) -> PrivateApt:
    """Return an apt that sees Debian 12 with its backports."""
    return PrivateApt("bookworm", mirror, ["bookworm", "bookworm-updates", "bookworm-backports"])


def trixie(mirror: Mirror) -> PrivateApt:
    """Return an apt that sees Debian 13 with its backports; apart from Debian 12, or apt would mix the two."""
    return PrivateApt("trixie", mirror, ["trixie", "trixie-backports"])


def tools_path() -> Path:
    """Return where the tools of the build stand."""
    return piece_path("tools", _recipe(TOOLS))


def qemu_path() -> Path:
    """Return where QEMU stands."""
    return piece_path("qemu", _recipe(QEMU))


def root_path() -> Path:
    """Return where the tree stands that becomes the hosts' root file system."""
    return piece_path("root", _recipe(ROOT))


def make_tools(apt: PrivateApt) -> Sysroot:
    """Return the tools of the build; make them where they are missing."""
    return Sysroot(make_piece("tools", _recipe(TOOLS), lambda work: _install(apt, TOOLS, work)))


def make_qemu(apt: PrivateApt) -> Sysroot:
    """Return QEMU with all it needs; make it where it is missing."""

    def make(work: Path) -> None:
        _install(apt, QEMU, work, release="trixie-backports")

    return Sysroot(make_piece("qemu", _recipe(QEMU), make))


def make_root(apt: PrivateApt) -> Sysroot:
    """Return the tree of the hosts' root file system; make it where it is missing."""

    def make(work: Path) -> None:
        _install(apt, ROOT, work)
        _finish_root(work)

    return Sysroot(make_piece("root", _recipe(ROOT), make))


def _recipe(packages: Sequence[str]) -> list[str]:
    return [_RECIPE_VERSION, *packages]


def _install(apt: PrivateApt, packages: Sequence[str], root: Path, *, release: str | None = None) -> None:
    with scratch("debs") as archives:
        unpack(apt.closure(packages, archives, release=release), root)


def _finish_root(root: Path) -> None:
    """Do what maintainer scripts would have done, as far as a host of the lab needs it."""
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/nonexistent:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    for name in ("awk", "nawk"):
        link = root / "usr/bin" / name
        if not link.exists():
            link.symlink_to("mawk")
    for directory in ("dev", "opt/program", "proc", "run", "sys", "tmp", "usr/local/bin", "usr/local/lib/lab"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    for directory in ("boot", "usr/share/zoneinfo", "usr/share/perl", "usr/share/bash-completion"):
        shutil.rmtree(root / directory, ignore_errors=True)
    _compile_standard_library(root)


def _compile_standard_library(root: Path) -> None:
    """Compile the tree's Python modules with its own Python; its packages would do so when they are configured."""
    library = root / "usr/lib/python3.11"
    options = ["-q", "-j0", "-s", str(root), "--invalidation-mode", "unchecked-hash"]
    python = Sysroot(root).command("python3.11", "-I", "-m", "compileall", *options, library)
    run(python, env={"PYTHONHOME": str(root / "usr")})
