# SPDX-License-Identifier: Apache-2.0
"""Bring the VFs of one PF to what is wanted: read, send what differs, read again.

A driver may refuse, be busy, answer too late, reset the VF, or accept and show something else. The loop ends when
every VF reads as wanted, when a driver refuses, or when patience is over. It never guesses: what a request did is
always learned by reading. Every reading is held against the first one: where the PF's driver was reloaded meanwhile,
nothing more is sent.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

import msgspec

from vferry.core.compare import Difference, DifferenceKind, change_needed, differences
from vferry.core.fence import parking_mac
from vferry.core.model import ZERO_MAC, AdminState, PfReading
from vferry.ports.nic import (
    MAX_LISTED_VFS,
    BusyError,
    IncompleteReadingError,
    NicError,
    NoSuchFunctionError,
    UnknownOutcomeError,
)
from vferry.verbs.context import Context

__all__ = ["PASSING", "Converged", "ReloadedError", "converge", "read_patiently"]

NOTHING = AdminState()

PASSING = (BusyError, IncompleteReadingError, UnknownOutcomeError)
"""Why a reading may fail and succeed a moment later: a VF in reset may even be missing from it."""


class ReloadedError(NicError):
    """The PF's driver was loaded anew, or its VFs were created anew: their settings are gone."""


class Converged(msgspec.Struct, frozen=True, kw_only=True):
    """How far one VF came."""

    shown: AdminState | None
    """The last reading of the VF; None if it could not be read any more."""
    sent: bool
    """Whether anything was sent for it."""
    error: NicError | None = None
    """Why it is not as wanted."""
    not_shown: tuple[Difference, ...] = ()
    """What the driver accepted and does not report."""


def converge(
    context: Context, pf: str, wanted: Mapping[int, AdminState], *, known: PfReading | None = None
) -> dict[int, Converged]:
    """Make the VFs of ``pf`` read as ``wanted`` says; absent attributes are left alone.

    Errors of single VFs are returned, not raised; the other VFs are brought to what is wanted all the same.

    :param known: an earlier reading, of the same life of the PF's driver; nothing is sent in another one.
    :raise NicError: the first reading failed; nothing was sent.
    """
    loop = _Loop(context, pf, wanted, known)
    loop.begin()
    loop.run()
    return loop.result()


def read_patiently(context: Context, pf: str, *, statistics: bool = False) -> PfReading:
    """Read a PF; while that fails for a reason that passes, try again.

    :raise NicError: the reading failed to the end.
    """
    clock, patience = context.clock, context.patience
    until = clock.monotonic() + patience.busy
    pause = patience.first_pause
    while True:
        try:
            return context.nic.read(pf, statistics=statistics)
        except PASSING as error:
            never = isinstance(error, IncompleteReadingError) and context.nic.pf(pf).num_vfs > MAX_LISTED_VFS
            if never or clock.monotonic() + pause > until:
                raise
        clock.sleep(pause)
        pause = min(pause * 2, patience.longest_pause)


