# SPDX-License-Identifier: Apache-2.0
"""A host with PFs and VFs in memory, which answers as a kernel and its drivers do.

.. code-block:: python

    nic = MemoryNic(host="a", pfs=[MemoryPf(name="eth0", num_vfs=7, behaviour=IGB_LIKE)])
    nic.program("eth0", {0: AdminState(mac="52:54:00:00:00:01")})

The attributes of a VF are applied in the kernel's order and stop at the first error, with the earlier ones applied.
Everything a guest, an operator or a reboot can do to the host is a method too, below the port's own.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from vferry.core.model import (
    DOT1Q,
    ZERO_MAC,
    AdminState,
    EswitchMode,
    FunctionState,
    HostFacts,
    Mac,
    PciState,
    PfFacts,
    PfReading,
    Rate,
    VfFacts,
    VfStatistics,
    Vlan,
)
from vferry.ports.nic import (
    ArmedRequest,
    IncompleteReadingError,
    Nic,
    NicError,
    NoSuchFunctionError,
    NotSupportedError,
    RejectedError,
)
from vferry.testing import memory_state
from vferry.testing.behaviour import Behaviour
from vferry.testing.kernel_errors import kernel_error
from vferry.testing.memory_state import MemoryPf, NicCall, PfState, VfState, first_state, host_facts, shown_vf
from vferry.testing.settings import FIELD_OF, fields_of, only

__all__ = ["MAX_VFS", "MAX_VFS_WITH_STATISTICS", "MemoryNic"]

MAX_VFS = 334
"""VFs whose settings fit into one ``IFLA_VFINFO_LIST``: an attribute's length is a 16-bit field."""
MAX_VFS_WITH_STATISTICS = 221


