# SPDX-License-Identifier: Apache-2.0
"""A VF's own state as a record, and as bounded, versioned entries (:mod:`vferry.nic.ixgbe.tlv`).

What the administrator holds for the VF is not in it: that is another record, programmed by other means. The state is

* the function: ids, queues and vectors, so that it is only loaded where the guest finds the same device;
* configuration space: COMMAND, MSI-X message control, BARs; the MSI-X table, and vectors that wait to be sent;
* registers, each by its offset in the VF's BAR, as *peeked*: nothing is cleared by saving it;
* where the session is carried: the mailbox, and what the VF's driver had asked of the PF;
* where it is rebuilt: nothing of that, or, for a PF driver that knows RESUME, what it is to program at that message;
* counters as totals; what a counter of the hardware showed last means nothing elsewhere.

:func:`decode` checks whatever can be wrong without knowing the VF that the state is for: bytes that it accepts hold
every entry that is needed, with values that a VF's registers can hold.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from vferry.nic.ixgbe import pci_config, tlv
from vferry.nic.ixgbe.messages import MAX_MC_HASHES, Api, XcastMode
from vferry.nic.ixgbe.pf_driver import VfSession, VfStats
from vferry.nic.ixgbe.registers import pf, vf
from vferry.nic.ixgbe.registers.declare import FULL, Access, Register
from vferry.nic.ixgbe.tlv import Tlv, bad

__all__ = [
    "FUNCTION_OFFSETS",
    "TABLE_WORDS",
    "ConfigState",
    "DeviceState",
    "MailboxState",
    "decode",
    "encode",
    "queue_offsets",
]

DEVICE, CONFIG, TABLE, REGISTERS, QUEUES, MAILBOX, SESSION, RESUME, COUNTERS = range(1, 10)
_NEEDED: Final = frozenset({DEVICE, CONFIG, TABLE, REGISTERS, QUEUES})
_OPTIONAL: Final = frozenset({RESUME, COUNTERS})
"""Whoever does not know these may skip them."""
_KNOWN: Final = _NEEDED | _OPTIONAL | {MAILBOX, SESSION}

TABLE_WORDS: Final = 4 * pci_config.MSIX_VECTORS
"""The MSI-X table: address, upper address, data and vector control of each vector (PCI 3.0, 6.8.2)."""

FUNCTION_REGISTERS: Final = (
    *(vf.VFPSRTYPE, vf.VTEICR, vf.VTEIMS, vf.VTEIAC, vf.VTEIAM),
    *(vf.VTIVAR, vf.VTIVAR_MISC, vf.VTRSCINT, vf.VTEITR),
)
QUEUE_REGISTERS: Final = tuple(item for item in vf.VF_MAP if item.count == vf.VF_QUEUES)
FUNCTION_OFFSETS: Final = tuple(offset for item in FUNCTION_REGISTERS for offset in item.addresses)

_MAILBOX_BITS: Final = vf.VFMAILBOX_VFU | vf.VFMAILBOX_RSTI | vf.VFMAILBOX_R2C_BITS
_UNSENT_BITS: Final = vf.VFMAILBOX_REQ | vf.VFMAILBOX_ACK
_MSIX_CONTROL_BITS: Final = pci_config.MSIX_CONTROL_ENABLE | pci_config.MSIX_CONTROL_MASKALL
_COMMAND_BITS: Final = pci_config.COMMAND_MEMORY | pci_config.COMMAND_BUS_MASTER

_DEVICE: Final = struct.Struct("<HHHH")
_CONFIG: Final = struct.Struct("<HHQQ")
_TABLE: Final = struct.Struct(f"<I{TABLE_WORDS}I")
_MAILBOX: Final = struct.Struct(f"<II{pf.MAILBOX_WORDS}I")
_PAIR: Final = struct.Struct("<II")
_SESSION: Final = struct.Struct("<BBBBI6sHHH")
_COUNTERS: Final = struct.Struct("<5Q")

_CLEAR_TO_SEND, _HAS_MAC, _HAS_FRAME, _ANTI_SPOOF = 1, 2, 4, 8
_MAX_COUNT: Final = (1 << 63) - 1


def _storable(register: Register) -> int:
    """Return the bits that a register can show."""
    if register in (vf.VTEICR, vf.VTEIMS):
        return vf.VECTORS_MASK
    return FULL & ~register.mask(Access.WO, Access.SC)


_STORABLE: Final = {offset: _storable(item) for item in vf.VF_MAP for offset in item.addresses}


class ConfigState(msgspec.Struct, frozen=True, kw_only=True):
    """The words of configuration space that belong to the VF; BARs with their type bits."""

    command: int
    msix_control: int
    bar0: int
    bar3: int


class MailboxState(msgspec.Struct, frozen=True, kw_only=True):
    """The VF's mailbox."""

    control: int
    """VFMAILBOX as stored: ownership of the VF, and PFSTS, PFACK, RSTD, which a read of the VF would clear."""
    unsent: int
    """REQ and ACK of the VF that the PF driver has not taken yet."""
    words: tuple[int, ...]


