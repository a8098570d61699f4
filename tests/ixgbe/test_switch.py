# SPDX-License-Identifier: Apache-2.0
"""The internal switch, rule by rule, and against a slow one that asks each register about each frame."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vferry.nic.ixgbe.switch import FILTER_OFFSETS, WIRE, Switch, SwitchLoss

# Addresses and bits are written out here (ixgbe_type.h, Linux 6.12), so that a wrong declaration is found too.
VT_CTL, PFDTXGSWC, VLNCTRL, MCSTCTRL, FCTRL, MAXFRS = 0x51B0, 0x8220, 0x5088, 0x5090, 0x5080, 0x4268
VFRE, VFTE, VMECM, SSVPC, PFVFSPOOF = 0x51E0, 0x8110, 0x8790, 0x8780, 0x8200
VMOLR, VMVIR, VLVF, VLVFB, VFTA, MTA, UTA = 0xF000, 0x8000, 0xF100, 0xF200, 0xA000, 0x5200, 0xF400
UPE, VPE, AUPE, ROMPE, ROPE, BAM, MPE = (1 << bit for bit in range(22, 29))
VALID = 1 << 31
VFE = 1 << 30
PORT_VLAN = 1 << 30

BROADCAST = b"\xff" * 6
A, B, C, PF = (bytes((2, 0, 0, 0, 0, last)) for last in (0xA, 0xB, 0xC, 0xF))
OTHER_HOST = bytes.fromhex("060000001234")
GROUP = bytes.fromhex("01005e7f1234")
POOL_A, POOL_B, POOL_C, POOL_PF = 0, 1, 33, 63

Outcome = tuple[object, ...]


def rar(index: int) -> int:
    return 0x5400 + 8 * index if index <= 15 else 0xA200 + 8 * index


def mpsar(index: int, pool: int) -> int:
    return 0xA600 + 8 * index + (4 if pool >= 32 else 0)


def frame(destination: bytes, source: bytes, *, tci: int | None = None, size: int = 60) -> bytes:
    tag = b"" if tci is None else b"\x81\x00" + tci.to_bytes(2, "big")
    return (destination + source + tag + b"\x08\x00").ljust(size, b".")


class Bench:
    """A switch over registers in a dictionary; what came out is in order in `out`."""

    def __init__(self, registers: dict[int, int]) -> None:
        self.registers = registers
        self.out: list[Outcome] = []
        self.time = 0.0
        self.switch = Switch(
            peek=lambda offset: self.registers.get(offset, 0),
            poke=self.registers.__setitem__,
            now=lambda: self.time,
            deliver=lambda pool, data: self.out.append(("deliver", pool, data)),
            uplink=lambda data: self.out.append(("uplink", data)),
            lose=lambda reason, pool, data: self.out.append(("lose", reason, pool, data)),
        )

    def write(self, offset: int, value: int) -> None:
        self.registers[offset] = value
        if offset in FILTER_OFFSETS:
            self.switch.changed()

    def set_bit(self, base: int, bit: int, *, on: bool = True) -> None:
        offset = base + 4 * (bit // 32)
        old = self.registers.get(offset, 0)
        self.write(offset, old | 1 << bit % 32 if on else old & ~(1 << bit % 32))

    def set_address(self, index: int, address: bytes, *pools: int) -> None:
        self.write(rar(index), int.from_bytes(address[:4], "little"))
        self.write(rar(index) + 4, int.from_bytes(address[4:], "little") | VALID)
        for pool in pools:
            self.set_bit(mpsar(index, 0), pool)

    def clear_address(self, index: int) -> None:
        for offset in (rar(index), rar(index) + 4, mpsar(index, 0), mpsar(index, 32)):
            self.write(offset, 0)

    def set_vlan(self, index: int, vid: int, *pools: int) -> None:
        self.write(VLVF + 4 * index, VALID | vid)
        self.set_bit(VFTA, vid)
        for pool in pools:
            self.set_bit(VLVFB + 8 * index, pool)

    def spoof_check(self, pool: int, *, mac: bool = False, vlan: bool = False) -> None:
        old = self.registers.get(PFVFSPOOF + pool // 8 * 4, 0)
        self.write(PFVFSPOOF + pool // 8 * 4, old | (mac | vlan << 8) << pool % 8)

    def sent(self, pool: int, data: bytes) -> list[Outcome]:
        self.out = []
        self.switch.transmit(pool, data)
        return self.out

    def received(self, data: bytes) -> list[Outcome]:
        self.out = []
        self.switch.receive(data)
        return self.out


@pytest.fixture
def bench() -> Bench:
    """Two VFs, a third in the upper word, and the PF in the default pool: VEB, all enabled, no VLAN but 0."""
    made = Bench({})
    made.write(VT_CTL, 1 | POOL_PF << 7 | 1 << 30)
    made.write(PFDTXGSWC, 1)
    made.write(MAXFRS, 1518 << 16)
    made.write(VLNCTRL, VFE)
    for index, (pool, address) in enumerate(((POOL_A, A), (POOL_B, B), (POOL_C, C), (POOL_PF, PF))):
        made.set_bit(VFRE, pool)
        made.set_bit(VFTE, pool)
        made.set_address(index, address, pool)
        made.write(VMOLR + 4 * pool, BAM | AUPE)
    made.set_vlan(0, 0, POOL_A, POOL_B, POOL_C, POOL_PF)
    return made


# --- what the switch is for, and how a migration goes wrong in it ----------------------------------------------------


def test_unicast_between_pools_stays_off_the_wire(bench: Bench) -> None:
    data = frame(B, A)
    assert bench.sent(POOL_A, data) == [("deliver", POOL_B, data)]


def test_unknown_unicast_leaves_by_the_wire(bench: Bench) -> None:
    data = frame(OTHER_HOST, A)
    assert bench.sent(POOL_A, data) == [("uplink", data)]


def test_a_fenced_vf_whose_address_stayed_swallows_its_neighbours_frames(bench: Bench) -> None:
    """The bug of 2015: VFRE and VFTE off, RAL/RAH and MPSAR left. The VM is elsewhere, out of its neighbours' reach."""
    bench.set_bit(VFRE, POOL_B, on=False)
    bench.set_bit(VFTE, POOL_B, on=False)
    data = frame(B, PF)
    assert bench.sent(POOL_PF, data) == [("lose", SwitchLoss.VFRE_OFF, POOL_B, data)]


