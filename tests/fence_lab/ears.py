# SPDX-License-Identifier: Apache-2.0
"""Many listeners and senders in one host, cheaply: a listener is a tcpdump, and one program sends everywhere.

A host of the lab has one slow processor; ten Python programs that start at the same time take it ten seconds.
"""

from __future__ import annotations

import itertools
import signal
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lab import Host
from lab.frames import LabFrame, decode, encode

_numbers = itertools.count()

_SEND = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
sockets = {}
for line in sys.stdin:
    namespace, interface, frame = line.split()
    if (namespace, interface) not in sockets:
        path = "/proc/1/ns/net" if namespace == "-" else "/run/netns/" + namespace
        place = os.open(path, os.O_RDONLY)
        if libc.setns(place, 0x40000000):  # CLONE_NEWNET
            raise OSError(ctypes.get_errno(), "setns", path)
        sockets[namespace, interface] = sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sender.bind((interface, 0))
    sockets[namespace, interface].send(bytes.fromhex(frame))
"""


@dataclass(frozen=True, kw_only=True)
class Mouth:
    """A place to send from.

    :ivar namespace: network namespace of the interface, `None` for the host's own.
    """

    host: Host
    interface: str
    namespace: str | None = None


def send(host: Host, frames: Iterable[tuple[Mouth, LabFrame]]) -> None:
    """Send frames from places of one host, in their order."""
    lines = [f"{mouth.namespace or '-'} {mouth.interface} {encode(frame).hex()}" for mouth, frame in frames]
    host.run(["python3", "-S", "-E", "-c", _SEND], stdin="\n".join(lines))


class Ear:
    """Listens on an interface for numbered frames that come in; not promiscuous."""

    def __init__(self, host: Host, interface: str, namespace: str | None = None) -> None:
        self._host = host
        self._path = f"/tmp/ear-{next(_numbers)}.pcap"
        within = ["ip", "netns", "exec", namespace] if namespace else []
        options = ["-p", "-n", "-U", "--immediate-mode", "-Q", "in", "-Z", "root", "-s", "128"]
        self._process = host.spawn([*within, "tcpdump", *options, "-i", interface, "-w", self._path])

    def ready(self) -> None:
        """Wait until it listens."""
        self._process.wait_for_output("listening on")

    def frames(self) -> list[LabFrame]:
        """Return what has come in so far."""
        found = (decode(raw) for raw in _packets(self._host.read(self._path)))
        return [frame for frame in found if frame is not None]

    def stop(self) -> None:
        """Stop listening."""
        self._process.kill(signal.SIGTERM)
        self._process.wait()


def _packets(pcap: bytes) -> Iterator[bytes]:
    """Yield the packets of a pcap file of this byte order; one that is not complete yet is left out."""
    place = 24
    while len(pcap) >= place + 16:
        (length,) = struct.unpack_from("<I", pcap, place + 8)
        place += 16
        if len(pcap) < place + length:
            return
        yield pcap[place : place + length]
        place += length
