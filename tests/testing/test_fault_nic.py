# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
from collections.abc import Iterable
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vferry.core.model import DOT1AD, DOT1Q, ZERO_MAC, AdminState, Attribute, LinkState, PciState, Rate, Vlan
from vferry.ports.nic import (
    BusyError,
    IncompleteReadingError,
    NicError,
    NoSuchFunctionError,
    NotPermittedError,
    NotSupportedError,
    RejectedError,
    UnknownOutcomeError,
)
from vferry.testing import (
    NETDEVSIM_LIKE,
    ErrnoFault,
    Fault,
    FaultNic,
    HiddenFault,
    IgnoredFault,
    LossyProtocolFault,
    MemoryNic,
    MemoryPf,
    ReloadFault,
    ResetFault,
    ShortReadingFault,
    SimClock,
    SlowFault,
    VanishFault,
    seeded_faults,
)
from vferry.testing.settings import FIELD_OF, SETTERS, only
from vferry.testing.strategies import admin_states, faults

MAC = "52:54:00:00:00:01"
EVERYTHING = AdminState(
    mac=MAC,
    vlans=(Vlan(vid=100, qos=3, proto=DOT1AD),),
    rate=Rate(min_tx=10, max_tx=100),
    spoofchk=True,
    link_state=LinkState.ENABLE,
    rss_query=True,
    trust=True,
)
DEFAULTS = NETDEVSIM_LIKE.defaults
SETTABLE = [attribute for attribute, field in FIELD_OF.items() if field in SETTERS[:7]]


class World:
    """One host with two PFs, and faults in front of it."""

    def __init__(self, *faults: Fault) -> None:
        pfs = [MemoryPf(name=name, num_vfs=4, behaviour=NETDEVSIM_LIKE) for name in ("eth0", "eth1")]
        self.inner = MemoryNic(host="a", pfs=pfs)
        self.clock = SimClock()
        self.nic = FaultNic(self.inner, faults, clock=self.clock)

    def program(self, vf: int = 0, change: AdminState = EVERYTHING, pf: str = "eth0") -> NicError | None:
        return self.nic.program(pf, {vf: change})[vf]

    def shown(self, vf: int = 0, pf: str = "eth0") -> AdminState:
        return self.nic.read(pf).vfs[vf].admin

    def real(self, vf: int = 0, pf: str = "eth0") -> AdminState:
        return self.inner.read(pf).vfs[vf].admin


# Errors


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EBUSY])
def test_busy_n_times(number: int) -> None:
    world = World(ErrnoFault(vf=0, number=number, times=2))
    for _ in range(2):
        error = world.program()
        assert isinstance(error, BusyError)
        assert error.errno == number
        assert world.real() == DEFAULTS
    assert world.program() is None
    assert world.shown() == EVERYTHING
    assert [call for call, _fault in world.nic.struck] == [1, 2]


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
@pytest.mark.parametrize("attribute", SETTABLE)
def test_refused_in_the_middle_with_the_earlier_ones_applied(attribute: Attribute, number: int) -> None:
    world = World(ErrnoFault(vf=0, number=number, attribute=attribute))
    error = world.program()
    assert error is not None
    assert error.errno == number
    place = SETTERS.index(FIELD_OF[attribute])
    assert only(world.real(), SETTERS[:place]) == only(EVERYTHING, SETTERS[:place])
    assert only(world.real(), SETTERS[place:]) == only(DEFAULTS, SETTERS[place:])
    assert world.program() is None, "it struck once"


def test_a_fault_of_an_attribute_waits_for_that_attribute() -> None:
    world = World(ErrnoFault(number=errno.EINVAL, attribute=Attribute.TRUST))
    assert world.program(change=AdminState(spoofchk=True)) is None
    assert isinstance(world.program(change=AdminState(trust=True)), RejectedError)


def test_the_error_of_the_inner_nic_comes_first() -> None:
    world = World(ErrnoFault(number=errno.EINVAL, attribute=Attribute.TRUST))
    error = world.program(change=AdminState(mac="01:00:00:00:00:00", trust=True))
    assert isinstance(error, RejectedError)
    assert "mac" in error.what


