# SPDX-License-Identifier: Apache-2.0
"""Error numbers as the port's errors, for NICs that have no kernel behind them."""

from __future__ import annotations

import errno
import os

from vferry.nic.linux.failure import ENOTSUPP, ERROR_KINDS
from vferry.ports.nic import NicError

__all__ = ["ENOTSUPP", "kernel_error"]


def kernel_error(number: int, what: str, *, pf: str | None = None, vf: int | None = None, why: str = "") -> NicError:
    """Return the port's error for the kernel's error ``number``, as an adapter would raise it."""
    name = errno.errorcode.get(number, str(number))
    kind = ERROR_KINDS.get(number, NicError)
    return kind(what, errno=number, pf=pf, vf=vf, why=why or f"{os.strerror(number)} ({name})")
