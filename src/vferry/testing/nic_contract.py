# SPDX-License-Identifier: Apache-2.0
"""What every NIC must do, as tests to inherit from; needs pytest.

.. code-block:: python

    class TestMyNic(NicContract):
        pf = "eth0"
        spare = (1, 2)
        accepted = frozenset({Feature.MAC, Feature.TRUST})
        refused = {Feature.MIN_TX_RATE: RejectedError}

        @pytest.fixture
        def nic(self) -> Nic:
            return MyNic()

Where ``pytest.register_assert_rewrite("vferry.testing.nic_contract", "vferry.testing.fdb_contract")`` stands in a
``conftest.py``, failures explain themselves.

A test changes nothing but the spare VFs and the PF's own forwarding entries, and gives them back as they read before. A
guest's own MAC reads like an administrative one, so nobody should be using the spare VFs.
"""
# ruff: noqa: S101 - asserts are how tests speak

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import ClassVar

import msgspec
import pytest

from vferry.core.capability import Feature
from vferry.core.model import (
    DOT1AD,
    DOT1Q,
    ZERO_MAC,
    AdminState,
    Attribute,
    EswitchMode,
    LinkState,
    PfReading,
    Rate,
    VfReading,
    Vlan,
)
from vferry.ports.nic import BusyError, Nic, NicError, NoSuchFunctionError, NotPermittedError, RejectedError
from vferry.testing.fdb_contract import FdbContract
from vferry.testing.settings import FIELD_OF, SETTERS, fields_of, merged, only

__all__ = ["NicContract", "sample"]

NO_PF = "no-such-pf"


def sample(feature: Feature, vf: int, now: AdminState) -> AdminState:
    """Return a change of VF ``vf`` that makes use of ``feature`` and differs from its settings ``now``."""
    states = {
        Feature.MAC: AdminState(mac=f"02:76:66:72:79:{vf & 0xFF:02x}"),
        Feature.MAC_ZERO: AdminState(mac=ZERO_MAC),
        Feature.VLAN: AdminState(vlans=(Vlan(vid=1001 + vf % 1000, proto=DOT1Q),)),
        Feature.VLAN_QOS: AdminState(vlans=(Vlan(vid=2001 + vf % 1000, qos=5, proto=DOT1Q),)),
        Feature.VLAN_DOT1AD: AdminState(vlans=(Vlan(vid=3001 + vf % 1000, proto=DOT1AD),)),
        Feature.MAX_TX_RATE: AdminState(rate=Rate(min_tx=0, max_tx=100)),
        Feature.MIN_TX_RATE: AdminState(rate=Rate(min_tx=20, max_tx=200)),
        Feature.SPOOFCHK: AdminState(spoofchk=not now.spoofchk),
        Feature.LINK_STATE_ENABLE: AdminState(link_state=LinkState.ENABLE),
        Feature.LINK_STATE_DISABLE: AdminState(link_state=LinkState.DISABLE),
        Feature.RSS_QUERY: AdminState(rss_query=not now.rss_query),
        Feature.TRUST: AdminState(trust=not now.trust),
        Feature.NODE_GUID: AdminState(node_guid=f"02:00:00:00:00:01:00:{vf & 0xFF:02x}"),
        Feature.PORT_GUID: AdminState(port_guid=f"02:00:00:00:00:02:00:{vf & 0xFF:02x}"),
    }
    return states[feature]


def _place(feature: Feature) -> int:
    """Return where the kernel applies a feature."""
    return SETTERS.index(FIELD_OF[feature.attribute])


