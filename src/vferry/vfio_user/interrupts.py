# SPDX-License-Identifier: Apache-2.0
"""Interrupts of a session: eventfds that the client sent, masks, and what SET_IRQS does to them.

Rules: ``struct vfio_irq_set`` in ``<linux/vfio.h>`` and vfio-user, "VFIO_USER_DEVICE_SET_IRQS". A ``-1`` among the
descriptors cannot be sent over a socket: the client says DATA_EVENTFD without descriptors instead, for a range of
vectors that all lose theirs.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Mapping
from typing import Final

from vferry.core.vfio.codec import MalformedError
from vferry.core.vfio.constants import IrqFlags, IrqSetFlags
from vferry.core.vfio.layouts import IrqSet
from vferry.vfio_user.device import Interrupts

__all__ = ["IrqTable"]

_F: Final = IrqSetFlags
# Plain numbers: the complement of an IntFlag has no unknown bits (Python 3.11).
_DATA: Final = int(_F.DATA_NONE | _F.DATA_BOOL | _F.DATA_EVENTFD)
_ACTION: Final = int(_F.ACTION_MASK | _F.ACTION_UNMASK | _F.ACTION_TRIGGER)
_ONE: Final = (1).to_bytes(8, "little")
_EVENTFD: Final = "anon_inode:[eventfd]"  # fs/eventfd.c


class _Vector:
    """One interrupt."""

    __slots__ = ("fd", "masked", "patient", "pending")

    def __init__(self) -> None:
        self.fd = -1
        self.patient = False  # a write to the descriptor may block
        self.masked = False
        self.pending = False

    def connect(self, fd: int) -> None:
        self.close()
        self.fd = fd
        self.patient = os.get_blocking(fd)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def signal(self) -> bool:
        if self.fd < 0:
            return False
        # A counter that is full blocks, or refuses: then the client has enough to see anyway.
        if not self.patient or _has_room(self.fd):
            with contextlib.suppress(BlockingIOError):
                os.write(self.fd, _ONE)
        return True


def _has_room(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))


class IrqTable:
    """All interrupts of a device, as one client has set them up."""

    def __init__(self, interrupts: Mapping[int, Interrupts]) -> None:
        self._interrupts = interrupts
        self._vectors = {index: [_Vector() for _ in range(some.count)] for index, some in interrupts.items()}

    def trigger(self, index: int, vector: int) -> bool:
        """Signal one; see :meth:`.device.Guest.trigger`."""
        one = self._vectors[index][vector]
        if one.masked:
            one.pending = True
            return False
        one.masked = bool(self._interrupts[index].flags & IrqFlags.AUTOMASKED) and one.fd >= 0
        return one.signal()

    def set(self, request: IrqSet, data: bytes, fds: list[int]) -> None:
        """Carry out SET_IRQS; takes those descriptors out of `fds` that it keeps.

        :raise MalformedError: makes no sense; nothing was changed.
        """
        kind, action = request.flags & _DATA, request.flags & _ACTION
        self._check(request, kind, action, len(data), fds)
        vectors = range(request.start, request.start + request.count)
        if not request.count:
            self._disconnect(request.index, range(len(self._vectors[request.index])))
        elif kind == _F.DATA_EVENTFD:
            self._connect(request.index, vectors, fds)
        else:
            chosen = [vector for n, vector in enumerate(vectors) if kind == _F.DATA_NONE or data[n]]
            self._act(request.index, chosen, action)

    def _check(self, request: IrqSet, kind: int, action: int, octets: int, fds: list[int]) -> None:
        known = self._vectors.get(request.index, [])
        text = f"SET_IRQS of index {request.index}, {request.start}+{request.count} of {len(known)}"
        if request.flags & ~(_DATA | _ACTION) or kind.bit_count() != 1 or action.bit_count() != 1:
            raise MalformedError(f"{text}: flags {request.flags:#x}")
        if request.start + request.count > len(known) or not known:
            raise MalformedError(f"{text}: there are no such interrupts")
        if not request.count and (request.start or kind != _F.DATA_NONE or action != _F.ACTION_TRIGGER):
            raise MalformedError(f"{text}: no interrupts, and flags {request.flags:#x}")
        if octets != (request.count if kind == _F.DATA_BOOL else 0):
            raise MalformedError(f"{text}: {octets} octets of data")
        if fds and (kind != _F.DATA_EVENTFD or len(fds) != request.count):
            raise MalformedError(f"{text}: {len(fds)} file descriptors")
        self._check_action(request, text, kind, action)
        for fd in fds:
            if os.readlink(f"/proc/self/fd/{fd}") != _EVENTFD:
                raise MalformedError(f"{text}: a file descriptor that is no eventfd")

    def _check_action(self, request: IrqSet, text: str, kind: int, action: int) -> None:
        if action == _F.ACTION_TRIGGER:
            return
        flags = self._interrupts[request.index].flags
        allowed = IrqFlags.MASKABLE | (IrqFlags.AUTOMASKED if action == _F.ACTION_UNMASK else 0)
        if kind == _F.DATA_EVENTFD or not flags & allowed:
            raise MalformedError(f"{text}: cannot be masked like that")

    def _connect(self, index: int, vectors: range, fds: list[int]) -> None:
        if not fds:
            self._disconnect(index, vectors)
        for vector in vectors:
            if fds:
                self._vectors[index][vector].connect(fds.pop(0))

    def _disconnect(self, index: int, vectors: range) -> None:
        for vector in vectors:
            one = self._vectors[index][vector]
            one.close()
            one.masked = one.pending = False

    def _act(self, index: int, vectors: list[int], action: int) -> None:
        for vector in vectors:
            one = self._vectors[index][vector]
            if action == _F.ACTION_TRIGGER:
                self.trigger(index, vector)
                continue
            one.masked = action == _F.ACTION_MASK
            if not one.masked and one.pending:
                one.pending = False
                self.trigger(index, vector)

    def close(self) -> None:
        """Close every descriptor."""
        for vectors in self._vectors.values():
            for one in vectors:
                one.close()
