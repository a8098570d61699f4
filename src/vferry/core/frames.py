# SPDX-License-Identifier: Apache-2.0
"""The few Ethernet frames that vferry sends itself, as bytes."""

from __future__ import annotations

import struct

from vferry.core.model import DOT1AD, DOT1Q, Vlan

__all__ = ["ETH_P_LOCAL_EXPERIMENTAL", "ETH_P_RARP", "ETH_ZLEN", "PROBE", "mac_octets", "probe", "rarp", "vlan_tag"]

ETH_P_RARP = 0x8035
"""``include/uapi/linux/if_ether.h``."""

ETH_P_LOCAL_EXPERIMENTAL = 0x88B5
"""IEEE Std 802-2014, 9.2.4: Local Experimental EtherType 1."""

PROBE = b"vferry-probe"
"""What a probe's payload begins with, before the nonce."""

ETH_ZLEN = 60
"""Octets of the shortest frame without its checksum (``include/uapi/linux/if_ether.h``)."""

_PROTOCOLS = {None: 0x8100, DOT1Q: 0x8100, DOT1AD: 0x88A8}
_BROADCAST = b"\xff" * 6
_RARP_REQUEST = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 3)
"""Ethernet, IPv4, their lengths, "request reverse" (RFC 903)."""


def mac_octets(mac: str) -> bytes:
    """Return a MAC's octets."""
    return bytes.fromhex(mac.replace(":", ""))


def vlan_tag(vlan: Vlan) -> bytes:
    """Return a VLAN tag (IEEE Std 802.1Q-2018, 9.6): tag protocol, priority and identifier."""
    protocol = _PROTOCOLS[vlan.proto] if vlan.proto in _PROTOCOLS else int(str(vlan.proto), 16)
    return struct.pack("!HH", protocol, vlan.qos << 13 | vlan.vid)


def rarp(mac: str, *, vlans: tuple[Vlan, ...] = ()) -> bytes:
    """Return the broadcast RARP request that announces ``mac``: who-am-I, with no address asked for."""
    octets = mac_octets(mac)
    tags = b"".join(vlan_tag(vlan) for vlan in vlans)
    body = _RARP_REQUEST + octets + bytes(4) + octets + bytes(4)
    return (_BROADCAST + octets + tags + struct.pack("!H", ETH_P_RARP) + body).ljust(ETH_ZLEN, b"\0")


def probe(destination: str, source: bytes, nonce: bytes, *, vlans: tuple[Vlan, ...] = ()) -> bytes:
    """Return a probe of a fence: to ``destination``, of the Local Experimental EtherType, carrying ``nonce``."""
    head = mac_octets(destination) + source + b"".join(vlan_tag(vlan) for vlan in vlans)
    return (head + struct.pack("!H", ETH_P_LOCAL_EXPERIMENTAL) + PROBE + nonce).ljust(ETH_ZLEN, b"\0")
