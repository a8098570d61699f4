# SPDX-License-Identifier: Apache-2.0
"""What a driver can do, learned by trying and kept as dated data; never a branch on a driver's name.

A :class:`CapabilityTable` holds what one kind of PF (PCI vendor:device, driver, driver and kernel release) answered
when each feature was tried on a free VF. ``vferry probe`` makes such tables; reference tables for what the lab has
ship with vferry.
"""

from __future__ import annotations

import enum

import msgspec

from vferry.core.model import AdminState, Attribute, HostFacts, Name, PciId, PfFacts

__all__ = ["CapabilityKey", "CapabilityTable", "Feature", "Learned", "Verdict", "capability_key", "find_table"]

CAPABILITY_VERSION = 1
"""Version of the table's format."""


class Feature(enum.Enum):
    """One thing that can be asked of a PF driver for a VF."""

    MAC = "mac"
    MAC_ZERO = "mac_zero"
    """Take the administrative MAC away."""
    VLAN = "vlan"
    VLAN_QOS = "vlan_qos"
    VLAN_DOT1AD = "vlan_dot1ad"
    MAX_TX_RATE = "max_tx_rate"
    MIN_TX_RATE = "min_tx_rate"
    SPOOFCHK = "spoofchk"
    LINK_STATE_ENABLE = "link_state_enable"
    LINK_STATE_DISABLE = "link_state_disable"
    RSS_QUERY = "rss_query"
    TRUST = "trust"
    NODE_GUID = "node_guid"
    PORT_GUID = "port_guid"

    @property
    def attribute(self) -> Attribute:
        """The setting that this feature is about."""
        return _ATTRIBUTE_OF[self]


_ATTRIBUTE_OF = {
    Feature.MAC: Attribute.MAC,
    Feature.MAC_ZERO: Attribute.MAC,
    Feature.VLAN: Attribute.VLANS,
    Feature.VLAN_QOS: Attribute.VLANS,
    Feature.VLAN_DOT1AD: Attribute.VLAN_PROTO,
    Feature.MAX_TX_RATE: Attribute.MAX_TX_RATE,
    Feature.MIN_TX_RATE: Attribute.MIN_TX_RATE,
    Feature.SPOOFCHK: Attribute.SPOOFCHK,
    Feature.LINK_STATE_ENABLE: Attribute.LINK_STATE,
    Feature.LINK_STATE_DISABLE: Attribute.LINK_STATE,
    Feature.RSS_QUERY: Attribute.RSS_QUERY,
    Feature.TRUST: Attribute.TRUST,
    Feature.NODE_GUID: Attribute.NODE_GUID,
    Feature.PORT_GUID: Attribute.PORT_GUID,
}


class Verdict(enum.Enum):
    """How a driver answered when a feature was tried."""

    ACCEPTED = "accepted"
    """Accepted, and read back as set."""
    NOT_SHOWN = "not-shown"
    """Accepted, and the driver does not report it."""
    CHANGED = "changed"
    """Accepted, and something else is read back (802.1ad shown as 802.1Q)."""
    REFUSED = "refused"
    """Refused with an error."""


class Learned(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What was learned of one feature."""

    verdict: Verdict
    errno: int | None = None
    """The kernel's error number where it was refused."""
    shown: str | None = None
    """What was read back instead, where it changed."""


class CapabilityKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which kind of PF a table is about."""

    vendor: PciId | None = None
    device_id: PciId | None = None
    driver: Name
    driver_version: Name | None = None
    kernel_release: Name


class CapabilityTable(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What one kind of PF can do."""

    version: int = CAPABILITY_VERSION
    key: CapabilityKey
    learned_on: str
    """UTC date, ISO 8601."""
    source: str
    """``probe``, or where a reference table comes from."""
    features: dict[Feature, Learned]
    defaults: AdminState | None = None
    """The settings of a VF that nobody has touched yet, as the driver shows them."""
    max_vlans: int = 1
    """VLAN entries that one VF may have."""
    jumbo_rule: bool = False
    """A PF with an MTU above 1500 and a VF that has not agreed on jumbo frames exclude each other (the 82599)."""


def capability_key(host: HostFacts, pf: PfFacts) -> CapabilityKey | None:
    """Return the key under which what is learned of ``pf`` is kept; None if no driver is bound to it."""
    if pf.driver is None:
        return None
    return CapabilityKey(
        vendor=pf.vendor,
        device_id=pf.device_id,
        driver=pf.driver,
        driver_version=pf.driver_version,
        kernel_release=host.kernel_release,
    )


def find_table(key: CapabilityKey | None, tables: tuple[CapabilityTable, ...]) -> CapabilityTable | None:
    """Return what is known of ``key``: an exact match, completed by what is known of the same hardware and driver.

    Among several of the same kind the one learned last wins. Without an exact match one of the same kind is returned:
    whether it was exact can be seen by comparing ``table.key`` with ``key``. None where nothing is known.
    """
    if key is None:
        return None
    same_kind = [table for table in tables if _kind(table.key) == _kind(key)]
    ranked = sorted(same_kind, key=lambda table: (table.key == key, table.learned_on), reverse=True)
    return _completed(ranked[0], ranked[1:]) if ranked else None


def _completed(best: CapabilityTable, others: list[CapabilityTable]) -> CapabilityTable:
    """A probe of a PF without a link learns nothing of rates: what others know of them still holds."""
    features = dict(best.features)
    for other in others:
        features = {**other.features, **features}
    defaults = next((table.defaults for table in (best, *others) if table.defaults is not None), None)
    jumbo_rule = any(table.jumbo_rule for table in (best, *others))  # no probe on a free VF can see it
    return msgspec.structs.replace(best, features=features, defaults=defaults, jumbo_rule=jumbo_rule)


def _kind(key: CapabilityKey) -> tuple[str | None, str | None, str]:
    return key.vendor, key.device_id, key.driver
