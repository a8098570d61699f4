# SPDX-License-Identifier: Apache-2.0
"""Findings: what a check has to say, as data."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from vferry.core.model import Attribute

__all__ = ["Finding", "Severity", "has_errors"]


class Severity(enum.Enum):
    """How much a finding matters."""

    ERROR = "error"
    """The verb is refused."""
    WARNING = "warning"
    """The verb goes on; somebody should know."""
    INFO = "info"
    """A fact worth printing."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing a check found."""

    severity: Severity
    code: str
    """A stable name, lower case with hyphens (``mtu-smaller``); listed in ``docs/findings.md``."""
    why: str
    """What is the matter, in words, with the numbers."""
    remedy: str = ""
    """What a person can do about it."""
    attribute: Attribute | None = None
    """The setting concerned; ``--accept-loss`` takes this name where the finding is a loss."""
    pf: str | None = None
    vf: int | None = None
    saved: str | None = None
    """The saved VF concerned, by its name in the record."""
    accepted: bool = False
    """True: this is a loss that the operator accepted (severity is then INFO)."""


def has_errors(findings: Iterable[Finding]) -> bool:
    """Return whether any finding refuses the verb."""
    return any(finding.severity is Severity.ERROR for finding in findings)
