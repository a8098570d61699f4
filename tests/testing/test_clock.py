# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from vferry.testing import SimClock


def test_time_moves_only_by_sleep_and_advance() -> None:
    clock = SimClock(start=5.0, wall=100.0)
    assert (clock.monotonic(), clock.wall()) == (5.0, 100.0)
    clock.sleep(1.5)
    clock.advance(2.0)
    assert (clock.monotonic(), clock.wall()) == (8.5, 103.5)
    assert clock.sleeps == [1.5]


def test_time_does_not_go_back() -> None:
    clock = SimClock()
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-0.1)
    assert clock.monotonic() == 0.0
