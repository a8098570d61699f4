# SPDX-License-Identifier: Apache-2.0
"""The device as a whole: one storage behind two BARs, resets, counters, and frames through the registers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vferry.nic.ixgbe.hardware import Ixgbe82599, LinkSpeedError, NoSuchVfError
from vferry.nic.ixgbe.registers import pf, vf
from vferry.nic.ixgbe.registers.declare import Register
from vferry.nic.ixgbe.switch import SwitchLoss

ADDRESS = bytes.fromhex("020000000001")
GUEST = bytes.fromhex("0200000000aa")
OTHER = bytes.fromhex("0200000000bb")
AWAY = bytes.fromhex("060000000001")
MODES = [(pf.GCR_EXT_VT_MODE_16, 8), (pf.GCR_EXT_VT_MODE_32, 4), (pf.GCR_EXT_VT_MODE_64, 2)]


def make(pools: int = 4, *, heads: bool = True, clears: bool = True) -> Ixgbe82599:
    return Ixgbe82599(
        now=lambda: 12.5,
        permanent_address=ADDRESS,
        pools=pools,
        head_writable_when_disabled=heads,
        flr_clears_enables=clears,
    )


@pytest.fixture
def nic() -> Ixgbe82599:
    return make()


# --- one storage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "queues"), MODES)
def test_queue_registers_are_those_of_the_pf(mode: int, queues: int) -> None:
    pools = 128 // queues
    nic = make(min(pools, 64))
    nic.write(pf.GCR_EXT.offset, mode)
    last = min(pools, 64) - 1
    for index in (0, 1, last):
        for view in vf.VIEWS:
            if view.per is not vf.Per.QUEUE or view.vf in {vf.VFRDH, vf.VFTDH, vf.VFTXDCTL}:
                continue
            for queue, offset in enumerate(view.vf.addresses):
                there = index * queues + queue
                nic.vf_write(index, offset, 0x1000 + there)
                if queue < queues:
                    assert nic.read(view.pf.address(there)) == 0x1000 + there
                else:
                    assert nic.vf_read(index, offset) == 0


def test_the_pf_writes_what_a_vf_reads(nic: Ixgbe82599) -> None:
    nic.write(0x6018 + 0x40 * 3, 77)  # PVFTDT of queue 3: the second of VF 1, with two for each
    assert nic.vf_read(1, 0x2018 + 0x40) == 77
    assert [nic.vf_read(index, 0x2018 + 0x40) for index in (0, 2, 3)] == [0, 0, 0]
    nic.write(0x2100 + 4 * 3, 5)  # SRRCTL of queue 3 at its low address
    assert nic.vf_read(1, 0x1014 + 0x40) == 5


def test_a_pools_registers_are_one(nic: Ixgbe82599) -> None:
    nic.vf_write(2, vf.VFPSRTYPE.offset, 0x20001000)
    assert nic.read(0xEA08) == 0x20001000
    nic.write(pf.PVTIVAR_MISC.address(2), 0x82)
    assert nic.vf_read(2, vf.VTIVAR_MISC.offset) == 0x82
    nic.vf_write(2, vf.VTIVAR.address(1), 0x8081)
    assert [nic.vf_read(index, vf.VTIVAR.address(1)) for index in range(4)] == [0, 0, 0x8081, 0]


def test_another_mode_moves_the_window_and_not_the_words(nic: Ixgbe82599) -> None:
    nic.vf_write(1, 0x2018, 9)  # queue 2
    nic.write(pf.GCR_EXT.offset, pf.GCR_EXT_VT_MODE_32)
    assert nic.vf_read(1, 0x2018) == 0
    assert nic.vf_read(0, 0x2018 + 0x80) == 9
    assert nic.read(pf.PVFTDT.address(2)) == 9


def test_no_such_vf(nic: Ixgbe82599) -> None:
    for index in (-1, 4):
        with pytest.raises(NoSuchVfError, match="0 to 3"):
            nic.vf_read(index, 0)
        with pytest.raises(NoSuchVfError):
            nic.flr(index)
    with pytest.raises(ValueError, match="pools"):
        make(65)
    with pytest.raises(ValueError, match="address"):
        Ixgbe82599(now=lambda: 0.0, permanent_address=b"12345")


def test_timers_and_status(nic: Ixgbe82599) -> None:
    assert nic.read(pf.FRTIMER.offset) == nic.vf_read(0, 0x48) == 12_500_000
    assert nic.vf_read(0, 8) == nic.read(8) == 1 << 19


def test_swflsh_acts_and_reads_zero(nic: Ixgbe82599) -> None:
    nic.vf_write(0, vf.VFTXDCTL.offset, vf.TXDCTL_SWFLSH | vf.TXDCTL_ENABLE | 0x80120)
    assert nic.vf_read(0, vf.VFTXDCTL.offset) == vf.TXDCTL_ENABLE | 0x80120


# --- heads -----------------------------------------------------------------------------------------------------------

QUEUES = [(vf.VFTDH, vf.VFTXDCTL, pf.PVFTDH), (vf.VFRDH, vf.VFRXDCTL, pf.PVFRDH)]


@pytest.mark.parametrize("registers", QUEUES)
def test_heads_are_writable_while_the_queue_is_disabled(nic: Ixgbe82599, registers: tuple[Register, ...]) -> None:
    head, control, seen = registers
    nic.vf_write(1, head.address(1), 5)
    assert nic.read(seen.address(3)) == 5
    nic.vf_write(1, control.address(1), 1 << 25)
    nic.vf_write(1, head.address(1), 6)
    nic.write(seen.address(3), 7)
    assert nic.vf_read(1, head.address(1)) == 5
    nic.vf_write(1, head.address(0), 8)  # the other queue is not enabled
    assert nic.vf_read(1, head.address(0)) == 8
    nic.flr(1)
    assert nic.vf_read(1, head.address(1)) == 5


@pytest.mark.parametrize("registers", QUEUES)
def test_heads_of_the_series(registers: tuple[Register, ...]) -> None:
    head, _, seen = registers
    nic = make(heads=False)
    nic.vf_write(1, head.offset, 5)
    nic.write(seen.address(2), 5)
    assert nic.vf_read(1, head.offset) == 0
    nic.bar.poke(seen.address(2), 9)  # as hardware does
    nic.bar.poke(seen.address(0), 9)
    nic.flr(1)
    assert (nic.vf_read(1, head.offset), nic.vf_read(0, head.offset)) == (0, 9)


# --- resets ----------------------------------------------------------------------------------------------------------


def fill_vf(nic: Ixgbe82599, index: int) -> None:
    """Set every word that the VF's BAR shows, without hooks."""
    bar = nic.vf_bar(index)
    for item in vf.VF_MAP:
        for offset in item.addresses:
            bar.poke(offset, 0xFFFFFFFF)