def test_other_vfs_of_the_request_are_processed() -> None:
    world = World(ErrnoFault(vf=1, number=errno.EBUSY))
    outcomes = world.nic.arm("eth0", dict.fromkeys(range(3), EVERYTHING)).send()
    assert list(outcomes) == [0, 1, 2]
    assert [type(error) for error in outcomes.values()] == [type(None), BusyError, type(None)]
    assert [world.real(vf) == EVERYTHING for vf in range(3)] == [True, False, True]


def test_a_fault_keeps_to_its_pf_and_call() -> None:
    world = World(ErrnoFault(pf="eth1", at_call=3, number=errno.EPERM, times=None))
    assert world.program(pf="eth1") is None
    assert world.program() is None
    assert isinstance(world.program(pf="eth1"), NotPermittedError)
    assert world.program() is None
    assert isinstance(world.program(pf="eth1"), NotPermittedError)


@pytest.mark.parametrize(
    "method",
    [
        *("host", "pfs", "pf", "vfs", "read", "arm", "read_pci", "write_pci", "reset_vf", "set_pf"),
        *("read_fdb", "add_fdb", "remove_fdb"),
    ],
)
def test_any_method_may_fail(method: str) -> None:
    world = World(ErrnoFault(method=method, number=errno.EPERM))
    before = world.inner.snapshot()
    arguments: dict[str, tuple[object, ...]] = {
        "host": (),
        "pfs": (),
        "arm": ("eth0", {}),
        "read_pci": ("eth0", 0),
        "write_pci": ("eth0", 0, PciState(command=0)),
        "reset_vf": ("eth0", 0),
        "add_fdb": ("eth0", MAC),
        "remove_fdb": ("eth0", MAC),
    }
    with pytest.raises(NotPermittedError):
        getattr(world.nic, method)(*arguments.get(method, ("eth0",)))
    assert world.inner.snapshot() == before
    getattr(world.nic, method)(*arguments.get(method, ("eth0",)))


# Readings that lie


@pytest.mark.parametrize("attribute", SETTABLE)
def test_set_but_not_shown(attribute: Attribute) -> None:
    world = World(HiddenFault(vf=0, attribute=attribute))
    assert world.shown() == DEFAULTS, "shown until it is set"
    assert world.program() is None
    field = FIELD_OF[attribute]
    assert world.real() == EVERYTHING
    if attribute is Attribute.VLAN_PROTO:
        assert world.shown().vlans == (Vlan(vid=100, qos=3),)
    else:
        assert world.shown() == msgspec.structs.replace(EVERYTHING, **{field: None})
    assert world.shown(1) == DEFAULTS


@pytest.mark.parametrize("attribute", [attribute for attribute in SETTABLE if attribute is not Attribute.VLAN_PROTO])
def test_set_but_unchanged(attribute: Attribute) -> None:
    world = World(IgnoredFault(attribute=attribute))
    assert world.program() is None
    field = FIELD_OF[attribute]
    assert world.shown() == msgspec.structs.replace(EVERYTHING, **{field: getattr(DEFAULTS, field)})


def test_lossy_protocol() -> None:
    world = World(LossyProtocolFault(vf=0))
    assert world.nic.program("eth0", {0: EVERYTHING, 1: EVERYTHING}) == {0: None, 1: None}
    assert world.shown(0).vlans == (Vlan(vid=100, qos=3, proto=DOT1Q),)
    assert world.shown(1).vlans == EVERYTHING.vlans
    assert world.real(0) == EVERYTHING


def test_short_reading() -> None:
    world = World(ShortReadingFault(at_call=2, times=2))
    world.nic.read("eth0")
    for _ in range(2):
        with pytest.raises(IncompleteReadingError):
            world.nic.read("eth0")
    world.nic.read("eth0")


# Time


