# SPDX-License-Identifier: Apache-2.0
"""``probe`` learns what a driver can do, and leaves no trace."""

from __future__ import annotations

import errno

import msgspec
import pytest

from tests.verbs.world import GUEST, context_of, new_host, on_record, set_all, source
from vferry.core.capability import Feature, Verdict
from vferry.core.errors import PersonNeededError, RefusedError
from vferry.core.model import AdminState, Attribute
from vferry.core.undo import UndoKind
from vferry.ports.nic import NotPermittedError
from vferry.testing import (
    IGB_LIKE,
    LOSSY,
    NETDEVSIM_LIKE,
    RESETTING,
    VIRTIO_LIKE,
    Behaviour,
    ErrnoFault,
    MemoryJournal,
    MemoryNic,
    MemoryPf,
)
from vferry.verbs.context import VfRef
from vferry.verbs.fence import FenceRequest, fence
from vferry.verbs.pending import PendingChangeError
from vferry.verbs.probe import NoFreeVfError, choose_free_vf, plan_probe, probe

WITH_SETTINGS = (IGB_LIKE, NETDEVSIM_LIKE, RESETTING, LOSSY)


@pytest.mark.parametrize("behaviour", WITH_SETTINGS, ids=lambda kind: kind.name)
def test_what_is_learned_is_what_the_driver_does(behaviour: Behaviour) -> None:
    nic, journal = new_host("b", behaviour), MemoryJournal()
    before = nic.snapshot()
    table = probe(context_of(nic, journal), "eth0")
    assert nic.snapshot() == before
    assert journal.records() == ()
    expected = behaviour.learned()
    for feature, learned in table.features.items():
        assert (learned.verdict, learned.errno) == (expected[feature].verdict, expected[feature].errno), feature
    untold = set(Feature) - set(table.features)
    assert all(expected[feature].verdict is Verdict.REFUSED for feature in untold), untold
    assert table.defaults == nic.read("eth0").vfs[4].admin
    assert table.source == "probe"


def test_a_vf_that_was_set_up_comes_back_too() -> None:
    nic, journal = new_host("b", NETDEVSIM_LIKE), MemoryJournal()
    for index in range(1, 5):
        set_all(nic, "eth0", index, GUEST)
    before = nic.snapshot()
    table = probe(context_of(nic, journal), "eth0")
    assert nic.snapshot() == before
    assert table.defaults is None, "this VF was not untouched"


@pytest.mark.parametrize(
    "attribute",
    [
        Attribute.MAC,
        Attribute.VLANS,
        Attribute.MAX_TX_RATE,
        Attribute.SPOOFCHK,
        Attribute.LINK_STATE,
        Attribute.RSS_QUERY,
        Attribute.TRUST,
        Attribute.NODE_GUID,
    ],
)
def test_a_setting_that_cannot_be_seen_is_not_changed_for_good(attribute: Attribute) -> None:
    """It could not be brought back: nobody knows what it was."""
    defaults = msgspec.structs.replace(
        NETDEVSIM_LIKE.defaults,
        spoofchk=True,
        node_guid="00:00:00:00:00:00:00:00",
        port_guid="00:00:00:00:00:00:00:00",
    )
    blind = msgspec.structs.replace(
        NETDEVSIM_LIKE, defaults=defaults, refused={}, hidden=frozenset({attribute, Attribute.PORT_GUID})
    )
    nic = new_host("b", blind)
    before = nic.snapshot()
    probe(context_of(nic, MemoryJournal()), "eth0")
    assert nic.snapshot() == before


