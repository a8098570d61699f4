# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the software NIC runs and its arithmetic holds; how fast anything is, is not tested."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import compiled, mailbox, nic_groups, recording, registers, simulation, software_nic, veb
from bench.rates import Size, Work, amount, measure, ratio, rows
from bench.report import write_document
from vferry.nic.ixgbe.registers import pf, vf

ONCE = Size(rounds=1, seconds=0.0)


@pytest.fixture(scope="module")
def recorded() -> recording.Recording:
    return recording.record()


# --- rates ---------------------------------------------------------------------------------------------------------


def test_contenders_take_turns_and_the_first_batch_is_not_counted() -> None:
    turns: list[str] = []

    def work(name: str) -> Work:
        def batch() -> int:
            turns.append(name)
            return 5

        return Work(name, batch)

    found = measure([work("a"), work("b")], Size(rounds=2, seconds=0.0))
    assert turns == ["a", "a", "b", "b"] * 2
    assert [len(rates) for rates in found.values()] == [2, 2]
    assert all(rate > 0 for rates in found.values() for rate in rates)


def test_a_ratio_is_that_of_neighbours() -> None:
    found = {"floor": [10.0, 100.0, 10.0], "one": [5.0, 10.0, 6.0]}
    assert ratio(found, "one", "floor") == 0.5
    works = [Work("floor", int), Work("one", int, "floor")]
    assert rows(works, found)[1:] == [["floor", "10", "10", "100", ""], ["one", "6", "5", "10", "0.500"]]


@pytest.mark.parametrize(
    ("number", "text"), [(0.5, "0.5"), (999, "999"), (1000, "1 k"), (12_345, "12.3 k"), (8.69e6, "8.69 M")]
)
def test_amounts_have_three_digits(number: float, text: str) -> None:
    assert amount(number) == text


# --- the recording -------------------------------------------------------------------------------------------------


def test_both_drivers_are_recorded(recorded: recording.Recording) -> None:
    for part in (recorded.start, recorded.messages):
        assert {access.of_vf for access in part} == {True, False}
    assert not any(access.of_vf for access in recorded.bring_up)
    requests = [
        access
        for access in recorded.messages
        if access.of_vf and access.offset == vf.VFMAILBOX.offset and access.written == vf.VFMAILBOX_REQ
    ]
    assert len(requests) == recording.MESSAGES


def test_what_the_pf_does_stands_behind_the_access_that_led_to_it(recorded: recording.Recording) -> None:
    place = next(
        number
        for number, access in enumerate(recorded.messages)
        if access.of_vf and access.written == vf.VFMAILBOX_REQ and access.offset == vf.VFMAILBOX.offset
    )
    following = recorded.messages[place + 1]
    assert (following.of_vf, following.offset) == (False, pf.EICS.offset)


def test_a_played_recording_gives_what_was_read(recorded: recording.Recording) -> None:
    recording.check(recorded)


def test_another_device_is_noticed(recorded: recording.Recording) -> None:
    place = max(number for number, access in enumerate(recorded.messages) if access.seen)
    seen = recorded.messages[place].seen
    assert seen is not None
    wrong = recorded._replace(messages=list(recorded.messages))
    wrong.messages[place] = wrong.messages[place]._replace(seen=seen ^ 1)
    with pytest.raises(AssertionError, match="access"):
        recording.check(wrong)


def test_accesses_with_an_effect_are_some_of_the_mix(recorded: recording.Recording) -> None:
    assert 0 < len(recorded.with_effect) < len(recorded.mix) / 3
    names = {
        place[0].name
        for access in recorded.with_effect
        if (place := (vf.VF_MAP if access.of_vf else pf.PF_MAP).at(access.offset))
    }
    assert {"VFMAILBOX", "PFMAILBOX", "EICR", "VTEIMS", "RAH", "VLVF"} <= names
    assert not names & {"VFMBMEM", "PFMBMEM", "VFLRE"}


def test_the_floor_stores() -> None:
    storage = recording.Storage(0x100)
    storage.write(0x40, 0x1_2345_6789)
    assert (storage.read(0x40), storage.read(0x44)) == (0x23456789, 0)


