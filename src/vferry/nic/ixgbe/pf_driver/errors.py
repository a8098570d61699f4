# SPDX-License-Identifier: Apache-2.0
"""How the PF driver model says no: an errno, as the kernel's driver returns it, and the reason."""

from __future__ import annotations

import errno as codes

from vferry.core.errors import VferryError

__all__ = ["DriverError"]


class DriverError(VferryError):
    """The PF driver returned an error.

    :param errno: positive, as in :mod:`errno`.
    :param why: the reason, in words.
    :param vf: index of the VF, where one is concerned.
    """

    def __init__(self, errno: int, why: str, *, vf: int | None = None) -> None:
        self.errno = errno
        super().__init__(f"ixgbe: {codes.errorcode.get(errno, str(errno))}", why=why, vf=vf)