def test_with_the_address_removed_too_neighbours_reach_the_vm_on_its_new_host(bench: Bench) -> None:
    bench.set_bit(VFRE, POOL_B, on=False)
    bench.set_bit(VFTE, POOL_B, on=False)
    bench.clear_address(1)
    data = frame(B, PF)
    assert bench.sent(POOL_PF, data) == [("uplink", data)]


def test_taking_the_pool_out_of_mpsar_is_enough(bench: Bench) -> None:
    bench.write(mpsar(1, 0), 0)
    data = frame(B, A)
    assert bench.sent(POOL_A, data) == [("uplink", data)]


def test_clearing_address_valid_is_enough(bench: Bench) -> None:
    bench.write(rar(1) + 4, bench.registers[rar(1) + 4] & ~VALID)
    data = frame(B, A)
    assert bench.sent(POOL_A, data) == [("uplink", data)]


def test_the_wire_meets_the_same_black_hole(bench: Bench) -> None:
    bench.set_bit(VFRE, POOL_B, on=False)
    data = frame(B, OTHER_HOST)
    assert bench.received(data) == [("lose", SwitchLoss.VFRE_OFF, POOL_B, data)]


def test_a_change_without_notice_is_not_seen_and_with_notice_is(bench: Bench) -> None:
    """Tables are derived once; that is what `changed` is for."""
    data = frame(B, A)
    bench.sent(POOL_A, data)
    bench.registers[rar(1) + 4] = 0
    assert bench.sent(POOL_A, data) == [("deliver", POOL_B, data)]
    bench.switch.changed()
    assert bench.sent(POOL_A, data) == [("uplink", data)]


def test_an_address_of_two_pools_goes_to_both(bench: Bench) -> None:
    bench.set_bit(mpsar(1, 0), POOL_C)
    data = frame(B, A)
    assert bench.sent(POOL_A, data) == [("deliver", POOL_B, data), ("deliver", POOL_C, data)]


def test_an_address_in_the_upper_entries_is_found(bench: Bench) -> None:
    bench.clear_address(1)
    bench.set_address(127, B, POOL_B)
    assert bench.sent(POOL_A, frame(B, A)) == [("deliver", POOL_B, frame(B, A))]


def test_a_pool_that_sends_to_itself_gets_nothing(bench: Bench) -> None:
    data = frame(A, A)
    assert bench.sent(POOL_A, data) == [("lose", SwitchLoss.NO_POOL, POOL_A, data)]


def test_a_pool_that_sends_to_itself_with_vfre_off_gets_nothing(bench: Bench) -> None:
    bench.set_bit(VFRE, POOL_A, on=False)
    data = frame(A, A)
    assert bench.sent(POOL_A, data) == [("lose", SwitchLoss.NO_POOL, POOL_A, data)]


# --- the sender's side -----------------------------------------------------------------------------------------------


def test_vfte_off_sends_nothing(bench: Bench) -> None:
    bench.set_bit(VFTE, POOL_C, on=False)
    data = frame(B, C)
    assert bench.sent(POOL_C, data) == [("lose", SwitchLoss.VFTE_OFF, POOL_C, data)]


def test_vfre_off_still_sends(bench: Bench) -> None:
    bench.set_bit(VFRE, POOL_A, on=False)
    assert bench.sent(POOL_A, frame(B, A)) == [("deliver", POOL_B, frame(B, A))]


@pytest.mark.parametrize("pool", [POOL_A, POOL_C])
def test_a_spoofed_address_is_dropped(bench: Bench, pool: int) -> None:
    bench.spoof_check(pool, mac=True)
    data = frame(PF, B)
    assert bench.sent(pool, data) == [("lose", SwitchLoss.SPOOFED_MAC, pool, data)]
    own = frame(PF, A if pool == POOL_A else C)
    assert bench.sent(pool, own) == [("deliver", POOL_PF, own)]


