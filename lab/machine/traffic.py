# SPDX-License-Identifier: Apache-2.0
"""Numbered frames from and to an interface of a host, by ``lab-frames`` there."""

from __future__ import annotations

import json
import signal
import time
from types import TracebackType
from typing import Self

from lab.errors import Timeout
from lab.guest.frames import LabFrame
from lab.machine.command import Process
from lab.machine.host import Host

_POLL_SECONDS = 0.02


def send_frames(
    host: Host,
    interface: str,
    first: LabFrame,
    *,
    count: int = 1,
    interval: float = 0.0,
    namespace: str | None = None,
) -> None:
    """Send ``count`` frames that are numbered on from ``first`` and return when they are sent.

    :param interval: seconds between frames.
    :param namespace: network namespace of the interface; default: the host's own.
    """
    host.run(_send_command(interface, first, count, interval, namespace), timeout=60 + count * interval)


def spawn_sender(
    host: Host,
    interface: str,
    first: LabFrame,
    *,
    count: int = 1_000_000,
    interval: float = 0.01,
    namespace: str | None = None,
) -> Process:
    """Send frames in the background; parameters as in :func:`send_frames`."""
    return host.spawn(_send_command(interface, first, count, interval, namespace))


class Receiver:
    """Listens on an interface of a host from its making to :meth:`stop`; a context manager.

    :param promiscuous: also take frames for other addresses.
    :param namespace: network namespace of the interface; default: the host's own.
    """

    def __init__(self, host: Host, interface: str, *, promiscuous: bool = False, namespace: str | None = None) -> None:
        option = ["--promisc"] if promiscuous else []
        self._host = host
        self._process = host.spawn([*_within(namespace), "lab-frames", "receive", interface, *option])
        self._process.wait_for_output("listening")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def frames(self) -> list[LabFrame]:
        """Return what has been received so far."""
        lines = self._process.output().split("\n")[1:-1]
        return [LabFrame(**json.loads(line)) for line in lines]

    def wait_for_count(self, number: int, timeout: float) -> list[LabFrame]:
        """Return the frames received as soon as there are ``number``.

        :param timeout: seconds.
        :raise Timeout: When there are fewer by then.
        """
        end = time.monotonic() + timeout
        while len(found := self.frames()) < number:
            if time.monotonic() > end:
                raise Timeout(self._host.name, f"{len(found)} of {number} frames in {timeout} s")
            time.sleep(_POLL_SECONDS)
        return found

    def stop(self) -> None:
        """Stop listening. The frames stay readable; a host that has ended is no error."""
        if self._host.alive:
            self._process.kill(signal.SIGTERM)
            self._process.wait()


def _within(namespace: str | None) -> list[str]:
    return ["ip", "netns", "exec", namespace] if namespace else []


def _send_command(interface: str, first: LabFrame, count: int, interval: float, namespace: str | None) -> list[str]:
    tag = [] if first.vlan is None else ["--vlan", str(first.vlan), "--pcp", str(first.pcp)]
    numbers = ["--first", str(first.seq), "--count", str(count), "--interval", str(interval)]
    names = ["--src", first.src, "--sender", first.sender, "--kind", first.kind]
    return [*_within(namespace), "lab-frames", "send", interface, first.dst, *names, *numbers, *tag]
