# SPDX-License-Identifier: Apache-2.0
"""The kernel's side of rtnetlink, written from the struct definitions of ``if_link.h``: no layout is the adapter's.

``rtm_newlink()`` lays a PF's state out as ``rtnl_fill_ifinfo()`` and ``rtnl_fill_vfinfo()`` do.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from vferry.core.model import AdminState, LinkState, PfReading, Rate, VfStatistics, Vlan
from vferry.nic.linux.linkinfo import decode_reading
from vferry.nic.linux.netlink import messages

UNREPORTED = 0xFFFF_FFFF
LINK_STATES = {LinkState.AUTO: 0, LinkState.ENABLE: 1, LinkState.DISABLE: 2}
PROTOCOLS = {"802.1Q": 0x8100, "802.1ad": 0x88A8, None: 0}


def nla(kind: int, payload: bytes) -> bytes:
    length = len(payload) + 4
    return struct.pack("=HH", length & 0xFFFF, kind) + payload + bytes(-length % 4)


def address(text: str) -> bytes:
    return bytes(int(octet, 16) for octet in text.split(":"))


def flag(value: object) -> int:
    return UNREPORTED if value is None else int(bool(value))


def ifla_vf_vlan_info(vf: int, vlan: Vlan) -> bytes:
    number = PROTOCOLS[vlan.proto] if vlan.proto in PROTOCOLS else int(str(vlan.proto), 16)
    return struct.pack("=III", vf, vlan.vid, vlan.qos) + struct.pack(">H", number) + b"\0\0"


def vf_stats(statistics: VfStatistics) -> bytes:
    values = (
        (0, statistics.rx_packets),
        (1, statistics.tx_packets),
        (2, statistics.rx_bytes),
        (3, statistics.tx_bytes),
        (4, statistics.broadcast),
        (5, statistics.multicast),
        (7, statistics.rx_dropped),
        (8, statistics.tx_dropped),
    )
    return nla(8, b"".join(nla(kind, struct.pack("=Q", value)) for kind, value in values))


def vf_info(
    vf: int,
    admin: AdminState,
    *,
    broadcast: str = "ff:ff:ff:ff:ff:ff",
    statistics: VfStatistics | None = None,
    leak: bytes = b"",
) -> bytes:
    """One IFLA_VF_INFO; ``leak`` is what the kernel may leave behind the broadcast address."""
    assert admin.mac is not None
    assert admin.rate is not None
    vlans = admin.vlans or (Vlan(vid=0, proto="802.1Q"),)
    state = LINK_STATES[admin.link_state or LinkState.AUTO]
    parts = [
        nla(1, struct.pack("=I", vf) + address(admin.mac).ljust(32, b"\0")),
        nla(13, (address(broadcast) + leak).ljust(32, b"\0")),
        nla(2, struct.pack("=III", vf, vlans[0].vid, vlans[0].qos)),
        nla(6, struct.pack("=III", vf, admin.rate.min_tx, admin.rate.max_tx)),
        nla(3, struct.pack("=II", vf, admin.rate.max_tx)),
        nla(4, struct.pack("=II", vf, flag(admin.spoofchk))),
        nla(5, struct.pack("=II", vf, state)),
        nla(7, struct.pack("=II", vf, flag(admin.rss_query))),
        nla(9, struct.pack("=II", vf, flag(admin.trust))),
    ]
    for kind, guid in ((10, admin.node_guid), (11, admin.port_guid)):
        if guid is not None:
            parts.append(nla(kind, struct.pack("@IQ", vf, int(guid.replace(":", ""), 16))))
    parts.append(nla(12, b"".join(nla(1, ifla_vf_vlan_info(vf, vlan)) for vlan in vlans)))
    if statistics is not None:
        parts.append(vf_stats(statistics))
    return nla(1, b"".join(parts))


def link_attributes_before(mac: bytes) -> bytes:
    """What a link has before its VFs, as a 6.12 kernel gives it (values are of no interest)."""
    words = [(13, 1000), (4, 1500), (50, 68), (51, 9000), (27, 0), (30, 0), (61, 0), (31, 8), (40, 65535), (41, 65536)]
    words += [(58, 65536), (63, 65536), (64, 65536), (59, 524280), (60, 65535), (32, 8), (35, 2), (47, 1), (48, 1)]
    parts = [nla(3, b"enp1s0f0np0\0")]
    parts += [nla(kind, struct.pack("=I", value)) for kind, value in words]
    parts += [nla(kind, b"\1") for kind in (16, 17, 33, 39)]
    parts += [nla(1, mac), nla(2, b"\xff" * len(mac))]
    return b"".join(parts)


def link_attributes_after(permanent: bytes) -> bytes:
    parts = [nla(43, nla(2, b"\0")), nla(54, permanent), nla(6, b"mq\0")]
    parts += [nla(26, nla(2, bytes(120)) + nla(10, bytes(300)))]
    parts += [nla(14, bytes(32)), nla(52 | 0x8000, nla(53, b"enp1s0f0\0"))]
    parts += [nla(56, b"0000:01:00.0\0"), nla(57, b"pci\0"), nla(62 | 0x8000, b"")]
    return b"".join(parts)


def newlink(attributes: bytes, *, ifindex: int = 7, flags: int = 0x11043, sequence: int = 1) -> bytes:
    body = struct.pack("=BBHiII", 0, 0, 1, ifindex, flags, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), 16, 0, sequence, 4711) + body


def rtm_newlink(
    blocks: Sequence[bytes],
    *,
    num_vfs: int | None = None,
    mac: str = "52:54:00:aa:00:01",
    permanent: str = "52:54:00:aa:00:02",
    has_settings: bool = True,
    sequence: int = 1,
    extra: bytes = b"",
) -> bytes:
    """RTM_NEWLINK of a PF; the list's 16-bit length wraps as the kernel's does."""
    count = len(blocks) if num_vfs is None else num_vfs
    attributes = link_attributes_before(address(mac)) + extra + nla(21, struct.pack("=I", count))
    if has_settings:
        attributes += nla(22, b"".join(blocks))
    return newlink(attributes + link_attributes_after(address(permanent)), sequence=sequence)


# Section: the kernel as the receiver of RTM_SETLINK


def attributes(data: bytes) -> list[tuple[int, bytes]]:
    """Parse attributes as ``nla_for_each_attr()`` does."""
    found = []
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        assert 4 <= length <= len(data)
        found.append((kind & 0x3FFF, data[4:length]))
        data = data[(length + 3) & ~3 :]
    assert not data
    return found


def do_setlink(request: bytes) -> tuple[int, int, int, int, list[AdminState]]:
    """Take one RTM_SETLINK apart: sequence, flags, ifindex, the VF, and the change of each IFLA_VF_INFO."""
    length, kind, flags, sequence, port = struct.unpack_from("=IHHII", request)
    assert (length, kind, port) == (len(request), 19, 0)
    family, _pad, _type, ifindex, ifi_flags, change = struct.unpack_from("=BBHiII", request, 16)
    assert (family, ifi_flags, change) == (0, 0, 0)
    ((outer, lists),) = attributes(request[32:])
    assert outer == 22
    vfs, changes = set(), []
    for inner, info in attributes(lists):
        assert inner == 1
        vf, state = do_setvfinfo(info)
        vfs.add(vf)
        changes.append(state)
    (vf,) = vfs
    return sequence, flags, ifindex, vf, changes


def do_setvfinfo(info: bytes) -> tuple[int, AdminState]:
    """Return the VF and what ``do_setvfinfo()`` would set, with its checks."""
    tb = dict(attributes(info))
    vfs, fields = set(), {}

    def unpack(kind: int, form: str) -> tuple[int, ...]:
        assert len(tb[kind]) == struct.calcsize(form), f"attribute {kind}"
        vf, *rest = struct.unpack(form, tb[kind])
        vfs.add(vf)
        return tuple(rest)

    if 1 in tb:
        (octets,) = struct.unpack("=32s", tb[1][4:])
        vfs.add(struct.unpack_from("=I", tb[1])[0])
        length = 20 if octets[6:20].strip(b"\0") else 6
        assert not octets[length:].strip(b"\0")
        fields["mac"] = octets[:length].hex(":")
    if 12 in tb:
        ((kind, entry),) = attributes(tb[12])
        assert (kind, len(entry)) == (1, 16)
        vf, vid, qos = struct.unpack_from("=III", entry)
        vfs.add(vf)
        (number,) = struct.unpack_from(">H", entry, 12)
        proto = {0x8100: "802.1Q", 0x88A8: "802.1ad"}.get(number, f"0x{number:04x}")
        fields["vlans"] = (Vlan(vid=vid, qos=qos, proto=proto),) if vid or qos else ()
    if 6 in tb:
        minimum, maximum = unpack(6, "=III")
        fields["rate"] = Rate(min_tx=minimum, max_tx=maximum)
    for kind, name in ((4, "spoofchk"), (7, "rss_query"), (9, "trust")):
        if kind in tb:
            fields[name] = {0: False, 1: True}[unpack(kind, "=II")[0]]
    if 5 in tb:
        fields["link_state"] = {number: state for state, number in LINK_STATES.items()}[unpack(5, "=II")[0]]
    assert not (10 in tb and 11 in tb), "the kernel returns after the first GUID"
    for kind, name in ((10, "node_guid"), (11, "port_guid")):
        if kind in tb:
            fields[name] = unpack(kind, "@IQ")[0].to_bytes(8, "big").hex(":")
    assert set(tb) <= {1, 4, 5, 6, 7, 9, 10, 11, 12}
    (vf,) = vfs
    return vf, AdminState(**fields)


def ack(sequence: int, error: int = 0, text: str | None = None, *, request: bytes | None = None) -> bytes:
    """NLMSG_ERROR as ``netlink_ack()`` makes it: capped, or with the request repeated."""
    header = struct.pack("=IHHII", 16, 19, 5, sequence, 0)
    flags = 0x100
    if request is not None:
        header, flags = request.ljust((len(request) + 3) & ~3, b"\0"), 0
    body = struct.pack("=i", -error) + header
    if text is not None:
        body += nla(1, text.encode() + b"\0")
        flags |= 0x200
    return struct.pack("=IHHII", 16 + len(body), 2, flags, sequence, 4711) + body


def read_back(blocks: Sequence[bytes], **arguments: Any) -> PfReading:
    """Decode what the kernel would show."""
    (answer,) = messages(rtm_newlink(blocks, **arguments))
    return decode_reading(answer)
