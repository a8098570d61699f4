# SPDX-License-Identifier: Apache-2.0
"""The NIC port over software 82599s: a host with PFs that answers as a kernel with ``ixgbe`` does.

.. code-block:: python

    nic = make_host("a", num_vfs=8)
    nic.program("eth0", {0: AdminState(mac="52:54:00:00:00:01")})

What a reboot, an operator with a screwdriver or a virtual machine monitor does to the host is below the port's methods.
"""

from __future__ import annotations

import errno
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from vferry.core.frames import mac_octets
from vferry.core.model import (
    AdminState,
    EswitchMode,
    FunctionState,
    HostFacts,
    Mac,
    PciState,
    PfFacts,
    PfReading,
    SriovCapability,
    VfFacts,
    VfReading,
)
from vferry.nic.ixgbe import pci_config
from vferry.nic.ixgbe.host import FIRST_VF_OFFSET, MAX_TOTAL_VFS, VF_STRIDE, SoftwarePf
from vferry.nic.ixgbe.pf_driver import DriverError
from vferry.nic.ixgbe.settings import apply_change, shown_settings, shown_statistics
from vferry.nic.linux.failure import KernelError, typed_error
from vferry.ports.nic import ArmedRequest, Nic, NicError, NoSuchFunctionError, NotSupportedError, RejectedError

__all__ = ["IxgbeNic", "make_host"]

PF_DEVICE_ID: Final = "10fb"
"""82599 SFP+ (``IXGBE_DEV_ID_82599_SFP``, ``ixgbe_type.h``)."""
BROADCAST: Final = "ff:ff:ff:ff:ff:ff"
_HEADER_BARS: Final = range(0x10, 0x28, 4)


