# SPDX-License-Identifier: Apache-2.0
"""``release``: the next tenant inherits nothing."""

from __future__ import annotations

import errno

import pytest

from tests.verbs.cases import RESTORES, TWO, TWO_PFS
from tests.verbs.test_crashes import crashed_worlds, live
from tests.verbs.world import FENCE, KINDS, context_of, on_record, settings, shown, source, tables_of
from vferry.core.model import ZERO_MAC, AdminState, Attribute, LinkState, Rate
from vferry.core.undo import IdentityChangedError, UndoKind
from vferry.ports.nic import NotPermittedError
from vferry.testing import (
    IGB_LIKE,
    NETDEVSIM_LIKE,
    RESETTING,
    Behaviour,
    ErrnoFault,
    Fault,
    HiddenFault,
    IgnoredFault,
    MemoryJournal,
)
from vferry.verbs.context import VfRef
from vferry.verbs.fence import fence
from vferry.verbs.pending import PendingChangeError
from vferry.verbs.release import plan_release, release
from vferry.verbs.restore import undo_restore

VF = VfRef("eth0", 3)


@pytest.mark.parametrize("fenced", [False, True])
@pytest.mark.parametrize("behaviour", [*KINDS, RESETTING], ids=lambda kind: kind.name)
def test_everything_goes_back_to_the_drivers_defaults(behaviour: Behaviour, fenced: bool) -> None:
    nic, journal = source(behaviour, TWO_PFS), MemoryJournal()
    context, tables = context_of(nic, journal), tables_of(nic, behaviour)
    others = settings(nic)
    if fenced:
        fence(context, TWO_PFS, FENCE)
    released = release(context, TWO_PFS, tables)
    for ref, one in zip(TWO_PFS, released, strict=True):
        expected = behaviour.defaults
        assert shown(nic, ref) == expected == one.shown
        assert (one.kept, one.again) == ((), False)
        for index, admin in enumerate(settings(nic)[ref.pf]):
            assert index == ref.vf or admin == others[ref.pf][index]
    assert journal.records() == ()


def test_a_driver_that_no_table_knows_gets_the_safest() -> None:
    nic, journal = source(NETDEVSIM_LIKE), MemoryJournal()
    release(context_of(nic, journal), [VF], ())
    assert shown(nic, VF) == AdminState(
        mac=ZERO_MAC,
        vlans=(),
        rate=Rate(min_tx=0, max_tx=0),
        spoofchk=True,
        link_state=LinkState.AUTO,
        rss_query=False,
        trust=False,
    )


def test_a_plan_changes_nothing() -> None:
    nic, journal = source(), MemoryJournal()
    before = nic.snapshot()
    assert plan_release(context_of(nic, journal), [VF], ())[0].wanted.mac == ZERO_MAC
    assert (nic.snapshot(), journal.records()) == (before, ())


def test_a_default_that_is_refused_does_not_keep_the_others_from_being_set() -> None:
    nic, journal = source(), MemoryJournal()
    fault = ErrnoFault(attribute=Attribute.VLANS, number=errno.EINVAL, times=None)
    one = release(context_of(nic, journal, faults=[fault]), [VF], ())[0]
    assert [what.partition(":")[0] for what in one.kept] == ["vlans"]
    assert not one.again, "it would be refused again"
    assert shown(nic, VF).trust is False
    assert shown(nic, VF).mac == ZERO_MAC
    assert journal.records() == ()


def test_what_may_pass_keeps_the_vf_on_record_until_it_is_released_again() -> None:
    nic, journal = source(IGB_LIKE, TWO), MemoryJournal()
    fault = ErrnoFault(vf=4, attribute=Attribute.TRUST, number=errno.EBUSY, times=None)
    first, second = release(context_of(nic, journal, faults=[fault]), TWO, ())
    assert (first.kept, first.again) == ((), False)
    assert second.again
    assert on_record(journal)["eth0/4"].kind is UndoKind.RELEASE
    with pytest.raises(PendingChangeError, match="'release'") as pending:
        fence(context_of(nic, journal), TWO, FENCE)
    assert "'vferry release eth0/4' completes it" in pending.value.next_step
    release(context_of(nic, journal), TWO, ())
    assert shown(nic, TWO[1]).trust is False
    assert journal.records() == ()


@pytest.mark.parametrize("fenced", [False, True])
def test_where_nothing_can_be_set_everything_is_as_before(fenced: bool) -> None:
    nic, journal = source(IGB_LIKE, TWO), MemoryJournal()
    if fenced:
        fence(context_of(nic, journal), TWO, FENCE)
    before, undo_records = nic.snapshot(), journal.snapshot()
    fault = ErrnoFault(number=errno.EPERM, times=None)
    with pytest.raises(NotPermittedError):
        release(context_of(nic, journal, faults=[fault]), TWO, ())
    assert (nic.snapshot(), journal.snapshot()) == (before, undo_records)


def test_what_is_ignored_is_kept_and_what_is_hidden_is_named() -> None:
    nic, journal = source(), MemoryJournal()
    faults: list[Fault] = [IgnoredFault(attribute=Attribute.TRUST), HiddenFault(attribute=Attribute.MAC)]
    one = release(context_of(nic, journal, faults=faults), [VF], ())[0]
    assert any(what.startswith("trust: ") for what in one.kept)
    assert [difference.attribute for difference in one.not_shown] == [Attribute.MAC]


def test_a_vf_in_the_hands_of_a_restore_is_not_released() -> None:
    case = RESTORES[2]
    world = next(world for world, where in crashed_worlds(case) if "after program" in where)
    half = world.nic.snapshot()
    with pytest.raises(PendingChangeError, match="'restore'"):
        release(live(world), case.refs, ())
    assert world.nic.snapshot() == half


def test_releasing_the_lead_of_an_interrupted_restore_leaves_the_others_on_record() -> None:
    """One PF was reloaded: its VF is released, and the VF of the other PF can still be taken back."""
    case = RESTORES[2]
    before = settings(case.make().nic)["eth1"]
    world = next(world for world, where in crashed_worlds(case) if "after program eth1" in where)
    world.nic.reload_driver("eth0")
    with pytest.raises(IdentityChangedError):
        undo_restore(live(world), [case.refs[1]])
    release(live(world), [case.refs[0]], ())
    assert set(on_record(world.journal)) == {str(case.refs[1])}
    assert settings(world.nic)["eth1"] != before
    undo_restore(live(world), [case.refs[1]])
    assert settings(world.nic)["eth1"] == before
    assert world.journal.records() == ()


def test_who_still_uses_the_vf_is_said() -> None:
    nic = source()
    nic.bind_driver("eth0", 3, "vfio-pci", user="qemu (4711)")
    assert release(context_of(nic, MemoryJournal()), [VF], ())[0].user == "qemu (4711)"