def kept_of(nic: Ixgbe82599, index: int) -> set[str]:
    """Return the names of the registers that still hold what `fill_vf` put there."""
    bar = nic.vf_bar(index)
    return {item.name for item in vf.VF_MAP if bar.words[bar.slot(item.offset)] == 0xFFFFFFFF}


KEPT = {item.name for item in vf.KEPT}  # checked against the datasheet's list in test_registers.py
KEPT |= {"VFMBMEM", "VFLINKS", "VFSTATUS", "VFFRTIMER", "VFRXMEMWRAP"}  # not of the VF's own state
KEPT |= {"VFGPRC", "VFGORC_LSB", "VFGORC_MSB", "VFMPRC", "VFGPTC", "VFGOTC_LSB", "VFGOTC_MSB"}


@pytest.mark.parametrize("how", ["flr", "software"])
def test_what_a_vf_reset_leaves_alone(nic: Ixgbe82599, how: str) -> None:
    fill_vf(nic, 1)
    fill_vf(nic, 2)
    before = kept_of(nic, 2)
    if how == "flr":
        nic.flr(1)
    else:
        nic.vf_write(1, vf.VFCTRL.offset, vf.VFCTRL_RST)
    assert kept_of(nic, 1) == KEPT
    assert kept_of(nic, 2) == before


