# SPDX-License-Identifier: Apache-2.0
"""A VF's queues stopped on one device, and going on on another, over the same memory."""

from __future__ import annotations

import random

import msgspec
import pytest

from tests.ixgbe.driver_rig import Rig
from tests.ixgbe.queues_rig import BASE, IP4, SIZE, Checksum, Guest, Memory, Pair, ethernet, ipv4, udp
from vferry.nic.ixgbe import pci_config
from vferry.nic.ixgbe.hardware import NoMemoryError, NoSuchVfError
from vferry.nic.ixgbe.queue_state import CounterState, QueueStateError
from vferry.nic.ixgbe.receive import QueueDrop
from vferry.nic.ixgbe.registers import pf, vf
from vferry.nic.ixgbe.rings import QueueFault

COUNTERS = (vf.VFGPRC, vf.VFGORC_LSB, vf.VFGORC_MSB, vf.VFMPRC, vf.VFGPTC, vf.VFGOTC_LSB, vf.VFGOTC_MSB)


def move(guest: Guest, pair: Pair, target: Pair) -> None:
    """Carry what is of the VF in registers and queues; the memory goes with the guest."""
    source = pair.rig.hw.queues(guest.index)
    source.stop()
    state = pair.rig.hw.queue_state(guest.index)
    assert pair.rig.hw.queue_state(guest.index) == state
    hw = target.rig.hw
    hw.attach_memory(guest.index, guest.memory)
    hw.load_queue_state(guest.index, msgspec.json.decode(msgspec.json.encode(state), type=type(state)))
    assert hw.queue_state(guest.index) == state
    target.guests[guest.index] = guest
    guest.rig, guest.bar = target.rig, hw.vf_bar(guest.index)


def counters(guest: Guest) -> list[int]:
    return [guest.bar.read(item.offset) for item in COUNTERS]


def test_traffic_goes_on_over_a_chain_of_moves() -> None:
    hosts = [Pair(polled=False), Pair(polled=False)]
    guest, draw = hosts[0].guests[0], random.Random(6)
    sent, back, echoed = [], [], []
    for round_ in range(6):
        here, there = hosts[round_ % 2], hosts[1 - round_ % 2]
        peer = here.guests[1]
        for number in range(50):
            data = bytes([round_, number]) + draw.randbytes(draw.randrange(60, 1400))
            guest.send(ethernet(peer.mac, guest.mac, data, 0x88B5), queue=0)
            sent.append(data)
            peer.send(ethernet(guest.mac, peer.mac, data[::-1], 0x88B5))
            back.append(data[::-1])
        before = counters(guest)
        assert before[0] == before[4] == 50 * (round_ + 1)
        echoed += [got.frame[14:] for got in peer.received]
        peer.received.clear()
        move(guest, here, there)
        assert counters(guest) == before
        there.rig.hw.kick(0)
    assert echoed == sent
    assert [got.frame[14:] for got in guest.received] == back
    assert all(host.rig.hw.queues(0).faults == {} for host in hosts)


def test_a_loaded_vf_is_stopped_until_it_is_kicked() -> None:
    source, target = Pair(), Pair()
    guest = source.guests[0]
    move(guest, source, target)
    before = bytes(guest.memory.octets)
    target.rig.hw.receive(ethernet(guest.mac, b"\x06" * 6, bytes(60)))
    guest.ring_doorbell()
    assert bytes(guest.memory.octets) == before
    assert target.rig.hw.queues(0).drops == {(QueueDrop.STOPPED, 0): 1}
    target.rig.hw.kick(0)
    target.rig.hw.receive(ethernet(guest.mac, b"\x06" * 6, bytes(60)))
    assert guest.clean_rx() == 1


def test_an_interrupt_that_got_lost_on_the_way_is_raised_again() -> None:
    source, target = Pair(queues=2), Pair(queues=2)
    guest = source.guests[0]
    source.rig.hw.on_vf_interrupt = lambda _index, _vector: None
    source.rig.hw.receive(ethernet(guest.mac, b"\x06" * 6, bytes(60)))
    guest.bar.write(vf.VTEIMS.offset, 3)
    move(guest, source, target)
    target.rig.hw.kick(0)
    assert sorted(guest.interrupts) == [0, 1, 2]


def test_a_stopped_vf_touches_nothing() -> None:
    pair = Pair()
    one, other = pair.guests
    queues = pair.rig.hw.queues(0)
    queues.stop()
    before = bytes(one.memory.octets)
    pair.rig.hw.receive(ethernet(one.mac, b"\x06" * 6, bytes(60)))
    assert bytes(one.memory.octets) == before
    assert queues.drops == {(QueueDrop.STOPPED, 0): 1}
    one.send(ethernet(other.mac, one.mac, b"held" * 20, 0x88B5))
    assert (one.clean_tx(), other.clean_rx(), one.interrupts) == (0, 0, [])
    assert pair.rig.hw.next_service() is None
    pair.rig.hw.service()
    assert one.clean_tx() == 0
    pair.rig.hw.kick(0)
    assert (one.clean_tx(), other.clean_rx()) == (1, 1)


