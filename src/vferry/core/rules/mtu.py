# SPDX-License-Identifier: Apache-2.0
"""Rules about frame sizes: a guest that sends larger frames than the destination takes loses them silently.

An MTU is no setting of a VF, so it cannot be left out: the PFs' MTUs stand for what the guest may use, unless the
operator declares the VM's own.

The jumbo rule (the 82599's ``ixgbe_set_vf_lpe()``): a PF with an MTU above 1500 receives for a VF only once the VF has
asked for its frame size over mailbox API 1.1 or later; a PF with at most 1500 stops receiving for a VF that asks for
more than 1518 octets.
"""

from __future__ import annotations

from collections.abc import Iterator

from vferry.core.rules.case import Case, Issue
from vferry.core.rules.codes import Code

__all__ = ["frame_size", "jumbo_session", "mtu_unknown"]

STANDARD_MTU = 1500
FRAME_OVERHEAD = 18
"""Ethernet header (14) and frame check sequence (4), octets."""


def mtu_unknown(case: Case) -> Iterator[Issue]:
    """Warn where the MTUs cannot be compared."""
    largest = _largest(case)
    if largest is not None and case.mtu is not None:
        return
    missing = [f"the MTU of {case.target.pf.name}"] if case.mtu is None else []
    if largest is None:
        missing.append(f"the MTU of the source PF {case.saved.pf.name}")
    why = f"{' and '.join(missing)} is not known, so frame sizes cannot be compared"
    yield case.warning(Code.MTU_UNKNOWN, why, f"compare them by hand, or {_declare(case)}")


def frame_size(case: Case) -> Iterator[Issue]:
    """Refuse an MTU at the destination that is smaller than what the guest may use."""
    largest, mtu = _largest(case), case.mtu
    if largest is None or mtu is None or largest <= mtu:
        return
    pf = case.target.pf.name
    remedy = f"'ip link set dev {pf} mtu {largest}'"
    if case.saved.declared.mtu is None:
        remedy += f"; or, if the VM uses no more than {mtu}, {_declare(case)}"
    if _jumbo_rule(case) and mtu <= STANDARD_MTU < largest:
        yield case.error(Code.MTU_JUMBO_RULE, _cut_off(case, largest, mtu), remedy)
    else:
        why = f"{pf} has MTU {mtu}, and {_user(case)} {largest}: larger frames would be dropped"
        yield case.error(Code.MTU_SMALLER, why, remedy)


def _cut_off(case: Case, largest: int, mtu: int) -> str:
    limit = STANDARD_MTU + FRAME_OVERHEAD
    return (
        f"{case.target.pf.name} has MTU {mtu}, and {_user(case)} {largest}: this NIC stops receiving for a VF "
        f"that asks for frames of {largest + FRAME_OVERHEAD} octets (more than {limit}) under such a PF"
    )


def jumbo_session(case: Case) -> Iterator[Issue]:
    """Refuse a jumbo PF for a VF that has never agreed on jumbo frames, where the NIC has the jumbo rule.

    Whether it can agree depends on the guest driver's mailbox API, which Linux does not tell. So it is refused unless
    the operator has looked at the guest, which declaring its MTU says; then it is a warning.
    """
    source, mtu = case.saved.pf.mtu, case.mtu
    if not _jumbo_rule(case) or source is None or mtu is None or not source <= STANDARD_MTU < mtu:
        return
    pf = case.target.pf.name
    why = (
        f"{pf} has MTU {mtu}, and the source PF has {source}: this NIC receives nothing for the VF until the guest's "
        "driver asks for its frame size again, and never for a driver with mailbox API 1.0"
    )
    if case.saved.declared.mtu is not None:
        yield case.warning(Code.MTU_JUMBO_SESSION, why, "reset the VF in the guest if it receives nothing")
    else:
        remedy = (
            f"'ip link set dev {pf} mtu {source}'; or, if the guest's driver speaks mailbox API 1.1 or later, "
            f"{_declare(case)}"
        )
        yield case.error(Code.MTU_JUMBO_SESSION, why, remedy)


def _largest(case: Case) -> int | None:
    """Return the largest MTU that the guest may be using."""
    return case.saved.pf.mtu if case.saved.declared.mtu is None else case.saved.declared.mtu


def _user(case: Case) -> str:
    return f"the source PF {case.saved.pf.name}" if case.saved.declared.mtu is None else "the VM was declared to use"


def _declare(case: Case) -> str:
    return f"declare the VM's MTU: 'vferry save --mtu {case.saved.name}=N'"


def _jumbo_rule(case: Case) -> bool:
    table = case.target.capabilities
    return table is not None and table.jumbo_rule
