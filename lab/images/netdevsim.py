# SPDX-License-Identifier: Apache-2.0
"""The kernel's simulated network device, built as a module beside Debian's kernel, which leaves it out.

It is built from Debian's kernel source with Debian's kernel headers, both unpacked and not installed. Two things
must be changed for that: the headers' top ``Makefile`` names ``/usr/src``, and type information (BTF) for modules,
which would need a further program, is switched off.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from lab.errors import BuildFailed, LabUnavailable
from lab.images.apt import PrivateApt, unpack
from lab.images.cache import make_piece, piece_path, scratch
from lab.images.command import run
from lab.images.kernel import SUITE, Kernel, kernel_path

NEEDS = ("psample", "macsec", "udp_tunnel", "ip6_udp_tunnel")
"""Modules to load before ``netdevsim.ko``, which is loaded by its path."""

_SOURCE = "drivers/net/netdevsim"
_COMPILER_PACKAGES = ("gcc", "make", "libc6-dev", "libelf1", "binutils")


def netdevsim_path() -> Path:
    """Return where the module's directory stands."""
    return piece_path("netdevsim", _recipe())


def make_netdevsim(apt: PrivateApt, kernel: Kernel) -> Path:
    """Return the file ``netdevsim.ko`` for ``kernel``; build it where it is missing.

    :raise LabUnavailable: When there is no compiler and this user cannot install one.
    """
    return make_piece("netdevsim", _recipe(), lambda work: _make(apt, kernel.release, work)) / "netdevsim.ko"


def _recipe() -> list[str]:
    return ["1", kernel_path().name]


def _make(apt: PrivateApt, release: str, work: Path) -> None:
    require_compiler(may_install=True)
    version = release.removesuffix("-amd64")
    series = ".".join(release.split(".")[:2])
    headers = [f"linux-headers-{release}", f"linux-headers-{version}-common", f"linux-kbuild-{version}"]
    with scratch("netdevsim-tree") as tree:
        for part in ("headers", "headers-debs", "source-debs"):
            (tree / part).mkdir()
        unpack(apt.download([f"{name}/{SUITE}" for name in headers], tree / "headers-debs"), tree / "headers")
        (source_package,) = apt.download([f"linux-source-{series}/{SUITE}"], tree / "source-debs")
        _extract_source(source_package, tree)
        built = _compile(tree / "headers/usr/src" / f"linux-headers-{release}", tree)
        run(["strip", "-g", "-o", work / "netdevsim.ko", built])


def _compile(build_directory: Path, tree: Path) -> Path:
    """Build the module in ``tree`` and return its file."""
    makefile = build_directory / "Makefile"
    makefile.write_text(makefile.read_text().replace("include /usr/src", f"include {tree}/headers/usr/src"))
    module = tree / _SOURCE
    settings = [f"M={module}", "CONFIG_NETDEVSIM=m", "CONFIG_DEBUG_INFO_BTF_MODULES="]
    run(["make", "-C", build_directory, *settings, f"-j{os.cpu_count() or 1}", "modules"])
    return module / "netdevsim.ko"


def _extract_source(package: Path, tree: Path) -> None:
    """Unpack one directory of the kernel's source and stop reading as soon as it is complete."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        with tarfile.open(fileobj=reader.stdout, mode="r|") as outer:
            for member in outer:
                if member.name.endswith(".tar.xz"):
                    _extract_inner(outer, member, tree)
                    break
        reader.kill()
    if not (tree / _SOURCE / "Makefile").exists():
        raise BuildFailed(f"no {_SOURCE} in {package.name}")


def _extract_inner(outer: tarfile.TarFile, member: tarfile.TarInfo, tree: Path) -> None:
    stream = outer.extractfile(member)
    assert stream is not None
    with tarfile.open(fileobj=stream, mode="r|xz") as inner:
        for file, name in _members_of(inner, _SOURCE):
            content = inner.extractfile(file)
            if content is not None:
                path = tree / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())


def _members_of(archive: tarfile.TarFile, directory: str) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """Yield the members below ``directory`` (of the source's top directory) until another directory begins."""
    seen = False
    for member in archive:
        name = member.name.partition("/")[2]
        inside = name.startswith(directory + "/")
        if inside and member.isfile():
            seen = True
            yield member, name
        elif seen and not inside:
            return


def require_compiler(*, may_install: bool) -> None:
    """Check for a compiler. This is the only thing that the build may install on the machine itself, as root.

    :raise LabUnavailable: When there is none and it may or can not be installed.
    """
    if shutil.which("gcc") and shutil.which("make") and shutil.which("strip"):
        return
    if os.geteuid() == 0 and not may_install:
        return
    if os.geteuid() != 0:
        wanted = " ".join(_COMPILER_PACKAGES)
        raise LabUnavailable(f"building netdevsim needs a compiler: install the packages {wanted}")
    run(["apt-get", "install", "-qy", "--no-install-recommends", *_COMPILER_PACKAGES])