def test_what_was_posted_before_the_stop_is_sent_after_the_kick_and_causes_are_raised_once() -> None:
    source, target = Pair(), Pair()
    guest = source.guests[0]
    source.rig.hw.queues(0).stop()
    frames = [ethernet(b"\x06" * 6, guest.mac, bytes([number]) * 60, 0x88B5) for number in range(5)]
    for frame in frames:
        guest.send(frame)
    move(guest, source, target)
    assert (target.wire, guest.interrupts) == ([], [])
    target.rig.hw.kick(0)
    assert target.wire == frames
    assert guest.clean_tx() == 5
    assert set(guest.interrupts) == {0, 2}  # the queue's, and the mailbox's: the PF's replies were never read
    assert len(guest.interrupts) == 2
    assert source.wire == []


def test_a_context_is_remembered_over_a_move() -> None:
    source, target = Pair(), Pair()
    guest = source.guests[0]
    left, whole = (ipv4(udp(b"data" * 20, IP4, seeded=seeded), 17) for seeded in (True, False))
    guest.put(0, *guest.context(Checksum(14, 20, 0), None, 5))
    guest.ring_doorbell()
    assert source.rig.hw.vf_peek(0, vf.VFTDH.address(0)) == 1
    move(guest, source, target)
    target.rig.hw.kick(0)
    guest.context = lambda *_: (5 << 16, 0x20200000 | 1 << 36)  # type: ignore[method-assign]  # the other context
    guest.send(ethernet(b"\x06" * 6, guest.mac, left), checksum=Checksum(14, 20, 0), vlan=5)
    assert target.wire == [ethernet(b"\x06" * 6, guest.mac, b"\x00\x05\x08\x00" + whole, 0x8100)]


def test_held_vectors_and_what_is_left_of_their_interval() -> None:
    source, target = Pair(1), Pair(1)
    guest = source.guests[0]
    guest.bar.write(vf.VTEITR.address(0), 200 | 1 << 31)
    frame = ethernet(guest.mac, b"\x06" * 6, bytes(60))
    source.rig.hw.receive(frame)
    guest.bar.write(vf.VTEIMS.offset, 1)
    source.rig.hw.receive(frame)
    source.rig.advance(20e-6)
    state = source.rig.hw.queue_state(0)
    assert (state.interrupts.held, state.interrupts.remaining[0]) == (1, 30)
    target.rig.advance(500)
    move(guest, source, target)
    target.rig.hw.queues(0).stopped = False  # without a kick, which would raise it at once
    target.rig.advance(29e-6)
    target.rig.hw.service()
    assert guest.interrupts == [0]
    target.rig.advance(2e-6)
    target.rig.hw.service()
    assert guest.interrupts == [0, 0]
    assert guest.clean_rx() == 2


def test_a_state_of_another_vf_is_refused_and_nothing_changes() -> None:
    pair = Pair(1, queues=2)
    hw = pair.rig.hw
    state = hw.queue_state(0)
    replace = msgspec.structs.replace
    receive, transmit, interrupts = state.receive[0], state.transmit[0], state.interrupts
    wrong = [
        replace(state, receive=state.receive[1:]),
        replace(state, transmit=(*state.transmit, transmit)),
        replace(state, receive=(replace(receive, rdh=1 << 32), *state.receive[1:])),
        replace(state, transmit=(replace(transmit, tdt=-1), *state.transmit[1:])),
        replace(state, transmit=(replace(transmit, contexts=(None,)), *state.transmit[1:])),
        replace(state, transmit=(replace(transmit, contexts=((1 << 64, 0), None)), *state.transmit[1:])),
        replace(state, interrupts=replace(interrupts, held=8)),
        replace(state, interrupts=replace(interrupts, eims=8)),
        replace(state, interrupts=replace(interrupts, remaining=(0, 0))),
        replace(state, interrupts=replace(interrupts, remaining=(0, 0, 5000))),
        replace(state, interrupts=replace(interrupts, ivar=(0,) * 5)),
        replace(state, counters=CounterState(rx_packets=-1)),
    ]
    for one in wrong:
        with pytest.raises(QueueStateError):
            hw.load_queue_state(0, one)
        assert hw.queue_state(0) == state
        assert not hw.queues(0).stopped


