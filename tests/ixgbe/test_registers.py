# SPDX-License-Identifier: Apache-2.0
"""Declarations: what they refuse, and that the two maps are what the sources say."""

from __future__ import annotations

import pytest

from vferry.nic.ixgbe.registers import pf, vf
from vferry.nic.ixgbe.registers.declare import (
    ALL_RESETS,
    Access,
    AddressMap,
    Alias,
    DeclarationError,
    Field,
    Register,
    RegisterIndexError,
    Reset,
    register,
)

BOTH = [pf.PF_MAP, vf.VF_MAP]


def test_fields_cut_and_insert() -> None:
    field = Field("MFS", 16, 16)
    assert field.mask == 0xFFFF0000
    assert field.get(0x05EE1234) == 0x05EE
    assert field.insert(0x05EE1234, 0x12600) == 0x26001234


def test_a_field_may_differ_from_its_register() -> None:
    made = register("R", 0, access=Access.RO, fields=(Field("GO", 4, 2, Access.SC), Field("X", 0, 2)), source="test")
    assert made.mask(Access.SC) == 0x30
    assert made.mask(Access.RO) == 0xFFFFFFCF
    assert made.field("GO").low == 4
    with pytest.raises(KeyError):
        made.field("NONE")


@pytest.mark.parametrize(
    ("declare", "why"),
    [
        (lambda: register("R", 2, source="t"), "boundary"),
        (lambda: register("R", 0, count=2, stride=6, source="t"), "boundary"),
        (lambda: register("R", 0, count=0, source="t"), "elements"),
        (lambda: register("R", 0, reset=1 << 32, source="t"), "32 bits"),
        (lambda: register("R", 0, fields=(Field("A", 30, 3),), source="t"), "32 bits"),
        (lambda: register("R", 0, fields=(Field("A", 0, 0),), source="t"), "32 bits"),
        (lambda: register("R", 0, fields=(Field("A", 0, 4), Field("B", 3, 1)), source="t"), "overlaps"),
        (lambda: register("R", 0, count=2, source="t", alias=Alias(register("S", 8, source="t"))), "more elements"),
    ],
)
def test_a_wrong_register_is_refused(declare: object, why: str) -> None:
    assert callable(declare)
    with pytest.raises(DeclarationError, match=why):
        declare()


@pytest.mark.parametrize(
    ("size", "registers", "why"),
    [
        (0x100, (register("A", 0, count=4, source="t"), register("B", 12, source="t")), "overlaps A"),
        (0x100, (register("A", 0x80, then=((0x80, 1),), source="t"),), "overlaps A"),
        (0x100, (register("A", 0x100, source="t"),), "outside"),
        (0x100, (register("A", 0, source="t"), register("A", 4, source="t")), "twice"),
        (0x180, (), "power of two"),
    ],
)
def test_a_wrong_map_is_refused(size: int, registers: tuple[Register, ...], why: str) -> None:
    with pytest.raises(DeclarationError, match=why):
        AddressMap("BAR", size, registers)


def test_what_is_hidden_lies_behind_the_bar() -> None:
    inside = register("A", 0x10, source="t")
    with pytest.raises(DeclarationError, match="outside"):
        AddressMap("BAR", 0x100, (), (inside,))
    behind = register("B", 0x100, count=3, source="t")
    assert AddressMap("BAR", 0x100, (inside,), (behind,)).words == 0x10C // 4


def test_a_map_finds_what_is_at_an_offset() -> None:
    assert pf.PF_MAP.at(0xA280) == (pf.RAL, 16)
    assert pf.PF_MAP.at(0x547C) == (pf.RAH, 15)
    assert pf.PF_MAP.at(0x0004) is None
    assert pf.PF_MAP.named("MHADD") is pf.MAXFRS
    with pytest.raises(RegisterIndexError, match="0 to 127"):
        pf.RAL.address(128)
    with pytest.raises(RegisterIndexError):
        pf.RAL.address(-1)


