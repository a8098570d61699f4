# SPDX-License-Identifier: Apache-2.0
"""devlink by generic netlink: eswitch mode, port functions and rates.

Numbers: ``include/uapi/linux/devlink.h`` and ``genetlink.h`` (Linux 6.12; ``DEVLINK_ESWITCH_MODE_SWITCHDEV_INACTIVE``
is of 6.19). devlink names a device by bus and address, a port by its index.

**What was tried on what.** The lab's netdevsim has an eswitch mode and rates, so these were seen to work on a real
kernel. It has no port-function attributes: ``hw_addr``, ``state`` and the capabilities are covered by messages that
tests write from the header, and were never tried on a device.

Absent, not an error, for reads: a kernel without devlink, a device that is not known to it, a driver without an
eswitch, and an eswitch mode that this process may not read (``DEVLINK_CMD_ESWITCH_GET`` needs CAP_NET_ADMIN).
"""

from __future__ import annotations

import errno
import struct

from vferry.core.model import EswitchMode, FunctionState
from vferry.nic.linux.failure import GarbledMessageError, KernelError
from vferry.nic.linux.netlink import (
    NETLINK_GENERIC,
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    Message,
    NetlinkSocket,
    attribute,
    first_attributes,
    message,
)

__all__ = ["Devlink"]

GENL_ID_CTRL = 0x10
CTRL_CMD_GETFAMILY = 3
CTRL_ATTR_FAMILY_ID = 1
CTRL_ATTR_FAMILY_NAME = 2
_CTRL_VERSION = 1

DEVLINK_GENL_NAME = b"devlink\0"
DEVLINK_GENL_VERSION = 1

DEVLINK_CMD_PORT_GET = 5
DEVLINK_CMD_PORT_SET = 6
DEVLINK_CMD_ESWITCH_GET = 29
DEVLINK_CMD_ESWITCH_SET = 30
DEVLINK_CMD_RATE_GET = 74
DEVLINK_CMD_RATE_SET = 75

DEVLINK_ATTR_BUS_NAME = 1
DEVLINK_ATTR_DEV_NAME = 2
DEVLINK_ATTR_PORT_INDEX = 3
DEVLINK_ATTR_ESWITCH_MODE = 25
DEVLINK_ATTR_PORT_FLAVOUR = 77
DEVLINK_ATTR_PORT_PCI_PF_NUMBER = 127
DEVLINK_ATTR_PORT_PCI_VF_NUMBER = 128
DEVLINK_ATTR_PORT_FUNCTION = 145
DEVLINK_ATTR_PORT_EXTERNAL = 149
DEVLINK_ATTR_RATE_TX_SHARE = 166
DEVLINK_ATTR_RATE_TX_MAX = 167

DEVLINK_PORT_FLAVOUR_PCI_VF = 4

DEVLINK_PORT_FUNCTION_ATTR_HW_ADDR = 1
DEVLINK_PORT_FN_ATTR_STATE = 2
DEVLINK_PORT_FN_ATTR_CAPS = 4

_CAPABILITIES = {"roce": 0x1, "migratable": 0x2, "ipsec_crypto": 0x4, "ipsec_packet": 0x8}
"""``DEVLINK_PORT_FN_CAP_*``, by field of :class:`FunctionState`."""

_STATES = ("inactive", "active")
"""``DEVLINK_PORT_FN_STATE_*``."""
_MODES = (EswitchMode.LEGACY, EswitchMode.SWITCHDEV, EswitchMode.SWITCHDEV_INACTIVE)
"""``DEVLINK_ESWITCH_MODE_*``."""

_GENERIC = struct.Struct("=BBH")
"""``struct genlmsghdr``: command, version, reserved."""
_BITFIELD = struct.Struct("=II")
"""``struct nla_bitfield32``: value, selector."""

_ABSENT = (errno.ENODEV, errno.EOPNOTSUPP, errno.ENOENT, errno.EPERM, errno.EACCES)
_LARGEST_RATE = 0x7FFF_FFFF_FFFF_FFFF