@pytest.mark.parametrize("pool", [POOL_A, POOL_C])
def test_vmecm_decides_whether_a_spoofed_frame_counts_and_nothing_else(bench: Bench, pool: int) -> None:
    bench.spoof_check(pool, mac=True)
    data = frame(PF, B)
    assert bench.sent(pool, data) == [("lose", SwitchLoss.SPOOFED_MAC, pool, data)]
    assert bench.registers.get(SSVPC, 0) == 0
    bench.set_bit(VMECM, pool)
    assert bench.sent(pool, data) == [("lose", SwitchLoss.SPOOFED_MAC, pool, data)]
    assert bench.registers[SSVPC] == 1
    bench.registers[SSVPC] = 0xFFFFFFFF
    bench.sent(pool, data)
    assert bench.registers[SSVPC] == 0


def test_vlan_anti_spoof_wants_membership(bench: Bench) -> None:
    bench.set_vlan(5, 100, POOL_A, POOL_B)
    bench.set_vlan(6, 200, POOL_B)
    bench.spoof_check(POOL_A, vlan=True)
    member, spoofed = frame(B, A, tci=0x6000 | 100), frame(B, A, tci=200)
    assert bench.sent(POOL_A, member) == [("deliver", POOL_B, member)]
    assert bench.sent(POOL_A, spoofed) == [("lose", SwitchLoss.SPOOFED_VLAN, POOL_A, spoofed)]
    assert bench.sent(POOL_A, frame(B, A)) == [("deliver", POOL_B, frame(B, A))]


def test_without_anti_spoof_a_pool_may_tag_as_it_likes(bench: Bench) -> None:
    bench.set_vlan(6, 200, POOL_B)
    data = frame(B, A, tci=200)
    assert bench.sent(POOL_A, data) == [("deliver", POOL_B, data)]


def test_a_frame_without_a_header_is_dropped(bench: Bench) -> None:
    assert bench.sent(POOL_A, b"short") == [("lose", SwitchLoss.TOO_SHORT, POOL_A, b"short")]
    assert bench.received(b"") == [("lose", SwitchLoss.TOO_SHORT, WIRE, b"")]


# --- port VLANs ------------------------------------------------------------------------------------------------------


def port_vlan(bench: Bench, pool: int, tci: int) -> None:
    bench.write(VMVIR + 4 * pool, PORT_VLAN | tci)
    bench.write(VMOLR + 4 * pool, BAM)


def test_vmvir_tags_what_leaves(bench: Bench) -> None:
    port_vlan(bench, POOL_A, 3 << 13 | 100)
    assert bench.sent(POOL_A, frame(OTHER_HOST, A)) == [("uplink", frame(OTHER_HOST, A, tci=0x6064, size=64))]


def test_vmvir_never_tags_nothing(bench: Bench) -> None:
    bench.write(VMVIR + 4 * POOL_A, 1 << 31 | 100)
    assert bench.sent(POOL_A, frame(OTHER_HOST, A)) == [("uplink", frame(OTHER_HOST, A))]


def test_the_port_vlan_is_taken_off_at_delivery(bench: Bench) -> None:
    bench.set_vlan(1, 100, POOL_A, POOL_C, POOL_PF)
    port_vlan(bench, POOL_A, 100)
    port_vlan(bench, POOL_C, 100)
    assert bench.sent(POOL_A, frame(C, A)) == [("deliver", POOL_C, frame(C, A))]
    assert bench.sent(POOL_A, frame(PF, A)) == [("deliver", POOL_PF, frame(PF, A, tci=100, size=64))]
    assert bench.received(frame(C, OTHER_HOST, tci=0xE064, size=64)) == [("deliver", POOL_C, frame(C, OTHER_HOST))]


def test_a_tag_inside_a_port_vlan_stays(bench: Bench) -> None:
    """Stacked: the pool's own tag is data within its port VLAN."""
    bench.set_vlan(1, 100, POOL_A, POOL_C)
    port_vlan(bench, POOL_A, 100)
    port_vlan(bench, POOL_C, 100)
    data = frame(C, A, tci=7)
    assert bench.sent(POOL_A, data) == [("deliver", POOL_C, data)]
    (outcome,) = bench.sent(POOL_A, frame(OTHER_HOST, A, tci=7))
    assert outcome == ("uplink", OTHER_HOST + A + bytes.fromhex("8100006481000007") + data[16:])


def test_with_vlan_anti_spoof_a_port_vlan_pool_may_not_tag(bench: Bench) -> None:
    bench.set_vlan(1, 100, POOL_A, POOL_C)
    port_vlan(bench, POOL_A, 100)
    bench.spoof_check(POOL_A, vlan=True)
    data = frame(C, A, tci=7)
    assert bench.sent(POOL_A, data) == [("lose", SwitchLoss.SPOOFED_VLAN, POOL_A, data)]
    assert bench.sent(POOL_A, frame(C, A)) == [("deliver", POOL_C, frame(C, A, tci=100, size=64))]


# --- who receives ----------------------------------------------------------------------------------------------------


def test_a_pools_broadcast_goes_to_all_others_and_the_wire(bench: Bench) -> None:
    data = frame(BROADCAST, A)
    got = bench.sent(POOL_A, data)
    assert got == [*(("deliver", pool, data) for pool in (POOL_B, POOL_C, POOL_PF)), ("uplink", data)]


def test_broadcast_is_for_pools_with_bam_that_may_receive(bench: Bench) -> None:
    bench.write(VMOLR + 4 * POOL_B, AUPE)
    bench.set_bit(VFRE, POOL_C, on=False)
    data = frame(BROADCAST, OTHER_HOST)
    got = bench.received(data)
    assert got == [
        ("deliver", POOL_A, data),
        ("deliver", POOL_PF, data),
        ("lose", SwitchLoss.VFRE_OFF, POOL_C, data),
    ]


