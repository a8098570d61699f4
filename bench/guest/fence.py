# SPDX-License-Identifier: Apache-2.0
"""Fence VFs and unfence them through the library: undo records, programming, and the proof by reading."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from bench.guest.contender import Contender, Sample, loop
from bench.guest.processes import find, run
from bench.guest.values import state
from vferry.clock import SystemClock
from vferry.core.model import AdminState
from vferry.nic.linux import LinuxNic
from vferry.ports.journal import Journal
from vferry.state.journal import DirectoryJournal
from vferry.testing.memory_journal import MemoryJournal
from vferry.verbs.context import Context, VfRef
from vferry.verbs.fence import FencedVf, FenceRequest, fence, unfence


class Fences:
    """The contenders.

    :param vfs: how many VFs to fence, from 0 on.
    :param everything: whether the driver has all seven attributes.
    :param directory: for undo records.
    """

    def __init__(self, pf: str, vfs: int, directory: Path, *, everything: bool) -> None:
        self._pf = pf
        self._refs = [VfRef(pf, vf) for vf in range(vfs)]
        self._nic = LinuxNic()
        self._journals: dict[str, Journal] = {
            "MemoryJournal": MemoryJournal(),
            "DirectoryJournal": DirectoryJournal(str(directory / "state")),
        }
        outcomes = self._nic.program(pf, {vf: state(vf, 0, everything=everything) for vf in range(vfs)})
        assert not any(outcomes.values()), outcomes

    def contenders(self) -> list[Contender]:
        found = [Contender(name, partial(self._turn, name), partial(self._check, name)) for name in self._journals]
        name = "ip, a call per VF"
        return [*found, Contender(name, loop(name, self._ip), lambda: None)]

    def _context(self, journal: str) -> Context:
        return Context(self._nic, self._journals[journal], SystemClock())

    def _turn(self, journal: str, count: int) -> list[Sample]:
        samples = []
        for _ in range(count):
            begin = time.perf_counter_ns()
            fence(self._context(journal), self._refs, FenceRequest())
            fenced = time.perf_counter_ns()
            unfence(self._context(journal), self._refs)
            end = time.perf_counter_ns()
            samples += [Sample(f"fence, {journal}", fenced - begin), Sample(f"unfence, {journal}", end - fenced)]
        return samples

    def _admins(self) -> list[AdminState]:
        return [vf.admin for vf in self._nic.read(self._pf).vfs]

    def _fence(self, journal: str) -> list[FencedVf]:
        return fence(self._context(journal), self._refs, FenceRequest())

    def _check(self, journal: str) -> None:
        before = self._admins()
        fenced = self._fence(journal)
        assert len(fenced) == len(self._refs)
        assert all(one.plan.change != AdminState() for one in fenced)
        assert self._admins() != before
        unfence(self._context(journal), self._refs)
        assert self._admins() == before

    def _ip(self) -> None:
        """Set one lever by hand, without a plan, an undo record or a proof."""
        for ref in self._refs:
            mac = f"02:00:00:00:00:{ref.vf:02x}"
            run([find("ip"), "link", "set", "dev", self._pf, "vf", str(ref.vf), "mac", mac])
