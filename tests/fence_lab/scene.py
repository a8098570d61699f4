# SPDX-License-Identifier: Apache-2.0
"""A VM on a VF, everybody who can send to it, and what becomes of every frame.

Host a has an igb whose VF 0 is the VM (namespace ``g0``: administrative MAC, a VLAN interface, a joined multicast
group, a second MAC) and whose VF 1 is a neighbour (``g1``); the PF has an address of its own. Host b is far away on
the wire. :meth:`Scene.observe` lets everybody send every kind of frame, and the VM send as well, and says what was
received inside and what left by the wire. So a test is: set the scene, observe, act, observe::

    scene = set_scene(a, b, wire)
    before = scene.observe()
    fenced = watch(scene, lambda scene: scene.a.vferry("fence", ...))
    assert covered(fenced) >= {Column.ADMIN_UNICAST}

Frames are matched by what they say (round, sender, kind), never by a clock.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from lab import Host, Vf, Wire
from lab.frames import BROADCAST, LabFrame
from lab.machine.devices import wait_carrier
from lab.standard import host_mac, use_vf, vf_mac
from tests.fence_lab.ears import Ear, Mouth, send
from vferry.core.fence import ASSUMED_PARKING_VID, Column

GUEST_VID = 50
FRAMES = 2
"""Frames of each kind from each sender in a round."""

VM_MAC, NEIGHBOUR_MAC, SECOND_MAC = vf_mac("a", 0), vf_mac("a", 1), "52:54:00:ee:00:01"
PF_MAC, FAR_MAC = host_mac("a"), host_mac("b")
JOINED, STRANGE = "01:00:5e:01:02:03", "01:00:5e:05:06:07"

PF, NEIGHBOUR, FAR = SENDERS = ("pf", "neighbour", "far")
ON_THE_NIC = (PF, NEIGHBOUR)
"""Senders whose frames to the VM the NIC keeps inside while it thinks that the VM is there."""

_VM = "vm"

KINDS: dict[str, tuple[str, int | None]] = {
    "admin": (VM_MAC, None),
    "admin in VLAN": (VM_MAC, GUEST_VID),
    "second": (SECOND_MAC, None),
    "second in VLAN": (SECOND_MAC, GUEST_VID),
    "broadcast": (BROADCAST, None),
    "multicast": (JOINED, None),
    "strange multicast": (STRANGE, None),
    "broadcast in VLAN": (BROADCAST, GUEST_VID),
    "multicast in VLAN": (JOINED, GUEST_VID),
}
"""Frames to the VM: destination and the VLAN of the guest's own that they are in."""

COLUMN_KINDS: dict[Column, tuple[str, ...]] = {
    Column.ADMIN_UNICAST: ("admin", "admin in VLAN"),
    Column.GUEST_UNICAST: ("second", "second in VLAN"),
    Column.MULTICAST: ("broadcast", "multicast", "strange multicast"),
    Column.GUEST_VLAN: ("broadcast in VLAN", "multicast in VLAN"),
}
"""The kinds of frames that each column is about; TRANSMIT is about the VM's own, DMA cannot be seen in frames."""

_UNICAST = (Column.ADMIN_UNICAST, Column.GUEST_UNICAST)

VM_KINDS: dict[str, tuple[str, bool]] = {
    "to far": (FAR_MAC, False),
    "to far in VLAN": (FAR_MAC, True),
    "to all": (BROADCAST, False),
    "to all in VLAN": (BROADCAST, True),
    "to pf": (PF_MAC, False),
    "to neighbour": (NEIGHBOUR_MAC, False),
}
"""Frames of the VM: destination, and whether they go through its VLAN interface."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a round's frames.

    :ivar asked: the kinds of frames that were sent to the VM; under a port VLAN the guest has no VLANs of its own.
    :ivar inside: frames that the VM received, by (sender, kind).
    :ivar wire: frames that left host a by the wire, by (sender, kind).
    :ivar sent: VLAN tags, outermost first, of the VM's own frames on the wire, by kind.
    :ivar heard: the VM's own frames that the PF and the neighbour received, by (receiver, kind).
    """

    asked: tuple[str, ...]
    inside: Counter[tuple[str, str]] = field(default_factory=Counter)
    wire: Counter[tuple[str, str]] = field(default_factory=Counter)
    sent: dict[str, set[tuple[int, ...]]] = field(default_factory=dict)
    heard: Counter[tuple[str, str]] = field(default_factory=Counter)


