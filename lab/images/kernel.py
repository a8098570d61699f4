# SPDX-License-Identifier: Apache-2.0
"""Debian's kernel for the hosts: an uncompressed ``vmlinux`` and the modules that the lab uses.

QEMU starts an ELF ``vmlinux`` by its PVH entry, without firmware and without the decompressor, which an emulated
processor feels. Modules are decompressed here for the same reason.
"""

from __future__ import annotations

import gzip
import lzma
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import BuildFailed
from lab.images.apt import PrivateApt, unpack
from lab.images.cache import make_piece, piece_path, scratch
from lab.images.command import run
from lab.images.sysroot import Sysroot

SUITE = "bookworm-backports"

MODULES = (
    "8021q",
    "af_packet",
    "bonding",
    "bridge",
    "crc32c_generic",
    "dummy",
    "erofs",
    "failover",
    "igb",
    "igbvf",
    "ip6_udp_tunnel",
    "macsec",
    "macvlan",
    "net_failover",
    "overlay",
    "psample",
    "sch_ingress",
    "tun",
    "udp_tunnel",
    "veth",
    "vfio-pci",
    "vfio_iommu_type1",
    "virtio-rng",
    "virtio_blk",
    "virtio_net",
)
"""Modules wanted in a host; what they depend on comes with them."""

_RECIPE = ("2", SUITE, *MODULES)

_SETUP_SECTS = 0x1F1
_PAYLOAD_OFFSET = 0x248


@dataclass(frozen=True)
class Kernel:
    """A kernel, unpacked.

    :ivar directory: holds ``vmlinux``, ``release`` and ``modules/lib/modules/RELEASE``.
    """

    directory: Path

    @property
    def vmlinux(self) -> Path:
        """The kernel itself, an ELF file."""
        return self.directory / "vmlinux"

    @property
    def release(self) -> str:
        """What ``uname -r`` says in a host."""
        return (self.directory / "release").read_text().strip()

    @property
    def modules(self) -> Path:
        """The directory of the decompressed modules, with their index files."""
        return self.directory / "modules/lib/modules" / self.release


def kernel_path() -> Path:
    """Return where the kernel stands."""
    return piece_path("kernel", _RECIPE)


def make_kernel(apt: PrivateApt, tools: Sysroot) -> Kernel:
    """Return the kernel; make it where it is missing.

    :raise BuildFailed: When the archive has no kernel of the expected kind.
    """
    return Kernel(make_piece("kernel", _RECIPE, lambda work: _make(apt, tools, work)))


def _make(apt: PrivateApt, tools: Sysroot, work: Path) -> None:
    package = _real_package(apt)
    release = package.removeprefix("linux-image-")
    with scratch("kernel-tree") as tree:
        (tree / "debs").mkdir()
        unpack(apt.download([f"{package}/{SUITE}"], tree / "debs"), tree)
        image = (tree / "boot" / f"vmlinuz-{release}").read_bytes()
        (work / "vmlinux").write_bytes(extract_vmlinux(image, tools))
        target = work / "modules/lib/modules" / release
        _copy_modules(tree / "usr/lib/modules" / release, target)
    (work / "release").write_text(release + "\n")
    run(tools.command("depmod", "-b", work / "modules", release))


def _real_package(apt: PrivateApt) -> str:
    """Return the package behind the metapackage of the newest kernel."""
    for name in apt.dependencies(f"linux-image-amd64/{SUITE}"):
        if re.fullmatch(r"linux-image-\d.*-amd64", name):
            return name
    raise BuildFailed(f"no kernel behind linux-image-amd64 of {SUITE}")


def extract_vmlinux(image: bytes, tools: Sysroot) -> bytes:
    """Return the ELF kernel inside a bzImage.

    The setup header says where the payload is (Linux ``Documentation/arch/x86/boot.rst``, ``setup_sects``,
    ``payload_offset``, ``payload_length``). The payload ends with the kernel's size in 4 bytes.

    :raise BuildFailed: When the payload is not an ELF file or of an unknown compression.
    """
    setup = image[_SETUP_SECTS] or 4
    offset, length = struct.unpack_from("<II", image, _PAYLOAD_OFFSET)
    start = (setup + 1) * 512 + offset
    payload = image[start : start + length]
    kernel = _decompress(payload[:-4], tools)
    if not kernel.startswith(b"\x7fELF"):
        raise BuildFailed("the kernel's payload is not an ELF file")
    return kernel


def _decompress(payload: bytes, tools: Sysroot) -> bytes:
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        return run(tools.command("zstd", "-dc"), stdin=payload)
    if payload.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"\x1f\x8b"):
        return gzip.decompress(payload)
    raise BuildFailed(f"unknown compression of the kernel: it begins with {payload[:6].hex()}")


def _copy_modules(source: Path, target: Path) -> None:
    """Copy the wanted modules and what they depend on, decompressed, and the lists that depmod needs."""
    target.mkdir(parents=True)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        (target / name).write_bytes((source / name).read_bytes())
    builtin = {_module_name(Path(line)) for line in (source / "modules.builtin").read_text().split()}
    found = {_module_name(path): path for path in source.rglob("*.ko*")}
    waiting = [name.replace("-", "_") for name in MODULES]
    done: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in done or name in builtin:
            continue
        done.add(name)
        if name not in found:
            raise BuildFailed(f"the kernel has no module {name}")
        content = _read_module(found[name])
        path = target / found[name].relative_to(source).with_name(found[name].name.split(".ko")[0] + ".ko")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        waiting += module_dependencies(content)


def _module_name(path: Path) -> str:
    return path.name.split(".ko")[0].replace("-", "_")


def _read_module(path: Path) -> bytes:
    content = path.read_bytes()
    return lzma.decompress(content) if path.suffix == ".xz" else content


def module_dependencies(content: bytes) -> Sequence[str]:
    """Return the names in the ``depends=`` entry of a module's ``.modinfo`` section."""
    match = re.search(rb"\0depends=([^\0]*)\0", content)
    names = match.group(1).decode() if match else ""
    return [name.replace("-", "_") for name in names.split(",") if name]