@pytest.mark.parametrize("which", BOTH, ids=lambda which: which.name)
def test_every_address_is_found_and_every_register_says_its_source(which: AddressMap) -> None:
    for item in which:
        assert item.source
        assert all(which.at(address) == (item, index) for index, address in enumerate(item.addresses))


# Section 2 and 3 of the sources again, written down independently: name, index, address.
KNOWN = [
    ("VT_CTL", 0, 0x51B0), ("VFRE", 1, 0x51E4), ("VFTE", 1, 0x8114), ("VMECM", 1, 0x8794), ("SSVPC", 0, 0x8780),
    ("PFVFSPOOF", 7, 0x821C), ("PFDTXGSWC", 0, 0x8220), ("VMOLR", 63, 0xF0FC), ("VMVIR", 63, 0x80FC),
    ("VLVF", 63, 0xF1FC), ("VLVFB", 127, 0xF3FC), ("VFTA", 127, 0xA1FC), ("VLNCTRL", 0, 0x5088), ("RAL", 15, 0x5478),
    ("RAL", 127, 0xA5F8), ("RAH", 16, 0xA284), ("MPSAR_LO", 127, 0xA9F8), ("MPSAR_HI", 1, 0xA60C), ("MTA", 127, 0x53FC),
    ("MCSTCTRL", 0, 0x5090), ("UTA", 127, 0xF5FC), ("MHADD", 0, 0x4268), ("HLREG0", 0, 0x4240), ("FCTRL", 0, 0x5080),
    ("MRQC", 0, 0x5818), ("MTQC", 0, 0x8120), ("GCR_EXT", 0, 0x11050), ("QDE", 0, 0x2F04), ("RTTDQSEL", 0, 0x4904),
    ("RTTBCNRC", 0, 0x4984), ("RTTBCNRM", 0, 0x4980), ("CTRL_EXT", 0, 0x18), ("ETQF", 7, 0x5144),
    ("WQBR_RX", 3, 0x2FBC),
    ("WQBR_TX", 3, 0x813C), ("LVMMC_RX", 0, 0x2FA8), ("LVMMC_TX", 0, 0x8108), ("PFMAILBOX", 63, 0x4BFC),
    ("PFMBMEM", 63 * 16, 0x13FC0), ("PFMBICR", 3, 0x71C), ("PFMBIMR", 3, 0x72C), ("VFLRE", 0, 0x600),
    ("VFLRE", 1, 0x1C0),
    ("VFLREC", 1, 0x704), ("PVFMAILBOX", 63, 0x4CFC), ("PVFTDBAL", 127, 0x7FC0), ("PVFTDT", 2, 0x6098),
    ("PVFTXDCTL", 1, 0x6068), ("PVFTDWBAL", 0, 0x6038), ("PVFTDWBAH", 0, 0x603C), ("PVFDCA_TXCTRL", 0, 0x600C),
    ("PVFRDBAL", 63, 0x1FC0), ("PVFRDBAL", 64, 0xD000), ("PVFRDH", 64, 0xD010), ("PVFRXDCTL", 127, 0xDFE8),
    ("PVFSRRCTL", 1, 0x1054), ("PVFRSCCTL", 0, 0x102C), ("SRRCTL", 15, 0x213C), ("PVFPSRTYPE", 63, 0xEAFC),
    ("PVFCTRL", 1, 0x304), ("PVFGPRC", 63, 0x1FDC), ("PVFGORC_LSB", 0, 0x1020), ("PVFGORC_MSB", 1, 0xD060),
    ("PVFMPRC", 0, 0xD01C), ("PVFGPTC", 63, 0x83FC), ("PVFGOTC_LSB", 63, 0x85F8), ("PVFGOTC_MSB", 0, 0x8404),
    ("EICR", 0, 0x800), ("EIMS", 0, 0x880), ("EIMC", 0, 0x888), ("EICS", 0, 0x808), ("LINKS", 0, 0x42A4),
]  # fmt: skip
KNOWN_VF = [
    ("VFCTRL", 0, 0), ("VFSTATUS", 0, 8), ("VFLINKS", 0, 0x10), ("VFFRTIMER", 0, 0x48), ("VTEICR", 0, 0x100),
    ("VTEICS", 0, 0x104), ("VTEIMS", 0, 0x108), ("VTEIMC", 0, 0x10C), ("VTEIAC", 0, 0x110), ("VTEIAM", 0, 0x114),
    ("VTIVAR", 3, 0x12C), ("VTIVAR_MISC", 0, 0x140), ("VTRSCINT", 1, 0x184), ("VFMBMEM", 15, 0x23C),
    ("VFMAILBOX", 0, 0x2FC), ("VFPSRTYPE", 0, 0x300), ("VTEITR", 2, 0x828), ("VFRDBAL", 7, 0x11C0),
    ("VFRDH", 1, 0x1050),
    ("VFSRRCTL", 0, 0x1014), ("VFRDT", 0, 0x1018), ("VFRXDCTL", 0, 0x1028), ("VFRSCCTL", 0, 0x102C),
    ("VFGPRC", 0, 0x101C), ("VFGORC_LSB", 0, 0x1020), ("VFGORC_MSB", 0, 0x1024), ("VFMPRC", 0, 0x1034),
    ("VFTDH", 1, 0x2050), ("VFTXDCTL", 0, 0x2028), ("VFTDWBAH", 7, 0x21FC), ("VFGPTC", 0, 0x201C),
    ("VFGOTC_LSB", 0, 0x2020), ("VFGOTC_MSB", 0, 0x2024), ("VFRXMEMWRAP", 0, 0x3190),
]  # fmt: skip


