# SPDX-License-Identifier: Apache-2.0
"""Capability tables that ship with vferry: what the drivers of the lab answered.

**Nothing here was learned on silicon**: igb ran on QEMU's emulated 82576, virtio-net on QEMU's device, and netdevsim
is a driver without hardware. On a real NIC ``vferry probe`` makes the table that counts; these only tell what to
expect of the same driver.
"""

from __future__ import annotations

from errno import EINVAL, EOPNOTSUPP, EPROTONOSUPPORT

from vferry.core.capability import CapabilityKey, CapabilityTable, Feature, Learned, Verdict
from vferry.core.model import ZERO_MAC, AdminState, LinkState, Rate

__all__ = ["REFERENCE_TABLES"]

_KERNEL = "6.12"
_LEARNED_ON = "2026-11-01"

_ACCEPTED = Learned(verdict=Verdict.ACCEPTED)
_NO_RATE = Rate(min_tx=0, max_tx=0)


def _refused(errno: int) -> Learned:
    return Learned(verdict=Verdict.REFUSED, errno=errno)


def _features(refused: dict[Feature, int]) -> dict[Feature, Learned]:
    return {feature: _refused(refused[feature]) if feature in refused else _ACCEPTED for feature in Feature}


_IGB = CapabilityTable(
    key=CapabilityKey(vendor="8086", device_id="10c9", driver="igb", kernel_release=_KERNEL),
    learned_on=_LEARNED_ON,
    source="lab, QEMU's emulated 82576",
    features=_features(
        {
            Feature.VLAN_DOT1AD: EPROTONOSUPPORT,
            Feature.MIN_TX_RATE: EINVAL,
            Feature.LINK_STATE_ENABLE: EOPNOTSUPP,
            Feature.LINK_STATE_DISABLE: EOPNOTSUPP,
            Feature.RSS_QUERY: EOPNOTSUPP,
            Feature.NODE_GUID: EOPNOTSUPP,
            Feature.PORT_GUID: EOPNOTSUPP,
        }
    ),
    # Link state reads "auto" although nothing can set it; RSS query is not reported.
    defaults=AdminState(mac=ZERO_MAC, vlans=(), rate=_NO_RATE, spoofchk=True, link_state=LinkState.AUTO, trust=False),
)

_NETDEVSIM = CapabilityTable(
    key=CapabilityKey(driver="netdevsim", kernel_release=_KERNEL),
    learned_on=_LEARNED_ON,
    source="lab, netdevsim under QEMU",
    features=_features({Feature.NODE_GUID: EOPNOTSUPP, Feature.PORT_GUID: EOPNOTSUPP}),
    defaults=AdminState(
        mac=ZERO_MAC,
        vlans=(),
        rate=_NO_RATE,
        spoofchk=False,
        link_state=LinkState.AUTO,
        rss_query=False,
        trust=False,
    ),
)


def _virtio_net(device_id: str) -> CapabilityTable:
    # The PCI function is virtio-pci's; virtio_net sits on the virtio bus above it and offers no VF settings.
    return CapabilityTable(
        key=CapabilityKey(vendor="1af4", device_id=device_id, driver="virtio-pci", kernel_release=_KERNEL),
        learned_on=_LEARNED_ON,
        source="lab, QEMU's virtio-net with SR-IOV",
        features=_features(dict.fromkeys(Feature, EOPNOTSUPP)),
    )


_IXGBE = CapabilityTable(
    key=CapabilityKey(vendor="8086", device_id="10fb", driver="ixgbe", kernel_release=_KERNEL),
    learned_on=_LEARNED_ON,
    source="ixgbe_sriov.c, Linux 6.12: read, not seen; the software 82599 answers so",
    features={
        **_features(
            {
                Feature.VLAN_DOT1AD: EPROTONOSUPPORT,
                Feature.MIN_TX_RATE: EINVAL,
                Feature.NODE_GUID: EOPNOTSUPP,
                Feature.PORT_GUID: EOPNOTSUPP,
            }
        ),
        # Logged as not supported, answered as done, and not stored.
        Feature.LINK_STATE_ENABLE: Learned(verdict=Verdict.CHANGED, shown=LinkState.AUTO.value),
    },
    defaults=AdminState(
        mac=ZERO_MAC,
        vlans=(),
        rate=_NO_RATE,
        spoofchk=True,
        link_state=LinkState.AUTO,
        rss_query=False,
        trust=False,
    ),
    jumbo_rule=True,
)

REFERENCE_TABLES: tuple[CapabilityTable, ...] = (_IGB, _IXGBE, _NETDEVSIM, _virtio_net("1041"), _virtio_net("1000"))
"""To be searched after the tables that were made here (:func:`vferry.core.capability.find_table`)."""
