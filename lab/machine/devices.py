# SPDX-License-Identifier: Apache-2.0
"""VFs and netdevsim in a host: shell commands that do what an administrator does, and read back what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lab.errors import LabError
from lab.images.netdevsim import NEEDS
from lab.machine.command import Command, Result

_CARRIER_SECONDS = 20.0
_LINK_DIP_SECONDS = 0.5
"""igb resets while it makes VFs: its link goes down a moment later, and until it is back it refuses rates."""
_PCI = "/sys/bus/pci/devices"

LOAD_DRIVERS = " && ".join(
    [
        "modprobe -a igb igbvf virtio_net vfio-pci vfio_iommu_type1 8021q bridge",
        "modprobe bonding max_bonds=0",
        f"modprobe -a {' '.join(NEEDS)}",
        "insmod /usr/local/lib/lab/netdevsim.ko",
    ]
)
"""What a host does once before its snapshot is taken."""


class Shell(Protocol):
    """What is needed of a host."""

    def run(self, command: Command, timeout: float = 60.0) -> Result:
        """Run a command and raise when it fails."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Vf:
    """A VF of a NIC in a host.

    :ivar index: its number at the PF, as in ``ip link set PF vf INDEX``.
    :ivar address: PCI address, ``0000:01:10.0``.
    :ivar netdev: the interface that its driver made; `None` where no network driver is bound.
    """

    index: int
    address: str
    netdev: str | None


def netdev_of(host: Shell, address: str) -> str | None:
    """Return the interface of the PCI function at ``address``; virtio has its own device in between."""
    listing = host.run(f"ls -d {_PCI}/{address}/net/* {_PCI}/{address}/virtio*/net/* 2>/dev/null || true").out.split()
    return listing[0].rpartition("/")[2] if listing else None


def bring_up(host: Shell, interface: str) -> None:
    """Bring an interface up and wait for its carrier.

    :raise LabError: When it gets none.
    """
    host.run(f"ip link set dev {interface} up")
    wait_carrier(host, interface)


def wait_carrier(host: Shell, interface: str, namespace: str | None = None) -> None:
    """Wait until an interface has a carrier.

    :raise LabError: When it gets none in 20 s.
    """
    prefix = f"ip netns exec {namespace} " if namespace else ""
    rounds = int(_CARRIER_SECONDS / 0.05)
    # One command with a loop in the shell: a namespace's sysfs is seen from inside only.
    test = f"read up </sys/class/net/{interface}/carrier && [ $up = 1 ] && exit 0"
    loop = f"for i in $(seq {rounds}); do {test}; sleep 0.05; done 2>/dev/null"
    script = f"{prefix}sh -c '{loop}; exit 1' && echo yes || echo no"
    if host.run(script, timeout=4 * _CARRIER_SECONDS).out.strip() != "yes":
        raise LabError(f"{interface} got no carrier in {_CARRIER_SECONDS} s")


def make_vfs(host: Shell, pf: str, number: int) -> tuple[Vf, ...]:
    """Give the PF at a PCI address ``number`` VFs; those it had go away.

    :raise CommandFailed: When the driver refuses.
    """
    directory = f"{_PCI}/{pf}"
    interface = netdev_of(host, pf)
    had_carrier = interface is not None and _has_carrier(host, interface)
    clear = f"[ $(cat {directory}/sriov_numvfs) = 0 ] || echo 0 > {directory}/sriov_numvfs"
    host.run(f"{clear}; echo {number} > {directory}/sriov_numvfs")
    if interface is not None and had_carrier:
        host.run(f"sleep {_LINK_DIP_SECONDS}")
        wait_carrier(host, interface)
    return list_vfs(host, pf)


def _has_carrier(host: Shell, interface: str) -> bool:
    return host.run(f"cat /sys/class/net/{interface}/carrier 2>/dev/null || true").out.strip() == "1"


