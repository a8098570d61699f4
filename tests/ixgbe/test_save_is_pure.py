# SPDX-License-Identifier: Apache-2.0
"""The thread's first objection, "this is a read": saving leaves a working NIC exactly as it was.

The NIC has every kind of state that a careless read would change: a message and an acknowledgement that the PF has not
taken, one that the VF has not taken, a reset that nobody has heard of, interrupt causes, spoofed packets.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.ixgbe.nic_rig import STATION, VM_MAC, Host, frame
from vferry.core.frames import mac_octets
from vferry.core.model import AdminState
from vferry.core.policy import Policy
from vferry.nic.ixgbe.messages import Id
from vferry.nic.ixgbe.registers import pf, vf
from vferry.testing import MemoryJournal, SimClock
from vferry.verbs.check import Terms, check_record
from vferry.verbs.context import Context, VfRef
from vferry.verbs.save import save

MAC = mac_octets(VM_MAC)


def busy_host() -> Host:
    host = Host()
    for index in (0, 1):
        host.nic.program("eth0", {index: AdminState(mac=f"52:54:00:00:00:0{index + 1}")})
        host.guest(index)
    hardware = host.software.hardware
    for _ in range(3):
        hardware.receive(frame(MAC))
        host.software.transmit(0, frame(STATION, MAC))
        host.software.transmit(0, frame(STATION, b"\x02spoof"))
    hardware.write(pf.EIMC.offset, 0xFFFFFFFF)  # the PF is busy with something else
    host.ask(1, Id.GET_LINK_STATE)
    hardware.vf_write(0, vf.VFMAILBOX.offset, vf.VFMAILBOX_ACK)
    hardware.vf_write(2, vf.VFCTRL.offset, vf.VFCTRL_RST)
    host.ask(3, Id.RESET)
    hardware.vf_write(3, vf.VTEICS.offset, 0x7)
    hardware.write(pf.PFMAILBOX.address(0), pf.PFMAILBOX_STS | pf.PFMAILBOX_ACK)
    return host


def test_the_host_has_what_a_read_would_clear() -> None:
    hardware = busy_host().software.hardware
    assert hardware.vf_peek(0, vf.VFMAILBOX.offset) & vf.VFMAILBOX_R2C_BITS == vf.VFMAILBOX_PFSTS | vf.VFMAILBOX_PFACK
    assert hardware.vf_peek(2, vf.VFMAILBOX.offset) & vf.VFMAILBOX_RSTD
    assert hardware.peek(pf.SSVPC.offset) == 3
    assert hardware.peek(pf.PFMBICR.offset) == pf.PFMBICR_VFREQ << 1 | pf.PFMBICR_VFREQ << 3 | pf.PFMBICR_VFACK
    assert hardware.peek(pf.VFLRE.offset) == 1 << 2
    assert hardware.peek(pf.EICR.offset)
    assert hardware.vf_peek(3, vf.VTEICR.offset)


def test_save_check_and_read_change_nothing() -> None:
    host = busy_host()
    context = Context(host.nic, MemoryJournal(), SimClock())
    refs = [VfRef("eth0", index) for index in range(4)]
    before, peeked = host.snapshot(), host.peeked()
    counters = [host.software.counters(index) for index in range(4)]
    record = save(context, refs, vm="web", statistics=True)
    check_record(context, record, list(zip(record.vfs, refs, strict=True)), Terms(policy=Policy()))
    for facts in host.nic.pfs():
        host.nic.read(facts.name, statistics=True)
        host.nic.read_fdb(facts.name)
        host.nic.vfs(facts.name)
    for ref in refs:
        host.nic.read_pci(*ref)
        host.nic.read_function(*ref)
    assert host.peeked() == peeked
    assert host.snapshot() == before
    assert [host.software.counters(index) for index in range(4)] == counters
    assert record.vfs[0].statistics is not None
    assert record.vfs[0].statistics.rx_packets == 3


READS: dict[str, Callable[[Host], object]] = {
    "SSVPC": lambda host: host.software.hardware.read(pf.SSVPC.offset),
    "VFMAILBOX": lambda host: host.software.hardware.vf_read(0, vf.VFMAILBOX.offset),
    "VTEICR": lambda host: host.software.hardware.vf_read(3, vf.VTEICR.offset),
    "the driver's own sums": lambda host: host.software.driver.get_vf_stats(0),
    "the rates, behind a select register": lambda host: host.software.driver.programmed(1),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_an_ordinary_read_is_noticed(read: Callable[[Host], object]) -> None:
    """What the test above compares does change when it is read as drivers do."""
    host = busy_host()
    before = host.snapshot()
    read(host)
    assert host.snapshot() != before
