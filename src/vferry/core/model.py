# SPDX-License-Identifier: Apache-2.0
"""What vferry knows of a PF, a VF and the settings that the PF holds for it.

All types are frozen. **Absent is not a value**: a field that is ``None`` was not reported by the driver (or is not
part of a change); it never stands for "off", "zero" or a default, and it is left out of every encoding.

Numbers and their ranges follow ``include/uapi/linux/if_link.h`` (Linux 6.12), section "SR-IOV virtual function
management", and ``rtnl_fill_vfinfo()`` / ``do_setvfinfo()`` of ``net/core/rtnetlink.c``.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

__all__ = [
    "DOT1AD",
    "DOT1Q",
    "MAX_VF_INDEX",
    "ZERO_MAC",
    "AdminState",
    "Attribute",
    "DeclaredState",
    "EswitchMode",
    "FunctionState",
    "Guid",
    "HostFacts",
    "LinkState",
    "Mac",
    "PciState",
    "PfFacts",
    "PfReading",
    "Rate",
    "SriovCapability",
    "VfFacts",
    "VfReading",
    "VfStatistics",
    "Vlan",
    "VlanProtocol",
]

MAX_VF_INDEX = 0xFFFF
"""Largest VF index: NumVFs is a 16-bit field (PCI Express Base Specification, SR-IOV Extended Capability)."""

ZERO_MAC = "00:00:00:00:00:00"
"""No administrative MAC: the guest may choose one."""

DOT1Q = "802.1Q"
"""VLAN protocol 0x8100 (``ETH_P_8021Q``)."""

DOT1AD = "802.1ad"
"""VLAN protocol 0x88a8 (``ETH_P_8021AD``)."""

# In a regular expression of Python "$" matches before a line feed at the end too; "(?!\n)" rules that out, and means
# nothing where "$" is the end anyway (JSON Schema).
Mac = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2}:){5}([0-9a-f]{2}|([0-9a-f]{2}:){14}[0-9a-f]{2})$(?!\n)")]
"""A hardware address in lower case: 6 octets (Ethernet) or 20 (IP over InfiniBand)."""

Guid = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2}:){7}[0-9a-f]{2}$(?!\n)")]
"""An InfiniBand GUID, 8 octets, most significant first, as ``ip link`` prints it."""

VlanProtocol = Annotated[str, msgspec.Meta(pattern=r"^(802\.1Q|802\.1ad|0x[0-9a-f]{4})$(?!\n)")]
"""``802.1Q``, ``802.1ad``, or another EtherType in hexadecimal."""

PciAddress = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$(?!\n)")]
PciId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{4}$(?!\n)")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$(?!\n)")]
"""A name for people and kernels; without control characters, since records are printed to terminals."""
VfIndex = Annotated[int, msgspec.Meta(ge=0, le=MAX_VF_INDEX)]
U16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
U63 = Annotated[int, msgspec.Meta(ge=0, le=0x7FFF_FFFF_FFFF_FFFF)]


class LinkState(enum.Enum):
    """``IFLA_VF_LINK_STATE_*``: how the VF's link follows the PF's."""

    AUTO = "auto"
    """Follow the PF's uplink (0)."""
    ENABLE = "enable"
    """Always up (1)."""
    DISABLE = "disable"
    """Always down (2)."""


class EswitchMode(enum.Enum):
    """``DEVLINK_ESWITCH_MODE_*``: who configures the VFs."""

    LEGACY = "legacy"
    """The PF's network interface, by ``IFLA_VF_*`` (0)."""
    SWITCHDEV = "switchdev"
    """Representors and devlink port functions (1)."""
    SWITCHDEV_INACTIVE = "switchdev_inactive"
    """Switchdev without forwarding (2)."""


class Attribute(enum.Enum):
    """Names one part of a VF's state, in findings, losses and evidence."""

    MAC = "mac"
    VLANS = "vlans"
    VLAN_PROTO = "vlan_proto"
    MIN_TX_RATE = "min_tx_rate"
    MAX_TX_RATE = "max_tx_rate"
    SPOOFCHK = "spoofchk"
    LINK_STATE = "link_state"
    RSS_QUERY = "rss_query"
    TRUST = "trust"
    NODE_GUID = "node_guid"
    PORT_GUID = "port_guid"
    FUNCTION = "function"
    PCI = "pci"