def list_vfs(host: Shell, pf: str) -> tuple[Vf, ...]:
    """Return the VFs that the PF at a PCI address has."""
    each = "set -- $v/net/* $v/virtio*/net/*; n=; for p; do [ -e $p ] && n=${p##*/}; done"
    loop = f"for v in {_PCI}/{pf}/virtfn*; do {each}; echo ${{v##*virtfn}} $(basename $(readlink $v)) $n; done"
    found: list[Vf] = []
    for line in host.run(f"[ -e {_PCI}/{pf}/virtfn0 ] || exit 0; {loop}").out.splitlines():
        index, address, *name = line.split()
        found.append(Vf(index=int(index), address=address, netdev=name[0] if name else None))
    return tuple(sorted(found, key=lambda vf: vf.index))


def into_namespace(host: Shell, vf: Vf, namespace: str, addresses: tuple[str, ...]) -> None:
    """Put a VF's interface into a network namespace of its own, made where it is missing, and wait for its carrier.

    Each VF needs its own: with two interfaces of one wire in one namespace Linux answers for either on both.

    :param addresses: IP addresses with prefix length for it.
    :raise LabError: When the VF has no interface or gets no carrier.
    """
    if vf.netdev is None:
        raise LabError(f"VF {vf.index} ({vf.address}) has no interface")
    lines = [
        f"ip netns add {namespace} 2>/dev/null || true",
        f"ip link set dev {vf.netdev} netns {namespace}",
        f"ip -n {namespace} link set dev lo up",
        *(f"ip -n {namespace} addr add {address} dev {vf.netdev}" for address in addresses),
        f"ip -n {namespace} link set dev {vf.netdev} up",
    ]
    host.run("set -e\n" + "\n".join(lines))
    wait_carrier(host, vf.netdev, namespace)


def bind_driver(host: Shell, address: str, driver: str) -> None:
    """Take a PCI function from its driver and give it to another one, by ``driver_override``.

    :raise LabError: When that driver does not take it.
    """
    directory = f"{_PCI}/{address}"
    lines = [
        _unbind(address),
        f"echo {driver} > {directory}/driver_override",
        f"echo {address} > /sys/bus/pci/drivers_probe",
        f'basename "$(readlink {directory}/driver)"',
    ]
    bound = host.run("\n".join(lines)).out.strip()
    if bound != driver:
        raise LabError(f"{address} is with {bound or 'no driver'}, not with {driver}")


def unbind_driver(host: Shell, address: str) -> None:
    """Take a PCI function from its driver, if it has one, and forget a wish for another."""
    host.run(f"{_unbind(address)}; echo > {_PCI}/{address}/driver_override")


def _unbind(address: str) -> str:
    driver = f"{_PCI}/{address}/driver"
    return f"[ ! -e {driver} ] || echo {address} > {driver}/unbind"


def iommu_group(host: Shell, address: str) -> int:
    """Return the IOMMU group of a PCI function; with vfio-pci it is the file in ``/dev/vfio``."""
    return int(host.run(f"basename $(readlink {_PCI}/{address}/iommu_group)").out)


def make_netdevsim(host: Shell, number: int, *, ports: int, vfs: int) -> str:
    """Make a netdevsim device and return the interface of its first port.

    :param number: its id; the device is ``netdevsim/netdevsimNUMBER`` to devlink.
    :raise CommandFailed: When the kernel refuses.
    """
    device = f"/sys/bus/netdevsim/devices/netdevsim{number}"
    lines = [
        f'echo "{number} {ports}" > /sys/bus/netdevsim/new_device',
        f"[ {vfs} -le 4 ] || echo {vfs} > /sys/kernel/debug/netdevsim/netdevsim{number}/max_vfs",
        f"[ {vfs} = 0 ] || echo {vfs} > {device}/sriov_numvfs",
        f"ls {device}/net",
    ]
    return host.run("set -e\n" + "\n".join(lines)).out.split()[0]