def test_a_vf_reset_touches_no_register_of_the_pf(nic: Ixgbe82599) -> None:
    nic.bar.words[: pf.PF_MAP.words] = [0x0F0F0F0F] * pf.PF_MAP.words
    nic.flr(0)
    own = {address for view in vf.VIEWS for address in view.pf.addresses}
    changed = {
        item.name
        for item in pf.PF_MAP
        for address in item.addresses
        if address not in own and nic.bar.words[nic.bar.slot(address)] != 0x0F0F0F0F
    }
    assert changed == {"VFRE", "VFTE"}  # VFLRE's and EICR's bits are in the pattern


@pytest.mark.parametrize("clears", [True, False])
def test_whether_a_vf_reset_clears_its_enables(clears: bool) -> None:
    nic = make(40, clears=clears)
    for register in (pf.VFRE, pf.VFTE):
        nic.write(register.address(0), 0xFFFFFFFF)
        nic.write(register.address(1), 0xFFFFFFFF)
    nic.flr(33)
    nic.vf_write(3, vf.VFCTRL.offset, vf.VFCTRL_RST)
    lost = [1 << 3, 1 << 1] if clears else [0, 0]
    for register in (pf.VFRE, pf.VFTE):
        assert [0xFFFFFFFF ^ nic.read(register.address(word)) for word in (0, 1)] == lost


def test_power_on_and_a_reset_by_the_pf(nic: Ixgbe82599) -> None:
    fresh = list(nic.bar.words)
    assert (nic.read(0x5400), nic.read(0x5404)) == (0x00000002, 0x80000100)
    assert nic.read(pf.MAXFRS.offset) >> 16 == 1518
    nic.write(pf.GCR_EXT.offset, pf.GCR_EXT_VT_MODE_32)
    nic.transmit(0, bytes(60))
    for offset in (pf.RAL.address(5), pf.VFTA.address(3), pf.PFMBMEM.address(9), pf.MAXFRS.offset):
        nic.write(offset, 0x12345678)
    nic.vf_write(3, vf.VTIVAR.address(0), 5)
    nic.write(pf.CTRL.offset, pf.CTRL_RST)
    assert nic.read(pf.PFMBMEM.address(9)) == 0x12345678
    nic.write(pf.PFMBMEM.address(9), 0)
    assert nic.bar.words == fresh
    assert nic.read(pf.PVFGPTC.address(0)) == 0
    nic.vf_write(1, 0x2018, 9)
    assert nic.read(pf.PVFTDT.address(2)) == 9  # two queues for each pool again
    nic.vf_write(3, vf.VTIVAR.address(0), 5)
    nic.power_on()
    assert nic.bar.words == fresh


def test_link(nic: Ixgbe82599) -> None:
    seen: list[int] = []
    nic.on_pf_interrupt = lambda: seen.append(nic.read(pf.EICR.offset))
    nic.write(pf.EIMS.offset, pf.EIMS_LSC)
    nic.set_link(True)
    nic.set_link(True)
    assert nic.read(pf.LINKS.offset) == nic.vf_read(3, vf.VFLINKS.offset) == 0x70000000
    nic.set_link(True, 1000)
    assert nic.vf_read(3, vf.VFLINKS.offset) == 0x60000000
    nic.write(pf.CTRL.offset, pf.CTRL_RST)  # the cable is still there
    assert nic.read(pf.LINKS.offset) == 0x60000000
    nic.set_link(False)
    assert nic.read(pf.LINKS.offset) == 0
    assert seen == [pf.EICR_LSC, pf.EICR_LSC]
    with pytest.raises(LinkSpeedError, match="2500"):
        nic.set_link(True, 2500)


