# SPDX-License-Identifier: Apache-2.0
"""Records, policies and lists of names from the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from vferry.cli.session import Session
from vferry.core.errors import UsageError
from vferry.core.fence import Column
from vferry.core.model import Attribute
from vferry.core.policy import Policy, parse_policy
from vferry.core.record import MAX_RECORD_BYTES, Record, decode_json, decode_msgpack
from vferry.verbs.check import Terms

__all__ = ["FileUnreadableError", "columns", "read_record", "terms"]

DEFAULT_POLICY = "/etc/vferry/policy.toml"

MAX_POLICY_BYTES = 1 << 20

_Named = TypeVar("_Named", Attribute, Column)


class FileUnreadableError(UsageError):
    """A file named on the command line cannot be read."""


def read_record(path: str) -> Record:
    """Read a record in either encoding; ``-`` is standard input.

    :raise FileUnreadableError: there is no such file, or it may not be read.
    :raise RecordError: it cannot be used.
    """
    try:
        data = _read(path, MAX_RECORD_BYTES)
    except OSError as error:
        raise FileUnreadableError(f"read the record {path}", why=error.strerror or str(error)) from error
    # JSON begins with a brace or white space; MessagePack maps begin with 0x80 or above.
    return decode_msgpack(data) if data[:1] >= b"\x80" else decode_json(data)


def _read(path: str, limit: int) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read(limit + 1)
    with open(path, "rb") as file:
        return file.read(limit + 1)


def terms(session: Session) -> Terms:
    """Return what this host allows and knows, from the options of check, restore and verify.

    :raise UsageError: an attribute's name is unknown, or the policy file named cannot be read.
    :raise PolicyError: the policy is not valid.
    """
    accepted = _names(session.arguments.accept_loss, Attribute, "--accept-loss")
    return Terms(policy=_policy(session.arguments.policy), accept_loss=accepted, tables=session.tables())


def columns(texts: Iterable[str]) -> frozenset[Column]:
    """Return the columns of ``--require``.

    :raise UsageError: a name is unknown.
    """
    return _names(texts, Column, "--require")


def _names(texts: Iterable[str], kind: type[_Named], option: str) -> frozenset[_Named]:
    words = [word.strip() for text in texts for word in text.split(",") if word.strip()]
    known = {member.value: member for member in kind}
    for word in words:
        if word not in known:
            raise UsageError(f"understand {option} {word}", why=f"it takes {', '.join(known)}")
    return frozenset(known[word] for word in words)


def _policy(path: str | None) -> Policy:
    try:
        with open(path or DEFAULT_POLICY, "rb") as file:
            text = file.read(MAX_POLICY_BYTES)
    except FileNotFoundError as error:
        if path is None:
            return Policy()
        raise FileUnreadableError(f"read the policy {path}", why=error.strerror or str(error)) from error
    except OSError as error:
        raise FileUnreadableError(f"read the policy {path}", why=error.strerror or str(error)) from error
    try:
        return parse_policy(text.decode())
    except UnicodeDecodeError as error:
        raise FileUnreadableError(f"read the policy {path or DEFAULT_POLICY}", why="it is not UTF-8") from error
