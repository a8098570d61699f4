# SPDX-License-Identifier: Apache-2.0
"""A simulated host's NICs as software 82599s: real frames through their switch, real drivers in the guests."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeVar

import trio

from vferry.core.frames import mac_octets
from vferry.nic.ixgbe.carrier import IxgbeCarrier
from vferry.nic.ixgbe.host import SoftwarePf
from vferry.nic.ixgbe.nic import IxgbeNic, make_host
from vferry.nic.ixgbe.register_file import RegisterFile
from vferry.nic.ixgbe.registers import pf as registers
from vferry.nic.ixgbe.switch import SwitchLoss
from vferry.nic.ixgbe.vf_driver import SERVICE_SECONDS, VfDriver
from vferry.ports.carrier import Carrier
from vferry.testing.world.device import FrameSink, Gate, GuestDriver, Port

__all__ = ["IxgbeDevice", "IxgbePort", "ixgbe_device"]

T = TypeVar("T")

_RECEIVE_ADDRESSES = tuple(
    (
        registers.RAL.address(index),
        registers.RAH.address(index),
        registers.MPSAR_LO.address(index),
        registers.MPSAR_HI.address(index),
    )
    for index in range(registers.RAL.count)
)
_SWALLOWED = (SwitchLoss.VFRE_OFF, SwitchLoss.NO_SINK)


class IxgbePort(Port):
    """One PF of a software 82599."""

    def __init__(self, nic: IxgbeNic, pf: str) -> None:
        self.software: SoftwarePf = nic.software(pf)
        self.hardware = self.software.hardware
        self._nic = nic
        self._pf = pf
        self._drivers: dict[int, IxgbeGuestDriver] = {}
        self._pending: dict[int, set[int]] = {}
        """Vectors that fired before the guest ran here."""

    def connect(self, wire: FrameSink) -> None:
        """Plug the cable in."""
        self.hardware.wire = wire

    def give_host(self, sink: FrameSink) -> None:
        """Let ``sink`` take what the switch delivers to the PF's own pool."""
        self.software.receive_own(sink)

    def receive(self, frame: bytes, /) -> None:
        """Take a frame from the cable."""
        self.hardware.receive(frame)

    def host_transmit(self, frame: bytes) -> None:
        """Take a frame of the host's own stack."""
        self.software.send(frame)

    def transmit(self, vf: int, frame: bytes) -> None:
        """Take a frame from a VF's transmit queue."""
        self.software.transmit(vf, frame)

    def open(self, vf: int, sink: FrameSink) -> None:
        """Give a VF to a guest."""
        self._nic.assign_vf(self._pf, vf, "a VM")
        self._pending[vf] = set()
        self.software.attach(vf, sink=sink, interrupt=lambda vector: self._interrupt(vf, vector))

    def close(self, vf: int) -> None:
        """Take a VF from its guest."""
        self._drivers.pop(vf, None)
        self._nic.unassign_vf(self._pf, vf)

    def driver(self, vf: int, mac: bytes) -> GuestDriver:
        """Return a new driver for a VF."""
        return IxgbeGuestDriver(self, vf, mac)

    def receivers(self, mac: str) -> tuple[str, ...]:
        """Return the pools that MPSAR names beside a valid receive address."""
        octets, peek, pools = mac_octets(mac), self.hardware.bar.peek, 0
        low, high = int.from_bytes(octets[:4], "little"), int.from_bytes(octets[4:], "little")
        for ral, rah, mpsar_lo, mpsar_hi in _RECEIVE_ADDRESSES:
            if peek(ral) == low:
                word = peek(rah)
                if word & registers.RAH_AV and word & 0xFFFF == high:
                    pools |= peek(mpsar_lo) | peek(mpsar_hi) << 32
        return tuple(self._name(pool) for pool in range(64) if pools >> pool & 1) if pools else ()

    def _name(self, pool: int) -> str:
        return "pf" if pool == self.software.pool else f"vf{pool}"

    def forwards_to_host(self, mac: bytes) -> bool:
        """Return whether the PF has a forwarding entry of its own for an address."""
        return mac in self.software.driver.fdb()

    def swallowed(self) -> int:
        """Return how many frames were lost on their way to a pool."""
        return sum(count for (reason, _), count in self.hardware.losses.items() if reason in _SWALLOWED)

    def serve(self, vf: int, driver: IxgbeGuestDriver) -> RegisterFile:
        """Let a driver hear a VF's interrupts; return the VF's registers."""
        self._drivers[vf] = driver
        for vector in sorted(self._pending.pop(vf, set())):
            driver.interrupted(vector)
        return self.hardware.vf_bar(vf)

    def leave(self, vf: int, driver: IxgbeGuestDriver) -> None:
        """A driver works on another VF now."""
        if self._drivers.get(vf) is driver:
            del self._drivers[vf]

    def reset(self) -> None:
        """Forget all guests: the host was booted again."""
        self._drivers.clear()
        self._pending.clear()

    def _interrupt(self, vf: int, vector: int) -> None:
        driver = self._drivers.get(vf)
        if driver is None:
            self._pending.setdefault(vf, set()).add(vector)
        else:
            driver.interrupted(vector)