# --- tables behind a select register ---------------------------------------------------------------------------------


def test_rates_by_queue(nic: Ixgbe82599) -> None:
    for queue in (2, 5):
        nic.write(pf.RTTDQSEL.offset, queue)
        nic.write(pf.RTTBCNRC.offset, pf.RTTBCNRC_RS_ENA | queue << 14)
    assert nic.read(pf.RTTBCNRC.offset) == pf.RTTBCNRC_RS_ENA | 5 << 14
    nic.write(pf.RTTDQSEL.offset, 2)
    assert nic.read(pf.RTTBCNRC.offset) == pf.RTTBCNRC_RS_ENA | 2 << 14
    nic.write(pf.RTTDQSEL.offset, 3)
    assert nic.read(pf.RTTBCNRC.offset) == nic.peek(pf.RTTBCNRC.offset) == 0
    rates = [nic.peek(pf.QUEUE_RATE.address(queue)) for queue in range(128)]
    assert [queue for queue in range(128) if rates[queue]] == [2, 5]


def test_drop_enable_by_queue(nic: Ixgbe82599) -> None:
    nic.write(pf.QDE.offset, 127 << 8 | pf.QDE_WRITE | 3)
    nic.write(pf.QDE.offset, 5 << 8 | 3)  # without WRITE nothing is stored
    assert [nic.peek(pf.QUEUE_DROP.address(queue)) for queue in (5, 127)] == [0, 3]
    assert nic.read(pf.QDE.offset) == 5 << 8 | 3
    nic.write(pf.QDE.offset, 127 << 8 | pf.QDE_READ)
    assert nic.read(pf.QDE.offset) == 127 << 8 | 3


# --- frames ----------------------------------------------------------------------------------------------------------


class Net:
    """A device with pools 0 and 1 for VFs and 2 for the PF, and what came out of it."""

    def __init__(self) -> None:
        self.time = 0.0
        self.nic = Ixgbe82599(now=lambda: self.time, permanent_address=ADDRESS, pools=2)
        self.out: list[tuple[object, bytes]] = []
        self.nic.wire = lambda data: self.out.append(("wire", data))
        for pool in range(3):
            self.nic.sinks[pool] = lambda data, pool=pool: self.out.append((pool, data))  # type: ignore[misc]
        write = self.nic.write
        write(pf.VT_CTL.offset, pf.VT_CTL_VT_ENABLE | pf.VT_CTL_REPLEN | 2 << pf.VT_CTL_POOL_SHIFT)
        write(pf.PFDTXGSWC.offset, pf.PFDTXGSWC_VT_LBEN)
        for pool, address in enumerate((GUEST, OTHER, ADDRESS)):
            write(pf.RAL.address(pool), int.from_bytes(address[:4], "little"))
            write(pf.RAH.address(pool), int.from_bytes(address[4:], "little") | pf.RAH_AV)
            write(pf.MPSAR_LO.address(pool), 1 << pool)
            write(pf.VMOLR.address(pool), pf.VMOLR_AUPE | pf.VMOLR_BAM)
        write(pf.VFRE.offset, 7)
        write(pf.VFTE.offset, 7)


def frame(destination: bytes, source: bytes, size: int = 60) -> bytes:
    return (destination + source + b"\x08\x00").ljust(size, b".")


def test_frames_follow_the_registers() -> None:
    net = Net()
    for destination in (OTHER, ADDRESS, AWAY):
        net.nic.transmit(0, frame(destination, GUEST))
    net.nic.receive(frame(GUEST, AWAY))
    assert [where for where, _ in net.out] == [1, 2, "wire", 0]
    assert net.nic.losses == {}


