# SPDX-License-Identifier: Apache-2.0
"""PFs, VFs and their facts, as sysfs tells them.

A **PF** is a device with a file ``sriov_numvfs``. Two buses have such devices, because two implement
``bus_type.num_vf`` (Linux 6.12): PCI (``drivers/pci/pci-driver.c``) and netdevsim's
(``drivers/net/netdevsim/bus.c``). What sysfs does not say is absent.

Documentation: ``Documentation/ABI/testing/sysfs-bus-pci``, ``sysfs-class-net``.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from vferry.core.model import HostFacts, SriovCapability, VfFacts
from vferry.nic.linux import pci, users

__all__ = ["Device", "Sysfs"]

_BUSES = ("pci", "netdevsim")


class Device(NamedTuple):
    """A PF by its bus and its address on it; as devlink names devices."""

    bus: str
    address: str


class Sysfs:
    """Reads sysfs and procfs; changes nothing.

    :param root: where sysfs is mounted.
    :param proc_root: where procfs is mounted.
    """

    def __init__(self, root: str, proc_root: str) -> None:
        self._root = root
        self._proc_root = proc_root

    # Section: small readers

    def text(self, path: str) -> str | None:
        """Return a file's only line; None where there is none or the driver does not answer."""
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return os.read(handle, 4096).decode("utf-8", "replace").strip() or None
        except OSError:
            return None
        finally:
            os.close(handle)

    def number(self, path: str, base: int = 10) -> int | None:
        """Return a file's number; None where there is none."""
        try:
            return int(self.text(path) or "", base)
        except ValueError:
            return None

    @staticmethod
    def target(path: str) -> str | None:
        """Return the last part of what a link points at; None where there is no such link."""
        try:
            return os.path.basename(os.readlink(path))
        except OSError:
            return None

    @staticmethod
    def names(directory: str) -> list[str]:
        """Return the entries of a directory, sorted; none where there is no such directory."""
        try:
            return sorted(os.listdir(directory))
        except OSError:
            return []

    def hexadecimal(self, path: str) -> str | None:
        """Return a 16-bit identifier as four hexadecimal digits."""
        number = self.number(path, 16)
        return None if number is None or not 0 <= number <= 0xFFFF else f"{number:04x}"

    def net(self, netdev: str) -> str:
        """Return the directory of a network interface."""
        return f"{self._root}/class/net/{netdev}"

    def path(self, device: Device) -> str:
        """Return the directory of a device."""
        return f"{self._root}/bus/{device.bus}/devices/{device.address}"

    # Section: PFs and their facts

    def host(self) -> HostFacts:
        """Return the facts of the host."""
        system = os.uname()
        boot_id = self.text(f"{self._proc_root}/sys/kernel/random/boot_id")
        return HostFacts(
            hostname=system.nodename or "localhost", boot_id=boot_id or "unknown", kernel_release=system.release
        )

    def devices(self) -> list[Device]:
        """Return every PF."""
        return [
            device
            for bus in _BUSES
            for name in self.names(f"{self._root}/bus/{bus}/devices")
            if self._is_pf(device := Device(bus, name))
        ]

    def _is_pf(self, device: Device) -> bool:
        return os.path.exists(f"{self.path(device)}/sriov_numvfs")

    def find(self, name: str) -> Device | None:
        """Return the PF of that network interface or device address; None where there is none.

        A representor hangs on the PF's device too, but its name is not the PF's.
        """
        if not _is_name(name):
            return None
        return self._device_of(name) or next(
            (device for bus in _BUSES if self._is_pf(device := Device(bus, name))), None
        )

    def _device_of(self, netdev: str) -> Device | None:
        """Return the PF that a network interface belongs to: its parent, or that of its virtio device."""
        # The kernel follows the link; os.path.realpath() would look at each of a dozen directories.
        path = f"{self.net(netdev)}/device"
        address, bus = self.target(path), self.target(f"{path}/subsystem")
        if bus == "virtio":
            path = os.path.dirname(os.path.realpath(path))
            address, bus = os.path.basename(path), self.target(f"{path}/subsystem")
        if bus is None or address is None or not os.path.exists(f"{path}/sriov_numvfs") or self._represents(netdev):
            return None
        return Device(bus, address)

    def _represents(self, netdev: str) -> bool:
        port = self.text(f"{self.net(netdev)}/phys_port_name")
        return port is not None and is_representor(port)

    def netdevs(self, device: Device) -> list[str]:
        """Return a PF's network interfaces in this namespace, those of its first port first, without representors."""
        found = [
            (self.number(f"{self.net(name)}/dev_port") or 0, self.ifindex(name) or 0, name)
            for name in self._children(self.path(device))
            if not self._represents(name)
        ]
        return [name for _port, _index, name in sorted(found)]

    def _children(self, path: str) -> list[str]:
        """Return the network interfaces of a device, or of its virtio device."""
        network = users.network_directory(path)
        return [] if network is None else self.names(network)

    def ifindex(self, netdev: str) -> int | None:
        """Return a network interface's index; None where there is no such interface."""
        return self.number(f"{self.net(netdev)}/ifindex")

    def num_vfs(self, device: Device) -> int:
        """Return how many VFs a PF has now."""
        return self.number(f"{self.path(device)}/sriov_numvfs") or 0

    def total_vfs(self, device: Device) -> int | None:
        """Return how many VFs a PF can have."""
        return self.number(f"{self.path(device)}/sriov_totalvfs")

    def sriov(self, device: Device) -> SriovCapability | None:
        """Return the PF's SR-IOV capability: from its own files, or from configuration space."""
        path = self.path(device)
        offset, stride = self.number(f"{path}/sriov_offset"), self.number(f"{path}/sriov_stride")
        identifier = self.hexadecimal(f"{path}/sriov_vf_device")
        if offset is not None and stride is not None and identifier is not None:
            return SriovCapability(vf_offset=offset, vf_stride=stride, vf_device=identifier)
        registers = pci.sriov_registers(path)
        if registers is None:
            return None
        return SriovCapability(
            vf_offset=registers.vf_offset, vf_stride=registers.vf_stride, vf_device=f"{registers.vf_device:04x}"
        )

    def driver_version(self, driver: str) -> str | None:
        """Return the version of a driver's module; drivers of the kernel's own tree have none."""
        return self.text(f"{self._root}/module/{driver}/version")

    def speed(self, netdev: str) -> int | None:
        """Return the link speed in Mbit/s; None while the link is down or where the driver does not say."""
        speed = self.number(f"{self.net(netdev)}/speed")
        return speed if speed is not None and 0 < speed < 0x7FFF_FFFF else None

    def master(self, netdev: str) -> str | None:
        """Return the network interface that this one is a member of."""
        return self.target(f"{self.net(netdev)}/master")

    def bond(self, netdev: str) -> str | None:
        """Return the bond that a network interface is a member of."""
        uppers = [name.removeprefix("upper_") for name in self.names(self.net(netdev)) if name.startswith("upper_")]
        candidates = [self.master(netdev), *uppers]
        return next((name for name in candidates if name and os.path.isdir(f"{self.net(name)}/bonding")), None)

    def rdma(self, device: Device) -> tuple[str, ...]:
        """Return the RDMA devices of a PF."""
        root, mine = f"{self._root}/class/infiniband", os.path.realpath(self.path(device))
        return tuple(name for name in self.names(root) if os.path.realpath(f"{root}/{name}/device") == mine)

    # Section: VFs and their facts

    def vf_address(self, device: Device, vf: int) -> str | None:
        """Return the PCI address of a VF: where its link points, or by the arithmetic of routing identifiers.

        None on buses without addresses, or where neither is known.
        """
        linked = self.target(f"{self.path(device)}/virtfn{vf}")
        if linked is not None:
            return linked
        capability = self.sriov(device)
        return None if capability is None else vf_routing_address(device.address, vf, capability)

    def vf_path(self, device: Device, vf: int) -> str | None:
        """Return the directory of a VF's PCI function; None where it has none."""
        address = self.vf_address(device, vf)
        return None if address is None else self.path(Device("pci", address))

    def find_vf(self, address: str) -> tuple[Device, int] | None:
        """Return the PF of a VF by the VF's PCI address, and the VF's index."""
        if not _is_name(address):
            return None
        name = self.target(f"{self.path(Device('pci', address))}/physfn")
        if name is None:
            return None
        device = Device("pci", name)
        found = (vf for vf in range(self.num_vfs(device)) if self.vf_address(device, vf) == address)
        return next(((device, vf) for vf in found), None)

    def vfs(self, device: Device, count: int) -> tuple[VfFacts, ...]:
        """Return the facts of a PF's VFs.

        Who uses them is the slow part: where VFs are handed to user space it looks at all processes, once.
        """
        paths = [self.vf_path(device, vf) for vf in range(count)]
        groups = [None if path is None else self._iommu_group(path) for path in paths]
        nodes = [
            () if path is None else users.device_nodes(path, self._root, group)
            for path, group in zip(paths, groups, strict=True)
        ]
        held = users.holders(self._proc_root, [node for each in nodes for node in each])
        return tuple(
            VfFacts(index=vf) if path is None else self._vf_facts(vf, path, group, mine, held)
            for vf, (path, group, mine) in enumerate(zip(paths, groups, nodes, strict=True))
        )

    def _vf_facts(self, vf: int, path: str, group: int | None, nodes: tuple[str, ...], held: dict[str, str]) -> VfFacts:
        driver = pci.bound_driver(path)
        # A driver that hands the VF to user space is no virtio driver.
        network = None if driver is None else users.network_directory(path, virtio=not nodes)
        user = next((held[node] for node in nodes if node in held), None)
        if driver is not None and network is not None:
            user = users.network_user(self._root, driver, network)
        return VfFacts(
            index=vf,
            address=os.path.basename(path),
            vendor=self.hexadecimal(f"{path}/vendor"),
            device_id=self.hexadecimal(f"{path}/device"),
            driver=driver,
            netdev=None if network is None else next(iter(self.names(network)), None),
            iommu_group=group,
            vectors=pci.read_vectors(path),
            user=user,
        )

    def _iommu_group(self, path: str) -> int | None:
        group = self.target(f"{path}/iommu_group")
        return int(group) if group is not None and group.isdigit() else None


