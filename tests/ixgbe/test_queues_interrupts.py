# SPDX-License-Identifier: Apache-2.0
"""From a queue's cause to a vector: VTIVAR, VTEITR, masks."""

from __future__ import annotations

import pytest

from tests.ixgbe.queues_rig import Guest, Pair, ethernet
from vferry.nic.ixgbe.registers import vf

WDIS = 1 << 31
ITR_20K = 200
"""25 units of 2 us."""


def arrive(pair: Pair, count: int = 1) -> None:
    for _ in range(count):
        pair.rig.hw.receive(ethernet(pair.guests[0].mac, b"\x06" * 6, bytes(50), 0x88B5))


def unmask(guest: Guest, vectors: int = 7) -> None:
    guest.bar.write(vf.VTEIMS.offset, vectors)


@pytest.mark.parametrize("queue", [0, 1, 2, 3])
@pytest.mark.parametrize("tx", [False, True])
@pytest.mark.parametrize("vector", [0, 1, 2, 3, 127])
def test_vtivar_names_the_vector(queue: int, tx: bool, vector: int) -> None:
    pair = Pair(1, queues=4)
    guest = pair.guests[0]
    for index in range(4):
        guest.bar.write(vf.VTIVAR.address(index), 0)
    entry = (0x80 | vector) << 16 * (queue & 1) + 8 * tx
    guest.bar.write(vf.VTIVAR.address(queue // 2), entry)
    interrupts = pair.rig.hw.queues(0).interrupts
    for other in range(4):
        interrupts.received(other)
        interrupts.transmitted(other)
    assert guest.interrupts == ([vector] if vector < 3 else [])
    guest.bar.write(vf.VTIVAR.address(queue // 2), entry & ~0x80808080)
    unmask(guest)
    interrupts.received(queue)
    interrupts.transmitted(queue)
    assert guest.interrupts == ([vector] if vector < 3 else [])


def test_a_vector_masks_itself_and_what_came_meanwhile_fires_at_the_unmask() -> None:
    pair = Pair(1)
    guest = pair.guests[0]
    arrive(pair, 3)
    assert guest.interrupts == [0]
    assert guest.bar.read(vf.VTEIMS.offset) == 6
    unmask(guest, 1)
    assert guest.interrupts == [0, 0]
    unmask(guest, 1)
    assert guest.interrupts == [0, 0]


def test_without_auto_mask_and_auto_clear() -> None:
    pair = Pair(1)
    guest = pair.guests[0]
    guest.bar.write(vf.VTEIAM.offset, 0)
    guest.bar.write(vf.VTEIAC.offset, 0)
    arrive(pair)
    assert (guest.interrupts, guest.bar.read(vf.VTEIMS.offset)) == ([0], 7)
    assert guest.bar.read(vf.VTEICR.offset) == 1
    assert guest.bar.read(vf.VTEICR.offset) == 0


def test_sending_raises_once_a_doorbell() -> None:
    pair = Pair(1)
    guest = pair.guests[0]
    for _ in range(3):
        guest.send(ethernet(b"\x06" * 6, guest.mac, bytes(50)), ring=False)
    guest.ring_doorbell()
    assert guest.interrupts == [0]
    guest.put(0, *guest.context(None, None, None))
    unmask(guest)
    guest.ring_doorbell()
    assert guest.interrupts == [0]  # nothing was written back


def test_moderation_holds_a_vector_back_until_its_interval_is_over() -> None:
    pair = Pair(1)
    guest, hw = pair.guests[0], pair.rig.hw
    guest.bar.write(vf.VTEITR.address(0), ITR_20K | WDIS)
    arrive(pair)
    unmask(guest)
    start = pair.rig.now
    arrive(pair, 5)
    assert guest.interrupts == [0]
    assert hw.next_service() == pytest.approx(start + 50e-6)
    pair.rig.advance(49e-6)
    hw.service()
    assert guest.interrupts == [0]
    pair.rig.advance(2e-6)
    hw.service()
    assert guest.interrupts == [0, 0]
    assert hw.next_service() is None
    unmask(guest)
    assert guest.interrupts == [0, 0]
    pair.rig.advance(51e-6)
    arrive(pair)
    assert guest.interrupts == [0, 0, 0]


def test_an_interval_begins_when_the_vector_fires_not_when_its_cause_comes() -> None:
    pair = Pair(1)
    guest = pair.guests[0]
    guest.bar.write(vf.VTEITR.address(0), ITR_20K | WDIS)
    guest.bar.write(vf.VTEIMC.offset, 7)
    arrive(pair)
    pair.rig.advance(1.0)
    unmask(guest)
    assert guest.interrupts == [0]
    unmask(guest)
    arrive(pair)
    assert guest.interrupts == [0]
    pair.rig.advance(60e-6)
    pair.rig.hw.service()
    assert guest.interrupts == [0, 0]


def test_a_write_without_wdis_ends_the_interval() -> None:
    pair = Pair(1)
    guest = pair.guests[0]
    guest.bar.write(vf.VTEITR.address(0), ITR_20K | WDIS)
    arrive(pair)
    unmask(guest)
    guest.bar.write(vf.VTEITR.address(0), ITR_20K | WDIS)
    arrive(pair)
    assert guest.interrupts == [0]
    pair.rig.advance(60e-6)
    pair.rig.hw.service()
    unmask(guest)
    assert guest.interrupts == [0, 0]
    guest.bar.write(vf.VTEITR.address(0), ITR_20K)
    arrive(pair)
    assert guest.interrupts == [0, 0, 0]


def test_vectors_are_moderated_each_by_itself() -> None:
    pair = Pair(1, queues=2)
    guest = pair.guests[0]
    guest.bar.write(vf.VTEITR.address(0), 0xFF8 | WDIS)
    interrupts = pair.rig.hw.queues(0).interrupts
    for queue in (0, 1, 0, 1):
        interrupts.received(queue)
        unmask(guest)
    assert guest.interrupts == [0, 1, 1]
    pair.rig.advance(1022e-6)
    pair.rig.hw.service()
    assert guest.interrupts == [0, 1, 1, 0]


def test_a_reset_forgets_what_was_held() -> None:
    pair = Pair(1)
    guest = pair.guests[0]
    guest.bar.write(vf.VTEITR.address(0), ITR_20K | WDIS)
    arrive(pair)
    unmask(guest)
    arrive(pair)
    pair.rig.hw.flr(0)
    pair.rig.advance(1)
    pair.rig.hw.service()
    assert guest.interrupts.count(0) == 1
