# SPDX-License-Identifier: Apache-2.0
"""The record's format: what is written is read again, and nothing else is read at all."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.core.records import (
    FULL,
    JSON_VALUES,
    RECORD,
    REFUSALS,
    Change,
    Document,
    document,
    plain_digest,
    records,
    sealed,
)
from vferry.core.record import (
    MAX_DEPTH,
    MAX_RECORD_BYTES,
    MAX_VFS,
    Record,
    RecordDigestError,
    RecordDuplicateError,
    RecordError,
    RecordMalformedError,
    RecordRangeError,
    RecordTooLargeError,
    RecordTruncatedError,
    RecordUnknownFieldError,
    decode_json,
    decode_msgpack,
    digest_of,
    encode_json,
    encode_msgpack,
)

Decode = Callable[[Document], Record]


def by_json(content: Document) -> Record:
    return decode_json(json.dumps(content).encode())


def by_msgpack(content: Document) -> Record:
    return decode_msgpack(msgspec.msgpack.encode(content))


BOTH = pytest.mark.parametrize("decode", [by_json, by_msgpack], ids=["JSON", "MessagePack"])


# What is written is read again


@hypothesis_settings(max_examples=25)
@given(records())
@example(RECORD)
def test_both_encodings_come_back_as_they_were(record: Record) -> None:
    assert decode_json(encode_json(record)) == record
    assert decode_msgpack(encode_msgpack(record)) == record
    assert encode_json(decode_json(encode_json(record))) == encode_json(record)
    assert encode_msgpack(decode_msgpack(encode_msgpack(record))) == encode_msgpack(record)


@hypothesis_settings(max_examples=25)
@given(records())
@example(RECORD)
def test_the_digest_can_be_made_by_anybody(record: Record) -> None:
    from_json: Document = json.loads(encode_json(record))
    from_msgpack: Document = msgspec.msgpack.decode(encode_msgpack(record))
    assert from_json == from_msgpack
    assert from_json["digest"] == plain_digest(from_json) == digest_of(from_json)


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=4))
@example({'x_\x7f\x1f\u2028\U0001f600é"\\/': "\x00\b\t\n\f\r\x0b\x7f"})
def test_the_digest_is_that_of_plain_json_whatever_stands_in_an_extension(content: Document) -> None:
    assert digest_of(content) == plain_digest(content)


def test_files_are_indented_and_begin_with_what_they_are() -> None:
    lines = encode_json(RECORD).decode().splitlines()
    assert lines[:3] == ["{", '  "format": "vferry-record",', '  "version": 1,']
    assert encode_json(RECORD).endswith(b"}\n")


def test_what_was_not_reported_is_absent() -> None:
    text = encode_json(RECORD).decode()
    assert "null" not in text
    assert "spoofchk" not in document()["vfs"][2]["admin"]


def test_a_record_that_could_not_be_read_again_is_not_written() -> None:
    twice = msgspec.structs.replace(RECORD, vfs=(FULL, FULL))
    with pytest.raises(RecordDuplicateError):
        encode_json(twice)
    beyond = msgspec.structs.replace(FULL, facts=msgspec.structs.replace(FULL.facts, index=7))
    with pytest.raises(RecordRangeError):
        encode_msgpack(msgspec.structs.replace(RECORD, vfs=(beyond,)))


# Extensions


@BOTH
def test_extensions_are_ignored_at_every_depth_and_covered_by_the_digest(decode: Decode) -> None:
    content = document()
    content["x_site"] = {"rack": [1, None, True, "é"]}
    content["vfs"][0]["x_note"] = "n"
    content["vfs"][0]["admin"]["vlans"][0]["x_"] = 1
    assert decode(sealed(content)) == RECORD
    with pytest.raises(RecordDigestError):
        decode(content)


@BOTH
def test_extensions_hold_plain_data_only(decode: Decode) -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    content = document()
    with pytest.raises(RecordTooLargeError, match="nested"):
        decode({**content, "x_a": deep})
    with pytest.raises(RecordMalformedError) as malformed:
        decode({**content, "x_a": {"b": [1, 1.5]}})
    assert malformed.value.field in ("x_a.b[1]", "")


def test_numbers_of_more_than_64_bits_and_half_characters() -> None:
    for value, kind in (
        (1 << 64, RecordRangeError),
        (-(1 << 63) - 1, RecordRangeError),
        ("\ud800", RecordMalformedError),
    ):
        with pytest.raises(kind) as raised:
            by_json({**document(), "x_a": [value]})
        assert raised.value.field == "x_a[0]"
    with pytest.raises(RecordMalformedError):
        by_json({**document(), "x_\ud800": 1})
    with pytest.raises(RecordRangeError):
        decode_json(b'{"version": ' + b"9" * 5000 + b"}")


def test_messagepack_has_no_more_types_than_json() -> None:
    for value in (b"\x00", msgspec.msgpack.Ext(1, b"x"), 1.0, {1: 2}):
        with pytest.raises(RecordMalformedError) as raised:
            by_msgpack({**document(), "x_a": value})
        assert raised.value.field == "x_a"


# Every refusal names its field


@BOTH
@pytest.mark.parametrize(
    ("change", "kind", "field"), REFUSALS, ids=[f"{kind.__name__} {at}" for _, kind, at in REFUSALS]
)
def test_a_refusal_names_its_field(change: Change, kind: type[RecordError], field: str, decode: Decode) -> None:
    content = document()
    change(content)
    with pytest.raises(kind) as raised:
        decode(sealed(content))
    assert raised.value.field == field
    assert raised.value.to_dict()["field"] == field
    assert raised.value.why
    assert raised.value.next_step


@BOTH
@pytest.mark.parametrize("digest", [None, 5, "", "sha256:", "md5:0", "sha256:" + "0" * 64])
def test_a_digest_that_is_not_of_the_content(digest: object, decode: Decode) -> None:
    with pytest.raises(RecordError) as raised:
        decode({**document(), "digest": digest})
    assert raised.value.field == "digest"


@BOTH
def test_a_record_without_a_digest(decode: Decode) -> None:
    content = document()
    del content["digest"]
    with pytest.raises(RecordMalformedError) as raised:
        decode(content)
    assert raised.value.field == "digest"


@BOTH
def test_any_change_of_the_content_breaks_the_digest(decode: Decode) -> None:
    content = document()
    content["vfs"][0]["admin"]["trust"] = True
    with pytest.raises(RecordDigestError) as raised:
        decode(content)
    assert raised.value.field == "digest"


@BOTH
def test_too_many_vfs(decode: Decode) -> None:
    content = document()
    template = content["vfs"][2]
    content["vfs"] = [
        {**template, "name": f"n{number}", "pf": {**template["pf"], "device": f"d{number}"}}
        for number in range(MAX_VFS + 1)
    ]
    with pytest.raises(RecordTooLargeError) as raised:
        decode(sealed(content))
    assert raised.value.field == "vfs"
    content["vfs"].pop()
    assert len(decode(sealed(content)).vfs) == MAX_VFS


def test_a_member_that_stands_twice() -> None:
    twice = encode_json(RECORD).replace(b'"vm": "web"', b'"vm": "web", "vm": "web"')
    with pytest.raises(RecordDuplicateError) as raised:
        decode_json(twice)
    assert raised.value.field == "vm"
    packed = encode_msgpack(RECORD)
    assert packed[0] & 0xF0 == 0x80
    with pytest.raises(RecordDuplicateError):
        decode_msgpack(
            bytes([packed[0] + 1]) + packed[1:] + msgspec.msgpack.encode("vm") + msgspec.msgpack.encode("web")
        )


def test_a_value_in_a_longer_encoding_than_it_needs() -> None:
    packed = encode_msgpack(RECORD)
    at = packed.index(b"\xa7version\x01")
    with pytest.raises(RecordDuplicateError):
        decode_msgpack(packed[:at] + b"\xa7version\xcc\x01" + packed[at + 9 :])


@pytest.mark.parametrize(
    "text", [b"[]", b"1", b"null", b'"text"', b"\xff\xfe", b"<xml/>", b"{} {}", b"{,}", b"nonsense"]
)
def test_what_is_no_record_at_all(text: bytes) -> None:
    with pytest.raises(RecordMalformedError):
        decode_json(text)


@pytest.mark.parametrize("number", [b"1.0", b"1e3", b"NaN", b"Infinity"])
def test_numbers_that_are_not_whole(number: bytes) -> None:
    with pytest.raises(RecordMalformedError):
        decode_json(b'{"format": "vferry-record", "version": ' + number + b"}")


@pytest.mark.parametrize("data", [b"", b" \n\t "])
def test_nothing_at_all(data: bytes) -> None:
    for decode in (decode_json, decode_msgpack):
        with pytest.raises(RecordTruncatedError):
            decode(data)


def test_every_truncation_is_one() -> None:
    odd = msgspec.structs.replace(RECORD, vm='\U0001f600 "é\\')
    text, packed = encode_json(odd).rstrip(), encode_msgpack(odd)
    escaped = json.dumps(json.loads(text)).encode()
    for length in range(len(escaped)):
        with pytest.raises(RecordTruncatedError):
            decode_json(escaped[:length])
    for length in range(len(text)):
        with pytest.raises(RecordTruncatedError):
            decode_json(text[:length])
    for length in range(len(packed)):
        with pytest.raises(RecordTruncatedError):
            decode_msgpack(packed[:length])


# Bounds before allocation


def test_more_octets_than_a_record_may_have() -> None:
    for decode in (decode_json, decode_msgpack):
        with pytest.raises(RecordTooLargeError):
            decode(b" " * (MAX_RECORD_BYTES + 1))


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_in_json(opening: bytes) -> None:
    with pytest.raises(RecordError):
        decode_json(opening * 200_000)


def test_deep_nesting_in_messagepack() -> None:
    with pytest.raises(RecordError):
        decode_msgpack(b"\x91" * 200_000 + b"\x01")


@pytest.mark.parametrize("head", [b"\xdd", b"\xdf", b"\xc6", b"\xdb"], ids=["array", "map", "bytes", "text"])
def test_a_length_that_is_only_claimed_is_not_allocated(head: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RecordTruncatedError):
            decode_msgpack((head + b"\x0f\xff\xff\xff") * 50)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_a_long_name_does_not_make_a_long_message() -> None:
    content = document()
    content["y" * 100_000] = 1
    with pytest.raises(RecordUnknownFieldError) as raised:
        by_json(sealed(content))
    assert len(str(raised.value)) < 500