class IxgbeNic(Nic):
    """All PFs of one host.

    :param host: its facts.
    :param pfs: its PFs, each with a name of its own.
    """

    def __init__(self, *, host: HostFacts, pfs: Iterable[SoftwarePf]) -> None:
        self._host = host
        self._pfs: Final = {pf.name: pf for pf in sorted(pfs, key=lambda pf: pf.name)}
        self._boots = 1

    # Facts

    def host(self) -> HostFacts:
        """Return the facts of the host."""
        return self._host

    def pfs(self) -> tuple[PfFacts, ...]:
        """Return every PF, sorted by name."""
        return tuple(map(_pf_facts, self._pfs.values()))

    def pf(self, pf: str) -> PfFacts:
        """Return the facts of one PF."""
        return _pf_facts(self.software(pf))

    def vfs(self, pf: str) -> tuple[VfFacts, ...]:
        """Return the facts of every VF of a PF."""
        software = self.software(pf)
        return tuple(_vf_facts(software, index) for index in range(len(software.vfs)))

    # Settings

    def read(self, pf: str, *, statistics: bool = False) -> PfReading:
        """Read the settings of all VFs of a PF; no register is touched and no counter folded."""
        software = self.software(pf)
        driver = software.driver
        return PfReading(
            ifindex=software.ifindex,
            num_vfs=driver.num_vfs,
            vfs=tuple(_reading(software, index, statistics=statistics) for index in range(driver.num_vfs)),
            has_settings=True,
            mtu=driver.mtu,
            admin_up=driver.is_up,
            carrier=software.carrier,
            permanent_address=software.permanent_address.hex(":"),
            address=driver.mac.hex(":"),
        )

    def arm(self, pf: str, changes: Mapping[int, AdminState]) -> ArmedRequest:
        """Encode a change of several VFs; it belongs to the PF's present ifindex."""
        software = self.software(pf)
        for vf, change in changes.items():
            self._check_vf(software, vf, "encode the change")
            if change.vlans is not None and len(change.vlans) > 1:
                raise NotSupportedError(
                    "encode the change",
                    errno=errno.EOPNOTSUPP,
                    why="the kernel takes one VLAN per VF",
                    host=self._host.hostname,
                    pf=pf,
                    vf=vf,
                )
        return _Armed(self, software, dict(changes))

    def program(self, pf: str, changes: Mapping[int, AdminState]) -> Mapping[int, NicError | None]:
        """Encode a change and send it at once."""
        return self.arm(pf, changes).send()

    def set_pf(self, pf: str, *, admin_up: bool | None = None, mtu: int | None = None) -> None:
        """Bring a PF's network interface up or down, set its MTU."""
        driver = self.software(pf).driver
        if mtu is not None and mtu != driver.mtu:
            was_up = driver.is_up
            try:
                driver.set_mtu(mtu)
            except DriverError as error:
                raise self.refused(error, f"set the MTU to {mtu}", pf) from error
            if not was_up:
                driver.down()
        if admin_up is not None:
            (driver.up if admin_up else driver.down)()

    # The PF's own forwarding entries

    def read_fdb(self, pf: str) -> tuple[Mac, ...]:
        """Return the unicast addresses that a PF receives for itself beside its own, sorted."""
        return tuple(sorted(mac.hex(":") for mac in self.software(pf).driver.fdb()))

    def add_fdb(self, pf: str, mac: Mac) -> None:
        """Let a PF receive for a unicast address too."""
        what = f"add the PF's forwarding entry {mac}"
        driver, octets = self.software(pf).driver, self._unicast(pf, mac, what)
        if octets == driver.mac or octets in driver.fdb():
            return
        try:
            driver.add_fdb(octets)
        except DriverError as error:
            raise RejectedError(what, errno=error.errno, why=error.why, host=self._host.hostname, pf=pf) from error

    def remove_fdb(self, pf: str, mac: Mac) -> None:
        """Take an entry out again; one that is not there is no error."""
        driver = self.software(pf).driver
        octets = self._unicast(pf, mac, f"remove the PF's forwarding entry {mac}")
        if octets in driver.fdb():
            driver.remove_fdb(octets)

    def _unicast(self, pf: str, mac: Mac, what: str) -> bytes:
        octets = mac_octets(mac)
        if len(octets) != 6 or octets[0] & 1 or not any(octets):
            why = "EINVAL: not a unicast address"
            raise RejectedError(what, errno=errno.EINVAL, why=why, host=self._host.hostname, pf=pf)
        return octets

    # PCI

    def read_pci(self, pf: str, vf: int) -> PciState | None:
        """Read a VF's PCI words."""
        config = self.function(pf, vf, "read PCI words").hardware.vf_config(vf)
        return PciState(
            command=config.read(pci_config.COMMAND, 2), msix_control=config.read(pci_config.MSIX_CONTROL, 2)
        )

    def write_pci(self, pf: str, vf: int, state: PciState) -> None:
        """Write a VF's PCI words, of an unbound VF; read-only bits stay as they are."""
        what = "write PCI words"
        software = self.function(pf, vf, what)
        bound = software.vfs[vf].driver
        if bound is not None:
            error = KernelError(errno.EPERM, f"{bound} is bound to the VF: it owns these words")
            raise typed_error(error, what, host=self._host.hostname, pf=pf, vf=vf)
        config = software.hardware.vf_config(vf)
        config.write(pci_config.COMMAND, 2, state.command)
        if state.msix_control is not None:
            config.write(pci_config.MSIX_CONTROL, 2, state.msix_control)

    def reset_vf(self, pf: str, vf: int) -> None:
        """Reset the function. The kernel saves and restores its header, and MSI-X where a driver has it enabled."""
        software = self.function(pf, vf, "reset the VF")
        config = software.hardware.vf_config(vf)
        kept = [(offset, 4, config.read(offset, 4)) for offset in _HEADER_BARS]
        kept.append((pci_config.COMMAND, 2, config.read(pci_config.COMMAND, 2)))
        table = list(software.vfs[vf].table)
        bound = software.vfs[vf].driver is not None
        if bound:
            kept.append((pci_config.MSIX_CONTROL, 2, config.read(pci_config.MSIX_CONTROL, 2)))
        software.flr(vf)
        for offset, size, value in kept:
            config.write(offset, size, value)
        if bound:
            software.vfs[vf].table[:] = table

    # devlink, which ixgbe does not have

    def set_eswitch_mode(self, pf: str, mode: EswitchMode) -> None:
        """Refuse: ixgbe has no devlink eswitch."""
        self.software(pf)
        raise self._no_devlink(f"set the eswitch mode to {mode.value}", pf, None)

    def read_function(self, pf: str, vf: int) -> FunctionState | None:
        """Return None: there are no port functions."""
        self.function(pf, vf, "read the port function")
        return None

    def program_function(self, pf: str, vf: int, change: FunctionState) -> None:
        """Refuse: there are no port functions."""
        del change
        self.function(pf, vf, "program the port function")
        raise self._no_devlink("program the port function", pf, vf)

    def _no_devlink(self, what: str, pf: str, vf: int | None) -> NicError:
        error = KernelError(errno.EOPNOTSUPP, "ixgbe has no devlink eswitch")
        return typed_error(error, what, host=self._host.hostname, pf=pf, vf=vf)

    # What guests, operators and power cuts do

    def software(self, pf: str) -> SoftwarePf:
        """Return a PF's device and driver.

        :raise NoSuchFunctionError: there is no such PF.
        """
        found = self._pfs.get(pf)
        if found is None:
            raise NoSuchFunctionError("find the PF", why="no PF has this name", host=self._host.hostname, pf=pf)
        return found

    def function(self, pf: str, vf: int, what: str) -> SoftwarePf:
        """Return the PF of a VF.

        :param what: the act that needs it, as a verb phrase.
        :raise NoSuchFunctionError: there is no such PF or VF.
        """
        software = self.software(pf)
        self._check_vf(software, vf, what)
        return software

    def assign_vf(self, pf: str, vf: int, user: str) -> None:
        """Give a VF to a virtual machine, as ``vfio-pci`` does: bound, reset, and at work again if it was stopped.

        :param user: who has it, in words.
        """
        software = self.function(pf, vf, "assign a VF")
        software.driver.forget_planted(vf)
        software.flr(vf)
        software.vfs[vf].driver, software.vfs[vf].user = "vfio-pci", user
        software.start_vf(vf)

    def unassign_vf(self, pf: str, vf: int) -> None:
        """Take a VF back: detached, reset, unbound."""
        software = self.function(pf, vf, "take a VF back")
        software.attach(vf, sink=None)
        software.driver.forget_planted(vf)
        software.flr(vf)
        software.vfs[vf].driver = software.vfs[vf].user = None

    def set_link(self, pf: str, *, up: bool, speed: int = 10_000) -> None:
        """Plug the PF's cable in, with a link of ``speed`` Mbit/s, or pull it."""
        self.software(pf).hardware.set_link(up, speed)

    def reload_driver(self, pf: str) -> None:
        """Load the PF's driver anew, create as many VFs: settings are lost and the ifindex is new."""
        last = max(software.ifindex for software in self._pfs.values())
        self.software(pf).reload_driver(last + 1)

    def reboot(self) -> None:
        """Boot the host again: a new boot id, and everything else as it was made."""
        self._boots += 1
        self._host = msgspec.structs.replace(self._host, boot_id=f"{self._host.hostname}-boot-{self._boots}")
        for software in self._pfs.values():
            software.boot()

    # Inside

    def refused(self, error: DriverError, what: str, pf: str, vf: int | None = None) -> NicError:
        """Return the port's error for the driver's."""
        return typed_error(KernelError(error.errno, error.why), what, host=self._host.hostname, pf=pf, vf=vf)

    def _check_vf(self, software: SoftwarePf, vf: int, what: str) -> None:
        count = len(software.vfs)
        if not 0 <= vf < count:
            why = f"the PF has {count} VFs, counted from 0"
            raise NoSuchFunctionError(what, why=why, host=self._host.hostname, pf=software.name, vf=vf)


