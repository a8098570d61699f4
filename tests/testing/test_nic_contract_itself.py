# SPDX-License-Identifier: Apache-2.0
"""A NIC that breaks the contract must not pass it."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Mapping
from typing import ClassVar

import pytest

from vferry.core.capability import Feature
from vferry.core.model import AdminState, Attribute, Mac, PciState, PfFacts, PfReading
from vferry.ports.nic import Nic, NicError, NotSupportedError
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
    SimClock,
    VanishFault,
)
from vferry.testing.fdb_contract import FDB_MACS
from vferry.testing.nic_contract import NicContract


class Contract(NicContract):
    pf = "eth0"
    spare = (1, 3)
    accepted = frozenset(Feature) - {Feature.NODE_GUID, Feature.PORT_GUID}
    refused: ClassVar[Mapping[Feature, type[NicError]]] = {Feature.NODE_GUID: NotSupportedError}
    can_reset = True
    patience = 0.0


CONTRACT = Contract()
TRUST_IS_READ_BACK = lambda nic: CONTRACT.test_accepted_is_read_back(nic, Feature.TRUST)  # noqa: E731


def inner() -> MemoryNic:
    nic = MemoryNic(pfs=[MemoryPf(name="eth0", num_vfs=5, behaviour=NETDEVSIM_LIKE)])
    nic.bind_driver("eth0", 4, "vfio-pci")
    return nic


BROKEN: list[tuple[Fault, Callable[[Nic], object]]] = [
    (HiddenFault(attribute=Attribute.TRUST), TRUST_IS_READ_BACK),
    (IgnoredFault(attribute=Attribute.TRUST), TRUST_IS_READ_BACK),
    (ErrnoFault(number=errno.EINVAL), TRUST_IS_READ_BACK),
    (ErrnoFault(number=errno.EBUSY, times=None), TRUST_IS_READ_BACK),
    (LossyProtocolFault(), lambda nic: CONTRACT.test_accepted_is_read_back(nic, Feature.VLAN_DOT1AD)),
    (IgnoredFault(vf=3, attribute=Attribute.VLANS), CONTRACT.test_several_vfs_in_one_request),
    (IgnoredFault(attribute=Attribute.MAC), CONTRACT.test_an_armed_request_waits_until_it_is_sent),
    (
        ErrnoFault(number=errno.EOPNOTSUPP),
        lambda nic: CONTRACT.test_a_refusal_keeps_what_came_before_it(nic, Feature.NODE_GUID),
    ),
    (
        ErrnoFault(number=errno.EINVAL),
        lambda nic: CONTRACT.test_refused_is_a_typed_error_and_changes_nothing(nic, Feature.NODE_GUID),
    ),
    (VanishFault(vf=3, at_call=2), CONTRACT.test_facts_agree_with_each_other),
    (ReloadFault(at_call=3, defaults=AdminState()), CONTRACT.test_facts_agree_with_each_other),
    (ReloadFault(at_call=2, defaults=AdminState()), CONTRACT.test_reading_changes_nothing),
]


@pytest.mark.parametrize(("fault", "test"), BROKEN)
def test_faults_are_noticed(fault: Fault, test: Callable[[Nic], object]) -> None:
    test(FaultNic(inner()))
    with pytest.raises(AssertionError):
        test(FaultNic(inner(), [fault], clock=SimClock()))


class CarelessNic(MemoryNic):
    """Writes to its neighbours, to bound VFs and when it only reads."""

    def program(self, pf: str, changes: Mapping[int, AdminState]) -> Mapping[int, NicError | None]:
        super().program(pf, {0: AdminState(spoofchk=True)})
        return super().program(pf, changes)

    def write_pci(self, pf: str, vf: int, state: PciState) -> None:
        self.unbind_driver(pf, vf)
        super().write_pci(pf, vf, state)

    def read(self, pf: str, *, statistics: bool = False) -> PfReading:
        if statistics:
            super().program(pf, {1: AdminState(trust=True)})
        return super().read(pf, statistics=statistics)

    def pfs(self) -> tuple[PfFacts, ...]:
        return super().pfs()[::-1]


CARELESS: list[Callable[[Nic], object]] = [
    TRUST_IS_READ_BACK,
    CONTRACT.test_several_vfs_in_one_request,
    CONTRACT.test_reading_changes_nothing,
    CONTRACT.test_pfs_are_sorted,
]


def careless() -> CarelessNic:
    pfs = [MemoryPf(name=name, num_vfs=5, behaviour=NETDEVSIM_LIKE) for name in ("eth0", "eth1")]
    nic = CarelessNic(pfs=pfs)
    nic.bind_driver("eth0", 4, "vfio-pci")
    return nic


@pytest.mark.parametrize("test", CARELESS)
def test_careless_nics_are_noticed(test: Callable[[Nic], object]) -> None:
    with pytest.raises(AssertionError):
        test(careless())


class CountingNic(MemoryNic):
    """Counts who wants a forwarding entry, as a list of the kernel does for its own users."""

    def __init__(self) -> None:
        super().__init__(pfs=[MemoryPf(name="eth0")])
        self.holders: Counter[Mac] = Counter()

    def add_fdb(self, pf: str, mac: Mac) -> None:
        self.holders[mac] += 1
        super().add_fdb(pf, mac)

    def remove_fdb(self, pf: str, mac: Mac) -> None:
        self.holders[mac] -= 1
        if not self.holders[mac]:
            super().remove_fdb(pf, mac)


class UnsortedNic(MemoryNic):
    """Lists forwarding entries from behind, the PF's own address among them."""

    def __init__(self) -> None:
        super().__init__(pfs=[MemoryPf(name="eth0")])

    def read_fdb(self, pf: str) -> tuple[Mac, ...]:
        return (*super().read_fdb(pf)[::-1], self.pf(pf).address or "")