# --- each measure --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("works", [registers.works, mailbox.works, veb.works], ids=["registers", "mailbox", "veb"])
def test_each_contender_runs(works: Callable[[], list[Work]]) -> None:
    made = works()
    names = [work.name for work in made]
    assert len(set(names)) == len(names)
    assert {work.floor for work in made} - {None} <= set(names)
    for work in made:
        assert work.batch() > 0, work.name


def test_frames_arrive() -> None:
    bench = veb._Bench()
    for name, (send, frames) in bench.kinds().items():
        for queue in (*bench.queues, bench.wire):
            queue.clear()
        send(frames[0])
        everyone = name == "broadcast"
        assert sum(map(len, bench.queues)) == (63 if everyone else 0 if name.endswith("wire") else 1), name
        assert len(bench.wire) == (1 if everyone or name.endswith("wire") else 0), name


@pytest.mark.slow
def test_simulated_migrations_run() -> None:
    works = simulation.works()
    assert works
    assert all(work.batch() == simulation.SEEDS for work in works)


# --- the whole -----------------------------------------------------------------------------------------------------


def some_samples() -> nic_groups.Samples:
    mix = registers.MIX
    return {
        "registers": {mix: [4e6], f"{mix}: {registers.STORAGE}": [1e7]},
        "veb": {veb.LOCAL: [1e6], veb.DEVICE: [9e5]},
    }


def some_results() -> software_nic.Results:
    samples = some_samples()
    works = {key: [Work(name, int) for name in group] for key, group in samples.items()}
    faster = {
        key: {name: [rate * 2 for rate in rates] for name, rates in group.items()} for key, group in samples.items()
    }
    return software_nic.Results(works, samples, samples, faster, "", {"date": "today"})


def test_aims_are_met_from_their_limit_on() -> None:
    assert [aim.met for aim in software_nic.judge(some_samples())] == [False, True, True, False]
    samples = some_samples()
    samples["registers"][registers.MIX] = [4.5e6]
    assert software_nic.judge(samples)[0].met


def test_everything_is_on_the_page_and_on_the_terminal() -> None:
    for text in (software_nic.section(some_results()), software_nic.terminal(some_results())):
        assert "NOT met" in text
        assert "2.00 x" in text
        assert "Register accesses" in text
    lacking = some_results()._replace(plain={}, fast={}, not_compiled="missing: a C compiler")
    for text in (software_nic.section(lacking), software_nic.terminal(lacking)):
        assert "nothing was compiled. missing: a C compiler" in text
        assert "2.00 x" not in text


def test_floors_are_not_in_the_table_of_gains() -> None:
    cells = compiled.rows({"g": {"a": [1.0], "f": [1.0]}}, {"g": {"a": [3.0], "f": [1.0]}}, {"f"})
    assert cells[1:] == [["a", "1", "3", "3.00 x"]]


def test_the_page_has_markers_of_its_own(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(software_nic.DOCUMENT.read_text())
    write_document(page, "found", software_nic.BEGIN, software_nic.END)
    written = page.read_text()
    assert f"{software_nic.BEGIN}\n\nfound\n\n{software_nic.END}" in written
    assert written.count("## Measured") == software_nic.DOCUMENT.read_text().count("## Measured") == 1


def test_what_is_missing_to_compile_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(compiled.CannotCompileError, match="a C compiler"):
        compiled.compile_copy(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_goes_on_without_a_compiler(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(compiled, "missing", lambda: ["a C compiler"])
    plain, fast, why = software_nic._compiled(ONCE, lambda _line: None)
    assert (plain, fast) == ({}, {})
    assert "a C compiler" in why


def test_here_nothing_is_compiled() -> None:
    assert nic_groups.compiled() == []


@pytest.mark.slow
def test_the_compiled_modules_are_measured() -> None:
    """Skipped where they cannot be compiled."""
    if lacking := compiled.missing():
        pytest.skip(", ".join(lacking))
    plain, fast = compiled.measure_both(ONCE, ["veb"], lambda _line: None)
    assert plain["veb"].keys() == fast["veb"].keys()
    assert all(len(rates) == 2 for rates in fast["veb"].values())