class _Armed:
    """A change that is ready; it belongs to the PF's ifindex, as a netlink message does."""

    def __init__(self, nic: IxgbeNic, software: SoftwarePf, changes: Mapping[int, AdminState]) -> None:
        self._nic = nic
        self._software = software
        self._ifindex = software.ifindex
        self._changes = changes

    def send(self) -> Mapping[int, NicError | None]:
        """Send the change."""
        return {vf: self._send(vf, change) for vf, change in self._changes.items()}

    def _send(self, vf: int, change: AdminState) -> NicError | None:
        what, pf = "program VF settings", self._software.name
        if self._software.ifindex != self._ifindex:
            gone = KernelError(errno.ENODEV, f"the interface with index {self._ifindex} is gone")
            return typed_error(gone, what, host=self._nic.host().hostname, pf=pf, vf=vf)
        try:
            apply_change(self._software.driver, vf, change)
        except DriverError as error:
            return self._nic.refused(error, what, pf, vf)
        return None


def _pf_facts(software: SoftwarePf) -> PfFacts:
    driver = software.driver
    return PfFacts(
        name=software.name,
        device=software.device,
        bus="pci",
        netdev=software.name,
        ifindex=software.ifindex,
        driver="ixgbe",
        vendor=f"{pci_config.VENDOR_ID:04x}",
        device_id=PF_DEVICE_ID,
        permanent_address=software.permanent_address.hex(":"),
        address=driver.mac.hex(":"),
        mtu=driver.mtu,
        admin_up=driver.is_up,
        carrier=software.carrier,
        speed=software.speed,
        num_vfs=driver.num_vfs,
        total_vfs=MAX_TOTAL_VFS,
        sriov=SriovCapability(vf_offset=FIRST_VF_OFFSET, vf_stride=VF_STRIDE, vf_device=f"{pci_config.DEVICE_ID:04x}"),
    )


