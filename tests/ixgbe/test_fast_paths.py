# SPDX-License-Identifier: Apache-2.0
"""What makes the register file fast changes nothing of what it does: tables by offset, and resets by runs of words."""

from __future__ import annotations

import pytest

from vferry.nic.ixgbe.register_file import ABSENT, AccessError, RegisterFile
from vferry.nic.ixgbe.registers import pf
from vferry.nic.ixgbe.registers.declare import Access, AddressMap, Reset, register

WORD = register("WORD", 0x10, count=2, source="test")
HIDDEN = register("HIDDEN", 0x40, access=Access.W1C, source="test")
SMALL = AddressMap("small", 0x40, (WORD,), (HIDDEN,))
FULL = 0xFFFFFFFF


@pytest.mark.parametrize("kind", [Reset.POWER_ON, Reset.PF_SOFTWARE, Reset.FLR, Reset.VF_SOFTWARE])
def test_a_reset_by_runs_is_a_reset_word_by_word(kind: Reset) -> None:
    bar = RegisterFile(pf.PF_MAP)
    bar.words[:] = [FULL] * len(bar.words)
    bar.reset(kind)
    expected = [FULL] * len(bar.words)
    for item in (*pf.PF_MAP.registers, *pf.PF_MAP.hidden):
        if item.alias is None and item.resets & kind:
            for offset in item.addresses:
                expected[offset >> 2] = item.reset
    assert bar.words == expected


def test_a_reset_finds_a_word_that_was_moved() -> None:
    bar = RegisterFile(SMALL)
    bar.share({0x10: 0x14 >> 2, 0x14: ABSENT})
    bar.words[0x10 >> 2] = bar.words[0x14 >> 2] = 7
    bar.reset(Reset.POWER_ON)
    assert (bar.words[0x10 >> 2], bar.read(0x10)) == (7, 0)


def test_a_word_that_goes_away_is_gone_for_both() -> None:
    owner = RegisterFile(SMALL)
    owner.poke(0x10, 5)
    other = RegisterFile(SMALL, words=owner.words, shared={0x10: 0x10 >> 2})
    assert other.read(0x10) == 5
    other.share({0x10: ABSENT})
    other.write(0x10, 6)
    assert (other.read(0x10), other.peek(0x10), owner.read(0x10)) == (0, 0, 5)
    assert (other.stray_reads, other.stray_writes) == (1, 1)
    other.share({0x10: 0x10 >> 2})
    assert other.read(0x10) == 5


@pytest.mark.parametrize("own", [True, False])
def test_software_does_not_reach_what_is_hidden_even_if_it_is_hooked(own: bool) -> None:
    bar = RegisterFile(SMALL) if own else RegisterFile(SMALL, words=[0], shared={0x10: 0})
    bar.hook(HIDDEN, effect=lambda _index, _written: None)
    for refused in (lambda: bar.read(0x40), lambda: bar.write(0x40, 1)):
        with pytest.raises(AccessError) as found:
            refused()
        assert found.value.__suppress_context__  # how the table was looked into is nobody's business
    bar.poke(0x40, 3)
    assert bar.peek(0x40) == 3
