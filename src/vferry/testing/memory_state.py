# SPDX-License-Identifier: Apache-2.0
"""What a simulated host holds: PFs as they are declared, and their state as it changes."""

from __future__ import annotations

import zlib
from typing import Annotated

import msgspec

from vferry.core.model import (
    ZERO_MAC,
    AdminState,
    EswitchMode,
    FunctionState,
    HostFacts,
    Mac,
    PciState,
    PfFacts,
    SriovCapability,
    VfFacts,
    VfReading,
    VfStatistics,
)
from vferry.testing.behaviour import IGB_LIKE, Behaviour
from vferry.testing.settings import without

__all__ = ["MemoryPf", "NicCall", "PfState", "VfState", "first_state", "host_facts", "shown_vf"]

COMMAND_BOUND = 0x0406
"""COMMAND as a VF's driver leaves it: memory, bus master, INTx disabled."""
COMMAND_WRITABLE = 0x0547
"""Bits of COMMAND that keep what is written."""
MSIX_WRITABLE = 0xC000
"""MSI-X Enable and Function Mask; the table size is read-only."""
MSIX_ENABLE = 0x8000
NO_STATISTICS = VfStatistics(
    rx_packets=0,
    tx_packets=0,
    rx_bytes=0,
    tx_bytes=0,
    broadcast=0,
    multicast=0,
    rx_dropped=0,
    tx_dropped=0,
)
BROADCAST = "ff:ff:ff:ff:ff:ff"


class MemoryPf(msgspec.Struct, frozen=True, kw_only=True):
    """One PF of a :class:`~vferry.testing.memory_nic.MemoryNic`, as it is after boot."""

    name: str
    """Its network interface."""
    num_vfs: Annotated[int, msgspec.Meta(ge=0)] = 7
    behaviour: Behaviour = IGB_LIKE
    device: str | None = None
    """Absent: the next free ``0000:NN:00.0``, or ``netdevsimN``."""
    bus: str = "pci"
    driver: str | None = None
    """Absent: the behaviour's name."""
    driver_version: str | None = None
    firmware_version: str | None = None
    vendor: str = "8086"
    device_id: str = "10c9"
    vf_device_id: str = "10ca"
    permanent_address: Mac | None = None
    """Absent: one made from the host's and the PF's name."""
    mtu: int = 1500
    max_mtu: int = 9216
    admin_up: bool = True
    link: bool = True
    """The cable is in."""
    speed: int = 1000
    total_vfs: int | None = None
    """Absent: seven, or ``num_vfs`` if there are more."""
    vf_driver: str | None = None
    """The driver that binds to new VFs on the host."""
    vectors: int = 3
    """MSI-X table size of a VF."""
    lag: str | None = None
    rdma: tuple[str, ...] = ()
    fdb_capacity: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Forwarding entries of its own that it has room for; absent: any number."""


class NicCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a port method, in the order they came."""

    method: str
    pf: str | None = None
    vfs: tuple[int, ...] = ()
    """The VFs it was about; empty for all of them, or none."""
    changes: dict[int, AdminState] = {}
    """What was to be programmed, by VF."""


class VfState(msgspec.Struct, kw_only=True):
    """One VF."""

    admin: AdminState
    """What the administrator has set; a zero MAC leaves the choice to the guest."""
    guest_mac: Mac | None = None
    """What the guest has chosen since."""
    address: str | None = None
    driver: str | None = None
    netdev: str | None = None
    user: str | None = None
    iommu_group: int | None = None
    pci: PciState | None = None
    function: FunctionState = FunctionState()
    statistics: VfStatistics = NO_STATISTICS


class PfState(msgspec.Struct, kw_only=True):
    """One PF, with its VFs."""

    name: str
    device: str
    permanent_address: Mac
    address: Mac
    ifindex: int
    mtu: int
    admin_up: bool
    link: bool
    eswitch_mode: EswitchMode | None
    vfs: list[VfState]
    removed: list[VfState]
    """VFs that are gone and whose settings the driver still has."""
    fdb: set[Mac]
    """Unicast addresses that the PF receives for beside its own."""

    @property
    def carrier(self) -> bool:
        """The link is there and used."""
        return self.admin_up and self.link

    @property
    def switchdev(self) -> bool:
        """The eswitch is out of legacy mode."""
        return self.eswitch_mode not in (None, EswitchMode.LEGACY)


def host_facts(hostname: str) -> HostFacts:
    """Return the facts of a simulated host."""
    return HostFacts(hostname=hostname, boot_id=f"{hostname}-boot-1", kernel_release="6.12.0-memory")


def first_state(spec: MemoryPf, number: int, host: HostFacts) -> PfState:
    """Return a PF as it is after boot; ``number`` counts the PFs of the host from 0."""
    made_up = zlib.crc32(f"{host.hostname}/{spec.name}".encode())
    octets = made_up.to_bytes(4, "big")
    address = spec.permanent_address or "02:{:02x}:{:02x}:{:02x}:{:02x}:00".format(*octets)
    device = f"0000:{number + 1:02x}:00.0" if spec.bus == "pci" else f"{spec.bus}{number + 1}"
    state = PfState(
        name=spec.name,
        device=spec.device or device,
        permanent_address=address,
        address=address,
        ifindex=number + 2,
        mtu=spec.mtu,
        admin_up=spec.admin_up,
        link=spec.link,
        eswitch_mode=EswitchMode.LEGACY if spec.behaviour.eswitch else None,
        vfs=[],
        removed=[],
        fdb=set(),
    )
    state.vfs = [new_vf(spec, state, index) for index in range(spec.num_vfs)]
    return state