def test_an_entry_left_behind_swallows_and_its_removal_lets_out() -> None:
    net = Net()
    net.nic.write(pf.VFRE.offset, 6)
    net.nic.transmit(1, frame(GUEST, OTHER))
    assert (net.out, net.nic.losses) == ([], {(SwitchLoss.VFRE_OFF, 0): 1})
    net.nic.write(pf.MPSAR_LO.address(0), 0)
    net.nic.transmit(1, frame(GUEST, OTHER))
    assert net.out == [("wire", frame(GUEST, OTHER))]


def test_a_reset_vf_is_deaf_and_dumb() -> None:
    net = Net()
    net.nic.transmit(0, frame(AWAY, GUEST))
    net.nic.flr(0)
    net.out.clear()
    net.nic.transmit(0, frame(AWAY, GUEST))
    net.nic.receive(frame(GUEST, AWAY))
    assert net.out == []
    assert net.nic.losses == {(SwitchLoss.VFTE_OFF, 0): 1, (SwitchLoss.VFRE_OFF, 0): 1}


def test_counters_count_what_got_through() -> None:
    net = Net()
    net.nic.transmit(0, frame(OTHER, GUEST, 60))
    net.nic.transmit(0, frame(OTHER, GUEST, 100))
    net.nic.transmit(0, frame(b"\xff" * 6, GUEST, 64))
    net.nic.transmit(0, frame(bytes.fromhex("01005e000001"), GUEST, 64))
    net.nic.write(pf.VFTE.offset, 6)
    net.nic.transmit(0, frame(OTHER, GUEST))
    vf_counters = [net.nic.vf_read(1, offset) for offset in (0x101C, 0x1020, 0x1024, 0x1034)]
    assert vf_counters == [3, 60 + 100 + 64 + 12, 0, 0]
    assert [net.nic.vf_read(0, offset) for offset in (0x201C, 0x2020, 0x2024)] == [4, 288 + 16, 0]
    assert net.nic.read(0x101C + 0x40) == net.nic.read(0x101C + 0x40) == 3
    assert net.nic.read(0x8300) == 4


def test_multicast_is_counted_and_broadcast_is_not() -> None:
    net = Net()
    group = bytes.fromhex("01005e000001")
    net.nic.write(pf.RAL.address(9), int.from_bytes(group[:4], "little"))
    net.nic.write(pf.RAH.address(9), int.from_bytes(group[4:], "little") | pf.RAH_AV)
    net.nic.write(pf.MPSAR_LO.address(9), 2)
    net.nic.receive(frame(group, AWAY))
    net.nic.receive(frame(b"\xff" * 6, AWAY))
    assert (net.nic.vf_read(1, 0x1034), net.nic.vf_read(1, 0x101C)) == (1, 2)


def test_counters_wrap_at_32_and_36_bits() -> None:
    net = Net()
    counters = net.nic.counters
    counters.rx_packets[1], counters.rx_octets[1] = 0xFFFFFFFF, 0xF_FFFF_FFF0
    counters.tx_packets[0], counters.tx_octets[0] = 0xFFFFFFFF, 0x1_FFFF_FFF0
    net.nic.transmit(0, frame(OTHER, GUEST, 60))
    assert [net.nic.vf_read(1, offset) for offset in (0x101C, 0x1020, 0x1024)] == [0, 0x30, 0]
    assert [net.nic.vf_read(0, offset) for offset in (0x201C, 0x2020, 0x2024)] == [0, 0x30, 2]
    assert [net.nic.read(offset) for offset in (0x1020 + 0x40, 0xD020 + 0x40, 0x8400, 0x8404)] == [0x30, 0, 0x30, 2]


def test_no_sink_is_a_loss_and_no_reception() -> None:
    net = Net()
    net.nic.sinks[1] = None
    net.nic.transmit(0, frame(OTHER, GUEST))
    assert net.nic.losses == {(SwitchLoss.NO_SINK, 1): 1}
    assert (net.nic.vf_read(1, 0x101C), net.nic.vf_read(0, 0x201C)) == (0, 1)


