# SPDX-License-Identifier: Apache-2.0
"""How a PF driver behaves, as data: what it refuses, hides, changes and resets.

The presets follow what was seen of ``igb``, ``netdevsim`` and ``virtio_net`` (Linux 6.12), and what the sources of
``i40e``, ``ice`` and ``bnxt_en`` say; the last three were never run.
"""

from __future__ import annotations

import errno

import msgspec

from vferry.core.capability import Feature, Learned, Verdict
from vferry.core.model import DOT1AD, DOT1Q, ZERO_MAC, AdminState, Attribute, LinkState, Rate, Vlan
from vferry.testing.settings import FIELD_OF

__all__ = ["IGB_LIKE", "LOSSY", "NETDEVSIM_LIKE", "PRESETS", "RESETTING", "VIRTIO_LIKE", "Behaviour", "features_of"]


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind of PF answers."""

    name: str
    """Stands for the driver where a PF names none."""
    defaults: AdminState = AdminState()
    """The settings of a VF that nobody has touched."""
    has_settings: bool = True
    """False: no VF settings at all, neither read nor set (EOPNOTSUPP)."""
    refused: dict[Feature, int] = {}
    """Error numbers for what is refused.

    Refusing ``MAC``, ``VLAN`` or ``MAX_TX_RATE`` refuses every MAC, VLAN or rate; refusing both link states refuses
    ``auto`` too, as a driver without that operation does.
    """
    refused_in_switchdev: dict[Feature, int] = {}
    """What is refused, besides, while the eswitch is not in legacy mode."""
    ignored: frozenset[Feature] = frozenset()
    """Accepted, and nothing changes."""
    hidden: frozenset[Attribute] = frozenset()
    """Never reported."""
    shown_protocols: dict[str, str | None] = {}
    """VLAN protocols that are reported as another one, or (None) not at all."""
    rate_needs_link: bool = False
    """Rates are refused (EINVAL) while the PF has no link."""
    rate_within_speed: bool = False
    """Rates above the link's speed are refused (EINVAL)."""
    resetting: frozenset[Attribute] = frozenset()
    """Setting one of these to another value resets the VF."""
    busy_requests: int = 0
    """Requests for a VF that are answered with ``busy_errno`` after such a reset."""
    busy_errno: int = errno.EBUSY
    busy_shortens_reading: bool = False
    """A VF in reset is missing from the reading (``ndo_get_vf_config()`` fails, and the kernel leaves it out)."""
    lost_at_flr: frozenset[Attribute] = frozenset()
    """Settings that fall back to their defaults at a function level reset."""
    guest_mac_survives_flr: bool = False
    """The MAC of a trusted guest overwrites the administrative one for good, beyond a reset."""
    settings_survive_removal: bool = False
    """VFs that are removed and created again have their old settings."""
    statistics: bool = False
    """False: the counters are reported as zeros, as the kernel does for a driver that has none."""
    has_fdb: bool = True
    """False: no forwarding entries of the PF's own pool, neither read nor set (EOPNOTSUPP)."""
    eswitch: bool = False
    """There is a devlink eswitch whose mode can be set."""
    function_fields: frozenset[str] = frozenset()
    """Fields of :class:`~vferry.core.model.FunctionState` that exist in switchdev mode."""

    def errno_for(self, field: str, value: object, *, switchdev: bool = False) -> int | None:
        """Return the error number with which setting ``field`` to ``value`` is refused, or None."""
        refused = self.refused | (self.refused_in_switchdev if switchdev else {})
        for feature in features_of(field, value):
            if feature in refused:
                return refused[feature]
        if value is LinkState.AUTO and {Feature.LINK_STATE_ENABLE, Feature.LINK_STATE_DISABLE} <= refused.keys():
            return refused[Feature.LINK_STATE_ENABLE]
        return None

    def ignores(self, field: str, value: object) -> bool:
        """Return whether setting ``field`` to ``value`` is accepted without effect."""
        return any(feature in self.ignored for feature in features_of(field, value))

    def learned(self) -> dict[Feature, Learned]:
        """Return what a probe would learn of this behaviour."""
        return {feature: self._learned(feature) for feature in Feature}

    def _learned(self, feature: Feature) -> Learned:
        if not self.has_settings:
            return Learned(verdict=Verdict.REFUSED, errno=errno.EOPNOTSUPP)
        number = self._errno_of(feature)
        if number is not None:
            return Learned(verdict=Verdict.REFUSED, errno=number)
        if any(FIELD_OF[hidden] == FIELD_OF[feature.attribute] for hidden in self.hidden):
            return Learned(verdict=Verdict.NOT_SHOWN)
        if feature is Feature.VLAN_DOT1AD and DOT1AD in self.shown_protocols:
            return Learned(verdict=Verdict.CHANGED, shown=self.shown_protocols[DOT1AD])
        if feature in self.ignored:
            return Learned(verdict=Verdict.CHANGED)
        return Learned(verdict=Verdict.ACCEPTED)

    def _errno_of(self, feature: Feature) -> int | None:
        needed = _NEEDS.get(feature)
        return self.refused.get(feature, None if needed is None else self.refused.get(needed))