def new_vf(spec: MemoryPf, pf: PfState, index: int) -> VfState:
    """Return a VF that was created just now."""
    vf = VfState(admin=spec.behaviour.defaults, function=default_function(spec.behaviour))
    if spec.bus == "pci":
        number = routing_id(spec, pf, index)
        vf.address = pci_address(pf, number)
        vf.iommu_group = number
        vf.pci = PciState(command=0, msix_control=max(spec.vectors - 1, 0))
        bind(vf, spec.vf_driver)
    return vf


def default_function(behaviour: Behaviour) -> FunctionState:
    """Return a port function that nobody has touched."""
    values: dict[str, object] = {
        "hw_addr": ZERO_MAC,
        "state": "active",
        "roce": True,
        "migratable": False,
        "ipsec_crypto": False,
        "ipsec_packet": False,
        "tx_share": 0,
        "tx_max": 0,
    }
    return msgspec.structs.replace(FunctionState(), **{name: values[name] for name in behaviour.function_fields})


def sriov(spec: MemoryPf) -> SriovCapability | None:
    """Return the SR-IOV capability; None on buses without one."""
    if spec.bus != "pci":
        return None
    return SriovCapability(vf_offset=0x80, vf_stride=2 if spec.num_vfs <= 64 else 1, vf_device=spec.vf_device_id)


def routing_id(spec: MemoryPf, pf: PfState, index: int) -> int:
    """Return a VF's routing identifier: First VF Offset and VF Stride, counted from the PF's."""
    _domain, bus, slot_function = pf.device.split(":")
    slot, function = slot_function.split(".")
    capability = sriov(spec)
    beyond = 0 if capability is None else capability.vf_offset + index * capability.vf_stride
    return (int(bus, 16) << 8 | int(slot, 16) << 3 | int(function)) + beyond


def pci_address(pf: PfState, number: int) -> str:
    """Return the PCI address for a routing identifier in the PF's domain."""
    domain = pf.device.split(":")[0]
    return f"{domain}:{number >> 8 & 0xFF:02x}:{number >> 3 & 0x1F:02x}.{number & 7}"


def bind(vf: VfState, driver: str | None) -> None:
    """Bind ``driver`` to a VF, or (None) none."""
    vf.driver = driver
    if vf.pci is None:
        return
    msix = vf.pci.msix_control or 0
    if driver is None:
        vf.pci = PciState(command=vf.pci.command & ~0x0004, msix_control=msix & ~MSIX_ENABLE)
    else:
        vf.pci = PciState(command=COMMAND_BOUND, msix_control=msix | MSIX_ENABLE)


def shown_admin(behaviour: Behaviour, vf: VfState) -> AdminState:
    """Return the settings as the driver reports them."""
    shown = vf.admin
    if vf.guest_mac is not None:
        shown = msgspec.structs.replace(shown, mac=vf.guest_mac)
    if shown.vlans and behaviour.shown_protocols:
        vlans = tuple(
            msgspec.structs.replace(vlan, proto=behaviour.shown_protocols.get(vlan.proto or "", vlan.proto))
            for vlan in shown.vlans
        )
        shown = msgspec.structs.replace(shown, vlans=vlans)
    for attribute in behaviour.hidden:
        shown = without(shown, attribute)
    return shown


def shown_vf(behaviour: Behaviour, index: int, vf: VfState, *, statistics: bool) -> VfReading:
    """Return what one read says of a VF."""
    return VfReading(
        index=index,
        admin=shown_admin(behaviour, vf),
        broadcast=BROADCAST,
        statistics=vf.statistics if statistics else None,
    )


def pf_facts(spec: MemoryPf, pf: PfState) -> PfFacts:
    """Return the facts of a PF as they are now."""
    on_pci = spec.bus == "pci"
    return PfFacts(
        name=pf.name,
        device=pf.device,
        bus=spec.bus,
        netdev=pf.name,
        ifindex=pf.ifindex,
        driver=spec.driver or spec.behaviour.name,
        driver_version=spec.driver_version,
        firmware_version=spec.firmware_version,
        vendor=spec.vendor if on_pci else None,
        device_id=spec.device_id if on_pci else None,
        permanent_address=pf.permanent_address,
        address=pf.address,
        mtu=pf.mtu,
        admin_up=pf.admin_up,
        carrier=pf.carrier,
        speed=spec.speed if pf.carrier else None,
        num_vfs=len(pf.vfs),
        total_vfs=(spec.total_vfs or max(7, spec.num_vfs)) if on_pci else None,
        sriov=sriov(spec),
        eswitch_mode=pf.eswitch_mode,
        lag=spec.lag,
        rdma=spec.rdma,
    )


def vf_facts(spec: MemoryPf, index: int, vf: VfState) -> VfFacts:
    """Return the facts of a VF as they are now."""
    on_pci = spec.bus == "pci"
    return VfFacts(
        index=index,
        address=vf.address,
        vendor=spec.vendor if on_pci else None,
        device_id=spec.vf_device_id if on_pci else None,
        driver=vf.driver,
        netdev=vf.netdev,
        iommu_group=vf.iommu_group,
        vectors=spec.vectors if on_pci else None,
        user=vf.user,
    )