class MemoryNic(Nic):
    """All PFs of one simulated host.

    :param host: its facts, or just its name.
    :param pfs: its PFs, as they are after boot.
    """

    def __init__(self, *, host: HostFacts | str = "host", pfs: Iterable[MemoryPf] = ()) -> None:
        self._host = host_facts(host) if isinstance(host, str) else host
        self._boots = 1
        self._specs = tuple(pfs)
        self._states: list[PfState] = []
        self._busy: Counter[tuple[int, int]] = Counter()
        self._resets: Counter[tuple[int, int]] = Counter()
        self._last_ifindex = 0
        self.calls: list[NicCall] = []
        """Every call of a port method, in order."""
        self._start()

    # The port

    def host(self) -> HostFacts:
        """Return the facts of the host."""
        self._log("host")
        return self._host

    def pfs(self) -> tuple[PfFacts, ...]:
        """Return every PF, sorted by name."""
        self._log("pfs")
        facts = (memory_state.pf_facts(*pair) for pair in zip(self._specs, self._states, strict=True))
        return tuple(sorted(facts, key=lambda pf: pf.name))

    def pf(self, pf: str) -> PfFacts:
        """Return the facts of one PF."""
        self._log("pf", pf)
        return memory_state.pf_facts(*self._find(pf))

    def vfs(self, pf: str) -> tuple[VfFacts, ...]:
        """Return the facts of every VF of a PF."""
        self._log("vfs", pf)
        spec, state = self._find(pf)
        return tuple(memory_state.vf_facts(spec, index, vf) for index, vf in enumerate(state.vfs))

    def read(self, pf: str, *, statistics: bool = False) -> PfReading:
        """Read the settings of all VFs of a PF at one moment."""
        self._log("read", pf)
        spec, state = self._find(pf)
        behaviour = spec.behaviour
        vfs = state.vfs if behaviour.has_settings else []
        self._refuse_short_list(spec, state, statistics=statistics)
        return PfReading(
            ifindex=state.ifindex,
            num_vfs=len(state.vfs),
            vfs=tuple(shown_vf(behaviour, index, vf, statistics=statistics) for index, vf in enumerate(vfs)),
            has_settings=behaviour.has_settings,
            mtu=state.mtu,
            admin_up=state.admin_up,
            carrier=state.carrier,
            permanent_address=state.permanent_address,
            address=state.address,
        )

    def arm(self, pf: str, changes: Mapping[int, AdminState]) -> ArmedRequest:
        """Encode a change of several VFs; nothing is sent."""
        self._log("arm", pf, changes)
        return self._arm(pf, changes)

    def program(self, pf: str, changes: Mapping[int, AdminState]) -> Mapping[int, NicError | None]:
        """Encode a change and send it at once."""
        self._log("program", pf, changes)
        return self._arm(pf, changes).apply()

    def read_pci(self, pf: str, vf: int) -> PciState | None:
        """Read a VF's PCI words; None where the VF is no PCI function."""
        self._log("read_pci", pf, vf)
        return self._find_vf(pf, vf).pci

    def write_pci(self, pf: str, vf: int, state: PciState) -> None:
        """Write a VF's PCI words; read-only bits stay as they are."""
        self._log("write_pci", pf, vf)
        what = "write PCI words"
        function = self._find_vf(pf, vf)
        if function.pci is None:
            raise kernel_error(errno.EOPNOTSUPP, what, pf=pf, vf=vf, why="the VF is no PCI function")
        if function.driver is not None:
            raise kernel_error(errno.EPERM, what, pf=pf, vf=vf, why=f"{function.driver} is bound to the VF")
        function.pci = _written(function.pci, state)

    def reset_vf(self, pf: str, vf: int) -> None:
        """Reset the function (FLR)."""
        self._log("reset_vf", pf, vf)
        spec, state = self._find(pf)
        function = self._find_vf(pf, vf)
        if function.pci is None:
            raise kernel_error(errno.EOPNOTSUPP, "reset the VF", pf=pf, vf=vf, why="the VF is no PCI function")
        behaviour = spec.behaviour
        if function.driver is None:
            # The kernel saves and restores COMMAND around the reset; MSI-X it restores only where it had enabled it.
            function.pci = msgspec.structs.replace(
                function.pci, msix_control=(function.pci.msix_control or 0) & ~memory_state.MSIX_WRITABLE
            )
        lost = {FIELD_OF[attribute] for attribute in behaviour.lost_at_flr}
        back = {field: getattr(behaviour.defaults, field) for field in lost}
        function.admin = msgspec.structs.replace(function.admin, **back)
        self._drop_guest_requests(behaviour, function)
        self._resets[state.ifindex, vf] += 1

    def set_pf(self, pf: str, *, admin_up: bool | None = None, mtu: int | None = None) -> None:
        """Bring a PF's network interface up or down, set its MTU."""
        self._log("set_pf", pf)
        spec, state = self._find(pf)
        if mtu is not None:
            if not 68 <= mtu <= spec.max_mtu:
                raise kernel_error(errno.EINVAL, f"set the MTU to {mtu}", pf=pf)
            state.mtu = mtu
        if admin_up is not None:
            state.admin_up = admin_up

    def read_fdb(self, pf: str) -> tuple[Mac, ...]:
        """Return the unicast addresses that a PF receives for itself beside its own, sorted."""
        self._log("read_fdb", pf)
        return tuple(sorted(self._find_fdb(pf, "read the PF's forwarding entries")[1].fdb))

    def add_fdb(self, pf: str, mac: Mac) -> None:
        """Let a PF receive for a unicast address too."""
        self._log("add_fdb", pf)
        what = f"add the PF's forwarding entry {mac}"
        spec, state = self._find_fdb(pf, what, mac)
        if mac == state.address or mac in state.fdb:
            return
        if spec.fdb_capacity is not None and len(state.fdb) >= spec.fdb_capacity:
            # The error number of igb and ixgbe, whose filters are all taken.
            why = f"the PF has room for {spec.fdb_capacity} entries"
            raise RejectedError(what, errno=errno.ENOMEM, pf=pf, why=why)
        state.fdb.add(mac)

    def remove_fdb(self, pf: str, mac: Mac) -> None:
        """Take an entry out again."""
        self._log("remove_fdb", pf)
        self._find_fdb(pf, f"remove the PF's forwarding entry {mac}", mac)[1].fdb.discard(mac)

    def set_eswitch_mode(self, pf: str, mode: EswitchMode) -> None:
        """Set the devlink eswitch mode; port functions start anew."""
        self._log("set_eswitch_mode", pf)
        spec, state = self._find(pf)
        if state.eswitch_mode is None:
            raise kernel_error(errno.EOPNOTSUPP, f"set the eswitch mode to {mode.value}", pf=pf)
        if state.eswitch_mode is not mode:
            state.eswitch_mode = mode
            for function in state.vfs:
                function.function = memory_state.default_function(spec.behaviour)

    def read_function(self, pf: str, vf: int) -> FunctionState | None:
        """Read a VF's devlink port function; None outside switchdev mode."""
        self._log("read_function", pf, vf)
        function = self._find_vf(pf, vf)
        return function.function if self._find(pf)[1].switchdev else None

    def program_function(self, pf: str, vf: int, change: FunctionState) -> None:
        """Set devlink port-function attributes and rates; none is set where one is not offered."""
        self._log("program_function", pf, vf)
        spec, state = self._find(pf)
        function = self._find_vf(pf, vf)
        wanted = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not None}
        missing = wanted.keys() - spec.behaviour.function_fields
        if not state.switchdev or missing:
            why = f"no {', '.join(sorted(missing))}" if state.switchdev else "the eswitch is in legacy mode"
            raise kernel_error(errno.EOPNOTSUPP, "program the port function", pf=pf, vf=vf, why=why)
        function.function = msgspec.structs.replace(function.function, **wanted)

    # What guests and operators do

    def guest_sets_mac(self, pf: str, vf: int, mac: str) -> bool:
        """Let the guest choose a MAC; return whether the PF accepts it (trusted, or no administrative MAC)."""
        function = self._find_vf(pf, vf)
        free = function.admin.mac in (None, ZERO_MAC)
        if not (free or function.admin.trust):
            return False
        function.guest_mac = mac
        return True

    def bind_driver(self, pf: str, vf: int, driver: str, *, netdev: str | None = None, user: str | None = None) -> None:
        """Bind a driver to a VF on the host, as ``igbvf`` or ``vfio-pci``."""
        function = self._find_vf(pf, vf)
        memory_state.bind(function, driver)
        function.netdev = netdev
        function.user = user

    def unbind_driver(self, pf: str, vf: int) -> None:
        """Unbind the VF's driver on the host."""
        function = self._find_vf(pf, vf)
        memory_state.bind(function, None)
        function.netdev = None
        function.user = None

    def set_link(self, pf: str, *, up: bool) -> None:
        """Plug the PF's cable in, or pull it."""
        self._find(pf)[1].link = up

    def set_statistics(self, pf: str, vf: int, statistics: VfStatistics) -> None:
        """Set a VF's counters; without effect where the behaviour has none."""
        if self._find(pf)[0].behaviour.statistics:
            self._find_vf(pf, vf).statistics = statistics

    def rename(self, pf: str, name: str) -> None:
        """Give the PF's network interface another name."""
        self._find(pf)[1].name = name

    def set_num_vfs(self, pf: str, num_vfs: int) -> None:
        """Write ``sriov_numvfs``: fewer VFs remove the last ones, more create new ones."""
        spec, state = self._find(pf)
        while len(state.vfs) > num_vfs:
            state.removed.append(state.vfs.pop())
        while len(state.vfs) < num_vfs:
            vf = memory_state.new_vf(spec, state, len(state.vfs))
            if spec.behaviour.settings_survive_removal and state.removed:
                vf.admin = state.removed.pop().admin
            state.vfs.append(vf)
        if not spec.behaviour.settings_survive_removal:
            state.removed.clear()

    def remove_vfs(self, pf: str) -> None:
        """Remove all VFs of a PF."""
        self.set_num_vfs(pf, 0)

    def reload_driver(self, pf: str) -> None:
        """Unbind the PF's driver, bind it again, create as many VFs: all settings are lost, the ifindex is new."""
        spec, state = self._find(pf)
        self._last_ifindex += 1
        state.ifindex = self._last_ifindex
        state.removed.clear()
        state.fdb.clear()
        state.mtu = spec.mtu
        state.eswitch_mode = EswitchMode.LEGACY if spec.behaviour.eswitch else None
        state.vfs = [memory_state.new_vf(spec, state, index) for index in range(len(state.vfs))]

    def reboot(self) -> None:
        """Boot the host again: a new boot id, and everything else as it was declared."""
        self._boots += 1
        self._host = msgspec.structs.replace(self._host, boot_id=f"{self._host.hostname}-boot-{self._boots}")
        self._start()

    # What tests look at

    def snapshot(self) -> bytes:
        """Return the complete state of the host and its drivers as bytes, to compare; calls and resets are no state."""
        return msgspec.json.encode((self._host, self._states), order="deterministic")

    def resets(self, pf: str, vf: int) -> int:
        """Return how often a VF was reset since the PF's driver was loaded, by :meth:`reset_vf` or by a setter."""
        return self._resets[self._find(pf)[1].ifindex, vf]

    def admin_mac(self, pf: str, vf: int) -> str | None:
        """Return the administrative MAC, which a reading cannot tell from the guest's."""
        return self._find_vf(pf, vf).admin.mac

    # Inside

    def _start(self) -> None:
        self._states = [first_state(spec, number, self._host) for number, spec in enumerate(self._specs)]
        self._last_ifindex = max((state.ifindex for state in self._states), default=1)
        self._busy.clear()
        self._resets.clear()

    def _log(self, method: str, pf: str | None = None, about: Mapping[int, AdminState] | int | None = None) -> None:
        if about is None:
            call = NicCall(method=method, pf=pf)
        elif isinstance(about, int):
            call = NicCall(method=method, pf=pf, vfs=(about,))
        else:
            call = NicCall(method=method, pf=pf, vfs=tuple(about), changes=dict(about))
        self.calls.append(call)

    def _find(self, pf: str) -> tuple[MemoryPf, PfState]:
        for spec, state in zip(self._specs, self._states, strict=True):
            if state.name == pf:
                return spec, state
        raise NoSuchFunctionError("find the PF", host=self._host.hostname, pf=pf, errno=errno.ENODEV)

    def _find_fdb(self, pf: str, what: str, mac: Mac | None = None) -> tuple[MemoryPf, PfState]:
        """Return a PF that has forwarding entries, and can have one for ``mac``."""
        spec, state = self._find(pf)
        if not spec.behaviour.has_fdb:
            raise kernel_error(errno.EOPNOTSUPP, what, pf=pf)
        if mac is not None and (mac == ZERO_MAC or not _is_sound("mac", mac)):
            raise kernel_error(errno.EINVAL, what, pf=pf, why="not a unicast address")
        return spec, state

    def _find_vf(self, pf: str, vf: int) -> VfState:
        _spec, state = self._find(pf)
        if not 0 <= vf < len(state.vfs):
            raise NoSuchFunctionError("find the VF", host=self._host.hostname, pf=pf, vf=vf)
        return state.vfs[vf]

    def _refuse_short_list(self, spec: MemoryPf, state: PfState, *, statistics: bool) -> None:
        if not spec.behaviour.has_settings:
            return
        what = "read the VFs' settings"
        limit = MAX_VFS_WITH_STATISTICS if statistics else MAX_VFS
        if len(state.vfs) > limit:
            why = f"{len(state.vfs)} VFs, and the kernel's list holds {limit}"
            raise IncompleteReadingError(what, host=self._host.hostname, pf=state.name, why=why)
        if not spec.behaviour.busy_shortens_reading:
            return
        missing = [vf for vf in range(len(state.vfs)) if self._takes_busy_turn(state, vf)]
        if missing:
            why = f"VFs {missing} are in reset and missing"
            raise IncompleteReadingError(what, host=self._host.hostname, pf=state.name, why=why)

    def _takes_busy_turn(self, state: PfState, vf: int) -> bool:
        turn = self._busy[state.ifindex, vf] > 0
        if turn:
            self._busy[state.ifindex, vf] -= 1
        return turn

    def _arm(self, pf: str, changes: Mapping[int, AdminState]) -> _Armed:
        _spec, state = self._find(pf)
        for vf, change in changes.items():
            self._find_vf(pf, vf)
            if change.vlans is not None and len(change.vlans) > 1:
                raise NotSupportedError(
                    "encode the change", errno=errno.EOPNOTSUPP, pf=pf, vf=vf, why="more than one VLAN"
                )
        return _Armed(self, pf, state.ifindex, dict(changes))

    def _send(self, pf: str, ifindex: int, changes: Mapping[int, AdminState]) -> dict[int, NicError | None]:
        for spec, state in zip(self._specs, self._states, strict=True):
            if state.ifindex == ifindex:
                return {vf: self._set_vf(spec, state, vf, change) for vf, change in changes.items()}
        return {vf: kernel_error(errno.ENODEV, "program VF settings", pf=pf, vf=vf) for vf in changes}

    def _set_vf(self, spec: MemoryPf, state: PfState, vf: int, change: AdminState) -> NicError | None:
        """Apply one VF's change as ``do_setvfinfo()`` does; return its error."""
        what = "program VF settings"
        if not 0 <= vf < len(state.vfs):
            return kernel_error(errno.EINVAL, what, pf=state.name, vf=vf)  # the driver has no other word for it
        fields = fields_of(change)
        if fields and not spec.behaviour.has_settings:
            return kernel_error(errno.EOPNOTSUPP, what, pf=state.name, vf=vf)
        if fields and self._takes_busy_turn(state, vf):
            return kernel_error(spec.behaviour.busy_errno, what, pf=state.name, vf=vf, why="the VF is in reset")
        for field in fields:
            number = self._set_field(spec, state, vf, field, getattr(change, field))
            if number is not None:
                return kernel_error(number, f"set {field} of the VF", pf=state.name, vf=vf)
        return None

    def _set_field(self, spec: MemoryPf, state: PfState, vf: int, field: str, value: object) -> int | None:
        """Set one attribute; return the error number with which it is refused."""
        behaviour = spec.behaviour
        number = behaviour.errno_for(field, value, switchdev=state.switchdev)
        if number is None and not _is_sound(field, value):
            number = errno.EINVAL
        if number is None and isinstance(value, Rate) and not _rate_fits(spec, state, value):
            number = errno.EINVAL
        if number is not None or behaviour.ignores(field, value):
            return number
        function = state.vfs[vf]
        before = only(memory_state.shown_admin(behaviour, function), [field])
        function.admin = msgspec.structs.replace(function.admin, **{field: _stored(value)})
        if field == "mac":
            function.guest_mac = None
        changed = only(memory_state.shown_admin(behaviour, function), [field]) != before
        if changed and any(FIELD_OF[attribute] == field for attribute in behaviour.resetting):
            self._drop_guest_requests(behaviour, function)
            self._resets[state.ifindex, vf] += 1
            self._busy[state.ifindex, vf] = behaviour.busy_requests
        return None

    @staticmethod
    def _drop_guest_requests(behaviour: Behaviour, function: VfState) -> None:
        overwritten = behaviour.guest_mac_survives_flr and function.admin.mac not in (None, ZERO_MAC)
        if not overwritten:
            function.guest_mac = None


