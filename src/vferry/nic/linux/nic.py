# SPDX-License-Identifier: Apache-2.0
"""The adapter: the NICs of this host behind :class:`vferry.ports.nic.Nic`."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import msgspec

from vferry.core.model import (
    AdminState,
    EswitchMode,
    FunctionState,
    HostFacts,
    Mac,
    PciState,
    PfFacts,
    PfReading,
    VfFacts,
)
from vferry.nic.linux import pci
from vferry.nic.linux.failure import GarbledMessageError, KernelError, Located
from vferry.nic.linux.link import ArmedChange, Links
from vferry.nic.linux.linkinfo import LinkFacts
from vferry.nic.linux.sysfs import Device, Sysfs
from vferry.nic.linux.vfinfo import MAX_VLAN_LIST_LEN, encode_change
from vferry.ports.nic import NicError, NoSuchFunctionError, NotSupportedError, RejectedError

if TYPE_CHECKING:
    from vferry.nic.linux.devlink import Devlink

__all__ = ["LinuxNic"]

_READ = "read VF settings"
_ARM = "encode VF settings"
_LAG_KINDS = ("bond", "team")

T = TypeVar("T")


class LinuxNic:
    """All PFs of this host, in this network namespace.

    A PF may be named by its network interface or by its device address. Nothing is cached but sockets.

    **Deadlines.** The kernel works on a request inside the call that sends it. Where another process holds the lock
    that the request needs, that call blocks, and nobody can cancel it; the deadline is for the answer after it.

    :param sysfs_root: where sysfs is mounted.
    :param proc_root: where procfs is mounted.
    :param deadline: seconds to wait for an answer of the kernel.
    """

    def __init__(self, sysfs_root: str = "/sys", proc_root: str = "/proc", deadline: float = 5.0) -> None:
        self._sysfs = Sysfs(sysfs_root, proc_root)
        self._links = Links(deadline)
        self._deadline = deadline
        self._hostname = os.uname().nodename
        self._idle_devlink: list[Devlink] = []

    def close(self) -> None:
        """Close the sockets that are kept; the object goes on working."""
        self._links.close()
        while self._idle_devlink:
            self._idle_devlink.pop().close()

    # Section: facts of PFs and VFs

    def host(self) -> HostFacts:
        """See :meth:`vferry.ports.nic.Nic.host`."""
        return self._sysfs.host()

    def pfs(self) -> tuple[PfFacts, ...]:
        """See :meth:`vferry.ports.nic.Nic.pfs`.

        A PF without a network interface in this namespace has its device address as name.
        """
        return tuple(sorted((self._facts(device) for device in self._sysfs.devices()), key=lambda pf: pf.name))

    def pf(self, pf: str) -> PfFacts:
        """See :meth:`vferry.ports.nic.Nic.pf`."""
        return self._facts(self._device(pf))

    def vfs(self, pf: str) -> tuple[VfFacts, ...]:
        """See :meth:`vferry.ports.nic.Nic.vfs`.

        Looks at the open files of all processes where VFs are handed to user space: tens of milliseconds on a busy
        host.
        """
        device = self._device(pf)
        return self._sysfs.vfs(device, self._sysfs.num_vfs(device))

    def find_vf_address(self, address: str) -> tuple[str, int] | None:
        """Return the PF's name and the VF's index for a VF's PCI address; None where it is no VF."""
        found = self._sysfs.find_vf(address)
        if found is None:
            return None
        device, vf = found
        return self._netdev(device) or device.address, vf

    def _located(self, what: str, pf: str, vf: int | None = None) -> Located:
        return Located(what, host=self._hostname, pf=pf, vf=vf)

    def _device(self, pf: str) -> Device:
        device = self._sysfs.find(pf)
        if device is None:
            raise NoSuchFunctionError(
                "find the PF",
                why="no network interface and no device of that name can have VFs",
                next_step="vferry list",
                host=self._hostname,
                pf=pf,
            )
        return device

    def _netdev(self, device: Device) -> str | None:
        """Return the network interface by which a PF's VFs are configured; None where it has none here.

        With several ports it is the first whose driver has VF settings: all of them count the same VFs.
        """
        netdevs = self._sysfs.netdevs(device)
        if len(netdevs) > 1:
            return next((netdev for netdev in netdevs if self._has_settings(netdev)), netdevs[0])
        return netdevs[0] if netdevs else None

    def _has_settings(self, netdev: str) -> bool:
        with self._located(_READ, netdev):
            try:
                return self._links.reading(netdev, statistics=False).has_settings
            except GarbledMessageError:
                # A list that is not whole is one all the same.
                return True

    def _facts(self, device: Device) -> PfFacts:
        sysfs, path = self._sysfs, self._sysfs.path(device)
        netdev = self._netdev(device)
        name = netdev or device.address
        driver = pci.bound_driver(path)
        link = None if netdev is None else self._link_facts(netdev)
        return PfFacts(
            name=name,
            device=device.address,
            bus=device.bus,
            netdev=netdev,
            ifindex=None if link is None else link.ifindex,
            driver=driver,
            driver_version=None if driver is None else sysfs.driver_version(driver),
            firmware_version=None if netdev is None else _firmware(netdev),
            vendor=sysfs.hexadecimal(f"{path}/vendor"),
            device_id=sysfs.hexadecimal(f"{path}/device"),
            permanent_address=None if link is None else link.permanent_address,
            address=None if link is None else link.address,
            mtu=None if link is None else link.mtu,
            admin_up=None if link is None else link.admin_up,
            carrier=None if link is None else link.carrier,
            speed=None if netdev is None else sysfs.speed(netdev),
            num_vfs=sysfs.num_vfs(device),
            total_vfs=sysfs.total_vfs(device),
            sriov=sysfs.sriov(device),
            eswitch_mode=self._eswitch_mode(device, name),
            lag=None if netdev is None or link is None else self._lag(netdev, link),
            rdma=sysfs.rdma(device),
        )

    def _link_facts(self, netdev: str) -> LinkFacts:
        with self._located("read the PF's network interface", netdev):
            return self._links.facts(netdev)

    def _lag(self, netdev: str, link: LinkFacts) -> str | None:
        bond = self._sysfs.bond(netdev)
        if bond is not None:
            return bond
        # A team shows itself in no file of sysfs.
        return self._sysfs.master(netdev) if link.master_kind in _LAG_KINDS else None

    # Section: VF settings

    def read(self, pf: str, *, statistics: bool = False) -> PfReading:
        """See :meth:`vferry.ports.nic.Nic.read`; one request to the kernel, and no more where ``pf`` has VFs."""
        with self._located(_READ, pf):
            try:
                reading = self._links.reading(pf, statistics=statistics)
            except KernelError as error:
                # No such interface, or no name that an interface can have: an address, perhaps.
                if error.errno not in (errno.ENODEV, errno.EINVAL, errno.ERANGE):
                    raise
                reading = None
            if reading is not None and reading.vfs:
                return reading
            return self._read_again(pf, statistics=statistics)

    def _read_again(self, pf: str, *, statistics: bool) -> PfReading:
        """Read by way of sysfs what is no network interface, or shows no VFs: a representor, or no PF at all."""
        reading = self._links.reading(self._interface(pf, _READ), statistics=statistics)
        if reading.has_settings:
            return reading
        # Without settings the kernel may count none either: a virtio device is no PCI device, its parent is.
        return msgspec.structs.replace(reading, num_vfs=self._sysfs.num_vfs(self._device(pf)))

    def _interface(self, pf: str, what: str) -> str:
        """Return the network interface of a PF.

        :raise NoSuchFunctionError: there is no such PF.
        :raise NotSupportedError: it has no network interface here.
        """
        return self._interface_of(self._device(pf), pf, what)

    def _interface_of(self, device: Device, pf: str, what: str) -> str:
        netdev = self._netdev(device)
        if netdev is None:
            raise NotSupportedError(
                what,
                why="the PF has no network interface in this network namespace, so nothing holds VF settings",
                host=self._hostname,
                pf=pf,
            )
        return netdev

    def arm(self, pf: str, changes: Mapping[int, AdminState]) -> ArmedChange:
        """See :meth:`vferry.ports.nic.Nic.arm`.

        :raise NoSuchFunctionError: a VF does not exist.
        :raise NotSupportedError: a change cannot be expressed (more than one VLAN).
        :raise RejectedError: a value cannot be encoded at all.
        """
        device = self._device(pf)
        count = self._sysfs.num_vfs(device)
        for vf in changes:
            self._check_vf(_ARM, pf, vf, count)
        netdev = self._interface_of(device, pf, _ARM)
        encoded = {vf: self._encode(pf, vf, change) for vf, change in changes.items()}
        with self._located(_ARM, pf):
            return ArmedChange(self._links, self._ifindex(netdev), encoded, host=self._hostname, pf=pf)

    def _ifindex(self, netdev: str) -> int:
        ifindex = self._sysfs.ifindex(netdev)
        if ifindex is None:
            raise KernelError(errno.ENODEV, f"network interface {netdev} has gone")
        return ifindex

    def _encode(self, pf: str, vf: int, change: AdminState) -> tuple[bytes, ...]:
        if change.vlans is not None and len(change.vlans) > MAX_VLAN_LIST_LEN:
            raise NotSupportedError(
                _ARM,
                why=f"the kernel takes {MAX_VLAN_LIST_LEN} VLAN per VF, not {len(change.vlans)}",
                host=self._hostname,
                pf=pf,
                vf=vf,
            )
        try:
            return encode_change(vf, change)
        except (ValueError, struct.error) as error:
            raise RejectedError(_ARM, why=str(error), host=self._hostname, pf=pf, vf=vf) from error

    def _check_vf(self, what: str, pf: str, vf: int, count: int) -> None:
        if not 0 <= vf < count:
            why = f"the PF has {count} VFs, counted from 0"
            raise NoSuchFunctionError(what, why=why, host=self._hostname, pf=pf, vf=vf)

    def program(self, pf: str, changes: Mapping[int, AdminState]) -> Mapping[int, NicError | None]:
        """See :meth:`vferry.ports.nic.Nic.program`."""
        return self.arm(pf, changes).send()

    def set_pf(self, pf: str, *, admin_up: bool | None = None, mtu: int | None = None) -> None:
        """See :meth:`vferry.ports.nic.Nic.set_pf`."""
        what = "set the PF's network interface"
        netdev = self._interface(pf, what)
        with self._located(what, pf):
            self._links.set_link(self._ifindex(netdev), admin_up=admin_up, mtu=mtu)

    # Section: the PF's own forwarding entries, which few verbs need

    def read_fdb(self, pf: str) -> tuple[Mac, ...]:
        """See :meth:`vferry.ports.nic.Nic.read_fdb`."""
        from vferry.nic.linux import fdb  # noqa: PLC0415

        what = "read the PF's forwarding entries"
        netdev = self._interface(pf, what)
        with self._located(what, pf):
            return fdb.read(self._links, self._ifindex(netdev))

    def add_fdb(self, pf: str, mac: Mac) -> None:
        """See :meth:`vferry.ports.nic.Nic.add_fdb`."""
        from vferry.nic.linux import fdb  # noqa: PLC0415

        what = f"add the PF's forwarding entry {mac}"
        netdev = self._interface(pf, what)
        with self._located(what, pf):
            try:
                fdb.add(self._links, self._ifindex(netdev), mac)
            except fdb.NoRoomError as error:
                why = "ENOMEM: the driver has no filter left for another address"
                raise RejectedError(what, errno=error.errno, why=why, host=self._hostname, pf=pf) from error

    def remove_fdb(self, pf: str, mac: Mac) -> None:
        """See :meth:`vferry.ports.nic.Nic.remove_fdb`."""
        from vferry.nic.linux import fdb  # noqa: PLC0415

        what = f"remove the PF's forwarding entry {mac}"
        netdev = self._interface(pf, what)
        with self._located(what, pf):
            fdb.remove(self._links, self._ifindex(netdev), mac)

    # Section: the VF's PCI function

    def _function(self, what: str, pf: str, vf: int) -> str | None:
        """Return the directory of a VF's PCI function; None where it has none."""
        device = self._device(pf)
        self._check_vf(what, pf, vf, self._sysfs.num_vfs(device))
        return self._sysfs.vf_path(device, vf)

    def read_pci(self, pf: str, vf: int) -> PciState | None:
        """See :meth:`vferry.ports.nic.Nic.read_pci`.

        Without CAP_SYS_ADMIN the MSI-X word cannot be read, and is absent.
        """
        what = "read the VF's PCI words"
        function = self._function(what, pf, vf)
        if function is None:
            return None
        with self._located(what, pf, vf):
            return pci.read_state(function)

    def write_pci(self, pf: str, vf: int, state: PciState) -> None:
        """See :meth:`vferry.ports.nic.Nic.write_pci`."""
        what = "write the VF's PCI words"
        function = self._function(what, pf, vf)
        with self._located(what, pf, vf):
            if function is None:
                raise KernelError(errno.EOPNOTSUPP, "the VF is no PCI function")
            pci.write_state(function, state)

    def reset_vf(self, pf: str, vf: int) -> None:
        """See :meth:`vferry.ports.nic.Nic.reset_vf`."""
        what = "reset the VF"
        function = self._function(what, pf, vf)
        with self._located(what, pf, vf):
            if function is None:
                raise KernelError(errno.EOPNOTSUPP, "the VF is no PCI function")
            pci.reset(function)

    # Section: devlink, which few verbs need

    def _devlink(self) -> Devlink | None:
        """Open devlink; imported here because few verbs need it."""
        from vferry.nic.linux.devlink import Devlink  # noqa: PLC0415

        return Devlink.open(self._deadline)

    def _eswitch_mode(self, device: Device, pf: str) -> EswitchMode | None:
        with self._located("read the eswitch mode", pf):
            return self._ask_devlink(lambda devlink: devlink.eswitch_mode(*device))

    def _ask_devlink(self, ask: Callable[[Devlink], T | None]) -> T | None:
        """Read by devlink, None where the kernel has none; keep its socket unless an answer might still come."""
        devlink = self._idle_devlink.pop() if self._idle_devlink else self._devlink()
        if devlink is None:
            return None
        try:
            answer = ask(devlink)
        except BaseException:
            devlink.close()
            raise
        self._idle_devlink.append(devlink)
        return answer

    def set_eswitch_mode(self, pf: str, mode: EswitchMode) -> None:
        """See :meth:`vferry.ports.nic.Nic.set_eswitch_mode`."""
        device = self._device(pf)
        with self._located("set the eswitch mode", pf):
            devlink = self._devlink()
            if devlink is None:
                raise KernelError(errno.EOPNOTSUPP, "this kernel has no devlink")
            devlink.set_eswitch_mode(*device, mode)

    def read_function(self, pf: str, vf: int) -> FunctionState | None:
        """See :meth:`vferry.ports.nic.Nic.read_function`."""
        what = "read the VF's port function"
        device = self._device(pf)
        self._check_vf(what, pf, vf, self._sysfs.num_vfs(device))
        with self._located(what, pf, vf):
            return self._ask_devlink(lambda devlink: devlink.function(*device, vf))

    def program_function(self, pf: str, vf: int, change: FunctionState) -> None:
        """See :meth:`vferry.ports.nic.Nic.program_function`.

        :raise NotSupportedError: the VF has no devlink port.
        """
        what = "program the VF's port function"
        device = self._device(pf)
        self._check_vf(what, pf, vf, self._sysfs.num_vfs(device))
        with self._located(what, pf, vf):
            devlink = self._devlink()
            if devlink is None:
                raise KernelError(errno.EOPNOTSUPP, "this kernel has no devlink")
            devlink.program(*device, vf, change)


def _firmware(netdev: str) -> str | None:
    """Return the firmware version of a network interface; imported here because few verbs need it."""
    from vferry.nic.linux.ethtool import firmware_version  # noqa: PLC0415

    return firmware_version(netdev)
