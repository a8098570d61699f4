# SPDX-License-Identifier: Apache-2.0
"""The record: what was saved of a VM's VFs, and its one versioned format.

A record is untrusted input. Reading one is bounded before anything is allocated for it, validates the whole of it, and
either returns a :class:`Record` or raises a :class:`RecordError` that names the field; nothing is half read.

Two encodings of the same content: indented JSON in files, MessagePack on wires. ``digest`` is
``sha256:`` and the SHA-256, in hexadecimal, of the document without its ``digest`` member as JSON in UTF-8, members
sorted by name, without white space.

Members whose name begins with ``x_`` are extensions that a reader may ignore (the digest covers them); every other
member is required: a reader that does not know it refuses the record.

.. code-block:: text

    RecordError
    +-- RecordTruncatedError        the input ends before the record does
    +-- RecordTooLargeError         more than MAX_RECORD_BYTES, MAX_VFS or MAX_DEPTH
    +-- RecordMalformedError        not this format, a wrong type, a missing member
    +-- RecordVersionError          a version that this vferry does not know
    +-- RecordUnknownFieldError     a required member that this vferry does not know
    +-- RecordRangeError            a value outside its range
    +-- RecordDuplicateError        a member, a VF or a name stands twice
    +-- RecordDigestError           the content is not what the digest was made from
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, NoReturn

import msgspec

from vferry.core.errors import RefusedError
from vferry.core.model import (
    AdminState,
    DeclaredState,
    FunctionState,
    HostFacts,
    Mac,
    Name,
    PciState,
    PfFacts,
    VfFacts,
    VfStatistics,
)

__all__ = [
    "MAX_DEPTH",
    "MAX_RECORD_BYTES",
    "MAX_VFS",
    "RECORD_FORMAT",
    "RECORD_VERSION",
    "Record",
    "RecordDigestError",
    "RecordDuplicateError",
    "RecordError",
    "RecordMalformedError",
    "RecordRangeError",
    "RecordTooLargeError",
    "RecordTruncatedError",
    "RecordUnknownFieldError",
    "RecordVersionError",
    "SavedVf",
    "decode_json",
    "decode_msgpack",
    "digest_of",
    "encode_json",
    "encode_msgpack",
    "json_schema",
]

RECORD_FORMAT: Final = "vferry-record"
RECORD_VERSION = 1

MAX_RECORD_BYTES = 4 << 20
"""A record of MAX_VFS VFs takes about 1.5 MiB as indented JSON."""

MAX_VFS = 1024
"""VFs in one record; more than any PF can have listed by rtnetlink (334)."""

MAX_DEPTH = 16
"""Nesting of a document; the format itself needs 6."""

MAX_SHOWN_NAME = 64
"""Characters of a member's name that an error shows; the name itself may be as long as the record."""


class RecordError(RefusedError):
    """A record cannot be used.

    :param field: path of the member concerned (``vfs[0].admin.rate``), empty for the document as a whole.
    """

    def __init__(self, why: str, *, field: str = "", next_step: str = "save the VF again with 'vferry save'") -> None:
        where = f" at {field}" if field else ""
        super().__init__(f"the record cannot be used{where}", why=why, next_step=next_step)
        self.field = field

    def to_dict(self) -> dict[str, object]:
        """Return the error as JSON-ready data, with the field's path."""
        return {**super().to_dict(), **({"field": self.field} if self.field else {})}


class RecordTruncatedError(RecordError):
    """The input ends before the record does."""


class RecordTooLargeError(RecordError):
    """More octets, VFs or nesting than a record may have."""


class RecordMalformedError(RecordError):
    """Not this format: no JSON or MessagePack, a wrong type, a missing member."""


class RecordVersionError(RecordError):
    """A version of the format that this vferry does not know."""


class RecordUnknownFieldError(RecordError):
    """A required member that this vferry does not know."""


class RecordRangeError(RecordError):
    """A value outside its range."""


class RecordDuplicateError(RecordError):
    """A member, a VF or a name stands twice."""


class RecordDigestError(RecordError):
    """The content is not what the digest was made from."""


_UTC = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z$(?!\n)"


class SavedVf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One VF of the VM, as it was on the source host."""

    name: Name
    """How the operator named it: ``eth0/3``."""
    pf: PfFacts
    facts: VfFacts
    admin: AdminState
    pci: PciState | None = None
    function: FunctionState | None = None
    broadcast: Mac | None = None
    """``IFLA_VF_BROADCAST``, a fact: it cannot be set."""
    statistics: VfStatistics | None = None
    """``IFLA_VF_STATS`` at the time of the save, a fact: counters are the hardware's own."""
    declared: DeclaredState = DeclaredState()


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What was saved of a VM's VFs."""

    format: Literal["vferry-record"] = RECORD_FORMAT
    version: Annotated[int, msgspec.Meta(ge=1)] = RECORD_VERSION
    saved_at: Annotated[str, msgspec.Meta(pattern=_UTC)]
    """UTC, ISO 8601."""
    host: HostFacts
    vm: Name | None = None
    """The VM that uses the VFs, where the operator named it."""
    final: bool = False
    """True: taken while the VM was stopped, so nothing can have changed since."""
    vfs: Annotated[tuple[SavedVf, ...], msgspec.Meta(min_length=1)]


