# SPDX-License-Identifier: Apache-2.0
"""Fuzzing: a valid record or a RecordError, and nothing else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import msgspec
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.core.records import JSON_VALUES, RECORD, document, put, sealed
from vferry.core.record import (
    Record,
    RecordError,
    decode_json,
    decode_msgpack,
    encode_json,
    encode_msgpack,
)


def only_record_errors(decode: Callable[[bytes], Record], data: bytes) -> None:
    try:
        record = decode(data)
    except RecordError as error:
        assert str(error)  # noqa: PT017 -- it must be printable
    else:
        assert decode_json(encode_json(record)) == record


@given(st.binary(max_size=200))
def test_any_octets(data: bytes) -> None:
    only_record_errors(decode_json, data)
    only_record_errors(decode_msgpack, data)


@given(st.text(alphabet='{}[]",:0123456789.eE-+ntfu\\ld8vferryc', max_size=60))
def test_anything_like_json(text: str) -> None:
    only_record_errors(decode_json, text.encode())


JSON_BYTES, MSGPACK_BYTES = encode_json(RECORD), encode_msgpack(RECORD)
EDITS = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 3), st.binary(max_size=4)), min_size=1, max_size=4)


@hypothesis_settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(EDITS)
def test_damaged_records(edits: list[tuple[int, int, bytes]]) -> None:
    for decode, data in ((decode_json, JSON_BYTES), (decode_msgpack, MSGPACK_BYTES)):
        damaged = data
        for at, length, replacement in edits:
            damaged = damaged[: at % len(data)] + replacement + damaged[at % len(data) + length :]
        only_record_errors(decode, damaged)


PATHS = st.sampled_from(
    ["vfs", "host", "vm", "vfs.0", "vfs.0.admin", "vfs.0.admin.rate", "vfs.0.admin.vlans", "vfs.0.pf", "vfs.0.facts",
     "vfs.0.facts.index", "vfs.0.pf.num_vfs", "vfs.1.pci", "vfs.1.declared", "vfs.0.name", "saved_at", "x_"]
)  # fmt: skip


@hypothesis_settings(max_examples=300)
@given(PATHS, JSON_VALUES | st.floats() | st.integers())
def test_values_in_the_wrong_place(path: str, value: object) -> None:
    content = document()
    put(path, value)(content)
    with contextlib.suppress(UnicodeEncodeError):
        content = sealed(content)
    only_record_errors(decode_json, json.dumps(content).encode())
    try:
        packed = msgspec.msgpack.encode(content)
    except (OverflowError, UnicodeEncodeError):
        return
    only_record_errors(decode_msgpack, packed)
