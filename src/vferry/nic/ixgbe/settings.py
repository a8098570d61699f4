# SPDX-License-Identifier: Apache-2.0
"""``ip link set PF vf N ...`` in front of the PF driver: what rtnetlink makes of a change, and of a reading.

``do_setvfinfo()`` and ``rtnl_fill_vfinfo()`` of ``net/core/rtnetlink.c`` (Linux 6.12): a change is applied in a fixed
order and stops at the first error, with the earlier parts applied. Before the kernel asks the driver it presets the
VLAN's protocol to 802.1Q, so that is what a driver shows that, like ixgbe, does not fill it in; and it shows the
counters that a driver leaves alone as zeros.
"""

from __future__ import annotations

import errno
from typing import Final

from vferry.core.frames import mac_octets
from vferry.core.model import DOT1Q, AdminState, LinkState, Rate, VfStatistics, Vlan
from vferry.nic.ixgbe import pf_driver
from vferry.nic.ixgbe.pf_driver import DriverError, PfDriver, VfConfig, VfStats

__all__ = ["apply_change", "shown_settings", "shown_statistics"]

_SHOWN_LINK_STATES: Final = {
    pf_driver.LinkState.AUTO: LinkState.AUTO,
    pf_driver.LinkState.ENABLE: LinkState.ENABLE,
    pf_driver.LinkState.DISABLE: LinkState.DISABLE,
}
_LINK_STATES: Final = {shown: state for state, shown in _SHOWN_LINK_STATES.items()}
_NO_VLAN: Final = Vlan(vid=0)


def shown_settings(config: VfConfig) -> AdminState:
    """Return what a reading of the PF shows of a VF; GUIDs are InfiniBand's and absent.

    The MAC is the VF's present one, whoever chose it; zero where it has none.
    """
    vlan = Vlan(vid=config.vlan, qos=config.qos, proto=DOT1Q)
    return AdminState(
        mac=config.mac.hex(":"),
        vlans=(vlan,) if config.vlan or config.qos else (),
        rate=Rate(min_tx=config.min_tx_rate, max_tx=config.max_tx_rate),
        spoofchk=config.spoofchk,
        link_state=_SHOWN_LINK_STATES[config.link_state],
        rss_query=config.rss_query_en,
        trust=config.trusted,
    )


def shown_statistics(totals: VfStats) -> VfStatistics:
    """Return the counters as the kernel shows them (``ixgbe_ndo_get_vf_stats()``): no broadcasts and no drops."""
    return VfStatistics(
        rx_packets=totals.gprc,
        tx_packets=totals.gptc,
        rx_bytes=totals.gorc,
        tx_bytes=totals.gotc,
        broadcast=0,
        multicast=totals.mprc,
        rx_dropped=0,
        tx_dropped=0,
    )


def apply_change(driver: PfDriver, vf: int, change: AdminState) -> None:
    """Apply what ``change`` has, in the kernel's order.

    :raise DriverError: what the driver or the kernel refuses; what came before it is applied.
    """
    if change.mac is not None:
        driver.set_vf_mac(vf, mac_octets(change.mac))
    if change.vlans is not None:
        vlan = change.vlans[0] if change.vlans else _NO_VLAN
        driver.set_vf_vlan(vf, vlan.vid, vlan.qos, vlan.proto or DOT1Q)
    if change.rate is not None:
        _set_rate(driver, vf, change.rate)
    if change.spoofchk is not None:
        driver.set_vf_spoofchk(vf, on=change.spoofchk)
    if change.link_state is not None:
        driver.set_vf_link_state(vf, _LINK_STATES[change.link_state])
    if change.rss_query is not None:
        driver.set_vf_rss_query_en(vf, on=change.rss_query)
    if change.trust is not None:
        driver.set_vf_trust(vf, on=change.trust)
    if change.node_guid is not None or change.port_guid is not None:
        raise DriverError(errno.EOPNOTSUPP, "an Ethernet NIC has no GUIDs", vf=vf)


def _set_rate(driver: PfDriver, vf: int, rate: Rate) -> None:
    """``rtnl_set_vf_rate()``: a guarantee above the limit never reaches the driver."""
    if rate.max_tx and rate.max_tx < rate.min_tx:
        raise DriverError(errno.EINVAL, f"a guarantee of {rate.min_tx} above the limit {rate.max_tx}", vf=vf)
    driver.set_vf_rate(vf, rate.max_tx, rate.min_tx)