@dataclass(kw_only=True)
class Scene:
    """The VM, its neighbours, and the far host; made by :func:`set_scene`.

    :ivar pf: the PF's interface on host a; also the far host's on b.
    :ivar vm: the VM's VF, with its interface.
    :ivar neighbour: the other VF.
    :ivar port_vid: the port VLAN that the VM and all others are in, `None` for none.
    """

    a: Host
    b: Host
    wire: Wire
    pf: str
    vm: Vf
    neighbour: Vf
    port_vid: int | None
    _round: int = 0
    _ears: dict[str, Ear] = field(default_factory=dict)

    # Section: what an administrator does

    def set_vf(self, settings: str) -> None:
        """``ip link set PF vf 0 SETTINGS``."""
        self.a.run(f"ip link set {self.pf} vf {self.vm.index} {settings}")

    def reset_vm(self) -> None:
        """Reset the VM's VF (FLR)."""
        self.a.run(f"echo 1 > /sys/bus/pci/devices/{self.vm.address}/reset")

    # Section: what the guest does

    def flap(self) -> None:
        """Take the VM's interface down and up, so that its driver resets the VF."""
        self._ears.pop(_VM).stop()
        self.a.run(f"ip -n g0 link set {self.vm.netdev} down && ip -n g0 link set {self.vm.netdev} up")
        wait_carrier(self.a, str(self.vm.netdev), "g0")
        self.listen()

    def address_of_vm(self) -> str:
        """Return the MAC that the guest's own interface has."""
        return self.a.run(f"ip netns exec g0 cat /sys/class/net/{self.vm.netdev}/address").out.strip()

    # Section: what becomes of frames

    def listen(self) -> None:
        """Start the listeners that do not run."""
        places = {_VM: (self.vm.netdev, "g0"), NEIGHBOUR: (self.neighbour.netdev, "g1"), PF: (self.pf, None)}
        missing = {name: place for name, place in places.items() if name not in self._ears}
        fresh = {name: Ear(self.a, str(interface), namespace) for name, (interface, namespace) in missing.items()}
        for ear in fresh.values():
            ear.ready()
        self._ears |= fresh

    def observe(self) -> Outcome:
        """Let everybody send a round, and return what became of it."""
        self._round += 1
        self.wire.clear()
        of_a = [*self._frames(PF), *self._frames(NEIGHBOUR), *self._frames_of_vm()]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(send, (self.a, self.b), (of_a, self._frames(FAR))))
        self._settle()
        return self._outcome()

    def traffic(self) -> dict[str, bool]:
        """Return which pings go through: from and to the VM, in its VLAN, and to its second MAC."""
        own, guest = "", "ip netns exec g0 "
        pings = {
            "far to vm": (self.b, own, "10.0.0.1"),
            "vm to far": (self.a, guest, "10.0.0.9"),
            "pf to vm": (self.a, own, "10.0.0.1"),
            "neighbour to vm": (self.a, "ip netns exec g1 ", "10.0.0.1"),
            "far to vm, second MAC": (self.b, own, "10.0.1.1"),
            "vm to far, second MAC": (self.a, guest, "10.0.1.9"),
        }
        if self.port_vid is None:
            pings["far to vm in VLAN"] = (self.b, own, "10.50.0.1")
            pings["vm to far in VLAN"] = (self.a, guest, "10.50.0.9")
        self.a.run("for n in g0 g1; do ip -n $n neigh flush all; done; ip neigh flush all")
        self.b.run("ip neigh flush all")
        with ThreadPoolExecutor(len(pings)) as pool:
            return dict(zip(pings, pool.map(lambda ping: _ping(*ping), pings.values()), strict=True))

    def _frames(self, sender: str) -> Iterator[tuple[Mouth, LabFrame]]:
        mouth, source = {
            PF: (Mouth(host=self.a, interface=self.pf), PF_MAC),
            NEIGHBOUR: (Mouth(host=self.a, interface=str(self.neighbour.netdev), namespace="g1"), NEIGHBOUR_MAC),
            FAR: (Mouth(host=self.b, interface=self.pf), FAR_MAC),
        }[sender]
        # The neighbour's port VLAN is put on by the NIC; the others are in the network by their own tag.
        outer = None if sender == NEIGHBOUR else self.port_vid
        for kind in self._asked():
            destination, guest_vid = KINDS[kind]
            first = LabFrame(
                sender=f"{self._round}/{sender}", kind=kind, seq=0, dst=destination, src=source, vlan=outer or guest_vid
            )
            yield from ((mouth, replace(first, seq=seq)) for seq in range(FRAMES))

    def _asked(self) -> tuple[str, ...]:
        return tuple(kind for kind, (_, guest_vid) in KINDS.items() if guest_vid is None or self.port_vid is None)

    def _frames_of_vm(self) -> Iterator[tuple[Mouth, LabFrame]]:
        for kind, (destination, in_vlan) in VM_KINDS.items():
            interface = f"{self.vm.netdev}.{GUEST_VID}" if in_vlan else str(self.vm.netdev)
            mouth = Mouth(host=self.a, interface=interface, namespace="g0")
            first = LabFrame(sender=f"{self._round}/{_VM}", kind=kind, seq=0, dst=destination, src=VM_MAC)
            yield from ((mouth, replace(first, seq=seq)) for seq in range(FRAMES))

    def _settle(self) -> None:
        """Wait until nothing has arrived anywhere for a while."""
        seen: Sequence[int] = ()
        while (now := [len(self.wire.frames()), *(len(each.frames()) for each in self._ears.values())]) != seen:
            seen = now
            time.sleep(0.25)

    def _outcome(self) -> Outcome:
        outcome = Outcome(asked=self._asked())
        for name, ear in self._ears.items():
            for frame in ear.frames():
                sender = self._sender(frame)
                if name == _VM and sender in SENDERS:
                    outcome.inside[sender, frame.kind] += 1
                if name != _VM and sender == _VM:
                    outcome.heard[name, frame.kind] += 1
        for seen in self.wire.matching(lambda seen: seen.port == "a" and seen.lab is not None):
            assert seen.lab is not None
            sender = self._sender(seen.lab)
            if sender == _VM:
                outcome.sent.setdefault(seen.lab.kind, set()).add(_tags(seen.data))
            elif sender:
                outcome.wire[sender, seen.lab.kind] += 1
        return outcome

    def _sender(self, frame: LabFrame) -> str:
        """Return who sent a frame of this round, an empty text for another round's."""
        number, _, sender = frame.sender.partition("/")
        return sender if number == str(self._round) else ""


