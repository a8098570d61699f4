# SPDX-License-Identifier: Apache-2.0
"""A software host with VF drivers in guests, for the tests of the NIC port and of what carries a VF's state."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeVar

from vferry.nic.ixgbe.bar import VfBar
from vferry.nic.ixgbe.host import SoftwarePf
from vferry.nic.ixgbe.messages import API_ORDER, Api
from vferry.nic.ixgbe.nic import make_host
from vferry.nic.ixgbe.registers import pf, vf
from vferry.nic.ixgbe.vf_driver import SERVICE_SECONDS, VfDriver, run

Result = TypeVar("Result")

VM_MAC = "52:54:00:00:00:01"
STATION = bytes.fromhex("0200000000ee")


class Clock:
    """One time for all hosts."""

    def __init__(self) -> None:
        self.now = 1000.0


class GuestBar:
    """What a guest has mapped: the BAR of whatever VF its host gives it."""

    def __init__(self, bar: VfBar) -> None:
        self.bar = bar

    def read(self, offset: int, /) -> int:
        return self.bar.read(offset)

    def write(self, offset: int, value: int, /) -> None:
        self.bar.write(offset, value)


class Host:
    """One PF, ``eth0``; time passes only when a driver waits or a test says so."""

    def __init__(
        self,
        name: str = "a",
        *,
        clock: Clock | None = None,
        num_vfs: int = 4,
        mtu: int = 1500,
        resume_extension: bool = False,
    ) -> None:
        self.clock = clock or Clock()
        self.wire: list[bytes] = []
        self.nic = make_host(
            name,
            num_vfs=num_vfs,
            mtu=mtu,
            resume_extension=resume_extension,
            now=lambda: self.clock.now,
            wires=[self.wire.append],
        )
        self.received: dict[int, list[bytes]] = {index: [] for index in range(num_vfs)}
        self.bars: dict[VfDriver, GuestBar] = {}
        self.vectors: list[tuple[int, int]] = []

    @property
    def software(self) -> SoftwarePf:
        return self.nic.software("eth0")

    def run(self, steps: Generator[float, None, Result]) -> Result:
        return run(steps, self._advance)

    def _advance(self, seconds: float) -> None:
        self.clock.now += seconds

    def driver(self, index: int, versions: Sequence[Api] = API_ORDER) -> VfDriver:
        """Give a VF to a guest with a driver that has not begun yet."""
        bar = GuestBar(self.software.hardware.vf_bar(index))
        driver = VfDriver(
            bar,
            now=lambda: self.clock.now,
            random_mac=bytes.fromhex("02aa000000") + bytes([index]),
            versions=versions,
        )
        self.bars[driver] = bar
        self.attach(index, driver)
        return driver

    def adopt(self, index: int, driver: VfDriver, source: Host) -> None:
        """Let a guest of ``source`` have a VF here: its memory has come."""
        self.bars[driver] = source.bars.pop(driver)
        self.bars[driver].bar = self.software.hardware.vf_bar(index)
        self.attach(index, driver)

    def attach(self, index: int, driver: VfDriver) -> None:
        def interrupt(vector: int) -> None:
            self.vectors.append((index, vector))
            driver.interrupt(vector)

        self.software.attach(index, sink=self.received[index].append, interrupt=interrupt)

    def guest(self, index: int, versions: Sequence[Api] = API_ORDER, *, mtu: int = 1500) -> VfDriver:
        """Give a VF to a guest, and let its driver probe, open and see the link."""
        driver = self.driver(index, versions)
        assert self.run(driver.probe())
        assert self.run(driver.open())
        self.service(driver)
        if mtu != 1500:
            assert self.run(driver.set_mtu(mtu))
            self.service(driver)
        assert driver.frames_can_flow
        return driver

    def service(self, driver: VfDriver) -> None:
        """Run the service task while interrupts ask for it."""
        for _ in range(10):
            if not driver.service_wanted:
                return
            self.run(driver.watchdog())

    def tick(self, driver: VfDriver, count: int = 1) -> None:
        """Run the service task by its timer."""
        for _ in range(count):
            self.clock.now += SERVICE_SECONDS
            self.run(driver.watchdog())
            self.service(driver)

    def ask(self, index: int, *words: int) -> int:
        """Send a message as a bare VF driver would; return word 0 of what the buffer holds afterwards."""
        bar = self.software.hardware.vf_bar(index)
        bar.write(vf.VFMAILBOX.offset, vf.VFMAILBOX_VFU)
        for place, word in enumerate(words):
            bar.write(vf.VFMBMEM.address(place), word)
        bar.write(vf.VFMAILBOX.offset, vf.VFMAILBOX_REQ)
        return bar.peek(vf.VFMBMEM.address(0))

    def handshake(self, index: int, api: Api = Api.V1_4) -> None:
        """RESET and API_NEGOTIATE, and nothing else."""
        self.ask(index, 1)
        assert self.ask(index, 8, api) == 0xA0000008

    def lost(self, index: int) -> int:
        """Frames that were lost for, or by, a VF."""
        return sum(count for (_reason, pool), count in self.software.hardware.losses.items() if pool == index)

    def snapshot(self) -> list[object]:
        """Everything that is stored: words, configuration spaces, the driver's records, VFs, counts."""
        software = self.software
        hardware = software.hardware
        return [
            list(hardware.bar.words),
            [[hardware.vf_config_read(index, offset, 4) for offset in range(0, 256, 4)] for index in self.received],
            [info.copy() for info in software.driver.vfinfo],
            [software.driver.session(index) for index in self.received],
            [software.driver.is_planted(index) for index in self.received],
            [_function(software, index) for index in self.received],
            list(hardware.counters.rx_packets),
            list(hardware.counters.tx_octets),
            dict(hardware.losses),
            list(hardware.sinks),
            list(self.wire),
            list(self.vectors),
        ]

    def peeked(self) -> list[int]:
        """Every word of the PF's map, of what is hidden behind it, and of every VF's map."""
        hardware = self.software.hardware
        hidden = [offset for register in pf.PF_MAP.hidden for offset in register.addresses]
        words = [hardware.peek(offset) for offset in (*range(0, pf.BAR_SIZE, 4), *hidden)]
        words += [hardware.vf_peek(index, offset) for index in self.received for offset in range(0, vf.BAR_SIZE, 4)]
        return words


def _function(software: SoftwarePf, index: int) -> list[object]:
    function = software.vfs[index]
    return [list(function.table), *(getattr(function, name) for name in function.__slots__ if name != "table")]


def frame(destination: str | bytes, source: str | bytes = STATION, size: int = 60) -> bytes:
    """An untagged frame of ``size`` octets."""
    octets = [end if isinstance(end, bytes) else bytes.fromhex(end.replace(":", "")) for end in (destination, source)]
    return (octets[0] + octets[1] + b"\x88\xb5").ljust(size, b"\0")
