# SPDX-License-Identifier: Apache-2.0
"""Carries the own state of software VFs from host to host.

A state is validated whole against the VF that is to have it, then the function is reset, and the state applied: the
VF's own registers as the device keeps them; the session by the operations of the PF driver, so that the hardware is
programmed whatever the driver believes; counters as totals to go on from.

Settings of the administrator (trust, port VLAN, MAC) are not part of it and must stand before a load: a session that
they do not allow is refused.

Two ways to deal with what the VF's driver had asked of the PF:

* *carried*: the PF driver is given the session, and the VF's driver notices nothing;
* *rebuilt*: the PF has no session for the VF (``clear_to_send`` is 0), and the start sends the VF a notice without
  CTS: its driver then resets itself and asks for everything again. A PF driver that knows the RESUME message keeps
  what the state says the driver had, and programs it at that message.

A stopped VF is not a fenced one: the PF's filters stand, and frames for it are led to it and lost.
"""

from __future__ import annotations

from typing import Final

from vferry.nic.ixgbe import device_state, pci_config
from vferry.nic.ixgbe.device_state import ConfigState, DeviceState, MailboxState
from vferry.nic.ixgbe.host import SoftwarePf
from vferry.nic.ixgbe.nic import IxgbeNic
from vferry.nic.ixgbe.pf_driver import DriverError, VfSession
from vferry.nic.ixgbe.pf_driver.adapter import ETH_FRAME_LEN, ETH_HLEN
from vferry.nic.ixgbe.queues import queues_per_pool
from vferry.nic.ixgbe.registers import pf as pf_registers
from vferry.nic.ixgbe.registers import vf as vf_registers
from vferry.ports.carrier import BadStateError, Carrier, CarrierError
from vferry.ports.nic import NoSuchFunctionError

__all__ = ["IxgbeCarrier"]

_NO_SESSION: Final = VfSession()


class IxgbeCarrier(Carrier):
    """The VFs of one software host."""

    def __init__(self, nic: IxgbeNic) -> None:
        self._nic = nic

    def stop(self, pf: str, vf: int) -> None:
        """Let the VF neither send nor receive nor interrupt. There is no memory that it could have dirtied."""
        self._find(pf, vf, "stop a VF").stop_vf(vf)

    def save(self, pf: str, vf: int, *, session: bool) -> bytes:
        """Return the stopped VF's state; reads nothing that a read changes."""
        software = self._find(pf, vf, "save a VF's state")
        if not software.vfs[vf].stopped:
            raise self._failed("save a VF's state", pf, vf, "it is not stopped: what is saved would not be what it has")
        return device_state.encode(_taken(software, vf, carried=session))

    def validate(self, pf: str, vf: int, state: bytes) -> None:
        """Check the whole of a state against this VF; changes nothing."""
        self._checked(pf, vf, state)

    def load(self, pf: str, vf: int, state: bytes) -> None:
        """Reset the VF and give it a state; it stays stopped."""
        wanted = self._checked(pf, vf, state)
        software = self._nic.software(pf)
        _reset(software, vf)
        try:
            software.driver.load_session(vf, wanted.session or _NO_SESSION)
            if wanted.session is None and wanted.resume is not None and software.resume_extension:
                software.driver.plant_vfinfo(vf, software.driver.vfinfo[vf].copy(), wanted.resume)
        except DriverError as error:  # it was checked a moment ago
            raise self._failed("load a VF's state", pf, vf, error.why) from error
        _give(software, vf, wanted)

    def start(self, pf: str, vf: int) -> None:
        """Let the VF work (again), pass on what was pending, and have a session that was not carried rebuilt."""
        software = self._find(pf, vf, "start a VF")
        function = software.vfs[vf]
        unsent, rebuild = function.unsent, function.rebuild
        function.unsent, function.rebuild = 0, False
        software.start_vf(vf)
        if unsent:
            bar = software.hardware.vf_bar(vf)
            own = bar.peek(vf_registers.VFMAILBOX.offset) & vf_registers.VFMAILBOX_VFU
            bar.write(vf_registers.VFMAILBOX.offset, unsent | own)
        if rebuild:
            software.driver.ping_vf(vf)

    def drop(self, pf: str, vf: int) -> None:
        """Forget the VF's state and session: it is as after a reset, and stopped.

        A MAC that the guest had chosen is forgotten as well. An administrative one keeps its filter: without that,
        ixgbe refuses to take the address away (ENOMEM).
        """
        software = self._find(pf, vf, "drop a VF's state")
        _reset(software, vf)
        driver, info = software.driver, software.driver.vfinfo[vf]
        try:
            driver.load_session(vf, _NO_SESSION)
        except DriverError:  # a rate, and its link is gone
            driver.set_vf_link_state(vf, info.link_state)
            software.flr(vf)
            if any(info.vf_mac_addresses):
                assigned = info.pf_set_mac
                driver.set_vf_mac(vf, info.vf_mac_addresses)
                info.pf_set_mac = assigned
        if not info.pf_set_mac:
            driver.set_vf_mac(vf, bytes(6))

    # Inside

    def _find(self, pf: str, vf: int, what: str) -> SoftwarePf:
        try:
            return self._nic.function(pf, vf, what)
        except NoSuchFunctionError as error:
            raise self._failed(what, pf, vf, error.why) from error

    def _failed(self, what: str, pf: str, vf: int, why: str) -> CarrierError:
        return CarrierError(what, why=why, host=self._nic.host().hostname, pf=pf, vf=vf)

    def _checked(self, pf: str, vf: int, data: bytes) -> DeviceState:
        """Return a state that this VF can have."""
        software = self._find(pf, vf, "check a VF's state")
        try:
            state = device_state.decode(data)
            _check(software, vf, state)
        except BadStateError as error:
            raise self._refused(pf, vf, error.why, error.next_step) from error
        except DriverError as error:
            why = f"this PF cannot give the session that it has: {error.why}"
            raise self._refused(pf, vf, why, "change the VF's settings here, or choose another host") from error
        return state

    def _refused(self, pf: str, vf: int, why: str, next_step: str) -> BadStateError:
        host = self._nic.host().hostname
        return BadStateError("load a VF's state", why=why, next_step=next_step, host=host, pf=pf, vf=vf)


