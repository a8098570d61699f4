# SPDX-License-Identifier: Apache-2.0
"""What must be true of each run: what vferry says of itself, and what the naive runs are there to show.

A naive run that does not show its defect is as wrong as a run of vferry's that has one: the comparison would be empty.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from vferry.demo.report import RECEIVED, Claim, Fate, Run, Verdict

__all__ = ["claims_of"]

TAIL = 50
"""The last frames of each talker, which must all reach the VM on B."""

SLACK = 0.01
"""Milliseconds around a mark in which a frame belongs to neither side of it: times are rounded to a microsecond."""
_ON_A, _ON_B = ("neighbour-A", "PF of A"), ("neighbour-B", "PF of B")
_CARRIED_EARLY = frozenset({"MAC", "VLAN"})


def claims_of(run: Run, mode: str) -> tuple[Claim, ...]:
    """Hold a run against what is said of it.

    :param mode: as in :data:`vferry.demo.MODES`: what early programming does to A depends on it.
    """
    if run.name == "vferry":
        return _vferry(run)
    shown = _copied(run) if run.name == "copied" else _early(run, mode)
    return tuple(msgspec.structs.replace(claim, naive=True) for claim in shown)


def _copied(run: Run) -> tuple[Claim, ...]:
    from_a = _all(run, _ON_A, ("stop", "release"), frozenset({Fate.DEAD}))
    on_record = [one for one in run.attributes if one.verdict is Verdict.ON_RECORD]
    return (
        _claim(
            "what neighbours on A send goes to the dead VF there until A is cleaned, and not to the VM on B", from_a
        ),
        _claim("once A is cleaned they reach the VM on B", _all(run, _ON_A, ("release", ""), RECEIVED)),
        _claim("attributes are in B's table and not in its registers", "" if on_record else "there is none"),
        _claim("the trusted VF's xcast mode is lost, or on record only", _lost(run, "xcast mode")),
    )


def _early(run: Run, mode: str) -> tuple[Claim, ...]:
    swallowed = frozenset({Fate.SWALLOWED})
    before = _all(run, _ON_B, ("program", "stop"), swallowed)
    kept = [one.name for one in run.lost_attributes() if one.name in _CARRIED_EARLY]
    claims = [_claim("B swallows what neighbours on B send to the VM while it still runs on A", before)]
    if mode == "device-state":
        after = _all(run, _ON_A, ("resume", "release"), swallowed)
        claims.append(_claim("A swallows what neighbours on A send to the VM after it left, until A is cleaned", after))
    if mode == "failover":
        after = _all(run, _ON_A, ("resume", "release"), frozenset({Fate.MISLED}))
        claims.append(_claim("A keeps what neighbours on A send to the VM after it left, until A is cleaned", after))
    return (
        *claims,
        _claim("MAC and VLAN are kept", ", ".join(kept)),
        _claim("the maximal rate is lost", _lost(run, "max rate")),
    )


def _all(run: Run, names: tuple[str, ...], between: tuple[str, str], fates: frozenset[Fate]) -> str:
    """Return what is wrong with the claim that every frame of some talkers between two marks had one of some fates.

    :param between: two marks' names; an empty one is the end of the run.
    """
    times = [run.at(name) if name else float("inf") for name in between]
    begin, end = times
    if begin is None or end is None:
        return f"there was no {between[times.index(None)]}"
    wrong: list[str] = []
    for talker in (one for one in run.talkers if one.name in names):
        sent = ((run.sent_at(talker, number), letter) for number, letter in enumerate(talker.frames))
        found = "".join(letter for at, letter in sent if begin + SLACK < at < end - SLACK)
        others = [letter for letter in found if Fate(letter) not in fates]
        if others or not found:
            wrong.append(f"{talker.name}: {len(others)} of {len(found)} frames had another fate")
    return "; ".join(wrong) if any(one.name in names for one in run.talkers) else "nobody talks there"


def _lost(run: Run, *names: str) -> str:
    return "" if any(one.name in names for one in run.lost_attributes()) else "everything is there"


def _vferry(run: Run) -> tuple[Claim, ...]:
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