def set_scene(
    a: Host, b: Host, wire: Wire, *, trust: bool = True, port_vid: int | None = None, port_qos: int = 0
) -> Scene:
    """Make the VM, the neighbour and the far host.

    :param trust: whether the VF is trusted; without trust igb allows no second MAC beside an administrative one.
    :param port_vid: a port VLAN of the VM's VF; everybody else is in it as well.
    """
    pf = a.pf()
    vfs = a.make_vfs(2)
    a.run(f"ip link set {pf} vf 0 trust {'on' if trust else 'off'}")
    if port_vid is not None:
        a.run(f"ip link set {pf} vf 0 vlan {port_vid} qos {port_qos} && ip link set {pf} vf 1 vlan {port_vid}")
    neighbour, vm = use_vf(a, vfs[1], "10.0.0.2/24"), use_vf(a, vfs[0], "10.0.0.1/24")
    for host, addresses in ((a, ("10.0.0.3",)), (b, ("10.0.0.9", "10.0.1.9"))):
        _join(host, host.pf(), addresses, port_vid)
    b.run(_vlan_interface("ip", b.pf(), GUEST_VID, "10.50.0.9"))
    guest = "ip -n g0"
    a.run(
        f"{_vlan_interface(guest, str(vm.netdev), GUEST_VID, '10.50.0.1')}\n"
        f"{guest} maddr add {JOINED} dev {vm.netdev}\n"
        f"{guest} link add link {vm.netdev} name second address {SECOND_MAC} type macvlan mode bridge\n"
        f"{guest} addr add 10.0.1.1/24 dev second; {guest} link set second up"
    )
    scene = Scene(a=a, b=b, wire=wire, pf=pf, vm=vm, neighbour=neighbour, port_vid=port_vid)
    scene.listen()
    return scene


