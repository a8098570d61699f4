# SPDX-License-Identifier: Apache-2.0
"""A saved state as bytes: a header, then typed entries. Whoever reads them trusts nothing of what they say.

.. code-block:: text

    header   magic "VFDS" | u16 version | u16 header length | u32 total length | u32 entries | u32 CRC-32 of the entries
    entry    u16 type, bit 15 "required" | u16 zero | u32 length | data

All numbers are little-endian. Entries stand in the order of their types, each type once. A reader that does not know an
entry's type skips it, unless it is marked as required: then the whole state is refused. So what may be missing can be
added without a new version, and what must not be missing is never lost silently.

The CRC finds damage, not malice: what the data says has to be checked by whoever knows what it means.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from vferry.ports.carrier import BadStateError

__all__ = ["MAGIC", "MAX_ENTRIES", "MAX_SIZE", "REQUIRED", "VERSION", "Tlv", "bad", "decode", "encode"]

MAGIC: Final = b"VFDS"
VERSION: Final = 1
MAX_SIZE: Final = 1 << 20
"""Octets of the largest state that is looked at; a VF's own is a few kilobytes."""
MAX_ENTRIES: Final = 64
REQUIRED: Final = 0x8000
"""Bit of the type: whoever does not know this entry must refuse the state."""

_HEADER: Final = struct.Struct("<4sHHIII")
_ENTRY: Final = struct.Struct("<HHI")


class Tlv(NamedTuple):
    """One entry."""

    type: int
    """1 to 0x7FFF, without the "required" bit."""
    data: bytes
    required: bool = True


def encode(entries: Iterable[Tlv]) -> bytes:
    """Return the entries as a state; they must come in the order of their types, each type once.

    :raise ValueError: they do not, or there is too much of them.
    """
    parts, count, last = [], 0, 0
    for entry in entries:
        if not last < entry.type < REQUIRED:
            raise ValueError(f"entry type {entry.type:#x} behind {last:#x}")
        parts.append(_ENTRY.pack(entry.type | (REQUIRED if entry.required else 0), 0, len(entry.data)) + entry.data)
        count, last = count + 1, entry.type
    body = b"".join(parts)
    total = _HEADER.size + len(body)
    if total > MAX_SIZE or count > MAX_ENTRIES:
        raise ValueError(f"{count} entries of {total} octets: at most {MAX_ENTRIES} and {MAX_SIZE}")
    return _HEADER.pack(MAGIC, VERSION, _HEADER.size, total, count, zlib.crc32(body)) + body


def decode(state: bytes, known: Collection[int]) -> dict[int, bytes]:
    """Return the data of the entries whose types are ``known``, by type.

    :raise BadStateError: the state is damaged, cut off, too large, of another version or not in order, or it has a
        required entry of an unknown type.
    """
    count = _check_header(state)
    found: dict[int, bytes] = {}
    last, place = 0, _HEADER.size
    for _ in range(count):
        if len(state) - place < _ENTRY.size:
            raise bad("it ends within an entry's header")
        word, reserved, length = _ENTRY.unpack_from(state, place)
        kind, place = word & ~REQUIRED, place + _ENTRY.size
        if reserved or kind <= last:
            raise bad(f"entry {kind:#x} is malformed or not in its place, behind entry {last:#x}")
        if length > len(state) - place:
            raise bad(f"entry {kind:#x} has {length} octets, and {len(state) - place} are left")
        if kind in known:
            found[kind] = state[place : place + length]
        elif word & REQUIRED:
            raise bad(f"entry {kind:#x} is required, and not known here")
        last, place = kind, place + length
    if place != len(state):
        raise bad(f"{len(state) - place} octets stand behind the last entry")
    return found


def _check_header(state: bytes) -> int:
    """Return the number of entries."""
    if not _HEADER.size <= len(state) <= MAX_SIZE:
        raise bad(f"{len(state)} octets are outside {_HEADER.size} to {MAX_SIZE}")
    magic, version, header, total, count, crc = _HEADER.unpack_from(state)
    if magic != MAGIC:
        raise bad(f"it begins with {magic!r}, not {MAGIC!r}: no state of a software VF")
    if version != VERSION or header != _HEADER.size:
        raise bad(f"it has version {version}; version {VERSION} is known here")
    if total != len(state):
        raise bad(f"it says {total} octets, and has {len(state)}")
    if not 0 < count <= MAX_ENTRIES:
        raise bad(f"{count} entries are outside 1 to {MAX_ENTRIES}")
    if crc != zlib.crc32(memoryview(state)[_HEADER.size :]):
        raise bad("its CRC-32 is not that of its entries: it is damaged")
    return int(count)


def bad(why: str, *, pf: str | None = None, vf: int | None = None) -> BadStateError:
    """Return the refusal of a state."""
    next_step = "nothing was applied; save the state again"
    return BadStateError("read a VF's state", why=why, next_step=next_step, pf=pf, vf=vf)
