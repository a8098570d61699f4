# SPDX-License-Identifier: Apache-2.0
"""The mailbox bits of both sides, reset indications, and the interrupts they raise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vferry.nic.ixgbe.hardware import Ixgbe82599
from vferry.nic.ixgbe.registers import pf, vf

VF = 17  # bit 1 of the second PFMBICR
PF_BOX = pf.PFMAILBOX.address(VF)
VF_BOX = vf.VFMAILBOX.offset
OWNERS = vf.VFMAILBOX_VFU | vf.VFMAILBOX_PFU


class Bench:
    """A device with its interrupts recorded."""

    def __init__(self) -> None:
        self.nic = Ixgbe82599(now=lambda: 0.0, permanent_address=bytes.fromhex("020000000001"), pools=18)
        self.pf_interrupts = 0
        self.vf_interrupts: list[tuple[int, int]] = []
        self.nic.on_pf_interrupt = self._pf
        self.nic.on_vf_interrupt = lambda index, vector: self.vf_interrupts.append((index, vector))
        self.bar = self.nic.vf_bar(VF)

    def _pf(self) -> None:
        self.pf_interrupts += 1

    def ready(self) -> Bench:
        """Unmask the mailbox causes of both sides; the VF's is vector 2."""
        self.nic.write(pf.CTRL_EXT.offset, pf.CTRL_EXT_PFRSTD)
        self.nic.write(pf.EIMS.offset, pf.EIMS_MAILBOX)
        self.bar.write(vf.VTIVAR_MISC.offset, vf.IVAR_ALLOC_VAL | 2)
        self.bar.write(vf.VTEIMS.offset, 4)
        self.bar.read(VF_BOX)
        return self


@pytest.fixture
def bench() -> Bench:
    return Bench().ready()


def test_vf_and_pf_exclude_each_other(bench: Bench) -> None:
    bench.bar.write(VF_BOX, vf.VFMAILBOX_VFU)
    bench.nic.write(PF_BOX, pf.PFMAILBOX_PFU)
    assert bench.bar.peek(VF_BOX) & OWNERS == vf.VFMAILBOX_VFU
    assert bench.nic.read(PF_BOX) == pf.PFMAILBOX_VFU
    bench.bar.write(VF_BOX, 0)
    bench.nic.write(PF_BOX, pf.PFMAILBOX_PFU)
    bench.bar.write(VF_BOX, vf.VFMAILBOX_VFU)
    assert bench.bar.peek(VF_BOX) & OWNERS == vf.VFMAILBOX_PFU
    assert bench.nic.read(PF_BOX) == pf.PFMAILBOX_PFU
    bench.nic.write(PF_BOX, 0)
    assert bench.nic.read(PF_BOX) == 0


def test_neither_side_gives_up_the_others(bench: Bench) -> None:
    bench.bar.write(VF_BOX, vf.VFMAILBOX_VFU)
    bench.nic.write(PF_BOX, 0)
    assert bench.nic.read(PF_BOX) == pf.PFMAILBOX_VFU
    bench.bar.write(VF_BOX, 0)
    bench.nic.write(PF_BOX, pf.PFMAILBOX_PFU)
    bench.bar.write(VF_BOX, vf.VFMAILBOX_PFU)
    bench.bar.write(VF_BOX, 0)
    assert bench.nic.read(PF_BOX) == pf.PFMAILBOX_PFU


def test_rvfu_takes_the_buffer_from_a_stuck_vf(bench: Bench) -> None:
    bench.bar.write(VF_BOX, vf.VFMAILBOX_VFU)
    bench.nic.write(PF_BOX, pf.PFMAILBOX_RVFU)
    assert bench.nic.read(PF_BOX) == 0
    bench.bar.write(VF_BOX, vf.VFMAILBOX_VFU)
    bench.nic.write(PF_BOX, pf.PFMAILBOX_RVFU | pf.PFMAILBOX_PFU)
    assert bench.nic.read(PF_BOX) == pf.PFMAILBOX_PFU


@pytest.mark.parametrize(
    ("written", "owner"),
    [(vf.VFMAILBOX_REQ, 0), (vf.VFMAILBOX_ACK, 0), (vf.VFMAILBOX_REQ | vf.VFMAILBOX_VFU, vf.VFMAILBOX_VFU)],
)
def test_the_vf_drops_the_buffer_unless_it_keeps_it(bench: Bench, written: int, owner: int) -> None:
    bench.bar.write(VF_BOX, vf.VFMAILBOX_VFU)
    bench.bar.write(VF_BOX, written)
    assert bench.bar.peek(VF_BOX) == owner