def watch(scene: Scene, act: Callable[[Scene], object]) -> Outcome:
    """Let somebody act, and return what becomes of frames after it."""
    act(scene)
    return scene.observe()


def violations(outcome: Outcome, column: Column, *, parking_vid: int = ASSUMED_PARKING_VID) -> list[str]:
    """Return in words what contradicts that a fence covers the column; empty: it holds.

    A unicast column holds when nothing came inside **and** all frames of the PF and the neighbour left by the wire.
    """
    if column is Column.TRANSMIT:
        return _transmit_violations(outcome, parking_vid)
    kinds = [kind for kind in COLUMN_KINDS[column] if kind in outcome.asked]
    found = [f"{sender}: {kind}: received" for sender in SENDERS for kind in kinds if outcome.inside[sender, kind]]
    if column in _UNICAST:
        missing = [(sender, kind) for sender in ON_THE_NIC for kind in kinds if outcome.wire[sender, kind] < FRAMES]
        found += [f"{sender}: {kind}: not all on the wire" for sender, kind in missing]
    return found


def covered(outcome: Outcome, *, parking_vid: int = ASSUMED_PARKING_VID) -> set[Column]:
    """Return the columns that hold, of those that frames can tell."""
    columns = [column for column, kinds in COLUMN_KINDS.items() if set(kinds) & set(outcome.asked)]
    return {
        column for column in (*columns, Column.TRANSMIT) if not violations(outcome, column, parking_vid=parking_vid)
    }


def _transmit_violations(outcome: Outcome, parking_vid: int) -> list[str]:
    left = [(kind, tags) for kind, all_tags in outcome.sent.items() for tags in all_tags]
    found = [f"{kind}: left with tags {tags}" for kind, tags in left if tags[:1] != (parking_vid,)]
    return found + [f"{who}: {kind}: heard" for who, kind in outcome.heard]


def _ping(host: Host, within: str, address: str) -> bool:
    return host.run(f"{within}ping -c1 -W1 {address}", check=False).rc == 0


def _join(host: Host, interface: str, addresses: Iterable[str], port_vid: int | None) -> None:
    if port_vid is not None:
        host.run(f"ip link add link {interface} name {interface}.{port_vid} type vlan id {port_vid}")
        interface = f"{interface}.{port_vid}"
        host.run(f"ip link set {interface} up")
    for address in addresses:
        host.run(f"ip addr add {address}/24 dev {interface}")


def _vlan_interface(ip: str, interface: str, vid: int, address: str) -> str:
    name = f"{interface}.{vid}"
    lines = [f"link add link {interface} name {name} type vlan id {vid}", f"addr add {address}/24 dev {name}"]
    return " && ".join(f"{ip} {line}" for line in [*lines, f"link set {name} up"])


def _tags(raw: bytes) -> tuple[int, ...]:
    found: list[int] = []
    offset = 12
    while raw[offset : offset + 2] in (b"\x81\x00", b"\x88\xa8"):
        found.append(int.from_bytes(raw[offset + 2 : offset + 4], "big") & 0xFFF)
        offset += 4
    return tuple(found)