@pytest.mark.parametrize(
    ("which", "known"), [(pf.PF_MAP, KNOWN), (vf.VF_MAP, KNOWN_VF)], ids=lambda part: getattr(part, "name", "")
)
def test_addresses_are_those_of_the_sources(which: AddressMap, known: list[tuple[str, int, int]]) -> None:
    assert [(name, index, which.named(name).address(index)) for name, index, _ in known] == known


def test_the_two_bars_have_the_sizes_of_the_device() -> None:
    assert (pf.PF_MAP.size, vf.VF_MAP.size) == (128 * 1024, 16 * 1024)


@pytest.mark.parametrize("view", vf.VIEWS, ids=lambda view: view.vf.name)
def test_two_views_of_one_storage_agree(view: vf.View) -> None:
    assert view.vf.reset == view.pf.reset
    assert view.vf.read_clears in (view.pf.read_clears, vf.VFMAILBOX_R2C_BITS)
    if view.per is not vf.Per.POOL:
        assert view.pf.count == {vf.Per.DEVICE: 1, vf.Per.POOL_WORDS: 64 * 16, vf.Per.QUEUE: 128}[view.per]
    else:
        assert (view.vf.count, view.pf.count) == (1, 64)


def test_what_vflr_leaves_alone() -> None:
    """82599 Specification Update rev 3.1, software clarification 5."""
    named = "VFRDH VFRDT VFTDH VFTDT VFPSRTYPE VFSRRCTL VFRXDCTL VFTXDCTL VFTDWBAL VFTDWBAH VFDCA_RXCTRL VFDCA_TXCTRL"
    assert {item.name for item in vf.KEPT} == set(named.split())
    assert all(not item.resets & (Reset.FLR | Reset.VF_SOFTWARE) for item in vf.KEPT)
    for item in (vf.VFRDBAL, vf.VFTDLEN, vf.VTEIMS, vf.VTIVAR_MISC, vf.VFRSCCTL):
        assert item.resets == ALL_RESETS


def test_the_mailbox_bits_that_a_read_clears() -> None:
    assert vf.VFMAILBOX.read_clears == 0xB0
