#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Numbered Ethernet frames, and a program that sends and receives them in a host.

A frame carries ethertype 0x88B5 (IEEE 802, local experimental) and then::

    4  magic "VFLB"
    1  length of the sender's name, then the name (UTF-8, at most 64 bytes)
    1  length of the kind, then the kind (UTF-8, at most 64 bytes)
    4  sequence number, big endian
       zeros up to the wanted size

so that a capture in a host is matched with the wire's by what the frames say, and never by a clock of a host.

Commands, as ``lab-frames`` in a host::

    lab-frames send IFACE DST [--src MAC] [--vlan N] [--pcp N] [--count N] [--interval S] [--sender ID] [--kind K]
    lab-frames receive IFACE [--seconds S] [--promisc]

``receive`` prints a JSON object for each frame and first, once it listens, ``{"listening": IFACE}``.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ETHERTYPE = 0x88B5
MAGIC = b"VFLB"
BROADCAST = "ff:ff:ff:ff:ff:ff"

_TAG_TYPES = (0x8100, 0x88A8)
_LONGEST_NAME = 64
_SHORTEST_FRAME = 60

# linux/if_ether.h, linux/if_packet.h, asm-generic/socket.h, linux/filter.h
_ETH_P_ALL = 0x0003
_PACKET_ADD_MEMBERSHIP = 1
_PACKET_AUXDATA = 8
_PACKET_MR_PROMISC = 1
_PACKET_OUTGOING = 4
_SOL_PACKET = 263
_SO_ATTACH_FILTER = 26
_TP_STATUS_VLAN_VALID = 1 << 4


@dataclass(frozen=True, kw_only=True)
class LabFrame:
    """What a numbered frame says.

    :ivar sender: who sent it.
    :ivar kind: which of the sender's flows it belongs to.
    :ivar seq: its number in that flow.
    :ivar dst: destination address, lower case with colons.
    :ivar src: source address.
    :ivar vlan: VLAN id of the outer 802.1Q tag, `None` without a tag.
    :ivar pcp: priority of that tag, 0 without a tag.
    """

    sender: str
    kind: str
    seq: int
    dst: str = BROADCAST
    src: str = "02:00:00:00:00:01"
    vlan: int | None = None
    pcp: int = 0


def marker(sender: str, kind: str, seq: int | None = None) -> bytes:
    """Return the bytes that every frame of a flow contains, or one frame of it when ``seq`` is given."""
    names = b""
    for name in (sender, kind):
        raw = name.encode()
        if len(raw) > _LONGEST_NAME:
            raise ValueError(f"name longer than {_LONGEST_NAME} bytes: {name}")
        names += bytes([len(raw)]) + raw
    return MAGIC + names + (b"" if seq is None else struct.pack(">I", seq))


def encode(frame: LabFrame, *, size: int = _SHORTEST_FRAME) -> bytes:
    """Return the frame as it goes over a wire, without checksum.

    :param size: at least so many bytes.
    :raise ValueError: When a name or an address is not valid.
    """
    tag = b"" if frame.vlan is None else struct.pack(">HH", 0x8100, frame.pcp << 13 | frame.vlan)
    head = _address(frame.dst) + _address(frame.src) + tag + struct.pack(">H", ETHERTYPE)
    return (head + marker(frame.sender, frame.kind, frame.seq)).ljust(size, b"\0")


def decode(raw: bytes) -> LabFrame | None:
    """Return what ``raw`` says, or `None` when it is not a frame of this kind. The outermost tag counts."""
    vlan, pcp, offset = _tags(raw)
    if raw[offset : offset + 2] != struct.pack(">H", ETHERTYPE):
        return None
    body = raw[offset + 2 :]
    if not body.startswith(MAGIC):
        return None
    names: list[str] = []
    place = len(MAGIC)
    for _ in range(2):
        length = body[place] if place < len(body) else 0
        names.append(body[place + 1 : place + 1 + length].decode(errors="replace"))
        place += 1 + length
    if len(body) < place + 4:
        return None
    (seq,) = struct.unpack_from(">I", body, place)
    dst, src = _text(raw[:6]), _text(raw[6:12])
    return LabFrame(sender=names[0], kind=names[1], seq=seq, dst=dst, src=src, vlan=vlan, pcp=pcp)


def _tags(raw: bytes) -> tuple[int | None, int, int]:
    """Return (VLAN id and priority of the outermost tag, where the ethertype behind all tags is)."""
    vlan: int | None = None
    pcp = 0
    offset = 12
    while len(raw) >= offset + 4 and struct.unpack_from(">H", raw, offset)[0] in _TAG_TYPES:
        if vlan is None:
            (control,) = struct.unpack_from(">H", raw, offset + 2)
            vlan, pcp = control & 0xFFF, control >> 13
        offset += 4
    return vlan, pcp, offset


