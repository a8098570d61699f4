# SPDX-License-Identifier: Apache-2.0
"""Hosts and VFs as most users want them: one igb each, on a wire, with addresses made from their names.

The same name gives the same host, and so the same snapshot.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from lab.images.build import Images
from lab.machine.devices import Vf
from lab.machine.host import Host
from lab.machine.nics import Igb
from lab.wire.wire import Wire


def host_mac(name: str) -> str:
    """Return the PF's address: ``52:54:00:aa:00:01`` for ``a`` and so on, made from a checksum for longer names."""
    short = len(name) == 1 and name.islower() and name.isascii()
    number = ord(name) - ord("a") + 1 if short else 0x100 + zlib.crc32(name.encode()) % 0xFEFF
    return f"52:54:00:aa:{number >> 8:02x}:{number & 0xFF:02x}"


def vf_mac(name: str, index: int) -> str:
    """Return an address for a VF of the host, different for each host and VF."""
    return host_mac(name).replace(":aa:", f":{0xB0 + index:02x}:")


def use_vf(host: Host, vf: Vf, address: str, *, nic: int = 0) -> Vf:
    """Give a VF of an igb the address of :func:`vf_mac` and put it into a network namespace, ``g0`` for VF 0.

    The VF's driver is loaded again, because it takes a new MAC address only then.

    :param address: IP address with prefix length.
    :return: the VF with its interface, which is in the namespace now.
    """
    host.run(f"ip link set {host.pf(nic)} vf {vf.index} mac {vf_mac(host.name, vf.index)}")
    host.bind(vf, "igbvf")
    fresh = host.vfs(nic)[vf.index]
    host.vf_namespace(fresh, f"g{vf.index}", address)
    return fresh


def igb_host(name: str, wire: Wire, *, images: Images | None = None, program: Path | None = None) -> Host:
    """Return a host, not yet started, whose igb is plugged into the port of its name."""
    nic = Igb(mac=host_mac(name), port=wire.port(name))
    return Host(name, nics=(nic,), images=images, program=program)
