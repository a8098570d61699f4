# SPDX-License-Identifier: Apache-2.0
"""Comparing settings: what is wanted with what a reading shows, and the smallest change between the two.

Absent is not a value. What ``wanted`` leaves out is not compared and never changed; what a reading leaves out is "not
shown", which is neither equal nor different: it has to be sent, and it cannot be read back.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

import msgspec

from vferry.core.model import AdminState, Attribute, LinkState, Vlan

__all__ = ["Difference", "DifferenceKind", "change_needed", "differences", "overlay"]


class DifferenceKind(enum.Enum):
    """Why a wanted value is not the one that is shown."""

    DIFFERS = "differs"
    """The reading shows another value."""
    NOT_SHOWN = "not-shown"
    """The driver does not report this attribute."""


class Difference(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attribute that does not read as wanted; the values are in words."""

    attribute: Attribute
    wanted: str
    shown: str | None = None
    kind: DifferenceKind


# The fields of AdminState that are one attribute each; VLANs and the rate are two.
_PLAIN = {
    "mac": Attribute.MAC,
    "spoofchk": Attribute.SPOOFCHK,
    "link_state": Attribute.LINK_STATE,
    "rss_query": Attribute.RSS_QUERY,
    "trust": Attribute.TRUST,
    "node_guid": Attribute.NODE_GUID,
    "port_guid": Attribute.PORT_GUID,
}

_FIELD_OF = {attribute: field for field, attribute in _PLAIN.items()} | {
    Attribute.VLANS: "vlans",
    Attribute.VLAN_PROTO: "vlans",
    Attribute.MIN_TX_RATE: "rate",
    Attribute.MAX_TX_RATE: "rate",
}


def differences(wanted: AdminState, shown: AdminState) -> tuple[Difference, ...]:
    """Return what does not read as wanted, in the order of :class:`Attribute`."""
    found = [*_plain_differences(wanted, shown), *_vlan_differences(wanted, shown), *_rate_differences(wanted, shown)]
    return tuple(sorted(found, key=lambda difference: _ORDER[difference.attribute]))


def change_needed(wanted: AdminState, shown: AdminState) -> AdminState:
    """Return the smallest change that makes ``shown`` read as ``wanted``.

    What already reads as wanted is left out. What is not shown is sent. The kernel takes a rate and a VLAN list as a
    whole, so either is sent whole when a part of it differs.
    """
    fields = {_FIELD_OF[difference.attribute] for difference in differences(wanted, shown)}
    return AdminState(**{field: getattr(wanted, field) for field in fields})


def overlay(base: AdminState, change: AdminState) -> AdminState:
    """Return ``base`` as it reads once ``change`` is applied; what ``change`` leaves out stays."""
    fields = {field: getattr(change, field) for field in AdminState.__struct_fields__}
    return msgspec.structs.replace(base, **{field: value for field, value in fields.items() if value is not None})


_ORDER = {attribute: position for position, attribute in enumerate(Attribute)}


def _plain_differences(wanted: AdminState, shown: AdminState) -> Iterator[Difference]:
    for field, attribute in _PLAIN.items():
        value, other = getattr(wanted, field), getattr(shown, field)
        if value is not None and value != other:
            yield _difference(attribute, _text(value), None if other is None else _text(other))


def _rate_differences(wanted: AdminState, shown: AdminState) -> Iterator[Difference]:
    if wanted.rate is None:
        return
    min_shown, max_shown = (shown.rate.min_tx, shown.rate.max_tx) if shown.rate else (None, None)
    halves = (
        (Attribute.MIN_TX_RATE, wanted.rate.min_tx, min_shown),
        (Attribute.MAX_TX_RATE, wanted.rate.max_tx, max_shown),
    )
    for attribute, value, other in halves:
        if value != other:
            yield _difference(attribute, _rate_text(value), None if other is None else _rate_text(other))


def _vlan_differences(wanted: AdminState, shown: AdminState) -> Iterator[Difference]:
    if wanted.vlans is None:
        return
    shown_text = None if shown.vlans is None else _vlans_text(shown.vlans)
    # The order of a VLAN list means nothing: it is a set of tags.
    if shown.vlans is None or _tags(wanted.vlans) != _tags(shown.vlans):
        yield _difference(Attribute.VLANS, _vlans_text(wanted.vlans), shown_text)
    yield from _protocol_differences(wanted.vlans, shown.vlans)


def _protocol_differences(wanted: tuple[Vlan, ...], shown: tuple[Vlan, ...] | None) -> Iterator[Difference]:
    unlike = [vlan for vlan in wanted if vlan.proto is not None and not _protocol_shown(vlan, wanted, shown)]
    if not unlike:
        return
    protocols = [other.proto for vlan in unlike for other in _counterparts(vlan, wanted, shown or ())]
    texts = [protocol for protocol in protocols if protocol is not None]
    wanted_text = ", ".join(str(vlan.proto) for vlan in unlike)
    # One that is shown and unlike outweighs others that are not shown.
    yield _difference(Attribute.VLAN_PROTO, wanted_text, ", ".join(texts) if texts else None)


def _protocol_shown(vlan: Vlan, wanted: tuple[Vlan, ...], shown: tuple[Vlan, ...] | None) -> bool:
    if shown is None:
        return False
    others = _counterparts(vlan, wanted, shown)
    # A tag without a counterpart is missing as a whole, and Attribute.VLANS says so.
    return not others or any(other.proto == vlan.proto for other in others)


def _counterparts(vlan: Vlan, wanted: tuple[Vlan, ...], shown: tuple[Vlan, ...]) -> tuple[Vlan, ...]:
    """Return the shown entries to hold against ``vlan``: those of its VID, or the one of a pair of single entries."""
    same = tuple(other for other in shown if other.vid == vlan.vid)
    return same or (shown if len(wanted) == len(shown) == 1 else ())


def _tags(vlans: tuple[Vlan, ...]) -> list[tuple[int, int]]:
    return sorted((vlan.vid, vlan.qos) for vlan in vlans)


def _difference(attribute: Attribute, wanted: str, shown: str | None) -> Difference:
    kind = DifferenceKind.NOT_SHOWN if shown is None else DifferenceKind.DIFFERS
    return Difference(attribute=attribute, wanted=wanted, shown=shown, kind=kind)


def _text(value: object) -> str:
    if isinstance(value, LinkState):
        return value.value
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _rate_text(rate: int) -> str:
    return f"{rate} Mbit/s" if rate else "none"


def _vlans_text(vlans: tuple[Vlan, ...]) -> str:
    tags = [f"{vid} qos {qos}" if qos else str(vid) for vid, qos in _tags(vlans)]
    return ", ".join(tags) if tags else "none"
