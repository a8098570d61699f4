# SPDX-License-Identifier: Apache-2.0
"""devlink messages, written here from ``include/uapi/linux/devlink.h``; netdevsim has no port functions to try."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.nic_linux import kernel
from tests.nic_linux.kernel import ack, nla
from vferry.core.model import EswitchMode, FunctionState
from vferry.nic.linux import devlink
from vferry.nic.linux.devlink import Devlink, encode_function, encode_rates
from vferry.nic.linux.failure import GarbledMessageError, KernelError
from vferry.nic.linux.netlink import Message, NetlinkSocket

FAMILY = 0x15
HANDLE = nla(1, b"pci\0") + nla(2, b"0000:03:00.1\0")
PF = ("pci", "0000:03:00.1")


class Scripted:
    """devlink whose kernel is the test."""

    def __init__(self, ours: socket.socket, end: socket.socket) -> None:
        self.end = end
        self.answer(1, nla(2, b"devlink\0") + nla(1, struct.pack("=H", FAMILY)), kind=0x10)
        self.devlink = Devlink(NetlinkSocket(ours, 0.05))
        self.resolution = end.recv(1000)

    def answer(self, sequence: int, attributes: bytes, *, kind: int = FAMILY, flags: int = 0) -> None:
        body = struct.pack("=BBH", 1, 1, 0) + attributes
        self.end.send(struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body)

    def done(self, sequence: int) -> None:
        self.end.send(struct.pack("=IHHIIi", 20, 3, 2, sequence, 0, 0))

    def request(self) -> tuple[int, int, list[tuple[int, bytes]]]:
        """Return flags, command and attributes of the next request."""
        data = self.end.recv(1000)
        length, kind, flags, _sequence, _port, command, version, _reserved = struct.unpack_from("=IHHIIBBH", data)
        assert (length, kind, version) == (len(data), FAMILY, 1)
        return flags, command, kernel.attributes(data[20:])


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    ours, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, end:
        yield Scripted(ours, end)


def port(
    index: int,
    vf: int | None,
    *,
    handle: bytes = HANDLE,
    flavour: int = 4,
    pf: int = 1,
    function: bytes | None = None,
    external: int | None = 0,
) -> bytes:
    """A devlink port, of a VF where ``vf`` is given."""
    parts = [handle, nla(3, struct.pack("=I", index)), nla(77, struct.pack("=H", flavour))]
    parts.append(nla(127, struct.pack("=H", pf)))
    if vf is not None:
        parts.append(nla(128, struct.pack("=H", vf)))
    if external is not None:
        parts.append(nla(149, bytes([external])))
    if function is not None:
        parts.append(nla(145 | 0x8000, function))
    return b"".join(parts)


def function_attributes(*, caps: tuple[int, int] | None = None, state: int | None = None, address: str = "") -> bytes:
    """What is in DEVLINK_ATTR_PORT_FUNCTION: HW_ADDR 1, STATE 2, OPSTATE 3, CAPS 4 (value, selector)."""
    parts = [nla(1, bytes.fromhex(address))] if address else []
    if state is not None:
        parts += [nla(2, bytes([state])), nla(3, b"\1")]
    if caps is not None:
        parts.append(nla(4, struct.pack("=II", *caps)))
    return b"".join(parts)


def test_the_family_is_asked_for_by_name(scripted: Scripted) -> None:
    length, kind, flags, _sequence, _port, command, version, _reserved = struct.unpack_from(
        "=IHHIIBBH", scripted.resolution
    )
    assert (length, kind, flags, command, version) == (len(scripted.resolution), 0x10, 1, 3, 1)
    assert kernel.attributes(scripted.resolution[20:]) == [(2, b"devlink\0")]


@pytest.mark.parametrize(
    ("number", "mode"),
    [(0, EswitchMode.LEGACY), (1, EswitchMode.SWITCHDEV), (2, EswitchMode.SWITCHDEV_INACTIVE), (3, None)],
)
def test_eswitch_modes(scripted: Scripted, number: int, mode: EswitchMode | None) -> None:
    scripted.answer(2, HANDLE + nla(25, struct.pack("=H", number)))
    assert scripted.devlink.eswitch_mode(*PF) is mode
    assert scripted.request() == (1, 29, [(1, b"pci\0"), (2, b"0000:03:00.1\0")])


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EOPNOTSUPP, errno.EPERM])
def test_no_eswitch_is_absent(scripted: Scripted, number: int) -> None:
    scripted.end.send(ack(2, number))
    assert scripted.devlink.eswitch_mode(*PF) is None


def test_other_refusals_are_errors(scripted: Scripted) -> None:
    scripted.end.send(ack(2, errno.EINVAL, "words"))
    with pytest.raises(KernelError, match="words"):
        scripted.devlink.eswitch_mode(*PF)


def test_the_eswitch_mode_is_set(scripted: Scripted) -> None:
    scripted.end.send(ack(2))
    scripted.devlink.set_eswitch_mode(*PF, EswitchMode.SWITCHDEV)
    assert scripted.request() == (5, 30, [(1, b"pci\0"), (2, b"0000:03:00.1\0"), (25, b"\1\0")])


def test_a_device_without_devlink_is_not_a_missing_device(scripted: Scripted) -> None:
    scripted.end.send(ack(2, errno.ENODEV))
    with pytest.raises(KernelError, match="does not know the device") as caught:
        scripted.devlink.set_eswitch_mode(*PF, EswitchMode.SWITCHDEV)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_a_function_with_everything(scripted: Scripted) -> None:
    function = function_attributes(caps=(0b0101, 0b1111), state=1, address="020000000005")
    scripted.answer(2, port(128, 0), flags=2)
    scripted.answer(2, port(129, 5, function=function), flags=2)
    scripted.done(2)
    rates = nla(165, b"\0\0") + nla(166, struct.pack("=Q", 1_250_000)) + nla(167, struct.pack("=Q", 12_500_000))
    scripted.answer(3, HANDLE + nla(3, struct.pack("=I", 129)) + rates)
    assert scripted.devlink.function(*PF, 5) == FunctionState(
        hw_addr="02:00:00:00:00:05",
        state="active",
        roce=True,
        migratable=False,
        ipsec_crypto=True,
        ipsec_packet=False,
        tx_share=1_250_000,
        tx_max=12_500_000,
    )
    assert scripted.request() == (0x301, 5, [(1, b"pci\0"), (2, b"0000:03:00.1\0")])
    assert scripted.request() == (1, 74, [(1, b"pci\0"), (2, b"0000:03:00.1\0"), (3, b"\x81\0\0\0")])


def test_what_a_function_does_not_report_is_absent(scripted: Scripted) -> None:
    scripted.answer(2, port(128, 0, function=function_attributes(caps=(0b0011, 0b0010))), flags=2)
    scripted.done(2)
    scripted.end.send(ack(3, errno.ENODEV))
    assert scripted.devlink.function(*PF, 0) == FunctionState(migratable=True)


def test_a_vf_without_port(scripted: Scripted) -> None:
    other = nla(1, b"pci\0") + nla(2, b"0000:04:00.0\0")
    scripted.answer(2, port(0, None, flavour=0), flags=2)
    scripted.answer(2, port(1, 3, flavour=7), flags=2)
    scripted.answer(2, port(2, 3, handle=other), flags=2)
    scripted.answer(2, port(3, 4), flags=2)
    scripted.done(2)
    assert scripted.devlink.function(*PF, 3) is None
    scripted.done(3)
    with pytest.raises(KernelError, match="no devlink port") as caught:
        scripted.devlink.program(*PF, 3, FunctionState(roce=True))
    assert caught.value.errno == errno.EOPNOTSUPP


def test_of_several_ports_that_of_this_host_and_pf(scripted: Scripted) -> None:
    def tx_max_of(sequence: int, *ports: bytes) -> bytes:
        for one in ports:
            scripted.answer(sequence, one, flags=2)
        scripted.done(sequence)
        scripted.end.send(ack(sequence + 1, errno.EOPNOTSUPP))
        scripted.devlink.function(*PF, 0)
        scripted.request()
        return dict(scripted.request()[2])[3]

    mine = port(9, 0, pf=1)
    assert tx_max_of(2, port(1, 0, pf=1, external=1), port(2, 0, pf=0), mine) == b"\x09\0\0\0"
    assert tx_max_of(4, port(1, 0, pf=1, external=1), port(2, 0, pf=0)) == b"\x02\0\0\0"
    assert tx_max_of(6, port(3, 0, pf=1, external=None), port(1, 0, external=1)) == b"\x03\0\0\0"


GOLDEN = {
    "address": (FunctionState(hw_addr="02:00:00:00:00:05"), "0a000100 020000000005 0000"),
    "inactive": (FunctionState(state="inactive"), "05000200 00 000000"),
    "active": (FunctionState(state="active"), "05000200 01 000000"),
    "roce on": (FunctionState(roce=True), "0c000400 01000000 01000000"),
    "roce off": (FunctionState(roce=False), "0c000400 00000000 01000000"),
    "migratable": (FunctionState(migratable=True), "0c000400 02000000 02000000"),
    "ipsec crypto": (FunctionState(ipsec_crypto=True), "0c000400 04000000 04000000"),
    "ipsec packet": (FunctionState(ipsec_packet=True), "0c000400 08000000 08000000"),
    "all": (
        FunctionState(roce=True, migratable=False, ipsec_crypto=False, ipsec_packet=True),
        "0c000400 09000000 0f000000",
    ),
    "none": (FunctionState(tx_max=1), ""),
}


@pytest.mark.parametrize(("change", "golden"), GOLDEN.values(), ids=GOLDEN.keys())
def test_golden_functions(change: FunctionState, golden: str) -> None:
    assert encode_function(change).hex() == golden.replace(" ", "")


def test_golden_rates() -> None:
    assert (
        encode_rates(FunctionState(tx_share=1, tx_max=0)).hex()
        == "0c00a6000100000000000000" + "0c00a7000000000000000000"
    )
    assert encode_rates(FunctionState(roce=True)) == b""


def test_a_function_is_programmed_and_then_its_rates(scripted: Scripted) -> None:
    scripted.answer(2, port(129, 5), flags=2)
    scripted.done(2)
    scripted.end.send(ack(3))
    scripted.end.send(ack(4))
    scripted.devlink.program(*PF, 5, FunctionState(hw_addr="02:00:00:00:00:05", state="active", tx_max=7))
    handle = [(1, b"pci\0"), (2, b"0000:03:00.1\0"), (3, b"\x81\0\0\0")]
    scripted.request()
    set_port = scripted.end.recv(1000)
    place = set_port.index(struct.pack("=H", 145 | 0x8000)) - 2
    assert set_port[16] == 6, "DEVLINK_CMD_PORT_SET"
    assert kernel.attributes(set_port[20:])[:3] == handle
    assert kernel.attributes(set_port[place + 4 :]) == [(1, b"\x02\0\0\0\0\x05"), (2, b"\x01")]
    assert scripted.request() == (5, 75, [*handle, (167, struct.pack("=Q", 7))])


def test_a_refused_function_stops_the_rates(scripted: Scripted) -> None:
    scripted.answer(2, port(129, 5), flags=2)
    scripted.done(2)
    scripted.end.send(ack(3, errno.EOPNOTSUPP, "Port doesn't support function attributes"))
    with pytest.raises(KernelError, match="function attributes"):
        scripted.devlink.program(*PF, 5, FunctionState(roce=True, tx_max=7))


@pytest.mark.parametrize(
    "attributes",
    [
        port(1, 0, function=nla(4, b"\0" * 4)),
        port(1, 0, function=nla(2, b"\0\0")),
        port(1, 0, function=b"\xff\xff\1\0"),
        HANDLE + nla(77, b"\4"),
    ],
)
def test_garbled_ports(scripted: Scripted, attributes: bytes) -> None:
    scripted.answer(2, attributes, flags=2)
    scripted.done(2)
    with pytest.raises(GarbledMessageError):
        scripted.devlink.function(*PF, 0)


@given(raw=st.binary(max_size=120))
def test_any_port_is_decoded_or_refused(raw: bytes) -> None:
    try:
        found = devlink._Attributes.of(Message(FAMILY, 0, 1, raw, 0, len(raw)))
        devlink._decode_port(found, *PF, 0)
    except GarbledMessageError:
        return


def test_a_kernel_without_devlink(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, end:
        end.send(ack(1, errno.ENOENT))
        monkeypatch.setattr(NetlinkSocket, "open", lambda _protocol, deadline: NetlinkSocket(ours, deadline))
        assert Devlink.open(0.05) is None


def test_the_real_kernel_says_whether_it_has_devlink() -> None:
    found = Devlink.open(5.0)
    if found is not None:
        assert found.eswitch_mode("pci", "ffff:ff:1f.7") is None
        assert found.function("pci", "ffff:ff:1f.7", 0) is None
        found.close()
