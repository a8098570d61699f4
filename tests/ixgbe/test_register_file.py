# SPDX-License-Identifier: Apache-2.0
"""The register file: each access type, peeks without effect, and what no sequence of accesses may do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vferry.nic.ixgbe.hardware import Ixgbe82599
from vferry.nic.ixgbe.register_file import ABSENT, AccessError, RegisterFile
from vferry.nic.ixgbe.registers import pf, vf
from vferry.nic.ixgbe.registers.declare import Access, AddressMap, Alias, Field, Register, Reset, register

ONE = {access: register(access.name, 4 * place, access=access, source="test") for place, access in enumerate(Access)}
BASE = register("BASE", 0x40, count=4, reset=7, resets=Reset.POWER_ON, source="test")
SMALL = AddressMap(
    "small",
    0x100,
    (
        *ONE.values(),
        BASE,
        register("AGAIN", 0x80, count=2, source="test", alias=Alias(BASE, 1)),
        register("MIXED", 0xC0, access=Access.RO, fields=(Field("A", 0, 4, Access.RW),), source="test"),
    ),
    (register("HIDDEN", 0x100, reset=9, source="test"),),
)


@pytest.fixture
def small() -> RegisterFile:
    return RegisterFile(SMALL)


@pytest.fixture
def nic() -> Ixgbe82599:
    return Ixgbe82599(now=lambda: 1.5, permanent_address=bytes.fromhex("020000000001"), pools=2)


@pytest.mark.parametrize(
    ("access", "reads", "after_read", "after_write"),
    [
        (Access.RO, 0b1100, 0b1100, 0b1100),
        (Access.RW, 0b1100, 0b1100, 0b1010),
        (Access.RC, 0b1100, 0, 0b1100),
        (Access.RC_W, 0b1100, 0, 0b1010),
        (Access.RC_W1C, 0b1100, 0, 0b0100),
        (Access.W1C, 0b1100, 0b1100, 0b0100),
        (Access.W1S, 0b1100, 0b1100, 0b1110),
        (Access.WO, 0, 0b1100, 0b1100),
        (Access.SC, 0, 0b1100, 0b1100),
    ],
)
def test_access_types(small: RegisterFile, access: Access, reads: int, after_read: int, after_write: int) -> None:
    offset = ONE[access].offset
    small.poke(offset, 0b1100)
    assert small.peek(offset) == reads
    assert small.read(offset) == reads
    assert small.words[offset >> 2] == after_read
    small.poke(offset, 0b1100)
    small.write(offset, 0b1010)
    assert small.words[offset >> 2] == after_write


def test_a_write_is_cut_to_32_bits(small: RegisterFile) -> None:
    small.write(ONE[Access.RW].offset, 0x1_2345_6789)
    assert small.read(ONE[Access.RW].offset) == 0x23456789
    small.write(0xC0, -1)
    assert small.read(0xC0) == 0xF


@pytest.mark.parametrize("offset", [-4, 1, 2, 0x42, 0x100, 0x104, 1 << 40])
def test_no_bus_makes_such_an_access(small: RegisterFile, offset: int) -> None:
    with pytest.raises(AccessError) as refused:
        small.read(offset)
    assert (refused.value.bar, refused.value.offset) == ("small", offset)
    with pytest.raises(AccessError):
        small.write(offset, 1)


def test_peek_reaches_what_is_hidden_and_no_further(small: RegisterFile) -> None:
    assert small.peek(0x100) == 9
    for offset in (0x104, -4, 0x101):
        with pytest.raises(AccessError):
            small.peek(offset)
        with pytest.raises(AccessError):
            small.poke(offset, 1)


def test_where_nothing_is_declared(small: RegisterFile) -> None:
    before = list(small.words)
    small.write(0xFC, 1)
    small.poke(0xFC, 1)
    assert (small.read(0xFC), small.peek(0xFC)) == (0, 0)
    assert (small.stray_reads, small.stray_writes) == (1, 1)
    assert small.words == before


def test_an_alias_is_the_same_storage(small: RegisterFile) -> None:
    small.write(0x84, 3)
    assert small.read(BASE.address(2)) == 3
    assert small.read(0x80) == 7


def test_hooks(small: RegisterFile) -> None:
    seen: list[tuple[int, int, int]] = []
    small.hook(BASE, guard=lambda index, stored, written: stored | written, view=lambda index: 100 + index)
    small.hook(BASE, effect=lambda index, written: seen.append((index, written, small.words[0x48 >> 2])))
    small.write(BASE.address(2), 8)
    assert seen == [(2, 8, 15)]  # the effect runs when the word is stored
    assert small.read(BASE.address(3)) == small.peek(BASE.address(3)) == 103
    assert small.read(0x80) == 7  # an alias is hooked on its own
    with pytest.raises(ValueError, match="computed"):
        small.hook(ONE[Access.RC], view=lambda index: 0)


def test_a_hook_in_one_file_is_not_in_another(small: RegisterFile) -> None:
    small.hook(BASE, view=lambda index: 1)
    assert RegisterFile(SMALL).read(BASE.offset) == 7


def test_reset_is_by_kind(small: RegisterFile) -> None:
    small.write(BASE.offset, 1)
    small.write(ONE[Access.RW].offset, 1)
    small.reset(Reset.FLR)
    assert small.read(BASE.offset) == 1
    small.reset(Reset.PF_SOFTWARE)
    assert (small.read(BASE.offset), small.read(ONE[Access.RW].offset)) == (1, 0)
    small.reset(Reset.POWER_ON)
    assert small.read(BASE.offset) == 7


def test_a_second_file_shares_words(small: RegisterFile) -> None:
    count = len(small.words)
    other = RegisterFile(SMALL, words=small.words, shared={0x40: 0x44 >> 2, 0x44: ABSENT})
    other.write(0x40, 5)
    assert small.read(0x44) == 5
    other.write(0x44, 6)
    assert (other.read(0x44), other.stray_writes, other.stray_reads) == (0, 1, 1)
    other.write(0x48, 8)
    assert small.read(0x48) == 7
    assert other.read(0x84) == 8
    assert len(small.words) == count + len(Access) + 2 + 1 + 1
    other.share({0x44: 0x4C >> 2})
    assert other.read(0x44) == 7


# --- a save without side effects -----------------------------------------------------------------------------------


def fill(nic: Ixgbe82599) -> None:
    """Set every bit of the storage, so that whatever a read clears is there to be cleared."""
    nic.bar.words[:] = [0xFFFFFFFF] * len(nic.bar.words)


def test_peeking_every_register_changes_not_one_word(nic: Ixgbe82599) -> None:
    fill(nic)
    before = list(nic.bar.words)
    for offset in range(0, 4 * pf.PF_MAP.words, 4):
        nic.peek(offset)
    for index in range(nic.pools):
        for offset in range(0, vf.VF_MAP.size, 4):
            nic.vf_peek(index, offset)
    assert nic.bar.words == before


def bars(nic: Ixgbe82599) -> list[RegisterFile]:
    return [nic.bar, nic.vf_bar(1)]


@pytest.mark.parametrize("which", [0, 1], ids=["pf", "vf"])
def test_reads_with_effect_are_exactly_those_that_have_one(nic: Ixgbe82599, which: int) -> None:
    bar = bars(nic)[which]
    fill(nic)
    found: list[str] = []
    for item in bar.map:
        for offset in item.addresses:
            before = list(bar.words)
            bar.read(offset)
            if bar.words != before:
                found.append(item.name)
                break
    assert tuple(found) == bar.reads_with_effect()


def test_reads_with_effect_by_name(nic: Ixgbe82599) -> None:
    assert nic.bar.reads_with_effect() == ("EICR", "SSVPC", "LVMMC_RX", "LVMMC_TX", "PVTEICR")
    assert nic.vf_bar(0).reads_with_effect() == ("VTEICR", "VFMAILBOX")


@pytest.mark.parametrize("which", [0, 1], ids=["pf", "vf"])
def test_a_peek_tells_what_a_read_would(nic: Ixgbe82599, which: int) -> None:
    bar = bars(nic)[which]
    fill(nic)
    for item in bar.map:
        for offset in item.addresses:
            assert bar.peek(offset) == bar.read(offset)


# --- random accesses -----------------------------------------------------------------------------------------------

NIC = Ixgbe82599(now=lambda: 2.0, permanent_address=bytes.fromhex("020000000001"), pools=3)
WORDS = st.one_of(st.integers(0, 0xFFFFFFFF), st.sampled_from([0, 0xFFFFFFFF]), st.integers(0, 31).map((1).__lshift__))
PF_OFFSETS = st.one_of(
    st.sampled_from([offset for item in pf.PF_MAP for offset in item.addresses[:: max(1, item.count // 4)]]),
    st.integers(0, pf.BAR_SIZE // 4 - 1).map((4).__mul__),
)
VF_OFFSETS = st.one_of(
    st.sampled_from([offset for item in vf.VF_MAP for offset in item.addresses]),
    st.integers(0, vf.BAR_SIZE // 4 - 1).map((4).__mul__),
)
ACCESSES = st.lists(
    st.one_of(
        st.tuples(st.just(-1), PF_OFFSETS, st.none() | WORDS),
        st.tuples(st.integers(0, 2), VF_OFFSETS, st.none() | WORDS),
    ),
    max_size=40,
)


@given(ACCESSES)
def test_no_sequence_of_accesses_raises_or_leaves_32_bits(accesses: list[tuple[int, int, int | None]]) -> None:
    NIC.power_on()
    for function, offset, value in accesses:
        bar = NIC.bar if function < 0 else NIC.vf_bar(function)
        if value is None:
            assert 0 <= bar.read(offset) <= 0xFFFFFFFF
        else:
            bar.write(offset, value)
    assert all(0 <= word <= 0xFFFFFFFF for word in NIC.bar.words)


@given(st.lists(st.tuples(st.sampled_from(list(SMALL)), st.none() | WORDS), max_size=40), st.data())
def test_access_types_hold_for_any_sequence(accesses: list[tuple[Register, int | None]], data: st.DataObject) -> None:
    bar = RegisterFile(SMALL)
    for item in SMALL:
        bar.poke(item.offset, data.draw(WORDS))
    for item, value in accesses:
        offset = item.offset
        before = bar.words[bar.slot(offset)]
        if value is None:
            bar.read(offset)
        else:
            bar.write(offset, value)
        after = bar.words[bar.slot(offset)]
        assert (before ^ after) & item.mask(Access.RO, Access.WO, Access.SC) == 0
        assert after & ~before & item.mask(Access.W1C, Access.RC, Access.RC_W1C) == 0
        assert before & ~after & item.mask(Access.W1S) == 0
        if value is not None:
            assert (after ^ value) & item.mask(Access.RW, Access.RC_W) == 0
            assert before & ~after & item.mask(Access.W1C, Access.RC_W1C) & ~value == 0


@given(ACCESSES)
def test_read_only_bits_of_the_device_never_change_by_a_write(accesses: list[tuple[int, int, int | None]]) -> None:
    """Some registers are changed by writing another one, so each access is judged by itself."""
    NIC.power_on()
    for function, offset, value in accesses:
        bar = NIC.bar if function < 0 else NIC.vf_bar(function)
        place = bar.map.at(offset)
        if value is None or place is None:
            continue
        before = bar.peek(offset)
        bar.write(offset, value)
        assert (before ^ bar.peek(offset)) & place[0].mask(Access.RO) == 0
        assert bar.peek(offset) & ~before & place[0].mask(Access.W1C, Access.RC_W1C) == 0
