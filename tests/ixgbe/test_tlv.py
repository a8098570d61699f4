# SPDX-License-Identifier: Apache-2.0
"""Saved states as bytes: what is refused, what is skipped."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vferry.nic.ixgbe.tlv import MAX_ENTRIES, MAX_SIZE, REQUIRED, Tlv, decode, encode
from vferry.ports.carrier import BadStateError

HEADER = struct.Struct("<4sHHIII")
KNOWN = range(1, 0x40)

ENTRIES = st.lists(
    st.builds(Tlv, st.integers(1, 0x3F), st.binary(max_size=40), st.booleans()),
    min_size=1,
    max_size=8,
    unique_by=lambda entry: entry.type,
).map(sorted)


def packed(body: bytes, count: int, **changes: int | bytes) -> bytes:
    """A state with a true header, but for ``changes``."""
    fields: dict[str, int | bytes] = {
        "magic": b"VFDS",
        "version": 1,
        "header": HEADER.size,
        "total": HEADER.size + len(body),
        "count": count,
        "crc": zlib.crc32(body),
        **changes,
    }
    return HEADER.pack(*fields.values()) + body


def entry(kind: int, data: bytes = b"", *, reserved: int = 0, length: int | None = None) -> bytes:
    return struct.pack("<HHI", kind, reserved, len(data) if length is None else length) + data


@given(ENTRIES)
def test_what_is_encoded_is_decoded(entries: list[Tlv]) -> None:
    assert decode(encode(entries), KNOWN) == {one.type: one.data for one in entries}


GOOD = entry(1 | REQUIRED, b"abc") + entry(2, b"de")


def test_the_layout_is_fixed() -> None:
    """Another version of this program has to find the same octets."""
    assert encode([Tlv(1, b"abc"), Tlv(2, b"de", required=False)]) == packed(GOOD, 2)


def test_unknown_entries_are_skipped_unless_required() -> None:
    assert decode(packed(entry(1, b"a") + entry(9, b"b"), 2), {1}) == {1: b"a"}
    with pytest.raises(BadStateError, match="0x9 is required, and not known"):
        decode(packed(entry(1, b"a") + entry(9 | REQUIRED, b"b"), 2), {1})


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (b"", "0 octets are outside"),
        (packed(GOOD, 2)[:19], "19 octets are outside"),
        (packed(GOOD, 2, magic=b"VFDT"), "no state of a software VF"),
        (packed(GOOD, 2, version=2), "has version 2"),
        (packed(GOOD, 2, header=24), "has version 1"),
        (packed(GOOD, 2)[:-1], "it says 41 octets, and has 40"),
        (packed(GOOD, 2) + b"x", "it says 41 octets, and has 42"),
        (packed(GOOD, 0), "0 entries are outside"),
        (packed(GOOD, MAX_ENTRIES + 1), "65 entries are outside"),
        (packed(GOOD, 0xFFFFFFFF), "entries are outside"),
        (packed(GOOD, 2, crc=zlib.crc32(GOOD) ^ 1), "it is damaged"),
        (packed(GOOD, 1), "10 octets stand behind the last entry"),
        (packed(GOOD, 3), "ends within an entry's header"),
        (packed(entry(1) + entry(1), 2), "entry 0x1 is malformed or not in its place, behind entry 0x1"),
        (packed(entry(1) + entry(1 | REQUIRED), 2), "behind entry 0x1"),
        (packed(entry(2) + entry(1), 2), "entry 0x1 is malformed or not in its place, behind entry 0x2"),
        (packed(entry(0), 1), "entry 0x0 is malformed"),
        (packed(entry(1, reserved=1), 1), "entry 0x1 is malformed"),
        (packed(entry(1, b"abc", length=4), 1), "entry 0x1 has 4 octets, and 3 are left"),
        (packed(entry(1, b"abc", length=0xFFFFFFFF), 1), "entry 0x1 has 4294967295 octets, and 3 are left"),
        (bytes(MAX_SIZE + 1), "1048577 octets are outside"),
    ],
)
def test_what_is_wrong_is_said(state: bytes, why: str) -> None:
    with pytest.raises(BadStateError) as refused:
        decode(state, KNOWN)
    assert why in refused.value.why


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_decoded(data: bytes) -> None:
    with pytest.raises(BadStateError):
        decode(data, KNOWN)


@given(st.binary(max_size=100), st.integers(0, 80))
def test_any_entries_behind_a_true_header(body: bytes, count: int) -> None:
    try:
        found = decode(packed(body, count), KNOWN)
    except BadStateError:
        return
    assert sum(len(data) + 8 for data in found.values()) <= len(body)


@given(ENTRIES, st.data())
def test_one_flipped_bit_is_noticed(entries: list[Tlv], data: st.DataObject) -> None:
    state = bytearray(encode(entries))
    bit = data.draw(st.integers(0, 8 * len(state) - 1))
    state[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadStateError):
        decode(bytes(state), KNOWN)


@pytest.mark.parametrize(
    "entries",
    [
        [Tlv(2, b""), Tlv(1, b"")],
        [Tlv(1, b""), Tlv(1, b"")],
        [Tlv(0, b"")],
        [Tlv(REQUIRED, b"")],
        [Tlv(1, bytes(MAX_SIZE))],
        [Tlv(kind, b"") for kind in range(1, MAX_ENTRIES + 2)],
    ],
)
def test_what_cannot_be_decoded_is_not_encoded(entries: list[Tlv]) -> None:
    with pytest.raises(ValueError, match=r"entry type|at most"):
        encode(entries)
