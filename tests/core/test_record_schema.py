# SPDX-License-Identifier: Apache-2.0
"""The published schema and its description are those of the code."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings

from tests.core.records import RECORD, REFUSALS, Change, Document, document, records, sealed
from vferry.core.record import (
    MAX_VFS,
    Record,
    RecordDigestError,
    RecordDuplicateError,
    RecordError,
    encode_json,
    json_schema,
)

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = DOCS / "record.schema.json"


@functools.cache
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_published_schema_is_current() -> None:
    current = json.dumps(json_schema(), indent=2) + "\n"
    assert SCHEMA.read_text() == current, f"write json_schema() to {SCHEMA.name}, indented by 2"


@hypothesis_settings(max_examples=25)
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
