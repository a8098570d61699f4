# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

import pytest

from vferry.core.model import AdminState, EswitchMode, FunctionState, PciState
from vferry.core.undo import UndoKind, UndoRecord, VfIdentity, VfKey
from vferry.testing import (
    NETDEVSIM_LIKE,
    Crash,
    CrashingJournal,
    CrashingNic,
    CrashPoints,
    MemoryJournal,
    MemoryNic,
    MemoryPf,
    each_crash,
)

KEY = VfKey(device="0000:01:00.0", index=0)
RECORD = UndoRecord(
    kind=UndoKind.FENCE,
    transaction="t",
    lead=KEY,
    identity=VfIdentity(boot_id="b", pf="eth0", key=KEY, num_vfs=7),
    before=AdminState(),
    wanted=AdminState(trust=True),
    started="2026-01-01T00:00:00Z",
)
TRUST = {0: AdminState(trust=True)}
MAC, OTHER_MAC = "52:54:00:00:00:01", "52:54:00:00:00:02"


class World:
    def __init__(self, points: CrashPoints) -> None:
        self.nic = MemoryNic(pfs=[MemoryPf(name="eth0", behaviour=NETDEVSIM_LIKE)])
        self.journal = MemoryJournal()
        self.dying_nic = CrashingNic(self.nic, points)
        self.dying_journal = CrashingJournal(self.journal, points)

    def change(self) -> None:
        armed = self.dying_nic.arm("eth0", TRUST)
        self.dying_journal.put(RECORD)
        armed.send()
        self.dying_journal.remove(KEY)

    @property
    def state(self) -> tuple[int, bool | None]:
        return len(self.journal.storage), self.nic.read("eth0").vfs[0].admin.trust


def test_every_crash_between_two_steps_is_explored_in_order() -> None:
    worlds: list[World] = []

    def run(points: CrashPoints) -> None:
        worlds.append(World(points))
        worlds[-1].change()

    seen = [(points.steps[-1], worlds[-1].state) for points in each_crash(run)]
    assert seen == [
        (f"before put {KEY}", (0, False)),
        (f"after put {KEY}", (1, False)),
        ("before send eth0/0", (1, False)),
        ("after send eth0/0", (1, True)),
        (f"before remove {KEY}", (1, True)),
        (f"after remove {KEY}", (0, True)),
    ]
    assert worlds[-1].state == (0, True), "the last run came to its end"


CHANGES: list[tuple[str, Callable[[World], object]]] = [
    ("program", lambda world: world.dying_nic.program("eth0", TRUST)),
    ("write_pci", lambda world: world.dying_nic.write_pci("eth0", 0, PciState(command=4))),
    ("reset_vf", lambda world: world.dying_nic.reset_vf("eth0", 0)),
    ("set_pf", lambda world: world.dying_nic.set_pf("eth0", mtu=9000)),
    ("add_fdb", lambda world: world.dying_nic.add_fdb("eth0", OTHER_MAC)),
    ("remove_fdb", lambda world: world.dying_nic.remove_fdb("eth0", MAC)),
    ("set_eswitch_mode", lambda world: world.dying_nic.set_eswitch_mode("eth0", EswitchMode.SWITCHDEV)),
    ("program_function", lambda world: world.dying_nic.program_function("eth0", 0, FunctionState(tx_max=1))),
]


@pytest.mark.parametrize(("name", "change"), CHANGES, ids=[name for name, _change in CHANGES])
def test_every_change_has_a_step_before_and_after(name: str, change: Callable[[World], object]) -> None:
    def state_after(at: int | None) -> tuple[bytes, int, list[str]]:
        points = CrashPoints(at)
        world = World(points)
        if name == "program_function":
            world.nic.set_eswitch_mode("eth0", EswitchMode.SWITCHDEV)
        world.nic.add_fdb("eth0", MAC)
        with suppress(Crash):
            change(world)
        return world.nic.snapshot(), world.nic.resets("eth0", 0), points.steps

    before, after, done = state_after(1), state_after(2), state_after(None)
    assert before[:2] != after[:2]
    assert after == done
    assert [step.split()[:2] for step in done[2]] == [["before", name], ["after", name]]


READS: list[Callable[[World], object]] = [
    lambda world: world.dying_nic.host(),
    lambda world: world.dying_nic.pfs(),
    lambda world: world.dying_nic.pf("eth0"),
    lambda world: world.dying_nic.vfs("eth0"),
    lambda world: world.dying_nic.read("eth0"),
    lambda world: world.dying_nic.read_pci("eth0", 0),
    lambda world: world.dying_nic.read_function("eth0", 0),
    lambda world: world.dying_nic.read_fdb("eth0"),
    lambda world: world.dying_nic.arm("eth0", TRUST),
    lambda world: world.dying_journal.get(KEY),
    lambda world: world.dying_journal.records(),
]


@pytest.mark.parametrize("read", READS)
def test_the_dead_do_nothing(read: Callable[[World], object]) -> None:
    points = CrashPoints(1)
    world = World(points)
    read(world)
    assert points.steps == [], "reading is no step"
    with pytest.raises(Crash):
        world.dying_nic.reset_vf("eth0", 0)
    before = world.nic.snapshot()
    for act in (read, *(change for _name, change in CHANGES)):
        with pytest.raises(Crash):
            act(world)
    with pytest.raises(Crash):
        world.dying_journal.put(RECORD)
    assert world.nic.snapshot() == before
    assert world.journal.storage == {}


def test_no_handler_of_exceptions_sees_a_crash() -> None:
    def run() -> None:
        with suppress(Exception):
            CrashPoints(1).step("die")

    with pytest.raises(Crash):
        run()


def test_a_real_process_is_killed() -> None:
    code = "from vferry.testing import CrashPoints\np = CrashPoints(2, kill=True)\np.step('one')\np.step('two')"
    result = subprocess.run([sys.executable, "-c", code], check=False, env=dict(os.environ), timeout=60)
    assert result.returncode == -signal.SIGKILL
