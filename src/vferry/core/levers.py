# SPDX-License-Identifier: Apache-2.0
"""The lever matrix: what each lever covers on each kind of NIC, and what its undo costs.

Data, with its source; nothing here was seen on silicon unless the source says so. A kind of NIC is named by PCI
vendor:device and driver; :data:`ANY` holds for NICs that have no rows of their own, and claims only what the meaning
of the kernel's interface says.
"""

from __future__ import annotations

from vferry.core.fence import Column, Lever, LeverRow, UndoCost
from vferry.core.model import PfFacts

__all__ = ["ANY", "LEVERS", "lever_rows"]

_INTERFACE = "meaning of IFLA_VF_* in if_link.h; the data path of this NIC was not observed"

ANY = (
    LeverRow(
        lever=Lever.PARKING_MAC,
        covers=frozenset({Column.ADMIN_UNICAST}),
        needs=frozenset({Lever.TRUST_OFF}),
        undo_cost=UndoCost.NONE,
        loses="a MAC that the guest had chosen itself becomes an administrative one",
        source=_INTERFACE,
    ),
    LeverRow(lever=Lever.TRUST_OFF, covers=frozenset(), undo_cost=UndoCost.NONE, source=_INTERFACE),
)
"""Any NIC: only the one thing that every PF driver means by an administrative MAC."""

_IGB = "QEMU igb (82576), Linux 6.12, frames captured in the lab, November 2026; never on silicon"

LEVERS: dict[tuple[str | None, str | None, str], tuple[LeverRow, ...]] = {
    ("8086", "10c9", "igb"): (
        LeverRow(
            lever=Lever.PARKING_MAC,
            covers=frozenset({Column.ADMIN_UNICAST}),
            needs=frozenset({Lever.TRUST_OFF}),
            undo_cost=UndoCost.NONE,
            loses="a MAC that the guest had chosen itself becomes an administrative one",
            source=_IGB,
        ),
        LeverRow(lever=Lever.TRUST_OFF, covers=frozenset(), undo_cost=UndoCost.NONE, source=_IGB),
    ),
}
"""Kinds of NIC whose levers were observed or read in the driver's source."""


def lever_rows(pf: PfFacts) -> tuple[LeverRow, ...]:
    """Return what each lever does on the kind of NIC that ``pf`` is."""
    return LEVERS.get((pf.vendor, pf.device_id, pf.driver or ""), ANY)
