# SPDX-License-Identifier: Apache-2.0
"""What a rule sees, and what it says.

A rule is a function from a :class:`Case`, one saved VF and the VF that it is to land on, to :class:`Issue` s. It
changes nothing: the check applies the losses that the operator accepted, and the next rule sees what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from vferry.core.capability import CapabilityTable
from vferry.core.compare import differences
from vferry.core.findings import Finding, Severity
from vferry.core.model import AdminState, Attribute, EswitchMode, FunctionState, PfFacts, PfReading, VfFacts
from vferry.core.policy import Policy
from vferry.core.record import SavedVf

__all__ = ["Case", "Issue", "Occupant", "Rule", "Target", "Wanted", "is_zero"]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The VF of this host that a saved one is to land on, as it is now."""

    pf: PfFacts
    vf: VfFacts
    reading: PfReading
    """One reading of the PF with all its VFs."""
    capabilities: CapabilityTable | None
    """What was learned of this kind of PF; None: nothing."""
    capability_exact: bool
    """False: the table was learned with another release of the kernel or the driver."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What restore is to program, as far as the rules have come."""

    admin: AdminState
    function: FunctionState | None


class Occupant(msgspec.Struct, frozen=True, kw_only=True):
    """One VF of a PF as it will be once every pair of the check is restored."""

    index: int
    saved: str | None
    """The saved VF that lands here; None: the VF is no part of this check."""
    macs: frozenset[str]
    vids: frozenset[int]


Loss = Callable[["Case"], Wanted]


class Issue(msgspec.Struct, frozen=True, kw_only=True):
    """A finding, and what is left of the wanted settings if the operator accepts the loss."""

    finding: Finding
    lose: Loss | None = None
    """None: nothing can be left out to make this go away."""
    instead: str = ""
    """What an accepted loss means, in words."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One saved VF, its target, and what the rules have made of them so far."""

    saved: SavedVf
    target: Target
    policy: Policy
    wanted: Wanted
    shown: AdminState
    """The target VF's settings as they read now."""
    occupants: Mapping[str, tuple[Occupant, ...]] = {}
    """By bus address of the PF; shared by all cases of a check."""
    found: tuple[Finding, ...] = ()

    @property
    def differing(self) -> frozenset[Attribute]:
        """The attributes that do not read as wanted yet."""
        return frozenset(difference.attribute for difference in differences(self.wanted.admin, self.shown))

    @property
    def neighbours(self) -> tuple[Occupant, ...]:
        """The other VFs of the target's PF."""
        index = self.target.vf.index
        return tuple(vf for vf in self.occupants.get(self.target.pf.device, ()) if vf.index != index)

    @property
    def mtu(self) -> int | None:
        """The target PF's MTU."""
        return self.target.pf.mtu if self.target.reading.mtu is None else self.target.reading.mtu

    @property
    def target_mode(self) -> EswitchMode:
        """The target PF's eswitch mode; a driver without an eswitch knows only the legacy way."""
        return self.target.pf.eswitch_mode or EswitchMode.LEGACY

    def keep(self, **changes: object) -> Wanted:
        """Return what is wanted with some settings of the VF changed (None: not programmed)."""
        admin = msgspec.structs.replace(self.wanted.admin, **changes)
        return msgspec.structs.replace(self.wanted, admin=admin)

    def error(
        self,
        code: str,
        why: str,
        remedy: str,
        *,
        attribute: Attribute | None = None,
        lose: Loss | None = None,
        instead: str = "",
    ) -> Issue:
        """Return an issue that refuses the verb; with ``lose``, ``--accept-loss`` is named as a way out."""
        if lose is not None and attribute is not None:
            remedy += f"; or accept the loss with '--accept-loss {attribute.value}': {instead}"
        finding = self._finding(Severity.ERROR, code, why, remedy, attribute)
        return Issue(finding=finding, lose=lose, instead=instead)

    def warning(self, code: str, why: str, remedy: str, *, attribute: Attribute | None = None) -> Issue:
        """Return an issue that somebody should know of."""
        return Issue(finding=self._finding(Severity.WARNING, code, why, remedy, attribute))

    def info(
        self, code: str, why: str, remedy: str = "", *, attribute: Attribute | None = None, lose: Loss | None = None
    ) -> Issue:
        """Return a fact worth printing; with ``lose``, a setting that nothing is lost with is left out."""
        return Issue(finding=self._finding(Severity.INFO, code, why, remedy, attribute), lose=lose)

    def _finding(self, severity: Severity, code: str, why: str, remedy: str, attribute: Attribute | None) -> Finding:
        return Finding(
            severity=severity,
            code=str(code),
            why=why,
            remedy=remedy,
            attribute=attribute,
            pf=self.target.pf.name,
            vf=self.target.vf.index,
            saved=self.saved.name,
        )


Rule = Callable[[Case], Iterable[Issue]]


def is_zero(address: str) -> bool:
    """Return whether a MAC or GUID has no bit set."""
    return set(address) <= {"0", ":"}