class DeviceState(msgspec.Struct, frozen=True, kw_only=True):
    """One VF's own state."""

    queues: int
    """How many queues of each direction the VF has: 2, 4 or 8."""
    config: ConfigState
    table: tuple[int, ...]
    pending: int
    """Vectors, as bits, that fired while the VF was stopped."""
    registers: tuple[int, ...]
    """In the order of :data:`FUNCTION_OFFSETS`."""
    queue_registers: tuple[int, ...]
    """In the order of :func:`queue_offsets`."""
    mailbox: MailboxState | None = None
    """With ``session``: the session is carried."""
    session: VfSession | None = None
    resume: VfSession | None = None
    """What a PF driver that knows RESUME is to program at that message."""
    counters: VfStats | None = None


def queue_offsets(queues: int) -> tuple[int, ...]:
    """Return the offsets of the registers of a VF's first ``queues`` queues, by register and queue."""
    return tuple(offset for item in QUEUE_REGISTERS for offset in item.addresses[:queues])


def encode(state: DeviceState) -> bytes:
    """Return a state as bytes."""
    config = state.config
    entries = {
        DEVICE: _DEVICE.pack(pci_config.VENDOR_ID, pci_config.DEVICE_ID, state.queues, pci_config.MSIX_VECTORS),
        CONFIG: _CONFIG.pack(config.command, config.msix_control, config.bar0, config.bar3),
        TABLE: _TABLE.pack(state.pending, *state.table),
        REGISTERS: _pairs(FUNCTION_OFFSETS, state.registers),
        QUEUES: _pairs(queue_offsets(state.queues), state.queue_registers),
    }
    if state.mailbox is not None:
        entries[MAILBOX] = _MAILBOX.pack(state.mailbox.control, state.mailbox.unsent, *state.mailbox.words)
    for kind, session in ((SESSION, state.session), (RESUME, state.resume)):
        if session is not None:
            entries[kind] = _encode_session(session)
    if state.counters is not None:
        entries[COUNTERS] = _COUNTERS.pack(*state.counters)
    return tlv.encode(Tlv(kind, data, required=kind not in _OPTIONAL) for kind, data in sorted(entries.items()))


def _pairs(offsets: Sequence[int], values: Sequence[int]) -> bytes:
    return b"".join(_PAIR.pack(offset, value) for offset, value in zip(offsets, values, strict=True))


def _encode_session(session: VfSession) -> bytes:
    flags = (
        (_CLEAR_TO_SEND if session.clear_to_send else 0)
        | (0 if session.mac is None else _HAS_MAC)
        | (0 if session.max_frame is None else _HAS_FRAME)
        | (_ANTI_SPOOF if session.anti_spoof else 0)
    )
    head = _SESSION.pack(
        flags,
        session.api_version,
        session.xcast_mode,
        0,
        session.max_frame or 0,
        session.mac or bytes(6),
        len(session.macvlans),
        len(session.vlans),
        len(session.mc_hashes),
    )
    numbers = (*session.vlans, *session.mc_hashes)
    return head + b"".join(session.macvlans) + struct.pack(f"<{len(numbers)}H", *numbers)


def decode(data: bytes) -> DeviceState:
    """Return the state that ``data`` holds.

    :raise BadStateError: it holds none, or one of another device, or values that no VF's registers can hold.
    """
    entries = tlv.decode(data, _KNOWN)
    missing = sorted(_NEEDED - entries.keys())
    if missing:
        raise bad(f"entries {missing} are missing")
    if (MAILBOX in entries) != (SESSION in entries):
        raise bad("mailbox and session are only carried together")
    queues = _decode_device(entries[DEVICE])
    pending, *table = _unpack(_TABLE, entries[TABLE], "the MSI-X table")
    if pending & ~vf.VECTORS_MASK:
        raise bad(f"pending vectors {pending:#x} are outside {vf.VECTORS_MASK:#x}")
    return DeviceState(
        queues=queues,
        config=_decode_config(entries[CONFIG]),
        table=tuple(table),
        pending=pending,
        registers=_decode_pairs(entries[REGISTERS], FUNCTION_OFFSETS),
        queue_registers=_decode_pairs(entries[QUEUES], queue_offsets(queues)),
        mailbox=_decode_mailbox(entries[MAILBOX]) if MAILBOX in entries else None,
        session=_decode_session(entries[SESSION]) if SESSION in entries else None,
        resume=_decode_session(entries[RESUME]) if RESUME in entries else None,
        counters=_decode_counters(entries[COUNTERS]) if COUNTERS in entries else None,
    )


