# SPDX-License-Identifier: Apache-2.0
"""What drivers really read and write: the register accesses of both driver models, recorded and played again.

The PF driver brings the port up and makes VFs; one VF's driver probes and opens; then it sends 100 messages, a
quarter each of: enter a VLAN, set the multicast list, set the address, leave the VLAN. What the PF driver does for
each message is recorded where it happens, in the midst of the VF's access. Played without drivers on a device of its
own, every read gives what it gave then: the device does all of its work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from vferry.nic.ixgbe.bar import PfBar
from vferry.nic.ixgbe.hardware import Ixgbe82599
from vferry.nic.ixgbe.pf_driver import PfDriver
from vferry.nic.ixgbe.registers import pf, vf
from vferry.nic.ixgbe.switch import FILTER_OFFSETS
from vferry.nic.ixgbe.vf_driver import VfDriver, run

VFS: Final = 8
MESSAGES: Final = 100
PERMANENT: Final = bytes.fromhex("020000000001")
GUEST: Final = bytes.fromhex("02aa00000000")

Play = Sequence[tuple[Callable[..., object], int, int | None]]
"""What to call, the offset, and what to write; None: it is a read."""


class Access(NamedTuple):
    """One access to a BAR."""

    of_vf: bool
    offset: int
    written: int | None
    """None: it is a read."""
    seen: int | None
    """What the read gave."""


class Recorder:
    """Stands between a driver and its BAR."""

    def __init__(self, bar: PfBar, of_vf: bool, accesses: list[Access]) -> None:  # noqa: FBT001
        self._bar = bar
        self._of_vf = of_vf
        self._accesses = accesses

    def read(self, offset: int, /) -> int:
        """Read, and write down what came."""
        seen = self._bar.read(offset)  # a read leads to no other access
        self._accesses.append(Access(self._of_vf, offset, None, seen))
        return seen

    def write(self, offset: int, value: int, /) -> None:
        """Write down the access before those that it leads to."""
        self._accesses.append(Access(self._of_vf, offset, value, None))
        self._bar.write(offset, value)


class Clock:
    """Time that passes only when a driver waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def device(clock: Clock, vfs: int) -> Ixgbe82599:
    """Return a device with a link, and nobody to drive it."""
    hardware = Ixgbe82599(now=clock, permanent_address=PERMANENT, pools=vfs)
    hardware.set_link(True)
    return hardware


class Drivers:
    """A device with a PF driver and the driver of VF 0.

    :param accesses: gets what they read and write; None: nobody looks.
    """

    def __init__(self, vfs: int, accesses: list[Access] | None = None) -> None:
        self.clock = Clock()
        hardware = device(self.clock, vfs)
        pf_bar: PfBar = hardware.bar
        vf_bar: PfBar = hardware.vf_bar(0)
        if accesses is not None:
            pf_bar, vf_bar = Recorder(pf_bar, False, accesses), Recorder(vf_bar, True, accesses)
        self.pf = PfDriver(pf_bar)
        self.pf.enable_sriov(vfs)
        hardware.on_pf_interrupt = self.pf.interrupt
        self.vf = VfDriver(vf_bar, now=self.clock, random_mac=GUEST)
        hardware.on_vf_interrupt = self._interrupt

    def _interrupt(self, index: int, vector: int) -> None:
        assert index == 0
        self.vf.interrupt(vector)

    def start(self) -> None:
        """Probe, open, and see the link."""
        advance = self.clock.advance
        assert run(self.vf.probe(), advance)
        assert run(self.vf.open(), advance)
        while self.vf.service_wanted:
            run(self.vf.watchdog(), advance)
        assert self.vf.frames_can_flow

    def messages(self) -> None:
        """Send four messages, each of which the PF grants."""
        advance = self.clock.advance
        assert run(self.vf.add_vlan(100), advance)
        run(self.vf.hw.update_mc_addr_list([bytes.fromhex("01005e000001")]), advance)
        assert run(self.vf.set_mac(GUEST), advance)
        assert run(self.vf.kill_vlan(100), advance)


