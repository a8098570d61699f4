# SPDX-License-Identifier: Apache-2.0
"""Requests to rtnetlink: read a link with its VFs, change VFs, set a link up, down or its MTU.

Numbers: ``include/uapi/linux/rtnetlink.h`` and ``if_link.h`` (Linux 6.12).
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from vferry.core.model import PfReading
from vferry.nic.linux.failure import GarbledMessageError, KernelError, Located, typed_error
from vferry.nic.linux.linkinfo import (
    IFF_UP,
    IFLA_EXT_MASK,
    IFLA_IFNAME,
    IFLA_MTU,
    LinkFacts,
    decode_link,
    decode_reading,
)
from vferry.nic.linux.netlink import (
    NETLINK_ROUTE,
    NLM_F_ACK,
    NLM_F_REQUEST,
    Message,
    NetlinkSocket,
    attribute,
    message,
)
from vferry.ports.nic import NicError

__all__ = ["ArmedChange", "Links"]

RTM_GETLINK = 18
RTM_SETLINK = 19

RTEXT_FILTER_VF = 0x1
RTEXT_FILTER_SKIP_STATS = 0x8
"""A third less to copy, and no firmware command per VF; moves the limit of the list from 221 to 334 VFs."""

_LINK = struct.Struct("=BBHiII")
"""``struct ifinfomsg``: family, padding, type, index, flags, change mask."""

_PROGRAM = "program VF settings"
_MOST_MESSAGES = 512
"""Messages per send, so that the acknowledgements of all fit into the receive buffer (some 1 KiB of kernel memory
each)."""
_MOST_OCTETS = 100_000
"""Octets per send; the default send buffer (``net.core.wmem_default``, 212992) takes no more than itself at once."""

T = TypeVar("T")


class Links:
    """The network interfaces of this network namespace.

    Sockets are opened when they are needed and kept. May be used by several threads: each takes a socket of its own.

    :param deadline: seconds to wait for an answer.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._idle: list[NetlinkSocket] = []

    def socket(self) -> NetlinkSocket:
        """Open a socket for rtnetlink."""
        return NetlinkSocket.open(NETLINK_ROUTE, self._deadline)

    def close(self) -> None:
        """Close the sockets that are kept; further requests open new ones."""
        while self._idle:
            self._idle.pop().close()

    def with_socket(self, act: Callable[[NetlinkSocket], T]) -> T:
        """Run ``act`` on a socket; keep the socket unless it might still have an answer to come."""
        try:
            sock = self._idle.pop()
        except IndexError:
            sock = self.socket()
        try:
            result = act(sock)
        except KernelError:
            self._idle.append(sock)
            raise
        except BaseException:
            sock.close()
            raise
        self._idle.append(sock)
        return result

    def _get(self, interface: str | int, mask: int, decode: Callable[[Message], T]) -> T:
        """Ask for one link, by name or ifindex."""
        index = interface if isinstance(interface, int) else 0
        body = _LINK.pack(0, 0, 0, index, 0, 0) + attribute(IFLA_EXT_MASK, struct.pack("=I", mask))
        if isinstance(interface, str):
            if "\0" in interface:
                # The kernel would read the name up to there.
                raise KernelError(errno.ENODEV, "no network interface has such a name")
            body += attribute(IFLA_IFNAME, os.fsencode(interface) + b"\0")

        def ask(sock: NetlinkSocket) -> Message:
            (sequence,) = sock.sequences(1)
            return sock.ask(message(RTM_GETLINK, NLM_F_REQUEST, sequence, body), sequence)

        return decode(self.with_socket(ask))

    def reading(self, interface: str | int, *, statistics: bool) -> PfReading:
        """Read a link with all its VFs.

        :param interface: name or ifindex.
        :raise KernelError: the kernel refuses (ENODEV: there is no such interface).
        :raise GarbledMessageError: the answer is not whole.
        """
        mask = RTEXT_FILTER_VF if statistics else RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS
        try:
            return self._get(interface, mask, decode_reading)
        except KernelError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            # Kernels whose rtnl_fill_vf() looks at the length of its list refuse instead of wrapping.
            raise GarbledMessageError("the kernel cannot put so many VFs into one message") from error

    def facts(self, interface: str | int) -> LinkFacts:
        """Read a link without its VFs.

        :raise KernelError: the kernel refuses.
        :raise GarbledMessageError: the answer is not whole.
        """
        return self._get(interface, RTEXT_FILTER_SKIP_STATS, decode_link)

    def set_link(self, ifindex: int, *, admin_up: bool | None, mtu: int | None) -> None:
        """Set a link up or down and its MTU, in one request; the kernel sets the MTU first.

        :raise KernelError: the kernel refuses.
        """
        change = 0 if admin_up is None else IFF_UP
        body = _LINK.pack(0, 0, 0, ifindex, IFF_UP if admin_up else 0, change)
        if mtu is not None:
            body += attribute(IFLA_MTU, struct.pack("=I", mtu))

        def ask(sock: NetlinkSocket) -> KernelError | None:
            sequences = sock.sequences(1)
            sock.send(message(RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, sequences.start, body))
            return sock.acknowledged(sequences)[0]

        refusal = self.with_socket(ask)
        if refusal:
            raise refusal


