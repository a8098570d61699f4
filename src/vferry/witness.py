# SPDX-License-Identifier: Apache-2.0
"""Probe frames, and witnesses that wait for them on other hosts.

A probe is an Ethernet frame of type 0x88B5 (IEEE Std 802, Local Experimental EtherType 1) whose payload is
``vferry-probe`` and a nonce. It is sent by AF_PACKET (``man 7 packet``), which needs CAP_NET_RAW.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shlex
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from vferry.core.frames import ETH_P_LOCAL_EXPERIMENTAL, PROBE, probe
from vferry.core.model import Vlan
from vferry.ports.witness import Watch, WitnessError

__all__ = ["FrameProber", "FrameWatch", "RemoteWitness"]

SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP = 1
PACKET_MR_PROMISC = 1
"""``include/uapi/linux/if_packet.h``."""


class FrameProber:
    """Sends probes from a PF's network interface."""

    def send(self, netdev: str, destination: str, nonce: bytes, *, count: int, vlans: tuple[Vlan, ...] = ()) -> None:
        """Send ``count`` probes to the MAC ``destination``, tagged with ``vlans``.

        :raise WitnessError: the interface is down, or CAP_NET_RAW is missing.
        """
        try:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
                sock.bind((netdev, 0))
                source = sock.getsockname()[4][:6]
                frame = probe(destination, source, nonce, vlans=vlans)
                for _ in range(count):
                    sock.send(frame)
        except OSError as error:
            raise WitnessError(f"send a probe from {netdev}", why=error.strerror or str(error)) from error


class FrameWatch:
    """Waits for one probe on this host's own interfaces."""

    def __init__(self, nonce: bytes, *, seconds: float, interface: str | None = None) -> None:
        """Wait ``seconds`` at most, on ``interface`` or on all."""
        self._wanted = PROBE + nonce
        self._seconds = seconds
        self._interface = interface
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_LOCAL_EXPERIMENTAL))
            self._listen(self._socket)
        except OSError as error:
            if self._socket is not None:
                self._socket.close()
            where = self._interface or "all interfaces"
            raise WitnessError(f"listen for a probe on {where}", why=error.strerror or str(error)) from error
        return self

    def _listen(self, sock: socket.socket) -> None:
        indexes = [index for index, _ in socket.if_nameindex()]
        if self._interface:
            indexes = [socket.if_nametoindex(self._interface)]
            sock.bind((self._interface, ETH_P_LOCAL_EXPERIMENTAL))
        for index in indexes:  # the frame is for another MAC: only a promiscuous interface takes it
            with contextlib.suppress(OSError):
                membership = struct.pack("iHH8s", index, PACKET_MR_PROMISC, 0, b"")
                sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket is not None:
            self._socket.close()

    def received(self) -> int:
        """Return how many frames with the nonce came in; waits for the first, then half a second for more."""
        assert self._socket is not None, "enter it first"  # noqa: S101
        until = time.monotonic() + self._seconds
        count = 0
        while (left := until - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                data, address = self._socket.recvfrom(2048)
            except TimeoutError:
                break
            if address[2] != socket.PACKET_OUTGOING and self._wanted in data:
                count += 1
                until = min(until, time.monotonic() + 0.5)
        return count


class RemoteWitness:
    """A witness on another host, started by a command such as ``ssh``."""

    def __init__(self, command: Sequence[str], host: str, interface: str | None = None) -> None:
        """Start ``COMMAND HOST vferry witness ...`` for each probe."""
        self._command = [*command, host]
        self._host = host
        self._interface = interface

    @contextlib.contextmanager
    def watch(self, nonce: bytes, *, seconds: float) -> Iterator[Watch]:
        """Start the witness; entered when it says that it is ready.

        :raise WitnessError: it cannot be started or does not get ready within ten seconds.
        """
        words = ["vferry", "witness", nonce.hex(), "--seconds", str(seconds)]
        words += ["--interface", self._interface] if self._interface else []
        command = [*self._command, shlex.join(words)]
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        except OSError as error:
            raise WitnessError(f"ask the witness {self._host}", why=f"{command[0]}: {error.strerror}") from error
        with process:
            try:
                watch = _RemoteWatch(process, self._host)
                watch.answer("ready", 10.0)
                yield watch
            finally:
                process.kill()


class _RemoteWatch:
    def __init__(self, process: subprocess.Popen[bytes], host: str) -> None:
        self._process = process
        self._host = host
        self._buffer = b""

    def received(self) -> int:
        return self.answer("received", 60.0)

    def answer(self, name: str, seconds: float) -> int:
        line = self._line(time.monotonic() + seconds)
        try:
            return int(json.loads(line)[name])
        except (ValueError, KeyError, TypeError) as error:
            raise WitnessError(f"ask the witness {self._host}", why=f"it said {line[:200]!r}") from error

    def _exit_code(self) -> int | None:
        """Its output ends a moment before the process does."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        return self._process.poll()

    def _line(self, until: float) -> bytes:
        assert self._process.stdout is not None  # noqa: S101 -- made with a pipe
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise WitnessError(f"ask the witness {self._host}", why="it does not answer")
                data = os.read(self._process.stdout.fileno(), 4096)
                if not data or len(self._buffer) > 65536:
                    raise WitnessError(
                        f"ask the witness {self._host}",
                        why=f"it ended early with exit code {self._exit_code()}",
                        next_step=f"try: {shlex.join(map(str, self._process.args))}",  # type: ignore[arg-type]
                    )
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line
