# SPDX-License-Identifier: Apache-2.0
"""What a client sees of a served device, over a real socket."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from tests.vfio_user.models import Model, ram
from tests.vfio_user.sessions import open_fds, refused, run_chunks, served
from vferry.core.vfio.codec import Limits, command, encode_version
from vferry.core.vfio.constants import Command, DeviceFlags, MessageFlags, RegionFlags, RegionIndex
from vferry.core.vfio.layouts import (
    DEVICE_INFO,
    DMA_MAP,
    HEADER,
    REGION_ACCESS,
    REGION_INFO,
    VERSION,
    WRITE_MULTI,
    WRITE_MULTI_ENTRY,
)
from vferry.vfio_user import server as server_module
from vferry.vfio_user.client import Client, GoneError
from vferry.vfio_user.descriptors import send_with
from vferry.vfio_user.server import LIMITS, Server, listen

BAR0, BAR2, BAR3, CONFIG = RegionIndex.BAR0, RegionIndex.BAR2, RegionIndex.BAR3, RegionIndex.CONFIG
TOP = (1 << 64) - 1
HELLO = command(0, Command.VERSION, encode_version(Limits()))


def access(number: int, region: int, offset: int, count: int, data: bytes = b"", *, flags: int = 0) -> bytes:
    cmd = Command.REGION_WRITE if data else Command.REGION_READ
    return command(number, cmd, REGION_ACCESS.pack(offset, region, count) + data, flags=flags)


# The beginning.


def test_a_version_is_agreed_on() -> None:
    with served(version=False) as session:
        assert session.client.version() == LIMITS
        attached = [session.model.attached]
    assert [*attached, session.model.attached] == [True, False]
    assert not session.faults


def test_a_client_without_json() -> None:
    with served(version=False) as session:
        answer = session.client.call(Command.VERSION, VERSION.pack(0, 7))
        assert VERSION.unpack(answer).minor == 0
        assert b'"write_multiple":false' in answer


@pytest.mark.parametrize("payload", [VERSION.pack(1, 0), b"\0", VERSION.pack(0, 0) + b"nonsense\0"])
def test_a_version_that_does_not_fit_is_refused_and_ends_the_session(payload: bytes) -> None:
    with served(version=False) as session:
        with refused(errno.EINVAL):
            session.client.call(Command.VERSION, payload)
        with pytest.raises(GoneError):
            session.client.receive()
        session.joined()
        assert len(session.faults) == 1
        assert not session.model.attached


def test_nothing_comes_before_version() -> None:
    with served(version=False) as session:
        with pytest.raises(GoneError):
            session.client.device_info()
        session.joined()
        assert "VERSION must come first" in str(session.faults[0])


def test_a_second_version_is_refused() -> None:
    with served() as session:
        with refused(errno.ENOSYS):
            session.client.version()
        session.client.device_info()


# What the device is.


def test_the_device_describes_itself() -> None:
    with served() as session:
        client = session.client
        info = client.device_info()
        assert (info.flags, info.num_regions, info.num_irqs) == (DeviceFlags.RESET | DeviceFlags.PCI, 9, 5)
        assert [client.region_info(n).size for n in range(9)] == [4096, 0, 64, 64, 0, 0, 0, 256, 0]
        assert client.region_info(BAR2).flags == RegionFlags.READ
        assert [client.irq_info(n).count for n in range(5)] == [1, 0, 3, 0, 0]
        assert client.region_io_fds(BAR0).count == 0
        for asked in (lambda: client.region_info(9), lambda: client.irq_info(5), lambda: client.region_io_fds(9)):
            with refused(errno.EINVAL):
                asked()


def test_an_answer_must_fit_into_argsz() -> None:
    with served() as session:
        for cmd, request in (
            (Command.DEVICE_GET_INFO, DEVICE_INFO.pack(15, 0, 0, 0)),
            (Command.DEVICE_GET_REGION_INFO, REGION_INFO.pack(31, 0, 0, 0, 0, 0)),
        ):
            with refused(errno.EINVAL):
                session.client.call(cmd, request)


@pytest.mark.parametrize("cmd", [0, 14, 19, 1000, 0xFFFF, Command.DMA_READ, Command.DMA_WRITE])
def test_a_command_that_is_not_known(cmd: int) -> None:
    with served() as session:
        with refused(errno.ENOSYS):
            session.client.call(cmd, bytes(32))
        session.client.device_info()


# Regions.


def test_registers_are_read_and_written() -> None:
    with served() as session:
        client = session.client
        client.write(CONFIG, 8, b"abcd")
        assert client.read(CONFIG, 6, 8) == b"\0\0abcd\0\0"
        client.write(CONFIG, 0, bytes(range(200)))
        assert client.read(CONFIG, 0, 200) == bytes(range(200))
        assert client.read(CONFIG, 256, 0) == b""


@pytest.mark.parametrize(
    ("region", "offset", "count"),
    [
        *((CONFIG, 255, 2), (CONFIG, 256, 1), (CONFIG, TOP, 4), (CONFIG, TOP - 3, 4), (CONFIG, 0, 257), (BAR3, 0, 4)),
        *((1, 0, 1), (9, 0, 4), (0xFFFFFFFF, 0, 4), (CONFIG, 0, 0xFFFFFFFF), (BAR0, 0, (1 << 20) + 1)),
    ],
)
def test_reads_that_are_refused(region: int, offset: int, count: int) -> None:
    with served() as session:
        with refused(errno.EINVAL):
            session.client.read(region, offset, count)
        assert session.model.config.accesses == []
        assert session.client.read(CONFIG, 0, 4) == bytes(4)


@pytest.mark.parametrize(("region", "offset"), [(CONFIG, 253), (CONFIG, TOP - 1), (BAR2, 0), (1, 0)])
def test_writes_that_are_refused(region: int, offset: int) -> None:
    with served() as session:
        with refused(errno.EINVAL):
            session.client.write(region, offset, b"abcd")
        assert session.model.config.octets == bytes(256)


@pytest.mark.parametrize(("count", "data"), [(4, b"abc"), (4, b"abcde"), (0xFFFFFFFF, b"abcd"), (0, b"a")])
def test_a_write_whose_count_is_wrong(count: int, data: bytes) -> None:
    with served() as session:
        with refused(errno.EINVAL):
            session.client.call(Command.REGION_WRITE, REGION_ACCESS.pack(0, CONFIG, count) + data)
        assert session.model.config.octets == bytes(256)


def test_a_refusal_of_the_device_comes_with_its_number() -> None:
    with served() as session:
        with refused(errno.EACCES):
            session.client.read(BAR0, 40, 4)
        with refused(errno.EACCES):
            session.client.write(BAR0, 40, bytes(4))
        with refused(errno.EACCES):
            session.client.write(BAR0, 40, bytes(100))
        assert session.client.read(BAR0, 44, 4) == bytes(4)


def test_what_needs_no_reply_gets_none() -> None:
    with served() as session:
        client = session.client
        client.write(CONFIG, 0, b"abcd", posted=True)
        client.write(CONFIG, 300, b"abcd", posted=True)  # refused, and nobody hears
        client.write(BAR0, 40, b"abcd", posted=True)
        client.write(CONFIG, 8, bytes(100), posted=True)  # too long for the hot path
        client.send(Command.DEVICE_RESET, no_reply=True)
        client.send(1000, no_reply=True)
        client.send(Command.DMA_MAP, b"short", no_reply=True)
        assert client.read(CONFIG, 0, 4) == b"abcd"
        assert session.model.resets == 1


def test_many_at_once_are_answered_in_order_by_one_send() -> None:
    model = Model()
    reads = b"".join(access(n, CONFIG, 4 * n, 4) for n in range(32))
    model.config.octets[:] = bytes(range(256))
    outcome = run_chunks(model, [(HELLO, ()), (reads, ())])
    _, *answers = outcome.answers()
    assert [one.msg_id for one in answers] == list(range(32))
    assert b"".join(one.payload[16:] for one in answers) == bytes(range(128))
    assert outcome.largest_send == 32 * 36


def test_hot_and_other_commands_keep_their_order() -> None:
    model = Model()
    stream = b"".join(
        (
            access(1, CONFIG, 0, 4, b"abcd"),
            access(2, CONFIG, 0, 4),
            command(3, Command.DEVICE_RESET),
            access(4, CONFIG, 0, 4, b"efgh", flags=MessageFlags.NO_REPLY),
            access(5, CONFIG, 0, 8),
            access(6, BAR0, 40, 4),
            access(7, CONFIG, 4096, 4),
            access(8, CONFIG, 0, 100),
        )
    )
    wanted = [1, 2, 3, 5, 6, 7, 8]
    for cut in range(1, len(stream), 7):
        model.config.octets[:] = bytes(256)
        outcome = run_chunks(model, [(HELLO, ()), (stream[:cut], ()), (stream[cut:], ())])
        assert outcome.fault is None
        answers = outcome.answers()[1:]
        assert [one.msg_id for one in answers] == wanted
        assert [one.refused for one in answers] == [None, None, None, None, errno.EACCES, errno.EINVAL, None]
        assert answers[1].payload[16:] == b"abcd"
        assert answers[3].payload[16:] == b"efgh\0\0\0\0"


def test_large_answers_do_not_pile_up() -> None:
    model = Model()
    reads = b"".join(access(n, BAR0, 0, 4096) for n in range(1000))
    outcome = run_chunks(model, [(HELLO, ()), (reads, ())])
    assert len(outcome.answers()) == 1001
    assert outcome.largest_send < 300_000


def test_coalesced_writes() -> None:
    with served() as session:
        assert session.client.write_multi([(CONFIG, 0, b"ab"), (CONFIG, 4, b"12345678"), (CONFIG, 2, b"c")]) == 3
        assert session.client.read(CONFIG, 0, 12) == b"abc\x0012345678"
        assert session.client.write_multi([]) == 0


@pytest.mark.parametrize(
    "payload",
    [
        b"1234567",
        WRITE_MULTI.pack(2) + WRITE_MULTI_ENTRY.pack(0, CONFIG, 1, b"x"),
        WRITE_MULTI.pack((1 << 64) - 1),
        WRITE_MULTI.pack(2) + WRITE_MULTI_ENTRY.pack(0, CONFIG, 1, b"x") + WRITE_MULTI_ENTRY.pack(0, CONFIG, 9, b"x"),
        WRITE_MULTI.pack(2) + WRITE_MULTI_ENTRY.pack(0, CONFIG, 1, b"x") + WRITE_MULTI_ENTRY.pack(256, CONFIG, 1, b""),
    ],
)
def test_coalesced_writes_that_make_no_sense_do_nothing(payload: bytes) -> None:
    with served() as session:
        with refused(errno.EINVAL):
            session.client.call(Command.REGION_WRITE_MULTI, payload)
        assert session.model.config.octets == bytes(256)


def test_a_reset() -> None:
    with served() as session:
        session.client.reset()
        assert session.model.resets == 1


# Faults of the client.


@pytest.mark.parametrize(
    "octets",
    [
        HEADER.pack(1, 9, 15, 0, 0),
        HEADER.pack(1, 9, 0, 0, 0),
        HEADER.pack(1, 9, 0xFFFFFFFF, 0, 0),
        HEADER.pack(1, 9, LIMITS.message + 1, 0, 0),
        HEADER.pack(1, 9, 32, 2, 0),
        HEADER.pack(1, Command.DMA_READ, 16, MessageFlags.REPLY, 0),
    ],
)
def test_a_fault_ends_the_session_and_the_server_goes_on(octets: bytes) -> None:
    with served() as session:
        session.client.write(CONFIG, 0, b"kept")
        session.client.sock.sendall(access(1, CONFIG, 0, 4) + octets)
        assert session.client.receive().payload[16:] == b"kept"  # what came before is answered
        with pytest.raises(GoneError):
            session.client.receive()
        session.joined()
        assert len(session.faults) == 1
        assert "vfio-user peer" in str(session.faults[0])
        client = session.connect()
        client.version()
        assert client.read(CONFIG, 0, 4) == b"kept"


@pytest.mark.slow
def test_a_client_that_never_takes_its_answers_loses_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_PATIENCE", 1)
    with served() as session:
        session.client.sock.sendall(b"".join(access(n, BAR0, 0, 4096) for n in range(1000)))
        session.joined()
        assert "took no answer for 1 seconds" in str(session.faults[0])


def test_too_many_descriptors_end_the_session() -> None:
    before = open_fds()
    with served() as session:
        with ram(4096) as memory:
            send_with(session.client.sock, command(1, Command.DMA_MAP, bytes(32)), [memory.fd] * 40)
        with pytest.raises(GoneError):
            session.client.receive()
        session.joined()
        assert "file descriptors" in str(session.faults[0])
    assert open_fds() == before


def test_descriptors_with_a_command_that_has_none() -> None:
    before = open_fds()
    with served() as session, ram(4096) as memory:
        with refused(errno.EINVAL):
            session.client.call(Command.DEVICE_RESET, fds=[memory.fd])
        with refused(errno.EINVAL):
            session.client.call(Command.REGION_READ, REGION_ACCESS.pack(0, CONFIG, 4), fds=[memory.fd])
        assert session.model.resets == 0
    assert open_fds() == before


def test_descriptors_belong_to_the_last_message_of_a_chunk() -> None:
    with served() as session, ram(8192) as memory:
        request = DMA_MAP.pack(32, 3, 0, 0, 8192)
        octets = access(1, CONFIG, 0, 4) + command(2, Command.DMA_MAP, request)
        send_with(session.client.sock, octets, [memory.fd])
        assert [(one.msg_id, one.refused) for one in (session.client.receive(), session.client.receive())] == [
            (1, None),
            (2, None),
        ]
        assert session.model.guest is not None
        assert session.model.guest.read(0, 4) == bytes(4)


def test_a_client_that_goes_in_the_middle_of_a_message() -> None:
    with served() as session:
        session.client.sock.sendall(b"\x01\x00\x09")
    assert not session.faults


def test_a_client_that_takes_its_memory_and_interrupts_along() -> None:
    before = open_fds()
    with served() as session:
        with ram(8192) as memory:
            session.client.dma_map(0, 4096, fd=memory.fd)
            session.client.dma_map(4096, 4096, fd=memory.fd, offset=4096)
        session.connect().version()
        assert session.model.notices[2:] == [("unmap", 0, 4096), ("unmap", 4096, 4096)]
    assert open_fds() == before


# The server.


def test_a_server_at_a_path(tmp_path: Path) -> None:
    path = str(tmp_path / "device.socket")
    before = open_fds()
    server = Server(Model())
    with listen(path) as listener:
        assert os.stat(path).st_mode & 0o777 == 0o600
        with pytest.raises(OSError, match="in use"):
            listen(path)
        thread = threading.Thread(target=server.serve, args=(listener,))
        thread.start()
        for _ in range(3):
            with Client.connect(path) as client:
                client.version()
                assert client.read(CONFIG, 0, 4) == bytes(4)
        server.stop()
        thread.join(20)
        assert not thread.is_alive()
    server.close()
    assert open_fds() == before


def test_a_server_is_stopped_in_a_session(tmp_path: Path) -> None:
    path = str(tmp_path / "device.socket")
    server = Server(Model())
    with listen(path) as listener:
        thread = threading.Thread(target=server.serve, args=(listener,))
        thread.start()
        with Client.connect(path) as client:
            client.version()
            server.stop()
            thread.join(20)
            assert not thread.is_alive()
            with pytest.raises(GoneError):
                client.receive()
    server.close()


def test_other_descriptors_are_watched() -> None:
    with served() as session:
        ours, wire = socket.socketpair()
        frames: list[bytes] = []

        def arrived() -> None:
            frames.append(wire.recv(100))
            session.model.config.octets[:4] = b"wire"
            wire.send(b"!")

        with ours, wire:
            client = session.connect({wire.fileno(): arrived})
            client.version()
            ours.send(b"frame")
            assert ours.recv(1) == b"!"
            assert client.read(CONFIG, 0, 4) == b"wire"
            session.end()
        assert frames == [b"frame"]