def encode_json(record: Record) -> bytes:
    """Return ``record`` as indented JSON with its digest, ready for a file."""
    return msgspec.json.format(msgspec.json.encode(_document(record)), indent=2) + b"\n"


def encode_msgpack(record: Record) -> bytes:
    """Return ``record`` as MessagePack with its digest, ready for a wire."""
    return msgspec.msgpack.encode(_document(record))


def decode_json(data: bytes) -> Record:
    """Return the record in a JSON document.

    :raise RecordError: it cannot be used; the leaf types say why.
    """
    _check_size(data)
    return _validate(_parse_json(data))


def decode_msgpack(data: bytes) -> Record:
    """Return the record in a MessagePack document.

    Only the shortest encoding of each value is accepted, so one content has one encoding.

    :raise RecordError: it cannot be used; the leaf types say why.
    """
    _check_size(data)
    return _validate(_parse_msgpack(data))


def digest_of(document: dict[str, object]) -> str:
    """Return the digest of a document; its own ``digest`` member does not count."""
    from hashlib import sha256  # noqa: PLC0415 -- loads OpenSSL: only where a record is really read or written

    content = {name: value for name, value in document.items() if name != "digest"}
    return "sha256:" + sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def json_schema() -> dict[str, object]:
    """Return the JSON Schema (2020-12) of the JSON form."""
    schema: dict[str, Any] = msgspec.json.schema(Record)
    for definition in schema["$defs"].values():
        if definition.get("type") == "object":
            definition["patternProperties"] = {"^x_": {}}
    record = schema["$defs"]["Record"]
    properties, required = record["properties"], record["required"]
    for name in ("format", "version"):
        properties[name].pop("default")
        required.append(name)
    properties["version"] = {"const": RECORD_VERSION}
    properties["vfs"]["maxItems"] = MAX_VFS
    properties["digest"] = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
    required.append("digest")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "vferry record", **schema}


def _document(record: Record) -> dict[str, object]:
    content: dict[str, object] = {"format": record.format, "version": record.version, **msgspec.to_builtins(record)}
    _check_content(_convert(content))  # what is written can be read again
    head = {name: content.pop(name) for name in ("format", "version")}
    return {**head, "digest": digest_of({**head, **content}), **content}


def _check_size(data: bytes) -> None:
    if len(data) > MAX_RECORD_BYTES:
        raise RecordTooLargeError(f"more than {MAX_RECORD_BYTES} octets")
    if not data.strip():
        raise RecordTruncatedError("it is empty")