def _reset(software: SoftwarePf, vf: int) -> None:
    """Stop and reset a VF, and forget what it was to resume."""
    software.stop_vf(vf)
    software.driver.forget_planted(vf)
    software.flr(vf)


def _queues(software: SoftwarePf) -> int:
    return queues_per_pool(software.hardware.peek(pf_registers.GCR_EXT.offset))


def _check(software: SoftwarePf, vf: int, state: DeviceState) -> None:
    """Hold a state against the VF that is to have it.

    :raise BadStateError: the VF is not such a device, or would be deaf.
    :raise DriverError: the PF driver cannot give the session.
    """
    if not software.driver.is_up:
        raise BadStateError("", why="the PF is down: its VFs cannot work", next_step="bring the PF up")
    queues = _queues(software)
    if state.queues != queues:
        raise BadStateError("", why=f"it has {state.queues} queues, and this VF {queues}: the numbers of VFs differ")
    session = state.session or _NO_SESSION
    software.driver.check_session(vf, session)
    if state.resume is not None and software.resume_extension:
        software.driver.check_session(vf, state.resume)
    jumbo = software.driver.mtu + ETH_HLEN > ETH_FRAME_LEN
    if jumbo and session.clear_to_send and session.max_frame is None and _receives(state):
        why = f"the PF has MTU {software.driver.mtu}, and the VF has agreed on no frame size: it would receive nothing"
        raise BadStateError("", why=why, next_step="have the session rebuilt, or set the PF's MTU to 1500")


def _receives(state: DeviceState) -> bool:
    """Whether a receive queue is enabled."""
    registers = dict(zip(device_state.queue_offsets(state.queues), state.queue_registers, strict=True))
    enables = vf_registers.VFRXDCTL.addresses[: state.queues]
    return any(registers[offset] & vf_registers.RXDCTL_ENABLE for offset in enables)