class _MovingBar:
    """The VF's registers as the guest's driver sees them, wherever the guest is."""

    def __init__(self, target: RegisterFile) -> None:
        self.target = target

    def read(self, offset: int, /) -> int:
        return self.target.read(offset)

    def write(self, offset: int, value: int, /) -> None:
        self.target.write(offset, value)


class IxgbeGuestDriver(GuestDriver):
    """A VF driver in a guest."""

    def __init__(self, port: IxgbePort, vf: int, mac: bytes) -> None:
        self._port = port
        self._vf = vf
        self._bar = _MovingBar(port.serve(vf, self))
        self._wanted = trio.Event()
        self._vectors: set[int] = set()
        self.driver = VfDriver(self._bar, now=trio.current_time, random_mac=mac)

    @property
    def works(self) -> bool:
        """Whether the interface is open and has a carrier."""
        return self.driver.frames_can_flow

    def moved(self, port: Port, vf: int) -> None:
        """Go on with another VF."""
        assert isinstance(port, IxgbePort)  # noqa: S101 -- all ports of a world are of one kind
        self._port.leave(self._vf, self)
        self._port, self._vf = port, vf
        self._bar.target = port.serve(vf, self)

    def interrupted(self, vector: int) -> None:
        """Note an interrupt; the guest sees it as soon as it runs."""
        self._vectors.add(vector)
        self._wanted.set()

    async def serve(self, gate: Gate) -> None:
        """Probe, open, then run the service task every two seconds and when an interrupt asks for it."""
        await self._drive(self.driver.probe(), gate)
        await self._drive(self.driver.open(), gate)
        while True:
            if not self.driver.service_wanted:
                with trio.move_on_after(SERVICE_SECONDS):
                    await self._wanted.wait()
            await gate.wait()
            self._wanted = trio.Event()
            for vector in sorted(self._vectors):
                self.driver.interrupt(vector)
            self._vectors.clear()
            await self._drive(self.driver.watchdog(), gate)

    @staticmethod
    async def _drive(steps: Generator[float, None, T], gate: Gate) -> T:
        while True:
            await gate.wait()
            try:
                seconds = next(steps)
            except StopIteration as done:
                result: T = done.value
                return result
            await trio.sleep(seconds)


class IxgbeDevice:
    """All NICs of one host."""

    def __init__(self, host: str, pfs: int, *, num_vfs: int, resume_extension: bool = False) -> None:
        self.nic = make_host(host, pfs=pfs, num_vfs=num_vfs, now=trio.current_time, resume_extension=resume_extension)
        self._ports = {f"eth{number}": IxgbePort(self.nic, f"eth{number}") for number in range(pfs)}
        self.ports = self._ports
        self.carrier: Carrier = IxgbeCarrier(self.nic)

    def reboot(self) -> None:
        """Boot the host again."""
        self.nic.reboot()
        for port in self._ports.values():
            port.reset()


def ixgbe_device(host: str, pfs: Sequence[str], *, num_vfs: int = 8) -> IxgbeDevice:
    """Return software 82599s."""
    return IxgbeDevice(host, len(pfs), num_vfs=num_vfs)