def _parse_json(data: bytes) -> object:
    import json  # noqa: PLC0415 -- 'save' only writes, and does without it

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            raise RecordTruncatedError("it ends in the middle of a character") from error
        raise RecordMalformedError(f"not UTF-8: {error.reason} at octet {error.start}") from error
    try:
        return json.loads(
            text, object_pairs_hook=_object_without_duplicates, parse_float=_no_float, parse_constant=_no_float
        )
    except json.JSONDecodeError as error:
        if _ends_early(text.rstrip(), error.pos, error.msg):
            raise RecordTruncatedError(f"it ends in the middle (line {error.lineno}): {error.msg}") from error
        raise RecordMalformedError(f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise RecordTooLargeError(f"nested deeper than {MAX_DEPTH}") from error
    except ValueError as error:  # an integer with thousands of digits
        raise RecordRangeError(str(error)) from error


def _ends_early(text: str, position: int, message: str) -> bool:
    """Return whether the parser stopped because the text is cut short; it names the start of a string or a word."""
    rest = text[position:]
    words = any(word.startswith(rest) for word in ("true", "false", "null", "-"))
    escape = message.startswith("Invalid \\uXXXX") and len(rest) < 6
    return words or escape or message.startswith("Unterminated string")


def _object_without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RecordDuplicateError("the member stands twice in one object", field=twice)
    return members


def _no_float(text: str) -> NoReturn:
    raise RecordMalformedError(f"a record has whole numbers only, not {text[:40]}")


def _parse_msgpack(data: bytes) -> object:
    try:
        document = msgspec.msgpack.decode(data)
    except msgspec.DecodeError as error:
        if "truncated" in str(error):
            raise RecordTruncatedError("it ends in the middle") from error
        raise RecordMalformedError(f"not MessagePack: {error}") from error
    except RecursionError as error:
        raise RecordTooLargeError(f"nested deeper than {MAX_DEPTH}") from error
    except (UnicodeDecodeError, TypeError, ValueError) as error:
        raise RecordMalformedError(f"not MessagePack: {error}") from error
    try:
        canonical = msgspec.msgpack.encode(document)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise RecordMalformedError(f"not a plain document: {error}") from error
    if canonical != data:
        raise RecordDuplicateError("a member stands twice, or a value is not in its shortest encoding")
    return document


def _validate(document: object) -> Record:
    if not isinstance(document, dict):
        raise RecordMalformedError("it is not an object")
    _check_head(document)
    _check_plain(document, "", 1)
    stated = document.get("digest")
    if not isinstance(stated, str):
        raise RecordMalformedError("it is missing or no string", field="digest")
    record = _convert(_without_extensions({name: value for name, value in document.items() if name != "digest"}))
    _check_content(record)
    if stated != digest_of(document):
        raise RecordDigestError(
            "the content is not what the digest was made from: the record was changed or damaged", field="digest"
        )
    return record


def _check_head(document: dict[object, object]) -> None:
    if document.get("format") != RECORD_FORMAT:
        raise RecordMalformedError(f"expected {RECORD_FORMAT!r}", field="format")
    version = document.get("version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise RecordMalformedError("it is missing or no whole number", field="version")
    if version != RECORD_VERSION:
        raise RecordVersionError(
            f"version {version}; this vferry knows version {RECORD_VERSION}",
            field="version",
            next_step="use the vferry that wrote it, or save again with this one",
        )


def _check_plain(value: object, path: str, depth: int) -> None:
    """Check that a document is made of objects, arrays, strings, whole numbers, true, false and null, not too deep."""
    if depth > MAX_DEPTH:
        raise RecordTooLargeError(f"nested deeper than {MAX_DEPTH}", field=path)
    if isinstance(value, dict):
        for name, member in value.items():
            if not isinstance(name, str):
                raise RecordMalformedError(f"a member's name is {str(name)[:40]}, not a string", field=path)
            _check_text(name, path)
            _check_plain(member, f"{path}.{name[:MAX_SHOWN_NAME]}" if path else name[:MAX_SHOWN_NAME], depth + 1)
    elif isinstance(value, list):
        for position, member in enumerate(value):
            _check_plain(member, f"{path}[{position}]", depth + 1)
    else:
        _check_scalar(value, path)


def _check_scalar(value: object, path: str) -> None:
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 64:
            raise RecordRangeError("a whole number of more than 64 bits", field=path)
    elif value is not None:
        raise RecordMalformedError(f"a record has no values of type {type(value).__name__}", field=path)


def _check_text(text: str, path: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RecordMalformedError("half of a surrogate pair is no character", field=path) from error


def _without_extensions(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_extensions(member) for name, member in value.items() if not name.startswith("x_")}
    if isinstance(value, list):
        return [_without_extensions(member) for member in value]
    return value


def _convert(document: object) -> Record:
    try:
        return msgspec.convert(document, Record)
    except msgspec.ValidationError as error:
        _raise_for_validation(str(error))


def _raise_for_validation(message: str) -> NoReturn:
    """Turn msgspec's message (``what - at `$.path```) into the error type it stands for."""
    what, _, path = message.partition(" - at ")
    field = path.strip("`").removeprefix("$").removeprefix(".")
    if "unknown field" in what:
        name = what.split("`")[1][:MAX_SHOWN_NAME]
        raise RecordUnknownFieldError(
            "this vferry does not know it, and it is required",
            field=f"{field}.{name}" if field else name,
            next_step="use the vferry that wrote the record",
        )
    if "missing required field" in what:
        name = what.split("`")[1]
        raise RecordMalformedError("it is missing", field=f"{field}.{name}" if field else name)
    error: Callable[..., RecordError] = RecordMalformedError if ", got `" in what else RecordRangeError
    raise error(what, field=field)


def _check_content(record: Record) -> None:
    """Check what types cannot say: bounds on the number of VFs, and that nothing stands twice."""
    if len(record.vfs) > MAX_VFS:
        raise RecordTooLargeError(f"{len(record.vfs)} VFs; at most {MAX_VFS}", field="vfs")
    names: set[str] = set()
    functions: set[tuple[str, int]] = set()
    for position, vf in enumerate(record.vfs):
        if vf.name in names:
            raise RecordDuplicateError(f"the name {vf.name} stands twice", field=f"vfs[{position}].name")
        function = (vf.pf.device, vf.facts.index)
        if function in functions:
            raise RecordDuplicateError(f"VF {function[0]}/{function[1]} stands twice", field=f"vfs[{position}]")
        names.add(vf.name)
        functions.add(function)
        _check_vf(vf, f"vfs[{position}]")


def _check_vf(vf: SavedVf, path: str) -> None:
    if vf.facts.index >= vf.pf.num_vfs:
        raise RecordRangeError(f"VF {vf.facts.index} of a PF with {vf.pf.num_vfs} VFs", field=f"{path}.facts.index")
    vids = [(vlan.vid, vlan.proto) for vlan in vf.admin.vlans or ()]
    if len(set(vids)) != len(vids):
        raise RecordDuplicateError("a VLAN stands twice", field=f"{path}.admin.vlans")
