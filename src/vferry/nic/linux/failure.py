# SPDX-License-Identifier: Apache-2.0
"""From an errno to the typed errors of the port, and to words.

Inside the adapter a failed system call is an :class:`OSError` and an answer that makes no sense is a
:class:`GarbledMessageError`. At the adapter's border :class:`Located` turns both into the leaves of
:class:`~vferry.ports.nic.NicError`, with host, PF and VF filled in.
"""

from __future__ import annotations

import errno
import os
from types import TracebackType

from vferry.ports.nic import (
    BusyError,
    IncompleteReadingError,
    NicError,
    NoSuchFunctionError,
    NotPermittedError,
    NotSupportedError,
    RejectedError,
    UnknownOutcomeError,
)

__all__ = ["ENOTSUPP", "ERROR_KINDS", "GarbledMessageError", "KernelError", "Located", "typed_error"]

ENOTSUPP = 524
"""``include/linux/errno.h``: meant for the kernel's own use, but some drivers let it out."""

_NAMES = {errno.EOPNOTSUPP: "EOPNOTSUPP", errno.EAGAIN: "EAGAIN", ENOTSUPP: "ENOTSUPP"}
"""Names where one number has several, as the kernel spells them, and the one that the C library does not know."""

ERROR_KINDS: dict[int, type[NicError]] = {
    errno.EOPNOTSUPP: NotSupportedError,
    errno.ENOTTY: NotSupportedError,  # a PCI function without a reset method
    errno.ENOSYS: NotSupportedError,
    ENOTSUPP: NotSupportedError,
    errno.EINVAL: RejectedError,
    errno.EPROTONOSUPPORT: RejectedError,
    errno.ERANGE: RejectedError,
    errno.EADDRNOTAVAIL: RejectedError,
    errno.EADDRINUSE: RejectedError,
    errno.EEXIST: RejectedError,
    errno.ENOSPC: RejectedError,
    errno.E2BIG: RejectedError,
    errno.EDOM: RejectedError,
    errno.EOVERFLOW: RejectedError,
    errno.ENETDOWN: RejectedError,
    errno.EAGAIN: BusyError,
    errno.EBUSY: BusyError,
    errno.EINTR: BusyError,
    errno.EPERM: NotPermittedError,
    errno.EACCES: NotPermittedError,
    errno.ENODEV: NoSuchFunctionError,
    errno.ENXIO: NoSuchFunctionError,
    errno.ENOENT: NoSuchFunctionError,
    errno.ETIMEDOUT: UnknownOutcomeError,  # ours, or a driver's that waited for its firmware in vain
    errno.ENOBUFS: UnknownOutcomeError,  # the kernel could not queue its answer
}
"""What an error number of the kernel means to the caller; any other is a plain NicError."""

_NEXT_STEPS: dict[type[NicError], str] = {
    NotPermittedError: "run as root, or with CAP_NET_ADMIN (CAP_SYS_ADMIN for PCI configuration space)",
    UnknownOutcomeError: "read the VF's settings before doing anything else",
}


class KernelError(OSError):
    """A refusal with words of its own where it has some: the kernel's (extended ack), or this adapter's."""


class GarbledMessageError(ValueError):
    """An answer of the kernel cannot be what the kernel meant to say."""


def typed_error(
    error: OSError | GarbledMessageError, what: str, *, host: str, pf: str | None = None, vf: int | None = None
) -> NicError:
    """Return the leaf of :class:`~vferry.ports.nic.NicError` for a failed system call or a senseless answer.

    :param what: the act that failed, as a verb phrase.
    :param host: name of this host.
    """
    if isinstance(error, GarbledMessageError):
        return IncompleteReadingError(what, why=str(error), host=host, pf=pf, vf=vf)
    number = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno
    kind = ERROR_KINDS.get(number or 0, NicError)
    # Who has words of its own for the cause knows more than the general advice.
    said = error.strerror if isinstance(error, KernelError) else None
    advice = "" if said else _NEXT_STEPS.get(kind, "")
    return kind(what, errno=number, why=_words(error, number), next_step=advice, host=host, pf=pf, vf=vf)


def _words(error: OSError, number: int | None) -> str:
    """Return the name of the errno and the best text there is: the kernel's own, else the C library's."""
    if number is None:
        return str(error)
    name = _NAMES.get(number) or errno.errorcode.get(number, f"error {number}")
    said = error.strerror if isinstance(error, KernelError | TimeoutError) else None
    text = said or ("operation is not supported" if number == ENOTSUPP else os.strerror(number))
    return f"{name}: {text}" + (f" ({error.filename})" if error.filename else "")


class Located:
    """A block whose failures leave it as typed errors with host, PF and VF.

    :param what: the act, as a verb phrase.
    :param host: name of this host.
    """

    __slots__ = ("host", "pf", "vf", "what")

    def __init__(self, what: str, *, host: str, pf: str | None = None, vf: int | None = None) -> None:
        self.what = what
        self.host = host
        self.pf = pf
        self.vf = vf

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, OSError | GarbledMessageError):
            raise typed_error(error, self.what, host=self.host, pf=self.pf, vf=self.vf) from error