def _taken(software: SoftwarePf, vf: int, *, carried: bool) -> DeviceState:
    """Take a VF's state; every register is peeked."""
    bar, function, queues = software.hardware.vf_bar(vf), software.vfs[vf], _queues(software)
    session = _session(software, vf)
    return DeviceState(
        queues=queues,
        config=_config(software.hardware.vf_config(vf)),
        table=tuple(function.table),
        pending=function.pending,
        registers=tuple(bar.peek(offset) for offset in device_state.FUNCTION_OFFSETS),
        queue_registers=tuple(bar.peek(offset) for offset in device_state.queue_offsets(queues)),
        mailbox=_mailbox(software, vf) if carried else None,
        session=session if carried else None,
        resume=session if software.resume_extension and session.clear_to_send and not carried else None,
        counters=software.counters(vf),
    )


def _session(software: SoftwarePf, vf: int) -> VfSession:
    """Return the VF's session; none where the PF has yet to hear that the VF was reset."""
    reset = software.hardware.peek(pf_registers.VFLRE.address(vf // 32)) >> vf % 32 & 1
    return _NO_SESSION if reset else software.driver.session(vf)


def _config(config: pci_config.VfConfigSpace) -> ConfigState:
    return ConfigState(
        command=config.read(pci_config.COMMAND, 2),
        msix_control=config.read(pci_config.MSIX_CONTROL, 2),
        bar0=config.read(pci_config.BAR0, 4) | config.read(pci_config.BAR0 + 4, 4) << 32,
        bar3=config.read(pci_config.BAR3, 4) | config.read(pci_config.BAR3 + 4, 4) << 32,
    )


def _mailbox(software: SoftwarePf, vf: int) -> MailboxState:
    bar = software.hardware.vf_bar(vf)
    causes = software.hardware.peek(pf_registers.PFMBICR.address(vf >> pf_registers.PFMBICR_SHIFT)) >> (vf & 15)
    unsent = software.vfs[vf].unsent
    unsent |= vf_registers.VFMAILBOX_REQ if causes & pf_registers.PFMBICR_VFREQ else 0
    unsent |= vf_registers.VFMAILBOX_ACK if causes & pf_registers.PFMBICR_VFACK else 0
    return MailboxState(
        control=bar.peek(vf_registers.VFMAILBOX.offset) & ~vf_registers.VFMAILBOX_PFU,
        unsent=unsent,
        words=tuple(bar.peek(offset) for offset in vf_registers.VFMBMEM.addresses),
    )


def _give(software: SoftwarePf, vf: int, state: DeviceState) -> None:
    """Give a reset VF its registers, as the device keeps them: nothing fires, nothing is answered."""
    bar, function = software.hardware.vf_bar(vf), software.vfs[vf]
    offsets = (*device_state.FUNCTION_OFFSETS, *device_state.queue_offsets(state.queues))
    for offset, value in zip(offsets, (*state.registers, *state.queue_registers), strict=True):
        bar.poke(offset, value)
    _give_config(software.hardware.vf_config(vf), state.config)
    function.table[:] = state.table
    function.pending = state.pending
    if state.mailbox is not None:
        _give_mailbox(software, vf, state.mailbox)
    function.rebuild = state.session is None
    if state.counters is not None:
        software.driver.load_vf_stats(vf, state.counters)


def _give_config(config: pci_config.VfConfigSpace, state: ConfigState) -> None:
    config.write(pci_config.COMMAND, 2, state.command)
    config.write(pci_config.MSIX_CONTROL, 2, state.msix_control)
    for offset, bar in ((pci_config.BAR0, state.bar0), (pci_config.BAR3, state.bar3)):
        config.write(offset, 4, bar & 0xFFFFFFFF)
        config.write(offset + 4, 4, bar >> 32)


def _give_mailbox(software: SoftwarePf, vf: int, state: MailboxState) -> None:
    """RSTI says how this PF is, not how the other one was."""
    bar, function = software.hardware.vf_bar(vf), software.vfs[vf]
    here = bar.peek(vf_registers.VFMAILBOX.offset) & vf_registers.VFMAILBOX_RSTI
    bar.poke(vf_registers.VFMAILBOX.offset, state.control & ~vf_registers.VFMAILBOX_RSTI | here)
    for offset, word in zip(vf_registers.VFMBMEM.addresses, state.words, strict=True):
        bar.poke(offset, word)
    function.unsent = state.unsent