class _Frozen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Common settings of every type here."""


class Vlan(_Frozen, frozen=True, kw_only=True):
    """One entry of ``IFLA_VF_VLAN_LIST`` (``struct ifla_vf_vlan_info``)."""

    vid: Annotated[int, msgspec.Meta(ge=0, le=4095)]
    """VLAN identifier, 0 to 4095; 0 with a priority is a priority tag."""
    qos: Annotated[int, msgspec.Meta(ge=0, le=7)] = 0
    """802.1p priority, 0 to 7."""
    proto: VlanProtocol | None = None
    """Absent where the driver does not report one (some report 0)."""


class Rate(_Frozen, frozen=True, kw_only=True):
    """``struct ifla_vf_rate``: transmit rates in Mbit/s, 0 is "no limit" and "no guarantee"."""

    min_tx: U32
    max_tx: U32


class AdminState(_Frozen, frozen=True, kw_only=True):
    """What the host's administrator holds for a VF: ``IFLA_VF_*`` settings.

    The same type is a reading (what is absent was not reported) and a change (what is absent is left alone).
    """

    mac: Mac | None = None
    """``IFLA_VF_MAC``. A reading may show the guest's own choice: see :class:`DeclaredState`."""
    vlans: tuple[Vlan, ...] | None = None
    """``IFLA_VF_VLAN_LIST``; empty: no VLAN. Kernels up to 6.12 carry at most one entry."""
    rate: Rate | None = None
    """``IFLA_VF_RATE``."""
    spoofchk: bool | None = None
    """``IFLA_VF_SPOOFCHK``: the NIC drops frames whose source address is not the VF's."""
    link_state: LinkState | None = None
    """``IFLA_VF_LINK_STATE``."""
    rss_query: bool | None = None
    """``IFLA_VF_RSS_QUERY_EN``: the VF may read the RSS redirection table and hash key."""
    trust: bool | None = None
    """``IFLA_VF_TRUST``: the guest may do privileged things, as changing its MAC or going promiscuous."""
    node_guid: Guid | None = None
    """``IFLA_VF_IB_NODE_GUID``."""
    port_guid: Guid | None = None
    """``IFLA_VF_IB_PORT_GUID``."""


class VfStatistics(_Frozen, frozen=True, kw_only=True):
    """``IFLA_VF_STATS``: read-only counters since the driver set them to zero."""

    rx_packets: U63
    tx_packets: U63
    rx_bytes: U63
    tx_bytes: U63
    broadcast: U63
    multicast: U63
    rx_dropped: U63
    tx_dropped: U63


class VfReading(_Frozen, frozen=True, kw_only=True):
    """What one read of the PF said of one VF."""

    index: VfIndex
    admin: AdminState
    broadcast: Mac | None = None
    """``IFLA_VF_BROADCAST``, a read-only fact."""
    statistics: VfStatistics | None = None


class PfReading(_Frozen, frozen=True, kw_only=True):
    """One RTM_GETLINK: the PF's link facts and all its VFs, taken together."""

    ifindex: int
    num_vfs: int
    """``IFLA_NUM_VF``; equal to ``len(vfs)`` unless the driver has no VF settings at all."""
    vfs: tuple[VfReading, ...]
    """In the order of their index."""
    has_settings: bool
    """False: the driver offers no ``IFLA_VFINFO_LIST`` (virtio-net), so there is nothing to carry."""
    mtu: int | None = None
    admin_up: bool | None = None
    """``IFF_UP``."""
    carrier: bool | None = None
    """``IFF_LOWER_UP``."""
    permanent_address: Mac | None = None
    """``IFLA_PERM_ADDRESS``."""
    address: Mac | None = None
    """``IFLA_ADDRESS``: the PF's own MAC as it is now."""


class PciState(_Frozen, frozen=True, kw_only=True):
    """The words of a VF's PCI configuration space that a migration carries."""

    command: U16
    """COMMAND, offset 0x04."""
    msix_control: U16 | None = None
    """Message Control of the MSI-X capability (capability + 2); absent without MSI-X."""