def test_loaded_nonsense_disables_queues_and_no_more() -> None:
    """What registers can hold is loaded; what a queue cannot do with it is found when it works."""
    pair = Pair(1, queues=2)
    hw = pair.rig.hw
    state = hw.queue_state(0)
    nonsense = tuple(msgspec.structs.replace(one, tdh=500) for one in state.transmit)
    hw.load_queue_state(0, msgspec.structs.replace(state, transmit=nonsense))
    hw.kick(0)
    assert hw.queues(0).faults == {(QueueFault.RING, "tx", queue): 1 for queue in range(2)}


def test_the_pf_s_view_of_counters_does_not_jump() -> None:
    pair = Pair(1)
    hw = pair.rig.hw
    state = msgspec.structs.replace(
        hw.queue_state(0), counters=CounterState(rx_packets=(1 << 32) + 7, tx_octets=5 << 32)
    )
    hw.load_queue_state(0, state)
    bar = pair.guests[0].bar
    assert bar.read(vf.VFGPRC.offset) == 7
    assert (bar.read(vf.VFGOTC_LSB.offset), bar.read(vf.VFGOTC_MSB.offset)) == (0, 5)
    assert pair.rig.hw.counters.rx_packets[0] == 0
    hw.kick(0)
    hw.receive(ethernet(pair.guests[0].mac, b"\x06" * 6, bytes(60)))
    assert bar.read(vf.VFGPRC.offset) == 8
    hw.flr(0)
    assert bar.read(vf.VFGPRC.offset) == 8
    hw.power_on()
    assert bar.read(vf.VFGPRC.offset) == 0


def test_a_reset_of_the_vf_ends_dma_and_forgets_contexts() -> None:
    pair = Pair(1)
    guest, hw = pair.guests[0], pair.rig.hw
    guest.put(0, *guest.context(None, None, 5))
    guest.ring_doorbell()
    assert hw.queue_state(0).transmit[0].contexts[0] is not None
    hw.flr(0)
    assert hw.queue_state(0).transmit[0].contexts == (None, None)
    guest.send(ethernet(b"\x06" * 6, guest.mac, bytes(60)))
    hw.receive(ethernet(guest.mac, b"\x06" * 6, bytes(60)))
    assert (guest.clean_tx(), guest.clean_rx(), hw.queues(0).faults) == (0, 0, {})


def test_queues_follow_the_pool_mode() -> None:
    pair = Pair(queues=2)
    one, hw = pair.guests[0], pair.rig.hw
    assert len(hw.queue_state(0).receive) == 4
    hw.write(pf.GCR_EXT.offset, pf.GCR_EXT_VT_MODE_64)
    assert len(hw.queue_state(0).receive) == 2
    one.up()
    for queue in range(2):
        one.send(ethernet(b"\x06" * 6, one.mac, bytes(60), 0x88B5), queue=queue)
        assert one.clean_tx(queue) == 1
    hw.receive(ethernet(one.mac, b"\x06" * 6, bytes(60)))
    assert one.clean_rx() == 1
    assert one.bar.read(vf.VFTDT.address(2)) == 0


def test_memory_is_attached_and_detached() -> None:
    pair = Pair(1)
    hw = pair.rig.hw
    hw.detach_memory(0)
    hw.detach_memory(0)
    pair.guests[0].send(ethernet(b"\x06" * 6, pair.guests[0].mac, bytes(60)))
    assert (pair.guests[0].clean_tx(), pair.wire) == (0, [])
    with pytest.raises(NoMemoryError):
        hw.kick(0)
    with pytest.raises(NoSuchVfError):
        hw.attach_memory(99, Memory())
    hw.attach_memory(0, pair.guests[0].memory)
    hw.kick(0)
    assert pair.guests[0].clean_tx() == 1


def test_the_vf_driver_brings_its_queues_up() -> None:
    """The driver model opens the VF as ixgbevf does; its rings are in memory, with buffers behind them."""
    rig = Rig(num_vfs=2)
    memory = Memory()
    rig.hw.vf_config_write(0, pci_config.COMMAND, 2, 6)
    queues = rig.hw.attach_memory(0, memory)
    driver = rig.driver(0)
    driver._queues._dma_base = BASE
    assert rig.run(driver.probe())
    ring, count = 0x4000, 512
    for place in range(count):
        at = ring + 16 * place
        memory.octets[at : at + 8] = (BASE + SIZE // 2 + 2048 * place).to_bytes(8, "little")
    assert rig.run(driver.open())
    for number in range(count - 1):
        rig.hw.receive(ethernet(driver.mac, b"\x06" * 6, number.to_bytes(2, "big") * 30, 0x88B5))
    rig.hw.receive(ethernet(driver.mac, b"\x06" * 6, bytes(60), 0x88B5))
    assert queues.faults == {}
    assert queues.drops == {(QueueDrop.NO_DESCRIPTOR, 0): 1}
    for number in range(count - 1):
        at = SIZE // 2 + 2048 * number
        assert memory.octets[at + 14 : at + 16] == number.to_bytes(2, "big")
