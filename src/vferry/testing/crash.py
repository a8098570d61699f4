# SPDX-License-Identifier: Apache-2.0
"""Kills what runs between any two steps.

.. code-block:: python

    for points in each_crash(run):      # run(points) builds a world, wraps its NIC and journal, and does the work
        ...                             # look at the world, recover it, look again
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping

from vferry.core.model import (
    AdminState,
    EswitchMode,
    FunctionState,
    HostFacts,
    Mac,
    PciState,
    PfFacts,
    PfReading,
    VfFacts,
)
from vferry.core.undo import UndoRecord, VfKey
from vferry.ports.journal import Journal
from vferry.ports.nic import ArmedRequest, Nic, NicError

__all__ = ["Crash", "CrashPoints", "CrashingJournal", "CrashingNic", "each_crash"]


class Crash(BaseException):
    """The process is dead: no ``except Exception`` sees this, and nothing works any more afterwards."""


class CrashPoints:
    """Counts steps and dies at one of them.

    After the crash every further step and look-up raises :class:`Crash` again, so that a clean-up on the way out (which
    a dead process does not have) can do nothing.

    :param at: the step to die at, from 1; None: only count.
    :param kill: die by SIGKILL instead of :class:`Crash`, in a process of its own.
    """

    def __init__(self, at: int | None = None, *, kill: bool = False) -> None:
        self._at = at
        self._kill = kill
        self.crashed = False
        """The step was reached."""
        self.steps: list[str] = []
        """Every step so far, in words."""

    def step(self, what: str) -> None:
        """Count a step, and die if it is the one.

        :raise Crash: it is, or it was before.
        """
        self.look()
        self.steps.append(what)
        if len(self.steps) == self._at:
            self.crashed = True
            if self._kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Crash(f"step {self._at}: {what}")

    def look(self) -> None:
        """Make sure that the process is alive.

        :raise Crash: it is not.
        """
        if self.crashed:
            raise Crash(f"dead since {self.steps[-1]}")


def each_crash(run: Callable[[CrashPoints], object]) -> Iterator[CrashPoints]:
    """Run with a crash at step 1, 2, and so on, until it comes to its end; yield after each crash.

    :param run: must start from a new world every time.
    """
    at = 1
    while True:
        points = CrashPoints(at)
        try:
            run(points)
        except Crash:
            yield points
        if not points.crashed:
            return
        at += 1


class CrashingNic(Nic):
    """A NIC whose user may die before and after every change.

    :param inner: the NIC that does the work.
    :param points: shared with the journal's wrapper, so that the steps of both are in one order.
    """

    def __init__(self, inner: Nic, points: CrashPoints) -> None:
        self.inner = inner
        self.points = points

    def host(self) -> HostFacts:
        """Return the facts of the host."""
        self.points.look()
        return self.inner.host()

    def pfs(self) -> tuple[PfFacts, ...]:
        """Return every PF."""
        self.points.look()
        return self.inner.pfs()

    def pf(self, pf: str) -> PfFacts:
        """Return the facts of one PF."""
        self.points.look()
        return self.inner.pf(pf)

    def vfs(self, pf: str) -> tuple[VfFacts, ...]:
        """Return the facts of every VF."""
        self.points.look()
        return self.inner.vfs(pf)

    def read(self, pf: str, *, statistics: bool = False) -> PfReading:
        """Read the settings of all VFs."""
        self.points.look()
        return self.inner.read(pf, statistics=statistics)

    def read_pci(self, pf: str, vf: int) -> PciState | None:
        """Read a VF's PCI words."""
        self.points.look()
        return self.inner.read_pci(pf, vf)

    def read_function(self, pf: str, vf: int) -> FunctionState | None:
        """Read a VF's port function."""
        self.points.look()
        return self.inner.read_function(pf, vf)

    def read_fdb(self, pf: str) -> tuple[Mac, ...]:
        """Return the PF's own forwarding entries."""
        self.points.look()
        return self.inner.read_fdb(pf)

    def arm(self, pf: str, changes: Mapping[int, AdminState]) -> ArmedRequest:
        """Encode a change; its sending is the step."""
        self.points.look()
        return _CrashingRequest(self.inner.arm(pf, changes), self.points, _about(pf, changes))

    def program(self, pf: str, changes: Mapping[int, AdminState]) -> Mapping[int, NicError | None]:
        """Encode a change and send it at once."""
        self.points.step(f"before program {_about(pf, changes)}")
        outcomes = self.inner.program(pf, changes)
        self.points.step(f"after program {_about(pf, changes)}")
        return outcomes

    def write_pci(self, pf: str, vf: int, state: PciState) -> None:
        """Write a VF's PCI words."""
        self.points.step(f"before write_pci {pf}/{vf}")
        self.inner.write_pci(pf, vf, state)
        self.points.step(f"after write_pci {pf}/{vf}")

    def reset_vf(self, pf: str, vf: int) -> None:
        """Reset the function."""
        self.points.step(f"before reset_vf {pf}/{vf}")
        self.inner.reset_vf(pf, vf)
        self.points.step(f"after reset_vf {pf}/{vf}")

    def set_pf(self, pf: str, *, admin_up: bool | None = None, mtu: int | None = None) -> None:
        """Bring a PF up or down, set its MTU."""
        self.points.step(f"before set_pf {pf}")
        self.inner.set_pf(pf, admin_up=admin_up, mtu=mtu)
        self.points.step(f"after set_pf {pf}")

    def add_fdb(self, pf: str, mac: Mac) -> None:
        """Add a forwarding entry of the PF's own."""
        self.points.step(f"before add_fdb {pf} {mac}")
        self.inner.add_fdb(pf, mac)
        self.points.step(f"after add_fdb {pf} {mac}")

    def remove_fdb(self, pf: str, mac: Mac) -> None:
        """Remove a forwarding entry of the PF's own."""
        self.points.step(f"before remove_fdb {pf} {mac}")
        self.inner.remove_fdb(pf, mac)
        self.points.step(f"after remove_fdb {pf} {mac}")

    def set_eswitch_mode(self, pf: str, mode: EswitchMode) -> None:
        """Set the eswitch mode."""
        self.points.step(f"before set_eswitch_mode {pf}")
        self.inner.set_eswitch_mode(pf, mode)
        self.points.step(f"after set_eswitch_mode {pf}")

    def program_function(self, pf: str, vf: int, change: FunctionState) -> None:
        """Set port-function attributes."""
        self.points.step(f"before program_function {pf}/{vf}")
        self.inner.program_function(pf, vf, change)
        self.points.step(f"after program_function {pf}/{vf}")


