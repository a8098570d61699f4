# SPDX-License-Identifier: Apache-2.0
"""The NICs a host can have, as data, and the QEMU options that make them.

Every NIC sits alone behind a PCIe root port, so the first one of a host is 0000:01:00.0, the second 0000:02:00.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lab.wire.wire import Port, Wire


@dataclass(frozen=True, kw_only=True)
class Igb:
    """Intel 82576: a PF with up to 7 VFs, which all use one port of the wire. Driver ``igb``, VFs ``igbvf``.

    :ivar mac: the PF's permanent address.
    :ivar port: where it is plugged in; `None` is a NIC without a cable.
    """

    mac: str
    port: Port | None = None


@dataclass(frozen=True, kw_only=True)
class VirtioSriov:
    """A virtio-net PF with SR-IOV; each of its functions has a port of its own and a MAC address given from outside.

    The VFs have no settings that the PF could change: every ``ip link set ... vf`` is refused by the kernel.

    :ivar mac: the PF's address; the VFs count on from it in the last byte.
    :ivar ports: the ports of the PF and of each VF; so there are ``len(ports) - 1`` VFs, at most 7.
    """

    mac: str
    ports: tuple[Port | None, ...]


Nic = Igb | VirtioSriov


def pf_address(number: int) -> str:
    """Return the PCI address of the PF of a host's NIC, counted from 0."""
    return f"0000:{number + 1:02x}:00.0"


def qemu_device(number: int) -> str:
    """Return the name that QEMU knows the PF by, for QMP commands such as ``set_link``."""
    return f"nic{number}"


def wires(nics: tuple[Nic, ...]) -> set[Wire]:
    """Return the wires that the NICs are plugged into."""
    return {port.wire for port in _ports(nics) if port}


def port_names(nics: tuple[Nic, ...]) -> frozenset[str]:
    """Return the names of the ports that the NICs are plugged into."""
    return frozenset(port.name for port in _ports(nics) if port)


def unplugged(nics: tuple[Nic, ...]) -> tuple[Nic, ...]:
    """Return the same NICs without cables: what of them decides how a host comes up."""
    return tuple(_unplug(nic) for nic in nics)


def qemu_options(nics: tuple[Nic, ...]) -> list[str]:
    """Return QEMU's options for all NICs."""
    options: list[str] = []
    for number, nic in enumerate(nics):
        root = f"root{number}"
        options += ["-device", f"pcie-root-port,id={root},bus=pcie.0,chassis={number + 1},slot={number + 1}"]
        options += _igb(nic, number, root) if isinstance(nic, Igb) else _virtio(nic, number, root)
    return options


def _ports(nics: tuple[Nic, ...]) -> Iterator[Port | None]:
    for nic in nics:
        if isinstance(nic, Igb):
            yield nic.port
        else:
            yield from nic.ports


def _unplug(nic: Nic) -> Nic:
    return Igb(mac=nic.mac) if isinstance(nic, Igb) else VirtioSriov(mac=nic.mac, ports=(None,) * len(nic.ports))


def _netdev(name: str, port: Port | None) -> list[str]:
    if port is None:
        return ["-netdev", f"hubport,id={name},hubid={name.removeprefix('net').replace('_', '')}"]
    ends = f"local.type=unix,local.path={port.far},remote.type=unix,remote.path={port.near}"
    return ["-netdev", f"dgram,id={name},{ends}"]


def _igb(nic: Igb, number: int, root: str) -> list[str]:
    name = f"net{number}"
    device = f"igb,bus={root},netdev={name},mac={nic.mac},id={qemu_device(number)}"
    return [*_netdev(name, nic.port), "-device", device]


def _virtio(nic: VirtioSriov, number: int, root: str) -> list[str]:
    """Return the functions, VFs first: QEMU wants the PF, function 0, last."""
    options: list[str] = []
    for function in reversed(range(len(nic.ports))):
        name = f"net{number}_{function}"
        role = f"sriov-pf={qemu_device(number)}" if function else f"id={qemu_device(number)}"
        place = f"bus={root},addr=0x0.0x{function:x},netdev={name},mac={_add_to_mac(nic.mac, function)},{role}"
        options += [*_netdev(name, nic.ports[function]), "-device", f"virtio-net-pci,{place}"]
    return options


def _add_to_mac(mac: str, number: int) -> str:
    head, _, last = mac.rpartition(":")
    return f"{head}:{(int(last, 16) + number) & 0xFF:02x}"