_NEEDS = {
    Feature.MAC_ZERO: Feature.MAC,
    Feature.VLAN_QOS: Feature.VLAN,
    Feature.VLAN_DOT1AD: Feature.VLAN,
    Feature.MIN_TX_RATE: Feature.MAX_TX_RATE,
}
"""Features that are special cases of another one."""


def features_of(field: str, value: object) -> tuple[Feature, ...]:
    """Return the features that setting ``field`` of an AdminState to ``value`` makes use of."""
    if field == "mac":
        return (Feature.MAC, Feature.MAC_ZERO) if value == ZERO_MAC else (Feature.MAC,)
    if isinstance(value, tuple):
        return _vlan_features(value)
    if isinstance(value, Rate):
        return (Feature.MAX_TX_RATE, Feature.MIN_TX_RATE) if value.min_tx else (Feature.MAX_TX_RATE,)
    if isinstance(value, LinkState):
        return _LINK_FEATURES[value]
    return (Feature(field),)


_LINK_FEATURES: dict[LinkState, tuple[Feature, ...]] = {
    LinkState.AUTO: (),
    LinkState.ENABLE: (Feature.LINK_STATE_ENABLE,),
    LinkState.DISABLE: (Feature.LINK_STATE_DISABLE,),
}


def _vlan_features(vlans: tuple[Vlan, ...]) -> tuple[Feature, ...]:
    features = [Feature.VLAN]
    if any(vlan.qos for vlan in vlans):
        features.append(Feature.VLAN_QOS)
    if any(vlan.proto not in (None, DOT1Q) for vlan in vlans):
        features.append(Feature.VLAN_DOT1AD)
    return tuple(features)


_UNTOUCHED = AdminState(
    mac=ZERO_MAC,
    vlans=(),
    rate=Rate(min_tx=0, max_tx=0),
    spoofchk=True,
    link_state=LinkState.AUTO,
    trust=False,
)
_NO_GUIDS = {Feature.NODE_GUID: errno.EOPNOTSUPP, Feature.PORT_GUID: errno.EOPNOTSUPP}
_NO_RSS_QUERY = {Feature.RSS_QUERY: errno.EOPNOTSUPP}
_GUIDS = frozenset({Attribute.NODE_GUID, Attribute.PORT_GUID})

IGB_LIKE = Behaviour(
    name="igb-like",
    defaults=_UNTOUCHED,
    refused={
        Feature.MIN_TX_RATE: errno.EINVAL,
        Feature.LINK_STATE_ENABLE: errno.EOPNOTSUPP,
        Feature.LINK_STATE_DISABLE: errno.EOPNOTSUPP,
        Feature.VLAN_DOT1AD: errno.EPROTONOSUPPORT,
        **_NO_RSS_QUERY,
        **_NO_GUIDS,
    },
    hidden=frozenset({Attribute.RSS_QUERY}) | _GUIDS,
    rate_needs_link=True,
    rate_within_speed=True,
    guest_mac_survives_flr=True,
)
"""``igb`` on QEMU's 82576: settings survive an FLR and nothing else."""

NETDEVSIM_LIKE = Behaviour(
    name="netdevsim-like",
    defaults=AdminState(
        mac=ZERO_MAC,
        vlans=(),
        rate=Rate(min_tx=0, max_tx=0),
        spoofchk=False,
        link_state=LinkState.AUTO,
        rss_query=False,
        trust=False,
    ),
    refused=_NO_GUIDS,
    refused_in_switchdev={Feature.MAX_TX_RATE: errno.EOPNOTSUPP},
    hidden=_GUIDS,
    settings_survive_removal=True,
    eswitch=True,
    function_fields=frozenset({"tx_share", "tx_max"}),
)
"""``netdevsim``: everything but GUIDs. Its VFs are no PCI functions: give the PF ``bus="netdevsim"``."""

VIRTIO_LIKE = Behaviour(name="virtio-like", has_settings=False)
"""``virtio_net`` with SR-IOV: VFs without any setting."""

RESETTING = Behaviour(
    name="resetting",
    defaults=_UNTOUCHED,
    refused={
        Feature.MIN_TX_RATE: errno.EINVAL,
        Feature.VLAN_DOT1AD: errno.EPROTONOSUPPORT,
        **_NO_RSS_QUERY,
        **_NO_GUIDS,
    },
    hidden=frozenset({Attribute.RSS_QUERY}) | _GUIDS,
    resetting=frozenset({Attribute.MAC, Attribute.VLANS, Attribute.TRUST}),
    busy_requests=2,
    statistics=True,
)
"""As ``i40e`` and ``ice``: MAC, VLAN and trust reset the VF, and it is busy for a while."""

LOSSY = Behaviour(
    name="lossy",
    defaults=_UNTOUCHED,
    refused={**_NO_RSS_QUERY, **_NO_GUIDS},
    hidden=frozenset({Attribute.RSS_QUERY}) | _GUIDS,
    shown_protocols={DOT1AD: DOT1Q},
    rate_within_speed=True,
)
"""As ``bnxt_en``: 802.1ad is set and reported as 802.1Q."""

PRESETS: tuple[Behaviour, ...] = (IGB_LIKE, NETDEVSIM_LIKE, VIRTIO_LIKE, RESETTING, LOSSY)
"""All presets."""
