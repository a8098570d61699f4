# SPDX-License-Identifier: Apache-2.0
"""Any sequence of verbs, crashes, reloads, reboots and guests: the journal and the NIC never contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.verbs.world import FENCE, MACS, context_of, pairs_of, record_of, shown, source, tables_of
from vferry.core.compare import overlay
from vferry.core.errors import RefusedError
from vferry.core.fence import is_parking_mac, parking_mac
from vferry.core.model import AdminState
from vferry.core.policy import Policy
from vferry.core.record import encode_json
from vferry.core.undo import IdentityChangedError, UndoKind, UndoRecord, identity_changes
from vferry.testing import NETDEVSIM_LIKE, Crash, CrashPoints, MemoryJournal
from vferry.verbs.check import Terms
from vferry.verbs.context import Context, VfRef
from vferry.verbs.doctor import examine
from vferry.verbs.fence import fence, unfence
from vferry.verbs.pending import PendingChangeError, unfinished
from vferry.verbs.places import survey
from vferry.verbs.probe import probe
from vferry.verbs.release import release
from vferry.verbs.restore import NothingToUndoError, restore, undo_restore
from vferry.verbs.save import NothingToSaveError, save

OURS = (VfRef("eth0", 2), VfRef("eth0", 3), VfRef("eth1", 2))
NEIGHBOURS = tuple(VfRef(pf, vf) for pf in ("eth0", "eth1") for vf in (0, 1))
CRASH = st.none() | st.integers(1, 14)
REFS = st.lists(st.sampled_from(OURS), min_size=1, max_size=3, unique=True)
DEFAULTS = NETDEVSIM_LIKE.defaults


class Machine(RuleBasedStateMachine):
    """``possible`` is what a VF may show as long as no record says that it is being changed."""

    def __init__(self) -> None:
        super().__init__()
        self.nic = source(NETDEVSIM_LIKE, OURS)
        self.journal = MemoryJournal()
        self.neighbours = {ref: shown(self.nic, ref) for ref in NEIGHBOURS}
        self.possible = {ref: [shown(self.nic, ref)] for ref in OURS}
        self.before_fence: dict[VfRef, AdminState] = {}
        self.tables = tables_of(self.nic, NETDEVSIM_LIKE)
        home = source(NETDEVSIM_LIKE, OURS)
        for number, ref in enumerate(OURS):
            home.program(ref.pf, {ref.vf: AdminState(mac=MACS[12 + number], trust=False)})
        self.record = record_of(home, OURS)

    def attempt(self, act: Callable[[Context], object], refs: Sequence[VfRef], crash: int | None) -> str:
        """Run one verb; "done", "refused" (nothing may be changed) or "crashed"."""
        before, undo_records = self.nic.snapshot(), dict(self.journal.storage)
        points = CrashPoints(crash)
        try:
            act(context_of(self.nic, MemoryJournal(self.journal.storage), points=points))
        except Crash:
            return "crashed"
        except (RefusedError, IdentityChangedError):
            assert self.nic.snapshot() == before
            left = {key for key, data in undo_records.items() if key not in self.journal.storage}
            assert not left or unfinished(MemoryJournal(undo_records).records()) == self.journal.records()
            return "refused"
        return "done"

    def current(self) -> dict[VfRef, AdminState]:
        return {ref: shown(self.nic, ref) for ref in OURS}

    def fence_on_record(self, ref: VfRef) -> UndoRecord | None:
        records = {(one.key.device, one.key.index): one for one in self.journal.records()}
        found = records.get((self.nic.pf(ref.pf).device, ref.vf))
        return found if found is not None and found.kind is UndoKind.FENCE else None

    @rule(refs=REFS, crash=CRASH)
    def fences(self, refs: list[VfRef], crash: int | None) -> None:
        was = self.current()
        new = [ref for ref in refs if self.fence_on_record(ref) is None]
        what = self.attempt(lambda context: fence(context, refs, FENCE), refs, crash)
        if what == "refused":
            return
        for ref in new:
            if self.fence_on_record(ref) is not None:
                self.before_fence[ref] = was[ref]
        for ref in refs:
            pf = self.nic.pf(ref.pf)
            change = AdminState(mac=parking_mac(pf.permanent_address or "", ref.vf), trust=False)
            fenced = overlay(was[ref], change)
            if what == "done":
                assert shown(self.nic, ref) == fenced
                self.possible[ref] = [fenced]

    @rule(refs=REFS, crash=CRASH)
    def unfences(self, refs: list[VfRef], crash: int | None) -> None:
        fenced = [ref for ref in refs if self.fence_on_record(ref) is not None]
        what = self.attempt(lambda context: unfence(context, refs), refs, crash)
        if what == "refused":
            return
        for ref in fenced:
            if what == "done" or self.fence_on_record(ref) is None:
                assert shown(self.nic, ref) == self.before_fence[ref]
                self.possible[ref] = [self.before_fence.pop(ref)]

    @rule(refs=REFS, crash=CRASH, known=st.booleans())
    def restores(self, refs: list[VfRef], crash: int | None, known: bool) -> None:
        record = msgspec.structs.replace(self.record, vfs=self.record.vfs[: len(refs)])
        terms = Terms(policy=Policy(), tables=self.tables if known else ())
        was = self.current()
        open_before = {record.key for record in unfinished(self.journal.records())}
        what = self.attempt(lambda context: restore(context, record, pairs_of(record, refs), terms), refs, crash)
        for saved, ref in zip(record.vfs, refs, strict=True):
            new = overlay(was[ref], saved.admin)
            if what == "done":
                assert shown(self.nic, ref) == new
                self.possible[ref] = [new]
            elif what == "crashed" and not open_before:
                self.possible[ref] = [was[ref], new]
            elif what == "crashed":
                self.possible[ref] = [*self.possible[ref], new]

    @rule(refs=REFS, crash=CRASH)
    def takes_restores_back(self, refs: list[VfRef], crash: int | None) -> None:
        self.attempt(lambda context: undo_restore(context, refs), refs, crash)

    @rule(refs=REFS, crash=CRASH)
    def releases(self, refs: list[VfRef], crash: int | None) -> None:
        what = self.attempt(lambda context: release(context, refs, self.tables), refs, crash)
        for ref in refs:
            if what == "done":
                assert shown(self.nic, ref) == DEFAULTS
                self.possible[ref] = [DEFAULTS]
            elif what == "crashed":
                self.possible[ref] = [*self.possible[ref], DEFAULTS]
            if what == "done" or self.fence_on_record(ref) is None:
                self.before_fence.pop(ref, None)

    @rule(pf=st.sampled_from(["eth0", "eth1"]), crash=CRASH)
    def probes(self, pf: str, crash: int | None) -> None:
        before = self.nic.snapshot()
        pending = any(record.kind is UndoKind.PROBE for record in self.journal.records())
        if self.attempt(lambda context: probe(context, pf), (), crash) == "done" and not pending:
            assert self.nic.snapshot() == before

    @rule(refs=REFS)
    def saves(self, refs: list[VfRef]) -> None:
        before, undo_records = self.nic.snapshot(), self.journal.snapshot()
        try:
            encode_json(save(context_of(self.nic, self.journal), refs))
        except (PendingChangeError, NothingToSaveError):
            parked = any(is_parking_mac(self.nic.read(ref.pf).vfs[ref.vf].admin.mac) for ref in refs)
            assert parked or self.journal.records(), "only what a verb has in its hands is not the VM's"
        examine(context_of(self.nic, self.journal), self.tables)
        assert (self.nic.snapshot(), self.journal.snapshot()) == (before, undo_records)

    @rule(ref=st.sampled_from(OURS), mac=st.sampled_from(MACS[5:8]))
    def guest_chooses_a_mac(self, ref: VfRef, mac: str) -> None:
        fenced = self.fence_on_record(ref)
        if fenced is None and self.journal.records():
            return  # a VF that is being probed or restored has no guest yet
        taken = self.nic.guest_sets_mac(ref.pf, ref.vf, mac)
        if fenced is not None and fenced.completed and not self.changed(fenced):
            assert not taken, "a fenced guest puts no MAC back"
        if taken:
            self.possible[ref] = [msgspec.structs.replace(state, mac=mac) for state in self.possible[ref]]
            self.possible[ref].append(shown(self.nic, ref))

    @rule(pf=st.sampled_from(["eth0", "eth1"]))
    def driver_is_reloaded(self, pf: str) -> None:
        self.nic.reload_driver(pf)
        self.forgotten([ref for ref in (*OURS, *NEIGHBOURS) if ref.pf == pf])

    @rule()
    def host_boots_again(self) -> None:
        self.nic.reboot()
        self.forgotten([*OURS, *NEIGHBOURS])

    @rule()
    def a_person_cleans_up(self) -> None:
        """What the messages say: take back what was interrupted, release what has another life, or is fenced."""
        context, released = context_of(self.nic, self.journal), set()
        for _ in range(10):
            for record in self.journal.records()[:1]:
                ref = VfRef(record.identity.pf, record.key.index)
                try:
                    if record.kind is UndoKind.RESTORE:
                        undo_restore(context, [ref])
                    elif record.kind is UndoKind.PROBE:
                        probe(context, ref.pf)
                    else:
                        release(context, [ref], self.tables)
                        released.add(ref)
                except IdentityChangedError as error:
                    ref = VfRef(error.record.identity.pf, error.record.key.index)
                    release(context, [ref], self.tables)
                    released.add(ref)
                except NothingToUndoError:
                    assert self.journal.records() == () or record.key not in self.journal.storage
        assert self.journal.records() == ()
        for ref in released:
            self.before_fence.pop(ref, None)
            self.possible[ref] = [DEFAULTS]
            if ref in self.neighbours:
                self.neighbours[ref] = DEFAULTS

    def forgotten(self, refs: Sequence[VfRef]) -> None:
        for ref in refs:
            if ref in self.neighbours:
                self.neighbours[ref] = DEFAULTS
            else:
                self.possible[ref] = [DEFAULTS]

    def changed(self, record: UndoRecord) -> bool:
        ref = VfRef(record.identity.pf, record.key.index)
        return bool(identity_changes(record.identity, survey(context_of(self.nic, self.journal), [ref])[0].identity))

    @invariant()
    def neighbours_are_never_touched(self) -> None:
        probed = {
            VfRef(record.identity.pf, record.key.index)
            for record in self.journal.records()
            if record.kind is UndoKind.PROBE
        }
        for ref, admin in self.neighbours.items():
            assert shown(self.nic, ref) == admin or ref in probed

    @invariant()
    def a_complete_fence_is_one(self) -> None:
        for record in self.journal.records():
            if record.completed and not self.changed(record):
                assert is_parking_mac(shown(self.nic, VfRef(record.identity.pf, record.key.index)).mac)

    @invariant()
    def a_vf_without_a_record_is_in_a_whole_state(self) -> None:
        open_keys = {(record.key.device, record.key.index) for record in unfinished(self.journal.records())}
        for ref in OURS:
            if (self.nic.pf(ref.pf).device, ref.vf) not in open_keys:
                assert shown(self.nic, ref) in self.possible[ref], ref


TestMachine = Machine.TestCase
TestMachine.settings = hypothesis_settings(max_examples=60, stateful_step_count=20, deadline=None)