class FunctionState(_Frozen, frozen=True, kw_only=True):
    """devlink port-function and rate attributes (``include/uapi/linux/devlink.h``), for switchdev mode."""

    hw_addr: Mac | None = None
    """``DEVLINK_PORT_FUNCTION_ATTR_HW_ADDR``."""
    state: Annotated[str, msgspec.Meta(pattern=r"^(inactive|active)$(?!\n)")] | None = None
    """``DEVLINK_PORT_FN_ATTR_STATE``."""
    roce: bool | None = None
    """``DEVLINK_PORT_FN_CAP_ROCE``."""
    migratable: bool | None = None
    """``DEVLINK_PORT_FN_CAP_MIGRATABLE``."""
    ipsec_crypto: bool | None = None
    """``DEVLINK_PORT_FN_CAP_IPSEC_CRYPTO``."""
    ipsec_packet: bool | None = None
    """``DEVLINK_PORT_FN_CAP_IPSEC_PACKET``."""
    tx_share: U63 | None = None
    """``DEVLINK_ATTR_RATE_TX_SHARE``, octets per second."""
    tx_max: U63 | None = None
    """``DEVLINK_ATTR_RATE_TX_MAX``, octets per second."""


class HostFacts(_Frozen, frozen=True, kw_only=True):
    """The machine that holds the NIC."""

    hostname: Name
    boot_id: Name
    """``/proc/sys/kernel/random/boot_id``: changes at every boot."""
    kernel_release: Name
    """``uname -r``."""


class SriovCapability(_Frozen, frozen=True, kw_only=True):
    """Fields of the SR-IOV Extended Capability (PCI Express Base Specification, 9.3.3)."""

    vf_offset: U16
    vf_stride: U16
    vf_device: PciId


class PfFacts(_Frozen, frozen=True, kw_only=True):
    """What is known of a PF beside its VFs' settings."""

    name: Name
    """The PF's network interface, or its device address where it has none: how a person names it."""
    device: Name
    """Bus address: ``0000:3b:00.0``, or ``netdevsim1`` on the netdevsim bus."""
    bus: Name
    """``pci``, ``netdevsim``, ..."""
    netdev: Name | None = None
    ifindex: int | None = None
    driver: Name | None = None
    driver_version: Name | None = None
    firmware_version: Name | None = None
    vendor: PciId | None = None
    device_id: PciId | None = None
    permanent_address: Mac | None = None
    address: Mac | None = None
    mtu: int | None = None
    admin_up: bool | None = None
    carrier: bool | None = None
    speed: int | None = None
    """Link speed in Mbit/s; absent while the link is down or the driver does not say."""
    num_vfs: int
    total_vfs: int | None = None
    sriov: SriovCapability | None = None
    eswitch_mode: EswitchMode | None = None
    """Absent where the driver has no devlink eswitch: the legacy way is then the only one."""
    lag: Name | None = None
    """The bond or team that the PF's network interface is a member of."""
    rdma: tuple[Name, ...] = ()
    """RDMA devices of the PF."""


class VfFacts(_Frozen, frozen=True, kw_only=True):
    """What is known of a VF beside its settings."""

    index: VfIndex
    address: PciAddress | None = None
    """PCI address; absent on buses without one (netdevsim)."""
    vendor: PciId | None = None
    device_id: PciId | None = None
    driver: Name | None = None
    """The driver bound to the VF on the host (``igbvf``, ``vfio-pci``); absent: unbound."""
    netdev: Name | None = None
    """The VF's network interface, if it is in this network namespace."""
    iommu_group: int | None = None
    vectors: int | None = None
    """MSI-X table size."""
    user: str | None = None
    """Who uses the VF, in words; absent: nobody that could be found."""


class DeclaredState(_Frozen, frozen=True, kw_only=True):
    """What an operator declares of the VM's VF because no reading can tell it."""

    mac: Mac | None = None
    """The VM's MAC. A PF may show the guest's own choice; this decides."""
    mtu: Annotated[int, msgspec.Meta(ge=68, le=65535)] | None = None
    """The VM's MTU on this VF, octets."""