def _vf_facts(software: SoftwarePf, index: int) -> VfFacts:
    function = software.vfs[index]
    return VfFacts(
        index=index,
        address=software.vf_address(index),
        vendor=f"{pci_config.VENDOR_ID:04x}",
        device_id=f"{pci_config.DEVICE_ID:04x}",
        driver=function.driver,
        iommu_group=software.routing_id(index),
        vectors=pci_config.MSIX_VECTORS,
        user=function.user,
    )


def _reading(software: SoftwarePf, index: int, *, statistics: bool) -> VfReading:
    return VfReading(
        index=index,
        admin=shown_settings(software.driver.get_vf_config(index)),
        broadcast=BROADCAST,
        statistics=shown_statistics(software.counters(index)) if statistics else None,
    )


def make_host(
    name: str,
    *,
    pfs: int = 1,
    num_vfs: int = 8,
    now: Callable[[], float] = float,
    wires: Sequence[Callable[[bytes], None]] = (),
    mtu: int = 1500,
    resume_extension: bool = False,
) -> IxgbeNic:
    """Return a host with PFs ``eth0``, ``eth1``, ..., two on each card, whose cables are in.

    :param pfs: how many PFs.
    :param num_vfs: VFs of each, 0 to 63.
    :param now: seconds on any clock; without it, it is always 0.
    :param wires: takes what leaves by the uplink of ``eth0``, ``eth1``, ...; frames of the others leave to nowhere.
    """
    made = [
        SoftwarePf(
            f"eth{number}",
            device=f"0000:{1 + number // 2:02x}:00.{number % 2}",
            permanent_address=_permanent_address(name, number),
            num_vfs=num_vfs,
            now=now,
            ifindex=number + 2,
            mtu=mtu,
            resume_extension=resume_extension,
            host=name,
        )
        for number in range(pfs)
    ]
    for software, wire in zip(made, wires, strict=False):
        software.hardware.wire = wire
    facts = HostFacts(hostname=name, boot_id=f"{name}-boot-1", kernel_release="6.12.0-software")
    return IxgbeNic(host=facts, pfs=made)


def _permanent_address(host: str, number: int) -> bytes:
    """Return a locally administered address that is the same in every run."""
    return b"\x02" + zlib.crc32(host.encode()).to_bytes(4, "big") + bytes([number])
