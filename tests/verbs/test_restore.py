# SPDX-License-Identifier: Apache-2.0
"""``restore``: everything or nothing, by operations, read back."""

from __future__ import annotations

import errno

import msgspec
import pytest

from tests.verbs.world import (
    KINDS,
    MACS,
    context_of,
    new_host,
    on_record,
    pairs_of,
    record_of,
    settings,
    shown,
    source,
    terms_of,
)
from vferry.core.capability import Feature
from vferry.core.model import AdminState, Attribute, DeclaredState, EswitchMode, FunctionState, PciState, Rate
from vferry.core.policy import Policy
from vferry.core.record import Record
from vferry.core.undo import UndoKind, VfKey
from vferry.ports.journal import JournalError
from vferry.ports.nic import RejectedError
from vferry.testing import (
    IGB_LIKE,
    LOSSY,
    NETDEVSIM_LIKE,
    RESETTING,
    Behaviour,
    Crash,
    CrashPoints,
    ErrnoFault,
    MemoryJournal,
    MemoryNic,
    SimClock,
)
from vferry.verbs.check import CheckRefusedError, Terms
from vferry.verbs.context import VfRef
from vferry.verbs.fence import FenceRequest, fence
from vferry.verbs.pending import PendingChangeError
from vferry.verbs.restore import NothingToUndoError, plan_restore, restore, undo_restore
from vferry.verbs.verify import verify

SAVED = (VfRef("eth0", 3), VfRef("eth1", 2))
TARGETS = (VfRef("eth1", 1), VfRef("eth0", 4))


def saved(behaviour: Behaviour = IGB_LIKE) -> Record:
    return record_of(source(behaviour, SAVED), SAVED)


@pytest.mark.parametrize("behaviour", [*KINDS, RESETTING, LOSSY], ids=lambda kind: kind.name)
def test_every_vf_becomes_what_was_saved_and_nobody_else_is_touched(behaviour: Behaviour) -> None:
    nic, record, journal = new_host("b", behaviour), saved(behaviour), MemoryJournal()
    before = settings(nic)
    context = context_of(nic, journal)
    report = restore(context, record, pairs_of(record, TARGETS), terms_of(nic, behaviour))
    for vf, target, done in zip(record.vfs, TARGETS, report.vfs, strict=True):
        assert shown(nic, target) == vf.admin
        assert (done.saved, done.vf, done.admin, done.changed) == (vf.name, str(target), vf.admin, True)
    for target in TARGETS:
        for index, admin in enumerate(settings(nic)[target.pf]):
            if index != target.vf:
                assert admin == before[target.pf][index]
    assert journal.records() == ()
    verify(context, record, pairs_of(record, TARGETS), terms_of(nic, behaviour))


def test_the_same_restore_again_sends_nothing() -> None:
    nic, record = new_host(), saved()
    context, terms = context_of(nic, MemoryJournal()), terms_of(nic, IGB_LIKE)
    restore(context, record, pairs_of(record, TARGETS), terms)
    after = nic.snapshot()
    nic.calls.clear()
    report = restore(context, record, pairs_of(record, TARGETS), terms)
    assert not any(vf.changed for vf in report.vfs)
    assert "program" not in [call.method for call in nic.calls]
    assert nic.snapshot() == after


def test_the_undo_record_is_written_before_the_nic_is_touched() -> None:
    nic, record = new_host(), saved()
    points = CrashPoints()
    context = context_of(nic, MemoryJournal(), points=points)
    restore(context, record, pairs_of(record, TARGETS), terms_of(nic, IGB_LIKE))
    first_send = next(number for number, step in enumerate(points.steps) if "program" in step)
    assert sum("after put" in step for step in points.steps[:first_send]) == 2
    last_send = max(number for number, step in enumerate(points.steps) if "program" in step)
    assert all("remove" not in step for step in points.steps[:last_send])


