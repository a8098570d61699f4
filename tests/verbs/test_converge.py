# SPDX-License-Identifier: Apache-2.0
"""``converge``: what a request did is learned by reading, never guessed."""

from __future__ import annotations

import errno
from collections.abc import Mapping

import msgspec
import pytest

from tests.verbs.world import GUEST, MACS, OTHER, context_of, new_host, shown, source
from vferry.core.model import AdminState, Attribute
from vferry.ports.nic import BusyError, IncompleteReadingError, NicError, NoSuchFunctionError, RejectedError
from vferry.testing import (
    IGB_LIKE,
    RESETTING,
    ErrnoFault,
    FaultNic,
    HiddenFault,
    IgnoredFault,
    MemoryJournal,
    MemoryNic,
    MemoryPf,
    ShortReadingFault,
    SimClock,
    SlowFault,
)
from vferry.verbs.context import Context, Patience, VfRef
from vferry.verbs.converge import ReloadedError, converge, read_patiently

VF = VfRef("eth0", 3)
WANTED = {3: GUEST}


def test_only_what_differs_is_sent() -> None:
    nic = source()
    nic.calls.clear()
    result = converge(context_of(nic, MemoryJournal()), "eth0", WANTED)[3]
    assert (result.sent, result.error) == (False, None)
    assert [call.method for call in nic.calls] == ["read"]
    nic.program("eth0", {3: AdminState(trust=False)})
    nic.calls.clear()
    assert converge(context_of(nic, MemoryJournal()), "eth0", WANTED)[3].sent
    assert [call.changes for call in nic.calls if call.changes] == [{3: AdminState(trust=True)}]


def test_several_vfs_go_in_one_request() -> None:
    nic = new_host()
    nic.calls.clear()
    wanted = {1: AdminState(mac=MACS[1]), 2: AdminState(mac=MACS[2])}
    assert all(result.error is None for result in converge(context_of(nic, MemoryJournal()), "eth0", wanted).values())
    assert [call.method for call in nic.calls] == ["read", "program", "read"]


def test_one_vf_that_is_refused_does_not_keep_the_others() -> None:
    nic = new_host()
    fault = ErrnoFault(vf=2, number=errno.EINVAL)
    wanted = {1: AdminState(mac=MACS[1]), 2: AdminState(mac=MACS[2])}
    results = converge(context_of(nic, MemoryJournal(), faults=[fault]), "eth0", wanted)
    assert results[1].error is None
    assert isinstance(results[2].error, RejectedError)
    assert shown(nic, VfRef("eth0", 1)).mac == MACS[1]


def test_a_vf_that_is_busy_is_tried_again_with_growing_pauses() -> None:
    clock = SimClock()
    nic = new_host()
    fault = ErrnoFault(number=errno.EAGAIN, times=5)
    result = converge(context_of(nic, MemoryJournal(), clock, faults=[fault]), "eth0", {3: OTHER})[3]
    assert result.error is None
    assert clock.sleeps == [0.01, 0.02, 0.04, 0.08, 0.16]


def test_patience_ends() -> None:
    clock = SimClock()
    fault = ErrnoFault(number=errno.EBUSY, times=None)
    context = context_of(new_host(), MemoryJournal(), clock, faults=[fault])
    result = converge(context._replace(patience=Patience(busy=2.0)), "eth0", {3: OTHER})[3]
    assert isinstance(result.error, BusyError)
    assert clock.monotonic() <= 2.0


@pytest.mark.parametrize(("applied", "requests"), [(None, 1), (0, 2)])
def test_an_unknown_outcome_is_resolved_by_reading(applied: int | None, requests: int) -> None:
    nic = new_host()
    fault = SlowFault(seconds=30, deadline=1, applied=applied)
    clock = SimClock()
    fault_nic = FaultNic(nic, [fault], clock=clock)
    result = converge(Context(fault_nic, MemoryJournal(), clock), "eth0", {3: AdminState(mac=MACS[1])})[3]
    assert result.error is None
    assert fault_nic.calls.count("program") == requests


