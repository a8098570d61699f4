# SPDX-License-Identifier: Apache-2.0
"""``fence`` and ``unfence``: exactly back to what was, evidence, and no harm to a fence that stands."""

from __future__ import annotations

import errno
from typing import Self

import msgspec
import pytest

from tests.core.test_fence import MAC, TRUST, VLAN
from tests.verbs.cases import TWO, TWO_PFS
from tests.verbs.world import FENCE, GUEST, KINDS, context_of, on_record, settings, shown, source
from vferry.core.errors import PersonNeededError
from vferry.core.fence import Column, FenceImpossibleError, Grade, Lever, is_parking_mac, parking_mac
from vferry.core.model import AdminState, Attribute, VfStatistics, Vlan
from vferry.core.undo import UndoKind
from vferry.ports.nic import BusyError
from vferry.ports.witness import WitnessError
from vferry.testing import (
    IGB_LIKE,
    LOSSY,
    RESETTING,
    VIRTIO_LIKE,
    Behaviour,
    ErrnoFault,
    HiddenFault,
    MemoryJournal,
    MemoryNic,
    MemoryPf,
)
from vferry.verbs.context import Context, VfRef
from vferry.verbs.fence import (
    FenceBrokenError,
    FenceRequest,
    NotFencedError,
    fence,
    plan,
    plan_unfence,
    unfence,
)
from vferry.verbs.observe import Observer

VF = VfRef("eth0", 3)


@pytest.mark.parametrize("behaviour", [*KINDS, RESETTING, LOSSY], ids=lambda kind: kind.name)
def test_there_and_exactly_back(behaviour: Behaviour) -> None:
    nic, journal = source(behaviour, TWO_PFS), MemoryJournal()
    context, before = context_of(nic, journal), nic.snapshot()
    others = settings(nic)
    fenced = fence(context, TWO_PFS, FENCE)
    for ref, one in zip(TWO_PFS, fenced, strict=True):
        pf = nic.pf(ref.pf)
        assert shown(nic, ref).mac == parking_mac(pf.permanent_address or "", ref.vf)
        assert shown(nic, ref).trust is False
        assert one.evidence.claims[Column.ADMIN_UNICAST] is Grade.READ_BACK
        assert not one.already
        for index, admin in enumerate(settings(nic)[ref.pf]):
            assert index == ref.vf or admin == others[ref.pf][index]
    records = on_record(journal)
    assert set(records) == {"eth0/3", "eth1/2"}
    assert all(record.completed and record.kind is UndoKind.FENCE for record in records.values())
    assert records["eth0/3"].before == others["eth0"][3]
    unfenced = unfence(context, TWO_PFS)
    assert [one.shown for one in unfenced] == [others[ref.pf][ref.vf] for ref in TWO_PFS]
    assert nic.snapshot() == before
    assert journal.records() == ()


def test_a_fence_that_stands_is_proven_again_and_nothing_is_sent() -> None:
    nic, journal = source(), MemoryJournal()
    context = context_of(nic, journal)
    fence(context, [VF], FENCE)
    after, undo_records = nic.snapshot(), journal.snapshot()
    nic.calls.clear()
    assert fence(context, [VF], FENCE)[0].already
    assert "program" not in [call.method for call in nic.calls]
    assert (nic.snapshot(), journal.snapshot()) == (after, undo_records)


def test_a_fence_that_fails_again_still_stands() -> None:
    """The VM may run elsewhere by now: a repeated command that fails must not let its frames in here."""
    nic, journal = source(IGB_LIKE, TWO), MemoryJournal()
    fence(context_of(nic, journal), TWO[:1], FENCE)
    before, undo_records = nic.snapshot(), journal.snapshot()
    fault = ErrnoFault(vf=4, number=errno.EBUSY, times=None)
    with pytest.raises(BusyError):
        fence(context_of(nic, journal, faults=[fault]), TWO, FENCE)
    assert nic.snapshot() == before
    assert journal.snapshot() == undo_records
    assert is_parking_mac(shown(nic, TWO[0]).mac)


def test_a_fence_that_somebody_undid_by_hand_is_set_again() -> None:
    nic, journal = source(), MemoryJournal()
    context = context_of(nic, journal)
    fence(context, [VF], FENCE)
    after = nic.snapshot()
    nic.program("eth0", {3: AdminState(mac="52:54:00:00:00:77", trust=True)})
    assert not fence(context, [VF], FENCE)[0].already
    assert nic.snapshot() == after
    unfence(context, [VF])
    assert shown(nic, VF) == GUEST


def test_another_parking_vlan_replaces_the_first_and_the_undo_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vferry.verbs.fence.lever_rows", lambda _: (MAC, TRUST, VLAN))
    nic, journal = source(), MemoryJournal()
    context, before = context_of(nic, journal), nic.snapshot()
    fence(context, [VF], FenceRequest(parking_vid=100))
    fence(context, [VF], FenceRequest(parking_vid=200))
    vlans = shown(nic, VF).vlans
    assert vlans is not None
    assert [vlan.vid for vlan in vlans] == [200]
    unfence(context, [VF])
    assert nic.snapshot() == before


