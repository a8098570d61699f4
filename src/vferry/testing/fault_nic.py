# SPDX-License-Identifier: Apache-2.0
"""Wraps any NIC and makes declared things go wrong.

.. code-block:: python

    nic = FaultNic(inner, [ErrnoFault(vf=2, attribute=Attribute.TRUST, number=errno.EINVAL)], clock=clock)

What no fault concerns passes through unchanged.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TypeVar

import msgspec

from vferry.core.model import (
    DOT1AD,
    DOT1Q,
    AdminState,
    Attribute,
    EswitchMode,
    FunctionState,
    HostFacts,
    Mac,
    PciState,
    PfFacts,
    PfReading,
    VfFacts,
    VfReading,
)
from vferry.ports.clock import Clock
from vferry.ports.nic import (
    ArmedRequest,
    IncompleteReadingError,
    Nic,
    NicError,
    NoSuchFunctionError,
    NotSupportedError,
    UnknownOutcomeError,
)
from vferry.testing.clock import SimClock
from vferry.testing.faults import (
    ErrnoFault,
    Fault,
    HiddenFault,
    IgnoredFault,
    LossyProtocolFault,
    ReloadFault,
    ResetFault,
    ShortReadingFault,
    SlowFault,
    VanishFault,
)
from vferry.testing.kernel_errors import kernel_error
from vferry.testing.settings import FIELD_OF, SETTERS, fields_of, only, split_before, without

__all__ = ["FaultNic"]

F = TypeVar("F", bound=Fault)
A = TypeVar("A", HiddenFault, IgnoredFault)
T = TypeVar("T")

IFINDEX_STEP = 1000
"""How far a reloaded driver's ifindex is from the one before."""