def _address(text: str) -> bytes:
    raw = bytes.fromhex(text.replace(":", ""))
    if len(raw) != 6:
        raise ValueError(f"not a MAC address: {text}")
    return raw


def _text(raw: bytes) -> str:
    return raw.hex(":")


# From here on: the program.


def _hardware_address(interface: str) -> str:
    return Path("/sys/class/net", interface, "address").read_text().strip()


def _send(options: argparse.Namespace) -> None:
    source = options.src or _hardware_address(options.interface)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.bind((options.interface, 0))
        for seq in range(options.first, options.first + options.count):
            frame = LabFrame(
                sender=options.sender,
                kind=options.kind,
                seq=seq,
                dst=options.dst,
                src=source,
                vlan=options.vlan,
                pcp=options.pcp,
            )
            sender.send(encode(frame, size=options.size))
            if options.interval and seq < options.first + options.count - 1:
                time.sleep(options.interval)


class _FilterProgram(ctypes.Structure):
    """``struct sock_fprog`` of linux/filter.h."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _attach_filter(receiver: socket.socket) -> None:
    """Let the kernel drop what cannot be a numbered frame: a classic BPF program on the ethertype at offset 12."""
    wanted = (ETHERTYPE, *_TAG_TYPES)
    code = [struct.pack("=HBBI", 0x28, 0, 0, 12)]
    code += [struct.pack("=HBBI", 0x15, len(wanted) - place, 0, value) for place, value in enumerate(wanted)]
    code += [struct.pack("=HBBI", 0x06, 0, 0, 0), struct.pack("=HBBI", 0x06, 0, 0, 0xFFFF)]
    buffer = ctypes.create_string_buffer(b"".join(code))
    program = _FilterProgram(len(code), ctypes.addressof(buffer))
    receiver.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(program))


def _listen(interface: str, *, promiscuous: bool) -> socket.socket:
    """Return a socket that gets every frame of ``interface``.

    It must ask for all protocols: a socket for one ethertype gets the frame after the kernel has dropped the tag of a
    VLAN that it has no interface for.
    """
    receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    _attach_filter(receiver)
    receiver.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
    receiver.bind((interface, _ETH_P_ALL))
    if promiscuous:
        request = struct.pack("iHH8s", socket.if_nametoindex(interface), _PACKET_MR_PROMISC, 0, b"")
        receiver.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)
    return receiver


def _with_tag(raw: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """Put the VLAN tag, which the kernel hands over beside the frame, back into it (``struct tpacket_auxdata``)."""
    for level, kind, data in ancillary:
        if level == _SOL_PACKET and kind == _PACKET_AUXDATA:
            status, _, _, _, _, control, protocol = struct.unpack_from("=IIIHHHH", data)
            if status & _TP_STATUS_VLAN_VALID:
                return raw[:12] + struct.pack(">HH", protocol or 0x8100, control) + raw[12:]
    return raw


def _receive(options: argparse.Namespace) -> None:
    end = time.monotonic() + options.seconds if options.seconds else None
    with _listen(options.interface, promiscuous=options.promisc) as receiver:
        _print({"listening": options.interface})
        while end is None or time.monotonic() < end:
            left = None if end is None else max(0.0, end - time.monotonic())
            if not select.select([receiver], [], [], left)[0]:
                continue
            raw, ancillary, _flags, address = receiver.recvmsg(65536, 256)
            frame = None if address[2] == _PACKET_OUTGOING else decode(_with_tag(raw, ancillary))
            if frame is not None:
                _print({**vars(frame)})


def _print(record: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab-frames", description="send and receive numbered frames")
    commands = parser.add_subparsers(dest="command", required=True)
    send = commands.add_parser("send")
    send.set_defaults(act=_send)
    send.add_argument("interface")
    send.add_argument("dst")
    send.add_argument("--src", help="default: the interface's own address")
    send.add_argument("--vlan", type=int)
    send.add_argument("--pcp", type=int, default=0)
    send.add_argument("--count", type=int, default=1)
    send.add_argument("--first", type=int, default=0, help="first sequence number")
    send.add_argument("--interval", type=float, default=0.0, help="seconds between frames")
    send.add_argument("--size", type=int, default=_SHORTEST_FRAME, help="bytes of a frame, at least")
    send.add_argument("--sender", default="host")
    send.add_argument("--kind", default="data")
    receive = commands.add_parser("receive")
    receive.set_defaults(act=_receive)
    receive.add_argument("interface")
    receive.add_argument("--seconds", type=float, help="default: until SIGTERM")
    receive.add_argument("--promisc", action="store_true", help="also frames for other addresses")
    return parser


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    options = _parser().parse_args()
    act: Callable[[argparse.Namespace], None] = options.act
    act(options)


if __name__ == "__main__":
    main()