@pytest.mark.parametrize(
    ("written", "owner"),
    [(pf.PFMAILBOX_STS, 0), (pf.PFMAILBOX_ACK, 0), (pf.PFMAILBOX_STS | pf.PFMAILBOX_PFU, pf.PFMAILBOX_PFU)],
)
def test_the_pf_drops_the_buffer_unless_it_keeps_it(bench: Bench, written: int, owner: int) -> None:
    bench.nic.write(PF_BOX, pf.PFMAILBOX_PFU)
    bench.nic.write(PF_BOX, written)
    assert bench.nic.read(PF_BOX) == owner


@pytest.mark.parametrize(
    ("written", "cause"), [(vf.VFMAILBOX_REQ, pf.PFMBICR_VFREQ), (vf.VFMAILBOX_ACK, pf.PFMBICR_VFACK)]
)
def test_a_request_reaches_the_pf(bench: Bench, written: int, cause: int) -> None:
    bench.bar.write(VF_BOX, written)
    assert [bench.nic.read(pf.PFMBICR.address(word)) for word in range(4)] == [0, cause << 1, 0, 0]
    assert bench.pf_interrupts == 1
    assert bench.nic.read(pf.EICR.offset) == pf.EICR_MAILBOX
    assert bench.nic.read(pf.EICR.offset) == 0
    bench.nic.write(pf.PFMBICR.address(1), ~(cause << 1))
    assert bench.nic.read(pf.PFMBICR.address(1)) == cause << 1
    bench.nic.write(pf.PFMBICR.address(1), cause << 1)
    assert bench.nic.read(pf.PFMBICR.address(1)) == 0


def test_masks_of_the_pf(bench: Bench) -> None:
    bench.nic.write(pf.PFMBIMR.address(1), ~pf.PFMBICR_VFREQ << 1)
    bench.bar.write(VF_BOX, vf.VFMAILBOX_REQ)
    assert (bench.pf_interrupts, bench.nic.peek(pf.EICR.offset)) == (0, 0)
    assert bench.nic.read(pf.PFMBICR.address(1)) == pf.PFMBICR_VFREQ << 1
    bench.nic.write(pf.EIMC.offset, pf.EIMS_MAILBOX)
    assert bench.nic.read(pf.EIMS.offset) == 0
    bench.bar.write(VF_BOX, vf.VFMAILBOX_ACK)
    assert (bench.pf_interrupts, bench.nic.peek(pf.EICR.offset)) == (0, pf.EICR_MAILBOX)
    bench.nic.write(pf.EIMS.offset, pf.EIMS_MAILBOX)
    assert bench.pf_interrupts == 1


def test_causes_read_and_set_through_eics(bench: Bench) -> None:
    bench.nic.write(pf.EICS.offset, pf.EICR_MAILBOX | 1)
    assert bench.pf_interrupts == 1
    assert bench.nic.read(pf.EICS.offset) == bench.nic.read(pf.EICS.offset) == pf.EICR_MAILBOX | 1
    bench.nic.write(pf.EICR.offset, 1)
    assert bench.nic.read(pf.EICS.offset) == pf.EICR_MAILBOX


@pytest.mark.parametrize(
    ("written", "seen"), [(pf.PFMAILBOX_STS, vf.VFMAILBOX_PFSTS), (pf.PFMAILBOX_ACK, vf.VFMAILBOX_PFACK)]
)
def test_the_vf_hears_of_the_pf_and_reading_clears_it(bench: Bench, written: int, seen: int) -> None:
    bench.nic.write(PF_BOX, written)
    assert bench.vf_interrupts == [(VF, 2)]
    assert bench.bar.peek(VF_BOX) == bench.nic.read(pf.PVFMAILBOX.address(VF)) == seen
    assert bench.bar.read(VF_BOX) == seen
    assert bench.bar.read(VF_BOX) == 0


