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
)

__all__ = ["kernel_error"]

_KINDS: dict[int, type[NicError]] = {
    errno.ENODEV: NoSuchFunctionError,
    errno.ENOENT: NoSuchFunctionError,
    errno.EOPNOTSUPP: NotSupportedError,
    errno.EAGAIN: BusyError,
    errno.EBUSY: BusyError,
    errno.EPERM: NotPermittedError,
    errno.EACCES: NotPermittedError,
    errno.EINVAL: RejectedError,
    errno.ERANGE: RejectedError,
    errno.EPROTONOSUPPORT: RejectedError,
}


def kernel_error(number: int, what: str, *, pf: str | None = None, vf: int | None = None, why: str = "") -> NicError:
    """Return the port's error for the kernel's error ``number``, as an adapter would raise it."""
    name = errno.errorcode.get(number, str(number))
    kind = _KINDS.get(number, NicError)
    return kind(what, errno=number, pf=pf, vf=vf, why=why or f"{os.strerror(number)} ({name})")
