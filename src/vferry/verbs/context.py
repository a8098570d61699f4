# SPDX-License-Identifier: Apache-2.0
"""What every verb is given: the ports, and how long to insist."""

from __future__ import annotations

import time
from typing import NamedTuple

from vferry.ports.clock import Clock
from vferry.ports.journal import Journal
from vferry.ports.nic import Nic

__all__ = ["Context", "Patience", "VfRef", "utc"]


class VfRef(NamedTuple):
    """Names a VF for a verb: the PF's name and the VF's index on it."""

    pf: str
    vf: int

    def __str__(self) -> str:
        return f"{self.pf}/{self.vf}"


class Patience(NamedTuple):
    """How long a verb insists before it gives up and undoes; seconds."""

    busy: float = 10.0
    """While the driver answers EAGAIN or EBUSY, or does not answer. A reset VF needs 1 to 2 s on some NICs."""
    settle: float = 0.5
    """While a driver that accepted a setting still shows the old one."""
    first_pause: float = 0.01
    longest_pause: float = 0.5


class Context(NamedTuple):
    """The ports a verb works with."""

    nic: Nic
    journal: Journal
    clock: Clock
    patience: Patience = Patience()


def utc(clock: Clock) -> str:
    """Return the wall time as ISO 8601 in UTC, to the millisecond."""
    seconds = clock.wall()
    whole = int(seconds)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{stamp}.{int((seconds - whole) * 1000):03d}Z"
