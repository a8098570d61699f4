# SPDX-License-Identifier: Apache-2.0
"""Claims, accounts and drawings, on records made by hand."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree as ET

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vferry.demo.account import Account, AccountError
from vferry.demo.claims import claims_of
from vferry.demo.html import page
from vferry.demo.report import AttributeFate, Fate, Mark, Report, Run, Swallowed, Talker, Verdict
from vferry.demo.terminal import axis_of, lines_of
from vferry.testing.world.guest import Flow

TAIL = "b" * 60
GOOD = "a" * 10 + "d" + "w" * 5 + TAIL
"""Sent at 0.5, 1.5, ... ms: the VM stops at 10, is fenced at 11 and resumes at 16."""
MARKS = (
    Mark(at=10.0, name="stop", host="A"),
    Mark(at=11.0, name="fence", host="A"),
    Mark(at=14.0, name="commit", host="B"),
    Mark(at=16.0, name="resume", host="B"),
    Mark(at=20.0, name="release", host="A"),
)


def a_talker(frames: str = GOOD, *, name: str = "station", dead_copies: int | None = None) -> Talker:
    copies = frames.count("d") if dead_copies is None else dead_copies
    return Talker(name=name, first=0.5, frames=frames, dead_copies=copies, sent_by_vm=10, lost_from_vm=0)


def a_run(*talkers: Talker, marks: tuple[Mark, ...] = MARKS, verdict: Verdict = Verdict.KEPT) -> Run:
    attribute = AttributeFate(vf=0, kind="admin", name="trust", before="on", after="off", verdict=verdict)
    return Run(
        name="vferry",
        what="a <run>",
        interval=1.0,
        marks=marks,
        talkers=talkers or (a_talker(),),
        swallowed=(Swallowed(host="A", pool="eth0/0", why="no sink", frames=3),),
        attributes=(attribute,),
        stopped=6.0,
    )


def broken(run: Run) -> list[str]:
    return [f"{claim.text}: {claim.why}" for claim in claims_of(run, "cold") if not claim.holds]


def a_report(run: Run) -> Report:
    return Report(seed=3, mode="cold", runs=(msgspec.structs.replace(run, claims=claims_of(run, "cold")),))


# Talkers


def test_what_is_lost_and_for_how_long() -> None:
    talker = a_talker("aadxbbwwwhmb")
    assert talker.lost == 7
    assert talker.longest_gap == 5
    assert talker.count(Fate.DEAD, Fate.SWALLOWED) == 2
    assert a_talker("ab").longest_gap == 0


# Claims


def test_a_clean_run() -> None:
    assert broken(a_run()) == []
    assert a_report(a_run()).broken == ()


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (GOOD.replace("wwwww", "wwdww"), "dead VF but between the VM's stop and the fence: 1, the first 13.5"),
        (GOOD.replace("wwwww", "wwxxw"), "swallowed but between the VM's stop and the fence: 2, the first 13.5"),
        ("aax" + GOOD[3:], "swallowed but between the VM's stop and the fence: 1, the first 2.5"),
        (GOOD[:-1] + "m", "everybody reaches the VM on B: station"),
    ],
)
def test_a_frame_too_many(frames: str, words: str) -> None:
    found = broken(a_run(a_talker(), a_talker(frames)))
    assert len(found) == 1
    assert words in found[0]


def test_a_copy_for_a_dead_vf() -> None:
    assert len(broken(a_run(a_talker(dead_copies=4)))) == 1


@pytest.mark.parametrize("missing", ["fence", "commit", "resume", "release"])
def test_a_step_that_is_missing(missing: str) -> None:
    found = broken(a_run(a_talker(GOOD.replace("d", "w")), marks=tuple(one for one in MARKS if one.name != missing)))
    assert len(found) == 1
    assert f"no {missing}" in found[0]


def test_a_fence_that_comes_too_late() -> None:
    late = tuple(msgspec.structs.replace(one, at=15.0) if one.name == "fence" else one for one in MARKS)
    assert "they came at [15.0, 14.0, 16.0, 20.0] ms" in broken(a_run(marks=late))[0]


@pytest.mark.parametrize("verdict", [Verdict.LOST, Verdict.ON_RECORD])
def test_an_attribute_that_is_lost(verdict: Verdict) -> None:
    assert "VF 0's trust is off, was on" in broken(a_run(verdict=verdict))[0]


def test_two_owners() -> None:
    noted = msgspec.structs.replace(a_run(), notes=("two NICs receive",))
    assert "two NICs receive" in broken(noted)[0]


# What naive runs have to show


def a_naive_run(name: str, from_a: str, from_b: str, *, verdict: Verdict, attribute: str) -> Run:
    """Programmed at 2 ms, stopped at 10, resumed at 16, cleaned at 20; a neighbour and the PF on each host."""
    places = (("neighbour-A", from_a), ("PF of A", from_a), ("neighbour-B", from_b), ("PF of B", from_b))
    run = a_run(
        *(a_talker(frames + TAIL, name=name) for name, frames in places),
        marks=(Mark(at=2.0, name="program", host="B"), *MARKS),
        verdict=verdict,
    )
    attributes = tuple(msgspec.structs.replace(one, name=attribute) for one in run.attributes)
    return msgspec.structs.replace(run, name=name, attributes=attributes)


def a_copied_run(from_a: str = "a" * 10 + "d" * 10, **other: str) -> Run:
    verdict = Verdict(other.pop("verdict", "on record only"))
    return a_naive_run("copied", from_a, "a" * 20, verdict=verdict, attribute=other.pop("attribute", "xcast mode"))


def an_early_run(from_a: str = "a" * 16 + "x" * 4, from_b: str = "aa" + "x" * 18, attribute: str = "max rate") -> Run:
    return a_naive_run("early", from_a, from_b, verdict=Verdict.LOST, attribute=attribute)


def not_shown(run: Run, mode: str = "device-state") -> str:
    claims = claims_of(run, mode)
    assert claims
    assert all(claim.naive for claim in claims)
    assert all(claim.words.startswith("shows: " if claim.holds else "BROKEN: ") for claim in claims)
    return "; ".join(claim.words for claim in claims if not claim.holds)


def test_naive_runs_that_show_what_they_are_there_for() -> None:
    assert not_shown(a_copied_run()) == ""
    assert not_shown(an_early_run()) == ""
    assert not_shown(an_early_run("a" * 16 + "m" * 4), "failover") == ""
    assert not_shown(an_early_run("a" * 16 + "b" * 4), "cold") == ""


@pytest.mark.parametrize(
    ("run", "mode", "words"),
    [
        (
            a_copied_run("a" * 10 + "d" * 9 + "b"),
            "",
            "until A is cleaned, and not to the VM on B: neighbour-A: 1 of 10",
        ),
        (a_copied_run("a" * 10 + "d" * 11), "", "once A is cleaned they reach the VM on B: neighbour-A: 1 of 61"),
        (a_copied_run(verdict="kept"), "", "not in its registers: there is none"),
        (a_copied_run(attribute="trust"), "", "xcast mode is lost, or on record only: everything is there"),
        (an_early_run("a" * 16 + "bxxx"), "device-state", "A swallows what neighbours on A send"),
        (an_early_run(), "failover", "A keeps what neighbours on A send"),
        (an_early_run(from_b="aaa" + "x" * 17), "cold", "still runs on A: neighbour-B: 1 of 8 frames; PF of B: 1 of 8"),
        (an_early_run(attribute="MAC"), "cold", "MAC and VLAN are kept: MAC; BROKEN: the maximal rate is lost"),
    ],
)
def test_naive_runs_that_do_not(run: Run, mode: str, words: str) -> None:
    assert words.replace(" frames", "") in not_shown(run, mode).replace(" frames had another fate", "")


@pytest.mark.parametrize(
    ("missing", "words"), [("program", "there was no program"), ("release", "there was no release")]
)
def test_a_naive_run_without_its_steps(missing: str, words: str) -> None:
    run = an_early_run()
    marks = tuple(mark for mark in run.marks if mark.name != missing)
    assert words in not_shown(msgspec.structs.replace(run, marks=marks))


def test_nobody_to_show_it() -> None:
    alone = msgspec.structs.replace(an_early_run(), talkers=(a_talker(),))
    assert "nobody talks there" in not_shown(alone)


# Accounts


def test_an_account_that_does_not_add_up() -> None:
    to_vm, to_peer = Flow("there", 0), Flow("back", 1)
    account = Account("station", 0.0)
    to_vm.next()
    with pytest.raises(AccountError):
        account.talker(to_vm, to_peer)
    account.letters.append(Fate.SWALLOWED.value)
    assert account.talker(to_vm, to_peer).frames == "x"
    account.letters[:] = [Fate.ON_A.value]
    with pytest.raises(AccountError):
        account.talker(to_vm, to_peer)


# Drawings


def test_the_timeline_shows_the_worst_of_each_column() -> None:
    quiet = a_run(a_talker("a" * 400 + "aaada" + "b" * 400, name="loud"), a_talker("a" * 400 + "b" * 405), marks=())
    lines = lines_of(a_report(quiet), columns=80)
    loud, other = (next(line for line in lines if line.startswith(name)) for name in ("loud ", "station "))
    assert loud.count("d") == 2  # once in its name
    assert set(other.removeprefix("station").strip()) == {"a", "b"}


@settings(max_examples=60)
@given(st.text("abdxwhm", min_size=30, max_size=300), st.integers(0, 300))
def test_every_line_fits_and_every_fate_is_seen(frames: str, columns: int) -> None:
    run = a_run(a_talker(frames, name="N1"))
    lines = lines_of(a_report(run), columns=columns)
    width = min(max(columns, 60), 160)
    assert max(map(len, lines)) <= width
    row, _ = (line for line in lines if line.startswith("N1 "))  # the other is in the table
    assert len(row) <= width
    shown = set(row.removeprefix("N1").strip())
    assert shown <= set(frames)
    assert "d" not in frames or "d" in shown
    axis = axis_of(run, width)
    assert list(axis.edges) == sorted(axis.edges)
    assert axis.columns == width


def test_the_stopped_window_is_drawn_finer() -> None:
    run = a_run(a_talker("a" * 10 + "w" * 6 + "b" * 900))
    axis = axis_of(run, 90)
    widths = [after - before for before, after in zip(axis.edges, axis.edges[1:], strict=False)]
    inside = [widths[axis.column(at)] for at in (10.0, 13.0, 16.0)]
    assert max(inside) < 1.01
    assert widths[-1] > 10 * max(inside)


def test_a_run_that_is_all_stopped_window() -> None:
    marks = tuple(msgspec.structs.replace(one, at=one.at - 8) for one in MARKS)
    axis = axis_of(a_run(a_talker("a" * 2 + "w" * 6 + "b" * 5), marks=marks), 60)
    assert (axis.edges[0], axis.edges[-1], axis.columns) == (0.5, 13.5, 60)


def test_marks_share_no_column() -> None:
    marks = tuple(msgspec.structs.replace(one, at=10.0) if one.name == "fence" else one for one in MARKS)
    lines = lines_of(a_report(a_run(marks=marks)), columns=80)
    events = lines[lines.index("vferry: a <run>") + 1]
    assert re.fullmatch(r" +SF +C +R +L", events)
    assert any("S stop A 10.0   F fence A 10.0" in line for line in lines)


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_the_page_needs_nothing_else() -> None:
    text = page(a_report(a_run()))
    found = _Page(text)
    assert not {"script", "link", "img", "iframe"} & set(found.tags)
    assert not {"src", "href", "xlink:href"} & {name for name, _ in found.attributes}
    assert "url(" not in text
    assert "://" not in text
    assert "prefers-color-scheme: dark" in text
    assert "a &lt;run&gt;" in text
    assert all(text.count(f"--{fate.value}: #") == 2 for fate in Fate)


def test_the_pages_drawing_has_every_frame() -> None:
    text = page(a_report(a_run(a_talker(), a_talker(GOOD.replace("d", "x"), name="<other>"))))
    whole, fine = (ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL))  # noqa: S314
    titles = [title.text or "" for title in whole.iter("title")]
    for name in ("station", "<other>"):
        frames = [re.match(r".*: (\d+) frames", title) for title in titles if title.startswith(name)]
        assert sum(int(one[1]) for one in frames if one) == len(GOOD)
    for row in {box.attrib["y"] for box in whole.iter("rect")}:
        boxes = [box for box in whole.iter("rect") if box.attrib["y"] == row]
        edges = [(float(box.attrib["x"]), float(box.attrib["x"]) + float(box.attrib["width"])) for box in boxes]
        assert all(abs(left - right) < 0.11 for (_, left), (right, _) in pairwise(edges))
        assert (edges[0][0], round(edges[-1][1])) == (110, 1110)
    for drawing in (whole, fine):
        _, _, width, height = map(float, drawing.attrib["viewBox"].split())
        for box in drawing.iter("rect"):
            x, y, w, h = (float(box.attrib[name]) for name in ("x", "y", "width", "height"))
            assert 110 <= x <= x + w <= width + 0.1
            assert 0 <= y <= y + h <= height
    assert [line.text for line in fine.iter("text") if line.text and line.text.startswith("stop")] == ["stop A 10.0"]


@given(st.lists(st.floats(0, 80), max_size=12))
def test_names_of_marks_do_not_overlap(times: list[float]) -> None:
    marks = tuple(Mark(at=at, name="activate", host="B") for at in sorted(times))
    drawing = ET.fromstring(re.findall(r"<svg.*?</svg>", page(a_report(a_run(marks=marks))), re.DOTALL)[0])  # noqa: S314
    names = [text for text in drawing.iter("text") if (text.text or "").startswith("activate")]
    assert len(names) == len([at for at in times if at >= 0.5 and at <= 76.5])
    places = [(float(one.attrib["y"]), float(one.attrib["x"])) for one in names]
    rows = [sorted(x for y, x in places if y == row) for row in {y for y, _ in places}]
    assert all(after - before >= 6 * len("activate B 1.1") for row in rows for before, after in pairwise(row))
    talkers = [float(text.attrib["y"]) for text in drawing.iter("text") if text.text == "station"]
    assert all(y < min(talkers) for y, _ in places)