def test_the_last_free_vf_that_nobody_has_set_up() -> None:
    nic, journal = new_host(), MemoryJournal()
    context = context_of(nic, journal)
    assert choose_free_vf(context, "eth0") == 4
    set_all(nic, "eth0", 4, AdminState(mac="52:54:00:00:00:44"))
    assert choose_free_vf(context, "eth0") == 3
    nic.bind_driver("eth0", 3, "vfio-pci", user="qemu")
    fence(context, [VfRef("eth0", 2)], FenceRequest())
    assert choose_free_vf(context, "eth0") == 1
    nic.bind_driver("eth0", 1, "vfio-pci", user="qemu")
    assert choose_free_vf(context, "eth0") == 4, "set up, but free"
    nic.bind_driver("eth0", 4, "vfio-pci", user="qemu")
    with pytest.raises(NoFreeVfError):
        probe(context, "eth0")


def test_a_vf_in_use_is_never_tried_on() -> None:
    nic, journal = new_host(), MemoryJournal()
    before = nic.snapshot()
    for act in (probe, plan_probe):
        with pytest.raises(NoFreeVfError, match="the neighbour"):
            act(context_of(nic, journal), "eth0", vf=0)
    assert (nic.snapshot(), journal.records()) == (before, ())


def test_a_vf_in_another_verbs_hands() -> None:
    nic, journal = source(), MemoryJournal()
    context = context_of(nic, journal)
    fence(context, [VfRef("eth0", 3)], FenceRequest())
    with pytest.raises(PendingChangeError, match="'fence'"):
        probe(context, "eth0", vf=3)


def test_a_driver_without_settings() -> None:
    nic = MemoryNic(host="b", pfs=[MemoryPf(name="eth0", behaviour=VIRTIO_LIKE)])
    with pytest.raises(RefusedError, match="offers no VF settings"):
        probe(context_of(nic, MemoryJournal()), "eth0")


def test_rates_are_not_tried_without_a_link() -> None:
    nic = new_host()
    nic.set_link("eth0", up=False)
    table = probe(context_of(nic, MemoryJournal()), "eth0")
    assert Feature.MAX_TX_RATE not in table.features


def test_a_feature_that_stays_busy_is_not_learned() -> None:
    nic = new_host("b", NETDEVSIM_LIKE)
    fault = ErrnoFault(attribute=Attribute.SPOOFCHK, number=errno.EBUSY, times=None)
    table = probe(context_of(nic, MemoryJournal(), faults=[fault]), "eth0")
    assert Feature.SPOOFCHK not in table.features
    assert table.features[Feature.TRUST].verdict is Verdict.ACCEPTED


def test_a_missing_privilege_is_no_property_of_the_driver() -> None:
    nic, journal = new_host(), MemoryJournal()
    before = nic.snapshot()
    fault = ErrnoFault(number=errno.EPERM, times=None)
    with pytest.raises(NotPermittedError, match="says nothing about the driver"):
        probe(context_of(nic, journal, faults=[fault]), "eth0")
    assert (nic.snapshot(), journal.records()) == (before, ())


def stuck() -> tuple[MemoryNic, MemoryJournal, PersonNeededError]:
    """A host with a probe that was refused everything from some request on, its undo included."""
    for at in range(1, 40):
        nic, journal = new_host("b", NETDEVSIM_LIKE), MemoryJournal()
        fault = ErrnoFault(at_call=at, number=errno.EINVAL, times=None)
        try:
            probe(context_of(nic, journal, faults=[fault]), "eth0")
        except PersonNeededError as error:
            return nic, journal, error
    pytest.fail("no request left anything behind")


def test_a_probe_that_cannot_be_taken_back_is_taken_back_by_the_next() -> None:
    before = new_host("b", NETDEVSIM_LIKE).snapshot()
    nic, journal, error = stuck()
    assert nic.snapshot() != before
    assert "the undo failed" in error.why
    assert "vferry probe eth0" in error.next_step
    assert on_record(journal)["eth0/4"].kind is UndoKind.PROBE
    probe(context_of(nic, journal), "eth0")
    assert (nic.snapshot(), journal.records()) == (before, ())


def test_an_interrupted_probe_of_another_pf_is_left_to_its_own() -> None:
    nic, journal, _ = stuck()
    probe(context_of(nic, journal), "eth1")
    assert set(on_record(journal)) == {"eth0/4"}