class Port:
    """A devlink port of a VF."""

    __slots__ = ("external", "function", "index", "pf_number")

    def __init__(self, index: int, pf_number: int | None, function: FunctionState, *, external: bool) -> None:
        self.index = index
        self.pf_number = pf_number
        self.function = function
        self.external = external


class Devlink:
    """devlink, with a socket of its own.

    :param sock: a socket for generic netlink.
    :raise KernelError: the kernel has no devlink (ENOENT).
    """

    def __init__(self, sock: NetlinkSocket) -> None:
        self._socket = sock
        self._family = self._find_family()

    @classmethod
    def open(cls, deadline: float) -> Devlink | None:
        """Open devlink; None where the kernel has none.

        :param deadline: seconds to wait for each answer.
        """
        sock = NetlinkSocket.open(NETLINK_GENERIC, deadline)
        try:
            return cls(sock)
        except KernelError as error:
            sock.close()
            if error.errno == errno.ENOENT:
                return None
            raise

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _find_family(self) -> int:
        """Ask for the number of the family, which is given out at run time."""
        body = _GENERIC.pack(CTRL_CMD_GETFAMILY, _CTRL_VERSION, 0)
        body += attribute(CTRL_ATTR_FAMILY_NAME, DEVLINK_GENL_NAME)
        (sequence,) = self._socket.sequences(1)
        answer = self._socket.ask(message(GENL_ID_CTRL, NLM_F_REQUEST, sequence, body), sequence)
        family = _Attributes.of(answer).number(CTRL_ATTR_FAMILY_ID, 2)
        if family is None:
            raise GarbledMessageError("the kernel does not say which number devlink has")
        return family

    def _request(
        self, command: int, flags: int, bus: str, address: str, attributes: bytes = b""
    ) -> tuple[bytes, range]:
        sequences = self._socket.sequences(1)
        body = _GENERIC.pack(command, DEVLINK_GENL_VERSION, 0) + attribute(DEVLINK_ATTR_BUS_NAME, _text(bus))
        body += attribute(DEVLINK_ATTR_DEV_NAME, _text(address)) + attributes
        return message(self._family, NLM_F_REQUEST | flags, sequences.start, body), sequences

    def _get(self, command: int, bus: str, address: str, attributes: bytes = b"") -> _Attributes | None:
        """Ask for one thing; None where there is none."""
        request, sequences = self._request(command, 0, bus, address, attributes)
        try:
            return _Attributes.of(self._socket.ask(request, sequences.start))
        except KernelError as error:
            if error.errno in _ABSENT:
                return None
            raise

    def _set(self, command: int, bus: str, address: str, attributes: bytes) -> None:
        request, sequences = self._request(command, NLM_F_ACK, bus, address, attributes)
        self._socket.send(request)
        (refusal,) = self._socket.acknowledged(sequences)
        if refusal is not None and refusal.errno == errno.ENODEV:
            raise KernelError(errno.EOPNOTSUPP, "devlink does not know the device; its driver has none")
        if refusal is not None:
            raise refusal

    def eswitch_mode(self, bus: str, address: str) -> EswitchMode | None:
        """Return a device's eswitch mode; None where it has none."""
        found = self._get(DEVLINK_CMD_ESWITCH_GET, bus, address)
        mode = None if found is None else found.number(DEVLINK_ATTR_ESWITCH_MODE, 2)
        return _MODES[mode] if mode is not None and mode < len(_MODES) else None

    def set_eswitch_mode(self, bus: str, address: str, mode: EswitchMode) -> None:
        """Set a device's eswitch mode.

        :raise KernelError: the kernel refuses.
        """
        number = struct.pack("=H", _MODES.index(mode))
        self._set(DEVLINK_CMD_ESWITCH_SET, bus, address, attribute(DEVLINK_ATTR_ESWITCH_MODE, number))

    def _port(self, bus: str, address: str, vf: int) -> Port | None:
        """Find the port of a VF; of several, one of this host, and of this PF.

        A NIC with hosts of its own (a DPU) shows their VFs too, as *external* ports.
        """
        request, sequences = self._request(DEVLINK_CMD_PORT_GET, NLM_F_DUMP, bus, address)
        try:
            answers = self._socket.dump(request, sequences.start)
        except KernelError as error:
            if error.errno in _ABSENT:
                return None
            raise
        # Kernels before 6.5 do not filter a list, and give the ports of all devices.
        ports = [port for answer in answers if (port := _decode_port(_Attributes.of(answer), bus, address, vf))]
        pf_number = int(address[-1]) if bus == "pci" else 0
        return min(ports, key=lambda port: (port.external, port.pf_number != pf_number, port.index), default=None)

    def function(self, bus: str, address: str, vf: int) -> FunctionState | None:
        """Return a VF's port function and its rates; None where the VF has no port.

        :raise KernelError: the kernel refuses.
        :raise GarbledMessageError: an answer makes no sense.
        """
        port = self._port(bus, address, vf)
        if port is None:
            return None
        handle = attribute(DEVLINK_ATTR_PORT_INDEX, struct.pack("=I", port.index))
        rates = self._get(DEVLINK_CMD_RATE_GET, bus, address, handle)
        function = port.function
        return FunctionState(
            hw_addr=function.hw_addr,
            state=function.state,
            roce=function.roce,
            migratable=function.migratable,
            ipsec_crypto=function.ipsec_crypto,
            ipsec_packet=function.ipsec_packet,
            tx_share=None if rates is None else rates.rate(DEVLINK_ATTR_RATE_TX_SHARE),
            tx_max=None if rates is None else rates.rate(DEVLINK_ATTR_RATE_TX_MAX),
        )

    def program(self, bus: str, address: str, vf: int, change: FunctionState) -> None:
        """Change a VF's port function, then its rates; what is absent is left alone.

        The kernel sets the address before the capabilities and the state last
        (``devlink_port_function_set()`` of ``net/devlink/port.c``), and stops at the first that fails.

        :raise KernelError: the kernel refuses, or the VF has no port (EOPNOTSUPP).
        """
        port = self._port(bus, address, vf)
        if port is None:
            raise KernelError(errno.EOPNOTSUPP, "the VF has no devlink port; the eswitch is not in switchdev mode")
        handle = attribute(DEVLINK_ATTR_PORT_INDEX, struct.pack("=I", port.index))
        function = encode_function(change)
        if function:
            nest = attribute(DEVLINK_ATTR_PORT_FUNCTION | NLA_F_NESTED, function)
            self._set(DEVLINK_CMD_PORT_SET, bus, address, handle + nest)
        rates = encode_rates(change)
        if rates:
            self._set(DEVLINK_CMD_RATE_SET, bus, address, handle + rates)


