# SPDX-License-Identifier: Apache-2.0
"""A VF's settings one by one, in the order in which the kernel applies them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from vferry.core.model import AdminState, Attribute

__all__ = ["FIELD_OF", "SETTERS", "fields_of", "merged", "only", "split_before", "without"]

SETTERS: tuple[str, ...] = (
    "mac",
    "vlans",
    "rate",
    "spoofchk",
    "link_state",
    "rss_query",
    "trust",
    "node_guid",
    "port_guid",
)
"""Fields of :class:`AdminState` in the order of ``do_setvfinfo()``."""

FIELD_OF: dict[Attribute, str] = {
    Attribute.MAC: "mac",
    Attribute.VLANS: "vlans",
    Attribute.VLAN_PROTO: "vlans",
    Attribute.MIN_TX_RATE: "rate",
    Attribute.MAX_TX_RATE: "rate",
    Attribute.SPOOFCHK: "spoofchk",
    Attribute.LINK_STATE: "link_state",
    Attribute.RSS_QUERY: "rss_query",
    Attribute.TRUST: "trust",
    Attribute.NODE_GUID: "node_guid",
    Attribute.PORT_GUID: "port_guid",
}
"""The field that carries an attribute; two attributes may share one."""


def fields_of(state: AdminState) -> tuple[str, ...]:
    """Return the fields that ``state`` has, in the kernel's order."""
    return tuple(field for field in SETTERS if getattr(state, field) is not None)


def only(state: AdminState, fields: Iterable[str]) -> AdminState:
    """Return ``state`` with nothing but ``fields``."""
    return AdminState(**{field: getattr(state, field) for field in fields})


def merged(state: AdminState, change: AdminState) -> AdminState:
    """Return ``state`` with everything that ``change`` has laid over it."""
    return msgspec.structs.replace(state, **{field: getattr(change, field) for field in fields_of(change)})


def split_before(change: AdminState, attribute: Attribute) -> tuple[AdminState, AdminState]:
    """Split ``change`` into what the kernel applies before ``attribute``, and the rest (with ``attribute``)."""
    at = SETTERS.index(FIELD_OF[attribute])
    return only(change, SETTERS[:at]), only(change, SETTERS[at:])


def without(state: AdminState, attribute: Attribute) -> AdminState:
    """Return a reading that does not report ``attribute``.

    Without :attr:`Attribute.VLAN_PROTO` the VLANs stay and lose their protocol; the two rates come and go together.
    """
    if attribute is Attribute.VLAN_PROTO:
        if state.vlans is None:
            return state
        bare = tuple(msgspec.structs.replace(vlan, proto=None) for vlan in state.vlans)
        return msgspec.structs.replace(state, vlans=bare)
    return msgspec.structs.replace(state, **{FIELD_OF[attribute]: None})
