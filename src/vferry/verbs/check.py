# SPDX-License-Identifier: Apache-2.0
"""``check``: may these records live on these VFs? Reads, compares, changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vferry.core.capability import CapabilityTable, capability_key, find_table
from vferry.core.errors import RefusedError
from vferry.core.findings import Finding, Severity
from vferry.core.model import Attribute
from vferry.core.policy import Policy
from vferry.core.preflight import Preflight, Target, check
from vferry.core.record import Record, SavedVf
from vferry.verbs.context import Context, VfRef
from vferry.verbs.places import Place, survey

__all__ = ["CheckRefusedError", "Pair", "Terms", "check_places", "check_record", "target_of"]

Pair = tuple[SavedVf, VfRef]
"""A saved VF and the VF that it is to live on."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a destination allows and knows."""

    policy: Policy
    accept_loss: frozenset[Attribute] = frozenset()
    tables: tuple[CapabilityTable, ...] = ()


class CheckRefusedError(RefusedError):
    """The destination cannot hold the record; nothing was changed.

    :param preflight: all findings.
    """

    def __init__(self, preflight: Preflight, *, host: str) -> None:
        errors = [finding for finding in preflight.findings if finding.severity is Severity.ERROR]
        first = errors[0]
        super().__init__(
            "restore the record here",
            host=host,
            pf=first.pf,
            vf=first.vf,
            why="; ".join(finding.why for finding in errors),
            next_step=first.remedy,
        )
        self.preflight = preflight

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, errors and others."""
        return self.preflight.findings

    def to_dict(self) -> dict[str, object]:
        """Return the error as JSON-ready data, with its findings."""
        return {**super().to_dict(), "findings": msgspec.to_builtins(self.findings)}


def check_record(context: Context, record: Record, pairs: Sequence[Pair], terms: Terms) -> Preflight:
    """Check a record against the VFs it is to live on.

    :raise NicError: a PF cannot be read.
    """
    return check_places(record, pairs, survey(context, [ref for _, ref in pairs]), terms)


def check_places(record: Record, pairs: Sequence[Pair], places: Sequence[Place], terms: Terms) -> Preflight:
    """Check a record against VFs that were surveyed already, in the order of ``pairs``."""
    targets = [(saved, target_of(place, terms.tables)) for (saved, _), place in zip(pairs, places, strict=True)]
    return check(record, targets, policy=terms.policy, accept_loss=terms.accept_loss)


def target_of(place: Place, tables: tuple[CapabilityTable, ...]) -> Target:
    """Return a VF as the pure check sees it."""
    key = capability_key(place.host, place.pf)
    table = find_table(key, tables)
    return Target(
        pf=place.pf,
        vf=place.facts,
        reading=place.pf_reading,
        capabilities=table,
        capability_exact=table is not None and table.key == key,
    )
