# SPDX-License-Identifier: Apache-2.0
"""The client against another server: gpio-pci-idio-16 of libvfio-user, built from the tree that LIBVFIO_USER names.

Needs json-c's header and library (CPATH and LIBRARY_PATH may say where). Known of that server: it answers a SET of
MIG_DEVICE_STATE with what it was asked; it gives its whole state (16 pins of 4 octets) in one MIG_DATA_READ and
insists on that size; its MIG_DATA_WRITE says that it took nothing, which its library refuses after the pins were set.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.vfio_user.models import PAGE, ram
from tests.vfio_user.sessions import refused
from vferry.core.vfio.constants import DeviceFlags, IrqIndex, IrqSetFlags, MigrationFlags, RegionFlags, RegionIndex
from vferry.core.vfio.migration_states import DeviceState
from vferry.vfio_user.client import Client

pytestmark = pytest.mark.slow

LIBRARY = ("btree", "dma", "fd_cache", "irq", "libvfio-user", "migration", "pci", "pci_caps", "tran", "tran_sock")
BAR2, CONFIG = RegionIndex.BAR2, RegionIndex.CONFIG
S = DeviceState


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = os.environ.get("LIBVFIO_USER")
    if not tree:
        pytest.skip("LIBVFIO_USER does not name libvfio-user's source tree")
    compiler = shutil.which("gcc")
    if not compiler:
        pytest.skip("no gcc")
    target = tmp_path_factory.mktemp("libvfio-user") / "gpio-pci-idio-16"
    command = [compiler, "-O2", "-D_GNU_SOURCE", "-Iinclude", "-Ilib", "-I/usr/include/json-c", "-o", str(target)]
    command += ["samples/gpio-pci-idio-16.c", *(f"lib/{name}.c" for name in LIBRARY), "-ljson-c"]
    built = subprocess.run(command, cwd=tree, check=False, capture_output=True, text=True)
    if "json.h: No such file" in built.stderr or "cannot find -ljson-c" in built.stderr:
        pytest.skip("json-c is not installed")
    assert built.returncode == 0, built.stderr
    return target


@contextmanager
def gpio(program: Path, tmp_path: Path) -> Iterator[Client]:
    """Run the server, and begin a session with it."""
    path = tmp_path / "gpio.socket"
    with subprocess.Popen([str(program), "-R", str(path)]) as process:
        try:
            deadline = time.monotonic() + 20
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            with Client.connect(str(path)) as client:
                client.version()
                yield client
        finally:
            process.kill()


def test_it_describes_itself(program: Path, tmp_path: Path) -> None:
    with gpio(program, tmp_path) as client:
        assert client.server.max_msg_fds == 8
        assert client.server.max_data_xfer_size == 1 << 20
        info = client.device_info()
        assert info.flags == DeviceFlags.PCI | DeviceFlags.RESET
        assert (info.num_regions, info.num_irqs) == (9, 5)
        region = client.region_info(BAR2)
        assert (region.size, region.flags) == (0x100, RegionFlags.READ | RegionFlags.WRITE)
        assert client.region_info(0).size == 0
        assert [client.irq_info(index).count for index in range(5)] == [1, 0, 0, 1, 1]
        assert client.read(CONFIG, 0, 4) == bytes.fromhex("4f49c80d")


def test_registers(program: Path, tmp_path: Path) -> None:
    with gpio(program, tmp_path) as client:
        assert client.read(BAR2, 1, 1) == b"\xff"
        client.write(BAR2, 0, b"\x05")
        client.write(BAR2, 0, b"\x01", posted=True)
        assert client.read(BAR2, 1, 1) == b"\xfa"
        client.write(BAR2, 4, b"\x80")
        assert client.read(BAR2, 5, 1) == b"\x7f"
        assert not client.server.write_multiple
        with refused(errno.EINVAL):
            client.write_multi([(BAR2, 0, b"\x01")])
        with refused(errno.EINVAL):
            client.read(BAR2, 0x100, 1)
        client.reset()


def test_memory_and_interrupts(program: Path, tmp_path: Path) -> None:
    with gpio(program, tmp_path) as client, ram(4 * PAGE) as memory:
        client.dma_map(0, 2 * PAGE, fd=memory.fd)
        client.dma_map(0x10000, PAGE)
        client.dma_unmap(0, 2 * PAGE)
        with refused(errno.ENOENT):
            client.dma_unmap(0, 2 * PAGE)
        eventfd = os.eventfd(0, os.EFD_NONBLOCK)
        client.set_irqs(IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER, IrqIndex.INTX, 0, 1, fds=[eventfd])
        client.set_irqs(IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_TRIGGER, IrqIndex.INTX, 0, 1)
        assert os.eventfd_read(eventfd) == 1
        client.set_irqs(IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER, IrqIndex.INTX, 0, 1)
        os.close(eventfd)


def test_migration_states(program: Path, tmp_path: Path) -> None:
    with gpio(program, tmp_path) as client:
        assert client.migration_flags() == MigrationFlags.STOP_COPY | MigrationFlags.PRE_COPY
        assert client.migration_state() is S.RUNNING
        for state in (S.PRE_COPY, S.STOP_COPY, S.STOP, S.RESUMING, S.RUNNING):
            client.set_migration_state(state)
            assert client.migration_state() is state
        for refused_state in (0, S.RUNNING_P2P, S.PRE_COPY_P2P):
            with refused(errno.EINVAL):
                client.set_migration_state(refused_state)
        client.set_migration_state(S.STOP_COPY)
        with refused(errno.EINVAL):
            client.set_migration_state(S.PRE_COPY)


def test_migration_data(program: Path, tmp_path: Path) -> None:
    with gpio(program, tmp_path) as client:
        with refused(errno.EINVAL):
            client.read_migration_data(64)
        client.write(BAR2, 0, b"\x03")
        client.set_migration_state(S.STOP_COPY)
        state = client.read_migration_data(64)
        assert state == b"\1\0\0\0" * 2 + bytes(56)
        assert client.read_migration_data(64) == b""
        client.set_migration_state(S.RESUMING)
        with refused(errno.EINVAL):
            client.write_migration_data(b"\2\0\0\0" + bytes(60))
        client.set_migration_state(S.RUNNING)
        assert client.read(BAR2, 1, 1) == b"\xfe"


def test_the_dirty_log(program: Path, tmp_path: Path) -> None:
    with gpio(program, tmp_path) as client, ram(4 * PAGE) as memory:
        client.dma_map(0, 4 * PAGE, fd=memory.fd)
        assert client.dma_logging_start(PAGE, [(0, 4 * PAGE)]) == PAGE
        assert client.dma_logging_report(0, 4 * PAGE, PAGE) == set()
        client.dma_logging_stop()
