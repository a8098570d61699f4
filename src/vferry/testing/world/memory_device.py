# SPDX-License-Identifier: Apache-2.0
"""A simulated host's NICs over :class:`~vferry.testing.memory_nic.MemoryNic`: settings, and a switch made of them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import trio

from vferry.core.frames import mac_octets
from vferry.core.model import ZERO_MAC
from vferry.nic.ixgbe.frame import is_group
from vferry.ports.carrier import BadStateError, Carrier, CarrierError
from vferry.testing.memory_nic import MemoryNic
from vferry.testing.memory_state import MemoryPf
from vferry.testing.world.device import FrameSink, Gate, GuestDriver, Port

__all__ = ["MemoryDevice", "MemoryPort"]


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    session: bool


class MemoryPort(Port):
    """One PF, whose switch goes by the VFs' MACs and the PF's forwarding entries."""

    def __init__(self, nic: MemoryNic, pf: str) -> None:
        self.stopped: set[int] = set()
        """VFs whose own work is stopped."""
        self._nic = nic
        self._pf = pf
        self._wire: FrameSink = lambda _frame: None
        self._host_sink: FrameSink | None = None
        self._sinks: dict[int, FrameSink] = {}
        self._swallowed = 0

    def connect(self, wire: FrameSink) -> None:
        """Plug the cable in."""
        self._wire = wire

    def give_host(self, sink: FrameSink) -> None:
        """Let ``sink`` take what the switch delivers to the PF's own pool."""
        self._host_sink = sink

    def receive(self, frame: bytes, /) -> None:
        """Take a frame from the cable."""
        self._forward(None, frame, from_wire=True)

    def host_transmit(self, frame: bytes) -> None:
        """Take a frame of the host's own stack."""
        self._forward("pf", frame, from_wire=False)

    def transmit(self, vf: int, frame: bytes) -> None:
        """Take a frame from a VF's transmit queue; a fenced VF may not send under the VM's address."""
        admin = self._nic.admin_mac(self._pf, vf)
        if vf in self.stopped or (admin not in (None, ZERO_MAC) and mac_octets(str(admin)) != frame[6:12]):
            return
        self._forward(f"vf{vf}", frame, from_wire=False)

    def open(self, vf: int, sink: FrameSink) -> None:
        """Give a VF to a guest."""
        self._nic.reset_vf(self._pf, vf)
        self.stopped.discard(vf)
        self._sinks[vf] = sink

    def close(self, vf: int) -> None:
        """Take a VF from its guest."""
        self._nic.reset_vf(self._pf, vf)
        self.stopped.discard(vf)
        self._sinks.pop(vf, None)

    def driver(self, vf: int, mac: bytes) -> GuestDriver:
        """Return a new driver for a VF."""
        del vf, mac
        return _MemoryDriver()

    def receivers(self, mac: str) -> tuple[str, ...]:
        """Return the pools that the switch leads a MAC's frames to."""
        vfs = [f"vf{vf}" for vf in range(self._nic.pf(self._pf).num_vfs) if self._nic.admin_mac(self._pf, vf) == mac]
        return (*vfs, "pf") if mac in self._nic.read_fdb(self._pf) else tuple(vfs)

    def forwards_to_host(self, mac: bytes) -> bool:
        """Return whether the PF has a forwarding entry of its own for an address."""
        return mac.hex(":") in self._nic.read_fdb(self._pf)

    def swallowed(self) -> int:
        """Return how many unicast frames were lost inside."""
        return self._swallowed

    def reset(self) -> None:
        """Forget all guests: the host was booted again."""
        self.stopped.clear()
        self._sinks.clear()

    def _forward(self, source: str | None, frame: bytes, *, from_wire: bool) -> None:
        if is_group(frame[:6]):
            pools: tuple[str, ...] = ("pf", *(f"vf{vf}" for vf in self._sinks))
        else:
            pools = self.receivers(frame[:6].hex(":"))
        for pool in pools:
            if pool != source:
                self._deliver(pool, frame)
        if not from_wire and (is_group(frame[:6]) or not pools):
            self._wire(frame)

    def _deliver(self, pool: str, frame: bytes) -> None:
        sink = self._host_sink if pool == "pf" else self._sinks.get(int(pool[2:]))
        if sink is None or (pool != "pf" and int(pool[2:]) in self.stopped):
            self._swallowed += not is_group(frame[:6])
        else:
            sink(frame)


class _MemoryDriver(GuestDriver):
    """Nothing needs to be set up."""

    @property
    def works(self) -> bool:
        """Whether frames can flow."""
        return True

    def moved(self, port: Port, vf: int) -> None:
        """Go on with another VF."""

    async def serve(self, gate: Gate) -> None:
        """Nothing needs to be served."""
        del gate
        await trio.sleep_forever()


class MemoryCarrier(Carrier):
    """Carries the little state that such a VF has: that it works, and whether its session came along."""

    def __init__(self, ports: dict[str, MemoryPort]) -> None:
        self._ports = ports

    def stop(self, pf: str, vf: int) -> None:
        """Stop a VF."""
        self._ports[pf].stopped.add(vf)

    def save(self, pf: str, vf: int, *, session: bool) -> bytes:
        """Return the stopped VF's state."""
        if vf not in self._ports[pf].stopped:
            raise CarrierError("save the VF's own state", pf=pf, vf=vf, why="it is not stopped")
        return msgspec.msgpack.encode(_State("memory", session))

    def validate(self, pf: str, vf: int, state: bytes) -> None:
        """Check a state."""
        try:
            msgspec.msgpack.decode(state, type=_State)
        except msgspec.DecodeError as error:
            raise BadStateError("load the VF's own state", pf=pf, vf=vf, why=str(error)) from error

    def load(self, pf: str, vf: int, state: bytes) -> None:
        """Give the VF a state; it stays stopped."""
        self.validate(pf, vf, state)
        self._ports[pf].stopped.add(vf)

    def start(self, pf: str, vf: int) -> None:
        """Let the VF work."""
        self._ports[pf].stopped.discard(vf)

    def drop(self, pf: str, vf: int) -> None:
        """Forget a loaded state."""
        self._ports[pf].stopped.discard(vf)


class MemoryDevice:
    """All NICs of one host."""

    def __init__(self, host: str, pfs: Iterable[MemoryPf]) -> None:
        specs = tuple(pfs)
        self._inner = MemoryNic(host=host, pfs=specs)
        self._ports = {spec.name: MemoryPort(self._inner, spec.name) for spec in specs}
        self.nic = self._inner
        self.ports = self._ports
        self.carrier: Carrier = MemoryCarrier(self._ports)

    def reboot(self) -> None:
        """Boot the host again."""
        self._inner.reboot()
        for port in self._ports.values():
            port.reset()
