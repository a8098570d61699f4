# SPDX-License-Identifier: Apache-2.0
"""What the demo has to show, as plain records: what is drawn, printed as JSON, and held against the claims.

Times are virtual milliseconds from the moment at which the move is asked for; before it they are negative.
"""

from __future__ import annotations

import enum

import msgspec

__all__ = [
    "BAD",
    "RECEIVED",
    "AttributeFate",
    "Claim",
    "Fate",
    "Mark",
    "Report",
    "Run",
    "Swallowed",
    "Talker",
    "Verdict",
]


class Fate(enum.Enum):
    """What became of a frame to the VM; its value is the letter that stands for it."""

    ON_A = "a"
    """Received by the VM, running on A."""
    ON_B = "b"
    """Received by the VM, running on B."""
    DEAD = "d"
    """Delivered to a VF of the VM on a host where the VM does not run: it has left, or has not come yet."""
    SWALLOWED = "x"
    """Taken by a NIC for one of its pools, and lost inside."""
    HELD = "h"
    """Taken for the VM's new VF on B once B had the VM whole, before that VF was ready or the VM ran."""
    STOPPED = "w"
    """Left by the wire, or was flooded, while the VM was stopped on both hosts; nobody's."""
    MISLED = "m"
    """The VM runs, and the network led the frame to where it is not."""


RECEIVED = frozenset({Fate.ON_A, Fate.ON_B})
BAD = frozenset({Fate.DEAD, Fate.SWALLOWED})
"""What a fence is there to prevent."""


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to the VM or its VFs."""

    at: float
    name: str
    """stop, fence, switch, commit, activate, resume, release; program, copy, reset, unplug, plug."""
    host: str


class Talker(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who talks with the VM all the time."""

    name: str
    first: float
    """When its first frame was sent; the others follow at the run's interval."""
    frames: str
    """The fate of each frame to the VM, a letter each, in the order of sending."""
    dead_copies: int
    """Frames of which a dead VF got a copy, whatever else became of them."""
    sent_by_vm: int
    lost_from_vm: int
    """Of those, how many did not arrive; in a NIC or elsewhere."""

    def count(self, *fates: Fate) -> int:
        """Return how many frames to the VM had one of these fates."""
        return sum(self.frames.count(fate.value) for fate in fates)

    @property
    def lost(self) -> int:
        """How many frames to the VM it did not receive."""
        return len(self.frames) - self.count(*RECEIVED)

    @property
    def longest_gap(self) -> int:
        """The most frames in a row that the VM did not receive."""
        heard = "".join(" " if Fate(letter) in RECEIVED else letter for letter in self.frames)
        return max(map(len, heard.split(" ")))


class Swallowed(msgspec.Struct, frozen=True, kw_only=True):
    """Frames to the VM that one NIC took and lost, for one reason."""

    host: str
    pool: str
    why: str
    frames: int


class Verdict(enum.Enum):
    """What became of an attribute."""

    KEPT = "kept"
    LOST = "lost"
    ON_RECORD = "on record only"
    """The PF driver has it in its table, and shows it; its registers do not have it."""


class AttributeFate(msgspec.Struct, frozen=True, kw_only=True):
    """One attribute of one VF, before and after."""

    vf: int
    """Which of the VM's VFs, from 0."""
    kind: str
    """admin, or session."""
    name: str
    before: str
    after: str
    verdict: Verdict


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Something that must be true of a run."""

    text: str
    holds: bool
    why: str = ""
    """Where it does not hold: what was seen instead."""
    naive: bool = False
    """It is what a naive run has to show, not what vferry says of itself."""

    @property
    def words(self) -> str:
        """The claim in a line."""
        verdict = ("shows" if self.naive else "holds") if self.holds else "BROKEN"
        return f"{verdict}: {self.text}{': ' * bool(self.why)}{self.why}"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One move of the VM."""

    name: str
    what: str
    """In a sentence."""
    interval: float
    """Between two frames of a talker, each way."""
    marks: tuple[Mark, ...]
    talkers: tuple[Talker, ...]
    swallowed: tuple[Swallowed, ...]
    attributes: tuple[AttributeFate, ...]
    stopped: float
    """From the VM's stop on A to its resume on B."""
    boot: float | None = None
    """How much of that the guest took to boot; None: it did not."""
    shut_down: float | None = None
    """How long the guest took to shut down before it was stopped; None: it did not."""
    clean_up: float | None = None
    """From the VM's resume on B until somebody cleaned A, which is assumed; None: it is part of the move."""
    notes: tuple[str, ...] = ()
    """What the world's watch has objected to."""
    claims: tuple[Claim, ...] = ()

    def count(self, *fates: Fate) -> int:
        """Return how many frames to the VM had one of these fates, of all talkers."""
        return sum(talker.count(*fates) for talker in self.talkers)

    def at(self, name: str) -> float | None:
        """Return when something happened first, or None."""
        return next((mark.at for mark in self.marks if mark.name == name), None)

    def sent_at(self, talker: Talker, number: int) -> float:
        """Return when a talker's frame was sent."""
        return talker.first + number * self.interval

    @property
    def stopped_words(self) -> str:
        """How long the VM was stopped, and what of that was not the move's."""
        words = f"the VM was stopped for {self.stopped:.1f} ms"
        if self.boot is None or self.shut_down is None:
            return words
        return f"{words}, {self.boot:.0f} of them its boot, after {self.shut_down:.0f} ms of shutting down"

    def lost_attributes(self) -> tuple[AttributeFate, ...]:
        """Return what the VM does not have any more."""
        return tuple(one for one in self.attributes if one.verdict is not Verdict.KEPT)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All runs of one seed."""

    seed: int
    mode: str
    runs: tuple[Run, ...]

    @property
    def broken(self) -> tuple[str, ...]:
        """What was claimed and does not hold."""
        return tuple(
            f"{run.name}: {claim.text}: {claim.why}" for run in self.runs for claim in run.claims if not claim.holds
        )

    def to_dict(self) -> dict[str, object]:
        """Return the report as JSON-ready data, with what can be counted in it."""
        counts = {
            run.name: {
                talker.name: {
                    "frames": len(talker.frames),
                    **{fate.name.lower(): talker.count(fate) for fate in Fate},
                    "lost": talker.lost,
                    "longest_gap": talker.longest_gap,
                    "lost_from_vm": talker.lost_from_vm,
                }
                for talker in run.talkers
            }
            for run in self.runs
        }
        data: dict[str, object] = msgspec.to_builtins(self)
        return {**data, "letters": {fate.value: fate.name.lower() for fate in Fate}, "counts": counts}
