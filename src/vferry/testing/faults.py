# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a NIC, as data for :class:`~vferry.testing.fault_nic.FaultNic`."""

from __future__ import annotations

import errno
import random
from collections.abc import Sequence
from typing import Annotated, TypeAlias

import msgspec

from vferry.core.model import AdminState, Attribute

__all__ = [
    "ErrnoFault",
    "Fault",
    "HiddenFault",
    "IgnoredFault",
    "LossyProtocolFault",
    "ReloadFault",
    "ResetFault",
    "ShortReadingFault",
    "SlowFault",
    "VanishFault",
    "seeded_faults",
]

Count = Annotated[int, msgspec.Meta(ge=1)]


class _Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """Where and when a fault strikes; what is None matches everything."""

    pf: str | None = None
    vf: int | None = None
    at_call: Count = 1
    """Live from this call of the port on (arming and sending are two calls)."""
    times: Count | None = 1
    """How often it strikes; None: always."""


class ErrnoFault(_Fault, frozen=True, kw_only=True):
    """A call is answered with an error number."""

    number: int
    method: str = "program"
    """The port's method; ``program`` stands for sending an armed request too, and answers for each VF."""
    attribute: Attribute | None = None
    """For ``program``: refuse this attribute, with the earlier ones applied; None: refuse the whole request."""


class HiddenFault(_Fault, frozen=True, kw_only=True):
    """A setting is accepted, and readings do not show it from then on."""

    attribute: Attribute
    times: Count | None = None


class IgnoredFault(_Fault, frozen=True, kw_only=True):
    """A setting is accepted, and nothing changes."""

    attribute: Attribute
    times: Count | None = None


class LossyProtocolFault(_Fault, frozen=True, kw_only=True):
    """Readings show 802.1ad as 802.1Q."""

    times: Count | None = None


class SlowFault(_Fault, frozen=True, kw_only=True):
    """A call takes ``seconds``; if that is beyond ``deadline``, its caller learns nothing of the outcome."""

    seconds: float
    deadline: float = float("inf")
    method: str = "program"
    applied: int | None = None
    """Beyond the deadline, how many of the request's VFs were changed all the same; None: all of them."""


class ResetFault(_Fault, frozen=True, kw_only=True):
    """Setting an attribute resets the VF, and it is busy for the next requests."""

    attribute: Attribute
    busy: int = 0
    number: int = errno.EBUSY
    times: Count | None = None


class VanishFault(_Fault, frozen=True, kw_only=True):
    """The VFs from ``vf`` on (None: all of them) are gone."""

    times: Count | None = None


class ReloadFault(_Fault, frozen=True, kw_only=True):
    """Before the call, the PF's driver is loaded anew: another ifindex, and every VF back at ``defaults``."""

    defaults: AdminState


class ShortReadingFault(_Fault, frozen=True, kw_only=True):
    """A reading is not whole."""


Fault: TypeAlias = (
    ErrnoFault
    | HiddenFault
    | IgnoredFault
    | LossyProtocolFault
    | SlowFault
    | ResetFault
    | VanishFault
    | ReloadFault
    | ShortReadingFault
)
"""Any fault."""

PASSING = (errno.EAGAIN, errno.EBUSY)
LASTING = (errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)
SETTABLE = (
    Attribute.MAC,
    Attribute.VLANS,
    Attribute.MAX_TX_RATE,
    Attribute.SPOOFCHK,
    Attribute.LINK_STATE,
    Attribute.RSS_QUERY,
    Attribute.TRUST,
)


def seeded_faults(
    seed: int, *, vfs: Sequence[int], calls: int = 20, count: int = 3, defaults: AdminState | None = None
) -> tuple[Fault, ...]:
    """Return ``count`` faults that depend on ``seed`` alone.

    :param vfs: VFs that they may strike.
    :param calls: the last call at which one may become live.
    :param defaults: settings of an untouched VF; with them the PF's driver may be reloaded too.
    """
    dice = random.Random(seed)  # noqa: S311 - a test's schedule, no secret
    return tuple(_random_fault(dice, vfs, calls, defaults) for _ in range(count))


def _random_fault(dice: random.Random, vfs: Sequence[int], calls: int, defaults: AdminState | None) -> Fault:
    vf = dice.choice(vfs)
    at_call = dice.randint(1, calls)
    attribute = dice.choice(SETTABLE)
    times = dice.randint(1, 3)
    faults: list[Fault] = [
        ErrnoFault(vf=vf, at_call=at_call, times=times, number=dice.choice(PASSING)),
        ErrnoFault(vf=vf, at_call=at_call, times=times, number=dice.choice(LASTING), attribute=attribute),
        ErrnoFault(at_call=at_call, times=times, number=errno.EAGAIN, method="read"),
        HiddenFault(vf=vf, at_call=at_call, attribute=attribute),
        IgnoredFault(vf=vf, at_call=at_call, attribute=attribute),
        LossyProtocolFault(vf=vf, at_call=at_call),
        SlowFault(at_call=at_call, times=times, seconds=0.2),
        SlowFault(at_call=at_call, seconds=30.0, deadline=1.0, applied=dice.choice((None, 0, 1))),
        ResetFault(vf=vf, at_call=at_call, times=times, attribute=attribute, busy=dice.randint(0, 3)),
        VanishFault(vf=vf, at_call=at_call),
        ShortReadingFault(at_call=at_call, times=times),
    ]
    if defaults is not None:
        faults.append(ReloadFault(at_call=at_call, defaults=defaults))
    return dice.choice(faults)