def test_a_refused_record_changes_nothing() -> None:
    nic, record, journal = new_host(), saved(), MemoryJournal()
    before = nic.snapshot()
    terms = msgspec.structs.replace(terms_of(nic, IGB_LIKE), policy=Policy(trust=False))
    with pytest.raises(CheckRefusedError) as refused:
        restore(context_of(nic, journal), record, pairs_of(record, TARGETS), terms)
    assert refused.value.findings
    assert "findings" in refused.value.to_dict()
    assert nic.snapshot() == before
    assert journal.records() == ()


def test_an_accepted_loss_is_left_out_and_reported() -> None:
    nic, record = new_host(), saved()
    terms = Terms(
        policy=Policy(trust=False), tables=terms_of(nic, IGB_LIKE).tables, accept_loss=frozenset({Attribute.TRUST})
    )
    report = restore(context_of(nic, MemoryJournal()), record, pairs_of(record, TARGETS), terms)
    assert {loss.attribute for loss in report.losses} == {Attribute.TRUST}
    assert shown(nic, TARGETS[0]).trust is False


def test_a_refusal_in_the_middle_undoes_every_vf() -> None:
    nic, record, journal = new_host(), saved(), MemoryJournal()
    before = nic.snapshot()
    fault = ErrnoFault(pf="eth0", vf=4, attribute=Attribute.TRUST, number=errno.EINVAL)
    with pytest.raises(RejectedError) as failed:
        restore(context_of(nic, journal, faults=[fault]), record, pairs_of(record, TARGETS), terms_of(nic, IGB_LIKE))
    assert failed.value.errno == errno.EINVAL
    assert nic.snapshot() == before
    assert journal.records() == ()


def test_an_unknown_driver_is_learned_on_the_free_target_first() -> None:
    nic, record = new_host("b", NETDEVSIM_LIKE), saved(NETDEVSIM_LIKE)
    report = restore(context_of(nic, MemoryJournal()), record, pairs_of(record, TARGETS), Terms(policy=Policy()))
    assert len(report.learned) == 1, "both PFs are of one kind"
    assert set(report.learned[0].features) == set(Feature)
    assert shown(nic, TARGETS[0]) == record.vfs[0].admin


def test_what_is_refused_anyway_is_refused_before_a_target_is_tried() -> None:
    nic, record = new_host("b", NETDEVSIM_LIKE), saved(NETDEVSIM_LIKE)
    nic.calls.clear()
    terms = Terms(policy=Policy(trust=False))
    with pytest.raises(CheckRefusedError, match="trust"):
        restore(context_of(nic, MemoryJournal()), record, pairs_of(record, TARGETS), terms)
    assert "program" not in [call.method for call in nic.calls]


def test_a_plan_changes_nothing() -> None:
    nic, record, journal = new_host(), saved(), MemoryJournal()
    before = nic.snapshot()
    _, changes = plan_restore(context_of(nic, journal), record, pairs_of(record, TARGETS), terms_of(nic, IGB_LIKE))
    assert [change.vf for change in changes] == list(TARGETS)
    assert nic.snapshot() == before
    assert journal.records() == ()


def test_pci_words_of_an_unbound_vf_are_written_and_undone() -> None:
    home = source(IGB_LIKE, SAVED)
    for ref in SAVED:
        home.write_pci(*ref, PciState(command=0x0006, msix_control=0xC002))
    record = record_of(home, SAVED)
    nic, terms = new_host(), terms_of(new_host(), IGB_LIKE)
    before = nic.snapshot()
    report = restore(context_of(nic, MemoryJournal()), record, pairs_of(record, TARGETS), terms)
    assert nic.read_pci(*TARGETS[0]) == PciState(command=0x0006, msix_control=0xC002)
    assert report.vfs[0].pci == "written and read back"
    nic = new_host()
    fault = ErrnoFault(method="write_pci", vf=4, number=errno.EIO)
    with pytest.raises(Exception, match="write_pci"):
        restore(context_of(nic, MemoryJournal(), faults=[fault]), record, pairs_of(record, TARGETS), terms)
    assert nic.snapshot() == before