def test_spoofed_frames_are_counted_only_where_told() -> None:
    net = Net()
    net.nic.write(pf.PFVFSPOOF.offset, 3)
    net.nic.transmit(0, frame(OTHER, AWAY))
    assert net.nic.peek(pf.SSVPC.offset) == 0
    net.nic.write(pf.VMECM.offset, 1)
    net.nic.transmit(0, frame(OTHER, AWAY))
    net.nic.transmit(1, frame(GUEST, AWAY))
    assert (net.nic.read(pf.SSVPC.offset), net.nic.read(pf.SSVPC.offset)) == (1, 0)
    assert net.nic.losses == {(SwitchLoss.SPOOFED_MAC, 0): 2, (SwitchLoss.SPOOFED_MAC, 1): 1}
    assert (net.nic.vf_read(0, 0x201C), net.nic.vf_read(0, 0x2020)) == (0, 0)


def test_a_rate_belongs_to_the_pool_of_the_queue() -> None:
    net = Net()
    net.nic.set_link(True)
    net.nic.write(pf.RTTDQSEL.offset, 2)
    net.nic.write(pf.RTTBCNRC.offset, pf.RTTBCNRC_RS_ENA | 100 << 14)  # VF 1: 100 Mb/s
    for _ in range(3):
        net.nic.transmit(1, frame(AWAY, OTHER, 1000))
        net.nic.transmit(0, frame(AWAY, GUEST, 1000))
    assert [data[6:12] for _, data in net.out] == [OTHER, GUEST, GUEST, GUEST]
    net.time = 1.0
    net.nic.switch.service(net.time)
    assert len(net.out) == 6


def test_frames_that_wait_are_lost_with_the_vf() -> None:
    net = Net()
    net.nic.write(pf.RTTDQSEL.offset, 2)
    net.nic.write(pf.RTTBCNRC.offset, pf.RTTBCNRC_RS_ENA | 1000 << 14)
    for _ in range(3):
        net.nic.transmit(1, frame(AWAY, OTHER, 1000))
    net.nic.flr(1)
    assert net.nic.losses == {(SwitchLoss.RATE_LIMITED, 1): 2}
    assert net.nic.read(pf.PVFGPTC.address(1)) == 1
    net.nic.power_on()
    assert net.nic.read(pf.PVFGPTC.address(1)) == 0


def test_a_reset_of_the_device_takes_rates_away() -> None:
    net = Net()
    net.nic.write(pf.RTTDQSEL.offset, 2)
    net.nic.write(pf.RTTBCNRC.offset, pf.RTTBCNRC_RS_ENA | 1000 << 14)
    for _ in range(3):
        net.nic.transmit(1, frame(AWAY, OTHER, 1000))
    net.nic.write(pf.CTRL.offset, pf.CTRL_RST)
    assert (net.nic.read(pf.PVFGPTC.address(1)), len(net.out)) == (0, 1)  # what waited is gone
    net.out.clear()
    for _ in range(3):
        net.nic.transmit(1, frame(AWAY, OTHER, 1000))
    assert len(net.out) == 3


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([GUEST, OTHER, ADDRESS, AWAY]), st.integers(0, 7)), max_size=20
    )
)
def test_every_frame_is_sent_delivered_or_lost(steps: list[tuple[int, bytes, int]]) -> None:
    net = SHARED
    net.out.clear()
    net.nic.losses.clear()
    for pool, destination, enabled in steps:
        net.nic.write(pf.VFRE.offset, enabled)
        before = len(net.out) + sum(net.nic.losses.values())
        net.nic.transmit(pool, frame(destination, AWAY))
        assert len(net.out) + sum(net.nic.losses.values()) == before + 1


SHARED = Net()
