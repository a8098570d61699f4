# SPDX-License-Identifier: Apache-2.0
"""errno to typed errors."""

from __future__ import annotations

import errno

import pytest

from vferry.nic.linux.failure import GarbledMessageError, KernelError, Located, typed_error
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


@pytest.mark.parametrize(
    ("number", "kind", "name"),
    [
        (errno.EOPNOTSUPP, NotSupportedError, "EOPNOTSUPP"),
        (524, NotSupportedError, "ENOTSUPP"),
        (errno.EINVAL, RejectedError, "EINVAL"),
        (errno.EPROTONOSUPPORT, RejectedError, "EPROTONOSUPPORT"),
        (errno.ERANGE, RejectedError, "ERANGE"),
        (errno.EADDRNOTAVAIL, RejectedError, "EADDRNOTAVAIL"),
        (errno.EAGAIN, BusyError, "EAGAIN"),
        (errno.EBUSY, BusyError, "EBUSY"),
        (errno.EPERM, NotPermittedError, "EPERM"),
        (errno.EACCES, NotPermittedError, "EACCES"),
        (errno.ENODEV, NoSuchFunctionError, "ENODEV"),
        (errno.ENXIO, NoSuchFunctionError, "ENXIO"),
        (errno.ETIMEDOUT, UnknownOutcomeError, "ETIMEDOUT"),
        (errno.ENOBUFS, UnknownOutcomeError, "ENOBUFS"),
        (errno.EIO, NicError, "EIO"),
        (4095, NicError, "error 4095"),
    ],
)
def test_the_leaf_follows_the_errno(number: int, kind: type[NicError], name: str) -> None:
    error = typed_error(KernelError(number, "the kernel's words"), "act", host="h", pf="p", vf=3)
    assert type(error) is kind
    assert (error.errno, error.what, error.why) == (number, "act", f"{name}: the kernel's words")
    assert (error.host, error.pf, error.vf) == ("h", "p", 3)


def test_without_words_of_the_kernel_those_of_the_library() -> None:
    assert typed_error(KernelError(errno.EINVAL, None), "act", host="h").why == "EINVAL: Invalid argument"
    assert "not supported" in typed_error(KernelError(524, None), "act", host="h").why


def test_a_file_is_named() -> None:
    error = typed_error(PermissionError(errno.EACCES, "denied", "/sys/x/reset"), "reset", host="h")
    assert error.why == "EACCES: Permission denied (/sys/x/reset)"
    assert "CAP_NET_ADMIN" in error.next_step


def test_advice_gives_way_to_a_cause() -> None:
    assert typed_error(KernelError(errno.EPERM, "driver x owns it"), "act", host="h").next_step == ""


def test_timeouts_and_garbage() -> None:
    late = typed_error(TimeoutError(errno.ETIMEDOUT, "no answer in 5 s"), "act", host="h")
    assert (type(late), late.why) == (UnknownOutcomeError, "ETIMEDOUT: no answer in 5 s")
    assert "read" in late.next_step
    bare = typed_error(TimeoutError("no answer"), "act", host="h")
    assert (type(bare), bare.errno) == (UnknownOutcomeError, errno.ETIMEDOUT)
    garbled = typed_error(GarbledMessageError("cut"), "act", host="h")
    assert (type(garbled), garbled.why) == (IncompleteReadingError, "cut")


def test_located_leaves_other_errors_alone() -> None:
    with pytest.raises(KeyError), Located("act", host="h"):
        raise KeyError
    with pytest.raises(BusyError) as caught, Located("act", host="h", pf="p"):
        raise KernelError(errno.EBUSY, None)
    assert isinstance(caught.value.__cause__, KernelError)
    mine = RejectedError("mine")
    with pytest.raises(RejectedError) as untouched, Located("act", host="h"):
        raise mine
    assert untouched.value is mine
