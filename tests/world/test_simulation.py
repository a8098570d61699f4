# SPDX-License-Identifier: Apache-2.0
"""Seeded simulations: deterministic, and nothing that must hold is ever violated."""

from __future__ import annotations

from collections import Counter

import pytest

from vferry.migration import source_acts
from vferry.testing.world import CALM, MODES, Fault, Outcome, simulate
from vferry.testing.world.__main__ import main

QUICK_SEEDS = range(4)
CRASH_SEED = 7
"""A VM with one VF."""


def healthy(outcome: Outcome) -> None:
    again = f"python -m vferry.testing.world --runs 1 --seed {outcome.seed} --mode {outcome.mode}"
    assert outcome.wrong == (), f"{again}\n{outcome.wrong}\n{outcome.log}"


@pytest.mark.parametrize("mode", MODES)
def test_the_same_seed_gives_the_same_log(mode: str) -> None:
    first, second = simulate(5, mode), simulate(5, mode)
    assert first.log == second.log
    assert first._replace(seconds=0.0) == second._replace(seconds=0.0)
    assert simulate(6, mode).log != first.log


@pytest.mark.parametrize("seed", QUICK_SEEDS)
def test_a_few_seeds(seed: int) -> None:
    healthy(simulate(seed))


@pytest.mark.slow
def test_two_thousand_seeds() -> None:
    endings: Counter[str] = Counter()
    for seed in range(100, 2100):
        outcome = simulate(seed)
        healthy(outcome)
        endings[outcome.ended] += 1
    assert set(endings) >= {"moved", "kept", "lost with its host", "blocked"}
    assert endings["moved"] > 600
    assert endings["kept"] > 600
    assert endings["blocked"] < 40


def steps(mode: str, host: str) -> int:
    calm = simulate(CRASH_SEED, mode, faults=CALM)
    healthy(calm)
    assert calm.ended == "moved"
    return calm.counters[f"steps on {host}"]


def crash(mode: str, host: str, kind: str, step: int, seconds: float) -> str:
    fault = Fault(at=0.0, kind=kind, host=host, seconds=seconds, step=step)
    outcome = simulate(CRASH_SEED, mode, faults=CALM._replace(faults=(fault,)))
    healthy(outcome)
    return outcome.ended


@pytest.mark.parametrize("host", ["A", "B"])
@pytest.mark.parametrize("mode", MODES)
def test_an_agent_dies_at_some_steps(mode: str, host: str) -> None:
    for step in range(9, steps(mode, host) + 1, 41):
        assert crash(mode, host, "kill at a step", step, 0.3) in ("moved", "kept")


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.1, 5.0])
@pytest.mark.parametrize("host", ["A", "B"])
@pytest.mark.parametrize("mode", MODES)
def test_an_agent_dies_at_every_step(mode: str, host: str, seconds: float) -> None:
    """No crash of an agent needs a person, however long it is away."""
    endings = {crash(mode, host, "kill at a step", step, seconds) for step in range(1, steps(mode, host) + 1)}
    assert endings >= {"moved", "kept"}
    assert endings <= {"moved", "kept", "not begun"}


@pytest.mark.slow
@pytest.mark.parametrize("host", ["A", "B"])
@pytest.mark.parametrize("mode", MODES)
def test_a_host_crashes_at_every_step(mode: str, host: str) -> None:
    """Only where it cannot be known whether the VM ran on B is a person needed."""
    endings = Counter(crash(mode, host, "host crash at a step", step, 0.5) for step in range(1, steps(mode, host) + 1))
    assert endings["blocked"] <= (9 if host == "B" else 0)


def test_the_command_says_what_became_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs", "3", "--seed", "1", "--mode", "cold"]) == 0
    printed = capsys.readouterr().out
    assert "3 runs, 0 with violations" in printed
    assert sum(int(line.split()[0]) for line in printed.splitlines() if "cold:" in line) == 3


def test_the_command_shows_a_violation_with_its_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_acts, "fence", lambda *_args: [])
    assert main(["--runs", "1", "--seed", "7", "--mode", "carried"]) == 1
    printed = capsys.readouterr().out
    assert "VIOLATION" in printed
    assert "again: python -m vferry.testing.world --runs 1 --seed 7 --mode carried" in printed