@pytest.mark.parametrize(("applied", "changed"), [(None, [0, 1, 2]), (0, []), (1, [0]), (2, [0, 1])])
def test_beyond_the_deadline_nobody_knows(applied: int | None, changed: list[int]) -> None:
    world = World(SlowFault(seconds=30, deadline=2.0, applied=applied))
    armed = world.nic.arm("eth0", dict.fromkeys(range(3), EVERYTHING))
    with pytest.raises(UnknownOutcomeError):
        armed.send()
    assert world.clock.monotonic() == 2.0
    assert [vf for vf in range(4) if world.real(vf) == EVERYTHING] == changed


def test_within_the_deadline_it_is_only_slow() -> None:
    world = World(SlowFault(seconds=1.5, deadline=2.0, times=2))
    for now in (1.5, 3.0, 3.0):
        assert world.program() is None
        assert world.clock.monotonic() == now


@pytest.mark.parametrize(("applied", "resets"), [(None, 1), (0, 0)])
def test_other_methods_may_be_late_too(applied: int | None, resets: int) -> None:
    world = World(SlowFault(seconds=5, deadline=1.0, applied=applied, method="reset_vf"))
    with pytest.raises(UnknownOutcomeError):
        world.nic.reset_vf("eth0", 0)
    assert world.inner.resets("eth0", 0) == resets


def test_slowness_needs_a_clock() -> None:
    with pytest.raises(ValueError, match="clock"):
        FaultNic(MemoryNic(), [SlowFault(seconds=1)])


# Functions that change under one's hands


def test_reset_on_set() -> None:
    world = World(ResetFault(vf=0, attribute=Attribute.VLANS, busy=2, times=1))
    assert world.program() is None
    assert world.inner.resets("eth0", 0) == 1
    assert world.real() == EVERYTHING
    for _ in range(2):
        assert isinstance(world.program(), BusyError)
    assert world.program() is None
    assert world.inner.resets("eth0", 0) == 1


def test_reset_on_set_stops_where_the_inner_nic_refuses() -> None:
    world = World(ResetFault(attribute=Attribute.TRUST))
    assert isinstance(world.program(change=AdminState(rate=Rate(min_tx=2, max_tx=1), trust=True)), RejectedError)
    assert world.inner.resets("eth0", 0) == 0


def test_vanishing_vfs() -> None:
    world = World(VanishFault(pf="eth0", vf=2, at_call=2))
    armed = world.nic.arm("eth0", {1: EVERYTHING, 2: EVERYTHING})
    outcomes = armed.send()
    assert outcomes[1] is None
    assert isinstance(outcomes[2], NoSuchFunctionError)
    reading, facts = world.nic.read("eth0"), world.nic.pf("eth0")
    assert (reading.num_vfs, len(reading.vfs), facts.num_vfs, len(world.nic.vfs("eth0"))) == (2, 2, 2, 2)
    assert [pf.num_vfs for pf in world.nic.pfs()] == [2, 4]
    for change in (world.nic.arm, world.nic.program):
        with pytest.raises(NoSuchFunctionError):
            change("eth0", {1: EVERYTHING, 2: EVERYTHING})
    with pytest.raises(NoSuchFunctionError):
        world.nic.read_pci("eth0", 2)
    with pytest.raises(NoSuchFunctionError):
        world.nic.reset_vf("eth0", 3)
    world.nic.read_pci("eth0", 1)


def test_a_reloaded_driver_has_lost_the_forwarding_entries_of_its_pf() -> None:
    world = World(ReloadFault(pf="eth0", at_call=3, defaults=DEFAULTS))
    for pf in ("eth0", "eth1"):
        world.nic.add_fdb(pf, MAC)
    assert world.nic.read_fdb("eth0") == world.inner.read_fdb("eth0") == ()
    assert world.nic.read_fdb("eth1") == (MAC,)


@pytest.mark.parametrize(("applied", "entries"), [(None, (MAC,)), (0, ())])
def test_a_late_forwarding_entry_may_be_there(applied: int | None, entries: tuple[str, ...]) -> None:
    world = World(SlowFault(method="add_fdb", seconds=30, deadline=1, applied=applied))
    with pytest.raises(UnknownOutcomeError):
        world.nic.add_fdb("eth0", MAC)
    assert world.nic.read_fdb("eth0") == entries