def test_a_second_fence_never_weakens_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    nic, journal = source(), MemoryJournal()
    context, before = context_of(nic, journal), nic.snapshot()
    monkeypatch.setattr("vferry.verbs.fence.lever_rows", lambda _: (MAC, TRUST, VLAN))
    fence(context, [VF], FENCE)
    strong = nic.snapshot()
    monkeypatch.setattr("vferry.verbs.fence.lever_rows", lambda _: (MAC, TRUST))
    nic.program("eth0", {3: AdminState(vlans=())})
    fence(context, [VF], FENCE)
    assert nic.snapshot() == strong
    unfence(context, [VF])
    assert nic.snapshot() == before


def test_a_guests_own_mac_becomes_administrative_and_the_plan_says_so() -> None:
    nic, journal = MemoryNic(host="a", pfs=[MemoryPf(name="eth0", num_vfs=5)]), MemoryJournal()
    assert nic.guest_sets_mac("eth0", 3, "52:54:00:00:00:55")
    context = context_of(nic, journal)
    assert any("administrative" in loss for loss in plan(context, [VF], FENCE)[0].loses)
    before = settings(nic)
    fence(context, [VF], FENCE)
    unfence(context, [VF])
    assert settings(nic) == before, "it reads as before"
    assert nic.admin_mac("eth0", 3) == "52:54:00:00:00:55"


def test_a_plan_changes_nothing() -> None:
    nic, journal = source(), MemoryJournal()
    before = nic.snapshot()
    plans = plan(context_of(nic, journal), [VF], FENCE)
    assert Lever.PARKING_MAC in plans[0].levers
    assert (nic.snapshot(), journal.records()) == (before, ())


def test_what_cannot_be_fenced_is_refused_and_names_the_vf() -> None:
    nic, journal = source(), MemoryJournal()
    before = nic.snapshot()
    request = FenceRequest(required=frozenset({Column.DMA}))
    with pytest.raises(FenceImpossibleError) as impossible:
        fence(context_of(nic, journal), [VF], request)
    assert impossible.value.where == "a:eth0/3"
    assert (nic.snapshot(), journal.records()) == (before, ())
    bare = MemoryNic(host="a", pfs=[MemoryPf(name="eth0", num_vfs=5, behaviour=VIRTIO_LIKE)])
    with pytest.raises(NotFencedError, match="no lever"):
        fence(context_of(bare, journal), [VF], FENCE)


def test_a_setting_that_is_not_shown_is_only_asserted() -> None:
    nic, journal = source(), MemoryJournal()
    fault = HiddenFault(attribute=Attribute.MAC)
    fenced = fence(context_of(nic, journal, faults=[fault]), [VF], FENCE)
    assert fenced[0].evidence.claims[Column.ADMIN_UNICAST] is Grade.ASSERTED


def test_unfence_of_what_is_not_fenced() -> None:
    nic, journal = source(IGB_LIKE, TWO), MemoryJournal()
    context = context_of(nic, journal)
    with pytest.raises(NotFencedError, match="no fence is on record"):
        unfence(context, TWO)
    nic.program("eth0", {3: AdminState(mac=parking_mac("x", 3))})
    with pytest.raises(NotFencedError, match="though it shows a parking MAC"):
        unfence(context, [VF])


def test_unfence_of_one_that_is_and_one_that_is_not() -> None:
    """As an interrupted ``unfence`` of both leaves it; the same command again completes it."""
    nic, journal = source(IGB_LIKE, TWO), MemoryJournal()
    context, before = context_of(nic, journal), nic.snapshot()
    fence(context, TWO[:1], FENCE)
    records = plan_unfence(context, TWO)
    assert [record is None for record in records] == [False, True]
    done = unfence(context, TWO)
    assert [one.was_fenced for one in done] == [True, False]
    assert (nic.snapshot(), journal.records()) == (before, ())


def test_one_vf_of_a_fence_may_be_unfenced_alone() -> None:
    nic, journal = source(IGB_LIKE, TWO), MemoryJournal()
    context = context_of(nic, journal)
    fence(context, TWO, FENCE)
    unfence(context, TWO[:1])
    assert is_parking_mac(shown(nic, TWO[1]).mac)
    assert set(on_record(journal)) == {"eth0/4"}
    unfence(context, TWO[1:])
    assert journal.records() == ()


def test_an_undo_that_fails_is_a_persons_and_says_what_to_do() -> None:
    nic, journal = source(), MemoryJournal()
    fence(context_of(nic, journal), [VF], FENCE)
    fault = ErrnoFault(number=errno.EINVAL, attribute=Attribute.MAC)
    with pytest.raises(PersonNeededError, match="between the old state and the new") as needed:
        unfence(context_of(nic, journal, faults=[fault]), [VF])
    assert "vferry unfence eth0/3" in needed.value.next_step
    assert not on_record(journal)["eth0/3"].completed
    unfence(context_of(nic, journal), [VF])
    assert shown(nic, VF) == GUEST


