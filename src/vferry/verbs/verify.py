# SPDX-License-Identifier: Apache-2.0
"""``verify``: compare VFs with a record, change nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vferry.core.compare import Difference, DifferenceKind, differences
from vferry.core.errors import FailedError
from vferry.core.findings import Finding, Severity
from vferry.core.model import AdminState, Attribute, FunctionState, PciState
from vferry.core.record import Record, SavedVf
from vferry.verbs.check import CheckRefusedError, Pair, Terms, check_places
from vferry.verbs.context import Context
from vferry.verbs.places import Place, survey

__all__ = ["RestoredVf", "VerifyFailedError", "VerifyReport", "pci_in_words", "verify"]


class RestoredVf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one saved VF."""

    saved: str
    vf: str
    admin: AdminState
    """Read back."""
    changed: bool
    not_shown: tuple[Difference, ...] = ()
    """Accepted by the driver, which does not report it: it cannot be verified."""
    pci: str = ""
    """What was done about the VF's PCI words."""


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How VFs compare with a record."""

    vfs: tuple[RestoredVf, ...]
    differences: tuple[str, ...] = ()
    losses: tuple[Finding, ...] = ()


class VerifyFailedError(FailedError):
    """A VF is not what the record says.

    :param report: everything that was compared.
    """

    def __init__(self, report: VerifyReport, *, host: str) -> None:
        super().__init__(
            "verify the VFs against the record",
            host=host,
            why="; ".join(report.differences),
            next_step="'vferry restore' with the same arguments sets what differs",
        )
        self.report = report

    def to_dict(self) -> dict[str, object]:
        """Return the error as JSON-ready data, with all that was compared."""
        return {**super().to_dict(), **msgspec.to_builtins(self.report)}


def verify(context: Context, record: Record, pairs: Sequence[Pair], terms: Terms) -> VerifyReport:
    """Compare VFs with a record; changes nothing.

    A MAC that nobody declared is compared as it was read: it is only never made an administrative one.

    :raise VerifyFailedError: something differs, or is known not to be held.
    :raise CheckRefusedError: the driver offers no VF settings, so nothing can be compared.
    :raise NicError: a PF cannot be read.
    """
    places = survey(context, [ref for _, ref in pairs])
    preflight = check_places(record, pairs, places, terms)
    if preflight.refused and not all(place.pf_reading.has_settings for place in places):
        raise CheckRefusedError(preflight, host=places[0].host.hostname)
    not_held = {(f.saved, f.attribute) for f in preflight.findings if f.severity is Severity.ERROR}
    found: list[str] = []
    vfs: list[RestoredVf] = []
    for (saved, _), place, wanted, function in zip(
        pairs, places, preflight.wanted, preflight.wanted_function, strict=True
    ):
        compared = differences(_expected(saved, wanted, terms), place.reading.admin)
        hidden = [
            d for d in compared if d.kind is DifferenceKind.NOT_SHOWN and (saved.name, d.attribute) not in not_held
        ]
        found += [_in_words(place, d) for d in compared if d not in hidden]
        found += _function_differences(context, place, function)
        vfs.append(
            RestoredVf(
                saved=saved.name,
                vf=str(place.ref),
                admin=place.reading.admin,
                changed=False,
                not_shown=tuple(hidden),
                pci=pci_in_words(saved.pci, context.nic.read_pci(*place.ref), written=False),
            )
        )
    report = VerifyReport(vfs=tuple(vfs), differences=tuple(found), losses=preflight.losses)
    if found:
        raise VerifyFailedError(report, host=places[0].host.hostname)
    return report


def _expected(saved: SavedVf, wanted: AdminState, terms: Terms) -> AdminState:
    if wanted.mac is not None or Attribute.MAC in terms.accept_loss:
        return wanted
    return msgspec.structs.replace(wanted, mac=saved.admin.mac)


def pci_in_words(saved: PciState | None, shown: PciState | None, *, written: bool) -> str:
    """Say what became of a VF's PCI words; empty where there are none."""
    if saved is None or shown is None:
        return ""
    if saved == shown:
        return "written and read back" if written else "as saved"
    words = f"COMMAND {shown.command:#06x} (saved {saved.command:#06x})"
    if saved.msix_control is not None and shown.msix_control is not None:
        words += f", MSI-X control {shown.msix_control:#06x} (saved {saved.msix_control:#06x})"
    return f"written, reads {words}" if written else f"left to the VF's driver: {words}"


def _in_words(place: Place, difference: Difference) -> str:
    shown = "not held here" if difference.shown is None else difference.shown
    return f"{place.ref} {difference.attribute.value} is {shown}, the record says {difference.wanted}"


def _function_differences(context: Context, place: Place, wanted: FunctionState | None) -> list[str]:
    if wanted is None:
        return []
    shown = context.nic.read_function(*place.ref) or FunctionState()
    pairs = {name: (getattr(wanted, name), getattr(shown, name)) for name in wanted.__struct_fields__}
    return [
        f"{place.ref} function {name} is {is_now}, the record says {want}"
        for name, (want, is_now) in pairs.items()
        if want is not None and want != is_now
    ]
