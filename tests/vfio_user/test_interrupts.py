# SPDX-License-Identifier: Apache-2.0
"""SET_IRQS: eventfds come, go, are masked; nothing that makes no sense changes anything."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.vfio_user.models import Model
from tests.vfio_user.sessions import Served, open_fds, refused, served
from vferry.core.vfio.constants import Command, IrqIndex, IrqSetFlags, RegionIndex
from vferry.core.vfio.layouts import IRQ_SET

F = IrqSetFlags
TRIGGER_FD = F.DATA_EVENTFD | F.ACTION_TRIGGER
TRIGGER = F.DATA_NONE | F.ACTION_TRIGGER
MSIX, INTX = IrqIndex.MSIX, IrqIndex.INTX


@contextmanager
def eventfds(count: int, flags: int = os.EFD_NONBLOCK) -> Iterator[list[int]]:
    fds = [os.eventfd(0, flags | os.EFD_CLOEXEC) for _ in range(count)]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def signals(fds: list[int]) -> list[int]:
    """How often each was signalled since the last call."""
    found = []
    for fd in fds:
        try:
            found.append(os.eventfd_read(fd))
        except BlockingIOError:
            found.append(0)
    return found


def ring(session: Served, vector: int) -> None:
    session.client.write(RegionIndex.BAR0, 32, bytes([vector]))


def test_interrupts_arrive() -> None:
    before = open_fds()
    with eventfds(3) as fds, served() as session:
        session.client.set_irqs(TRIGGER_FD, MSIX, 0, 3, fds=fds)
        for vector in (1, 2, 2):
            ring(session, vector)
        assert signals(fds) == [0, 1, 2]
    assert open_fds() == before


def test_nobody_listens() -> None:
    with served() as session:
        ring(session, 0)
        assert session.model.guest is not None
        assert session.model.guest.trigger(MSIX, 0) is False


def test_a_vector_alone_is_connected_and_replaced() -> None:
    before = open_fds()
    with eventfds(3) as fds, served() as session:
        session.client.set_irqs(TRIGGER_FD, MSIX, 1, 1, fds=fds[:1])
        session.client.set_irqs(TRIGGER_FD, MSIX, 1, 1, fds=fds[1:2])
        ring(session, 1)
        ring(session, 0)
        assert signals(fds) == [0, 1, 0]
    assert open_fds() == before


def test_minus_one_comes_as_no_descriptors() -> None:
    with eventfds(3) as fds, served() as session:
        session.client.set_irqs(TRIGGER_FD, MSIX, 0, 3, fds=fds)
        session.client.set_irqs(TRIGGER_FD, MSIX, 1, 2)
        for vector in range(3):
            ring(session, vector)
        assert signals(fds) == [1, 0, 0]


def test_no_interrupts_at_all_disables_the_index() -> None:
    with eventfds(4) as fds, served() as session:
        session.client.set_irqs(TRIGGER_FD, MSIX, 0, 3, fds=fds[:3])
        session.client.set_irqs(TRIGGER_FD, INTX, 0, 1, fds=fds[3:])
        session.client.set_irqs(TRIGGER, MSIX, 0, 0)
        for vector in range(3):
            ring(session, vector)
        assert session.model.guest is not None
        assert session.model.guest.trigger(INTX, 0) is True
        assert signals(fds) == [0, 0, 0, 1]


def test_a_client_may_trigger_itself() -> None:
    with eventfds(3) as fds, served() as session:
        session.client.set_irqs(TRIGGER_FD, MSIX, 0, 3, fds=fds)
        session.client.set_irqs(TRIGGER, MSIX, 1, 2)
        session.client.set_irqs(F.DATA_BOOL | F.ACTION_TRIGGER, MSIX, 0, 3, data=b"\1\0\1")
        assert signals(fds) == [1, 1, 2]


def test_a_masked_interrupt_waits() -> None:
    with eventfds(1) as fds, served() as session:
        guest = session.model.guest
        assert guest is not None
        session.client.set_irqs(TRIGGER_FD, INTX, 0, 1, fds=fds)
        assert guest.trigger(INTX, 0) is True  # masks itself
        assert guest.trigger(INTX, 0) is False
        assert signals(fds) == [1]
        session.client.set_irqs(F.DATA_NONE | F.ACTION_UNMASK, INTX, 0, 1)
        assert signals(fds) == [1]
        session.client.set_irqs(F.DATA_BOOL | F.ACTION_UNMASK, INTX, 0, 1, data=b"\1")
        assert signals(fds) == [0]
        session.client.set_irqs(F.DATA_NONE | F.ACTION_MASK, INTX, 0, 1)
        assert guest.trigger(INTX, 0) is False
        session.client.set_irqs(F.DATA_BOOL | F.ACTION_UNMASK, INTX, 0, 1, data=b"\0")
        assert signals(fds) == [0]


def test_a_full_counter_does_not_block() -> None:
    most = (1 << 64) - 2
    for flags in (0, os.EFD_NONBLOCK):
        with eventfds(1, flags) as fds, served() as session:
            os.eventfd_write(fds[0], most)
            session.client.set_irqs(TRIGGER_FD, MSIX, 0, 1, fds=fds)
            ring(session, 0)
            assert os.eventfd_read(fds[0]) == most


@pytest.mark.parametrize(
    ("flags", "index", "start", "count", "data", "number"),
    [
        (TRIGGER_FD, MSIX, 0, 4, b"", 4),
        (TRIGGER_FD, MSIX, 3, 1, b"", 1),
        (TRIGGER_FD, MSIX, 0xFFFFFFFF, 1, b"", 1),
        (TRIGGER_FD, MSIX, 1, 0xFFFFFFFF, b"", 0),
        (TRIGGER_FD, MSIX, 0, 2, b"", 1),
        (TRIGGER_FD, MSIX, 0, 1, b"", 2),
        (TRIGGER_FD, MSIX, 0, 0, b"", 0),
        (TRIGGER, MSIX, 1, 0, b"", 0),
        (TRIGGER, MSIX, 0, 1, b"", 1),
        (TRIGGER, MSIX, 0, 1, b"\1", 0),
        (F.DATA_BOOL | F.ACTION_TRIGGER, MSIX, 0, 2, b"\1", 0),
        (F.DATA_BOOL | F.ACTION_TRIGGER, MSIX, 0, 0, b"", 0),
        (F.DATA_NONE | F.ACTION_MASK, MSIX, 0, 1, b"", 0),
        (F.DATA_EVENTFD | F.ACTION_UNMASK, INTX, 0, 1, b"", 1),
        (F.DATA_NONE | F.ACTION_MASK, INTX, 0, 0, b"", 0),
        (F.DATA_NONE, MSIX, 0, 1, b"", 0),
        (F.ACTION_TRIGGER, MSIX, 0, 1, b"", 0),
        (F.DATA_NONE | F.DATA_BOOL | F.ACTION_TRIGGER, MSIX, 0, 1, b"\1", 0),
        (TRIGGER | F.ACTION_MASK, INTX, 0, 1, b"", 0),
        (TRIGGER | 0x40, MSIX, 0, 1, b"", 0),
        (TRIGGER_FD, IrqIndex.MSI, 0, 1, b"", 1),
        (TRIGGER, IrqIndex.MSI, 0, 0, b"", 0),
        (TRIGGER, 5, 0, 0, b"", 0),
        (TRIGGER, 0xFFFFFFFF, 0, 1, b"", 0),
    ],
)
def test_requests_that_make_no_sense(  # noqa: PLR0917
    flags: F, index: int, start: int, count: int, data: bytes, number: int
) -> None:
    before = open_fds()
    with eventfds(3) as fds, eventfds(number) as others, served() as session:
        session.client.set_irqs(TRIGGER_FD, MSIX, 0, 3, fds=fds)
        with refused(errno.EINVAL):
            session.client.set_irqs(flags, index, start, count, data=data, fds=others)
        for vector in range(3):
            ring(session, vector)
        assert signals(fds) == [1, 1, 1]
        assert signals(others) == [0] * number
    assert open_fds() == before


def test_what_is_no_eventfd_is_refused() -> None:
    before = open_fds()
    reader, writer = os.pipe()
    with eventfds(1) as fds, served(Model()) as session:
        with refused(errno.EINVAL):
            session.client.set_irqs(TRIGGER_FD, MSIX, 0, 2, fds=[fds[0], writer])
        ring(session, 0)
        assert signals(fds) == [0]
    os.close(reader)
    os.close(writer)
    assert open_fds() == before


def test_a_short_request() -> None:
    with served() as session, refused(errno.EINVAL):
        session.client.call(Command.DEVICE_SET_IRQS, IRQ_SET.pack(20, TRIGGER, MSIX, 0, 0)[:-1])