def test_pci_words_of_a_bound_vf_are_left_to_its_driver() -> None:
    nic, record = new_host(), saved()
    nic.bind_driver("eth1", 1, "vfio-pci")
    before = nic.read_pci("eth1", 1)
    report = restore(context_of(nic, MemoryJournal()), record, pairs_of(record, TARGETS), terms_of(nic, IGB_LIKE))
    assert nic.read_pci("eth1", 1) == before
    assert report.vfs[0].pci.startswith("left to the VF's driver")


def test_that_the_words_cannot_be_read_at_the_end_does_not_make_it_a_failure() -> None:
    nic, record, journal = new_host(), saved(), MemoryJournal()
    fault = ErrnoFault(method="read_pci", at_call=len(calls_of_a_restore(record)) - 1, number=errno.EIO, times=None)
    context = context_of(nic, journal, faults=[fault])
    report = restore(context, record, pairs_of(record, TARGETS), terms_of(nic, IGB_LIKE))
    assert any("cannot be read" in vf.pci for vf in report.vfs)
    assert journal.records() == ()


def calls_of_a_restore(record: Record) -> list[str]:
    twin = new_host()
    twin.calls.clear()
    restore(context_of(twin, MemoryJournal()), record, pairs_of(record, TARGETS), terms_of(new_host(), IGB_LIKE))
    return [call.method for call in twin.calls]


def test_port_functions_are_read_back_and_undone() -> None:
    home, nic = source(NETDEVSIM_LIKE, SAVED), new_host("b", NETDEVSIM_LIKE)
    for ref in SAVED:  # this driver has no rates of the legacy kind in switchdev mode
        home.program(ref.pf, {ref.vf: AdminState(rate=Rate(min_tx=0, max_tx=0))})
    for host in (home, nic):
        for pf in ("eth0", "eth1"):
            host.set_eswitch_mode(pf, EswitchMode.SWITCHDEV)
    for ref in SAVED:
        home.program_function(*ref, FunctionState(tx_max=1000, tx_share=10))
    record = record_of(home, SAVED)
    before = nic.snapshot()
    terms = terms_of(nic, NETDEVSIM_LIKE)
    fault = ErrnoFault(method="program_function", vf=4, number=errno.EIO)
    with pytest.raises(Exception, match="program_function"):
        restore(context_of(nic, MemoryJournal(), faults=[fault]), record, pairs_of(record, TARGETS), terms)
    assert nic.snapshot() == before
    restore(context_of(nic, MemoryJournal()), record, pairs_of(record, TARGETS), terms)
    function = nic.read_function(*TARGETS[1])
    assert function is not None
    assert (function.tx_max, function.tx_share) == (1000, 10)


def test_a_fenced_vf_is_not_restored_onto() -> None:
    nic, record, journal = new_host(), saved(), MemoryJournal()
    context = context_of(nic, journal)
    fence(context, [TARGETS[0]], FenceRequest())
    before, undo_records = nic.snapshot(), journal.snapshot()
    with pytest.raises(PendingChangeError, match="'fence'") as pending:
        restore(context, record, pairs_of(record, TARGETS), terms_of(nic, IGB_LIKE))
    assert "vferry unfence eth1/1" in pending.value.next_step
    assert nic.snapshot() == before
    assert journal.snapshot() == undo_records


def interrupted(nic: MemoryNic, record: Record, journal: MemoryJournal, step: str) -> None:
    """Die in the restore of ``record`` after a step that contains ``step``."""
    count = CrashPoints()
    twin = new_host()
    context = context_of(twin, MemoryJournal(), points=count)
    restore(context, record, pairs_of(record, TARGETS), terms_of(twin, IGB_LIKE))
    at = next(number for number, what in enumerate(count.steps, 1) if step in what)
    with pytest.raises(Crash):
        restore(
            context_of(nic, journal, points=CrashPoints(at)),
            record,
            pairs_of(record, TARGETS),
            terms_of(nic, IGB_LIKE),
        )