def test_a_setting_that_is_ignored_is_an_error_that_says_what_is_shown() -> None:
    fault = IgnoredFault(attribute=Attribute.TRUST)
    result = converge(context_of(new_host(), MemoryJournal(), faults=[fault]), "eth0", {3: AdminState(trust=True)})[3]
    assert result.error is not None
    assert result.error.errno is None
    assert "trust is off, wanted on" in result.error.why


def test_a_setting_that_is_not_shown_is_sent_once_and_named() -> None:
    clock = SimClock()
    nic = FaultNic(new_host(), [HiddenFault(attribute=Attribute.TRUST)], clock=clock)
    context = Context(nic, MemoryJournal(), clock)
    result = converge(context, "eth0", {3: AdminState(trust=True)})[3]
    assert result.error is None
    assert [difference.attribute for difference in result.not_shown] == [Attribute.TRUST]
    assert nic.calls.count("program") == 1


def test_a_first_reading_that_fails_for_good_is_raised_and_nothing_is_sent() -> None:
    nic = new_host()
    before = nic.snapshot()
    fault = ErrnoFault(method="read", number=errno.EIO, times=None)
    with pytest.raises(NicError):
        converge(context_of(nic, MemoryJournal(), faults=[fault]), "eth0", {3: OTHER})
    assert nic.snapshot() == before


def test_a_reading_that_fails_for_a_moment() -> None:
    clock = SimClock()
    context = context_of(source(), MemoryJournal(), clock, faults=[ShortReadingFault(times=3)])
    assert read_patiently(context, "eth0").vfs[3].admin == GUEST
    assert clock.sleeps == [0.01, 0.02, 0.04]
    context = context_of(source(), MemoryJournal(), clock, faults=[ShortReadingFault(times=None)])
    with pytest.raises(IncompleteReadingError):
        read_patiently(context, "eth0")


def test_a_vf_in_reset_may_be_missing_from_the_reading() -> None:
    behaviour = msgspec.structs.replace(RESETTING, busy_shortens_reading=True, busy_requests=3)
    nic = MemoryNic(host="a", pfs=[MemoryPf(name="eth0", num_vfs=5, behaviour=behaviour)])
    result = converge(context_of(nic, MemoryJournal()), "eth0", {3: GUEST})[3]
    assert result.error is None
    assert shown(nic, VF) == GUEST


class Reloading(MemoryNic):
    """Its driver is reloaded right after the first request."""

    def program(self, pf: str, changes: Mapping[int, AdminState]) -> Mapping[int, NicError | None]:
        outcomes = super().program(pf, changes)
        if [call.method for call in self.calls].count("program") == 1:
            self.reload_driver(pf)
        return outcomes


def test_nothing_is_sent_to_another_life_of_the_driver() -> None:
    nic = Reloading(host="a", pfs=[MemoryPf(name="eth0", num_vfs=5, behaviour=IGB_LIKE)])
    result = converge(context_of(nic, MemoryJournal()), "eth0", {3: OTHER})[3]
    assert isinstance(result.error, ReloadedError)
    assert [call.method for call in nic.calls].count("program") == 1
    known = nic.read("eth0")
    nic.reload_driver("eth0")
    nic.calls.clear()
    result = converge(context_of(nic, MemoryJournal()), "eth0", {3: OTHER}, known=known)[3]
    assert isinstance(result.error, ReloadedError)
    assert "program" not in [call.method for call in nic.calls]


def test_a_vf_that_the_reading_lacks() -> None:
    nic = MemoryNic(host="a", pfs=[MemoryPf(name="eth0", num_vfs=3)])
    result = converge(context_of(nic, MemoryJournal()), "eth0", {3: OTHER})[3]
    assert isinstance(result.error, NoSuchFunctionError)


class Forgetful(MemoryNic):
    """Leaves VFs out of its answer, against the port's contract."""

    def program(self, pf: str, changes: Mapping[int, AdminState]) -> Mapping[int, NicError | None]:
        super().program(pf, changes)
        return {}


def test_an_adapter_that_leaves_a_vf_out_of_its_answer_does_not_hang_the_loop() -> None:
    nic = Forgetful(host="a", pfs=[MemoryPf(name="eth0", num_vfs=5)])
    assert converge(context_of(nic, MemoryJournal()), "eth0", {3: OTHER})[3].error is None
