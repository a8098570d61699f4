# SPDX-License-Identifier: Apache-2.0
"""``doctor`` looks for hazards; ``list`` and ``show`` say what there is."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from tests.verbs.cases import FENCES, fenced
from tests.verbs.test_crashes import crashed_worlds, live
from tests.verbs.world import GUEST, MACS, context_of, new_host, source, tables_of
from vferry.core.fence import parking_mac
from vferry.core.findings import Severity
from vferry.core.model import AdminState
from vferry.ports.nic import NoSuchFunctionError
from vferry.testing import IGB_LIKE, LOSSY, RESETTING, VIRTIO_LIKE, ErrnoFault, MemoryJournal, MemoryNic, MemoryPf
from vferry.verbs.context import VfRef
from vferry.verbs.doctor import examine
from vferry.verbs.inventory import list_pfs, show

VF = VfRef("eth0", 3)


def found(nic: MemoryNic, journal: MemoryJournal | None = None) -> dict[str, Severity]:
    context = context_of(nic, journal or MemoryJournal())
    return {finding.code: finding.severity for finding in examine(context, tables_of(nic, IGB_LIKE))}


def test_a_healthy_host() -> None:
    nic = source()
    before = nic.snapshot()
    assert found(nic) == {}
    assert nic.snapshot() == before


def set_mac(pf: str, vf: int, mac: str) -> Callable[[MemoryNic], None]:
    def act(nic: MemoryNic) -> None:
        nic.program(pf, {vf: AdminState(mac=mac)})

    return act


def take_down(nic: MemoryNic) -> None:
    nic.set_pf("eth0", admin_up=False)


@pytest.mark.parametrize(
    ("hazard", "code", "severity"),
    [
        (set_mac("eth0", 4, MACS[3]), "mac-twice", Severity.ERROR),
        (set_mac("eth1", 4, MACS[3]), "mac-twice", Severity.WARNING),
        (set_mac("eth0", 4, parking_mac("x", 4)), "parked-without-record", Severity.ERROR),
        (take_down, "pf-down", Severity.WARNING),
    ],
)
def test_each_hazard(hazard: Callable[[MemoryNic], None], code: str, severity: Severity) -> None:
    nic = source()
    hazard(nic)
    assert found(nic) == {code: severity}


def test_a_vf_with_the_pfs_own_mac() -> None:
    nic = source()
    set_mac("eth0", 4, nic.pf("eth0").address or "")(nic)
    assert found(nic) == {"mac-twice": Severity.ERROR}


def test_a_pf_that_cannot_be_read_hides_no_other() -> None:
    nic = MemoryNic(host="a", pfs=[MemoryPf(name="eth0", num_vfs=335), MemoryPf(name="eth1", admin_up=False)])
    assert found(nic) == {"unreadable": Severity.ERROR, "pf-down": Severity.INFO}


def test_what_a_driver_does_not_show() -> None:
    nic = new_host("b", LOSSY)
    codes = {finding.code for finding in examine(context_of(nic, MemoryJournal()), tables_of(nic, LOSSY))}
    assert "not-shown" in codes


def test_a_fence_is_a_fact_and_an_interrupted_one_an_error() -> None:
    world = fenced(IGB_LIKE, [VF])
    assert found(world.nic, world.journal) == {"fenced": Severity.INFO}
    half = next(world for world, where in crashed_worlds(FENCES[0]) if "after program" in where)
    assert found(half.nic, half.journal) == {"interrupted": Severity.ERROR}


def test_records_of_another_life() -> None:
    world = fenced(IGB_LIKE, [VF])
    world.nic.reload_driver("eth0")
    assert found(world.nic, world.journal) == {"record-of-another-life": Severity.ERROR}
    world = fenced(IGB_LIKE, [VF])
    world.nic.reboot()
    assert found(world.nic, world.journal) == {"record-of-another-boot": Severity.ERROR}
    world = fenced(IGB_LIKE, [VF])
    world.nic.remove_vfs("eth0")
    assert found(world.nic, world.journal) == {"record-of-another-life": Severity.ERROR}


def test_a_damaged_journal_is_a_finding_beside_others() -> None:
    world = fenced(IGB_LIKE, [VF])
    world.nic.set_pf("eth0", admin_up=False)
    world.journal.damage(world.journal.records()[0].key)
    codes = {finding.code for finding in examine(live(world), ())}
    assert {"records-unreadable", "pf-down"} <= codes


def test_a_fence_that_somebody_else_has_opened_is_a_hazard() -> None:
    world = fenced(IGB_LIKE, [VF])
    world.nic.program(VF.pf, {VF.vf: AdminState(mac="52:54:00:77:77:77")})
    (finding,) = [finding for finding in examine(live(world), ()) if finding.code == "fence-broken"]
    assert finding.severity is Severity.ERROR
    assert "52:54:00:77:77:77" in finding.why


def test_a_fence_is_named_by_the_pf_s_present_name() -> None:
    world = fenced(IGB_LIKE, [VF])
    world.nic.rename("eth0", "renamed")
    (finding,) = [finding for finding in examine(live(world), ()) if finding.code == "fenced"]
    assert finding.pf == "renamed"


def test_list_names_the_reason_of_what_cannot_be_read() -> None:
    nic = source()
    fault = ErrnoFault(pf="eth1", method="read", number=errno.EIO, times=None)
    listed = list_pfs(context_of(nic, MemoryJournal(), faults=[fault]))
    assert [(entry.pf.name, bool(entry.problem)) for entry in listed] == [("eth0", False), ("eth1", True)]
    assert [entry.pf.name for entry in list_pfs(context_of(nic, MemoryJournal()), "eth1")] == ["eth1"]
    with pytest.raises(NoSuchFunctionError):
        list_pfs(context_of(nic, MemoryJournal()), "eth9")


def test_show_everything_of_one_vf() -> None:
    world = fenced(RESETTING, [VF])
    tables = tables_of(world.nic, RESETTING)
    one = show(live(world), VF, tables)
    assert one.undo is not None
    assert one.undo.before == GUEST
    assert one.reading.statistics is not None
    assert one.capabilities == tables[0]
    assert one.pci is not None


def test_show_a_vf_of_a_driver_without_settings() -> None:
    nic = MemoryNic(host="a", pfs=[MemoryPf(name="eth0", behaviour=VIRTIO_LIKE)])
    one = show(context_of(nic, MemoryJournal()), VF, ())
    assert not one.has_settings
    assert one.reading.admin == AdminState()


def test_show_leaves_counters_out_where_they_would_shorten_the_list() -> None:
    nic = MemoryNic(host="a", pfs=[MemoryPf(name="eth0", num_vfs=300)])
    assert show(context_of(nic, MemoryJournal()), VF, ()).reading.statistics is None