class FaultNic(Nic):
    """A NIC with faults.

    :param inner: the NIC that does the work.
    :param faults: what goes wrong; of several that match one call, the first declared strikes.
    :param clock: lets slow calls take their time.
    :raise ValueError: there is a :class:`SlowFault` and no clock.
    """

    def __init__(self, inner: Nic, faults: Iterable[Fault] = (), *, clock: Clock | None = None) -> None:
        self.inner = inner
        self.faults = tuple(faults)
        self.calls: list[str] = []
        """The port's methods as they were called; ``at_call`` counts them from 1."""
        self.struck: list[tuple[int, Fault]] = []
        """Which call met which fault."""
        self._clock = clock
        self._left = {number: fault.times for number, fault in enumerate(self.faults)}
        self._hidden: set[tuple[str, int, Attribute]] = set()
        self._busy: dict[tuple[str, int], list[int]] = {}
        self._lives: dict[str, int] = {}
        if clock is None and any(isinstance(fault, SlowFault) for fault in self.faults):
            raise ValueError("a slow NIC needs a clock")

    # Reading

    def host(self) -> HostFacts:
        """Return the facts of the host."""
        return self._call("host", None, None, self.inner.host)

    def pfs(self) -> tuple[PfFacts, ...]:
        """Return every PF."""
        return tuple(self._shown_pf(pf) for pf in self._call("pfs", None, None, self.inner.pfs))

    def pf(self, pf: str) -> PfFacts:
        """Return the facts of one PF."""
        return self._shown_pf(self._call("pf", pf, None, lambda: self.inner.pf(pf)))

    def vfs(self, pf: str) -> tuple[VfFacts, ...]:
        """Return the facts of every VF that is left."""
        return self._call("vfs", pf, None, lambda: self.inner.vfs(pf))[: self._remaining(pf)]

    def read(self, pf: str, *, statistics: bool = False) -> PfReading:
        """Read the settings of all VFs that are left, with what is hidden or lost taken out."""
        reading = self._call("read", pf, None, lambda: self.inner.read(pf, statistics=statistics))
        if self._take(ShortReadingFault, pf, None):
            raise IncompleteReadingError("read the VFs' settings", pf=pf, why="the list is short")
        remaining = self._remaining(pf)
        return msgspec.structs.replace(
            reading,
            ifindex=self._shown_ifindex(pf, reading.ifindex),
            num_vfs=reading.num_vfs if remaining is None else min(remaining, reading.num_vfs),
            vfs=tuple(self._shown_vf(pf, vf) for vf in reading.vfs[:remaining]),
        )

    def read_pci(self, pf: str, vf: int) -> PciState | None:
        """Read a VF's PCI words."""
        return self._call("read_pci", pf, vf, lambda: self.inner.read_pci(pf, vf))

    def read_function(self, pf: str, vf: int) -> FunctionState | None:
        """Read a VF's port function."""
        return self._call("read_function", pf, vf, lambda: self.inner.read_function(pf, vf))

    def read_fdb(self, pf: str) -> tuple[Mac, ...]:
        """Return the PF's own forwarding entries."""
        return self._call("read_fdb", pf, None, lambda: self.inner.read_fdb(pf))

    # Changing

    def arm(self, pf: str, changes: Mapping[int, AdminState]) -> ArmedRequest:
        """Encode a change; faults strike when it is sent."""
        armed = self._call("arm", pf, None, lambda: self._arm_inner(pf, changes))
        return _Armed(self, pf, self._lives.get(pf, 0), dict(changes), armed)

    def program(self, pf: str, changes: Mapping[int, AdminState]) -> Mapping[int, NicError | None]:
        """Encode a change and send it at once."""
        self._enter("program")
        return self._send(pf, dict(changes), self._arm_inner(pf, changes))

    def write_pci(self, pf: str, vf: int, state: PciState) -> None:
        """Write a VF's PCI words."""
        self._call("write_pci", pf, vf, lambda: self.inner.write_pci(pf, vf, state))

    def reset_vf(self, pf: str, vf: int) -> None:
        """Reset the function."""
        self._call("reset_vf", pf, vf, lambda: self.inner.reset_vf(pf, vf))

    def set_pf(self, pf: str, *, admin_up: bool | None = None, mtu: int | None = None) -> None:
        """Bring a PF up or down, set its MTU."""
        self._call("set_pf", pf, None, lambda: self.inner.set_pf(pf, admin_up=admin_up, mtu=mtu))

    def add_fdb(self, pf: str, mac: Mac) -> None:
        """Add a forwarding entry of the PF's own."""
        self._call("add_fdb", pf, None, lambda: self.inner.add_fdb(pf, mac))

    def remove_fdb(self, pf: str, mac: Mac) -> None:
        """Remove a forwarding entry of the PF's own."""
        self._call("remove_fdb", pf, None, lambda: self.inner.remove_fdb(pf, mac))

    def set_eswitch_mode(self, pf: str, mode: EswitchMode) -> None:
        """Set the eswitch mode."""
        self._call("set_eswitch_mode", pf, None, lambda: self.inner.set_eswitch_mode(pf, mode))

    def program_function(self, pf: str, vf: int, change: FunctionState) -> None:
        """Set port-function attributes."""
        self._call("program_function", pf, vf, lambda: self.inner.program_function(pf, vf, change))

    # What strikes, and when

    def _live(self, kind: type[F], pf: str | None, vf: int | None) -> Iterator[tuple[int, F]]:
        for number, fault in enumerate(self.faults):
            if not isinstance(fault, kind) or len(self.calls) < fault.at_call or self._left[number] == 0:
                continue
            if fault.pf in (None, pf) and (fault.vf is None or vf is None or fault.vf == vf):
                yield number, fault

    def _take(
        self, kind: type[F], pf: str | None, vf: int | None, matches: Callable[[F], bool] = lambda _: True
    ) -> F | None:
        """Return the first live fault that matches, and count that it struck."""
        for number, fault in self._live(kind, pf, vf):
            if matches(fault):
                self._strike(number, fault)
                return fault
        return None

    def _strike(self, number: int, fault: Fault) -> None:
        left = self._left[number]
        if left is not None:
            self._left[number] = left - 1
        self.struck.append((len(self.calls), fault))

    def _enter(self, method: str) -> None:
        """Count a call, and reload the drivers that are due."""
        self.calls.append(method)
        for number, fault in enumerate(self.faults):
            if isinstance(fault, ReloadFault) and len(self.calls) >= fault.at_call and self._left[number] != 0:
                self._strike(number, fault)
                self._reload(fault)

    def _call(self, method: str, pf: str | None, vf: int | None, action: Callable[[], T]) -> T:
        """Do one call that is about a PF, or one VF."""
        self._enter(method)
        if pf is not None and vf is not None:
            self._require(pf, vf)
        refused = self._take(ErrnoFault, pf, vf, lambda fault: fault.method == method)
        if refused is not None:
            raise kernel_error(refused.number, method, pf=pf, vf=vf)
        slow = self._take(SlowFault, pf, vf, lambda fault: fault.method == method)
        if slow is not None and self._is_late(slow):
            if slow.applied != 0:
                action()
            raise _unknown(method, slow, pf, vf)
        return action()

    def _is_late(self, slow: SlowFault) -> bool:
        """Let a slow call's time pass, up to its deadline; return whether it is beyond."""
        seconds = min(slow.seconds, slow.deadline)
        if isinstance(self._clock, SimClock):
            self._clock.advance(seconds)
        elif self._clock is not None:
            self._clock.sleep(seconds)
        return slow.seconds > slow.deadline

    def _remaining(self, pf: str) -> int | None:
        """Return how many VFs have not vanished; None: nobody knows of one that has."""
        counts = [fault.vf or 0 for _number, fault in self._live(VanishFault, pf, None)]
        return min(counts, default=None)

    def _is_gone(self, pf: str, vf: int) -> bool:
        remaining = self._remaining(pf)
        return remaining is not None and vf >= remaining

    def _require(self, pf: str, vf: int) -> None:
        if self._is_gone(pf, vf):
            raise NoSuchFunctionError("find the VF", pf=pf, vf=vf)

    def _arm_inner(self, pf: str, changes: Mapping[int, AdminState]) -> ArmedRequest:
        for vf in changes:
            self._require(pf, vf)
        return self.inner.arm(pf, changes)

    def _reload(self, fault: ReloadFault) -> None:
        for pf in self.inner.pfs():
            if fault.pf not in (None, pf.name):
                continue
            self._lives[pf.name] = self._lives.get(pf.name, 0) + 1
            self._hidden = {hidden for hidden in self._hidden if hidden[0] != pf.name}
            self._busy = {key: left for key, left in self._busy.items() if key[0] != pf.name}
            # One attribute a request: what the driver refuses must not keep the others from their defaults.
            for field in fields_of(fault.defaults):
                change = only(fault.defaults, [field])
                self.inner.program(pf.name, dict.fromkeys(range(pf.num_vfs), change))
            with suppress(NotSupportedError):
                for mac in self.inner.read_fdb(pf.name):
                    self.inner.remove_fdb(pf.name, mac)

    # Sending

    def send_armed(
        self, pf: str, life: int, changes: Mapping[int, AdminState], armed: ArmedRequest
    ) -> Mapping[int, NicError | None]:
        """Send a request that was armed in the driver's life ``life``."""
        self._enter("send")
        if life != self._lives.get(pf, 0):
            return {vf: kernel_error(errno.ENODEV, "program VF settings", pf=pf, vf=vf) for vf in changes}
        return self._send(pf, changes, armed)

    def _send(self, pf: str, changes: Mapping[int, AdminState], armed: ArmedRequest) -> Mapping[int, NicError | None]:
        slow = self._take(SlowFault, pf, None, lambda fault: _slows_program(fault, changes))
        if slow is not None and self._is_late(slow):
            reached = list(changes)[: slow.applied]
            self._set_vfs(pf, {vf: changes[vf] for vf in reached})
            raise _unknown("program VF settings", slow, pf, None)
        if any(self._is_concerned(pf, vf) for vf in changes):
            return self._set_vfs(pf, changes)
        return armed.send()

    def _is_concerned(self, pf: str, vf: int) -> bool:
        kinds = (ErrnoFault, HiddenFault, IgnoredFault, ResetFault)
        return (
            self._is_gone(pf, vf)
            or bool(self._busy.get((pf, vf)))
            or any(next(self._live(kind, pf, vf), None) is not None for kind in kinds)
        )

    def _set_vfs(self, pf: str, changes: Mapping[int, AdminState]) -> dict[int, NicError | None]:
        return {vf: self._set_vf(pf, vf, change) for vf, change in changes.items()}

    def _set_vf(self, pf: str, vf: int, change: AdminState) -> NicError | None:
        """Send one VF's change with every fault that concerns it; return its error."""
        what = "program VF settings"
        if self._is_gone(pf, vf):
            return NoSuchFunctionError(what, errno=errno.EINVAL, pf=pf, vf=vf)
        busy = self._busy.get((pf, vf))
        if busy:
            return kernel_error(busy.pop(), what, pf=pf, vf=vf, why="the VF is in reset")
        refused = self._take(ErrnoFault, pf, vf, lambda fault: _refuses_program(fault, change))
        if refused is not None:
            earlier = AdminState() if refused.attribute is None else split_before(change, refused.attribute)[0]
            return self._apply(pf, vf, earlier) or kernel_error(refused.number, what, pf=pf, vf=vf)
        error = self._apply(pf, vf, change)
        if error is None:
            for fault in self._taken_all(HiddenFault, pf, vf, change):
                self._hidden.add((pf, vf, fault.attribute))
        return error

    def _apply(self, pf: str, vf: int, change: AdminState) -> NicError | None:
        """Apply attribute by attribute where one resets the VF, else at once; leave out what is to be ignored."""
        for ignored in self._taken_all(IgnoredFault, pf, vf, change):
            change = without(change, ignored.attribute)
        reset = self._take(ResetFault, pf, vf, lambda fault: FIELD_OF[fault.attribute] in fields_of(change))
        if reset is None:
            return self._program_inner(pf, vf, change)
        through = SETTERS.index(FIELD_OF[reset.attribute]) + 1
        error = self._program_inner(pf, vf, only(change, SETTERS[:through]))
        if error is not None:
            return error
        with suppress(NicError):  # a VF that is no PCI function has nothing to reset
            self.inner.reset_vf(pf, vf)
        self._busy[pf, vf] = [reset.number] * reset.busy
        return self._program_inner(pf, vf, only(change, SETTERS[through:]))

    def _taken_all(self, kind: type[A], pf: str, vf: int, change: AdminState) -> list[A]:
        """Return all live faults about an attribute of ``change``, and count that they struck."""
        fields = fields_of(change)
        faults = [pair for pair in self._live(kind, pf, vf) if FIELD_OF[pair[1].attribute] in fields]
        for number, fault in faults:
            self._strike(number, fault)
        return [fault for _number, fault in faults]

    def _program_inner(self, pf: str, vf: int, change: AdminState) -> NicError | None:
        return self.inner.program(pf, {vf: change})[vf] if fields_of(change) else None

    # What is shown

    def _shown_ifindex(self, pf: str, ifindex: int) -> int:
        return ifindex + IFINDEX_STEP * self._lives.get(pf, 0)

    def _shown_pf(self, facts: PfFacts) -> PfFacts:
        remaining = self._remaining(facts.name)
        return msgspec.structs.replace(
            facts,
            ifindex=None if facts.ifindex is None else self._shown_ifindex(facts.name, facts.ifindex),
            num_vfs=facts.num_vfs if remaining is None else min(remaining, facts.num_vfs),
        )

    def _shown_vf(self, pf: str, vf: VfReading) -> VfReading:
        admin = vf.admin
        for hidden_pf, hidden_vf, attribute in self._hidden:
            if (hidden_pf, hidden_vf) == (pf, vf.index):
                admin = without(admin, attribute)
        has_dot1ad = any(vlan.proto == DOT1AD for vlan in admin.vlans or ())
        if has_dot1ad and self._take(LossyProtocolFault, pf, vf.index):
            vlans = tuple(
                msgspec.structs.replace(vlan, proto=DOT1Q if vlan.proto == DOT1AD else vlan.proto)
                for vlan in admin.vlans or ()
            )
            admin = msgspec.structs.replace(admin, vlans=vlans)
        return msgspec.structs.replace(vf, admin=admin)


class _Armed:
    """A request that was armed in one life of the driver."""

    def __init__(
        self, nic: FaultNic, pf: str, life: int, changes: Mapping[int, AdminState], armed: ArmedRequest
    ) -> None:
        self._nic = nic
        self._pf = pf
        self._life = life
        self._changes = changes
        self._armed = armed

    def send(self) -> Mapping[int, NicError | None]:
        """Send the change."""
        return self._nic.send_armed(self._pf, self._life, self._changes, self._armed)


def _slows_program(fault: SlowFault, changes: Mapping[int, AdminState]) -> bool:
    return fault.method == "program" and (fault.vf is None or fault.vf in changes)


def _refuses_program(fault: ErrnoFault, change: AdminState) -> bool:
    fields = fields_of(change)
    concerns = bool(fields) if fault.attribute is None else FIELD_OF[fault.attribute] in fields
    return fault.method == "program" and concerns


def _unknown(what: str, slow: SlowFault, pf: str | None, vf: int | None) -> UnknownOutcomeError:
    return UnknownOutcomeError(what, pf=pf, vf=vf, why=f"no answer within {slow.deadline} s")