class Recording(NamedTuple):
    """What was recorded, part by part."""

    vfs: int
    bring_up: list[Access]
    """The PF driver's, until there are VFs."""
    start: list[Access]
    """Both drivers' while the VF's probes and opens."""
    messages: list[Access]
    """Both drivers' for the messages."""

    @property
    def mix(self) -> list[Access]:
        """What a VF with its driver makes of the device, from probe to messages."""
        return [*self.start, *self.messages]

    @property
    def with_effect(self) -> list[Access]:
        """Those accesses of the mix that do more than store: mailbox, causes, masks, and what the switch goes by."""
        return [access for access in self.mix if _has_effect(access)]


def record(vfs: int = VFS) -> Recording:
    """Record drivers on a device with so many VFs."""
    accesses: list[Access] = []
    drivers = Drivers(vfs, accesses)
    up = len(accesses)
    drivers.start()
    started = len(accesses)
    for _ in range(MESSAGES // 4):
        drivers.messages()
    return Recording(vfs, accesses[:up], accesses[up:started], accesses[started:])


_VF_EFFECTS = frozenset(
    offset
    for register in (vf.VFMAILBOX, vf.VTEICR, vf.VTEICS, vf.VTEIMS, vf.VTEIMC, vf.VFCTRL)
    for offset in register.addresses
)
_PF_EFFECTS = frozenset(
    offset for register in (pf.PFMAILBOX, pf.EICR, pf.EICS, pf.EIMS, pf.EIMC) for offset in register.addresses
)
_PF_WRITE_EFFECTS = FILTER_OFFSETS.union(pf.PFMBICR.addresses, pf.VFLREC.addresses)


def _has_effect(access: Access) -> bool:
    if access.of_vf:
        return access.offset in _VF_EFFECTS
    return access.offset in _PF_EFFECTS or (access.written is not None and access.offset in _PF_WRITE_EFFECTS)


class Storage:
    """The floor: a BAR that stores words and does nothing else, not even look whether the offset is one."""

    def __init__(self, size: int) -> None:
        self.words = [0] * (size >> 2)

    def read(self, offset: int) -> int:
        """Return a word."""
        return self.words[offset >> 2]

    def write(self, offset: int, value: int) -> None:
        """Store the low 32 bits of a word."""
        self.words[offset >> 2] = value & 0xFFFFFFFF


class Bars(NamedTuple):
    """Where accesses are played."""

    read: tuple[Callable[[int], object], Callable[[int], object]]
    """The PF's and the VF's."""
    write: tuple[Callable[[int, int], object], Callable[[int, int], object]]

    def play(self, accesses: Sequence[Access]) -> Play:
        """Return accesses as calls."""
        return [
            (self.read[access.of_vf], access.offset, None)
            if access.written is None
            else (self.write[access.of_vf], access.offset, access.written)
            for access in accesses
        ]


def bars_of(hardware: Ixgbe82599) -> Bars:
    """Return the BARs of a device's PF and of its VF 0."""
    own, vf_bar = hardware.bar, hardware.vf_bar(0)
    return Bars((own.read, vf_bar.read), (own.write, vf_bar.write))


def bars_of_storage() -> Bars:
    """Return two that only store."""
    own, vf_bar = Storage(pf.BAR_SIZE), Storage(vf.BAR_SIZE)
    return Bars((own.read, vf_bar.read), (own.write, vf_bar.write))


def bars_of_nothing() -> Bars:
    """Return two that do nothing: what the loop and the calls cost."""

    def read(_offset: int) -> None:
        pass

    def write(_offset: int, _value: int) -> None:
        pass

    return Bars((read, read), (write, write))


def batch(play: Play) -> Callable[[], int]:
    """Return what plays accesses and counts them, a few thousand at a time at least."""
    play = list(play) * max(1, 4000 // len(play))

    def run_it() -> int:
        for call, offset, value in play:
            if value is None:
                call(offset)
            else:
                call(offset, value)
        return len(play)

    return run_it


def check(recording: Recording) -> Bars:
    """Play a recording on a new device and see that every read gives what it gave; return that device's BARs."""
    bars = bars_of(device(Clock(), recording.vfs))
    for number, access in enumerate([*recording.bring_up, *recording.mix]):
        if access.written is not None:
            bars.write[access.of_vf](access.offset, access.written)
            continue
        seen = bars.read[access.of_vf](access.offset)
        assert seen == access.seen, f"access {number}, {access}: {seen}"
    return bars