class _Armed:
    """A change that is ready; it belongs to the PF's ifindex, as a netlink message does."""

    def __init__(self, nic: MemoryNic, pf: str, ifindex: int, changes: Mapping[int, AdminState]) -> None:
        self._nic = nic
        self._pf = pf
        self._ifindex = ifindex
        self._changes = changes

    def send(self) -> Mapping[int, NicError | None]:
        """Send the change."""
        self._nic._log("send", self._pf, self._changes)  # noqa: SLF001 - one thing in two classes
        return self.apply()

    def apply(self) -> Mapping[int, NicError | None]:
        """Send the change without a call in the log."""
        return self._nic._send(self._pf, self._ifindex, self._changes)  # noqa: SLF001 - one thing in two classes


def _stored(value: object) -> object:
    """Return a value as the driver keeps it: VLAN 0 without a priority is no VLAN, no protocol is 802.1Q."""
    if not isinstance(value, tuple):
        return value
    vlans: tuple[Vlan, ...] = value
    return tuple(
        msgspec.structs.replace(vlan, proto=vlan.proto or DOT1Q) for vlan in vlans if vlan.vid != 0 or vlan.qos != 0
    )


def _is_sound(field: str, value: object) -> bool:
    """Return whether every driver would take the value: no group address, no guarantee above the limit."""
    if isinstance(value, Rate):
        return value.max_tx == 0 or value.min_tx <= value.max_tx
    if field == "mac" and isinstance(value, str):
        return len(value) == len(ZERO_MAC) and not int(value[:2], 16) & 1
    return True


def _rate_fits(spec: MemoryPf, state: PfState, rate: Rate) -> bool:
    if spec.behaviour.rate_needs_link and not state.carrier:
        return False
    return not (spec.behaviour.rate_within_speed and max(rate.max_tx, rate.min_tx) > spec.speed)


def _written(old: PciState, new: PciState) -> PciState:
    command = _masked(old.command, new.command, memory_state.COMMAND_WRITABLE)
    if new.msix_control is None or old.msix_control is None:
        return PciState(command=command, msix_control=old.msix_control)
    msix = _masked(old.msix_control, new.msix_control, memory_state.MSIX_WRITABLE)
    return PciState(command=command, msix_control=msix)


def _masked(old: int, new: int, writable: int) -> int:
    return old & ~writable | new & writable
