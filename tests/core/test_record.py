# SPDX-License-Identifier: Apache-2.0
"""The record's format: what is written is read again, and nothing else is read at all."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.core.records import FULL, RECORD, records
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
    RecordVersionError,
    decode_json,
    decode_msgpack,
    digest_of,
    encode_json,
    encode_msgpack,
    json_schema,
)

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = DOCS / "record.schema.json"

Document = dict[str, Any]
Change = Callable[[Document], None]
Decode = Callable[[Document], Record]


def document() -> Document:
    parsed: Document = json.loads(encode_json(RECORD))
    return parsed


def sealed(content: Document) -> Document:
    """The document with a digest that is right, so that nothing else can be the reason of a refusal."""
    return {**content, "digest": plain_digest(content)}


def plain_digest(content: Document) -> str:
    """The digest by the standard library alone, as the documentation says."""
    without = {name: value for name, value in content.items() if name != "digest"}
    text = json.dumps(without, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def by_json(content: Document) -> Record:
    return decode_json(json.dumps(content).encode())


def by_msgpack(content: Document) -> Record:
    return decode_msgpack(msgspec.msgpack.encode(content))


BOTH = pytest.mark.parametrize("decode", [by_json, by_msgpack], ids=["JSON", "MessagePack"])


# What is written is read again


@given(records())
@example(RECORD)
def test_both_encodings_come_back_as_they_were(record: Record) -> None:
    assert decode_json(encode_json(record)) == record
    assert decode_msgpack(encode_msgpack(record)) == record
    assert encode_json(decode_json(encode_json(record))) == encode_json(record)
    assert encode_msgpack(decode_msgpack(encode_msgpack(record))) == encode_msgpack(record)


@given(records())
@example(RECORD)
def test_the_digest_can_be_made_by_anybody(record: Record) -> None:
    from_json: Document = json.loads(encode_json(record))
    from_msgpack: Document = msgspec.msgpack.decode(encode_msgpack(record))
    assert from_json == from_msgpack
    assert from_json["digest"] == plain_digest(from_json) == digest_of(from_json)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


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


def put(path: str, value: object) -> Change:
    """Set the member at ``path``, whose parts are separated by dots."""

    def change(content: Document) -> None:
        *parents, last = path.split(".")
        target: Any = content
        for part in parents:
            target = target[int(part) if part.isdecimal() else part]
        target[int(last) if last.isdecimal() else last] = value

    return change


def drop(path: str) -> Change:
    def change(content: Document) -> None:
        *parents, last = path.split(".")
        target: Any = content
        for part in parents:
            target = target[int(part) if part.isdecimal() else part]
        del target[last]

    return change


ADMIN = "vfs.0.admin"
REFUSALS: list[tuple[Change, type[RecordError], str]] = [
    (put("format", "other"), RecordMalformedError, "format"),
    (drop("format"), RecordMalformedError, "format"),
    (put("version", 2), RecordVersionError, "version"),
    (put("version", 0), RecordVersionError, "version"),
    (put("version", "1"), RecordMalformedError, "version"),
    (put("version", True), RecordMalformedError, "version"),
    (drop("version"), RecordMalformedError, "version"),
    (put("saved_at", "yesterday"), RecordRangeError, "saved_at"),
    (put("saved_at", "2026-01-01T00:00:00Z\n"), RecordRangeError, "saved_at"),
    (put("saved_at", "٢٠٢٦-01-01T00:00:00Z"), RecordRangeError, "saved_at"),
    (drop("saved_at"), RecordMalformedError, "saved_at"),
    (drop("host"), RecordMalformedError, "host"),
    (drop("host.boot_id"), RecordMalformedError, "host.boot_id"),
    (put("host.hostname", ""), RecordRangeError, "host.hostname"),
    (put("host.hostname", "x" * 257), RecordRangeError, "host.hostname"),
    (put("vm", 1), RecordMalformedError, "vm"),
    (put("vm", "web\x1b[2J"), RecordRangeError, "vm"),
    (put("vm", "web\n"), RecordRangeError, "vm"),
    (put("final", "yes"), RecordMalformedError, "final"),
    (put("vfs", []), RecordRangeError, "vfs"),
    (put("vfs", {}), RecordMalformedError, "vfs"),
    (drop("vfs"), RecordMalformedError, "vfs"),
    (put("surprise", 1), RecordUnknownFieldError, "surprise"),
    (put("vfs.0.surprise", 1), RecordUnknownFieldError, "vfs[0].surprise"),
    (put("vfs.1.pf.surprise", 1), RecordUnknownFieldError, "vfs[1].pf.surprise"),
    (put(f"{ADMIN}.surprise", 1), RecordUnknownFieldError, "vfs[0].admin.surprise"),
    (put(f"{ADMIN}.vlans.0.surprise", 1), RecordUnknownFieldError, "vfs[0].admin.vlans[0].surprise"),
    (put(f"{ADMIN}.mac", "52:54:00:12:34"), RecordRangeError, "vfs[0].admin.mac"),
    (put(f"{ADMIN}.mac", "52:54:00:12:34:5G"), RecordRangeError, "vfs[0].admin.mac"),
    (put(f"{ADMIN}.mac", "52:54:00:12:34:56\n"), RecordRangeError, "vfs[0].admin.mac"),
    (put(f"{ADMIN}.mac", 0), RecordMalformedError, "vfs[0].admin.mac"),
    (put(f"{ADMIN}.vlans.0.vid", 4096), RecordRangeError, "vfs[0].admin.vlans[0].vid"),
    (put(f"{ADMIN}.vlans.0.vid", -1), RecordRangeError, "vfs[0].admin.vlans[0].vid"),
    (put(f"{ADMIN}.vlans.0.vid", "5"), RecordMalformedError, "vfs[0].admin.vlans[0].vid"),
    (put(f"{ADMIN}.vlans.0.qos", 8), RecordRangeError, "vfs[0].admin.vlans[0].qos"),
    (put(f"{ADMIN}.vlans.0.proto", "8021q"), RecordRangeError, "vfs[0].admin.vlans[0].proto"),
    (put(f"{ADMIN}.rate.max_tx", 1 << 32), RecordRangeError, "vfs[0].admin.rate.max_tx"),
    (put(f"{ADMIN}.rate.min_tx", -1), RecordRangeError, "vfs[0].admin.rate.min_tx"),
    (drop(f"{ADMIN}.rate.min_tx"), RecordMalformedError, "vfs[0].admin.rate.min_tx"),
    (put(f"{ADMIN}.spoofchk", 1), RecordMalformedError, "vfs[0].admin.spoofchk"),
    (put(f"{ADMIN}.link_state", "up"), RecordRangeError, "vfs[0].admin.link_state"),
    (put(f"{ADMIN}.node_guid", "00:11"), RecordRangeError, "vfs[0].admin.node_guid"),
    (put("vfs.0.facts.index", 0x10000), RecordRangeError, "vfs[0].facts.index"),
    (put("vfs.0.facts.index", 7), RecordRangeError, "vfs[0].facts.index"),
    (put("vfs.0.facts.address", "3b:02.3"), RecordRangeError, "vfs[0].facts.address"),
    (put("vfs.0.pci.command", 0x10000), RecordRangeError, "vfs[0].pci.command"),
    (put("vfs.0.function.state", "sleeping"), RecordRangeError, "vfs[0].function.state"),
    (put("vfs.0.function.tx_max", 1 << 63), RecordRangeError, "vfs[0].function.tx_max"),
    (put("vfs.0.statistics.rx_bytes", -1), RecordRangeError, "vfs[0].statistics.rx_bytes"),
    (put("vfs.0.declared.mtu", 67), RecordRangeError, "vfs[0].declared.mtu"),
    (put("vfs.0.declared.mtu", 65536), RecordRangeError, "vfs[0].declared.mtu"),
    (put("vfs.0.pf.eswitch_mode", "offline"), RecordRangeError, "vfs[0].pf.eswitch_mode"),
    (put("vfs.1.name", "eth0/3"), RecordDuplicateError, "vfs[1].name"),
    (put("vfs.1.facts.index", 3), RecordDuplicateError, "vfs[1]"),
    (put(f"{ADMIN}.vlans", [{"vid": 5}, {"vid": 5, "qos": 1}]), RecordDuplicateError, "vfs[0].admin.vlans"),
]


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


# Fuzzing: a valid record or a RecordError, and nothing else


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


# The published schema


@functools.cache
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_published_schema_is_current() -> None:
    current = json.dumps(json_schema(), indent=2) + "\n"
    assert SCHEMA.read_text() == current, f"write json_schema() to {SCHEMA.name}, indented by 2"


@given(records())
@example(RECORD)
def test_valid_records_are_valid_by_the_schema(record: Record) -> None:
    validator().validate(json.loads(encode_json(record)))


def test_extensions_are_valid_by_the_schema() -> None:
    content = document()
    content["x_a"] = {"any": [1, None]}
    content["vfs"][0]["admin"]["x_b"] = 1
    validator().validate(sealed(content))


def beyond_num_vfs(content: Document) -> bool:
    return any(0xFFFF >= vf["facts"]["index"] >= vf["pf"]["num_vfs"] for vf in content.get("vfs") or ())


BEYOND_A_SCHEMA = (RecordDuplicateError, RecordDigestError)
"""What needs more than one member to be seen."""


@pytest.mark.parametrize(
    ("change", "kind", "field"), REFUSALS, ids=[f"{kind.__name__} {at}" for _, kind, at in REFUSALS]
)
def test_refused_records_are_invalid_by_the_schema(change: Change, kind: type[RecordError], field: str) -> None:
    content = document()
    change(content)
    valid = validator().is_valid(sealed(content))
    assert valid == (kind in BEYOND_A_SCHEMA or beyond_num_vfs(content))


def test_a_digest_is_required_by_the_schema() -> None:
    content = document()
    del content["digest"]
    assert not validator().is_valid(content)


def test_the_format_is_documented() -> None:
    text = (DOCS / "record.md").read_text()
    for words in ("record.schema.json", "x_", "sha256:", str(MAX_VFS), "4 MiB", "MessagePack"):
        assert words in text
    for kind in RecordError.__subclasses__():
        assert kind.__name__ in text