def _is_name(text: str) -> bool:
    """Return whether a text can be the name of an entry in a directory, so that no path is made of anything else."""
    return text not in ("", ".", "..") and "/" not in text and "\0" not in text


def is_representor(port: str) -> bool:
    """Return whether a ``phys_port_name`` is that of a VF's or subfunction's representor, as ``pf0vf1``, ``c1pf0sf3``.

    Names: ``__devlink_port_phys_port_name_get()`` of ``net/devlink/port.c``.
    """
    digits = "0123456789"
    rest = port[1:].lstrip(digits) if port.startswith("c") else port
    if not rest.startswith("pf"):
        return False
    rest = rest[2:].lstrip(digits)
    return rest[:2] in ("vf", "sf") and rest[2:].isdigit()


def vf_routing_address(pf_address: str, vf: int, capability: SriovCapability) -> str:
    """Return the PCI address of a VF: its routing identifier is the PF's plus First VF Offset plus VF Stride times vf.

    As ``pci_iov_virtfn_bus()`` and ``pci_iov_virtfn_devfn()`` of ``drivers/pci/iov.c`` do.

    :param pf_address: ``DOMAIN:BUS:DEVICE.FUNCTION``, hexadecimal.
    """
    domain, bus, rest = pf_address.split(":")
    slot, function = rest.split(".")
    routing = (int(bus, 16) << 8) + (int(slot, 16) << 3) + int(function, 16)
    routing += capability.vf_offset + capability.vf_stride * vf
    return f"{domain}:{routing >> 8 & 0xFF:02x}:{routing >> 3 & 0x1F:02x}.{routing & 7}"