def test_vepa_sends_everything_to_the_wire(bench: Bench) -> None:
    bench.write(PFDTXGSWC, 0)
    for destination in (B, BROADCAST, GROUP, OTHER_HOST):
        assert bench.sent(POOL_A, frame(destination, A)) == [("uplink", frame(destination, A))]
    assert bench.received(frame(B, A)) == [("deliver", POOL_B, frame(B, A))]
    assert ("deliver", POOL_A, frame(BROADCAST, A)) in bench.received(frame(BROADCAST, A))


def test_vepa_still_checks_the_sender(bench: Bench) -> None:
    bench.write(PFDTXGSWC, 0)
    bench.spoof_check(POOL_A, mac=True)
    assert bench.sent(POOL_A, frame(C, B)) == [("lose", SwitchLoss.SPOOFED_MAC, POOL_A, frame(C, B))]


@pytest.mark.parametrize("offset_type", range(4))
def test_multicast_goes_by_hash_to_pools_with_rompe(bench: Bench, offset_type: int) -> None:
    index = int.from_bytes(GROUP, "little") >> (36, 35, 34, 32)[offset_type] & 0xFFF
    bench.set_bit(MTA, index)
    bench.write(VMOLR + 4 * POOL_C, AUPE | ROMPE)
    data = frame(GROUP, A)
    bench.write(MCSTCTRL, offset_type)
    assert bench.sent(POOL_A, data) == [("uplink", data)]
    bench.write(MCSTCTRL, 4 | offset_type)
    assert bench.sent(POOL_A, data) == [("deliver", POOL_C, data), ("uplink", data)]


def test_mpe_gets_every_multicast_and_no_broadcast(bench: Bench) -> None:
    bench.write(VMOLR + 4 * POOL_C, AUPE | MPE)
    assert bench.sent(POOL_A, frame(GROUP, A)) == [("deliver", POOL_C, frame(GROUP, A)), ("uplink", frame(GROUP, A))]
    assert ("deliver", POOL_C, frame(BROADCAST, A)) not in bench.sent(POOL_A, frame(BROADCAST, A))


def test_a_unicast_hash_gives_a_copy_and_the_wire_the_frame(bench: Bench) -> None:
    bench.set_bit(UTA, int.from_bytes(OTHER_HOST, "little") >> 36)
    bench.write(VMOLR + 4 * POOL_C, AUPE | ROPE)
    data = frame(OTHER_HOST, A)
    assert bench.sent(POOL_A, data) == [("deliver", POOL_C, data), ("uplink", data)]


def test_upe_gets_unicast_of_others(bench: Bench) -> None:
    bench.write(VMOLR + 4 * POOL_C, AUPE | UPE)
    assert bench.sent(POOL_A, frame(B, A)) == [("deliver", POOL_B, frame(B, A)), ("deliver", POOL_C, frame(B, A))]
    data = frame(OTHER_HOST, A)
    assert bench.sent(POOL_A, data) == [("deliver", POOL_C, data), ("uplink", data)]


def test_unknown_unicast_from_the_wire_goes_to_the_default_pool(bench: Bench) -> None:
    data = frame(OTHER_HOST, OTHER_HOST)
    assert bench.received(data) == [("deliver", POOL_PF, data)]
    bench.write(VT_CTL, bench.registers[VT_CTL] | 1 << 29)
    assert bench.received(data) == [("lose", SwitchLoss.NO_POOL, WIRE, data)]


def test_unknown_multicast_from_the_wire_goes_nowhere(bench: Bench) -> None:
    assert bench.received(frame(GROUP, A)) == [("lose", SwitchLoss.NO_POOL, WIRE, frame(GROUP, A))]


def test_without_replication_broadcast_goes_to_the_default_pool(bench: Bench) -> None:
    bench.write(VT_CTL, 1 | POOL_PF << 7)
    data = frame(BROADCAST, A)
    assert bench.received(data) == [("deliver", POOL_PF, data)]
    assert bench.sent(POOL_A, data) == [("deliver", POOL_PF, data), ("uplink", data)]


def test_without_replication_an_address_of_two_pools_goes_to_one(bench: Bench) -> None:
    bench.write(VT_CTL, 1 | POOL_PF << 7)
    bench.set_bit(mpsar(1, 0), POOL_C)
    assert bench.received(frame(B, A)) == [("deliver", POOL_B, frame(B, A))]


def test_without_replication_a_multicast_address_in_rar_goes_to_its_pool(bench: Bench) -> None:
    bench.write(VT_CTL, 1 | POOL_PF << 7)
    bench.set_address(9, GROUP, POOL_B)
    assert bench.received(frame(GROUP, OTHER_HOST)) == [("deliver", POOL_B, frame(GROUP, OTHER_HOST))]


# --- VLANs -----------------------------------------------------------------------------------------------------------


def test_a_tagged_frame_reaches_members_only(bench: Bench) -> None:
    bench.set_vlan(1, 100, POOL_A, POOL_C)
    data = frame(BROADCAST, OTHER_HOST, tci=100)
    assert bench.received(data) == [("deliver", POOL_A, data), ("deliver", POOL_C, data)]


