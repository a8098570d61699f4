# SPDX-License-Identifier: Apache-2.0
"""Every reachable state of every order, with the real tables and the real recovery."""

from __future__ import annotations

import re

import pytest

from vferry.core.migration.tables import Order
from vferry.testing.exploration.__main__ import main
from vferry.testing.exploration.explorer import Report, explore

ENDS_WITHOUT_PERSON = {
    Order.DEVICE_STATE: {"released / arrived", "kept / returned"},
    Order.DEVICE_STATE_EARLY: {"released / arrived", "kept / returned"},
    Order.FAILOVER: {"released / arrived", "released / on-standby", "kept / returned"},
    Order.COLD: {"released / arrived", "kept / returned"},
}
WAITS_FOR_PERSON = {order: {"await / blocked"} for order in Order}
WAITS_FOR_PERSON[Order.DEVICE_STATE_EARLY] = {"await / blocked", "retract / blocked"}
"""The source waits for a decision that only a person can bring about."""
BEFORE_ANYTHING_WAS_STAGED = {"refused / not begun", "kept / not begun", "kept / declined"}


def show(capsys: pytest.CaptureFixture[str], report: Report) -> None:
    with capsys.disabled():
        print(f"\n  {report}")
    if report.violation is not None:
        print(report.violation)


@pytest.mark.slow
@pytest.mark.parametrize("order", Order, ids=lambda order: order.name.lower())
def test_nothing_is_broken_in_any_reachable_state(order: Order, capsys: pytest.CaptureFixture[str]) -> None:
    report = explore(order)
    show(capsys, report)
    assert report.violation is None
    assert report.complete
    assert report.states > 100_000
    without_person = {end for end in report.ends if "blocked" not in end}
    assert without_person == ENDS_WITHOUT_PERSON[order] | BEFORE_ANYTHING_WAS_STAGED
    waits = {end for end in report.ends if end.split(" / ")[0] in {"await", "retract"}}
    assert waits == WAITS_FOR_PERSON[order]


def test_an_exploration_that_is_stopped_says_so() -> None:
    report = explore(Order.DEVICE_STATE, seconds=0)
    assert not report.complete
    assert report.violation is None
    assert "not complete" in str(report)


def test_command_prints_count_and_rate(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--order", "cold", "--seconds", "0"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^cold: \d+ states, \d+ transitions, not complete, [\d.]+ s, \d+ states/s$", out, re.MULTILINE)
