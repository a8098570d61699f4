# SPDX-License-Identifier: Apache-2.0
"""What can be measured on this machine itself: starting a process, and reading an answer captured in the lab.

Reading is a real request for the loopback interface and its real answer, which is then replaced by the captured one.
So the system calls and all work in user space are there; what is missing is the kernel's work for the VFs.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.guest.contender import Contender, Sample, loop, run_rounds
from bench.guest.processes import Floor
from bench.guest.startup import BARE, ITS_LIBRARIES, LIBRARIES, process_contenders
from vferry.nic.linux.link import Links
from vferry.nic.linux.netlink import NETLINK_ROUTE, NetlinkSocket

Series = dict[str, dict[str, list[int]]]

IMPORTS_OF_SAVE = "import vferry.cli.arguments, vferry.cli.session, vferry.cli.commands.save, vferry.nic.linux"


def startup(rounds: int, seconds: float) -> Series:
    """Measure processes of this interpreter, compiled as an installation would be."""
    python = sys.executable
    commands = {
        BARE: [python, "-c", "pass"],
        ITS_LIBRARIES: [python, "-c", LIBRARIES],
        "vferry --version": [python, "-m", "vferry", "--version"],
        "vferry --help": [python, "-m", "vferry", "--help"],
        "the imports of vferry save": [python, "-c", IMPORTS_OF_SAVE],
    }
    with tempfile.TemporaryDirectory() as compiled:
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        env["PYTHONPYCACHEPREFIX"] = compiled
        return run_rounds(process_contenders(commands, env), rounds, seconds)


class _Replayed(NetlinkSocket):
    """Answers everything with captured octets."""

    answer: bytes

    def sequences(self, count: int) -> range:
        """Return the captured answer's sequence number."""
        return range(1, 1 + count)

    def receive(self) -> bytes:
        """Receive what the kernel says, and forget it."""
        super().receive()
        return bytes(memoryview(self.answer))


class _ReplayedLinks(Links):
    def __init__(self, answer: bytes) -> None:
        super().__init__(5.0)
        self._answer = answer

    def socket(self) -> NetlinkSocket:
        """Open a socket that answers with the captured octets."""
        sock = _Replayed.open(NETLINK_ROUTE, 5.0)
        assert isinstance(sock, _Replayed)
        sock.answer = self._answer
        return sock


def read(answer: bytes, vfs: int, floor: Path, rounds: int, seconds: float) -> Series:
    """Measure a reading whose answer is replaced.

    :param answer: as the kernel gave it in the lab.
    :param vfs: how many VFs are in it.
    """
    with tempfile.TemporaryDirectory() as directory, closing(Floor(str(floor))) as process:
        file = Path(directory, "answer")
        file.write_bytes(answer)
        return run_rounds(_readers(answer, vfs, process, file), rounds, seconds)


def _readers(answer: bytes, vfs: int, floor: Floor, file: Path) -> list[Contender]:
    links = _ReplayedLinks(answer)
    loopback = socket.if_nametoindex("lo")

    def ask(count: int) -> list[Sample]:
        found, samples = floor.ask(f"read {loopback} {count} {file}")
        assert found == vfs
        return [Sample("C", sample) for sample in samples]

    def reading() -> Any:
        return links.reading("lo", statistics=False)

    def check() -> None:
        assert len(reading().vfs) == vfs

    return [Contender("C", ask), Contender("vferry", loop("vferry", reading), check)]
