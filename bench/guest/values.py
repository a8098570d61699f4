# SPDX-License-Identifier: Apache-2.0
"""What VFs are set to. Two variants, so that a request always changes something; ``floor.c`` has the same."""

from __future__ import annotations

from typing import Any

from vferry.core.model import DOT1Q, AdminState, LinkState, Rate, Vlan

VARIANTS = (0, 1)


def mac(vf: int, variant: int) -> str:
    return f"02:00:00:00:{variant:02x}:{vf:02x}"


def vlan(vf: int, variant: int) -> int:
    """Return a VLAN of the VF's own: tenants do not share them."""
    return 100 + 2 * vf + variant


def state(vf: int, variant: int, *, everything: bool) -> AdminState:
    """Return seven attributes, or the five that igb's driver has."""
    rate = Rate(min_tx=10 * (1 + variant) if everything else 0, max_tx=100 * (1 + variant))
    return AdminState(
        mac=mac(vf, variant),
        vlans=(Vlan(vid=vlan(vf, variant), qos=1 + variant, proto=DOT1Q),),
        rate=rate,
        spoofchk=not variant,
        trust=bool(variant),
        link_state=(LinkState.DISABLE if variant else LinkState.ENABLE) if everything else None,
        rss_query=bool(variant) if everything else None,
    )


def ip_words(vf: int, variant: int, *, everything: bool) -> list[list[str]]:
    """Return one group of words for each attribute, as ``ip link set dev PF vf N ...`` takes them."""
    rate = ["max_tx_rate", str(100 * (1 + variant))]
    if everything:
        rate += ["min_tx_rate", str(10 * (1 + variant))]
    words = [
        ["mac", mac(vf, variant)],
        ["vlan", str(vlan(vf, variant)), "qos", str(1 + variant), "proto", "802.1Q"],
        rate,
        ["spoofchk", "off" if variant else "on"],
        ["trust", "on" if variant else "off"],
    ]
    if everything:
        words += [["state", "disable" if variant else "enable"], ["query_rss", "on" if variant else "off"]]
    return words


def pyroute2_spec(vf: int, variant: int, *, everything: bool) -> dict[str, Any]:
    """Return the ``vf=`` of pyroute2's ``link("set")``, anew each time: it takes the dictionary apart."""
    spec: dict[str, Any] = {
        "vf": vf,
        "mac": mac(vf, variant),
        "vlan": {"vlan": vlan(vf, variant), "qos": 1 + variant},
        "rate": {"min_tx_rate": 10 * (1 + variant) if everything else 0, "max_tx_rate": 100 * (1 + variant)},
        "spoofchk": int(not variant),
        "trust": variant,
    }
    if everything:
        spec |= {"link_state": 1 + variant, "rss_query_en": variant}
    return spec
