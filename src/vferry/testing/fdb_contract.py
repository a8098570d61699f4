# SPDX-License-Identifier: Apache-2.0
"""The part of :class:`~vferry.testing.nic_contract.NicContract` about a PF's own forwarding entries; needs pytest."""
# ruff: noqa: S101 - asserts are how tests speak

from __future__ import annotations

import errno
from typing import ClassVar

import pytest

from vferry.core.model import ZERO_MAC, Mac
from vferry.ports.nic import Nic, NoSuchFunctionError, NotSupportedError, RejectedError

__all__ = ["FDB_MACS", "FdbContract"]

FDB_MACS = ("02:76:66:72:7a:02", "02:76:66:72:7a:01")
"""Addresses that nobody uses, not in their order."""
NO_FDB_MACS = (ZERO_MAC, "01:00:5e:00:00:01", "03:76:66:72:7a:01", "ff:ff:ff:ff:ff:ff")
"""Addresses that can be no unicast forwarding entry."""


class FdbContract:
    """Tests of the forwarding entries of one PF's own pool."""

    pf: ClassVar[str]
    """The PF's name."""
    has_fdb: ClassVar[bool] = True
    """False: the PF has no forwarding entries of its own."""

    def fdb(self, nic: Nic) -> tuple[Mac, ...]:
        """Read the PF's own forwarding entries; none where it has no such thing."""
        return nic.read_fdb(self.pf) if self.has_fdb else ()

    def give_back_fdb(self, nic: Nic, before: tuple[Mac, ...]) -> None:
        """Make the PF's own forwarding entries those of before."""
        now = self.fdb(nic)
        for mac in set(now) - set(before):
            nic.remove_fdb(self.pf, mac)
        for mac in set(before) - set(now):
            nic.add_fdb(self.pf, mac)

    def need_fdb(self) -> None:
        """Skip where the PF has no forwarding entries of its own."""
        if not self.has_fdb:
            pytest.skip("the PF has no forwarding entries of its own")

    def test_unknown_pfs_have_no_forwarding_entries(self, nic: Nic) -> None:
        """A PF that is not there is named by a typed error."""
        with pytest.raises(NoSuchFunctionError):
            nic.read_fdb("no-such-pf")
        for change in (nic.add_fdb, nic.remove_fdb):
            with pytest.raises(NoSuchFunctionError):
                change("no-such-pf", FDB_MACS[0])

    def test_forwarding_entries_come_and_go(self, nic: Nic) -> None:
        """What is added is listed in order, what is removed is not, and neither concerns anything else."""
        self.need_fdb()
        before, reading = self.fdb(nic), nic.read(self.pf)
        first, second = FDB_MACS
        nic.add_fdb(self.pf, first)
        assert self.fdb(nic) == tuple(sorted({*before, first}))
        nic.add_fdb(self.pf, second)
        assert self.fdb(nic) == tuple(sorted({*before, first, second}))
        nic.remove_fdb(self.pf, first)
        assert self.fdb(nic) == tuple(sorted({*before, second}))
        nic.remove_fdb(self.pf, second)
        assert self.fdb(nic) == before
        assert nic.read(self.pf) == reading

    def test_a_forwarding_entry_is_there_once(self, nic: Nic) -> None:
        """Adding it again changes nothing, and one removal is enough; removing it again is no error."""
        self.need_fdb()
        before = self.fdb(nic)
        for _again in range(2):
            nic.add_fdb(self.pf, FDB_MACS[0])
            assert self.fdb(nic) == tuple(sorted({*before, FDB_MACS[0]}))
        for _again in range(2):
            nic.remove_fdb(self.pf, FDB_MACS[0])
            assert self.fdb(nic) == before

    def test_the_pfs_own_address_is_no_forwarding_entry(self, nic: Nic) -> None:
        """The PF receives for it anyway: it is not listed, and adding it changes nothing."""
        self.need_fdb()
        before, own = self.fdb(nic), nic.pf(self.pf).address
        assert own is not None
        assert own not in before
        nic.add_fdb(self.pf, own)
        assert self.fdb(nic) == before
        assert nic.pf(self.pf).address == own

    @pytest.mark.parametrize("mac", NO_FDB_MACS)
    def test_only_unicast_addresses_are_forwarded(self, nic: Nic, mac: Mac) -> None:
        """A group address and the zero address are refused, when adding and when removing."""
        self.need_fdb()
        before = self.fdb(nic)
        for change in (nic.add_fdb, nic.remove_fdb):
            with pytest.raises(RejectedError) as refused:
                change(self.pf, mac)
            assert refused.value.errno == errno.EINVAL
        assert self.fdb(nic) == before

    def test_without_forwarding_entries_all_of_it_is_refused(self, nic: Nic) -> None:
        """A PF that has none says so: nothing listed would look like none set."""
        if self.has_fdb:
            pytest.skip("the PF has forwarding entries of its own")
        with pytest.raises(NotSupportedError):
            nic.read_fdb(self.pf)
        for change in (nic.add_fdb, nic.remove_fdb):
            with pytest.raises(NotSupportedError):
                change(self.pf, FDB_MACS[0])
