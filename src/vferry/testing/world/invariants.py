# SPDX-License-Identifier: Apache-2.0
"""What must hold at every moment, decided by asking registry, hypervisors and NICs themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from vferry.core.migration.tables import Order
from vferry.core.ownership import Ownership
from vferry.ports.hypervisor import VmState
from vferry.testing.world.host import SimHost

__all__ = ["Watch"]


class Watch:
    """Looks at the whole world after every change.

    :param owned: returns a VM's entry as it is stored, or None.
    :param violated: called with words, once for each violation.
    """

    def __init__(
        self,
        hosts: Mapping[str, SimHost],
        *,
        owned: Callable[[str], Ownership | None],
        violated: Callable[[str], None],
    ) -> None:
        self._hosts = hosts
        self._owned = owned
        self._violated = violated
        self._vms: dict[str, Sequence[str]] = {}
        self.orders: dict[str, Order] = {}
        """By migration: the order that the destination has chosen."""
        self.looks = 0
        self._said: set[str] = set()

    def add(self, vm: str, macs: Sequence[str]) -> None:
        """Watch a VM, which has these addresses."""
        self._vms[vm] = macs

    def look(self) -> None:
        """Check everything now."""
        self.looks += 1
        for vm, macs in self._vms.items():
            entry = self._owned(vm)
            if entry is not None:
                self._look_at_vm(vm, entry)
                self._look_at_nics(vm, entry, macs)

    def receiving(self, host: str, macs: Sequence[str]) -> list[str]:
        """Return the pools of a host that its switches lead frames for these addresses to."""
        return [
            f"{name}:{pool} for {mac}"
            for name, port in self._hosts[host].device.ports.items()
            for mac in macs
            for pool in port.receivers(mac)
        ]

    def running(self, vm: str) -> list[str]:
        """Return the hosts on which a VM runs."""
        return [
            name
            for name, host in self._hosts.items()
            if vm in host.hypervisor.instances and host.hypervisor.instances[vm].state is VmState.RUNNING
        ]

    def _look_at_vm(self, vm: str, entry: Ownership) -> None:
        running = self.running(vm)
        if len(running) > 1:
            self._say(f"VM {vm} runs on {' and '.join(running)}")
        for host in running:
            if host != entry.owner:
                self._say(f"VM {vm} runs on {host}, and {entry.owner} owns it ({entry.stage.value})")

    def _look_at_nics(self, vm: str, entry: Ownership, macs: Sequence[str]) -> None:
        found = {host: pools for host in self._hosts if (pools := self.receiving(host, macs))}
        if len(found) > 1:
            self._say(f"two NICs receive for VM {vm}: {found}")
        for host, pools in found.items():
            if host != entry.owner and not self._is_early(entry, host):
                self._say(f"{host} receives for VM {vm} ({', '.join(pools)}), and {entry.owner} owns it")

    def _is_early(self, entry: Ownership, host: str) -> bool:
        """Whether the destination of an undecided migration may receive already: its NIC resets a VF at every MAC."""
        return (
            entry.migration is not None
            and entry.destination == host
            and self.orders.get(entry.migration) is Order.DEVICE_STATE_EARLY
        )

    def _say(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            self._violated(what)
