# SPDX-License-Identifier: Apache-2.0
"""A software Intel 82599: its registers, PF and VF mailbox, switch, and models of the drivers on both sides.

A host with one PF, and what its administrator gives a VF, in the hardware and on the wire:

>>> from vferry.core.model import AdminState
>>> from vferry.nic.ixgbe import make_host
>>> wire: list[bytes] = []
>>> nic = make_host("a", num_vfs=4, wires=[wire.append])
>>> nic.program("eth0", {1: AdminState(mac="52:54:00:00:00:01", trust=True)})
{1: None}
>>> software = nic.software("eth0")
>>> [mac.hex(":") for mac in software.driver.programmed(1).macs]
['52:54:00:00:00:01']
>>> software.send(bytes.fromhex("5254000000ff") + software.driver.mac + bytes(48))  # to nobody on this host
>>> len(wire)
1

The names below are imported when they are first asked for, so that a part of the model does not load all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vferry.nic.ixgbe.carrier import IxgbeCarrier
    from vferry.nic.ixgbe.hardware import Ixgbe82599
    from vferry.nic.ixgbe.host import SoftwarePf
    from vferry.nic.ixgbe.nic import IxgbeNic, make_host

__all__ = ["Ixgbe82599", "IxgbeCarrier", "IxgbeNic", "SoftwarePf", "make_host"]


def __getattr__(name: str) -> object:
    """Import what is asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vferry.nic.ixgbe import carrier, hardware, host, nic  # noqa: PLC0415

    offered: dict[str, object] = {
        "Ixgbe82599": hardware.Ixgbe82599,
        "IxgbeCarrier": carrier.IxgbeCarrier,
        "IxgbeNic": nic.IxgbeNic,
        "SoftwarePf": host.SoftwarePf,
        "make_host": nic.make_host,
    }
    return offered[name]