class ForgetfulNic(MemoryNic):
    """Takes any forwarding entry, and all of them out at once."""

    def __init__(self) -> None:
        super().__init__(pfs=[MemoryPf(name="eth0")])

    def add_fdb(self, pf: str, mac: Mac) -> None:
        if mac in FDB_MACS:
            super().add_fdb(pf, mac)

    def remove_fdb(self, pf: str, mac: Mac) -> None:
        for entry in self.read_fdb(pf):
            super().remove_fdb(pf, entry)


FDB_TESTS: list[tuple[type[MemoryNic], Callable[[Nic], object]]] = [
    (CountingNic, CONTRACT.test_a_forwarding_entry_is_there_once),
    (UnsortedNic, CONTRACT.test_forwarding_entries_come_and_go),
    (UnsortedNic, CONTRACT.test_the_pfs_own_address_is_no_forwarding_entry),
    (ForgetfulNic, CONTRACT.test_forwarding_entries_come_and_go),
    (ForgetfulNic, lambda nic: CONTRACT.test_only_unicast_addresses_are_forwarded(nic, "01:00:5e:00:00:01")),
]


@pytest.mark.parametrize(("kind", "test"), FDB_TESTS)
def test_odd_forwarding_entries_are_noticed(kind: type[MemoryNic], test: Callable[[Nic], object]) -> None:
    test(inner())
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test(kind())


def test_forwarding_entries_are_given_back() -> None:
    nic = inner()
    kept, lost = FDB_MACS
    nic.add_fdb("eth0", lost)
    before = nic.read_fdb("eth0")
    nic.add_fdb("eth0", kept)
    nic.remove_fdb("eth0", lost)
    CONTRACT.give_back_fdb(nic, before)
    assert nic.read_fdb("eth0") == before == (lost,)


def test_writing_to_a_bound_vf_is_noticed() -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        CONTRACT.test_pci_words_of_a_bound_vf_are_its_drivers(careless())
