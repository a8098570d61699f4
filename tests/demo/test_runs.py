# SPDX-License-Identifier: Apache-2.0
"""The three runs: what is lost where, seen in the model's behaviour; and vferry's own run with its order broken."""

from __future__ import annotations

import msgspec
import pytest

from vferry.core.migration.phases import Act, Event
from vferry.demo import DemoNotCleanError, NoSuchRunError, SimulationFailedError, show
from vferry.demo.report import Fate, Report, Run, Talker, Verdict
from vferry.demo.scene import VFS
from vferry.demo.terminal import lines_of
from vferry.migration.coordinator import Coordinator
from vferry.migration.destination_acts import DESTINATION_ACTS
from vferry.migration.source_acts import SOURCE_ACTS
from vferry.migration.vfs import destination_refs, program, record_of

ON_A, ON_B = ("neighbour-A", "PF of A"), ("neighbour-B", "PF of B")


@pytest.fixture(scope="module")
def report() -> Report:
    return show(seed=1)


def run_of(report: Report, name: str) -> Run:
    return next(run for run in report.runs if run.name == name)


def talkers(run: Run, *names: str) -> list[Talker]:
    found = [talker for talker in run.talkers if talker.name in names]
    assert len(found) == len(names)
    return found


def at(run: Run, name: str) -> float:
    found = run.at(name)
    assert found is not None, name
    return found


def letters(run: Run, talker: Talker, begin: float, end: float) -> str:
    """Return the fates of the frames that were sent between two moments."""
    numbers = [n for n in range(len(talker.frames)) if begin < run.sent_at(talker, n) < end]
    assert numbers
    return "".join(talker.frames[n] for n in numbers)


# The books


def test_every_frame_has_one_fate_and_all_runs_have_the_same_traffic(report: Report) -> None:
    assert [run.name for run in report.runs] == ["copied", "early", "vferry"]
    traffic = {tuple((one.name, one.first, len(one.frames)) for one in run.talkers) for run in report.runs}
    assert len(traffic) == 1
    for run in report.runs:
        for talker in run.talkers:
            assert set(talker.frames) <= {fate.value for fate in Fate}
            assert talker.count(*Fate) == len(talker.frames) == 700


def test_before_the_move_everybody_reaches_the_vm_on_a_and_in_the_end_on_b(report: Report) -> None:
    for run in report.runs:
        for talker in run.talkers:
            assert set(letters(run, talker, -100, 0)) == {"a"}
            assert set(talker.frames[-100:]) == {"b"}


# Copied


def test_copied_delivers_to_the_dead_vf_for_as_long_as_the_source_stays(report: Report) -> None:
    run = run_of(report, "copied")
    for talker in talkers(run, *ON_A):
        assert set(letters(run, talker, at(run, "stop"), at(run, "release"))) == {"d"}
        assert set(letters(run, talker, at(run, "release"), 1000)) == {"b"}
        assert talker.dead_copies == talker.count(Fate.DEAD) > at(run, "release") - at(run, "stop") - 2
    for talker in talkers(run, "station", *ON_B):
        assert set(letters(run, talker, at(run, "stop"), at(run, "resume"))) == {"d"}
        assert set(letters(run, talker, at(run, "release") - 50, 1000)) == {"b"}


def test_copied_attributes_are_on_record_and_not_in_the_registers(report: Report) -> None:
    lost = {(one.vf, one.name): one.verdict for one in run_of(report, "copied").lost_attributes()}
    assert lost[0, "max rate"] is lost[1, "max rate"] is lost[1, "spoofchk"] is Verdict.ON_RECORD
    assert lost[1, "xcast mode"] is Verdict.ON_RECORD


# Early


def test_early_swallows_what_neighbours_on_b_send_before_the_vm_arrives(report: Report) -> None:
    run = run_of(report, "early")
    for talker in talkers(run, *ON_B):
        assert set(letters(run, talker, at(run, "program"), at(run, "stop"))) == {"x"}
    for talker in talkers(run, "station", *ON_A):
        assert set(letters(run, talker, at(run, "program"), at(run, "stop"))) == {"a"}


def test_early_swallows_what_neighbours_on_a_send_after_the_vm_left(report: Report) -> None:
    run = run_of(report, "early")
    for talker in talkers(run, *ON_A):
        assert set(letters(run, talker, at(run, "resume"), at(run, "release"))) == {"x"}
    for talker in talkers(run, "station", *ON_B):
        assert set(letters(run, talker, at(run, "resume") + 2, at(run, "release"))) == {"b"}
    assert {(one.host, one.frames > 100) for one in run.swallowed} == {("A", True), ("B", True)}


