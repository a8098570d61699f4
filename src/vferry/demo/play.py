# SPDX-License-Identifier: Apache-2.0
"""Plays the runs, each in a world of its own under a mock clock, and gathers what there is to show."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vferry.core.fence import Mode
from vferry.demo import SimulationFailedError
from vferry.demo.attributes import compare, snapshot
from vferry.demo.claims import claims_of
from vferry.demo.report import Report, Run
from vferry.demo.runs import WAYS
from vferry.demo.scene import INTERVAL, LEAD, SETTLE, SHUT_DOWN, VFS, Scene
from vferry.testing.world.run import run_deterministic

__all__ = ["play"]


def play(*, seed: int, mode: str, runs: Sequence[str]) -> Report:
    """Do the runs; the same arguments give the same report.

    :raise SimulationFailedError: a run did not get to its end, or its books are not in order.
    """
    return Report(seed=seed, mode=mode, runs=tuple(_play(seed, Mode(mode), name) for name in runs))


def _play(seed: int, mode: Mode, name: str) -> Run:
    async def main() -> Run:
        scene = Scene(seed, mode)
        async with scene.world:
            return await _run(scene, mode, name)

    try:
        run = run_deterministic(main, seed)
        return msgspec.structs.replace(run, claims=claims_of(run, mode.value))
    except Exception as error:
        raise SimulationFailedError(seed=seed, mode=mode.value, run=name, error=error) from error


async def _run(scene: Scene, mode: Mode, name: str) -> Run:
    await scene.build()
    before = [snapshot(scene.software("A"), vf) for _, vf in VFS["A"]]

    async def move() -> None:
        await scene.sleep(LEAD)
        await WAYS[name].move(scene, mode)

    scene.world.nursery.start_soon(move)
    await scene.talk()
    await scene.sleep(SETTLE)
    after = [snapshot(scene.software("B"), vf) for _, vf in VFS["B"]]
    attributes = [one for vf, pair in enumerate(zip(before, after, strict=True)) for one in compare(vf, *pair)]
    times = {mark.name: mark.at for mark in reversed(scene.marks)}
    way, cold = WAYS[name], mode is Mode.COLD
    return Run(
        name=name,
        what=way.what,
        interval=1000 * INTERVAL,
        marks=tuple(scene.marks),
        talkers=tuple(
            account.talker(one.to_vm, one.to_peer)
            for account, one in zip(scene.accounts, scene.conversations, strict=True)
        ),
        swallowed=scene.accountant.swallowed(),
        attributes=tuple(attributes),
        stopped=round(times.get("resume", scene.now) - times.get("stop", scene.now), 3),
        boot=1000 * scene.boot if cold else None,
        shut_down=1000 * SHUT_DOWN if cold else None,
        clean_up=None if way.clean_up is None else 1000 * way.clean_up,
        notes=tuple(scene.world.violations) if name == "vferry" else (),
    )
