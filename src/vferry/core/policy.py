# SPDX-License-Identifier: Apache-2.0
"""The destination's policy: what may be granted to a VF on this host, whatever a record asks for.

.. code-block:: toml

    [allow]
    trust = false               # trust may not be on
    spoofchk_off = false        # spoofchk may not be off
    vlans = [5, "100-199"]      # no other VLAN
    untagged = false            # a VF without a VLAN is refused
    vlan_protocols = ["802.1Q"] # no 802.1ad
    max_tx_rate = 2500          # Mbit/s; a VF without a limit, or with a higher one, is refused
    min_tx_rate = 0             # Mbit/s; no higher guarantee
    rss_query = false           # the guest may not read the RSS table

    [shared]
    macs = ["00:00:5e:00:01:0a"] # may stand on two VFs on purpose (VRRP)

**An absent key allows everything**: without a policy file, the operator at the shell decides. That loses nothing,
because a record never widens the file: each key is a bound that only this file can move, and a key that vferry does
not know is refused instead of ignored, so a misspelt bound cannot be mistaken for one that holds.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from vferry.core.errors import UsageError
from vferry.core.model import U32, Mac, VlanProtocol

__all__ = ["Policy", "PolicyError", "VlanRange", "parse_policy"]


class PolicyError(UsageError):
    """The policy file cannot be used.

    :param key: the key concerned (``allow.trust``); empty for the file as a whole.
    """

    def __init__(self, why: str, *, key: str = "") -> None:
        where = f" at {key}" if key else ""
        super().__init__(f"the policy cannot be used{where}", why=why, next_step="correct the policy file")
        self.key = key

    def to_dict(self) -> dict[str, object]:
        """Return the error as JSON-ready data, with the key."""
        return {**super().to_dict(), **({"key": self.key} if self.key else {})}


class VlanRange(msgspec.Struct, frozen=True, kw_only=True):
    """VLAN identifiers from ``first`` to ``last``, both included."""

    first: int
    last: int

    def __contains__(self, vid: object) -> bool:
        return isinstance(vid, int) and self.first <= vid <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What may be granted on this host; the defaults allow everything."""

    trust: bool = True
    spoofchk_off: bool = True
    vlans: tuple[VlanRange, ...] | None = None
    """None: any VLAN; empty: none at all."""
    untagged: bool = True
    """VLAN 0 (a priority tag) counts as untagged: both are the network without a VLAN."""
    vlan_protocols: tuple[str, ...] | None = None
    max_tx_rate: int | None = None
    """Mbit/s. A VF without a limit exceeds every limit."""
    min_tx_rate: int | None = None
    """Mbit/s."""
    rss_query: bool = True
    shared_macs: frozenset[str] = frozenset()

    def allows_vlan(self, vid: int) -> bool:
        """Return whether a VF may be on VLAN ``vid``; VLAN 0 is a question of :attr:`untagged`."""
        if vid == 0:
            return self.untagged
        return self.vlans is None or any(vid in allowed for allowed in self.vlans)

    def allows_protocol(self, protocol: str) -> bool:
        """Return whether a VF's VLAN may have this protocol."""
        return self.vlan_protocols is None or protocol in self.vlan_protocols


_ALLOW: dict[str, Any] = {
    "trust": bool,
    "spoofchk_off": bool,
    "vlans": tuple[int | str, ...],
    "untagged": bool,
    "vlan_protocols": tuple[VlanProtocol, ...],
    # A limit of 0 would read as "no limit" in the kernel's words and as "nothing" in the file's: refused.
    "max_tx_rate": Annotated[int, msgspec.Meta(ge=1, le=0xFFFF_FFFF)],
    "min_tx_rate": U32,
    "rss_query": bool,
}

_SHARED: dict[str, Any] = {"macs": tuple[str, ...]}


def parse_policy(text: str) -> Policy:
    """Return the policy in a TOML text.

    :raise PolicyError: it is no TOML, has an unknown key, or a value of the wrong type or range.
    """
    import tomllib  # noqa: PLC0415 -- only a host that has a policy file pays for it

    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PolicyError(f"not TOML: {error}") from error
    _refuse_unknown(document, ("allow", "shared"), "")
    allow = _table(document, "allow", _ALLOW)
    shared = _table(document, "shared", _SHARED)
    if "vlans" in allow:
        allow["vlans"] = tuple(_vlan_range(entry) for entry in allow["vlans"])
    return Policy(**allow, shared_macs=frozenset(_mac(entry) for entry in shared.get("macs", ())))


def _table(document: dict[str, Any], name: str, types: dict[str, Any]) -> dict[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise PolicyError("it is no table", key=name)
    _refuse_unknown(table, tuple(types), f"{name}.")
    return {key: _value(value, types[key], f"{name}.{key}") for key, value in table.items()}


def _refuse_unknown(table: dict[str, Any], known: tuple[str, ...], prefix: str) -> None:
    for key in table:
        if key not in known:
            raise PolicyError(f"unknown key; known are {', '.join(known)}", key=prefix + key)


def _value(value: object, expected: Any, key: str) -> Any:
    try:
        return msgspec.convert(value, expected)
    except msgspec.ValidationError as error:
        raise PolicyError(str(error), key=key) from error


def _vlan_range(entry: int | str) -> VlanRange:
    first, dash, last = str(entry).partition("-")
    numbers = (first, last if dash else first)
    if not all(number.isascii() and number.isdecimal() and len(number) <= 4 for number in numbers):
        raise PolicyError(f"{entry!r} is neither a VLAN nor a range as '100-199'", key="allow.vlans")
    low, high = (int(number) for number in numbers)
    if not 1 <= low <= high <= 4094:
        raise PolicyError(f"{entry!r}: VLANs go from 1 to 4094, the lower first", key="allow.vlans")
    return VlanRange(first=low, last=high)


def _mac(entry: str) -> str:
    mac: str = _value(entry.lower(), Mac, "shared.macs")
    return mac