def encode_function(change: FunctionState) -> bytes:
    """Encode the attributes of ``DEVLINK_ATTR_PORT_FUNCTION``; nothing where none of them changes."""
    parts: list[bytes] = []
    if change.hw_addr is not None:
        parts.append(attribute(DEVLINK_PORT_FUNCTION_ATTR_HW_ADDR, bytes.fromhex(change.hw_addr.replace(":", ""))))
    if change.state is not None:
        parts.append(attribute(DEVLINK_PORT_FN_ATTR_STATE, bytes([_STATES.index(change.state)])))
    value = selector = 0
    for name, bit in _CAPABILITIES.items():
        wanted: bool | None = getattr(change, name)
        if wanted is not None:
            selector |= bit
            value |= bit if wanted else 0
    if selector:
        parts.append(attribute(DEVLINK_PORT_FN_ATTR_CAPS, _BITFIELD.pack(value, selector)))
    return b"".join(parts)


def encode_rates(change: FunctionState) -> bytes:
    """Encode the attributes of a rate; nothing where none of them changes."""
    rates = {DEVLINK_ATTR_RATE_TX_SHARE: change.tx_share, DEVLINK_ATTR_RATE_TX_MAX: change.tx_max}
    return b"".join(attribute(kind, struct.pack("=Q", rate)) for kind, rate in rates.items() if rate is not None)


