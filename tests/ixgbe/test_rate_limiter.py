# SPDX-License-Identifier: Apache-2.0
"""The rate limiter: no faster than the rate, no slower than it either, and always in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vferry.nic.ixgbe.rate_limiter import BACKLOG, FACTOR_ONE, RateLimiter

ENABLE = 1 << 31


def factor(value: float) -> int:
    return ENABLE | int(value * FACTOR_ONE)


def drain(limiter: RateLimiter) -> list[tuple[float, int, bytes]]:
    """Take everything, each frame at its own instant."""
    taken: list[tuple[float, int, bytes]] = []
    while (when := limiter.next_release()) is not None:
        released = limiter.pop(when)
        assert released is not None, "what next_release names is due then"
        taken.append((when, *released))
    return taken


def offer_all(limiter: RateLimiter, pool: int, frames: list[bytes], now: float = 0.0) -> None:
    for frame in frames:
        assert limiter.offer(pool, frame, now)


@pytest.mark.parametrize(("megabits", "speed"), [(10_000, 10_000), (100, 10_000), (11, 10_000), (10, 1000)])
def test_the_rate_is_the_links_speed_through_the_factor(megabits: int, speed: int) -> None:
    limiter = RateLimiter()
    limiter.set_link_speed(speed)
    limiter.set_rate(5, factor(speed / megabits))
    offer_all(limiter, 5, [bytes(1246)] * 101)
    taken = drain(limiter)
    assert taken[0][0] == 0.0
    assert taken[-1][0] == pytest.approx(100 * 1250 * 8 / (megabits * 1e6), rel=1e-3)


def test_a_factor_below_one_is_one() -> None:
    limiter = RateLimiter()
    limiter.set_rate(0, ENABLE)
    offer_all(limiter, 0, [bytes(1246)] * 2)
    assert drain(limiter)[1][0] == pytest.approx(1e-6)


def test_without_rs_ena_the_factor_means_nothing() -> None:
    limiter = RateLimiter()
    limiter.set_rate(0, factor(100) & ~ENABLE)
    assert not limiter.is_limited(0)


@given(
    st.lists(st.tuples(st.floats(0, 1e-3), st.integers(14, 1514)), min_size=1, max_size=30),
    st.floats(1, 1000),
    st.integers(0, 20),
)
def test_never_more_than_the_rate_and_the_window(
    arrivals: list[tuple[float, int]], slowness: float, window: int
) -> None:
    limiter = RateLimiter()
    limiter.set_window(window)
    limiter.set_rate(0, factor(slowness))
    for now, size in sorted(arrivals):
        assert limiter.offer(0, bytes(size), now)
    rate = 10e9 / 8 / (int(slowness * FACTOR_ONE) / FACTOR_ONE)
    taken = drain(limiter)
    for first in range(len(taken)):
        sent = 0.0
        for when, _, frame in taken[first:]:
            assert sent <= (when - taken[first][0]) * rate + window * 1024 + 1e-3
            sent += len(frame) + 4


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1e-4), st.integers(14, 1514)), max_size=40),
    st.lists(st.floats(0, 2e-4), max_size=10),
)
def test_how_often_it_is_asked_changes_nothing(arrivals: list[tuple[int, float, int]], looks: list[float]) -> None:
    """Taking frames late gives the same frames in the same order as taking each at its instant."""

    def run(times: list[float]) -> list[tuple[int, bytes]]:
        limiter = RateLimiter()
        for pool in range(3):
            limiter.set_rate(pool, factor(10 ** (pool + 1)))
        for number, (pool, now, size) in enumerate(sorted(arrivals, key=lambda arrival: arrival[1])):
            assert limiter.offer(pool, bytes([number]) * size, now)
        taken: list[tuple[int, bytes]] = []
        for time in [*sorted(times), 1.0]:
            while (released := limiter.pop(time)) is not None:
                taken.append(released)
        return taken

    lazily, eagerly = run([]), run(looks)
    assert lazily == eagerly
    assert len(lazily) == len(arrivals)
    for pool in range(4):
        numbers = [frame[0] for owner, frame in lazily if owner == pool]
        assert numbers == sorted(numbers), "a pool's frames stay in order"


def test_nothing_is_released_early() -> None:
    limiter = RateLimiter()
    limiter.set_rate(0, factor(10))
    offer_all(limiter, 0, [bytes(1246)] * 2)
    assert limiter.pop(0.0) == (0, bytes(1246))
    assert limiter.pop(9.99e-6) is None
    assert limiter.pop(10.01e-6) == (0, bytes(1246))
    assert limiter.pop(1.0) is None
    assert limiter.next_release() is None


def test_idling_saves_nothing_up_without_a_window() -> None:
    limiter = RateLimiter()
    limiter.set_rate(0, factor(10))
    offer_all(limiter, 0, [bytes(1246)])
    drain(limiter)
    offer_all(limiter, 0, [bytes(1246)] * 2, now=5.0)
    assert [when for when, _, _ in drain(limiter)] == pytest.approx([5.0, 5.0 + 10e-6], abs=1e-9)


def test_two_pools_at_one_instant_go_by_number() -> None:
    limiter = RateLimiter()
    for pool in (9, 2):
        limiter.set_rate(pool, factor(10))
        offer_all(limiter, pool, [b"frame"])
    assert [pool for _, pool, _ in drain(limiter)] == [2, 9]


def test_the_same_value_again_changes_nothing_and_another_starts_anew() -> None:
    limiter = RateLimiter()
    limiter.set_rate(0, factor(10))
    offer_all(limiter, 0, [bytes(1246)] * 2)
    limiter.pop(0.0)
    limiter.set_rate(0, factor(10))
    assert limiter.next_release() == pytest.approx(10e-6)
    limiter.set_rate(0, factor(20))
    assert limiter.next_release() == 0.0


def test_a_backlog_has_an_end_and_can_be_discarded() -> None:
    limiter = RateLimiter()
    limiter.set_rate(0, factor(10))
    offer_all(limiter, 0, [b"frame"] * BACKLOG)
    assert not limiter.offer(0, b"frame", 0.0)
    limiter.set_rate(0, 0)
    assert limiter.is_limited(0), "what waits goes first"
    assert limiter.discard(0) == [b"frame"] * BACKLOG
    assert limiter.next_release() is None
    assert not limiter.is_limited(0)


@pytest.mark.parametrize("speed", [0, -1])
def test_a_link_without_speed_is_refused(speed: int) -> None:
    with pytest.raises(ValueError, match="limits nothing"):
        RateLimiter().set_link_speed(speed)