def test_the_buffer_is_one(bench: Bench) -> None:
    for word in range(16):
        bench.bar.write(vf.VFMBMEM.address(word), word + 1)
    assert [bench.nic.read(0x13000 + 64 * VF + 4 * word) for word in range(16)] == list(range(1, 17))
    bench.nic.write(0x13000 + 64 * VF, 0xABCD)
    assert bench.bar.read(0x200) == 0xABCD
    assert bench.nic.read(0x13000 + 64 * (VF - 1)) == 0


# --- resets --------------------------------------------------------------------------------------------------------


def test_rsti_until_the_pf_is_done() -> None:
    bench = Bench()
    assert bench.bar.read(VF_BOX) == vf.VFMAILBOX_RSTI
    assert bench.bar.read(VF_BOX) == vf.VFMAILBOX_RSTI
    bench.nic.flr(VF)
    assert bench.bar.read(VF_BOX) == vf.VFMAILBOX_RSTI
    bench.nic.write(pf.CTRL_EXT.offset, pf.CTRL_EXT_PFRSTD)
    assert bench.bar.read(VF_BOX) == vf.VFMAILBOX_RSTD
    bench.nic.write(pf.CTRL_EXT.offset, pf.CTRL_EXT_PFRSTD | pf.CTRL_EXT_DRV_LOAD)
    assert bench.bar.read(VF_BOX) == 0


def test_a_reset_of_the_device_brings_rsti_back(bench: Bench) -> None:
    bench.nic.write(pf.CTRL.offset, pf.CTRL_RST)
    assert bench.nic.read(pf.CTRL.offset) == 0
    assert bench.bar.read(VF_BOX) == vf.VFMAILBOX_RSTI
    assert bench.nic.read(pf.EIMS.offset) == 0


@pytest.mark.parametrize("how", ["flr", "software", "by the pf"])
def test_a_vf_reset_tells_both_sides(bench: Bench, how: str) -> None:
    bench.nic.write(PF_BOX, pf.PFMAILBOX_STS | pf.PFMAILBOX_ACK)
    bench.bar.write(VF_BOX, vf.VFMAILBOX_VFU)
    if how == "flr":
        bench.nic.flr(VF)
    elif how == "software":
        bench.bar.write(vf.VFCTRL.offset, vf.VFCTRL_RST)
    else:
        bench.nic.write(pf.PVFCTRL.address(VF), vf.VFCTRL_RST)
    assert bench.bar.read(vf.VFCTRL.offset) == 0
    assert bench.pf_interrupts == 1
    assert bench.nic.read(pf.EICR.offset) == pf.EICR_MAILBOX
    assert (bench.nic.read(pf.VFLRE.address(0)), bench.nic.read(pf.VFLRE.address(1))) == (1 << VF, 0)
    bench.nic.write(pf.VFLRE.address(0), 0)
    bench.nic.write(pf.VFLREC.address(0), ~(1 << VF))
    assert bench.nic.read(pf.VFLRE.address(0)) == 1 << VF
    bench.nic.write(pf.VFLREC.address(0), 1 << VF)
    assert bench.nic.read(pf.VFLRE.address(0)) == 0
    assert bench.bar.read(VF_BOX) == vf.VFMAILBOX_RSTD


def test_a_vf_reset_leaves_the_pf_its_buffer(bench: Bench) -> None:
    bench.nic.write(PF_BOX, pf.PFMAILBOX_PFU)
    bench.nic.write(0x13000 + 64 * VF, 5)
    bench.nic.flr(VF)
    assert bench.nic.read(PF_BOX) == pf.PFMAILBOX_PFU
    assert bench.bar.read(0x200) == 5


def test_the_second_vflre_is_elsewhere() -> None:
    nic = Ixgbe82599(now=lambda: 0.0, permanent_address=bytes.fromhex("020000000001"), pools=34)
    nic.flr(33)
    assert (nic.read(0x600), nic.read(0x1C0)) == (0, 2)
    nic.write(0x704, 2)
    assert nic.read(0x1C0) == 0


# --- the VF's interrupt registers ------------------------------------------------------------------------------------


def test_no_interrupt_without_a_valid_entry(bench: Bench) -> None:
    for entry in (2, vf.IVAR_ALLOC_VAL | 3):
        bench.bar.write(vf.VTIVAR_MISC.offset, entry)
        bench.nic.write(PF_BOX, pf.PFMAILBOX_STS)
    assert (bench.vf_interrupts, bench.bar.read(vf.VTEICR.offset)) == ([], 0)


