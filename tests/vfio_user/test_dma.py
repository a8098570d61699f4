# SPDX-License-Identifier: Apache-2.0
"""Guest memory: what is mapped can be reached, and nothing else can."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from tests.vfio_user.models import PAGE, ram
from tests.vfio_user.sessions import open_fds, refused, served
from vferry.core.vfio.codec import Limits, MalformedError
from vferry.core.vfio.constants import DmaFlags, UnmapFlags
from vferry.core.vfio.dirty_log import DirtyLog
from vferry.core.vfio.layouts import DmaMap
from vferry.vfio_user.device import DmaFaultError
from vferry.vfio_user.dma import GuestMemory

RW = DmaFlags.READ | DmaFlags.WRITE
TOP = 1 << 64


def mapped(memory: GuestMemory, address: int, size: int, fd: int, offset: int = 0, *, flags: int = RW) -> None:
    fds = [os.dup(fd)]
    try:
        memory.map(DmaMap(32, flags, offset, address, size), fds)
    finally:
        for one in fds:
            os.close(one)


@pytest.fixture(params=[True, False], ids=["mmap", "pread"])
def sealed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_memory_is_read_and_written(sealed: bool) -> None:
    memory = GuestMemory(10)
    with ram(4 * PAGE, sealed=sealed) as guest:
        mapped(memory, 0x10000, 2 * PAGE, guest.fd, PAGE)
        memory.write(0x10010, b"hello")
        assert guest.octets[PAGE + 16 : PAGE + 21] == b"hello"
        guest.octets[3 * PAGE - 4 : 3 * PAGE] = b"last"
        assert memory.read(0x12000 - 4, 4) == b"last"
        assert memory.read(0x10010, 5) == b"hello"
        memory.unmap_all()


@pytest.mark.parametrize(
    ("address", "count"),
    [
        (0xFFFF, 1),
        (0xFFFF, 2),
        (0x12000, 1),
        (0x11FFF, 2),
        (0, 4),
        (TOP - 1, 4),
        (0x10000, 2 * PAGE + 1),
        (0xF000, 0x9000),
    ],
)
def test_nothing_else_is(sealed: bool, address: int, count: int) -> None:
    memory = GuestMemory(10)
    with ram(4 * PAGE, sealed=sealed) as guest:
        mapped(memory, 0x10000, 2 * PAGE, guest.fd, PAGE)
        memory.read(0x10000, 1)  # a look-up is remembered
        for _ in range(2):
            with pytest.raises(DmaFaultError) as caught:
                memory.read(address, count)
            assert (caught.value.address, caught.value.count) == (address, count)
            with pytest.raises(DmaFaultError):
                memory.write(address, bytes(count))
            memory.write(0x10000, b"")
        assert guest.octets[:] == bytes(4 * PAGE)
        memory.unmap_all()


def test_an_access_across_two_maps(sealed: bool) -> None:
    memory = GuestMemory(10)
    with ram(4 * PAGE, sealed=sealed) as guest:
        mapped(memory, PAGE, PAGE, guest.fd, 0)
        mapped(memory, 0, PAGE, guest.fd, 3 * PAGE)
        memory.write(PAGE - 3, b"abcdef")
        assert guest.octets[4 * PAGE - 3 :] == b"abc"
        assert guest.octets[:3] == b"def"
        assert memory.read(PAGE - 3, 6) == b"abcdef"
        with pytest.raises(DmaFaultError):
            memory.write(2 * PAGE - 1, b"xy")
        assert guest.octets[PAGE - 1 : PAGE] == b"\0"
        memory.unmap_all()


def test_what_a_map_is_for(sealed: bool) -> None:
    memory = GuestMemory(10)
    with ram(2 * PAGE, sealed=sealed) as guest:
        mapped(memory, 0, PAGE, guest.fd, flags=DmaFlags.READ)
        mapped(memory, PAGE, PAGE, guest.fd, PAGE, flags=DmaFlags.WRITE)
        for _ in range(2):
            assert memory.read(0, 4) == bytes(4)
            with pytest.raises(DmaFaultError, match="not for this"):
                memory.write(0, b"x")
            memory.write(PAGE, b"x")
            with pytest.raises(DmaFaultError, match="not for this"):
                memory.read(PAGE, 1)
        memory.unmap_all()


def test_a_file_that_shrinks_is_an_error_and_no_signal() -> None:
    memory = GuestMemory(10)
    with ram(2 * PAGE, sealed=False) as guest:
        mapped(memory, 0, 2 * PAGE, guest.fd)
        memory.write(PAGE, b"x")
        os.ftruncate(guest.fd, PAGE)
        with pytest.raises(DmaFaultError, match="shorter"):
            memory.read(PAGE, 1)
        assert memory.read(0, 1) == b"\0"
        memory.unmap_all()


def test_a_file_that_cannot_shrink_is_mapped() -> None:
    with ram(PAGE) as guest, pytest.raises(PermissionError):
        os.ftruncate(guest.fd, 0)
    memory = GuestMemory(10)
    with ram(PAGE) as guest:
        mapped(memory, 0, PAGE, guest.fd)
        maps = Path("/proc/self/maps").read_text()
        assert maps.count("memfd:ram") == 2  # the test's own, and this one
        memory.unmap(0, PAGE)
        assert Path("/proc/self/maps").read_text().count("memfd:ram") == 1


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (DmaMap(32, RW, 0, 0, 0), errno.EINVAL),
        (DmaMap(32, RW, 0, 0, PAGE + 1), errno.EINVAL),
        (DmaMap(32, RW, 0, 1, PAGE), errno.EINVAL),
        (DmaMap(32, RW, 1, 0, PAGE), errno.EINVAL),
        (DmaMap(32, RW, PAGE, 0, 4 * PAGE), errno.EINVAL),
        (DmaMap(32, RW, 4 * PAGE, 0, PAGE), errno.EINVAL),
        (DmaMap(32, RW, 0, TOP - PAGE, 2 * PAGE), errno.EINVAL),
        (DmaMap(32, RW, TOP - PAGE, 0, PAGE), errno.EINVAL),
        (DmaMap(32, RW, TOP - PAGE, 0x100000, 1 << 63), errno.EINVAL),
        (DmaMap(32, RW, 0, 0x100000, 1 << 63), errno.EINVAL),
        (DmaMap(32, 0, 0, 0, PAGE), errno.EINVAL),
        (DmaMap(32, RW | DmaFlags.FILE_IO, 0, 0, PAGE), errno.EINVAL),
        (DmaMap(32, 0x10 | RW, 0, 0, PAGE), errno.EINVAL),
        (DmaMap(32, RW, 0, 0x8000, PAGE), errno.EEXIST),
        (DmaMap(32, RW, 0, 0x7000, 2 * PAGE), errno.EEXIST),
        (DmaMap(32, RW, 0, 0x9000, PAGE), errno.EEXIST),
        (DmaMap(32, RW, 0, 0x7000, 4 * PAGE), errno.EEXIST),
    ],
)
def test_maps_that_are_refused(sealed: bool, request_: DmaMap, code: int) -> None:
    before = open_fds()
    memory = GuestMemory(10)
    with ram(4 * PAGE, sealed=sealed) as guest:
        mapped(memory, 0x8000, 2 * PAGE, guest.fd)
        with pytest.raises(MalformedError) as caught:
            mapped(memory, request_.addr, request_.size, guest.fd, request_.offset, flags=request_.flags)
        assert caught.value.code == code
        assert len(memory) == 1
        memory.unmap_all()
    assert open_fds() == before


def test_what_is_no_file_is_refused() -> None:
    memory = GuestMemory(10)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for fd in (ours.fileno(), os.open("/dev/zero", os.O_RDWR), os.open("/", os.O_RDONLY)):
            with pytest.raises(MalformedError, match="no regular file"):
                mapped(memory, 0, PAGE, fd)
            if fd != ours.fileno():
                os.close(fd)


def test_a_file_that_may_not_be_written() -> None:
    memory = GuestMemory(10)
    with ram(PAGE) as guest:
        fd = os.open(f"/proc/self/fd/{guest.fd}", os.O_RDONLY)
        with pytest.raises(MalformedError) as caught:
            mapped(memory, 0, PAGE, fd)
        assert caught.value.code == errno.EACCES
        mapped(memory, 0, PAGE, fd, flags=DmaFlags.READ)
        os.close(fd)
        memory.unmap_all()


def test_too_many_maps() -> None:
    memory = GuestMemory(2)
    for n in range(2):
        memory.map(DmaMap(32, RW, 0, n * PAGE, PAGE), [])
    with pytest.raises(MalformedError) as caught:
        memory.map(DmaMap(32, RW, 0, 2 * PAGE, PAGE), [])
    assert caught.value.code == errno.ENOSPC
    memory.unmap(0, PAGE)
    memory.map(DmaMap(32, RW, 0, 2 * PAGE, PAGE), [])


@pytest.mark.parametrize(
    ("address", "size"), [(0, PAGE), (PAGE, PAGE), (0, 3 * PAGE), (4 * PAGE, 2 * PAGE), (TOP - 1, 1)]
)
def test_only_whole_maps_are_unmapped(address: int, size: int) -> None:
    memory = GuestMemory(10)
    with ram(2 * PAGE) as guest:
        mapped(memory, 0, 2 * PAGE, guest.fd)
        with pytest.raises(MalformedError) as caught:
            memory.unmap(address, size)
        assert caught.value.code == errno.ENOENT
        assert memory.read(0, 1) == b"\0"
        memory.unmap(0, 2 * PAGE)
        with pytest.raises(DmaFaultError):
            memory.read(0, 1)


def test_memory_without_a_file_is_asked_for_by_message() -> None:
    memory = GuestMemory(10)
    memory.map(DmaMap(32, RW, 0, 0, PAGE), [])
    with pytest.raises(DmaFaultError, match="by message"):
        memory.read(0, 1)
    with pytest.raises(DmaFaultError, match="by message"):
        memory.write(0, b"x")
    memory.check(0, PAGE, write=True)
    with pytest.raises(DmaFaultError):
        memory.check(0, PAGE + 1, write=True)


def test_writes_are_logged_when_they_happened(sealed: bool) -> None:
    memory = GuestMemory(10)
    memory.log = log = DirtyLog(PAGE)
    with ram(4 * PAGE, sealed=sealed) as guest:
        mapped(memory, 0, 4 * PAGE, guest.fd)
        memory.write(PAGE, b"x")
        memory.write(3 * PAGE - 1, b"xy")
        memory.read(0, PAGE)
        with pytest.raises(DmaFaultError):
            memory.write(4 * PAGE, b"x")
        memory.write(0, b"")
        assert log.pages == {1, 2, 3}
        memory.unmap_all()


# Over a socket.


def test_maps_of_a_client() -> None:
    before = open_fds()
    with served() as session, ram(4 * PAGE) as guest:
        client, model = session.client, session.model
        client.dma_map(0x8000, 2 * PAGE, fd=guest.fd, offset=PAGE, flags=RW | DmaFlags.MMAP)
        client.dma_map(0, PAGE)
        assert model.notices == [("map", 0x8000, 2 * PAGE), ("map", 0, PAGE)]
        assert model.guest is not None
        model.guest.write(0x8000, b"dma")
        assert guest.octets[PAGE : PAGE + 3] == b"dma"
        with refused(errno.EEXIST):
            client.dma_map(0x9000, PAGE, fd=guest.fd)
        with refused(errno.EINVAL):
            client.dma_map(0x20000, PAGE, flags=RW | DmaFlags.MMAP)
        with refused(errno.ENOENT):
            client.dma_unmap(0x8000, PAGE)
        client.dma_unmap(0x8000, 2 * PAGE)
        assert model.notices[2:] == [("unmap", 0x8000, 2 * PAGE)]
    assert open_fds() == before


def test_an_unmap_of_everything() -> None:
    with served() as session:
        client = session.client
        for n in (5, 1, 3):
            client.dma_map(n * PAGE, PAGE)
        for address, size in ((PAGE, PAGE), (0, PAGE)):
            with refused(errno.EINVAL):
                client.dma_unmap(address, size, UnmapFlags.ALL)
        with refused(errno.EINVAL):
            client.dma_unmap(PAGE, PAGE, UnmapFlags.GET_DIRTY_BITMAP)
        client.dma_unmap(0, 0, UnmapFlags.ALL)
        assert session.model.notices[3:] == [("unmap", n * PAGE, PAGE) for n in (1, 3, 5)]
        client.dma_unmap(0, 0, UnmapFlags.ALL)


def test_a_limit_on_maps() -> None:
    with served(limits=Limits(max_dma_maps=1, max_msg_fds=1)) as session:
        session.client.dma_map(0, PAGE)
        with refused(errno.ENOSPC):
            session.client.dma_map(PAGE, PAGE)
