# SPDX-License-Identifier: Apache-2.0
"""Error numbers as the port's errors, for NICs that have no kernel behind them."""

from __future__ import annotations

import errno
import os

from vferry.ports.nic import (
    BusyError,
    NicError,
    NoSuchFunctionError,
    NotPermittedError,
    NotSupportedError,
    RejectedError,
    UnknownOutcomeError,
)

__all__ = ["kernel_error"]

ENOTSUPP = 524
"""``include/linux/errno.h``: not meant for user space, and seen there."""

_NUMBERS: dict[type[NicError], tuple[int, ...]] = {
    NotSupportedError: (errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, ENOTSUPP),
    RejectedError: (
        errno.EINVAL,
        errno.EPROTONOSUPPORT,
        errno.ERANGE,
        errno.EADDRNOTAVAIL,
        errno.EADDRINUSE,
        errno.EEXIST,
        errno.ENOSPC,
        errno.E2BIG,
        errno.EDOM,
        errno.EOVERFLOW,
        errno.ENETDOWN,
    ),
    BusyError: (errno.EAGAIN, errno.EBUSY, errno.EINTR),
    NotPermittedError: (errno.EPERM, errno.EACCES),
    NoSuchFunctionError: (errno.ENODEV, errno.ENXIO, errno.ENOENT),
    UnknownOutcomeError: (errno.ETIMEDOUT, errno.ENOBUFS),
}
_KINDS = {number: kind for kind, numbers in _NUMBERS.items() for number in numbers}


def kernel_error(number: int, what: str, *, pf: str | None = None, vf: int | None = None, why: str = "") -> NicError:
    """Return the port's error for the kernel's error ``number``, as an adapter would raise it."""
    name = errno.errorcode.get(number, str(number))
    kind = _KINDS.get(number, NicError)
    return kind(what, errno=number, pf=pf, vf=vf, why=why or f"{os.strerror(number)} ({name})")