def test_a_masked_cause_waits(bench: Bench) -> None:
    bench.bar.write(vf.VTEIMC.offset, 7)
    assert (bench.bar.read(vf.VTEIMS.offset), bench.bar.read(vf.VTEIMC.offset)) == (0, 0)
    bench.nic.write(PF_BOX, pf.PFMAILBOX_STS)
    assert (bench.vf_interrupts, bench.bar.peek(vf.VTEICR.offset)) == ([], 4)
    bench.bar.write(vf.VTEIMS.offset, 7)
    assert bench.vf_interrupts == [(VF, 2)]
    assert bench.nic.read(pf.PVTEICR.address(VF)) == 4
    assert bench.bar.read(vf.VTEICR.offset) == 0


def test_only_three_causes_are_there(bench: Bench) -> None:
    bench.bar.write(vf.VTEIMS.offset, 0xFFFFFFFF)
    bench.bar.write(vf.VTEICS.offset, 0xFFFFFFFF)
    assert (bench.bar.read(vf.VTEIMS.offset), bench.bar.peek(vf.VTEICR.offset)) == (7, 7)
    assert bench.vf_interrupts == [(VF, 0), (VF, 1), (VF, 2)]
    bench.bar.write(vf.VTEICR.offset, 5)
    assert bench.bar.read(vf.VTEICR.offset) == 2


def test_a_vector_clears_and_masks_itself_when_told(bench: Bench) -> None:
    bench.bar.write(vf.VTEIAC.offset, 4)
    bench.bar.write(vf.VTEIAM.offset, 4)
    bench.nic.write(PF_BOX, pf.PFMAILBOX_STS)
    assert (bench.bar.peek(vf.VTEICR.offset), bench.bar.read(vf.VTEIMS.offset)) == (0, 0)
    bench.nic.write(PF_BOX, pf.PFMAILBOX_STS)
    assert bench.vf_interrupts == [(VF, 2)]
    bench.bar.write(vf.VTEIMS.offset, 4)
    assert bench.vf_interrupts == [(VF, 2), (VF, 2)]


def test_the_pf_works_them_through_its_views(bench: Bench) -> None:
    bench.nic.write(pf.PVTEIMC.address(VF), 4)
    assert bench.bar.read(vf.VTEIMS.offset) == 0
    bench.nic.write(pf.PVTEICS.address(VF), 6)
    bench.nic.write(pf.PVTEIMS.address(VF), 2)
    assert (bench.bar.read(vf.VTEIMS.offset), bench.vf_interrupts) == (2, [(VF, 1)])
    for register in (pf.PVTEICS, pf.PVTEIMS, pf.PVTEIMC, pf.PFMAILBOX, pf.PVFCTRL):
        bench.nic.write(register.address(63), 0xFFFFFFFF)  # a pool without a VF
    assert bench.vf_interrupts == [(VF, 1)]


def test_a_vf_reset_masks_its_interrupts(bench: Bench) -> None:
    bench.nic.flr(VF)
    bench.nic.write(PF_BOX, pf.PFMAILBOX_STS)
    names = (vf.VTEICR, vf.VTEIMS, vf.VTIVAR_MISC, vf.VTEIAC, vf.VTEIAM)
    assert ([bench.bar.read(item.offset) for item in names], bench.vf_interrupts) == ([0] * 5, [])


STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 0xFF)), max_size=40)
SHARED = Bench()


@given(STEPS)
def test_never_two_owners(steps: list[tuple[bool, int]]) -> None:
    SHARED.nic.power_on()
    SHARED.nic.write(pf.CTRL_EXT.offset, pf.CTRL_EXT_PFRSTD)
    for by_pf, value in steps:
        before = SHARED.bar.peek(VF_BOX)
        if by_pf:
            SHARED.nic.write(PF_BOX, value)
        else:
            SHARED.bar.write(VF_BOX, value)
        after = SHARED.bar.peek(VF_BOX)
        assert after & OWNERS != OWNERS
        assert after & OWNERS == SHARED.nic.read(PF_BOX)
        own = vf.VFMAILBOX_PFU if by_pf else vf.VFMAILBOX_VFU
        if not before & OWNERS & ~own:  # free, or its own: it gets what it asks for
            assert after & own == value & own
        assert after & vf.VFMAILBOX_RSTI == 0