def test_early_carries_mac_and_vlan_only(report: Report) -> None:
    run = run_of(report, "early")
    lost = {(one.vf, one.name): one.verdict for one in run.lost_attributes()}
    expected = {(0, "max rate"), (0, "RSS query"), (1, "max rate"), (1, "spoofchk")}
    assert lost == dict.fromkeys(expected, Verdict.LOST)


# vferry


def test_vferry_loses_only_what_is_sent_while_the_vm_is_stopped(report: Report) -> None:
    run = run_of(report, "vferry")
    assert [claim.why for claim in run.claims if not claim.holds] == []
    assert len(run.claims) == 7
    fence, stop, resume = at(run, "fence"), at(run, "stop"), at(run, "resume")
    for talker in run.talkers:
        assert set(letters(run, talker, fence, at(run, "commit"))) == {"w"}
        assert set(letters(run, talker, fence, resume)) <= {"w", "h"}
        assert set(letters(run, talker, -100, stop)) == {"a"}
        assert set(letters(run, talker, resume + 2, 1000)) == {"b"}
        assert talker.longest_gap <= run.stopped + 2
    assert run.count(Fate.DEAD, Fate.SWALLOWED) <= len(run.talkers) * (1 + fence - stop)
    assert run.lost_attributes() == ()
    assert len(run.attributes) == 24


def test_vferry_is_better_for_every_neighbour_than_what_loses_most(report: Report) -> None:
    lost = {run.name: {one.name: one.lost for one in run.talkers} for run in report.runs}
    assert all(lost["vferry"][name] < min(lost["copied"][name], lost["early"][name]) for name in ON_A)
    assert all(lost["vferry"][name] < lost["early"][name] for name in ON_B)


@pytest.mark.parametrize("mode", ["failover", "cold"])
def test_the_other_modes_are_clean_too_and_early_is_not(mode: str) -> None:
    report = show(seed=2, mode=mode)
    early, vferry = report.runs
    assert report.broken == ()
    (talker,) = talkers(early, "neighbour-B")
    assert set(letters(early, talker, at(early, "program"), at(early, "stop"))) == {"x"}
    assert {(1, "trust"), (1, "xcast mode")} <= {(one.vf, one.name) for one in early.lost_attributes()}
    assert vferry.count(Fate.DEAD, Fate.SWALLOWED) == 0
    assert any(one.name == "trust" and one.before == "on" for one in vferry.attributes)


def test_a_copy_makes_sense_in_device_state_mode_only() -> None:
    with pytest.raises(NoSuchRunError, match="early, vferry"):
        show(mode="cold", run="copied")


# What all runs pay, and what is assumed


def test_all_runs_in_cold_mode_pay_the_boot() -> None:
    early, vferry = show(seed=1, mode="cold").runs
    for run in (early, vferry):
        assert (run.boot, run.shut_down) == (100.0, 200.0)
        assert 100 <= run.stopped <= 115
        assert "ms, 100 of them its boot, after 200 ms of shutting down" in run.stopped_words
        assert at(run, "stop") >= 200
    assert early.stopped < vferry.stopped


def test_when_a_was_cleaned_is_said(report: Report) -> None:
    for run in report.runs[:2]:
        assert run.clean_up == 150.0
        assert run.what.endswith("A cleaned 150 ms later")
        assert 150 <= at(run, "release") - at(run, "resume") < 152
    assert run_of(report, "vferry").clean_up is None
    assert run_of(report, "vferry").boot is None


@pytest.mark.parametrize("columns", [60, 80, 118])
def test_every_line_fits_the_terminal(report: Report, columns: int) -> None:
    broken = run_of(report, "vferry")
    claims = (msgspec.structs.replace(broken.claims[0], holds=False, why="why " * 60 + "w" * 200),)
    worst = msgspec.structs.replace(report, runs=(*report.runs, msgspec.structs.replace(broken, claims=claims)))
    lines = lines_of(worst, columns=columns)
    assert max(map(len, lines)) <= columns
    assert " ".join(" ".join(lines).split()).count("A cleaned 150 ms later") == 2


# Defects inside


