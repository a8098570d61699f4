# SPDX-License-Identifier: Apache-2.0
"""Registries: where it is kept whose a VM is. Here: the form of a value, which is the same in all of them.

A value is JSON, so that a person can read it with the store's own tool when nothing else works any more.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from vferry.core.ownership import Identity, Ownership, Token
from vferry.ports.registry import RegistryError

__all__ = ["MAX_VALUE_BYTES", "Address", "MalformedEntryError", "claims", "decode_value", "encode_value"]

MAX_VALUE_BYTES = 1 << 20
"""A VF takes about 100 octets; etcd refuses requests over 1.5 MiB (``--max-request-bytes``, its default)."""

Address: TypeAlias = tuple[str, int, str]
"""Segment, VLAN, MAC: what at most one VM may have, unless all of them share it."""

_DECODER = msgspec.json.Decoder(Ownership)


class MalformedEntryError(RegistryError):
    """A VM's value is damaged, of a newer form, or was not fit to be stored; nothing was changed.

    :param vm: the VM whose value it is.
    :param token: of the stored value, with which it can be replaced or deleted; None where it was not stored.
    """

    def __init__(self, what: str, vm: str, why: str, *, token: Token | None = None) -> None:
        self.vm = vm
        self.token = token
        next_step = "correct what was given" if token is None else "mend the value; or 'vferry forget' and adopt anew"
        super().__init__(f"{what} the ownership of VM {vm}", why=why, next_step=next_step)


def encode_value(ownership: Ownership) -> bytes:
    """Return a VM's value as it is stored; what is returned can be read again.

    :raise MalformedEntryError: a field is out of its range, or the whole is too long.
    """
    try:
        data = msgspec.json.encode(ownership)
        _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeError, OverflowError) as error:
        raise MalformedEntryError("store", ownership.vm, str(error)) from error
    if len(data) > MAX_VALUE_BYTES:
        raise MalformedEntryError("store", ownership.vm, f"it takes more than {MAX_VALUE_BYTES} octets")
    return data


def decode_value(vm: str, data: bytes, token: Token) -> Ownership:
    """Return what is stored for a VM.

    :raise MalformedEntryError: it is damaged, too long, or speaks of another VM.
    """
    if len(data) > MAX_VALUE_BYTES:
        raise MalformedEntryError("read", vm, f"it takes more than {MAX_VALUE_BYTES} octets", token=token)
    try:
        ownership = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise MalformedEntryError("read", vm, str(error), token=token) from error
    if ownership.vm != vm:
        raise MalformedEntryError("read", vm, f"it speaks of VM {ownership.vm}", token=token)
    return ownership


def claims(ownership: Ownership) -> dict[Address, Identity]:
    """Return a VM's addresses, each once; one that is listed twice is shared only if both say so."""
    found: dict[Address, Identity] = {}
    for identity in ownership.identities:
        address = (identity.segment, identity.vlan, identity.mac)
        if address not in found or not identity.shared:
            found[address] = identity
    return found