class _Loop:
    def __init__(
        self, context: Context, pf: str, wanted: Mapping[int, AdminState], known: PfReading | None = None
    ) -> None:
        self._context = context
        self._known = known
        self._nic = context.nic
        self._clock = context.clock
        self._patience = context.patience
        self._pf = pf
        self._wanted = dict(wanted)
        self._shown: dict[int, AdminState] = {}
        self._sent: set[int] = set()
        self._accepted: set[int] = set()
        self._detoured: set[int] = set()
        self._errors: dict[int, NicError] = {}
        self._pause = self._patience.first_pause
        self._busy_until = self._clock.monotonic() + self._patience.busy
        self._settle_until: float | None = None

    def begin(self) -> None:
        self._take(read_patiently(self._context, self._pf))

    def run(self) -> None:
        while pending := self._to_send():
            self._send(pending)
            if not self._read_again():
                return
        while self._unsettled() and self._wait(self._settling()):
            if not self._read_again():
                return

    def result(self) -> dict[int, Converged]:
        return {index: self._converged(index) for index in self._wanted}

    def _to_send(self) -> dict[int, AdminState]:
        """What is still to be sent: nothing for a VF whose request was accepted or refused."""
        open_vfs = [index for index in self._wanted if index not in self._accepted and index not in self._errors]
        changes = {index: change_needed(self._wanted[index], self._shown[index]) for index in open_vfs}
        return {index: change for index, change in changes.items() if change != NOTHING}

    def _send(self, pending: Mapping[int, AdminState]) -> None:
        try:
            outcomes: Mapping[int, NicError | None] = self._nic.program(self._pf, pending)
        except NicError as refusal:
            outcomes = dict.fromkeys(pending, refusal)
        self._sent.update(pending)
        busy: dict[int, NicError] = {}
        for index in pending:
            error = self._detoured_outcome(index, outcomes.get(index))
            if error is None:
                continue
            if isinstance(error, BusyError | UnknownOutcomeError):
                busy[index] = error
            else:
                self._errors[index] = error
        if busy and not self._wait(self._busy_until):
            self._errors.update(busy)

    def _detoured_outcome(self, index: int, error: NicError | None) -> NicError | None:
        """Return what became of a request; None: accepted, or to be sent again after a detour.

        A driver that looks for the filter of the old MAC refuses with ENOMEM to take a MAC away whose filter a reset
        has dropped (``ixgbe_ndo_set_vf_mac()``, Linux 6.12): give the VF another one first, whose filter is there.
        """
        if error is None:
            self._accepted.add(index)
            return None
        zero = self._wanted[index].mac == ZERO_MAC and self._shown[index].mac != ZERO_MAC
        if not zero or error.errno != errno.ENOMEM or index in self._detoured:
            return error
        known = self._known
        parking = parking_mac((known and known.permanent_address) or self._pf, index)
        refused = self._nic.program(self._pf, {index: AdminState(mac=parking)}).get(index)
        if refused is None:
            self._detoured.add(index)
        return refused

    def _read_again(self) -> bool:
        """Read until it succeeds or patience is over; False: the VFs' state is unknown."""
        while True:
            try:
                self._take(self._nic.read(self._pf))
            except NicError as error:
                if isinstance(error, NoSuchFunctionError) or not self._wait(self._busy_until):
                    self._shown.clear()
                    self._errors = dict.fromkeys(self._wanted, error)
                    return False
            else:
                return True

    def _take(self, reading: PfReading) -> None:
        self._known = self._known or reading
        if _life(reading) != _life(self._known):
            self._shown.clear()
            self._errors = dict.fromkeys(self._wanted, self._reloaded(reading, self._known))
            return
        shown = {vf.index: vf.admin for vf in reading.vfs}
        for index in self._wanted:
            if index in shown:
                self._shown[index] = shown[index]
            else:
                self._shown[index] = NOTHING
                self._errors[index] = NoSuchFunctionError(
                    "read VF settings", pf=self._pf, vf=index, why=f"the PF shows {len(shown)} VFs now"
                )

    def _reloaded(self, reading: PfReading, known: PfReading) -> NicError:
        return ReloadedError(
            "program VF settings",
            pf=self._pf,
            why="the PF's driver was reloaded or its VFs were created anew meanwhile: "
            f"interface {known.ifindex} with {known.num_vfs} VFs became {reading.ifindex} with {reading.num_vfs}",
        )

    def _unsettled(self) -> list[int]:
        return [index for index in self._wanted if index not in self._errors and self._differing(index)]

    def _settling(self) -> float:
        if self._settle_until is None:
            self._settle_until = self._clock.monotonic() + self._patience.settle
        return self._settle_until

    def _differing(self, index: int) -> list[Difference]:
        found = differences(self._wanted[index], self._shown[index])
        return [difference for difference in found if difference.kind is DifferenceKind.DIFFERS]

    def _wait(self, until: float) -> bool:
        """Sleep a little longer each time; False when the time is over."""
        if self._clock.monotonic() + self._pause > until:
            return False
        self._clock.sleep(self._pause)
        self._pause = min(self._pause * 2, self._patience.longest_pause)
        return True

    def _converged(self, index: int) -> Converged:
        error = self._errors.get(index)
        shown = self._shown.get(index)
        if shown is None or (error is None and not self._differing(index)):
            return Converged(
                shown=shown,
                sent=index in self._sent,
                error=error,
                not_shown=() if shown is None else differences(self._wanted[index], shown),
            )
        return Converged(shown=shown, sent=index in self._sent, error=error or self._not_as_wanted(index))

    def _not_as_wanted(self, index: int) -> NicError:
        found = "; ".join(
            f"{difference.attribute.value} is {difference.shown}, wanted {difference.wanted}"
            for difference in self._differing(index)
        )
        return NicError(
            "program VF settings",
            pf=self._pf,
            vf=index,
            why=f"the driver accepted them and shows something else: {found}",
            next_step="look for a program that sets this VF too, or learn what the driver can do with 'vferry probe'",
        )


def _life(reading: PfReading) -> tuple[object, ...]:
    return reading.ifindex, reading.permanent_address, reading.num_vfs