def _text(text: str) -> bytes:
    return text.encode() + b"\0"


class _Attributes:
    """The attributes of one answer, or of one nest in it."""

    __slots__ = ("_data", "_found")

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data = data
        self._found = first_attributes(data, start, end)

    @classmethod
    def of(cls, answer: Message) -> _Attributes:
        if answer.end - answer.start < _GENERIC.size:
            raise GarbledMessageError("a generic netlink message is too short")
        return cls(answer.data, answer.start + _GENERIC.size, answer.end)

    def octets(self, kind: int) -> bytes | None:
        place = self._found.get(kind)
        return None if place is None else self._data[slice(*place)]

    def number(self, kind: int, size: int) -> int | None:
        octets = self.octets(kind)
        if octets is None:
            return None
        if len(octets) != size:
            raise GarbledMessageError(f"attribute {kind} has {len(octets)} octets instead of {size}")
        number: int = struct.unpack({1: "=B", 2: "=H", 4: "=I", 8: "=Q"}[size], octets)[0]
        return number

    def rate(self, kind: int) -> int | None:
        """Return a rate in octets per second."""
        rate = self.number(kind, 8)
        if rate is not None and rate > _LARGEST_RATE:
            raise GarbledMessageError("a rate is beyond 63 bits")
        return rate

    def text(self, kind: int) -> str | None:
        octets = self.octets(kind)
        return None if octets is None else octets.rstrip(b"\0").decode("utf-8", "replace")

    def nest(self, kind: int) -> _Attributes | None:
        place = self._found.get(kind)
        return None if place is None else _Attributes(self._data, *place)


def _decode_port(found: _Attributes, bus: str, address: str, vf: int) -> Port | None:
    """Return the port, if it is one of that VF of that device."""
    if found.text(DEVLINK_ATTR_BUS_NAME) != bus or found.text(DEVLINK_ATTR_DEV_NAME) != address:
        return None
    if found.number(DEVLINK_ATTR_PORT_FLAVOUR, 2) != DEVLINK_PORT_FLAVOUR_PCI_VF:
        return None
    index = found.number(DEVLINK_ATTR_PORT_INDEX, 4)
    if index is None or found.number(DEVLINK_ATTR_PORT_PCI_VF_NUMBER, 2) != vf:
        return None
    return Port(
        index,
        found.number(DEVLINK_ATTR_PORT_PCI_PF_NUMBER, 2),
        _decode_function(found.nest(DEVLINK_ATTR_PORT_FUNCTION)),
        external=bool(found.number(DEVLINK_ATTR_PORT_EXTERNAL, 1)),
    )


def _decode_function(found: _Attributes | None) -> FunctionState:
    if found is None:
        return FunctionState()
    address = found.octets(DEVLINK_PORT_FUNCTION_ATTR_HW_ADDR)
    state = found.number(DEVLINK_PORT_FN_ATTR_STATE, 1)
    caps = found.octets(DEVLINK_PORT_FN_ATTR_CAPS)
    if caps is not None and len(caps) != _BITFIELD.size:
        raise GarbledMessageError(f"the capabilities of a port function have {len(caps)} octets")
    value, selector = (0, 0) if caps is None else _BITFIELD.unpack(caps)
    # A capability that the driver does not know is not selected, so absent.
    known = {name: bool(value & bit) for name, bit in _CAPABILITIES.items() if selector & bit}
    return FunctionState(
        hw_addr=address.hex(":") if address is not None and len(address) in (6, 20) else None,
        state=_STATES[state] if state is not None and state < len(_STATES) else None,
        **known,
    )
