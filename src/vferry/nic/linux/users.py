# SPDX-License-Identifier: Apache-2.0
"""Who uses a VF, told without the name of any driver.

* A process that has one of the VF's device nodes open: ``/dev/vfio/GROUP`` (or ``noiommu-GROUP``),
  ``/dev/vfio/devices/vfioN``, ``/dev/uioN``. Found by looking at every process's open files, so a process that this one
  may not look at is not found.
* A network interface of the VF that is up.
* A network interface of the VF in another network namespace. sysfs shows an interface to its own namespace only, but
  the directory ``net`` that holds it is there for all: where that is **empty**, the interface is elsewhere. The VF's
  driver is a network driver then; one that hands the VF to user space has no such directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

__all__ = ["device_nodes", "holders", "network_directory", "network_user"]

_NET = "net"
_IFF_UP = 0x1


def _names(directory: str) -> list[str]:
    """Return the entries of a directory; none where there is no such directory."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _virtio_child(function: str) -> str | None:
    """Return the directory of a PCI function's virtio device, which has its network interface; None without one.

    Devices on the virtio bus are named ``virtioN`` (``drivers/virtio/virtio.c``).
    """
    for name in _names(function):
        if name.startswith("virtio") and name[6:].isdigit():
            return f"{function}/{name}"
    return None


def device_nodes(function: str, root: str, iommu_group: int | None) -> tuple[str, ...]:
    """Return the device nodes by which user space can have a function.

    :param function: the function's directory in sysfs.
    :param root: where sysfs is mounted.
    """
    nodes = [f"/dev/vfio/devices/{name}" for name in _names(f"{function}/vfio-dev")]
    nodes += [f"/dev/{name}" for name in _names(f"{function}/uio")]
    if iommu_group is not None:
        # A group is in this class while a VFIO driver has one of its devices.
        groups = (f"{iommu_group}", f"noiommu-{iommu_group}")
        nodes += [f"/dev/vfio/{group}" for group in groups if os.path.exists(f"{root}/class/vfio/{group}")]
    return tuple(nodes)


def holders(proc_root: str, nodes: Iterable[str]) -> dict[str, str]:
    """Return, by device node, the process that has it open, in words; looks at all processes once.

    :param nodes: the device nodes that matter; where there are none, nothing is looked at.
    """
    wanted = set(nodes)
    if not wanted:
        return {}
    found: dict[str, str] = {}
    for pid in sorted((name for name in _names(proc_root) if name.isdigit()), key=int):
        for target in _open_files(f"{proc_root}/{pid}/fd"):
            if target in wanted and target not in found:
                found[target] = f"process {pid} ({_command(proc_root, pid)}) through {target}"
    return found


def _open_files(directory: str) -> Iterator[str]:
    """Yield what a process's descriptors point at; nothing where it has ended or is another user's."""
    for name in _names(directory):
        try:
            yield os.readlink(f"{directory}/{name}")
        except OSError:
            continue


def _command(proc_root: str, pid: str) -> str:
    try:
        with open(f"{proc_root}/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "ended"


def network_user(root: str, driver: str, network: str) -> str | None:
    """Return who uses a function by a network interface, in words; None where its interface is here and down.

    :param root: where sysfs is mounted.
    :param driver: the function's driver.
    :param network: what :func:`network_directory` found.
    """
    netdevs = _names(network)
    for netdev in netdevs:
        if _flags(f"{root}/class/net/{netdev}/flags") & _IFF_UP:
            return f"network interface {netdev} is up"
    return None if netdevs else f"driver {driver} is bound and its network interface is in another namespace"


def network_directory(function: str, *, virtio: bool = True) -> str | None:
    """Return the directory of a function's network interfaces, its own or its virtio device's; None without one.

    :param function: the function's directory in sysfs.
    :param virtio: look for a virtio device, which takes longer.
    """
    if os.path.isdir(f"{function}/{_NET}"):
        return f"{function}/{_NET}"
    child = _virtio_child(function) if virtio else None
    return f"{child}/{_NET}" if child is not None and os.path.isdir(f"{child}/{_NET}") else None


def _flags(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read(), 16)
    except (OSError, ValueError):
        return 0
