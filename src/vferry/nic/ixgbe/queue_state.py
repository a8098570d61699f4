# SPDX-License-Identifier: Apache-2.0
"""What a stopped VF's queues, vectors and counters are, as records.

Values of registers are what the registers show; nothing is read that a read changes. Packets are sent whole or not at
all, and received frames are in the guest's memory or lost, so there is no more to a queue than this.
"""

from __future__ import annotations

from typing import Final

import msgspec

from vferry.core.errors import UsageError
from vferry.nic.ixgbe.descriptors import CONTEXTS
from vferry.nic.ixgbe.queue_interrupts import LONGEST_INTERVAL
from vferry.nic.ixgbe.registers import vf
from vferry.nic.ixgbe.registers.declare import FULL, Register

__all__ = [
    "ARRAY_REGISTERS",
    "COUNTERS",
    "RECEIVE_REGISTERS",
    "TRANSMIT_REGISTERS",
    "WORD_REGISTERS",
    "CounterState",
    "InterruptState",
    "QueueState",
    "QueueStateError",
    "ReceiveState",
    "TransmitState",
    "check",
]

_LONGEST_US: Final = round(LONGEST_INTERVAL * 1e6) + 1
_LONGEST_COUNT: Final = (1 << 63) - 1
_WORD: Final = (1 << 64) - 1


class QueueStateError(UsageError):
    """A state that is none of this VF's; nothing was changed."""

    def __init__(self, why: str, index: int | None = None) -> None:
        super().__init__("load the state of a VF's queues", why=why, vf=index)


class ReceiveState(msgspec.Struct, frozen=True, kw_only=True):
    """The registers of a receive queue."""

    rdbal: int
    rdbah: int
    rdlen: int
    dca_rxctrl: int
    rdh: int
    srrctl: int
    rdt: int
    rxdctl: int
    rscctl: int


class TransmitState(msgspec.Struct, frozen=True, kw_only=True):
    """The registers of a transmit queue, and its contexts."""

    tdbal: int
    tdbah: int
    tdlen: int
    dca_txctrl: int
    tdh: int
    tdt: int
    txdctl: int
    tdwbal: int
    tdwbah: int
    contexts: tuple[tuple[int, int] | None, ...] = (None,) * CONTEXTS
    """The context descriptors that it was given last, as two 64-bit words each."""


class InterruptState(msgspec.Struct, frozen=True, kw_only=True):
    """Causes, masks, vectors, and moderation."""

    psrtype: int
    eicr: int
    eims: int
    eiac: int
    eiam: int
    ivar: tuple[int, ...]
    ivar_misc: int
    rscint: tuple[int, ...]
    eitr: tuple[int, ...]
    held: int = 0
    """Vectors, as bits, that wait for the end of their interval."""
    remaining: tuple[int, ...] = (0,) * vf.VECTORS
    """By vector: microseconds of its interval that are left."""


class CounterState(msgspec.Struct, frozen=True, kw_only=True):
    """What the VF's counters show, not wrapped."""

    rx_packets: int = 0
    rx_octets: int = 0
    rx_multicast: int = 0
    tx_packets: int = 0
    tx_octets: int = 0


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """One VF's queues."""

    receive: tuple[ReceiveState, ...]
    transmit: tuple[TransmitState, ...]
    interrupts: InterruptState
    counters: CounterState = CounterState()


RECEIVE_REGISTERS: Final[dict[str, Register]] = {
    "rdbal": vf.VFRDBAL,
    "rdbah": vf.VFRDBAH,
    "rdlen": vf.VFRDLEN,
    "dca_rxctrl": vf.VFDCA_RXCTRL,
    "rdh": vf.VFRDH,
    "srrctl": vf.VFSRRCTL,
    "rdt": vf.VFRDT,
    "rxdctl": vf.VFRXDCTL,
    "rscctl": vf.VFRSCCTL,
}
TRANSMIT_REGISTERS: Final[dict[str, Register]] = {
    "tdbal": vf.VFTDBAL,
    "tdbah": vf.VFTDBAH,
    "tdlen": vf.VFTDLEN,
    "dca_txctrl": vf.VFDCA_TXCTRL,
    "tdh": vf.VFTDH,
    "tdt": vf.VFTDT,
    "txdctl": vf.VFTXDCTL,
    "tdwbal": vf.VFTDWBAL,
    "tdwbah": vf.VFTDWBAH,
}
WORD_REGISTERS: Final[dict[str, Register]] = {
    "psrtype": vf.VFPSRTYPE,
    "eicr": vf.VTEICR,
    "eims": vf.VTEIMS,
    "eiac": vf.VTEIAC,
    "eiam": vf.VTEIAM,
    "ivar_misc": vf.VTIVAR_MISC,
}
ARRAY_REGISTERS: Final[dict[str, Register]] = {"ivar": vf.VTIVAR, "rscint": vf.VTRSCINT, "eitr": vf.VTEITR}
COUNTERS: Final = CounterState.__struct_fields__
_VECTOR_FIELDS: Final = ("eicr", "eims")


def check(state: QueueState, queues: int) -> None:
    """Check a state for a VF with so many queues of each direction.

    :raises QueueStateError: it is not of such a VF, or holds what no register can.
    """
    if len(state.receive) != queues or len(state.transmit) != queues:
        why = f"it has {len(state.receive)} receive and {len(state.transmit)} transmit queues, and the VF {queues} each"
        raise QueueStateError(why)
    for one in state.receive:
        _check_range({name: getattr(one, name) for name in RECEIVE_REGISTERS}, FULL)
    for other in state.transmit:
        _check_range({name: getattr(other, name) for name in TRANSMIT_REGISTERS}, FULL)
        if len(other.contexts) != CONTEXTS:
            raise QueueStateError(f"a queue remembers {CONTEXTS} contexts, not {len(other.contexts)}")
        for context in other.contexts:
            _check_range(dict(zip(("low", "high"), context or (0, 0), strict=True)), _WORD)
    _check_interrupts(state.interrupts)
    _check_range({name: getattr(state.counters, name) for name in COUNTERS}, _LONGEST_COUNT)


def _check_interrupts(state: InterruptState) -> None:
    _check_range({name: getattr(state, name) for name in WORD_REGISTERS}, FULL)
    _check_range({name: getattr(state, name) for name in (*_VECTOR_FIELDS, "held")}, vf.VECTORS_MASK)
    for name, register in ARRAY_REGISTERS.items():
        _check_array(name, getattr(state, name), register.count, FULL)
    _check_array("remaining", state.remaining, vf.VECTORS, _LONGEST_US)


def _check_array(name: str, values: tuple[int, ...], count: int, most: int) -> None:
    if len(values) != count:
        raise QueueStateError(f"{name} has {len(values)} elements, not {count}")
    _check_range({f"{name}[{index}]": value for index, value in enumerate(values)}, most)


def _check_range(values: dict[str, int], most: int) -> None:
    for name, value in values.items():
        if not 0 <= value <= most:
            raise QueueStateError(f"{name} is {value:#x}, outside 0 to {most:#x}")
