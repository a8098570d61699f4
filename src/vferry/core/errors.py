# SPDX-License-Identifier: Apache-2.0
"""The root of every error that vferry raises, and the kinds a caller can act on.

.. code-block:: text

    VferryError                 what failed, where, why, what to do next
    +-- UsageError              the request itself makes no sense            (CLI exit 2)
    +-- RefusedError            the request is sound, vferry will not do it  (CLI exit 3)
    +-- FailedError             it was tried, and everything is as before    (CLI exit 1)
    +-- PersonNeededError       neither done nor undone: a person decides    (CLI exit 4)

Leaf errors stand beside the code that raises them.
"""

from __future__ import annotations

__all__ = ["FailedError", "PersonNeededError", "RefusedError", "UsageError", "VferryError"]


class VferryError(Exception):
    """What failed, on which host, PF and VF, why, and what to do next.

    :param what: the act that failed, as a verb phrase ("program VF settings").
    :param host: name of the host, where one is concerned.
    :param pf: the PF's network interface, or its device address where it has none.
    :param vf: index of the VF on that PF, from 0.
    :param why: the cause, in words.
    :param next_step: what a person can do about it.
    """

    def __init__(
        self,
        what: str,
        *,
        why: str = "",
        next_step: str = "",
        host: str | None = None,
        pf: str | None = None,
        vf: int | None = None,
    ) -> None:
        self.what = what
        self.why = why
        self.next_step = next_step
        self.host = host
        self.pf = pf
        self.vf = vf
        super().__init__(what, why, next_step, host, pf, vf)

    @property
    def where(self) -> str:
        """``host:pf/vf``, as far as it is known; empty where nothing is."""
        function = self.pf or ""
        if self.vf is not None:
            function += f"/{self.vf}"
        return ":".join(part for part in (self.host, function) if part)

    def __str__(self) -> str:
        where = f" ({self.where})" if self.where else ""
        why = f": {self.why}" if self.why else ""
        next_step = f". Next: {self.next_step}" if self.next_step else ""
        return f"{self.what}{where}{why}{next_step}"

    def to_dict(self) -> dict[str, object]:
        """Return the error as JSON-ready data; what is not known is absent."""
        fields = {
            "error": type(self).__name__,
            "what": self.what,
            "host": self.host,
            "pf": self.pf,
            "vf": self.vf,
            "why": self.why,
            "next": self.next_step,
        }
        return {name: value for name, value in fields.items() if value not in (None, "")}


class UsageError(VferryError):
    """The request itself makes no sense; nothing was tried."""


class RefusedError(VferryError):
    """The request is sound, and vferry will not carry it out; nothing was changed."""


class FailedError(VferryError):
    """It was tried and did not succeed; everything is as it was before."""


class PersonNeededError(VferryError):
    """The outcome is neither the old state nor the new one, or cannot be known: a person decides."""
