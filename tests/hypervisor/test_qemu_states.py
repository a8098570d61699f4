# SPDX-License-Identifier: Apache-2.0
"""QEMU's words; the lists are QEMU 11.1's (``query-qmp-schema``: RunState, MigrationStatus)."""

import pytest

from vferry.hypervisor.qemu_states import VM_STATES, Capability, Stage, refused_capabilities, stage_of, vm_state
from vferry.ports.hypervisor import VmState

RUN_STATES = [
    "debug",
    "inmigrate",
    "internal-error",
    "io-error",
    "paused",
    "postmigrate",
    "prelaunch",
    "finish-migrate",
    "restore-vm",
    "running",
    "save-vm",
    "shutdown",
    "suspended",
    "watchdog",
    "guest-panicked",
    "colo",
]


def test_every_state_of_qemu_is_known() -> None:
    assert set(VM_STATES) == set(RUN_STATES)
    assert vm_state("made-up") is None


@pytest.mark.parametrize("status", ["running", "suspended", "colo"])
def test_what_may_act_runs(status: str) -> None:
    assert vm_state(status) is VmState.RUNNING


def test_the_others() -> None:
    assert vm_state("finish-migrate") is vm_state("prelaunch") is vm_state("paused") is VmState.PAUSED
    assert vm_state("inmigrate") is VmState.INCOMING
    assert vm_state("postmigrate") is VmState.MIGRATED


@pytest.mark.parametrize(
    ("status", "stage"),
    [
        ("none", Stage.NONE),
        ("setup", Stage.COPYING),
        ("wait-unplug", Stage.COPYING),
        ("active", Stage.COPYING),
        ("pre-switchover", Stage.STOPPED),
        ("device", Stage.SWITCHING),
        ("cancelling", Stage.ENDING),
        ("failing", Stage.ENDING),
        ("cancelled", Stage.FAILED),
        ("failed", Stage.FAILED),
        ("completed", Stage.COMPLETED),
        ("postcopy-active", None),
        ("postcopy-paused", None),
        ("colo", None),
    ],
)
def test_stages(status: str, stage: Stage | None) -> None:
    assert stage_of(status) is stage


def test_capabilities_that_are_on_and_unsafe() -> None:
    given = [("xbzrle", True), ("postcopy-ram", True), ("background-snapshot", False), ("x-colo", True)]
    assert refused_capabilities(Capability(capability=name, state=on) for name, on in given) == [
        "postcopy-ram",
        "x-colo",
    ]
