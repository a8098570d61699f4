# SPDX-License-Identifier: Apache-2.0
"""Rules about the values themselves: VLANs and rates that cannot be as the record has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vferry.core.model import Attribute, Rate
from vferry.core.rules.case import Case, Issue, Wanted
from vferry.core.rules.codes import Code

__all__ = [
    "link_speed_unknown",
    "max_rate_above_link_speed",
    "min_above_max",
    "min_rate_above_link_speed",
    "some",
    "vlan_in_use",
    "vlan_list_too_long",
    "with_rate",
    "without_vlans",
]


def vlan_list_too_long(case: Case) -> Iterator[Issue]:
    """Refuse more VLANs than the kernel or the driver takes for one VF."""
    table = case.target.capabilities
    limit = 1 if table is None else table.max_vlans
    vlans = case.wanted.admin.vlans or ()
    if len(vlans) > limit and case.differing & {Attribute.VLANS, Attribute.VLAN_PROTO}:
        yield case.error(
            Code.VLAN_LIST_TOO_LONG,
            f"{case.saved.name} has {len(vlans)} VLANs, and a VF of {case.target.pf.name} takes {limit}",
            "choose a PF that takes as many",
            attribute=Attribute.VLANS,
            lose=without_vlans,
            instead="the VF has no VLAN, so it is on the untagged network",
        )


def without_vlans(case: Case) -> Wanted:
    """Return what is wanted with no VLAN at all."""
    return case.keep(vlans=())


def vlan_in_use(case: Case) -> Iterator[Issue]:
    """Say which neighbours are on the same VLAN: normal, and worth a look."""
    vids = frozenset(vlan.vid for vlan in case.wanted.admin.vlans or () if vlan.vid)
    sharers: dict[int, list[str]] = {}
    for vf in case.neighbours:
        for vid in vids & vf.vids:
            sharers.setdefault(vid, []).append(f"{case.target.pf.name}/{vf.index}")
    for vid, names in sorted(sharers.items()):
        yield case.info(Code.VLAN_IN_USE, f"VLAN {vid} is also that of {some(names)}", attribute=Attribute.VLANS)


def some(names: Sequence[str]) -> str:
    """Return the first few names in words, and how many more there are."""
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def with_rate(case: Case, *, min_tx: int | None = None, max_tx: int | None = None) -> Wanted:
    """Return what is wanted with a part of the rate changed; a rate that nobody named counts as 0 and 0."""
    rate = case.wanted.admin.rate or case.shown.rate or Rate(min_tx=0, max_tx=0)
    changed = Rate(min_tx=rate.min_tx if min_tx is None else min_tx, max_tx=rate.max_tx if max_tx is None else max_tx)
    return case.keep(rate=changed)


def min_above_max(case: Case) -> Iterator[Issue]:
    """Refuse a guarantee above the limit; the kernel does too."""
    rate = case.wanted.admin.rate
    if rate is not None and rate.max_tx and rate.min_tx > rate.max_tx:
        yield case.error(
            Code.MIN_ABOVE_MAX,
            f"{case.saved.name} has a guaranteed rate of {rate.min_tx} Mbit/s above its limit of {rate.max_tx} Mbit/s",
            f"correct it on the source: 'ip link set dev {case.saved.pf.name} vf {case.saved.facts.index} "
            "max_tx_rate N min_tx_rate N', and save again",
            attribute=Attribute.MIN_TX_RATE,
            lose=lambda case: with_rate(case, min_tx=0),
            instead="no rate is guaranteed",
        )


def max_rate_above_link_speed(case: Case) -> Iterator[Issue]:
    """Refuse a limit above what the link carries: drivers do, and it would limit nothing."""
    rate, speed = case.wanted.admin.rate, case.target.pf.speed
    if rate is None or speed is None or rate.max_tx <= speed or Attribute.MAX_TX_RATE not in case.differing:
        return
    yield case.error(
        Code.RATE_ABOVE_LINK_SPEED,
        f"the limit of {rate.max_tx} Mbit/s is above the link speed of {case.target.pf.name}, {speed} Mbit/s",
        "choose a faster PF",
        attribute=Attribute.MAX_TX_RATE,
        lose=lambda case: with_rate(case, max_tx=0),
        instead="the VF has no limit",
    )


def min_rate_above_link_speed(case: Case) -> Iterator[Issue]:
    """Refuse a guarantee above what the link carries: nobody can keep it."""
    rate, speed = case.wanted.admin.rate, case.target.pf.speed
    if rate is None or speed is None or rate.min_tx <= speed or Attribute.MIN_TX_RATE not in case.differing:
        return
    yield case.error(
        Code.RATE_ABOVE_LINK_SPEED,
        f"the guarantee of {rate.min_tx} Mbit/s is above the link speed of {case.target.pf.name}, {speed} Mbit/s",
        "choose a faster PF",
        attribute=Attribute.MIN_TX_RATE,
        lose=lambda case: with_rate(case, min_tx=0),
        instead="no rate is guaranteed",
    )


def link_speed_unknown(case: Case) -> Iterator[Issue]:
    """Say that a rate could not be held against the link speed."""
    rate = case.wanted.admin.rate
    differing = case.differing & {Attribute.MIN_TX_RATE, Attribute.MAX_TX_RATE}
    if case.target.pf.speed is None and differing and rate is not None and (rate.max_tx or rate.min_tx):
        why = f"the link speed of {case.target.pf.name} is not known: a rate that it cannot carry would be refused late"
        yield case.info(Code.LINK_SPEED_UNKNOWN, why, attribute=Attribute.MAX_TX_RATE)