class _CrashingRequest:
    """An armed request whose sender may die."""

    def __init__(self, armed: ArmedRequest, points: CrashPoints, about: str) -> None:
        self._armed = armed
        self._points = points
        self._about = about

    def send(self) -> Mapping[int, NicError | None]:
        """Send the change."""
        self._points.step(f"before send {self._about}")
        outcomes = self._armed.send()
        self._points.step(f"after send {self._about}")
        return outcomes


class CrashingJournal(Journal):
    """A journal whose user may die before and after every write."""

    def __init__(self, inner: Journal, points: CrashPoints) -> None:
        self.inner = inner
        self.points = points

    def put(self, record: UndoRecord) -> None:
        """Store a record."""
        self.points.step(f"before put {record.key}")
        self.inner.put(record)
        self.points.step(f"after put {record.key}")

    def get(self, key: VfKey) -> UndoRecord | None:
        """Return the record of a VF."""
        self.points.look()
        return self.inner.get(key)

    def remove(self, key: VfKey) -> None:
        """Forget the record of a VF."""
        self.points.step(f"before remove {key}")
        self.inner.remove(key)
        self.points.step(f"after remove {key}")

    def records(self) -> tuple[UndoRecord, ...]:
        """Return all records."""
        self.points.look()
        return self.inner.records()


def _about(pf: str, changes: Mapping[int, AdminState]) -> str:
    return f"{pf}/{','.join(str(vf) for vf in changes)}"
