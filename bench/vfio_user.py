# SPDX-License-Identifier: Apache-2.0
"""Register reads through vfio-user: vferry's server beside the least that C can do, with one client.

Client and server are pinned to one processor, so that a round trip is two context switches and what both sides do;
unpinned, figures jump by a factor of five with the scheduler's mood. The contenders take turns.

``python -m bench.vfio_user [SECONDS]``
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from vferry.core.vfio.codec import Limits, command, encode_version
from vferry.core.vfio.constants import Command, RegionFlags
from vferry.core.vfio.layouts import REGION_ACCESS
from vferry.vfio_user.device import Guest, Interrupts, Region
from vferry.vfio_user.server import Server, listen

IN_FLIGHT: Final = 32
"""Reads that are under way at one time in the second measurement."""
ROUNDS: Final = 5

_ANSWER: Final = 36  # octets: header 16, access 16, data 4
_SOURCE: Final = Path(__file__).with_name("vfio_user_echo.c")


class _Counter:
    """A region whose every read gives the next number."""

    size = 0x4000
    flags = RegionFlags.READ | RegionFlags.WRITE

    def __init__(self) -> None:
        self.value = 0

    def read(self, _: int, count: int, /) -> bytes:
        self.value += 1
        return self.value.to_bytes(4, "little")[:count]

    def write(self, _: int, data: bytes, /) -> None:
        pass


class _Device:
    """The least of a device."""

    migration = None

    def __init__(self) -> None:
        self.regions: dict[int, Region] = {0: _Counter()}
        self.interrupts: dict[int, Interrupts] = {}

    def attach(self, guest: Guest, /) -> None:
        pass

    def detach(self) -> None:
        pass

    def dma_mapped(self, address: int, size: int, /) -> None:
        pass

    def dma_unmapped(self, address: int, size: int, /) -> None:
        pass

    def reset(self) -> None:
        pass


class _Client:
    """Sends what was encoded before, and counts octets."""

    def __init__(self, path: Path) -> None:
        self.sock = _connect(path)
        self.sock.sendall(command(0, Command.VERSION, encode_version(Limits())))
        assert self.sock.recv(4096)
        read = REGION_ACCESS.pack(0, 0, 4)
        self.one = command(1, Command.REGION_READ, read)
        self.many = b"".join(command(n, Command.REGION_READ, read) for n in range(IN_FLIGHT))
        self.answer = bytearray(_ANSWER * IN_FLIGHT)

    def round_trip(self, seconds: float) -> float:
        """Return the median of a read, in microseconds."""
        samples = []
        end = time.perf_counter() + seconds
        while (begin := time.perf_counter()) < end:
            self.sock.send(self.one)
            assert self.sock.recv_into(self.answer) == _ANSWER
            samples.append(time.perf_counter() - begin)
        return statistics.median(samples) * 1e6

    def rate(self, seconds: float) -> float:
        """Return reads a second with many in flight."""
        view, count, begin = memoryview(self.answer), 0, time.perf_counter()
        while (now := time.perf_counter()) < begin + seconds:
            self.sock.send(self.many)
            received = 0
            while received < len(view):
                received += self.sock.recv_into(view[received:])
            count += IN_FLIGHT
        return count / (now - begin)


def _connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    deadline = time.monotonic() + 10
    while True:
        try:
            sock.connect(str(path))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return sock


@contextmanager
def _pinned(cpu: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _serving(arguments: list[str], path: Path) -> Iterator[_Client]:
    """Run a server, which inherits this process's processor, and connect to it."""
    with subprocess.Popen([*arguments, str(path)]) as process:
        try:
            client = _Client(path)
            with client.sock:
                yield client
        finally:
            process.terminate()


def _contenders(directory: Path) -> dict[str, list[str]]:
    """Return command lines by name; C only where there is a compiler."""
    found = {"vferry": [sys.executable, "-m", "bench.vfio_user", "serve"]}
    compiler = shutil.which("cc")
    if compiler:
        program = directory / "echo"
        subprocess.run([compiler, "-O2", "-o", program, _SOURCE], check=True)
        found["C echo"] = [str(program)]
    return found


def measure(seconds: float) -> dict[str, float]:
    """Measure each figure for so long.

    Keys are "NAME, round trip (us)" and "NAME, 32 in flight (reads/s)", for "vferry" and, where there is a C compiler,
    "C echo"; then the two ratios of vferry to C, of time and of rate.
    """
    cpu = min(os.sched_getaffinity(0))
    found: dict[str, list[float]] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders = _contenders(directory)
        stack.enter_context(_pinned(cpu))
        clients = {
            name: stack.enter_context(_serving(arguments, directory / f"{n}.socket"))
            for n, (name, arguments) in enumerate(contenders.items())
        }
        for _ in range(ROUNDS):
            for name, client in clients.items():
                found.setdefault(f"{name}, round trip (us)", []).append(client.round_trip(seconds / ROUNDS))
                found.setdefault(f"{name}, {IN_FLIGHT} in flight (reads/s)", []).append(client.rate(seconds / ROUNDS))
    return _with_ratios({name: statistics.median(values) for name, values in found.items()})


def _with_ratios(found: dict[str, float]) -> dict[str, float]:
    for what in ("round trip (us)", f"{IN_FLIGHT} in flight (reads/s)"):
        if f"C echo, {what}" in found:
            found[f"vferry to C, {what.partition(' (')[0]}"] = found[f"vferry, {what}"] / found[f"C echo, {what}"]
    return found


def _serve(path: str) -> None:
    listener = listen(path)
    with listener:
        connection, _ = listener.accept()
        server = Server(_Device())
        server.serve_connection(connection)
        server.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        _serve(sys.argv[2])
    else:
        for what, value in measure(float(sys.argv[1]) if sys.argv[1:] else 1.0).items():
            print(f"{what:40} {value:14.2f}")