def _unpack(layout: struct.Struct, data: bytes, what: str) -> tuple[int, ...]:
    if len(data) != layout.size:
        raise bad(f"{what} has {len(data)} octets, not {layout.size}")
    return layout.unpack(data)


def _decode_device(data: bytes) -> int:
    """Return the number of queues."""
    vendor, device, queues, vectors = _unpack(_DEVICE, data, "the function")
    if (vendor, device, vectors) != (pci_config.VENDOR_ID, pci_config.DEVICE_ID, pci_config.MSIX_VECTORS):
        raise bad(f"it is of a device {vendor:04x}:{device:04x} with {vectors} vectors")
    if queues not in (2, 4, 8):
        raise bad(f"no VF has {queues} queues")
    return queues


def _decode_config(data: bytes) -> ConfigState:
    command, control, bar0, bar3 = _unpack(_CONFIG, data, "configuration space")
    if command & ~_COMMAND_BITS or control & ~_MSIX_CONTROL_BITS != pci_config.MSIX_VECTORS - 1:
        raise bad(f"COMMAND {command:#06x} or MSI-X control {control:#06x} cannot be a VF's")
    for bar in (bar0, bar3):
        if bar & (pci_config.BAR_OCTETS - 1) != pci_config.BAR_64BIT:
            raise bad(f"BAR {bar:#x} is no address of {pci_config.BAR_OCTETS} octets")
    return ConfigState(command=command, msix_control=control, bar0=bar0, bar3=bar3)


def _decode_pairs(data: bytes, offsets: tuple[int, ...]) -> tuple[int, ...]:
    """Return the values; they must be of exactly these registers, in this order."""
    if len(data) != _PAIR.size * len(offsets):
        raise bad(f"{len(data)} octets are not {len(offsets)} registers")
    values = []
    for expected, (offset, value) in zip(offsets, _PAIR.iter_unpack(data), strict=True):
        if offset != expected or value & ~_STORABLE[offset]:
            raise bad(f"register {offset:#06x} with {value:#x} stands where {expected:#06x} is expected")
        values.append(value)
    return tuple(values)


def _decode_mailbox(data: bytes) -> MailboxState:
    control, unsent, *words = _unpack(_MAILBOX, data, "the mailbox")
    if control & ~_MAILBOX_BITS or unsent & ~_UNSENT_BITS:
        raise bad(f"VFMAILBOX {control:#x} with {unsent:#x} on the way cannot be a VF's")
    return MailboxState(control=control, unsent=unsent, words=tuple(words))


def _decode_session(data: bytes) -> VfSession:
    if len(data) < _SESSION.size:
        raise bad(f"a session of {len(data)} octets is cut off")
    flags, api, xcast, reserved, frame, mac, macvlans, vlans, hashes = _SESSION.unpack_from(data)
    if len(data) != _SESSION.size + 6 * macvlans + 2 * (vlans + hashes):
        raise bad(f"a session of {macvlans} addresses, {vlans} VLANs and {hashes} hashes has {len(data)} octets")
    if macvlans > pf.RAR_ENTRIES or vlans > pf.VLVF_ENTRIES or hashes > MAX_MC_HASHES:
        raise bad(f"a session of {macvlans} addresses, {vlans} VLANs and {hashes} hashes fits no 82599")
    if flags > 0xF or reserved or (frame and not flags & _HAS_FRAME) or (any(mac) and not flags & _HAS_MAC):
        raise bad("a session's flags and values contradict each other")
    if api not in Api.__members__.values() or xcast not in XcastMode.__members__.values():
        raise bad(f"there is no mailbox API {api} or xcast mode {xcast}")
    place = _SESSION.size + 6 * macvlans
    numbers = struct.unpack_from(f"<{vlans + hashes}H", data, place)
    if list(numbers[:vlans]) != sorted(set(numbers[:vlans])):
        raise bad("a session's VLANs are not in order, each once")
    return VfSession(
        clear_to_send=bool(flags & _CLEAR_TO_SEND),
        api_version=api,
        mac=mac if flags & _HAS_MAC else None,
        macvlans=tuple(data[start : start + 6] for start in range(_SESSION.size, place, 6)),
        vlans=numbers[:vlans],
        mc_hashes=numbers[vlans:],
        xcast_mode=xcast,
        max_frame=frame if flags & _HAS_FRAME else None,
        anti_spoof=bool(flags & _ANTI_SPOOF),
    )


def _decode_counters(data: bytes) -> VfStats:
    totals = _unpack(_COUNTERS, data, "the counters")
    if max(totals) > _MAX_COUNT:
        raise bad(f"a counter of {max(totals)} is outside 63 bits")
    return VfStats(*totals)