class NicContract(FdbContract):
    """Tests of one PF of a NIC; a subclass says which, and what its driver is known to do."""

    pf: ClassVar[str]
    """The PF's name."""
    spare: ClassVar[tuple[int, ...]]
    """At least two VFs that tests may change; there is at least one more that they must not."""
    has_settings: ClassVar[bool] = True
    """False: the driver has no VF settings."""
    accepted: ClassVar[frozenset[Feature]] = frozenset()
    """Accepted, and read back as set."""
    not_shown: ClassVar[frozenset[Feature]] = frozenset()
    """Accepted, and not read back."""
    changed: ClassVar[Mapping[Feature, AdminState]] = {}
    """Accepted, and read back as this."""
    refused: ClassVar[Mapping[Feature, type[NicError]]] = {}
    """Refused, with this error."""
    offers_statistics: ClassVar[bool] = False
    can_reset: ClassVar[bool] = False
    """The spare VFs may be reset (FLR)."""
    lost_at_reset: ClassVar[frozenset[Attribute]] = frozenset()
    """Settings that do not survive that."""
    patience: ClassVar[float] = 5.0
    """Seconds for which a busy VF is tried again."""
    pause: ClassVar[float] = 0.05
    """Seconds between two tries."""

    @pytest.fixture
    def nic(self) -> Nic:
        """Return the NIC under test."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _gives_back(self, nic: Nic) -> Iterator[None]:
        before, entries = self.read(nic), self.fdb(nic)
        yield
        for vf in self.spare if before.vfs else ():
            self.give_back(nic, vf, before.vfs[vf].admin)
        assert self.read(nic).vfs == before.vfs
        self.give_back_fdb(nic, entries)
        assert self.fdb(nic) == entries

    @staticmethod
    def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
        """Make one test for each feature that the subclass names."""
        contract = metafunc.cls
        assert contract is not None
        assert issubclass(contract, NicContract)
        for name in ("accepted", "not_shown", "changed", "refused"):
            if f"{name}_feature" in metafunc.fixturenames:
                features = sorted(getattr(contract, name), key=lambda feature: feature.value)
                metafunc.parametrize(f"{name}_feature", features, ids=[feature.value for feature in features])

    # What tests use

    def read(self, nic: Nic, *, statistics: bool = False) -> PfReading:
        """Read the PF."""
        return nic.read(self.pf, statistics=statistics)

    def admin(self, nic: Nic, vf: int) -> AdminState:
        """Read a VF's settings; empty where the driver has none."""
        reading = self.read(nic)
        return reading.vfs[vf].admin if reading.has_settings else AdminState()

    def others(self, nic: Nic) -> tuple[VfReading, ...]:
        """Read the VFs that no test may touch."""
        return tuple(vf for vf in self.read(nic).vfs if vf.index not in self.spare)

    def program(self, nic: Nic, changes: Mapping[int, AdminState]) -> dict[int, NicError | None]:
        """Program VFs, and those that are busy again and again for a while."""
        outcomes = dict(nic.program(self.pf, changes))
        end = time.monotonic() + self.patience
        while time.monotonic() < end:
            busy = {vf: changes[vf] for vf, error in outcomes.items() if isinstance(error, BusyError)}
            if not busy:
                break
            time.sleep(self.pause)
            outcomes |= nic.program(self.pf, busy)
        return outcomes

    def set_up(self, nic: Nic, vf: int, change: AdminState) -> None:
        """Program what must work."""
        assert self.program(nic, {vf: change}) == {vf: None}

    def give_back(self, nic: Nic, vf: int, before: AdminState) -> None:
        """Program a VF's old settings, one after the other, as far as they differ."""
        for _again in range(2):  # a rate may be refused until the link is back, trust may move the MAC
            now = self.admin(nic, vf)
            for field in fields_of(before):
                if getattr(now, field) != getattr(before, field):
                    self.program(nic, {vf: only(before, [field])})
        hidden = {FIELD_OF[feature.attribute] for feature in self.not_shown}
        defaults = AdminState(mac=ZERO_MAC, vlans=(), rate=Rate(min_tx=0, max_tx=0))
        for field in hidden & set(fields_of(defaults)):
            self.program(nic, {vf: only(defaults, [field])})

    def combined(self, nic: Nic, vf: int) -> AdminState:
        """Return one change of everything that is accepted and read back."""
        now = self.admin(nic, vf)
        change = AdminState()
        for feature in sorted(self.accepted, key=lambda feature: feature.value):
            if feature is not Feature.MAC_ZERO:
                change = merged(change, sample(feature, vf, now))
        return change

    # Facts

    def test_facts_agree_with_each_other(self, nic: Nic) -> None:
        """The PF's facts, its VFs' and its reading speak of the same."""
        facts, vfs, reading = nic.pf(self.pf), nic.vfs(self.pf), self.read(nic)
        assert facts in nic.pfs()
        assert facts.name == self.pf
        assert facts.num_vfs == len(vfs) == reading.num_vfs
        assert [vf.index for vf in vfs] == list(range(facts.num_vfs))
        assert reading.ifindex == facts.ifindex
        for name in ("mtu", "admin_up", "carrier", "address", "permanent_address"):
            of_facts, of_reading = getattr(facts, name), getattr(reading, name)
            assert None in (of_facts, of_reading) or of_facts == of_reading, name

    def test_the_reading_has_every_vf_or_no_settings(self, nic: Nic) -> None:
        """Either all VFs are in the list, in order, or the driver has no list."""
        reading = self.read(nic)
        assert reading.has_settings is self.has_settings
        indexes = list(range(reading.num_vfs)) if self.has_settings else []
        assert [vf.index for vf in reading.vfs] == indexes

    def test_pfs_are_sorted(self, nic: Nic) -> None:
        """PFs come in the order of their names, each once."""
        names = [pf.name for pf in nic.pfs()]
        assert names == sorted(set(names))

    def test_the_host_stays_the_same(self, nic: Nic) -> None:
        """Two looks at the host agree."""
        assert nic.host() == nic.host()

    def test_reading_changes_nothing(self, nic: Nic) -> None:
        """Two readings are equal, whatever is read between them."""
        first = self.read(nic)
        self.read(nic, statistics=True)
        nic.vfs(self.pf)
        for vf in self.spare:
            nic.read_pci(self.pf, vf)
            nic.read_function(self.pf, vf)
        self.fdb(nic)
        assert self.read(nic) == first

    def test_statistics_come_when_asked_for(self, nic: Nic) -> None:
        """Counters are read on demand only."""
        assert all(vf.statistics is None for vf in self.read(nic).vfs)
        if self.offers_statistics:
            assert all(vf.statistics is not None for vf in self.read(nic, statistics=True).vfs)

    def test_unknown_functions(self, nic: Nic) -> None:
        """What is not there is named by a typed error."""
        beyond = nic.pf(self.pf).num_vfs
        with pytest.raises(NoSuchFunctionError):
            nic.read(NO_PF)
        with pytest.raises(NoSuchFunctionError):
            nic.pf(NO_PF)
        with pytest.raises(NoSuchFunctionError):
            nic.vfs(NO_PF)
        with pytest.raises(NoSuchFunctionError):
            nic.program(NO_PF, {0: AdminState(mac=ZERO_MAC)})
        with pytest.raises(NoSuchFunctionError):
            nic.read_pci(self.pf, beyond)

    def test_a_vf_beyond_the_last_is_refused(self, nic: Nic) -> None:
        """A driver says EINVAL to an index that it does not have; an adapter may know better."""
        if not self.accepted:
            pytest.skip("the driver accepts nothing for any VF")
        beyond = nic.pf(self.pf).num_vfs
        feature = min(self.accepted, key=_place)
        try:
            error = nic.program(self.pf, {beyond: sample(feature, beyond, AdminState())})[beyond]
        except NoSuchFunctionError:
            return
        assert isinstance(error, NoSuchFunctionError | RejectedError)

    # Programming

    def test_accepted_is_read_back(self, nic: Nic, accepted_feature: Feature) -> None:
        """What is accepted is shown, and no other VF changes."""
        vf, others = self.spare[0], self.others(nic)
        change = sample(accepted_feature, vf, self.admin(nic, vf))
        self.set_up(nic, vf, change)
        shown = self.admin(nic, vf)
        assert only(shown, fields_of(change)) == change
        assert self.others(nic) == others

    def test_not_shown_is_accepted(self, nic: Nic, not_shown_feature: Feature) -> None:
        """What the driver does not report stays absent: absent is not a value."""
        vf = self.spare[0]
        change = sample(not_shown_feature, vf, self.admin(nic, vf))
        self.set_up(nic, vf, change)
        assert only(self.admin(nic, vf), fields_of(change)) == AdminState()

    def test_changed_is_read_back_as_declared(self, nic: Nic, changed_feature: Feature) -> None:
        """What the driver shows as something else is shown so."""
        vf, shown = self.spare[0], self.changed[changed_feature]
        self.set_up(nic, vf, sample(changed_feature, vf, self.admin(nic, vf)))
        assert only(self.admin(nic, vf), fields_of(shown)) == shown

    def test_refused_is_a_typed_error_and_changes_nothing(self, nic: Nic, refused_feature: Feature) -> None:
        """A refusal has its own type, and the kernel's number."""
        vf, before = self.spare[0], self.read(nic)
        error = self.program(nic, {vf: sample(refused_feature, vf, self.admin(nic, vf))})[vf]
        assert isinstance(error, NicError)
        assert type(error) is self.refused[refused_feature]
        assert error.errno is not None
        assert self.read(nic) == before

    def test_a_refusal_keeps_what_came_before_it(self, nic: Nic, refused_feature: Feature) -> None:
        """The kernel stops at the first error, with the earlier attributes applied and the later ones not."""
        vf = self.spare[0]
        before = self.admin(nic, vf)
        everything = self.combined(nic, vf)
        place = _place(refused_feature)
        earlier, later = only(everything, SETTERS[:place]), only(everything, SETTERS[place + 1 :])
        refused = sample(refused_feature, vf, before)
        error = self.program(nic, {vf: merged(merged(earlier, refused), later)})[vf]
        assert type(error) is self.refused[refused_feature]
        after = self.admin(nic, vf)
        assert only(after, SETTERS[:place]) == merged(only(before, SETTERS[:place]), earlier)
        assert only(after, SETTERS[place:]) == only(before, SETTERS[place:])

    def test_several_vfs_in_one_request(self, nic: Nic) -> None:
        """Every VF has its own outcome, and its own values."""
        changes = {vf: self.combined(nic, vf) for vf in self.spare}
        others = self.others(nic)
        outcomes = self.program(nic, changes)
        assert outcomes == dict.fromkeys(self.spare)
        for vf, change in changes.items():
            assert only(self.admin(nic, vf), fields_of(change)) == change
        assert self.others(nic) == others

    def test_one_refused_vf_does_not_stop_the_others(self, nic: Nic) -> None:
        """Later VFs are tried all the same."""
        candidates = self.accepted - {Feature.MAC_ZERO}
        if not (self.refused and candidates):
            pytest.skip("needs something that is accepted and something that is refused")
        refused, accepted = min(self.refused, key=_place), min(candidates, key=_place)
        first, second = self.spare[:2]
        good = sample(accepted, second, self.admin(nic, second))
        outcomes = self.program(nic, {first: sample(refused, first, self.admin(nic, first)), second: good})
        assert type(outcomes[first]) is self.refused[refused]
        assert outcomes[second] is None
        assert only(self.admin(nic, second), fields_of(good)) == good

    def test_an_armed_request_waits_until_it_is_sent(self, nic: Nic) -> None:
        """Arming sends nothing; sending twice ends as sending once does."""
        vf, before = self.spare[0], self.read(nic)
        change = self.combined(nic, vf)
        armed = nic.arm(self.pf, {vf: change})
        assert self.read(nic) == before
        outcome = armed.send()[vf]
        if isinstance(outcome, BusyError):
            self.set_up(nic, vf, change)
        else:
            assert outcome is None
        once = self.read(nic)
        assert only(self.admin(nic, vf), fields_of(change)) == change
        again = armed.send()[vf]
        assert again is None or isinstance(again, BusyError)
        assert self.read(nic) == once

    def test_nothing_to_program_is_no_error(self, nic: Nic) -> None:
        """No VFs, no outcomes; a VF without attributes has nothing that could fail."""
        before = self.read(nic)
        assert nic.program(self.pf, {}) == {}
        assert nic.program(self.pf, {self.spare[0]: AdminState()}) == {self.spare[0]: None}
        assert self.read(nic) == before

    def test_a_vlan_without_protocol_is_dot1q(self, nic: Nic) -> None:
        """A change that names no VLAN protocol means 802.1Q."""
        if Feature.VLAN not in self.accepted:
            pytest.skip("the driver has no VLANs that can be read back")
        vf = self.spare[0]
        self.set_up(nic, vf, AdminState(vlans=(Vlan(vid=77),)))
        assert self.admin(nic, vf).vlans == (Vlan(vid=77, proto=DOT1Q),)
        self.set_up(nic, vf, AdminState(vlans=()))
        assert self.admin(nic, vf).vlans == ()

    # PCI and devlink

    def test_pci_words_belong_to_pci_functions(self, nic: Nic) -> None:
        """A VF with a PCI address has PCI words, any other has none."""
        for vf in nic.vfs(self.pf):
            state = nic.read_pci(self.pf, vf.index)
            assert (state is None) is (vf.address is None)

    def test_pci_words_of_a_bound_vf_are_its_drivers(self, nic: Nic) -> None:
        """Nobody but the driver writes PCI words while there is one."""
        bound = [vf.index for vf in nic.vfs(self.pf) if vf.driver is not None]
        for vf in bound:
            before = nic.read_pci(self.pf, vf)
            assert before is not None
            with pytest.raises(NotPermittedError):
                nic.write_pci(self.pf, vf, msgspec.structs.replace(before, command=0))
            assert nic.read_pci(self.pf, vf) == before

    def test_pci_words_of_an_unbound_vf_can_be_written(self, nic: Nic) -> None:
        """Bus mastering goes on, off, and back."""
        for vf in self.spare:
            before = nic.read_pci(self.pf, vf)
            if before is None or nic.vfs(self.pf)[vf].driver is not None:
                continue
            for command in (before.command | 0x0004, before.command & ~0x0004):
                wanted = msgspec.structs.replace(before, command=command)
                nic.write_pci(self.pf, vf, wanted)
                assert nic.read_pci(self.pf, vf) == wanted
            nic.write_pci(self.pf, vf, before)
            assert nic.read_pci(self.pf, vf) == before

    def test_a_reset_keeps_what_it_keeps(self, nic: Nic) -> None:
        """After an FLR the PF still holds the administrator's settings, but for those declared lost."""
        if not self.can_reset:
            pytest.skip("the spare VFs must not be reset, or cannot be")
        vf = self.spare[0]
        change = self.combined(nic, vf)
        self.set_up(nic, vf, change)
        others = self.others(nic)
        nic.reset_vf(self.pf, vf)
        lost = {FIELD_OF[attribute] for attribute in self.lost_at_reset}
        kept = [field for field in fields_of(change) if field not in lost]
        assert only(self.admin(nic, vf), kept) == only(change, kept)
        assert self.others(nic) == others

    def test_port_functions_are_for_switchdev(self, nic: Nic) -> None:
        """In legacy mode, or without an eswitch, a VF has no port function."""
        if nic.pf(self.pf).eswitch_mode in (EswitchMode.SWITCHDEV, EswitchMode.SWITCHDEV_INACTIVE):
            pytest.skip("the PF is in switchdev mode")
        for vf in self.spare:
            assert nic.read_function(self.pf, vf) is None