def test_a_reloaded_driver() -> None:
    world = World(ReloadFault(pf="eth0", at_call=4, defaults=DEFAULTS))
    assert world.program() is None
    assert world.program(pf="eth1") is None
    armed = world.nic.arm("eth0", {0: EVERYTHING})
    old = world.inner.pf("eth0").ifindex
    outcomes = armed.send()
    assert isinstance(outcomes[0], NoSuchFunctionError)
    assert outcomes[0].errno == errno.ENODEV
    assert world.real() == DEFAULTS
    assert world.nic.read("eth0").ifindex == world.nic.pf("eth0").ifindex != old
    assert world.real(pf="eth1") == EVERYTHING
    assert world.nic.arm("eth0", {0: EVERYTHING}).send() == {0: None}


# Many at once


def test_without_faults_everything_passes_through_unchanged() -> None:
    world = World()
    assert world.nic.host() == world.inner.host()
    assert world.nic.pfs() == world.inner.pfs()
    assert world.nic.vfs("eth0") == world.inner.vfs("eth0")
    world.inner.calls.clear()
    world.nic.arm("eth0", {0: EVERYTHING, 1: EVERYTHING}).send()
    assert [call.method for call in world.inner.calls] == ["arm", "send"], "one request stays one"
    assert world.nic.read("eth0", statistics=True) == world.inner.read("eth0", statistics=True)
    assert world.nic.struck == []


def test_seeded_faults_depend_on_the_seed() -> None:
    def draw(seed: int) -> tuple[Fault, ...]:
        return seeded_faults(seed, vfs=[0, 1], count=5, defaults=DEFAULTS)

    assert draw(1) == draw(1)
    assert len({msgspec.json.encode(draw(seed)) for seed in range(20)}) == 20
    kinds = {type(fault) for seed in range(200) for fault in draw(seed)}
    assert kinds == set(Fault.__args__)


def test_faults_survive_encoding() -> None:
    chosen = seeded_faults(7, vfs=[0, 1], count=20, defaults=DEFAULTS)
    encoded = msgspec.json.encode(chosen)
    assert msgspec.json.decode(encoded, type=tuple[Fault, ...]) == chosen


@settings(deadline=None)
@given(st.lists(faults(vfs=[0, 1], calls=6), max_size=4), st.lists(admin_states(NETDEVSIM_LIKE), max_size=4))
def test_under_any_faults_an_outcome_of_none_means_accepted(chosen: list[Fault], changes: list[AdminState]) -> None:
    """What was accepted is there, unless a fault is declared to lose it; VFs that nobody named are untouched."""
    world = World(*chosen)
    ignoring = any(isinstance(fault, IgnoredFault) for fault in chosen)
    for change in changes:
        outcomes: Iterable[tuple[int, NicError | None]] = ()
        with suppress(UnknownOutcomeError, NoSuchFunctionError):
            outcomes = world.nic.program("eth0", {0: change, 1: change}).items()
        for vf, error in outcomes:
            fields = [field for field in SETTERS if getattr(change, field) is not None]
            if error is None and not ignoring:
                assert only(world.real(vf), fields) == change
        with suppress(NicError):
            world.nic.read("eth0")
    assert world.real(2) == world.real(3) == DEFAULTS
    assert world.real(0, pf="eth1") == DEFAULTS


def test_a_vf_that_cannot_be_reset_is_busy_all_the_same() -> None:
    inner = MemoryNic(pfs=[MemoryPf(name="eth0", behaviour=NETDEVSIM_LIKE, bus="netdevsim")])
    nic = FaultNic(inner, [ResetFault(attribute=Attribute.MAC, busy=1)])
    change = AdminState(mac=ZERO_MAC)
    assert nic.program("eth0", {0: change}) == {0: None}
    assert isinstance(nic.program("eth0", {0: change})[0], BusyError)
    with pytest.raises(NotSupportedError):
        nic.reset_vf("eth0", 0)
