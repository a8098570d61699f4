# SPDX-License-Identifier: Apache-2.0
"""Program one VF, or all VFs of a PF, each with seven attributes (igb: five)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from bench.guest.contender import Contender, Sample, loop
from bench.guest.processes import Floor, find, run
from bench.guest.values import VARIANTS, ip_words, pyroute2_spec, state
from vferry.core.model import AdminState
from vferry.nic.linux import LinuxNic


class Programmers:
    """The contenders.

    :param vfs: how many VFs to program, from 0 on.
    :param everything: whether the driver has all seven attributes.
    :param directory: for batch files.
    """

    def __init__(self, pf: str, vfs: int, floor: str, directory: Path, *, everything: bool) -> None:
        self._pf = pf
        self._vfs = range(vfs)
        self._everything = everything
        self._directory = directory
        self._nic = LinuxNic()
        self._ifindex = socket.if_nametoindex(pf)
        self._floor = Floor(floor)
        self._ip = find("ip")

    def contenders(self) -> list[Contender]:
        from pyroute2 import IPRoute  # noqa: PLC0415 -- most groups do without it

        armed = [self._nic.arm(self._pf, self._changes(variant)) for variant in VARIANTS]
        route = IPRoute()
        found = [
            self._contender("vferry, armed", *(request.send for request in armed)),
            self._contender("vferry", *(partial(self._program, self._changes(variant)) for variant in VARIANTS)),
            self._contender("pyroute2", *(partial(self._pyroute2, route, variant) for variant in VARIANTS)),
            *(self._ip_for_one() if len(self._vfs) == 1 else self._ip_for_all()),
        ]
        return [Contender("C", self._turn_c, self._check_c), *found]

    def _ip_for_one(self) -> list[Contender]:
        return [
            self._contender("ip, one call", *(partial(run, self._words(0, variant)) for variant in VARIANTS)),
            self._contender("ip -batch", *(partial(run, self._batch(variant, single=True)) for variant in VARIANTS)),
            self._contender(
                "ip, a call per attribute", *(partial(self._ip_per_attribute, variant) for variant in VARIANTS)
            ),
        ]

    def _ip_for_all(self) -> list[Contender]:
        acts = [partial(run, self._batch(variant, single=False)) for variant in VARIANTS]
        return [self._contender("ip -batch, a line per VF", *acts)]

    def _contender(self, name: str, *acts: Callable[[], object]) -> Contender:
        turn = loop(name, *acts)
        return Contender(name, turn, partial(self._check, turn))

    def _changes(self, variant: int) -> dict[int, AdminState]:
        return {vf: state(vf, variant, everything=self._everything) for vf in self._vfs}

    def _program(self, changes: dict[int, AdminState]) -> None:
        outcomes = self._nic.program(self._pf, changes)
        assert not any(outcomes.values()), outcomes

    def _check(self, turn: Callable[[int], object]) -> None:
        """Set the first variant by vferry, let the contender set both, and read the second."""
        self._program(self._changes(0))
        turn(2)
        shown = {vf.index: vf.admin for vf in self._nic.read(self._pf).vfs}
        for vf, wanted in self._changes(1).items():
            for name in wanted.__struct_fields__:
                value = getattr(wanted, name)
                assert value is None or getattr(shown[vf], name) == value, (vf, name, shown[vf])

    # The peers.

    def _turn_c(self, count: int) -> list[Sample]:
        command = f"program {self._ifindex} {len(self._vfs)} {count} {int(self._everything)}"
        refused, samples = self._floor.ask(command)
        assert not refused
        return [Sample("C", sample) for sample in samples]

    def _check_c(self) -> None:
        self._check(self._turn_c)

    def _pyroute2(self, route: Any, variant: int) -> None:
        for vf in self._vfs:
            route.link("set", index=self._ifindex, vf=pyroute2_spec(vf, variant, everything=self._everything))

    def _words(self, vf: int, variant: int) -> list[str]:
        return [self._ip, *self._set(vf, chain.from_iterable(ip_words(vf, variant, everything=self._everything)))]

    def _set(self, vf: int, words: Sequence[str] | chain[str]) -> list[str]:
        return ["link", "set", "dev", self._pf, "vf", str(vf), *words]

    def _ip_per_attribute(self, variant: int) -> None:
        for words in ip_words(0, variant, everything=self._everything):
            run([self._ip, *self._set(0, words)])

    def _batch(self, variant: int, *, single: bool) -> list[str]:
        """Write a batch: a line for each attribute of one VF, or for each VF."""
        if single:
            lines = [self._set(0, words) for words in ip_words(0, variant, everything=self._everything)]
        else:
            lines = [self._words(vf, variant)[1:] for vf in self._vfs]
        file = self._directory / f"batch-{variant}"
        file.write_text("".join(f"{' '.join(line)}\n" for line in lines))
        return [self._ip, "-batch", str(file)]
