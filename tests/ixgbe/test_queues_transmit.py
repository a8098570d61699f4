# SPDX-License-Identifier: Apache-2.0
"""Frames from a guest's transmit rings, through the switch, into another guest's buffers."""

from __future__ import annotations

import random

import pytest

from tests.ixgbe import queues_rig
from tests.ixgbe.queues_rig import BASE, CC, DATA, EOP, IFCS, RS, SIZE, Pair, ethernet
from vferry.nic.ixgbe import pci_config
from vferry.nic.ixgbe.guest_memory import Region
from vferry.nic.ixgbe.registers import pf, vf
from vferry.nic.ixgbe.rings import QueueFault


@pytest.fixture(autouse=True, params=["by calls", "mapped"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "mapped":
        monkeypatch.setattr(queues_rig, "Memory", queues_rig.Mapped)


def frame_to(pair: Pair, sender: int, receiver: int, data: bytes) -> bytes:
    return ethernet(pair.guests[receiver].mac, pair.guests[sender].mac, data, 0x88B5)


def test_frames_go_both_ways() -> None:
    pair = Pair()
    one, other = pair.guests
    there, back = frame_to(pair, 0, 1, b"there" * 20), frame_to(pair, 1, 0, b"back" * 30)
    one.send(there)
    other.send(back)
    assert (one.clean_tx(), other.clean_tx()) == (1, 1)
    assert (one.clean_rx(), other.clean_rx()) == (1, 1)
    assert [got.frame for got in one.received] == [back]
    assert [got.frame for got in other.received] == [there]
    assert pair.wire == []


def test_a_short_frame_is_padded_and_one_for_elsewhere_leaves_by_the_wire() -> None:
    pair = Pair()
    frame = ethernet(b"\x06" * 6, pair.guests[0].mac, b"abc", 0x88B5)
    pair.guests[0].send(frame)
    assert pair.wire == [frame.ljust(60, b"\0")]


@pytest.mark.parametrize("pieces", [(), (14,), (1, 2, 3), (100, 0, 100), (17,) * 39])
def test_a_frame_in_many_pieces(pieces: tuple[int, ...]) -> None:
    pair = Pair()
    frame = frame_to(pair, 0, 1, random.Random(1).randbytes(1400))
    pair.guests[0].send(frame, pieces=pieces)
    assert pair.guests[1].clean_rx() == 1
    assert pair.guests[1].received[0].frame == frame


def test_rings_wrap_over_thousands_of_frames() -> None:
    pair = Pair(tx=64, rx=64, polled=False)
    draw, sent = random.Random(2), ([], [])  # type: ignore[var-annotated]
    for number in range(3000):
        sender = draw.randrange(2)
        size = draw.choice((46, 60, 500, 1486))
        frame = frame_to(pair, sender, 1 - sender, number.to_bytes(4, "big") + draw.randbytes(size - 4))
        pair.guests[sender].send(frame, pieces=(draw.randrange(1, size),) if size & 4 else ())
        sent[sender].append(frame)
        assert not pair.guests[sender].tx_ends[0]
    for sender in range(2):
        assert [got.frame for got in pair.guests[1 - sender].received] == sent[sender]
    assert all(not queues.faults and not queues.drops for queues in map(pair.rig.hw.queues, range(2)))


def test_a_burst_over_the_ring_s_end_goes_out_in_one_doorbell() -> None:
    pair = Pair(tx=64, rx=512)
    one, other = pair.guests
    frames = [frame_to(pair, 0, 1, bytes([number]) * 100) for number in range(100)]
    for first in range(0, 100, 20):
        for frame in frames[first : first + 20]:
            one.send(frame, pieces=(10,), ring=False)
        one.ring_doorbell()
        assert one.clean_tx() == 20
        one.tx_clean[0] = one.tx_use[0]
    other.clean_rx()
    assert [got.frame for got in other.received] == frames


def test_a_packet_whose_end_is_not_there_waits() -> None:
    pair = Pair()
    one, other = pair.guests
    frame = frame_to(pair, 0, 1, b"x" * 100)
    one.put(0, *one.context(None, None, None))
    one.put(0, one.map(frame[:50]), DATA | IFCS | 50 | (len(frame) << 14 | CC) << 32)
    one.ring_doorbell()
    one.ring_doorbell()
    assert pair.rig.hw.vf_peek(0, vf.VFTDH.address(0)) == 1
    one.put(0, one.map(frame[50:]), DATA | IFCS | EOP | RS | len(frame) - 50)
    one.ring_doorbell()
    assert other.clean_rx() == 1
    assert other.received[0].frame == frame
    assert pair.rig.hw.vf_peek(0, vf.VFTDH.address(0)) == 3


def test_only_descriptors_with_rs_are_written_back() -> None:
    pair = Pair()
    one = pair.guests[0]
    for _ in range(3):
        one.send(frame_to(pair, 0, 1, b"x" * 100), pieces=(20, 20))
    ring = [one.done(0, place) for place in range(12)]
    assert ring == [False, False, False, True] * 3


def test_what_is_written_through_a_region_is_told() -> None:
    pair = Pair()
    one = pair.guests[0]
    for _ in range(2):
        one.send(frame_to(pair, 0, 1, b"x" * 100), pieces=(20, 20), ring=False)
    one.ring_doorbell()
    assert [one.done(0, place) for place in (3, 7)] == [True, True]
    memory = one.memory
    ring = BASE + one.ring(0, tx=True)
    if isinstance(memory, queues_rig.Mapped):
        assert memory.told == [(ring, 8 * 16)]
        assert one.memory.dirty == set()
    else:
        assert one.memory.dirty == {one.ring(0, tx=True) >> 12}


def test_a_ring_over_the_end_of_its_region_is_written_by_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two mappings side by side: a ring, or a frame, may lie over the seam."""
    pair = Pair()
    one = pair.guests[0]
    seam = BASE + one.ring(0, tx=True) + 16

    def halved(self: queues_rig.Mapped, address: int, /) -> Region:
        view = memoryview(self.octets)
        return (
            Region(BASE, seam, view[: seam - BASE])
            if address < seam
            else Region(seam, BASE + SIZE, view[seam - BASE :])
        )

    monkeypatch.setattr(queues_rig.Mapped, "region", halved)
    frames = [frame_to(pair, 0, 1, bytes([number]) * 100) for number in range(3)]
    for frame in frames:
        one.send(frame, ring=False)
    one.ring_doorbell()
    assert one.clean_tx() == 3
    pair.guests[1].clean_rx()
    assert [got.frame for got in pair.guests[1].received] == frames


def test_head_write_back_in_place_of_dd() -> None:
    pair = Pair()
    one = pair.guests[0]
    one.bar.write(vf.VFTDWBAH.address(0), BASE >> 32)
    one.bar.write(vf.VFTDWBAL.address(0), (BASE + 0x8000 & 0xFFFFFFFF) | 1)
    for number in range(3):
        one.send(frame_to(pair, 0, 1, b"x" * 100))
        assert int.from_bytes(one.memory.octets[0x8000:0x8004], "little") == 2 * (number + 1)
    assert not any(one.done(0, place) for place in range(6))


def test_a_disabled_queue_sends_nothing_until_it_is_enabled() -> None:
    pair = Pair()
    one, other = pair.guests
    control = vf.VFTXDCTL.address(0)
    one.bar.write(control, one.bar.read(control) & ~vf.TXDCTL_ENABLE)
    one.send(frame_to(pair, 0, 1, b"late" * 20))
    assert (one.clean_tx(), other.clean_rx()) == (0, 0)
    one.bar.write(control, one.bar.read(control) | vf.TXDCTL_ENABLE)
    assert (one.clean_tx(), other.clean_rx()) == (1, 1)


def test_several_queues_each_with_its_own_ring() -> None:
    pair = Pair(queues=2)
    one, other = pair.guests
    for queue in (0, 1):
        one.send(frame_to(pair, 0, 1, bytes([queue]) * 60), queue=queue)
    assert [one.clean_tx(queue) for queue in (0, 1)] == [1, 1]
    other.clean_rx()
    assert [got.frame[14] for got in other.received] == [0, 1]
    one.configure_tx(1)
    one.put(1, 0, 0)
    one.ring_doorbell(1)
    assert pair.rig.hw.queues(0).faults == {(QueueFault.DESCRIPTOR, "tx", 1): 1}
    assert one.bar.read(vf.VFTXDCTL.address(0)) & vf.TXDCTL_ENABLE
    assert pair.rig.hw.peek(pf.WQBR_TX.address(0)) == 1 << 1
    other.put(1, 0, 0)
    other.ring_doorbell(1)
    assert pair.rig.hw.peek(pf.WQBR_TX.address(0)) == 1 << 1 | 1 << 4 + 1


def test_no_bus_mastering_no_dma() -> None:
    pair = Pair()
    one, other = pair.guests
    pair.rig.hw.vf_config_write(0, pci_config.COMMAND, 2, 2)
    one.send(frame_to(pair, 0, 1, b"x" * 60))
    assert one.clean_tx() == 0
    pair.rig.hw.vf_config_write(0, pci_config.COMMAND, 2, 6)
    pair.rig.hw.vf_config_write(1, pci_config.COMMAND, 2, 2)
    one.ring_doorbell()
    assert (one.clean_tx(), other.clean_rx()) == (1, 0)
    assert pair.rig.hw.vf_read(1, vf.VFGPRC.offset) == 0


GOOD = DATA | IFCS | EOP | RS


@pytest.mark.parametrize(
    ("low", "high", "fault"),
    [
        (0, GOOD | 100, QueueFault.MEMORY),
        (BASE - 1, GOOD | 100, QueueFault.MEMORY),
        (BASE + 0x3F_FFFF, GOOD | 100, QueueFault.MEMORY),
        ((1 << 64) - 1, GOOD | 100, QueueFault.MEMORY),
        (BASE, GOOD | 13, QueueFault.LENGTH),
        (BASE, GOOD | 9725, QueueFault.LENGTH),
        (BASE, GOOD | 65535, QueueFault.LENGTH),
        (BASE, GOOD, QueueFault.LENGTH),
        (BASE, GOOD & ~(1 << 29) | 100, QueueFault.DESCRIPTOR),
        (BASE, GOOD & ~0x00F00000 | 100, QueueFault.DESCRIPTOR),
        (BASE, GOOD | 0x00800000 | 100, QueueFault.DESCRIPTOR),
        (BASE, GOOD | 100 | 1 << 30 | 2 << 36, QueueFault.CONTEXT),
        (BASE, GOOD | 100 | 1 << 30 | 1 << 36, QueueFault.CONTEXT),
        (BASE, GOOD | 100 | 1 << 42, QueueFault.CONTEXT),
        (BASE, 0x20200000 | 2 << 36, QueueFault.CONTEXT),
    ],
)
def test_a_bad_descriptor_disables_its_queue(low: int, high: int, fault: QueueFault) -> None:
    pair = Pair()
    one, other = pair.guests
    good = frame_to(pair, 0, 1, b"before" * 20)
    one.send(good, ring=False)
    one.put(0, low, high)
    one.send(good, ring=False)
    one.ring_doorbell()
    assert pair.rig.hw.queues(0).faults == {(fault, "tx", 0): 1}
    assert not one.bar.read(vf.VFTXDCTL.address(0)) & vf.TXDCTL_ENABLE
    assert one.clean_tx() == 1
    assert one.bar.read(vf.VFTDH.address(0)) == 2
    assert other.clean_rx() == 1
    one.ring_doorbell()
    assert pair.rig.hw.queues(0).faults == {(fault, "tx", 0): 1}
    one.configure_tx(0)
    one.tx_ends[0].clear()
    one.send(good)
    assert (one.clean_tx(), other.clean_rx()) == (1, 1)


def test_a_packet_of_too_many_descriptors() -> None:
    pair = Pair()
    one = pair.guests[0]
    one.send(frame_to(pair, 0, 1, b"x" * 600), pieces=(10,) * 40)
    assert pair.rig.hw.queues(0).faults == {(QueueFault.CHAIN, "tx", 0): 1}


@pytest.mark.parametrize("what", ["tail", "length", "odd", "base"])
def test_bad_ring_registers(what: str) -> None:
    pair = Pair()
    one, bar = pair.guests[0], pair.guests[0].bar
    register, value = {
        "tail": (vf.VFTDT, 64),
        "length": (vf.VFTDLEN, 1 << 20),
        "odd": (vf.VFTDLEN, 16 * 63),
        "base": (vf.VFTDBAH, 0xFFFFFFFF),
    }[what]
    bar.write(register.address(0), value)
    if what != "tail":
        bar.write(vf.VFTDT.address(0), 3)
    fault = QueueFault.MEMORY if what == "base" else QueueFault.RING
    assert pair.rig.hw.queues(0).faults == {(fault, "tx", 0): 1}
    assert one.clean_tx() == 0


def test_one_doorbell_does_a_bounded_share_and_service_does_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vferry.nic.ixgbe.transmit.WORK", 10)
    monkeypatch.setattr("vferry.nic.ixgbe.transmit.BATCH", 4)
    pair = Pair()
    one, other = pair.guests
    for _ in range(20):
        one.send(frame_to(pair, 0, 1, b"x" * 100), ring=False)
    one.ring_doorbell()
    assert 0 < one.clean_tx() <= 6
    for _ in range(5):
        assert pair.rig.hw.next_service() in (pair.rig.now, None)
        pair.rig.hw.service()
        one.clean_tx()
    assert pair.rig.hw.next_service() is None
    assert not one.tx_ends[0]
    assert other.clean_rx() == 20


def test_a_tail_that_moves_while_its_queue_is_worked_on() -> None:
    """Each frame that leaves makes the guest send the next: one call works on all, in order, each once."""
    pair = Pair()
    one = pair.guests[0]
    frames = [ethernet(b"\x06" * 6, one.mac, number.to_bytes(2, "big") * 40, 0x88B5) for number in range(500)]
    left: list[bytes] = []

    def wire(frame: bytes) -> None:
        left.append(frame)
        if len(left) < len(frames):
            one.send(frames[len(left)])

    pair.rig.hw.wire = wire
    one.send(frames[0])
    assert left == frames


def test_a_stop_in_the_midst_of_a_doorbell_holds_back_what_was_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vferry.nic.ixgbe.transmit.BATCH", 4)
    pair = Pair()
    one = pair.guests[0]
    pair.rig.hw.wire = lambda _frame: pair.rig.hw.queues(0).stop()
    for _ in range(4):
        one.send(ethernet(b"\x06" * 6, one.mac, bytes(60), 0x88B5), ring=False)
    one.ring_doorbell()
    assert one.clean_tx() == 2
    pair.rig.hw.wire = pair.wire.append
    pair.rig.hw.kick(0)
    assert (one.clean_tx(), len(pair.wire)) == (2, 2)


def test_a_reply_sent_from_the_interrupt_of_a_receive() -> None:
    """A guest that answers at once: its tail moves while the other's queue is still being worked on."""
    pair = Pair(polled=False)
    one, other = pair.guests
    clean = other.clean_rx

    def echo(queue: int = 0) -> int:
        taken = clean(queue)
        for got in other.received[-taken:] if taken else ():
            other.send(got.frame[6:12] + got.frame[:6] + got.frame[12:])
        return taken

    other.clean_rx = echo  # type: ignore[method-assign]
    for number in range(200):
        one.send(frame_to(pair, 0, 1, bytes([number]) * 60))
    assert len(one.received) == len(other.received) == 200
    assert [got.frame[14:] for got in one.received] == [got.frame[14:] for got in other.received]