def test_an_entry_without_vien_is_none(bench: Bench) -> None:
    bench.set_vlan(1, 100, POOL_A)
    bench.write(VLVF + 4, 100)
    data = frame(BROADCAST, OTHER_HOST, tci=100)
    assert bench.received(data) == [("lose", SwitchLoss.NO_POOL, WIRE, data)]


def test_vfta_lets_in_from_the_wire_while_vfe(bench: Bench) -> None:
    bench.set_vlan(1, 100, POOL_A)
    bench.set_bit(VFTA, 100, on=False)
    data = frame(A, OTHER_HOST, tci=100)
    assert bench.received(data) == [("lose", SwitchLoss.VLAN_FILTERED, WIRE, data)]
    assert bench.sent(POOL_B, data) == [("deliver", POOL_A, data)]
    bench.write(VLNCTRL, 0)
    assert bench.received(data) == [("deliver", POOL_A, data)]


def test_vpe_gets_every_vlan(bench: Bench) -> None:
    bench.set_bit(VFTA, 100)
    bench.write(VMOLR + 4 * POOL_A, VPE)
    data = frame(A, OTHER_HOST, tci=100)
    assert bench.received(data) == [("deliver", POOL_A, data)]
    assert bench.received(frame(A, B)) == [("deliver", POOL_PF, frame(A, B))]


def test_without_aupe_untagged_frames_do_not_reach_a_pool(bench: Bench) -> None:
    bench.write(VMOLR + 4 * POOL_B, BAM)
    data = frame(B, A)
    assert bench.sent(POOL_A, data) == [("lose", SwitchLoss.NO_POOL, POOL_A, data)]


def test_a_pool_outside_the_vlan_takes_the_frame_off_the_wire_all_the_same(bench: Bench) -> None:
    """Pools are selected by address first: an address left behind swallows frames of every VLAN."""
    bench.set_vlan(1, 100, POOL_A)
    data = frame(B, A, tci=100)
    assert bench.sent(POOL_A, data) == [("lose", SwitchLoss.NO_POOL, POOL_A, data)]


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "tci"), [(1518, None), (1518, 0), (9728, None), (9728, 0)])
def test_maxfrs_limits_what_comes_in(bench: Bench, limit: int, tci: int | None) -> None:
    bench.write(MAXFRS, limit << 16)
    longest = limit - 4 + (0 if tci is None else 4)
    fits, exceeds = (frame(A, B, tci=tci, size=size) for size in (longest, longest + 1))
    assert bench.received(fits) == [("deliver", POOL_A, fits)]
    assert bench.received(exceeds) == [("lose", SwitchLoss.TOO_LONG, WIRE, exceeds)]
    assert bench.sent(POOL_B, exceeds) == [("deliver", POOL_A, exceeds)]


# --- rates -----------------------------------------------------------------------------------------------------------

TENTH = 1 << 31 | 10 << 14
"""RTTBCNRC: a tenth of the link's speed; at 10 Gb/s, 125 octets a microsecond."""


def test_a_rate_holds_frames_back_until_their_time(bench: Bench) -> None:
    bench.switch.set_rate(POOL_A, TENTH)
    first, second = frame(B, A, size=996), frame(C, A, size=996)
    assert bench.sent(POOL_A, first) == [("deliver", POOL_B, first)]
    assert bench.sent(POOL_A, second) == []
    due = bench.switch.next_release()
    assert due is not None
    assert due == pytest.approx(8e-6)
    bench.switch.service(7.9e-6)
    assert bench.out == []
    bench.switch.service(due)
    assert bench.out == [("deliver", POOL_C, second)]
    assert bench.switch.next_release() is None


def test_a_rate_may_come_later(bench: Bench) -> None:
    assert bench.sent(POOL_A, frame(B, A)) == [("deliver", POOL_B, frame(B, A))]
    bench.switch.set_rate(POOL_A, TENTH)
    assert bench.sent(POOL_A, frame(B, A)) == [("deliver", POOL_B, frame(B, A))]
    assert bench.sent(POOL_A, frame(B, A)) == []


def test_others_are_not_held_back(bench: Bench) -> None:
    bench.switch.set_rate(POOL_A, TENTH)
    bench.sent(POOL_A, frame(B, A))
    bench.sent(POOL_A, frame(B, A))
    assert bench.sent(POOL_C, frame(B, C)) == [("deliver", POOL_B, frame(B, C))]


def test_a_held_back_frame_meets_the_registers_of_its_release(bench: Bench) -> None:
    bench.switch.set_rate(POOL_A, TENTH)
    bench.sent(POOL_A, frame(B, A))
    bench.sent(POOL_A, frame(B, A))
    bench.sent(POOL_A, frame(B, A))
    bench.out = []
    bench.clear_address(1)
    bench.switch.service(60e-6)
    bench.set_bit(VFTE, POOL_A, on=False)
    assert bench.out == [("uplink", frame(B, A))] * 2
    bench.sent(POOL_A, frame(B, A))
    assert bench.out == [("lose", SwitchLoss.VFTE_OFF, POOL_A, frame(B, A))]


def test_vfte_cleared_while_frames_wait_loses_them(bench: Bench) -> None:
    bench.switch.set_rate(POOL_A, TENTH)
    bench.sent(POOL_A, frame(B, A))
    bench.sent(POOL_A, frame(B, A))
    bench.set_bit(VFTE, POOL_A, on=False)
    bench.switch.service(1.0)
    assert bench.out == [("lose", SwitchLoss.VFTE_OFF, POOL_A, frame(B, A))]