def test_an_interrupted_restore_taken_up_with_another_record_leaves_nothing_of_the_first() -> None:
    """What the first record set and the second does not speak of goes back to what it was."""
    nic, record, journal = new_host(), saved(), MemoryJournal()
    before = settings(nic)
    interrupted(nic, record, journal, "after program eth1/1")
    assert shown(nic, TARGETS[0]).trust is True
    vfs = tuple(
        msgspec.structs.replace(vf, admin=AdminState(mac=mac), declared=DeclaredState(mac=mac, mtu=1500))
        for vf, mac in zip(record.vfs, MACS[12:], strict=False)
    )
    sparse = msgspec.structs.replace(record, vfs=vfs)
    restore(context_of(nic, journal), sparse, pairs_of(sparse, TARGETS), terms_of(nic, IGB_LIKE))
    for number, target in enumerate(TARGETS):
        expected = msgspec.structs.replace(before[target.pf][target.vf], mac=MACS[12 + number])
        assert shown(nic, target) == expected
    assert journal.records() == ()


def test_an_interrupted_restore_is_taken_up_whole_or_not_at_all() -> None:
    nic, record, journal = new_host(), saved(), MemoryJournal()
    interrupted(nic, record, journal, "after program")
    half, undo_records = nic.snapshot(), journal.snapshot()
    part = msgspec.structs.replace(record, vfs=record.vfs[:1])
    with pytest.raises(PendingChangeError):
        restore(context_of(nic, journal), part, pairs_of(part, TARGETS[:1]), terms_of(nic, IGB_LIKE))
    assert nic.snapshot() == half
    assert journal.snapshot() == undo_records


def test_undo_takes_back_also_the_vfs_not_named() -> None:
    nic, record, journal = new_host(), saved(), MemoryJournal()
    before = nic.snapshot()
    interrupted(nic, record, journal, "after program eth0/4")
    assert nic.snapshot() != before
    undone = undo_restore(context_of(nic, journal), [TARGETS[1]])
    assert set(undone) == set(TARGETS)
    assert nic.snapshot() == before
    assert journal.records() == ()


def test_undo_without_an_interrupted_restore() -> None:
    nic, journal = new_host(), MemoryJournal()
    context = context_of(nic, journal)
    with pytest.raises(NothingToUndoError):
        undo_restore(context, [TARGETS[0]])
    fence(context, [TARGETS[0]], FenceRequest())
    with pytest.raises(NothingToUndoError, match="'fence'"):
        undo_restore(context, [TARGETS[0]])
    assert on_record(journal)["eth1/1"].kind is UndoKind.FENCE


def test_a_journal_that_cannot_be_written_keeps_the_nic_untouched() -> None:
    record = saved()
    nic, journal = new_host(), MemoryJournal()
    before = nic.snapshot()
    journal.refused_writes = 1
    with pytest.raises(JournalError):
        restore(context_of(nic, journal), record, pairs_of(record, TARGETS), terms_of(nic, IGB_LIKE))
    assert nic.snapshot() == before
    assert journal.records() == ()


class Sticky(MemoryJournal):
    """Cannot remove the record of one VF."""

    def remove(self, key: VfKey) -> None:
        if key.index == TARGETS[1].vf:
            raise JournalError("remove an undo record", why="read-only file system")
        super().remove(key)


def test_a_restore_is_over_when_its_leads_record_is_gone() -> None:
    """What is left is swept away later, and blocks nobody."""
    record, nic, journal = saved(), new_host(), Sticky()
    restore(context_of(nic, journal), record, pairs_of(record, TARGETS), terms_of(nic, IGB_LIKE))
    assert list(on_record(journal)) == ["eth0/4"]
    after = MemoryJournal(journal.storage)
    with pytest.raises(NothingToUndoError):
        undo_restore(context_of(nic, after), [TARGETS[1]])
    assert after.records() == ()


def test_time_passes_while_a_vf_is_busy_and_patience_ends() -> None:
    nic, record, clock = new_host(), saved(), SimClock()
    busy = ErrnoFault(vf=4, number=errno.EAGAIN, times=4)
    context = context_of(nic, MemoryJournal(), clock, faults=[busy])
    restore(context, record, pairs_of(record, TARGETS), terms_of(nic, IGB_LIKE))
    assert clock.monotonic() > 0
    assert shown(nic, TARGETS[1]) == record.vfs[1].admin
