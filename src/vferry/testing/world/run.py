# SPDX-License-Identifier: Apache-2.0
"""One simulated migration with a seed: built, disturbed, ended, examined."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import trio
from trio._core import _run as trio_scheduler
from trio.testing import MockClock

from vferry.core.fence import Mode
from vferry.core.model import AdminState, Rate
from vferry.testing.world.examine import Ending, examine
from vferry.testing.world.faults import FaultPlan, carry_out, plan_faults
from vferry.testing.world.world import World

__all__ = ["MODES", "Outcome", "run_deterministic", "simulate"]

T = TypeVar("T")

WARM_UP = 12.0
"""Seconds until the migration: a VF driver mends a lost session only ten seconds after its last reset."""
PATIENCE = 120.0
"""Seconds in which everything must be over once the faults have stopped."""

MODES = ("carried", "rebuilt", "early", "failover", "cold")
"""Device-state mode comes three times: vferry carries the session, has it rebuilt, or the hypervisor carries it and
everything is programmed early."""

SHAPES = ("one", "one", "one", "bond", "four")
"""A VM with one VF, with two that share a MAC on two PFs, or with four."""


class Outcome(NamedTuple):
    """What became of one simulated migration."""

    seed: int
    mode: str
    ended: str
    """The ending's kind; "violation" where something did not hold."""
    why: str
    wrong: tuple[str, ...]
    """What did not hold, at any moment or at the end."""
    virtual_seconds: float
    seconds: float
    counters: dict[str, int]
    log: str


def run_deterministic(main: Callable[[], Awaitable[T]], seed: int) -> T:
    """Run an asynchronous function with trio under a mock clock, tasks scheduled as the seed says."""
    trio_scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # noqa: SLF001 -- trio has no public way
    trio_scheduler._r.seed(seed)  # noqa: SLF001 -- trio has no public way
    try:
        return trio.run(main, clock=MockClock(autojump_threshold=0))
    except BaseExceptionGroup as group:
        raise _only_one(group) from None


def _only_one(error: BaseException) -> BaseException:
    """Take an error out of the groups that nurseries wrap around it, where there is but one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def simulate(seed: int, mode: str | None = None, *, faults: FaultPlan | None = None) -> Outcome:
    """Simulate one migration.

    :param mode: one of :data:`MODES`; None: the seed chooses.
    :param faults: None: the seed's own plan.
    """
    chosen = mode or MODES[seed // 7 % len(MODES)]
    began = time.perf_counter()

    async def main() -> Outcome:
        return await _simulate(seed, chosen, plan_faults(seed) if faults is None else faults)

    outcome = run_deterministic(main, seed)
    return outcome._replace(seconds=time.perf_counter() - began)


async def _simulate(seed: int, mode: str, plan: FaultPlan) -> Outcome:
    chance = random.Random(f"{seed}/world")  # noqa: S311 -- a simulation
    shape = chance.choice(SHAPES)
    async with World(
        seed,
        pfs=("eth0", "eth1") if shape == "bond" else ("eth0",),
        hypervisor_carries=mode == "early",
        resetting=("B",) if mode == "early" else (),
    ) as world:
        places, settings = _shape(shape, chance)
        await world.add_vm("vm", "A", vfs=places, settings=settings, standby=mode == "failover")
        await trio.sleep(WARM_UP)
        world.nursery.start_soon(world.traffic.run)
        with trio.CancelScope() as scope:
            world.on_violation = scope.cancel
            world.migrate("m", "vm", "A", "B", _mode_of(mode), carried=mode != "rebuilt")
            await carry_out(plan, world, "m", "vm")
            await world.wait_settled(seconds=PATIENCE)
            await trio.sleep(1.0)
            ending = await examine(world, "m", "vm", "A", "B")
            return _outcome(seed, mode, world, ending)
        return _outcome(seed, mode, world, Ending("violation", "", ()))


def _shape(shape: str, chance: random.Random) -> tuple[dict[str, list[tuple[str, int]]], list[AdminState]]:
    """Return the VFs of a VM on both hosts, and what they are set to."""
    count = {"one": 1, "bond": 2, "four": 4}[shape]
    pfs = ["eth0", "eth1"] if shape == "bond" else ["eth0"] * count
    places = {
        "A": [(pf, number) for number, pf in enumerate(pfs)],
        "B": [(pf, number + 2) for number, pf in enumerate(pfs)],
    }
    spoofchk, trust = chance.random() < 0.8, chance.random() < 0.2
    rate = Rate(min_tx=0, max_tx=chance.choice([0, 0, 1000]))
    settings = [
        AdminState(
            mac=f"52:54:00:00:00:{1 if shape == 'bond' else 1 + number:02x}", spoofchk=spoofchk, trust=trust, rate=rate
        )
        for number in range(count)
    ]
    return places, settings


def _mode_of(mode: str) -> Mode:
    return {"failover": Mode.FAILOVER, "cold": Mode.COLD}.get(mode, Mode.DEVICE_STATE)


def _outcome(seed: int, mode: str, world: World, ending: Ending) -> Outcome:
    found = (*world.violations, *ending.wrong)
    return Outcome(
        seed=seed,
        mode=mode,
        ended="violation" if found else ending.kind,
        why=ending.why,
        wrong=found,
        virtual_seconds=trio.current_time(),
        seconds=0.0,
        counters=world.counters(),
        log=world.log.text,
    )
