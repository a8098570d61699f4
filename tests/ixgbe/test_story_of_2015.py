# SPDX-License-Identifier: Apache-2.0
"""The story of the 2015 thread: the VM left with its VF's state, and the host it left cannot talk to it.

The VM runs on another host and asks the first host's own PF something, over the wire. The PF answers, and the answer
goes by the filters of the 82599 that the VM's former VF left behind: to a VF that nobody serves any more, or nowhere,
or, with the address taken out of RAL/RAH and MPSAR, by the wire to where the VM is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from tests.ixgbe.nic_rig import STATION, VM_MAC, Host, frame
from vferry.core.frames import mac_octets
from vferry.core.model import AdminState, LinkState
from vferry.nic.ixgbe.registers import pf
from vferry.nic.ixgbe.switch import SwitchLoss
from vferry.testing import MemoryJournal, SimClock
from vferry.verbs.context import Context, VfRef
from vferry.verbs.fence import FenceRequest, fence

MAC = mac_octets(VM_MAC)
VM_IP, PF_IP = bytes([192, 0, 2, 2]), bytes([192, 0, 2, 1])
BROADCAST = b"\xff" * 6
ARP, IPV4 = b"\x08\x06", b"\x08\x00"
ARP_ETHERNET_IPV4 = bytes.fromhex("000108000604")


def checksum(data: bytes) -> int:
    """RFC 1071, over an even number of octets."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def arp(operation: int, sender: tuple[bytes, bytes], target: tuple[bytes, bytes]) -> bytes:
    """RFC 826; operation 1 asks, and 2 answers."""
    destination = BROADCAST if operation == 1 else target[0]
    parts = (ARP_ETHERNET_IPV4, struct.pack(">H", operation), *sender, *target)
    return (destination + sender[0] + ARP + b"".join(parts)).ljust(60, b"\0")


def echo(kind: int, sender: tuple[bytes, bytes], target: tuple[bytes, bytes]) -> bytes:
    """RFC 792; type 8 asks, and 0 answers. Identifier 1, number 1, eight octets."""
    body = struct.pack(">HH", 1, 1) + b"abcdefgh"
    icmp = struct.pack(">BBH", kind, 0, checksum(struct.pack(">BBH", kind, 0, 0) + body)) + body
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0, sender[1], target[1])
    head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
    return (target[0] + sender[0] + IPV4 + head + icmp).ljust(60, b"\0")


class Left:
    """A host whose VF 1 was the VM's until it left; a network stack on its PF answers ARP and pings."""

    def __init__(self) -> None:
        self.host = Host()
        self.host.nic.program("eth0", {1: AdminState(mac=VM_MAC)})
        self.host.guest(1)
        self.pf_mac = self.host.software.driver.mac
        self.asked: list[bytes] = []
        self.host.software.receive_own(self._stack)
        self.host.received[1].clear()

    def _stack(self, request: bytes) -> None:
        self.asked.append(request)
        own, vm = (self.pf_mac, PF_IP), (request[6:12], VM_IP)
        self.host.software.send(arp(2, own, vm) if request[12:14] == ARP else echo(0, own, vm))

    def ask(self, protocol: str) -> bytes:
        """Let the VM's request come in by the wire; return the answer that the PF sends."""
        vm = (MAC, VM_IP)
        own = (self.pf_mac, PF_IP)
        request = arp(1, vm, (bytes(6), PF_IP)) if protocol == "arp" else echo(8, vm, own)
        self.host.received[1].clear()
        self.host.software.hardware.receive(request)
        assert self.asked == [request]
        return arp(2, own, vm) if protocol == "arp" else echo(0, own, vm)

    def answers(self, protocol: str) -> tuple[int, int]:
        """Ask; return how many answers the former VF got, and how many left by the wire."""
        answer = self.ask(protocol)
        return self.host.received[1].count(answer), self.host.wire.count(answer)

    def enables(self) -> tuple[bool, bool]:
        """VFRE and VFTE of the VM's former VF."""
        hardware = self.host.software.hardware
        return bool(hardware.peek(pf.VFRE.offset) & 2), bool(hardware.peek(pf.VFTE.offset) & 2)


protocols = pytest.mark.parametrize("protocol", ["arp", "icmp"])


@protocols
def test_the_vf_is_on_and_gets_the_answer_that_the_vm_waits_for(protocol: str) -> None:
    left = Left()
    assert left.enables() == (True, True)
    assert left.answers(protocol) == (1, 0)
    assert left.host.software.hardware.losses == {}


@protocols
def test_with_vfte_and_vfre_off_alone_the_answer_is_swallowed(protocol: str) -> None:
    """The address still leads to the pool, and the pool takes nothing: the frame does not leave by the wire either."""
    left = Left()
    left.host.nic.program("eth0", {1: AdminState(link_state=LinkState.DISABLE)})
    assert left.enables() == (False, False)
    assert left.host.software.driver.programmed(1).macs == (MAC,)
    assert left.answers(protocol) == (0, 0)
    losses = left.host.software.hardware.losses
    assert losses[SwitchLoss.VFRE_OFF, 1] == (2 if protocol == "arp" else 1)  # the broadcast that asked, too


@protocols
def test_with_the_address_taken_out_too_the_answer_leaves_by_the_wire(protocol: str) -> None:
    left = Left()
    change = AdminState(mac="02:00:00:00:00:99", link_state=LinkState.DISABLE)
    assert left.host.nic.program("eth0", {1: change}) == {1: None}
    assert left.enables() == (False, False)
    assert MAC not in left.host.software.driver.programmed(1).macs
    assert left.answers(protocol) == (0, 1)


def fenced(left: Left) -> None:
    left.host.nic.assign_vf("eth0", 1, "VM web")
    context = Context(nic=left.host.nic, journal=MemoryJournal(), clock=SimClock())
    fence(context, [VfRef("eth0", 1)], FenceRequest())


@protocols
def test_a_fence_lets_the_answer_leave_by_the_wire(protocol: str) -> None:
    left = Left()
    fenced(left)
    assert left.answers(protocol) == (0, 1)


@pytest.mark.parametrize("fence_it", [lambda _left: None, fenced])
@pytest.mark.parametrize("destination", [STATION, BROADCAST])
def test_a_fenced_vf_sends_nothing_under_the_vms_address(destination: bytes, fence_it: Callable[[Left], None]) -> None:
    """What is left of the VM on this host must not tell the switches that the VM is here; unfenced, it would."""
    left = Left()
    fence_it(left)
    left.asked.clear()
    left.host.software.transmit(1, frame(destination, MAC))
    got_out = fence_it is not fenced
    assert left.host.wire == [frame(destination, MAC)] * got_out
    assert bool(left.asked) == (got_out and destination == BROADCAST)
