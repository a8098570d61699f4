# SPDX-License-Identifier: Apache-2.0
"""A software 82599 with its PF driver and VF drivers, for the tests of both drivers."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeVar

from vferry.nic.ixgbe.hardware import Ixgbe82599
from vferry.nic.ixgbe.messages import API_ORDER, Api
from vferry.nic.ixgbe.pf_driver import LinkState, MacType, PfDriver, ProgrammedVf
from vferry.nic.ixgbe.registers import pf, vf
from vferry.nic.ixgbe.vf_driver import SERVICE_SECONDS, VfDriver, run

Result = TypeVar("Result")

PF_MAC = bytes.fromhex("020000000001")
GUEST_MAC = bytes.fromhex("02aa00000000")
ADMIN_MAC = bytes.fromhex("025400000010")
OTHER_MAC = bytes.fromhex("025400000011")
GROUP = bytes.fromhex("01005e010203")

MPE = pf.VMOLR_MPE
ROMPE = pf.VMOLR_ROMPE


class Rig:
    """One host's port with `num_vfs` VFs; time passes only when a driver waits or a test says so."""

    def __init__(
        self,
        *,
        num_vfs: int = 4,
        mtu: int = 1500,
        mac_type: MacType = MacType.MAC_82599EB,
        resume_extension: bool = False,
        flr_clears_enables: bool = True,
        host: str = "a",
    ) -> None:
        self.now = 1000.0
        self.hw = Ixgbe82599(
            now=lambda: self.now,
            permanent_address=PF_MAC,
            pools=num_vfs,  # the device builds each VF it could have: as few as do
            flr_clears_enables=flr_clears_enables,
        )
        self.hw.set_link(True)
        self.pf = PfDriver(self.hw, mtu=mtu, mac_type=mac_type, resume_extension=resume_extension, host=host)
        self.hw.on_pf_interrupt = self.pf.interrupt
        self.hw.on_vf_interrupt = self._vf_interrupt
        self.vfs: dict[int, VfDriver] = {}
        self.pf.enable_sriov(num_vfs)

    def _vf_interrupt(self, index: int, vector: int) -> None:
        if index in self.vfs:
            self.vfs[index].interrupt(vector)

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def run(self, steps: Generator[float, None, Result]) -> Result:
        return run(steps, self.advance)

    def guest(self, index: int, versions: Sequence[Api] = API_ORDER) -> VfDriver:
        """Probe and open a VF driver, and let its link come up."""
        driver = self.driver(index, versions)
        assert self.run(driver.probe())
        assert self.run(driver.open())
        self.service(driver)
        return driver

    def driver(self, index: int, versions: Sequence[Api] = API_ORDER) -> VfDriver:
        driver = VfDriver(
            self.hw.vf_bar(index),
            now=lambda: self.now,
            random_mac=GUEST_MAC[:5] + bytes([index]),
            versions=versions,
        )
        self.vfs[index] = driver
        return driver

    def service(self, driver: VfDriver, runs: int = 10) -> int:
        """Run the service task while interrupts ask for it; return how often it ran."""
        for done in range(runs):
            if not driver.service_wanted:
                return done
            self.run(driver.watchdog())
        return runs

    def ticks(self, driver: VfDriver, count: int) -> None:
        """Run the service task by its timer, `count` times."""
        for _ in range(count):
            self.advance(SERVICE_SECONDS)
            self.run(driver.watchdog())
            self.service(driver)

    def ask(self, index: int, *words: int) -> list[int]:
        """Send a message as a bare VF driver would, and return the 16 words in the buffer afterwards."""
        bar = self.hw.vf_bar(index)
        bar.write(vf.VFMAILBOX.offset, vf.VFMAILBOX_VFU)
        for place, word in enumerate(words):
            bar.write(vf.VFMBMEM.address(place), word)
        bar.write(vf.VFMAILBOX.offset, vf.VFMAILBOX_REQ)
        return self.buffer(index)

    def buffer(self, index: int) -> list[int]:
        return [self.hw.vf_peek(index, offset) for offset in vf.VFMBMEM.addresses]

    def handshake(self, index: int, api: Api = Api.V1_4) -> None:
        """RESET and API_NEGOTIATE, and nothing else."""
        self.ask(index, 1)
        reply = self.ask(index, 8, api)
        assert reply[0] == 0xA0000008

    def programmed(self, index: int) -> ProgrammedVf:
        return self.pf.programmed(index)


def flows(driver: VfDriver) -> bool:
    """``frames_can_flow``, as a call: a type checker takes an attribute's last value for its present one."""
    return driver.frames_can_flow


def sent(driver: VfDriver, since: int = 0) -> list[str]:
    """The names of the messages a VF driver sent, from number `since` on."""
    return [exchange.text.split(" ")[0] for exchange in driver.log[since:]]


__all__ = [
    "ADMIN_MAC",
    "GROUP",
    "GUEST_MAC",
    "MPE",
    "OTHER_MAC",
    "PF_MAC",
    "ROMPE",
    "Api",
    "LinkState",
    "MacType",
    "Rig",
    "flows",
    "sent",
]
