# SPDX-License-Identifier: Apache-2.0
"""DMA by message: the server asks, never waits, and hears every kind of answer."""

from __future__ import annotations

import pytest

from tests.vfio_user.models import PAGE, Memory, Model
from tests.vfio_user.sessions import served
from vferry.core.vfio.codec import Limits, encode_version
from vferry.core.vfio.constants import Command, MessageFlags, RegionFlags, RegionIndex
from vferry.core.vfio.layouts import DMA_ACCESS, HEADER
from vferry.vfio_user.client import Client
from vferry.vfio_user.device import DmaFaultError
from vferry.vfio_user.outgoing import WINDOW

BAR0, CONFIG = RegionIndex.BAR0, RegionIndex.CONFIG
REPLY, ERROR = MessageFlags.REPLY, MessageFlags.ERROR


class Elsewhere:
    """The client's memory, from address 0."""

    def __init__(self, size: int) -> None:
        self.octets = bytearray(range(256)) * (size // 256)
        self.accesses: list[tuple[str, int, int]] = []

    def read(self, address: int, count: int, /) -> bytes:
        self.accesses.append(("read", address, count))
        if address + count > len(self.octets):
            raise LookupError(address)
        return bytes(self.octets[address : address + count])

    def write(self, address: int, data: bytes, /) -> None:
        self.accesses.append(("write", address, len(data)))
        if address + len(data) > len(self.octets):
            raise LookupError(address)
        self.octets[address : address + len(data)] = data


class Asking(Memory):
    """A register: each read of it asks for memory, and returns how many answers there were."""

    def __init__(self, model: AskingModel) -> None:
        super().__init__(PAGE, RegionFlags.READ | RegionFlags.WRITE)
        self.model = model

    def read(self, offset: int, count: int, /) -> bytes:
        self.model.ask()
        return len(self.model.answers).to_bytes(count, "little")


class AskingModel(Model):
    def __init__(self) -> None:
        super().__init__()
        self.regions = {**self.regions, BAR0: Asking(self)}
        self.answers: list[tuple[bytes, DmaFaultError | None]] = []
        self.wanted: list[tuple[str, int, int]] = []

    def ask(self) -> None:
        assert self.guest is not None
        for what, address, count in self.wanted:
            if what == "read":
                self.guest.read_by_message(address, count, self.answered)
            else:
                self.guest.write_by_message(address, b"\xaa" * count, self.answered)
        self.wanted = []

    def answered(self, data: bytes, error: DmaFaultError | None) -> None:
        self.answers.append((data, error))


def by_hand(client: Client) -> None:
    """Map memory without a file, have the server ask once, and take the question."""
    client.dma_map(0, PAGE)
    client.send(Command.REGION_READ, bytes(8) + BAR0.to_bytes(4, "little") + (4).to_bytes(4, "little"))


def question(client: Client) -> tuple[int, int]:
    """Return number and command of the next message, of which the test knows that it is a question."""
    octets = client.sock.recv(HEADER.size + DMA_ACCESS.size + 4096)
    header = HEADER.unpack(octets)
    assert header.cmd in (Command.DMA_READ, Command.DMA_WRITE)
    assert header.flags == 0
    return header.msg_id, header.cmd


def test_a_register_read_does_not_wait_for_memory() -> None:
    model = AskingModel()
    memory = Elsewhere(PAGE)
    with served(model, memory=memory) as session:
        client = session.client
        client.dma_map(0, PAGE)
        model.wanted = [("read", 16, 8), ("write", 32, 4)]
        # The client serves while it waits for the register: even if the question comes first, the answer does not wait.
        assert client.read(BAR0, 0, 4) == bytes(4)
        while len(model.answers) < 2:
            client.read(CONFIG, 0, 4)
        assert model.answers == [(bytes(range(16, 24)), None), (b"", None)]
        assert memory.octets[32:36] == b"\xaa" * 4
        assert memory.accesses == [("read", 16, 8), ("write", 32, 4)]


def test_the_answer_to_the_register_comes_although_memory_never_does() -> None:
    model = AskingModel()
    with served(model) as session:
        model.wanted = [("read", 0, 4)]
        by_hand(session.client)
        octets = session.client.sock.recv(HEADER.size + DMA_ACCESS.size, 0x100)  # MSG_WAITALL
        assert HEADER.unpack(octets).cmd == Command.DMA_READ
        assert session.client.receive().cmd == Command.REGION_READ
        session.end()
        ((data, error),) = model.answers
        assert data == b""
        assert "gone" in str(error)


def test_a_large_access_is_cut_to_what_the_client_takes() -> None:
    model = AskingModel()
    memory = Elsewhere(2 * PAGE)
    with served(model, version=False, memory=memory) as session:
        client = session.client
        client.call(Command.VERSION, encode_version(Limits(max_data_xfer_size=1000)))
        client.dma_map(0, 2 * PAGE)
        model.wanted = [("read", 96, 3000), ("write", PAGE, 1001), ("read", 0, 0)]
        client.read(BAR0, 0, 4)
        while len(model.answers) < 3:
            client.read(CONFIG, 0, 4)
        empty, read, write = model.answers
        assert empty == write == (b"", None)
        assert read == ((bytes(range(256)) * 16)[96:3096], None)
        assert [count for _, _, count in memory.accesses] == [1000, 1000, 1000, 1000, 1]


def test_many_are_under_way_and_not_too_many() -> None:
    model = AskingModel()
    memory = Elsewhere(PAGE)
    with served(model) as session:
        client = session.client
        client.dma_map(0, PAGE)
        model.wanted = [("read", n, 1) for n in range(3 * WINDOW)]
        client.send(Command.REGION_READ, bytes(8) + BAR0.to_bytes(4, "little") + (4).to_bytes(4, "little"))
        octets = b""
        size = WINDOW * 32 + 36
        while len(octets) < size:
            octets += client.sock.recv(65536)
        assert len(octets) == size
        client.memory = memory
        for number in range(1, WINDOW + 1):
            answer = DMA_ACCESS.pack(number - 1, 1) + bytes([number - 1])
            client.sock.sendall(HEADER.pack(number, Command.DMA_READ, HEADER.size + len(answer), REPLY, 0) + answer)
        while len(model.answers) < 3 * WINDOW:
            client.read(CONFIG, 0, 4)
        assert [data for data, _ in model.answers] == [bytes([n % 256]) for n in range(3 * WINDOW)]


def test_what_is_not_mapped_is_not_asked_for() -> None:
    with served() as session:
        session.client.dma_map(PAGE, PAGE)
        guest = session.model.guest
        assert guest is not None
        for address, count in ((0, 4), (2 * PAGE, 1), (PAGE, PAGE + 1)):
            with pytest.raises(DmaFaultError):
                guest.read_by_message(address, count, lambda *_: None)
            with pytest.raises(DmaFaultError):
                guest.write_by_message(address, bytes(count), lambda *_: None)


def test_a_refusal_is_told() -> None:
    model = AskingModel()
    with served(model, memory=Elsewhere(256)) as session:
        client = session.client
        client.dma_map(0, PAGE)
        model.wanted = [("read", 0x100, 8), ("write", 0x100, 8)]
        client.read(BAR0, 0, 4)
        while len(model.answers) < 2:
            client.read(CONFIG, 0, 4)
        for data, error in model.answers:
            assert data == b""
            assert error is not None
            assert (error.address, error.count) == (0x100, 8)
            assert "Bad address" in str(error)


@pytest.mark.parametrize("payload", [b"", DMA_ACCESS.pack(0, 4), DMA_ACCESS.pack(0, 4)[:12]])
def test_every_answer_to_a_write_will_do(payload: bytes) -> None:
    """QEMU sends a header only, libvfio-user 16 octets, the specification's table has 12."""
    model = AskingModel()
    with served(model) as session:
        model.wanted = [("write", 0, 4)]
        by_hand(session.client)
        number, cmd = question(session.client)
        session.client.sock.sendall(HEADER.pack(number, cmd, 16 + len(payload), REPLY, 0) + payload)
        session.client.send(Command.DEVICE_RESET)
        session.end()
        assert model.answers == [(b"", None)]
        assert not session.faults


@pytest.mark.parametrize(
    ("offset", "cmd", "payload"),
    [
        (1, Command.DMA_READ, DMA_ACCESS.pack(0, 4) + b"abcd"),
        (0, Command.DMA_WRITE, DMA_ACCESS.pack(0, 4)),
        (0, Command.DMA_READ, DMA_ACCESS.pack(0, 4) + b"abc"),
        (0, Command.DMA_READ, DMA_ACCESS.pack(0, 4) + b"abcde"),
        (0, Command.DMA_READ, b""),
        (0, Command.REGION_READ, bytes(20)),
    ],
)
def test_answers_that_make_no_sense(offset: int, cmd: int, payload: bytes) -> None:
    model = AskingModel()
    with served(model) as session:
        model.wanted = [("read", 0, 4)]
        by_hand(session.client)
        number, _ = question(session.client)
        session.client.sock.sendall(HEADER.pack(number + offset, cmd, 16 + len(payload), REPLY, 0) + payload)
        session.joined()
        assert len(session.faults) == 1
        assert len(model.answers) <= 1
        session.end()
        assert all(error for _, error in model.answers)


class Chain(AskingModel):
    """Asks once more with each answer, up to five times."""

    def answered(self, data: bytes, error: DmaFaultError | None) -> None:
        super().answered(data, error)
        if len(self.answers) < 5:
            self.wanted = [("read", len(self.answers), 1)]
            self.ask()


def test_a_question_may_follow_an_answer() -> None:
    model = Chain()
    with served(model, memory=Elsewhere(PAGE)) as session:
        session.client.dma_map(0, PAGE)
        model.wanted = [("read", 0, 1)]
        session.client.read(BAR0, 0, 4)
        while len(model.answers) < 5:
            session.client.read(CONFIG, 0, 4)
        assert model.answers == [(bytes([n]), None) for n in range(5)]


def test_a_client_that_has_no_memory_refuses() -> None:
    model = AskingModel()
    with served(model) as session:
        session.client.dma_map(0, PAGE)
        model.wanted = [("read", 0, 4)]
        session.client.read(BAR0, 0, 4)
        while not model.answers:
            session.client.read(CONFIG, 0, 4)
        assert "Bad address" in str(model.answers[0][1])