@pytest.mark.parametrize("broken", ["move", "accountant"])
def test_an_error_inside_names_seed_and_mode(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    if broken == "accountant":
        monkeypatch.setattr("vferry.demo.account.Accountant.settle", lambda *_: None)
    else:
        monkeypatch.setattr("vferry.demo.runs._program_destination", lambda *_, **__: 1 // 0)
    with pytest.raises(SimulationFailedError) as caught:
        show(seed=3, mode="cold", run="early")
    words = str(caught.value)
    assert "seed 3, mode cold, run early" in words
    assert "'vferry demo --seed 3 --mode cold --run early'" in words
    assert ("AccountError: " if broken == "accountant" else "ZeroDivisionError: ") in words
    assert (caught.value.to_dict()["seed"], caught.value.to_dict()["mode"]) == (3, "cold")


# Chance


def test_a_seed_decides_everything(report: Report) -> None:
    first = run_of(report, "vferry")
    again, other = (show(seed=seed, run="vferry").runs[0] for seed in (1, 6))
    assert msgspec.json.encode(first) == msgspec.json.encode(again)
    assert [one.first for one in first.talkers] != [one.first for one in other.talkers]
    assert first.marks != other.marks


@pytest.mark.parametrize("mode", ["device-state", "failover", "cold"])
def test_what_is_said_of_every_run_holds(mode: str) -> None:
    report = show(seed=9, mode=mode)
    assert report.broken == ()
    assert all(run.claims for run in report.runs)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["device-state", "failover", "cold"])
def test_many_seeds_are_clean(mode: str) -> None:
    assert [show(seed=seed, mode=mode).broken for seed in range(6)] == [()] * 6


# With the order broken, the demo must say so


def broken_claims(monkeypatch: pytest.MonkeyPatch, **patches: object) -> str:
    for name, value in patches.items():
        monkeypatch.setattr(f"vferry.migration.{name.replace('__', '.')}", value)
    return "; ".join(show(seed=1, run="vferry").broken)


def test_without_the_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    words = broken_claims(monkeypatch, source_acts__fence=lambda *_: None)
    assert "no frame was swallowed" in words
    assert "two NICs receive" in words


def test_with_the_vfs_at_work_and_no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The VM's own VF goes on receiving for it."""

    async def nothing_fenced(side: Coordinator) -> Event:
        for ref in VFS["A"]:
            assert side.host.carrier is not None
            side.host.carrier.start(*ref)
        return Event.DONE

    async def fence_and_take_back(side: Coordinator) -> Event:
        event = await SOURCE_ACTS[Act.FENCE](side)
        await nothing_fenced(side)
        return event

    monkeypatch.setattr("vferry.migration.source_acts.fence", lambda *_: None)
    words = broken_claims(monkeypatch, begin__SOURCE_ACTS={**SOURCE_ACTS, Act.FENCE: fence_and_take_back})
    assert "no frame reached a dead VF" in words


def test_with_the_mac_programmed_before_the_vm_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programmed once the VFs are the waiting VM's: what is set before is gone by their reset."""

    async def receive_and_program(side: Coordinator) -> Event:
        receive = side.host.hypervisor.receive

        async def then_program(vm: str, vfs: object) -> str:
            uri = await receive(vm, VFS["B"])
            wanted = [saved.admin for saved in record_of(side.entry).vfs]
            program(side.host, list(zip(destination_refs(side.entry), wanted, strict=True)), "too early")
            return uri

        side.host.hypervisor.receive = then_program  # type: ignore[method-assign]
        return await DESTINATION_ACTS[Act.RECEIVE](side)

    acts = {**DESTINATION_ACTS, Act.RECEIVE: receive_and_program}
    words = broken_claims(monkeypatch, begin__DESTINATION_ACTS=acts)
    assert "no frame was swallowed" in words
    assert "two NICs receive" in words


def test_with_half_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The MAC comes with the VF's own state; the rate does not."""

    def program_less(host: object, wanted: list[tuple[object, object]], name: str) -> object:
        less = [(ref, msgspec.structs.replace(state, rate=None)) for ref, state in wanted]  # type: ignore[type-var]
        return program(host, less, name)  # type: ignore[arg-type]

    assert "max rate" in broken_claims(monkeypatch, destination_acts__program=program_less)


def test_without_the_release(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(side: Coordinator) -> Event:
        return Event.FAILED

    words = broken_claims(monkeypatch, begin__SOURCE_ACTS={**SOURCE_ACTS, Act.RELEASE: never})
    assert "there was no release" in words


def test_the_error_has_all_of_it(report: Report) -> None:
    (run,) = (one for one in report.runs if one.name == "vferry")
    claim = msgspec.structs.replace(run.claims[0], holds=False, why="it was not")
    bad = msgspec.structs.replace(report, runs=(msgspec.structs.replace(run, claims=(claim,)),))
    error = DemoNotCleanError(bad)
    assert f"{claim.text}: it was not" in str(error)
    assert error.to_dict()["counts"] == bad.to_dict()["counts"]
