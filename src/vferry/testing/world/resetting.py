# SPDX-License-Identifier: Apache-2.0
"""A NIC whose PF driver resets a VF whenever it gets another MAC, and says that it is of that kind."""

from __future__ import annotations

import errno
from collections.abc import Mapping

import msgspec

from vferry.core.model import ZERO_MAC, AdminState, PfFacts
from vferry.ports.clock import Clock
from vferry.ports.nic import ArmedRequest, Nic, NicError
from vferry.testing.fault_nic import FaultNic
from vferry.testing.faults import ErrnoFault

__all__ = ["ResettingNic"]

LIKE = "i40e"
"""The driver whose lever rows say that a MAC costs a reset (:data:`vferry.core.levers.LEVERS`)."""


class ResettingNic(FaultNic):
    """Any NIC as i40e would be: a new MAC resets the VF, whose filters are then made from what the PF holds."""

    def __init__(self, inner: Nic, clock: Clock) -> None:
        super().__init__(inner, [ErrnoFault(at_call=9, number=errno.EBUSY)], clock=clock)

    def pfs(self) -> tuple[PfFacts, ...]:
        """Return every PF."""
        return tuple(map(_disguised, super().pfs()))

    def pf(self, pf: str) -> PfFacts:
        """Return the facts of one PF."""
        return _disguised(super().pf(pf))

    def arm(self, pf: str, changes: Mapping[int, AdminState]) -> ArmedRequest:
        """Encode a change; nothing of vferry's migrations sends one this way."""
        self._reset(pf, changes)
        return super().arm(pf, changes)

    def program(self, pf: str, changes: Mapping[int, AdminState]) -> Mapping[int, NicError | None]:
        """Reset every VF that gets another MAC, then set everything."""
        self._reset(pf, changes)
        return super().program(pf, changes)

    def _reset(self, pf: str, changes: Mapping[int, AdminState]) -> None:
        shown = {vf.index: vf.admin.mac for vf in self.inner.read(pf).vfs}
        for vf, change in changes.items():
            # An 82599 cannot lose a MAC that a reset has taken out already, as i40e can: none at all means no reset.
            if change.mac not in (None, ZERO_MAC, shown.get(vf)):
                self.inner.reset_vf(pf, vf)


def _disguised(facts: PfFacts) -> PfFacts:
    return msgspec.structs.replace(facts, driver=LIKE)