def test_taking_the_rate_away_sends_what_waited_in_order(bench: Bench) -> None:
    bench.switch.set_rate(POOL_A, TENTH)
    frames = [frame(B, A, size=60 + index) for index in range(5)]
    for data in frames:
        bench.switch.transmit(POOL_A, data)
    bench.switch.set_rate(POOL_A, 0)
    assert bench.out == [("deliver", POOL_B, data) for data in frames]
    assert bench.sent(POOL_A, frames[0]) == [("deliver", POOL_B, frames[0])]


def test_a_full_backlog_loses_the_newest(bench: Bench) -> None:
    bench.switch.set_rate(POOL_A, TENTH)
    for _ in range(1025):
        bench.switch.transmit(POOL_A, frame(B, A))
    assert len(bench.out) == 1
    newest = frame(B, A, size=61)
    assert bench.sent(POOL_A, newest) == [("lose", SwitchLoss.RATE_LIMITED, POOL_A, newest)]


def test_discard_loses_what_waits(bench: Bench) -> None:
    bench.switch.set_rate(POOL_A, TENTH)
    bench.sent(POOL_A, frame(B, A))
    bench.sent(POOL_A, frame(C, A))
    bench.switch.discard(POOL_A)
    assert bench.out == [("lose", SwitchLoss.RATE_LIMITED, POOL_A, frame(C, A))]
    assert bench.switch.next_release() is None


def test_the_window_lets_a_pool_run_ahead(bench: Bench) -> None:
    bench.write(0x4980, 4)  # RTTBCNRM
    bench.switch.set_rate(POOL_A, TENTH)
    sent = 0
    while bench.sent(POOL_A, frame(B, A, size=1020)):
        sent += 1
    assert sent == 5  # four in the window, and the one that was due


def test_a_slower_link_makes_a_rate_slower(bench: Bench) -> None:
    bench.switch.set_link_speed(1000)
    bench.switch.set_rate(POOL_A, TENTH)
    bench.sent(POOL_A, frame(B, A, size=996))
    bench.sent(POOL_A, frame(B, A))
    assert bench.switch.next_release() == pytest.approx(80e-6)


# --- callbacks that call back, and memory ----------------------------------------------------------------------------


def test_a_guest_may_answer_while_it_is_delivered_to(bench: Bench) -> None:
    seen: list[tuple[int, bytes]] = []

    def deliver(pool: int, data: bytes) -> None:
        seen.append((pool, data))
        if pool == POOL_B:
            bench.clear_address(0)
            switch.transmit(POOL_B, frame(A, B))

    switch = bench.switch = Switch(
        peek=lambda offset: bench.registers.get(offset, 0),
        poke=bench.registers.__setitem__,
        now=float,
        deliver=deliver,
        uplink=lambda data: seen.append((WIRE, data)),
        lose=lambda *_: pytest.fail("nothing is lost"),
    )
    switch.transmit(POOL_A, frame(B, A))
    assert seen == [(POOL_B, frame(B, A)), (WIRE, frame(A, B))]


def test_any_number_of_destinations_is_forgotten_again(bench: Bench) -> None:
    for number in range(20_000):
        bench.switch.transmit(POOL_A, frame(b"\x06\x00" + number.to_bytes(4, "big"), A))
    assert len(bench.switch._from_pool) <= 8192
    assert bench.sent(POOL_A, frame(B, A)) == [("deliver", POOL_B, frame(B, A))]


# --- against a slow switch -------------------------------------------------------------------------------------------


