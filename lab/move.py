# SPDX-License-Identifier: Apache-2.0
"""A VM's VF moved by hand from host a to host b, by the commands an operator types, with everybody talking to it.

The "VM" is a network namespace that holds the VF's interface: ``igbvf`` drives it as it would in a guest. Five senders
talk to its MAC in every phase; each frame is numbered, so what became of it is known: received inside the VM on a or
on b, left a NIC by the wire, or swallowed in a NIC.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.frames import LabFrame
from lab.images.build import Images
from lab.machine.command import Result
from lab.machine.devices import Vf, bring_up
from lab.machine.host import Host, running
from lab.machine.traffic import Receiver, send_frames
from lab.standard import igb_host
from lab.wire.wire import Wire

VM_MAC = "52:54:00:c0:ff:ee"
VLAN = 100
QOS = 3
RATE = 500
"""Mbit/s."""

NAMESPACE = "vm"
NEIGHBOUR = "neighbour"
RECORD = "/root/web.json"
WITNESS_COMMAND = "/usr/local/bin/witness-command"

PER_PHASE = 5
"""Frames that each sender sends in a phase."""

PHASES = (
    "VM runs on a",
    "VM stopped, not fenced",
    "source fenced",
    "restored, VM runs on b",
    "source released",
)

SENDERS = ("PF of a", "neighbour on a", "far host", "PF of b", "neighbour on b")


@dataclass
class Outcome:
    """What became of the frames of one sender in one phase.

    :ivar inside_a: numbers received inside the VM on a.
    :ivar inside_b: numbers received inside the VM on b.
    :ivar wire: numbers that were seen on the wire.
    """

    sent: int
    inside_a: set[int]
    inside_b: set[int]
    wire: set[int]

    @property
    def swallowed(self) -> int:
        """Frames that reached neither a VM nor the wire: a NIC kept them."""
        return self.sent - len(self.inside_a | self.inside_b | self.wire)

    @property
    def lost(self) -> int:
        """Frames that did not reach the VM."""
        return self.sent - len(self.inside_a | self.inside_b)


@dataclass
class Step:
    """One command of the operator, on one host."""

    host: str
    command: str
    result: Result


@dataclass
class Story:
    """Everything that happened.

    :ivar outcomes: by phase and sender.
    """

    steps: list[Step] = field(default_factory=list)
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)


class Move:
    """The hosts a, b and c on a wire, and the VM that moves from a to b."""

    def __init__(self, wire: Wire, a: Host, b: Host, c: Host, say: Callable[[str], None]) -> None:
        self.wire = wire
        self.a, self.b, self.c = a, b, c
        self.story = Story()
        self._say = say
        self.vf_a, self.neighbour_a = a.igb_vfs(2)
        self.vf_b, self.neighbour_b = b.igb_vfs(2)
        self._receivers: dict[str, Receiver] = {}

    def set_up(self) -> None:
        """Give the VM its VF on a, with a port VLAN, a priority and a rate; neighbours in the same VLAN."""
        self._operator(self.a, f"ip link set {self.a.pf()} vf 0 mac {VM_MAC} vlan {VLAN} qos {QOS} max_tx_rate {RATE}")
        for host, vf in ((self.a, self.neighbour_a), (self.b, self.neighbour_b)):
            host.run(f"ip link set {host.pf()} vf 1 mac {neighbour_mac(host)} vlan {VLAN}")
            self._plug(host, vf, NEIGHBOUR)
            host.write(WITNESS_COMMAND, (Path(__file__).parent / "guest" / "witness-command").read_bytes(), 0o755)
        bring_up(self.c, self.c.pf())
        self._plug(self.a, self.vf_a, NAMESPACE)
        self._listen("a", self.a, self.vf_a)

    def run(self, *, fenced: bool = True) -> Story:
        """Move the VM.

        :param fenced: False leaves the fence out: the run that shows what it is for.
        """
        self.set_up()
        pf_a, pf_b = self.a.pf(), self.b.pf()
        self.talk(PHASES[0])
        self.vferry(self.a, "save", f"{pf_a}/0", "--vm", "web", "--mac", f"{pf_a}/0={VM_MAC}", "-o", RECORD)
        self.b.write(RECORD, self.a.read(RECORD))
        self._say("(the record is copied to b)")
        self.vferry(self.b, "check", RECORD, f"{pf_b}/0")
        self.stop_vm()
        self.talk(PHASES[1])
        if fenced:
            witness = ("--witness", "wire", "--witness-command", WITNESS_COMMAND)
            self.vferry(self.a, "fence", f"{pf_a}/0", *witness)
        self.talk(PHASES[2])
        self.vferry(self.b, "restore", RECORD, f"{pf_b}/0")
        self.start_vm()
        self.talk(PHASES[3])
        self.vferry(self.b, "verify", RECORD, f"{pf_b}/0")
        self.vferry(self.a, "release", f"{pf_a}/0")
        self.talk(PHASES[4])
        return self.story

    def vferry(self, host: Host, *arguments: str, check: bool = True) -> Result:
        """Run vferry as the operator of a host would, and keep what it said."""
        return self._operator(host, " ".join(["vferry", *arguments]), check=check)

    def stop_vm(self) -> None:
        """Stop the VM on a: it sends nothing and hears nothing, while its VF is still set up."""
        self._say("(the VM stops on a)")

    def start_vm(self) -> None:
        """Give the VM its VF on b: the driver is bound anew, so that it takes the MAC; the VM announces itself."""
        self._say("(the VM starts on b and announces itself)")
        vf = self._plug(self.b, self.vf_b, NAMESPACE)
        self._listen("b", self.b, vf)
        announcement = LabFrame(sender="vm", kind="announce", seq=0, src=VM_MAC)
        send_frames(self.b, str(vf.netdev), announcement, namespace=NAMESPACE)

    def talk(self, phase: str) -> None:
        """Let every sender send its frames to the VM, and find out what became of each."""
        kind = f"phase{PHASES.index(phase)}"
        for sender in SENDERS:
            self._send(sender, kind)
        time.sleep(0.3)  # what was sent is in a receiver's output by then; the wire itself takes microseconds
        inside = {name: receiver.frames() for name, receiver in self._receivers.items()}
        wire = [frame.lab for frame in self.wire.frames() if frame.lab is not None and frame.lab.kind == kind]
        for sender in SENDERS:
            self.story.outcomes[phase, sender] = Outcome(
                sent=PER_PHASE,
                inside_a=_numbers(inside.get("a", []), sender, kind),
                inside_b=_numbers(inside.get("b", []), sender, kind),
                wire=_numbers(wire, sender, kind),
            )

    def _send(self, sender: str, kind: str) -> None:
        host = {"PF of a": self.a, "neighbour on a": self.a, "far host": self.c}.get(sender, self.b)
        if sender.startswith("neighbour"):
            vf = self.neighbour_a if host is self.a else self.neighbour_b
            frame = LabFrame(sender=sender, kind=kind, seq=0, dst=VM_MAC, src=neighbour_mac(host))
            send_frames(host, str(vf.netdev), frame, count=PER_PHASE, namespace=NEIGHBOUR)
        else:
            frame = LabFrame(sender=sender, kind=kind, seq=0, dst=VM_MAC, src=f"52:54:00:0f:00:{ord(host.name):02x}")
            tagged = LabFrame(**{**frame.__dict__, "vlan": VLAN})
            send_frames(host, host.pf(), tagged, count=PER_PHASE)

    def _plug(self, host: Host, vf: Vf, namespace: str) -> Vf:
        """Bind the VF's driver anew and put its interface into a namespace."""
        host.bind(vf, "igbvf")
        found = host.vfs()[vf.index]
        host.vf_namespace(found, namespace)
        if vf is self.neighbour_a:
            self.neighbour_a = found
        elif vf is self.neighbour_b:
            self.neighbour_b = found
        elif vf is self.vf_a:
            self.vf_a = found
        return found

    def _listen(self, name: str, host: Host, vf: Vf) -> None:
        self._receivers[name] = Receiver(host, str(vf.netdev), promiscuous=True, namespace=NAMESPACE)

    def _operator(self, host: Host, command: str, *, check: bool = True) -> Result:
        self._say(f"{host.name}$ {command}")
        result = host.run(command, check=check)
        self.story.steps.append(Step(host.name, command, result))
        for line in (result.out + result.err).splitlines():
            self._say(f"   {line}")
        return result


def neighbour_mac(host: Host) -> str:
    """Return the MAC of the neighbour VF of a host."""
    return f"52:54:00:0e:00:{ord(host.name):02x}"


def _numbers(frames: list[LabFrame], sender: str, kind: str) -> set[int]:
    return {frame.seq for frame in frames if frame.sender == sender and frame.kind == kind}


@contextmanager
def move_hosts(images: Images, program: Path, say: Callable[[str], None]) -> Iterator[Move]:
    """Start the hosts a, b and c on a wire."""
    with ExitStack() as stack:
        wire = stack.enter_context(Wire())
        hosts = [igb_host(name, wire, images=images, program=program) for name in "abc"]
        a, b, c = stack.enter_context(running(*hosts))
        yield Move(wire, a, b, c, say)