def test_the_pf_may_have_another_name_by_now() -> None:
    nic, journal = source(), MemoryJournal()
    fence(context_of(nic, journal), [VF], FENCE)
    nic.rename("eth0", "lan0")
    unfence(context_of(nic, journal), [VfRef("lan0", 3)])
    assert shown(nic, VfRef("lan0", 3)) == GUEST
    assert journal.records() == ()


# Observation


class FakeProber:
    def __init__(self, effect: object = None) -> None:
        self.sent: list[tuple[str, str, int]] = []
        self._effect = effect

    def send(self, netdev: str, destination: str, nonce: bytes, *, count: int, vlans: tuple[Vlan, ...] = ()) -> None:
        self.sent.append((netdev, destination, count))
        self.vlans = vlans
        if callable(self._effect):
            self._effect()


class FakeWitness:
    def __init__(self, received: int | None) -> None:
        self._received = received

    def watch(self, nonce: bytes, *, seconds: float) -> FakeWitness:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def received(self) -> int:
        if self._received is None:
            raise WitnessError("ask the witness far", why="it ended early")
        return self._received


def grade(context: Context, observer: Observer) -> tuple[Grade, str]:
    evidence = fence(context, [VF], FENCE, observer)[0].evidence
    return evidence.claims[Column.ADMIN_UNICAST], evidence.observation


@pytest.mark.parametrize(
    ("received", "expected", "words"),
    [
        (2, Grade.OBSERVED, "far received 2 of 3"),
        (0, Grade.READ_BACK, "swallowed"),
        (None, Grade.READ_BACK, "it ended early"),
    ],
)
def test_a_witness_elsewhere(received: int | None, expected: Grade, words: str) -> None:
    prober = FakeProber()
    observer = Observer(prober, FakeWitness(received), witness_name="far")
    found, observation = grade(context_of(source(), MemoryJournal()), observer)
    assert found is expected
    assert words in observation
    assert prober.sent == [("eth0", GUEST.mac, 3)], "to the VM's address, not to the parking MAC"
    assert prober.vlans == GUEST.vlans, "in the VM's own network"


def counters(packets: int) -> VfStatistics:
    zero = VfStatistics(**dict.fromkeys(VfStatistics.__struct_fields__, 0))
    return msgspec.structs.replace(zero, rx_packets=packets)


@pytest.mark.parametrize(("after", "expected"), [(5, Grade.OBSERVED), (8, Grade.READ_BACK)])
def test_counters_that_stay_constant(after: int, expected: Grade) -> None:
    nic = source(RESETTING)

    def set_to(packets: int) -> None:
        nic.set_statistics("eth0", 3, counters(packets))

    set_to(5)
    observer = Observer(FakeProber(lambda: set_to(after)))
    assert grade(context_of(nic, MemoryJournal()), observer)[0] is expected


def test_counters_that_a_driver_does_not_have_prove_nothing() -> None:
    found, observation = grade(context_of(source(), MemoryJournal()), Observer(FakeProber()))
    assert found is Grade.READ_BACK
    assert "no VF counters" in observation


def test_an_observation_that_fails_leaves_the_fence() -> None:
    nic, journal = source(), MemoryJournal()

    def fail() -> None:
        raise WitnessError("send a probe", why="no permission")

    found, observation = grade(context_of(nic, journal), Observer(FakeProber(fail), FakeWitness(0)))
    assert found is Grade.READ_BACK
    assert "no permission" in observation
    assert on_record(journal)["eth0/3"].completed


def test_a_vf_that_somebody_else_has_set_meanwhile_is_not_overwritten() -> None:
    nic, journal = source(), MemoryJournal()
    context, before = context_of(nic, journal), settings(nic)
    fence(context, [VF], FENCE)
    nic.program(VF.pf, {VF.vf: AdminState(mac="52:54:00:77:77:77")})
    changed = nic.snapshot()
    with pytest.raises(FenceBrokenError, match="52:54:00:77:77:77") as raised:
        unfence(context, [VF])
    assert "--anyway" in raised.value.next_step
    assert nic.snapshot() == changed
    assert set(on_record(journal)) == {str(VF)}
    unfence(context, [VF], anyway=True)
    assert settings(nic) == before


def test_a_parked_vf_without_a_record_is_not_fenced_again() -> None:
    nic = source()
    fence(context_of(nic, MemoryJournal()), [VF], FENCE)
    parked = nic.snapshot()
    with pytest.raises(NotFencedError, match="parking MAC"):
        fence(context_of(nic, MemoryJournal()), [VF], FENCE)
    assert nic.snapshot() == parked
