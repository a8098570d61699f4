# SPDX-License-Identifier: Apache-2.0
"""The wire without QEMU: plain datagram sockets stand where NICs would be."""

import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Port, Wire, WireDied
from lab.frames import LabFrame, encode
from lab.wire.capture import Record, decode, pcap
from lab.wire.capture import encode as encode_record
from lab.wire.switch import LearningSwitch

A, B, C = ("02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c")


def frame(src: str, dst: str = "ff:ff:ff:ff:ff:ff", *, seq: int = 0, vlan: int | None = None) -> bytes:
    return encode(LabFrame(sender=src[-1], kind="test", seq=seq, src=src, dst=dst, vlan=vlan))


class Nic:
    """What QEMU is to the wire: a pair of datagram sockets."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(port.far))

    def send(self, data: bytes) -> None:
        self.socket.sendto(data, str(self.port.near))

    def received(self, wait: float = 1.0) -> list[bytes]:
        """Return what has come, waiting for the first frame."""
        found: list[bytes] = []
        self.socket.settimeout(wait)
        with contextlib.suppress(TimeoutError):
            while True:
                found.append(self.socket.recv(65536))
                self.socket.settimeout(0.05)
        return found


@pytest.fixture
def nics(wire: Wire) -> Iterator[tuple[Nic, Nic, Nic]]:
    with contextlib.ExitStack() as stack:
        a, b, c = (Nic(wire.port(name)) for name in "abc")
        for nic in (a, b, c):
            stack.enter_context(nic.socket)
        yield a, b, c


def three_ports() -> LearningSwitch:
    switch = LearningSwitch()
    for number in range(3):
        switch.add_port(number)
    return switch


def test_switch_floods_what_it_has_not_learned() -> None:
    assert three_ports().forward(0, frame(A, B)) == (1, 2)


def test_switch_sends_to_the_port_where_it_saw_the_address() -> None:
    switch = three_ports()
    switch.forward(1, frame(B))
    assert switch.forward(0, frame(A, B)) == (1,)


def test_switch_filters_what_is_behind_the_same_port() -> None:
    switch = three_ports()
    switch.forward(0, frame(B))
    assert switch.forward(0, frame(A, B)) == ()


def test_switch_follows_an_address_that_moves() -> None:
    switch = three_ports()
    switch.forward(1, frame(B))
    switch.forward(2, frame(B))
    assert switch.forward(0, frame(A, B)) == (2,)


def test_switch_learns_in_each_vlan_apart() -> None:
    switch = three_ports()
    switch.forward(1, frame(B, vlan=100))
    assert switch.forward(0, frame(A, B, vlan=100)) == (1,)
    assert switch.forward(0, frame(A, B, vlan=200)) == (1, 2)
    assert switch.forward(0, frame(A, B)) == (1, 2)


def test_switch_floods_groups_and_does_not_learn_them() -> None:
    switch = three_ports()
    switch.forward(1, frame("03:00:00:00:00:01"))
    assert not switch.learned
    assert switch.forward(0, frame(A, "03:00:00:00:00:01")) == (1, 2)


def test_switch_drops_what_is_no_frame() -> None:
    assert three_ports().forward(0, b"short") == ()


def test_switch_forgets_the_port_whose_link_went_down() -> None:
    switch = three_ports()
    switch.forward(1, frame(B))
    switch.set_link(1, up=False)
    assert switch.forward(0, frame(A, B)) == (2,)
    switch.set_link(1, up=True)
    assert switch.forward(0, frame(A, B)) == (1, 2)


def test_capture_records_come_back_and_an_unfinished_one_waits() -> None:
    records = [Record(time_ns=5, port=0, out=(1, 63), data=b"abc"), Record(time_ns=6, port=2, out=(), data=b"")]
    raw = b"".join(encode_record(record) for record in records)
    assert [record for record, _end in decode(raw)] == records
    cut = [(record, end) for record, end in decode(raw[:-1])]
    assert [record for record, _end in cut] == records[:1]
    assert raw[cut[-1][1] :] == encode_record(records[1])


def test_pcap_has_nanoseconds() -> None:
    raw = pcap([(3_000_000_007, b"frame")])
    assert struct.unpack_from("<I", raw)[0] == 0xA1B23C4D
    assert struct.unpack_from("<IIII", raw, 24) == (3, 7, 5, 5)
    assert raw[40:] == b"frame"


def test_frames_reach_the_others_and_are_recorded(wire: Wire, nics: tuple[Nic, Nic, Nic]) -> None:
    a, b, c = nics
    before = time.monotonic_ns()
    a.send(frame(A))
    assert b.received() == c.received() == [frame(A)]
    b.send(frame(B, A))
    assert a.received() == [frame(B, A)]
    assert c.received(0.05) == []
    first, second = wire.frames()
    assert (first.port, first.out, first.data) == ("a", ("b", "c"), frame(A))
    assert (second.port, second.out, second.src, second.dst) == ("b", ("a",), B, A)
    assert before < first.time_ns < second.time_ns < time.monotonic_ns()
    assert wire.learned() == {(0, A): "a", (0, B): "b"}


def test_a_filtered_frame_is_recorded_with_no_ports_out(wire: Wire, nics: tuple[Nic, Nic, Nic]) -> None:
    a, b, _c = nics
    a.send(frame(B))
    a.send(frame(A, B, seq=1))
    seen = wire.wait_for(lambda seen: seen.lab is not None and seen.lab.seq == 1, 2.0)
    assert (seen.port, seen.out) == ("a", ())
    assert b.received() == [frame(B)]


def test_hub_sends_everything_everywhere(wire: Wire, nics: tuple[Nic, Nic, Nic]) -> None:
    a, b, c = nics
    wire.set_hub(on=True)
    for nic, address, to in ((a, A, B), (b, B, A)):
        nic.send(frame(address, to))
    assert c.received() == [frame(A, B), frame(B, A)]
    assert a.received() == [frame(B, A)]
    assert not wire.learned()


def test_a_port_whose_link_is_down_neither_sends_nor_receives(wire: Wire, nics: tuple[Nic, Nic, Nic]) -> None:
    a, b, c = nics
    wire.set_link("b", up=False)
    a.send(frame(A))
    b.send(frame(B))
    assert c.received() == [frame(A)]
    assert b.received(0.05) == []
    assert [seen.port for seen in wire.frames()] == ["a"]
    assert wire.count()["b"].dropped == 1
    wire.set_link("b", up=True)
    b.send(frame(B))
    assert a.received() == [frame(B)]


def test_forget_makes_it_flood_again(wire: Wire, nics: tuple[Nic, Nic, Nic]) -> None:
    a, b, c = nics
    b.send(frame(B))
    assert c.received()
    wire.forget()
    a.send(frame(A, B))
    assert c.received() == [frame(A, B)]


def test_injected_frames_are_like_others(wire: Wire, nics: tuple[Nic, Nic, Nic]) -> None:
    _a, b, _c = nics
    wire.inject("a", frame(A, vlan=7, seq=3))
    assert b.received() == [frame(A, vlan=7, seq=3)]
    (seen,) = wire.frames()
    assert (seen.port, seen.vlan, seen.ethertype) == ("a", 7, 0x88B5)
    assert seen.lab == LabFrame(sender="a", kind="test", seq=3, src=A, vlan=7)


def test_capture_stops_starts_and_clears(wire: Wire) -> None:
    wire.port("a")
    assert wire.capturing
    wire.inject("a", frame(A, seq=1))
    wire.stop()
    wire.inject("a", frame(A, seq=2))
    assert len(wire.frames()) == 1
    wire.start()
    wire.inject("a", frame(A, seq=3))
    assert [seen.lab.seq for seen in wire.frames() if seen.lab] == [1, 3]
    wire.clear()
    assert wire.frames() == []
    wire.inject("a", frame(A, seq=4))
    assert [seen.lab.seq for seen in wire.frames() if seen.lab] == [4]


def test_waiting_for_a_frame_ends_in_time(wire: Wire) -> None:
    wire.port("a")
    wire.inject("a", frame(A))
    with pytest.raises(TimeoutError, match=r"0 of 1 frames in 0\.1 s; 1 recorded"):
        wire.wait_for(lambda seen: seen.port == "b", 0.1)


def test_a_burst_arrives_whole_and_in_order(wire: Wire, nics: tuple[Nic, Nic, Nic]) -> None:
    """A datagram socket takes a few frames only: the wire must hold the rest until the NIC reads on."""
    _a, b, _c = nics
    burst = [frame(A, B, seq=seq) for seq in range(300)]
    for data in burst:
        wire.inject("a", data)
    assert b.received() == burst
    assert wire.count()["b"].sent == 300


def test_a_port_without_a_nic_loses_its_frames(wire: Wire) -> None:
    wire.port("a")
    wire.port("b")
    wire.inject("a", frame(A))
    count = wire.count()["b"]
    assert (count.sent, count.dropped) == (0, 1)


def test_a_port_name_stands_for_one_port(wire: Wire) -> None:
    assert wire.port("a") is wire.port("a")


def test_saved_pcap_holds_the_frames(wire: Wire, tmp_path: Path) -> None:
    wire.port("a")
    wire.inject("a", frame(A))
    wire.save_pcap(tmp_path / "wire.pcap")
    assert (tmp_path / "wire.pcap").read_bytes()[40:] == frame(A)


def test_a_dead_wire_is_reported(wire: Wire) -> None:
    wire.port("a")
    os.kill(wire.pid, signal.SIGKILL)
    with pytest.raises(WireDied):
        wire.frames()