class _Batch(NamedTuple):
    """Requests that go out in one send."""

    sequences: range
    vfs: tuple[int, ...]
    data: bytes


class ArmedChange:
    """An encoded change with an open socket: only the sending is left.

    All requests of several VFs go out in one send, one request per VF, so that each acknowledgement names its VF. What
    must follow the acknowledgement of another request (the second of two GUIDs) goes out after it, if that succeeded.

    :param links: where sockets come from.
    :param encoded: by VF, the payloads of its requests in their order; see
        :func:`vferry.nic.linux.vfinfo.encode_change`.
    """

    def __init__(
        self, links: Links, ifindex: int, encoded: Mapping[int, tuple[bytes, ...]], *, host: str, pf: str
    ) -> None:
        self._links = links
        self._host = host
        self._pf = pf
        self._vfs = tuple(encoded)
        self._socket: NetlinkSocket | None = links.socket()
        link = _LINK.pack(0, 0, 0, ifindex, 0, 0)
        first = [(vf, link + payloads[0]) for vf, payloads in encoded.items() if payloads]
        self._first = self._batches(self._socket, first)
        self._later = [
            batch
            for vf, payloads in encoded.items()
            for payload in payloads[1:]
            for batch in self._batches(self._socket, [(vf, link + payload)])
        ]

    @staticmethod
    def _batches(sock: NetlinkSocket, requests: list[tuple[int, bytes]]) -> list[_Batch]:
        """Put requests into as few sends as the kernel's buffers allow."""
        batches: list[_Batch] = []
        while requests:
            octets = count = 0
            for _vf, body in requests[:_MOST_MESSAGES]:
                octets += len(body) + 16
                if count and octets > _MOST_OCTETS:
                    break
                count += 1
            part, requests = requests[:count], requests[count:]
            sequences = sock.sequences(count)
            data = b"".join(
                message(RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, sequence, body)
                for sequence, (_vf, body) in zip(sequences, part, strict=True)
            )
            batches.append(_Batch(sequences, tuple(vf for vf, _body in part), data))
        return batches

    def send(self) -> dict[int, NicError | None]:
        """Send the change; see :meth:`vferry.ports.nic.ArmedRequest.send`.

        :raise UnknownOutcomeError: not all answers came in time.
        """
        outcomes: dict[int, NicError | None] = dict.fromkeys(self._vfs)
        with Located(_PROGRAM, host=self._host, pf=self._pf):
            sock, self._socket = self._socket or self._links.socket(), None
            try:
                for batch in self._first:
                    self._send(sock, batch, outcomes)
                for batch in self._later:
                    if outcomes[batch.vfs[0]] is None:
                        self._send(sock, batch, outcomes)
            except BaseException:
                # An answer may be to come, and would be taken for that of the next request.
                sock.close()
                raise
        self._socket = sock
        return outcomes

    def _send(self, sock: NetlinkSocket, batch: _Batch, outcomes: dict[int, NicError | None]) -> None:
        sock.send(batch.data)
        for vf, refusal in zip(batch.vfs, sock.acknowledged(batch.sequences), strict=True):
            if refusal is not None:
                outcomes[vf] = typed_error(refusal, _PROGRAM, host=self._host, pf=self._pf, vf=vf)
