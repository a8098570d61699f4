# SPDX-License-Identifier: Apache-2.0
"""Frames a second through the switch of the software 82599, with 64 pools programmed as ixgbe would.

All frames have 64 octets with FCS. A delivered frame is appended to a bounded list of its pool, which is what the
floor does too: one look-up by the destination, one append. The device counts each frame too, at both ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from bench.rates import Work
from vferry.nic.ixgbe.hardware import Ixgbe82599
from vferry.nic.ixgbe.registers import pf
from vferry.nic.ixgbe.switch import Switch, SwitchLoss

POOLS: Final = 64
FRAMES: Final = 64
"""Different frames of each kind, so that no destination is favoured."""
REPEATED: Final = 8
"""How often each is sent in a batch, so that the clock costs nothing."""
KEPT: Final = 16
"""Frames kept of each pool."""

Send = Callable[[bytes], None]


FLOOR: Final = "one look-up, one append"
LOCAL: Final = "unicast, pool to pool"
DEVICE: Final = f"{LOCAL}, through the whole device"


def works() -> list[Work]:
    """Return each kind of frame.

    Of broadcast, frames sent are counted, each of which is delivered to 63 pools and the wire; of "after a register
    changed", frames before each of which the switch's tables are derived anew.
    """
    kinds = _Bench().kinds()
    return [
        Work(name, _batch(send, frames), None if name == FLOOR else FLOOR) for name, (send, frames) in kinds.items()
    ]


def address(pool: int) -> bytes:
    """Return the address of a pool."""
    return bytes((0x02, 0, 0, 0, 0, pool))


class _Bench:
    def __init__(self) -> None:
        self.registers = programmed()
        self.queues: list[deque[bytes]] = [deque(maxlen=KEPT) for _ in range(POOLS)]
        self.wire: deque[bytes] = deque(maxlen=KEPT)
        self.switch = Switch(
            peek=self.peek,
            poke=self.registers.__setitem__,
            now=float,
            deliver=self.deliver,
            uplink=self.wire.append,
            lose=self.lose,
        )
        self.by_address = {address(pool): queue for pool, queue in enumerate(self.queues)}

        self.device = Ixgbe82599(now=float, permanent_address=b"\x02\0\0\0\0\xfe", pools=POOLS)
        self.device.sinks[:] = [queue.append for queue in self.queues]
        self.device.wire = self.wire.append
        for offset, value in self.registers.items():
            self.device.bar.poke(offset, value)
        self.device.switch.changed()

    def peek(self, offset: int) -> int:
        return self.registers.get(offset, 0)

    def deliver(self, pool: int, frame: bytes) -> None:
        self.queues[pool].append(frame)

    def lose(self, reason: SwitchLoss, pool: int, frame: bytes) -> None:
        raise AssertionError(f"{reason.value} {pool} {frame.hex()}")

    def floor(self, frame: bytes) -> None:
        self.by_address[frame[:6]].append(frame)

    def from_first(self, frame: bytes) -> None:
        self.switch.transmit(0, frame)

    def through_device(self, frame: bytes) -> None:
        self.device.transmit(0, frame)

    def after_change(self, frame: bytes) -> None:
        self.switch.changed()
        self.switch.transmit(0, frame)

    def kinds(self) -> dict[str, tuple[Send, list[bytes]]]:
        local = [_frame(address(1 + index % (POOLS - 1)), address(0)) for index in range(FRAMES)]
        remote = [_frame(bytes((0x06, 0, 0, 0, 1, index)), address(0)) for index in range(FRAMES)]
        arriving = [_frame(address(index % POOLS), bytes((0x06, 0, 0, 0, 1, index))) for index in range(FRAMES)]
        everyone = [_frame(b"\xff" * 6, address(0))]
        return {
            FLOOR: (self.floor, local),
            LOCAL: (self.from_first, local),
            DEVICE: (self.through_device, local),
            "unicast, pool to wire": (self.from_first, remote),
            "unicast, wire to pool": (self.switch.receive, arriving),
            "broadcast": (self.from_first, everyone),
            f"{LOCAL}, after a register changed": (self.after_change, local),
        }


def programmed() -> dict[int, int]:
    """Return registers with 64 pools as ixgbe programs its VFs: an address each, VLAN 0, anti-spoof, VEB."""
    values = {
        pf.VT_CTL.offset: pf.VT_CTL_VT_ENABLE | pf.VT_CTL_REPLEN | (POOLS - 1) << pf.VT_CTL_POOL_SHIFT,
        pf.PFDTXGSWC.offset: pf.PFDTXGSWC_VT_LBEN,
        pf.MAXFRS.offset: 1518 << pf.MAXFRS_MFS_SHIFT,
        pf.VLNCTRL.offset: pf.VLNCTRL_VFE,
        pf.VFTA.offset: 1,
        pf.VLVF.offset: pf.VLVF_VIEN,
    }
    full = (*pf.VFRE.addresses, *pf.VFTE.addresses, *pf.VMECM.addresses, *pf.VLVFB.addresses[:2])
    values.update(dict.fromkeys(full, 0xFFFFFFFF))
    values.update(dict.fromkeys(pf.PFVFSPOOF.addresses, 0xFFFF))
    values.update(dict.fromkeys(pf.VMOLR.addresses, pf.VMOLR_BAM | pf.VMOLR_AUPE | pf.VMOLR_ROMPE))
    for pool in range(POOLS):
        octets = int.from_bytes(address(pool), "little")
        values[pf.RAL.address(pool)] = octets & 0xFFFFFFFF
        values[pf.RAH.address(pool)] = octets >> 32 | pf.RAH_AV
        word = pf.MPSAR_LO if pool < 32 else pf.MPSAR_HI
        values[word.address(pool)] = 1 << (pool & 31)
    return values


def _frame(destination: bytes, source: bytes) -> bytes:
    """Return a frame of 60 octets: 64 with FCS, the shortest there is (IEEE 802.3, 3.2.8)."""
    return (destination + source + b"\x08\x00").ljust(60, b"\x5a")


def _batch(send: Send, frames: list[bytes]) -> Callable[[], int]:
    many = frames * REPEATED

    def run_it() -> int:
        for frame in many:
            send(frame)
        return len(many)

    return run_it
