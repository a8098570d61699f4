# SPDX-License-Identifier: Apache-2.0
"""Negative controls: a coordinator that does something wrong is caught by the world's invariants."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio

from tests.migration.scene import move, play, stage
from vferry.core.migration.phases import Act, Event
from vferry.migration import begin, destination_acts, source_acts
from vferry.migration.coordinator import ActFunction, Coordinator
from vferry.testing.world import examine


def violations(mode: str = "carried", *, kill_after: float | None = None) -> str:
    """Move a VM, and return everything that the world found wrong."""

    async def scenario() -> str:
        async with stage(mode) as world:
            move(world, mode)
            if kill_after is not None:
                await trio.sleep(kill_after)
                world.hosts["A"].kill()
                await trio.sleep(0.3)
                await world.hosts["A"].start()
            await world.wait_settled(seconds=40.0)
            await trio.sleep(1.0)
            ending = await examine(world, "m", "vm", "A", "B")
            return "; ".join([*world.violations, *ending.wrong])

    return play(scenario)


def without(acts: Mapping[Act, ActFunction], act: Act) -> dict[Act, ActFunction]:
    """Return acts of which one does nothing."""

    async def nothing(_side: Coordinator) -> Event:
        return Event.DONE

    return {**acts, act: nothing}


def test_nothing_is_found_without_a_reason() -> None:
    assert violations() == ""


@pytest.mark.parametrize("mode", ["carried", "cold"])
def test_a_source_that_does_not_fence(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(source_acts, "fence", lambda *_args: [])
    assert "A receives for VM vm" in violations(mode)


def test_a_destination_that_programs_the_mac_at_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destination_acts, "without_mac", lambda state: state)
    assert "two NICs receive for VM vm" in violations()


def test_a_destination_that_does_not_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at the registry before it activates; where it does not, both receive."""
    monkeypatch.setattr(begin, "DESTINATION_ACTS", without(destination_acts.DESTINATION_ACTS, Act.COMMIT))
    assert violations() == ""

    async def ours(_side: Coordinator, _what: str) -> None:
        return

    monkeypatch.setattr(destination_acts, "_refuse_given_away", ours)
    assert "B receives for VM vm" in violations()


def test_a_destination_that_programs_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a MAC resets the VF, and the hypervisor has loaded it by then."""
    monkeypatch.setattr(destination_acts, "mac_resets_vf", lambda _pf: False)
    assert violations("early") != ""


def test_a_destination_that_keeps_what_it_staged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The VM is given back, and the MAC stays on B."""
    monkeypatch.setattr(destination_acts, "_take_out", lambda _side: None)
    monkeypatch.setattr(destination_acts, "_start", without({}, Act.START)[Act.START])

    async def failing(_side: Coordinator) -> Event:
        return Event.FAILED

    monkeypatch.setattr(begin, "DESTINATION_ACTS", {**destination_acts.DESTINATION_ACTS, Act.START: failing})
    assert "receive" in violations()


def test_a_source_that_does_not_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(begin, "SOURCE_ACTS", without(source_acts.SOURCE_ACTS, Act.RELEASE))
    assert "the VM is also on A" in violations()


def test_a_source_that_resumes_without_asking_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it hands over, it starts the VM again, which B runs by then."""
    monkeypatch.setattr(begin, "SOURCE_ACTS", without(source_acts.SOURCE_ACTS, Act.ABORT))
    assert "receive" in violations("cold", kill_after=0.2105)


def test_a_standby_whose_entry_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(begin, "SOURCE_ACTS", without(source_acts.SOURCE_ACTS, Act.STOP_STANDBY))
    assert "A receives for VM vm" in violations("failover")
