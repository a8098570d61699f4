# SPDX-License-Identifier: Apache-2.0
"""The wire between hosts, as the driver sees it: a learning switch that keeps every frame it is given.

All frames are stamped at their ingress by one clock, the monotonic clock of this machine, so the order of frames of
different hosts is known; :func:`time.monotonic_ns` in the driver is the same clock.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab.errors import LabError, WireDied
from lab.guest.frames import LabFrame
from lab.guest.frames import decode as decode_lab_frame
from lab.wire.capture import MOST_PORTS, decode, pcap
from lab.wire.switch import vlan_of

_PROJECT = Path(__file__).resolve().parents[2]
_POLL_SECONDS = 0.005
_ANSWER_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """A frame that came into the wire.

    :ivar time_ns: when, by this machine's monotonic clock.
    :ivar port: name of the port it came in at.
    :ivar out: names of the ports it left by; empty where the switch filtered it.
    :ivar data: the frame from the destination address on, without checksum.
    """

    time_ns: int
    port: str
    out: tuple[str, ...]
    data: bytes

    @property
    def dst(self) -> str:
        """Destination address, lower case with colons."""
        return self.data[:6].hex(":")

    @property
    def src(self) -> str:
        """Source address."""
        return self.data[6:12].hex(":")

    @property
    def vlan(self) -> int | None:
        """VLAN id of the outer tag, `None` without a tag."""
        return vlan_of(self.data) if self._tagged else None

    @property
    def pcp(self) -> int:
        """Priority of the outer tag, 0 without a tag."""
        return self.data[14] >> 5 if self._tagged else 0

    @property
    def ethertype(self) -> int:
        """Ethertype behind the tags."""
        offset = 12
        while self.data[offset : offset + 2] in (b"\x81\x00", b"\x88\xa8"):
            offset += 4
        return int.from_bytes(self.data[offset : offset + 2], "big")

    @property
    def lab(self) -> LabFrame | None:
        """What a numbered frame says; `None` for any other frame."""
        return decode_lab_frame(self.data)

    @property
    def _tagged(self) -> bool:
        return self.data[12:14] in (b"\x81\x00", b"\x88\xa8")


@dataclass(frozen=True, kw_only=True, slots=True)
class PortCount:
    """Frames of a port since it exists.

    :ivar received: came into the wire.
    :ivar sent: left it.
    :ivar dropped: met a link that was down, no listener, or a full queue.
    """

    received: int
    sent: int
    dropped: int


@dataclass(frozen=True, eq=False)
class Port:
    """A socket of the wire to plug a NIC into.

    :ivar wire: the wire it belongs to.
    :ivar name: its name there.
    :ivar near: address of the wire's datagram socket.
    :ivar far: address of the NIC's datagram socket.
    """

    wire: Wire
    name: str
    near: Path
    far: Path


class Wire:
    """A switch with any number of ports, up to 64; it starts with capture on.

    Use it as a context manager, or call :meth:`close`.
    """

    def __init__(self, *, hub: bool = False) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="vfl-wire-"))
        self._file = self._directory / "frames"
        self._ports: dict[str, Port] = {}
        self._names: list[str] = []
        self._frames: list[Frame] = []
        self._offset = 0
        self._pending = b""
        self._lock = threading.RLock()
        self._control, theirs = socket.socketpair()
        self._control.settimeout(_ANSWER_SECONDS)
        with theirs, self._file.open("wb") as capture:
            words = ["-m", "lab.wire.server", str(theirs.fileno()), str(capture.fileno()), str(self._directory)]
            self._process = subprocess.Popen(
                [sys.executable, *words],
                pass_fds=(theirs.fileno(), capture.fileno()),
                cwd=_PROJECT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        if hub:
            self.set_hub(on=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The id of the wire's process."""
        return self._process.pid

    def close(self) -> None:
        """End the wire's process and remove its files."""
        self._control.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    # Its ports.

    def port(self, name: str) -> Port:
        """Return the port of that name; add it where it does not exist."""
        with self._lock:
            if name not in self._ports:
                number = len(self._names)
                if number == MOST_PORTS:
                    raise LabError(f"a wire has at most {MOST_PORTS} ports")
                near, far = self._directory / f"{number}.w", self._directory / f"{number}.h"
                self._ask("add", near=str(near), far=str(far))
                self._names.append(name)
                self._ports[name] = Port(self, name, near, far)
            return self._ports[name]

    def set_link(self, port: str, *, up: bool) -> None:
        """Bring a port down, so that nothing enters or leaves by it, or up again. The NIC's carrier stays as it is."""
        self._ask("link", port=self._names.index(port), up=up)

    def set_hub(self, *, on: bool) -> None:
        """Make the wire a hub, which sends every frame to every other port, or a switch again."""
        self._ask("hub", on=on)

    def forget(self) -> None:
        """Forget all learned addresses."""
        self._ask("forget")

    def learned(self) -> dict[tuple[int, str], str]:
        """Return the port that each (VLAN id, address) was last seen at; untagged is VLAN 0."""
        rows = self._ask("learned")["learned"]
        return {(vlan, address): self._names[port] for vlan, address, port in rows}

    def count(self) -> dict[str, PortCount]:
        """Return the frame counts of each port."""
        rows = self._ask("count")["ports"]
        counts = [PortCount(received=received, sent=sent, dropped=dropped) for received, sent, dropped in rows]
        return dict(zip(self._names, counts, strict=True))

    def inject(self, port: str, frame: bytes) -> None:
        """Let a frame come in at a port, as if the NIC there had sent it."""
        self._ask("inject", port=self._names.index(port), frame=frame.hex())

    # What it has recorded.

    def start(self) -> None:
        """Record frames from now on."""
        self._ask("capture", on=True)

    def stop(self) -> None:
        """Record no more frames; those recorded stay."""
        self._ask("capture", on=False)

    def clear(self) -> None:
        """Forget the frames recorded so far."""
        with self._lock:
            self._ask("clear")
            self._frames.clear()
            self._offset = 0

    @property
    def capturing(self) -> bool:
        """Whether frames are recorded."""
        return bool(self._ask("sync")["capturing"])

    def frames(self) -> list[Frame]:
        """Return all recorded frames in the order in which they came in."""
        with self._lock:
            self._read_new()
            return list(self._frames)

    def matching(self, predicate: Callable[[Frame], bool]) -> list[Frame]:
        """Return the recorded frames that ``predicate`` accepts."""
        return [frame for frame in self.frames() if predicate(frame)]

    def wait_for(self, predicate: Callable[[Frame], bool], timeout: float) -> Frame:
        """Return the first recorded frame that ``predicate`` accepts; wait for it.

        :param timeout: seconds.
        :raise TimeoutError: When there is none in that time.
        """
        return self.wait_for_count(predicate, 1, timeout)[0]

    def wait_for_count(self, predicate: Callable[[Frame], bool], number: int, timeout: float) -> list[Frame]:
        """Return the recorded frames that ``predicate`` accepts as soon as there are ``number`` of them.

        :param timeout: seconds.
        :raise TimeoutError: When there are fewer in that time.
        """
        end = time.monotonic() + timeout
        found: list[Frame] = []
        seen = 0
        while True:
            frames = self.frames()
            if len(frames) < seen:
                found, seen = [], 0
            found += [frame for frame in frames[seen:] if predicate(frame)]
            seen = len(frames)
            if len(found) >= number:
                return found
            if time.monotonic() >= end:
                raise TimeoutError(f"{len(found)} of {number} frames in {timeout} s; {len(frames)} recorded")
            time.sleep(_POLL_SECONDS)

    def save_pcap(self, path: Path, frames: Sequence[Frame] | None = None) -> None:
        """Write frames (default: all) as a pcap file; its times are those of this machine's monotonic clock."""
        chosen = self.frames() if frames is None else frames
        path.write_bytes(pcap((frame.time_ns, frame.data) for frame in chosen))

    def _read_new(self) -> None:
        self._ask("sync")
        with self._file.open("rb") as file:
            file.seek(self._offset)
            raw = file.read()
        used = 0
        for record, used in decode(raw):  # noqa: B007 - the last value is used below
            out = tuple(self._names[number] for number in record.out)
            port = self._names[record.port]
            self._frames.append(Frame(time_ns=record.time_ns, port=port, out=out, data=record.data))
        self._offset += used

    def _ask(self, request: str, **fields: object) -> dict[str, Any]:
        """Send a request to the wire's process and return its answer.

        :raise WireDied: When it does not answer.
        """
        with self._lock:
            try:
                self._control.sendall(json.dumps({"do": request, **fields}).encode() + b"\n")
                return self._answer()
            except OSError as error:
                raise WireDied(f"the wire does not answer: {error}") from error

    def _answer(self) -> dict[str, Any]:
        while b"\n" not in self._pending:
            chunk = self._control.recv(1 << 16)
            if not chunk:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=1)
                raise WireDied(f"the wire's process has ended, status {self._process.returncode}")
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer
