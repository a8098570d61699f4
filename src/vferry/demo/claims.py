# SPDX-License-Identifier: Apache-2.0
"""What must be true of the run that vferry has moved the VM in. The naive runs claim nothing."""

from __future__ import annotations

from collections.abc import Iterator

from vferry.demo.report import Claim, Fate, Run

__all__ = ["claims_of"]

TAIL = 50
"""The last frames of each talker, which must all reach the VM on B."""


def claims_of(run: Run) -> tuple[Claim, ...]:
    """Hold a run of vferry's against what vferry says of itself."""
    return (
        _claim("the VM was fenced, committed, resumed on B and released on A, in this order", _order(run)),
        _claim("no frame reached a dead VF but between the VM's stop and the fence", _bad(run, Fate.DEAD)),
        _claim("no frame was swallowed but between the VM's stop and the fence", _bad(run, Fate.SWALLOWED)),
        _claim("no other frame was copied to a dead VF", _copies(run)),
        _claim("everybody reaches the VM on B", _tail(run)),
        _claim("every attribute is kept, and in the registers", _attributes(run)),
        _claim("at no moment did two hosts run the VM, or two NICs receive for it", "; ".join(run.notes)),
    )


def _claim(text: str, why: str) -> Claim:
    return Claim(text=text, holds=not why, why=why)


def _order(run: Run) -> str:
    names = ("fence", "commit", "resume", "release")
    seen = [(run.at(name), name) for name in names]
    missing = [name for at, name in seen if at is None]
    if missing:
        return f"there was no {', no '.join(missing)}"
    times = [at for at, _ in seen if at is not None]
    return "" if times == sorted(times) else f"they came at {times} ms"


def _bad(run: Run, fate: Fate) -> str:
    times = list(_outside_the_gap(run, fate))
    return (
        "" if not times else f"{len(times)}, the first {times[0]:.1f} ms, the last {times[-1]:.1f} ms after the start"
    )


def _outside_the_gap(run: Run, fate: Fate) -> Iterator[float]:
    """Yield when frames met a fate before the VM stopped, or after it was fenced."""
    stop, fence = run.at("stop"), run.at("fence")
    found = [
        run.sent_at(talker, number)
        for talker in run.talkers
        for number, letter in enumerate(talker.frames)
        if letter == fate.value
    ]
    for at in sorted(found):
        if stop is None or fence is None or not stop <= at <= fence:
            yield at


def _copies(run: Run) -> str:
    copies = sum(talker.dead_copies - talker.count(Fate.DEAD) for talker in run.talkers)
    return f"{copies} were" if copies else ""


def _tail(run: Run) -> str:
    deaf = [
        f"{talker.name}: {talker.frames[-TAIL:]}"
        for talker in run.talkers
        if set(talker.frames[-TAIL:]) != {Fate.ON_B.value}
    ]
    return "; ".join(deaf)


def _attributes(run: Run) -> str:
    return ", ".join(
        f"VF {one.vf}'s {one.name} is {one.after}, was {one.before} ({one.verdict.value})"
        for one in run.lost_attributes()
    )
