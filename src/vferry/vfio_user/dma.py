# SPDX-License-Identifier: Apache-2.0
"""Guest memory: what the client mapped, with every access checked, and a log of what was written.

A file that is mapped into this process and then truncated by its owner kills the process (SIGBUS). So a file is only
mapped when it is sealed against shrinking (``memfd_create(2)``, ``F_SEAL_SHRINK``; QEMU's memory-backend-memfd does it
unless told otherwise); any other regular file is read and written with ``pread()`` and ``pwrite()``, which report a
short file instead. What is no regular file is refused. (A hole of a mapped file that cannot be filled because the host
has no memory left still ends the process; so it does in QEMU.)
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
from bisect import bisect_right
from typing import Final, NamedTuple, NoReturn, Protocol

from vferry.core.vfio.codec import MalformedError
from vferry.core.vfio.constants import DmaFlags
from vferry.core.vfio.dirty_log import DirtyLog
from vferry.core.vfio.layouts import DmaMap
from vferry.vfio_user.device import DmaFaultError

__all__ = ["PAGE", "GuestMemory"]

PAGE: Final = 4096
"""The page size of DMA ranges (``pgsizes`` of VERSION)."""

_ADDRESSES: Final = 1 << 64
_LARGEST_FILE: Final = (1 << 63) - 1
"""Of ``off_t``."""
_READ: Final = int(DmaFlags.READ)
_WRITE: Final = int(DmaFlags.WRITE)
_KNOWN: Final = _READ | _WRITE | int(DmaFlags.MMAP)


class _Store(Protocol):
    """Where the octets of one range are."""

    def read(self, offset: int, count: int, /) -> bytes: ...

    def write(self, offset: int, data: bytes, /) -> None: ...

    def close(self) -> None: ...


class _Mapped:
    """A file that cannot shrink, mapped."""

    def __init__(self, fd: int, offset: int, size: int, flags: int) -> None:
        protection = (mmap.PROT_READ if flags & _READ else 0) | (mmap.PROT_WRITE if flags & _WRITE else 0)
        self._memory = mmap.mmap(fd, size, mmap.MAP_SHARED, protection, offset=offset)

    def read(self, offset: int, count: int) -> bytes:
        return self._memory[offset : offset + count]

    def write(self, offset: int, data: bytes) -> None:
        self._memory[offset : offset + len(data)] = data

    def close(self) -> None:
        self._memory.close()


class _File:
    """A file that may shrink at any moment."""

    def __init__(self, fd: int, offset: int) -> None:
        self._fd = fd
        self._offset = offset

    def read(self, offset: int, count: int) -> bytes:
        data = os.pread(self._fd, count, self._offset + offset)
        if len(data) < count:
            raise OSError(errno.EFAULT, "the file has become shorter")
        return data

    def write(self, offset: int, data: bytes) -> None:
        if os.pwrite(self._fd, data, self._offset + offset) < len(data):
            raise OSError(errno.ENOSPC, "the file took only a part")

    def close(self) -> None:
        os.close(self._fd)


class _Elsewhere:
    """No file: the client itself has to be asked."""

    def read(self, *_: object) -> NoReturn:
        raise OSError(errno.ENOTSUP, "it is mapped without a file: ask by message")

    write = read

    def close(self) -> None:
        pass


class _Range(NamedTuple):
    """One mapped range."""

    start: int
    end: int
    flags: int
    store: _Store

    def read(self, address: int, count: int) -> bytes:
        try:
            return self.store.read(address - self.start, count)
        except OSError as error:
            raise DmaFaultError(address, count, str(error)) from error

    def write(self, address: int, data: bytes) -> None:
        try:
            self.store.write(address - self.start, data)
        except OSError as error:
            raise DmaFaultError(address, len(data), str(error)) from error


_ELSEWHERE: Final = _Elsewhere()
_NOTHING: Final = _Range(0, 0, 0, _ELSEWHERE)


class GuestMemory:
    """The ranges that a client mapped.

    :param max_maps: ranges at one time.
    """

    def __init__(self, max_maps: int) -> None:
        self.log: DirtyLog | None = None
        """What was written, while somebody wishes to know."""
        self._max_maps = max_maps
        self._starts: list[int] = []
        self._ranges: list[_Range] = []
        self._last = _NOTHING

    def __len__(self) -> int:
        return len(self._ranges)

    def map(self, request: DmaMap, fds: list[int]) -> None:
        """Add a range; takes the descriptor out of `fds` only when it keeps it.

        :raise MalformedError: EINVAL (no such range, or no such file), EEXIST (overlaps), ENOSPC (too many), or why the
            file cannot be mapped.
        """
        start, end = request.addr, request.addr + request.size
        self._check(request, len(fds))
        at = bisect_right(self._starts, start)
        if (at and self._ranges[at - 1].end > start) or (at < len(self._starts) and self._starts[at] < end):
            raise MalformedError(f"memory at {start:#x} is mapped already", errno.EEXIST)
        try:
            store = _store(request, fds) if fds else _ELSEWHERE
        except (OSError, ValueError) as error:
            code = error.errno if isinstance(error, OSError) and error.errno else errno.EINVAL
            raise MalformedError(f"memory at {start:#x} cannot be mapped: {error}", code) from error
        self._starts.insert(at, start)
        self._ranges.insert(at, _Range(start, end, request.flags, store))

    def _check(self, request: DmaMap, fds: int) -> None:
        text = f"{request.size:#x} octets at {request.addr:#x}, file offset {request.offset:#x}"
        if fds > 1 or request.flags & ~_KNOWN or not request.flags & (_READ | _WRITE):
            raise MalformedError(f"a map with flags {request.flags:#x} and {fds} files")
        if request.flags & DmaFlags.MMAP and not fds:
            raise MalformedError("a map that is to be mmap'ed, without a file")
        if not request.size or request.addr + request.size > _ADDRESSES:
            raise MalformedError(f"a map of {text}")
        if (request.addr | request.size | request.offset) % PAGE:
            raise MalformedError(f"a map of {text}, which are no whole pages")
        if len(self._ranges) >= self._max_maps:
            raise MalformedError(f"more than {self._max_maps} maps", errno.ENOSPC)

    def unmap(self, address: int, size: int) -> None:
        """Take one range away, exactly as it was mapped.

        :raise MalformedError: ENOENT, there is none like that.
        """
        at = bisect_right(self._starts, address) - 1
        if at < 0 or self._ranges[at].start != address or self._ranges[at].end != address + size:
            raise MalformedError(f"no map of {size:#x} octets at {address:#x}", errno.ENOENT)
        del self._starts[at]
        self._drop(self._ranges.pop(at))

    def unmap_all(self) -> list[tuple[int, int]]:
        """Take every range away; return their addresses and sizes."""
        gone = [(one.start, one.end - one.start) for one in self._ranges]
        while self._ranges:
            self._starts.pop()
            self._drop(self._ranges.pop())
        return gone

    def _drop(self, one: _Range) -> None:
        self._last = _NOTHING
        one.store.close()

    def read(self, address: int, count: int) -> bytes:
        """Return guest memory.

        :raise DmaFaultError: see :meth:`.device.Guest.read`.
        """
        one = self._last
        if one.start <= address and address + count <= one.end and one.flags & _READ:
            return one.read(address, count)
        parts = self._parts(address, count, _READ)
        if parts:
            self._last = parts[-1][0]
        return b"".join([part.read(start, size) for part, start, size in parts])

    def write(self, address: int, data: bytes) -> None:
        """Write to guest memory, and log it.

        :raise DmaFaultError: see :meth:`.device.Guest.write`.
        """
        one, count = self._last, len(data)
        if one.start <= address and address + count <= one.end and one.flags & _WRITE:
            one.write(address, data)
        else:
            for part, start, size in self._parts(address, count, _WRITE):
                part.write(start, data[start - address : start - address + size])
                self._last = part
        if self.log is not None:
            self.log.mark(address, count)

    def check(self, address: int, count: int, *, write: bool) -> None:
        """See that a range is mapped, be it with a file or without.

        :raise DmaFaultError: it is not, or not for this.
        """
        self._parts(address, count, _WRITE if write else _READ, elsewhere=True)

    def _parts(self, address: int, count: int, flag: int, *, elsewhere: bool = False) -> list[tuple[_Range, int, int]]:
        """Return the ranges that an access touches, each with its part's address and size."""
        found: list[tuple[_Range, int, int]] = []
        here, end = address, address + count
        at = bisect_right(self._starts, address) - 1
        while here < end:
            one = self._ranges[at] if 0 <= at < len(self._ranges) else _NOTHING
            if not one.start <= here < one.end:
                raise DmaFaultError(address, count, f"nothing is mapped at {here:#x}")
            if not one.flags & flag:
                raise DmaFaultError(address, count, f"what is mapped at {one.start:#x} is not for this")
            if one.store is _ELSEWHERE and not elsewhere:
                raise DmaFaultError(address, count, f"{one.start:#x} is mapped without a file: ask by message")
            size = min(one.end, end) - here
            found.append((one, here, size))
            here += size
            at += 1
        return found


def _store(request: DmaMap, fds: list[int]) -> _Store:
    """Return access to a file; `fds` loses the descriptor if it is kept."""
    fd = fds[0]
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    if request.offset + request.size > min(status.st_size, _LARGEST_FILE):
        raise OSError(errno.EINVAL, f"the file has {status.st_size:#x} octets only")
    if _cannot_shrink(fd):
        return _Mapped(fd, request.offset, request.size, request.flags)
    return _File(fds.pop(), request.offset)


def _cannot_shrink(fd: int) -> bool:
    try:
        seals: int = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:  # a file system without seals
        return False
    return bool(seals & fcntl.F_SEAL_SHRINK)