class Slow:
    """Asks each register about each frame, and remembers nothing."""

    def __init__(self, registers: dict[int, int]) -> None:
        self.registers = registers

    def read(self, offset: int) -> int:
        return self.registers.get(offset, 0)

    def bit(self, base: int, bit: int) -> bool:
        return self.read(base + bit // 32 * 4) >> bit % 32 & 1 == 1

    @property
    def vt(self) -> bool:
        return self.read(VT_CTL) & 1 == 1

    def transmit(self, pool: int, data: bytes) -> list[Outcome]:
        if len(data) < 14:
            return [("lose", SwitchLoss.TOO_SHORT, pool, data)]
        if not self.vt:
            return [("uplink", data)]
        if not self.bit(VFTE, pool):
            return [("lose", SwitchLoss.VFTE_OFF, pool, data)]
        spoofed = self.spoofed(pool, data)
        if spoofed is not None:
            if self.bit(VMECM, pool):
                self.registers[SSVPC] = self.read(SSVPC) + 1
            return [("lose", spoofed, pool, data)]
        if self.read(VMVIR + 4 * pool) >> 30 == 1:
            data = data[:12] + b"\x81\x00" + (self.read(VMVIR + 4 * pool) & 0xFFFF).to_bytes(2, "big") + data[12:]
        if self.read(PFDTXGSWC) & 1 == 0:
            return [("uplink", data)]
        return self.switched(pool, data)

    def spoofed(self, pool: int, data: bytes) -> SwitchLoss | None:
        checks = self.read(PFVFSPOOF + pool // 8 * 4) >> pool % 8
        if checks & 1 and pool not in self.exact(data[6:12]):
            return SwitchLoss.SPOOFED_MAC
        vid = self.vid(data)
        if checks >> 8 & 1 and vid is not None and pool not in self.members(vid):
            return SwitchLoss.SPOOFED_VLAN
        return None

    def switched(self, sender: int, data: bytes) -> list[Outcome]:
        wanted = [pool for pool in self.wanting(data) if pool != sender]
        outcomes = list(self.handed(wanted, data))
        if data[0] & 1 or not self.exact(data[:6]):
            outcomes.append(("uplink", data))
        return outcomes or [("lose", SwitchLoss.NO_POOL, sender, data)]

    def receive(self, data: bytes) -> list[Outcome]:
        if len(data) < 14:
            return [("lose", SwitchLoss.TOO_SHORT, WIRE, data)]
        vid = self.vid(data)
        if len(data) + 4 > (self.read(MAXFRS) >> 16) + (4 if vid is not None else 0):
            return [("lose", SwitchLoss.TOO_LONG, WIRE, data)]
        if vid is not None and self.read(VLNCTRL) & VFE and not self.bit(VFTA, vid):
            return [("lose", SwitchLoss.VLAN_FILTERED, WIRE, data)]
        wanted = self.wanting(data)
        if not wanted and data[0] & 1 == 0:
            wanted = self.default()
        return list(self.handed(wanted, data)) or [("lose", SwitchLoss.NO_POOL, WIRE, data)]

    def handed(self, pools: list[int], data: bytes) -> Iterator[Outcome]:
        for pool in pools:
            vmvir = self.read(VMVIR + 4 * pool)
            if self.vt and not self.bit(VFRE, pool):
                yield "lose", SwitchLoss.VFRE_OFF, pool, data
            elif self.vt and vmvir >> 30 == 1 and vmvir & 0xFFF == self.vid(data):
                yield "deliver", pool, data[:12] + data[16:]
            else:
                yield "deliver", pool, data

    def vid(self, data: bytes) -> int | None:
        return int.from_bytes(data[14:16], "big") & 0xFFF if data[12:14] == b"\x81\x00" and len(data) >= 18 else None

    def exact(self, address: bytes) -> list[int]:
        return [pool for pool in self.pools() if any(self.names(index, address, pool) for index in range(128))]

    def names(self, index: int, address: bytes, pool: int) -> bool:
        words = self.read(rar(index)).to_bytes(4, "little") + self.read(rar(index) + 4).to_bytes(4, "little")
        if words[:6] != address or words[7] & 0x80 == 0:
            return False
        return not self.vt or self.read(mpsar(index, pool)) >> pool % 32 & 1 == 1

    def members(self, vid: int) -> list[int]:
        entries = [index for index in range(64) if self.read(VLVF + 4 * index) & (VALID | 0xFFF) == VALID | vid]
        return [pool for pool in self.pools() if any(self.bit(VLVFB + 8 * index, pool) for index in entries)]

    def pools(self) -> range:
        return range(64 if self.vt else 1)

    def default(self) -> list[int]:
        return [] if not self.vt or self.read(VT_CTL) >> 29 & 1 else [self.read(VT_CTL) >> 7 & 0x3F]

    def mode(self, pool: int, bit: int) -> bool:
        if self.vt:
            return self.read(VMOLR + 4 * pool) & bit != 0
        fctrl = self.read(FCTRL)
        return {BAM: fctrl >> 10 & 1 == 1, UPE: fctrl >> 9 & 1 == 1, MPE: fctrl >> 8 & 1 == 1}.get(bit, True)

    def having(self, bit: int) -> list[int]:
        return [pool for pool in self.pools() if self.mode(pool, bit)]

    def wanting(self, data: bytes) -> list[int]:
        wanted = self.by_address(data[:6])
        vid = self.vid(data)
        if self.read(VLNCTRL) & VFE == 0:
            return wanted
        if vid is None:
            return [pool for pool in wanted if self.mode(pool, AUPE)]
        return [pool for pool in wanted if self.mode(pool, VPE) or pool in self.members(vid)]

    def by_address(self, address: bytes) -> list[int]:
        single = self.vt and self.read(VT_CTL) >> 30 & 1 == 0
        exact = self.exact(address)
        if address == BROADCAST:
            return self.default() if single else self.having(BAM)
        if address[0] & 1:
            hashed = self.having(ROMPE) if self.read(MCSTCTRL) & 4 and self.hash_hit(MTA, address) else []
            wanted = sorted({*(exact or hashed), *self.having(MPE)})
            return (exact[:1] or self.default()) if single else wanted
        hashed = self.having(ROPE) if self.hash_hit(UTA, address) else []
        return (exact or hashed)[:1] if single else sorted({*(exact or hashed), *self.having(UPE)})

    def hash_hit(self, table: int, address: bytes) -> bool:
        return self.bit(table, self.hash_of(address))

    def hash_of(self, address: bytes) -> int:
        return int.from_bytes(address, "little") >> (36, 35, 34, 32)[self.read(MCSTCTRL) & 3] & 0xFFF


POOLS = [0, 1, 7, 8, 31, 32, 63]
UNICAST = [A, B, PF, OTHER_HOST]
GROUPS = [GROUP, bytes.fromhex("333300000001")]
TCIS = [0, 100, 0x2064, 200, 0xFFFF]
pools = st.sets(st.sampled_from(POOLS))
addresses = st.sampled_from([*UNICAST, *GROUPS])
wide = st.sampled_from([*UNICAST, *UNICAST, *GROUPS, BROADCAST])


def mostly(value: int, *others: int) -> st.SearchStrategy[int]:
    return st.sampled_from([value] * (3 * len(others)) + [*others])


def words(mask: set[int]) -> dict[int, int]:
    """Return a bitmap of pools as two registers, by their distance."""
    whole = sum(1 << pool for pool in mask)
    return {0: whole & 0xFFFFFFFF, 4: whole >> 32}


@st.composite
def states(draw: st.DrawFn) -> dict[int, int]:
    default = draw(st.sampled_from(POOLS)) << 7
    registers = {
        VT_CTL: default | draw(mostly(1, 0)) | draw(mostly(1, 0)) << 30 | draw(st.integers(0, 1)) << 29,
        PFDTXGSWC: draw(mostly(1, 0)),
        VLNCTRL: draw(mostly(VFE, 0)),
        MCSTCTRL: draw(st.integers(0, 7)),
        FCTRL: draw(st.integers(0, 7)) << 8,
        MAXFRS: draw(mostly(1518, 64, 0)) << 16 | 0xFFFF,
    }
    for base in (VFRE, VFTE, VMECM):
        registers.update({base + step: word for step, word in words(set(POOLS) - draw(pools)).items()})
    for index in draw(st.sets(st.sampled_from([0, 1, 14, 15, 16, 17, 127]))):
        octets = int.from_bytes(draw(addresses), "little")
        registers[rar(index)] = octets & 0xFFFFFFFF
        registers[rar(index) + 4] = octets >> 32 | draw(mostly(VALID, 0))
        registers.update({mpsar(index, 0) + step: word for step, word in words(draw(pools)).items()})
    for index in draw(st.sets(st.sampled_from([0, 1, 2, 63]))):
        registers[VLVF + 4 * index] = draw(st.sampled_from([0, 100, 200])) | draw(mostly(VALID, 0))
        registers.update({VLVFB + 8 * index + step: word for step, word in words(draw(pools)).items()})
    for vid in draw(st.sets(st.sampled_from([0, 100, 200, 4095]))):
        registers[VFTA + vid // 32 * 4] = 1 << vid % 32
    for pool in POOLS:
        registers[VMOLR + 4 * pool] = draw(st.integers(0, 127)) << 22
        registers[VMVIR + 4 * pool] = draw(st.sampled_from([0, 0, 0, 1, 1, 2, 3])) << 30 | draw(st.sampled_from(TCIS))
        registers[PFVFSPOOF + pool // 8 * 4] = draw(st.sampled_from([0, 0xFF, 0xFF00, 0xFFFF, 0x8181, 0x0103]))
    for table in (MTA, UTA):
        for address in draw(st.sets(addresses)):
            index = Slow(registers).hash_of(address)
            offset = table + index // 32 * 4
            registers[offset] = registers.get(offset, 0) | 1 << index % 32
    return registers


frames = st.builds(
    frame,
    wide,
    st.sampled_from(UNICAST),
    tci=st.sampled_from([None, None, None, *TCIS]),
    size=st.sampled_from([14, 16, 18, 60, 61, 64, 65, 1514, 1515, 1518, 1519]),
) | st.sampled_from(
    [b"", b"\xff" * 13, A + B + b"\x81\x00", A + B + b"\x81\x00\x00\x64\x08", BROADCAST + A + b"\x81\0\0"]
)


sendings = st.lists(st.tuples(st.sampled_from([WIRE, *POOLS]), frames), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(states(), sendings)
def test_the_switch_does_what_a_slow_one_does(registers: dict[int, int], sent: list[tuple[int, bytes]]) -> None:
    compare(registers, sent)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(states(), sendings)
def test_the_switch_does_what_a_slow_one_does_at_length(
    registers: dict[int, int], sent: list[tuple[int, bytes]]
) -> None:
    compare(registers, sent)


def compare(registers: dict[int, int], sent: list[tuple[int, bytes]]) -> None:
    bench, slow = Bench(dict(registers)), Slow(dict(registers))
    for source, data in sent:
        if source == WIRE:
            assert sorted(bench.received(data), key=repr) == sorted(slow.receive(data), key=repr)
        else:
            assert sorted(bench.sent(source, data), key=repr) == sorted(slow.transmit(source, data), key=repr)
        assert bench.registers == slow.registers, "SSVPC is the only register it writes"
        assert bench.out, "every frame comes to something"


@settings(max_examples=25, deadline=None)
@given(states(), st.lists(st.tuples(st.sampled_from([WIRE, *POOLS]), frames), min_size=1, max_size=4))
def test_it_asks_only_registers_whose_change_is_told(registers: dict[int, int], sent: list[tuple[int, bytes]]) -> None:
    bench = Bench(dict(registers))
    asked: set[int] = set()

    def peek(offset: int) -> int:
        asked.add(offset)
        return registers.get(offset, 0)

    bench.switch._peek = peek
    for source, data in sent:
        if source == WIRE:
            bench.received(data)
        else:
            bench.sent(source, data)
    assert asked - FILTER_OFFSETS <= {VMECM, VMECM + 4, SSVPC}
