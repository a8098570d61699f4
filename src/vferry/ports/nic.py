# SPDX-License-Identifier: Apache-2.0
"""The NIC as vferry sees it: PFs with VFs whose settings can be read and programmed.

The port is synchronous on purpose: the kernel answers an RTM_GETLINK inside ``send()``, so an event loop would only
add to the stopped window. An adapter whose calls can block for long takes a deadline from its constructor.

Errors say who is at fault and what may be tried:

.. code-block:: text

    NicError                        a request to the NIC failed
    +-- NoSuchFunctionError         the PF or VF is not there (any more)
    +-- NotSupportedError           the driver does not offer this at all     (EOPNOTSUPP)
    +-- RejectedError               the driver refuses this value             (EINVAL, EPROTONOSUPPORT, ERANGE, ...)
    +-- BusyError                   try again a little later                  (EAGAIN, EBUSY)
    +-- NotPermittedError           the process lacks a capability            (EPERM, EACCES)
    +-- IncompleteReadingError      the kernel's answer is not whole; no part of it may be used
    +-- UnknownOutcomeError         no answer in time: read before doing anything else
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from vferry.core.errors import FailedError
from vferry.core.model import (
    AdminState,
    EswitchMode,
    FunctionState,
    HostFacts,
    Mac,
    PciState,
    PfFacts,
    PfReading,
    VfFacts,
)

__all__ = [
    "MAX_LISTED_VFS",
    "ArmedRequest",
    "BusyError",
    "IncompleteReadingError",
    "Nic",
    "NicError",
    "NoSuchFunctionError",
    "NotPermittedError",
    "NotSupportedError",
    "RejectedError",
    "UnknownOutcomeError",
]


MAX_LISTED_VFS = 334
"""VFs whose settings the kernel can list: the list's length is a 16-bit field (``rtnl_fill_vf()``, Linux 6.12)."""


class NicError(FailedError):
    """A request to the NIC failed.

    :param errno: the kernel's error number, positive, where one was given.
    """

    def __init__(
        self,
        what: str,
        *,
        errno: int | None = None,
        why: str = "",
        next_step: str = "",
        host: str | None = None,
        pf: str | None = None,
        vf: int | None = None,
    ) -> None:
        super().__init__(what, why=why, next_step=next_step, host=host, pf=pf, vf=vf)
        self.errno = errno


class NoSuchFunctionError(NicError):
    """The PF or VF is not there, or not there any more."""


class NotSupportedError(NicError):
    """The driver does not offer this at all (EOPNOTSUPP)."""


class RejectedError(NicError):
    """The driver refuses this value (EINVAL, EPROTONOSUPPORT, ERANGE, ...)."""


class BusyError(NicError):
    """The driver asks to try again later (EAGAIN, EBUSY)."""


class NotPermittedError(NicError):
    """The process lacks a capability (EPERM, EACCES)."""


class IncompleteReadingError(NicError):
    """The kernel's answer is not whole, so no part of it may be used."""


class UnknownOutcomeError(NicError):
    """No answer came in time: the request may have been carried out. Read, then decide."""


class ArmedRequest(Protocol):
    """A change that is encoded and ready: inside the stopped window only the sending is left."""

    def send(self) -> Mapping[int, NicError | None]:
        """Send the change; return the outcome for every VF: None, or the error of that VF.

        A VF with an error may have part of its change applied; later VFs are tried all the same.

        :raise UnknownOutcomeError: no answer within the deadline.
        """
        ...


class Nic(Protocol):
    """All PFs of one host.

    ``pf`` is a PF's name (:attr:`PfFacts.name`: its network interface, or its device address where it has none),
    ``vf`` a VF index on it. Every method may raise :class:`NicError`; :class:`NoSuchFunctionError` where ``pf`` or
    ``vf`` does not exist.
    """

    def host(self) -> HostFacts:
        """Return the facts of the host."""
        ...

    def pfs(self) -> tuple[PfFacts, ...]:
        """Return every device of the host that can have VFs, sorted by name."""
        ...

    def pf(self, pf: str) -> PfFacts:
        """Return the facts of one PF."""
        ...

    def vfs(self, pf: str) -> tuple[VfFacts, ...]:
        """Return the facts of every VF of a PF, in the order of their index."""
        ...

    def read(self, pf: str, *, statistics: bool = False) -> PfReading:
        """Read the settings of all VFs of a PF at one moment; changes nothing.

        :param statistics: ask for the VFs' counters too (slower; for some NICs a firmware command per VF).
        :raise IncompleteReadingError: the kernel's list is short or garbled (more than 334 VFs; 221 with statistics).
        """
        ...

    def arm(self, pf: str, changes: Mapping[int, AdminState]) -> ArmedRequest:
        """Encode a change of several VFs, by index; nothing is sent.

        The attributes of one VF are applied in the order of the kernel's ``do_setvfinfo()``: MAC, VLAN list, rate,
        spoofchk, link state, RSS query, trust, node GUID, port GUID. It stops at the first that fails, with the
        earlier ones applied.

        :raise NotSupportedError: a change cannot be expressed (more than one VLAN).
        """
        ...

    def program(self, pf: str, changes: Mapping[int, AdminState]) -> Mapping[int, NicError | None]:
        """:meth:`arm` and send at once."""
        ...

    def read_pci(self, pf: str, vf: int) -> PciState | None:
        """Read a VF's PCI words; None where the VF is no PCI function."""
        ...

    def write_pci(self, pf: str, vf: int, state: PciState) -> None:
        """Write a VF's PCI words.

        :raise NotPermittedError: a driver is bound to the VF: it owns these words.
        """
        ...

    def reset_vf(self, pf: str, vf: int) -> None:
        """Reset the function (FLR); what the VF's driver had asked the PF for is dropped."""
        ...

    def set_pf(self, pf: str, *, admin_up: bool | None = None, mtu: int | None = None) -> None:
        """Bring a PF's network interface up or down, set its MTU."""
        ...

    def read_fdb(self, pf: str) -> tuple[Mac, ...]:
        """Return the unicast addresses that a PF receives for itself beside its own address, sorted.

        These are the forwarding entries of the PF's own pool (``bridge fdb show dev PF self``). Whoever has put one in
        is not known: those of a bridge or a macvlan above the PF are among them.

        :raise NotSupportedError: the PF has no such entries.
        :raise IncompleteReadingError: the kernel's answer is garbled, or the list changed while it was given.
        """
        ...

    def add_fdb(self, pf: str, mac: Mac) -> None:
        """Let a PF receive for a unicast address too (``bridge fdb add MAC dev PF self``).

        An address that is there already is no error and stays one entry; the PF's own address needs none.

        :raise NotSupportedError: the PF has no such entries.
        :raise RejectedError: a group address, the zero address, or the PF has no room for another one.
        """
        ...

    def remove_fdb(self, pf: str, mac: Mac) -> None:
        """Take an entry out again (``bridge fdb del MAC dev PF self``); one that is not there is no error.

        What something else above the PF holds for itself as well may stay: read, where it must be gone.

        :raise NotSupportedError: the PF has no such entries.
        :raise RejectedError: a group address, or the zero address.
        """
        ...

    def set_eswitch_mode(self, pf: str, mode: EswitchMode) -> None:
        """Set the devlink eswitch mode."""
        ...

    def read_function(self, pf: str, vf: int) -> FunctionState | None:
        """Read a VF's devlink port function and rate; None where it has none (eswitch not in switchdev mode)."""
        ...

    def program_function(self, pf: str, vf: int, change: FunctionState) -> None:
        """Set devlink port-function attributes and rates; what is absent is left alone."""
        ...
