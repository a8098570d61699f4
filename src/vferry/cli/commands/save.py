# SPDX-License-Identifier: Apache-2.0
"""``vferry save``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import msgspec

from vferry.cli import DONE
from vferry.cli.names import VfNameError, declarations, resolve_all
from vferry.cli.session import Session
from vferry.core.errors import FailedError
from vferry.core.fence import is_parking_mac
from vferry.core.model import ZERO_MAC, DeclaredState
from vferry.core.record import encode_json
from vferry.ports.nic import Nic
from vferry.state.files import write_durably
from vferry.verbs.context import VfRef
from vferry.verbs.save import save

__all__ = ["run"]


def run(session: Session) -> int:
    """Save VFs to a file or to standard output."""
    arguments = session.arguments
    nic = session.context.nic
    refs = resolve_all(nic, arguments.vfs)
    declared = _declared(nic, arguments.mac, arguments.mtu)
    record = save(session.context, refs, vm=arguments.vm, declared=declared, statistics=arguments.statistics)
    data = encode_json(record)
    if arguments.output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return DONE
    try:
        _write(os.path.realpath(arguments.output), data)
    except OSError as error:
        raise FailedError(f"write the record {arguments.output}", why=error.strerror or str(error)) from error
    names = [vf.name for vf in record.vfs]
    session.print({"file": arguments.output, "vfs": names}, f"saved {', '.join(names)} to {arguments.output}")
    return DONE


def _write(path: str, data: bytes) -> None:
    if os.path.exists(path) and not os.path.isfile(path):  # a device or a pipe is written to, never replaced
        with open(path, "wb") as file:
            file.write(data)
    else:
        write_durably(path, data, beside=f"{path}.{os.getpid()}.new")


def _declared(nic: Nic, macs: list[str], mtus: list[str]) -> Mapping[VfRef, DeclaredState]:
    mac_of = declarations(nic, macs, "--mac")
    mtu_of = declarations(nic, mtus, "--mtu")
    return {ref: _state(ref, mac_of.get(ref), mtu_of.get(ref)) for ref in dict.fromkeys([*mac_of, *mtu_of])}


def _state(ref: VfRef, mac: str | None, mtu: str | None) -> DeclaredState:
    fields: dict[str, object] = {}
    if mac is not None:
        fields["mac"] = mac.lower().replace("-", ":")
    if mtu is not None:
        fields["mtu"] = int(mtu) if mtu.isascii() and mtu.isdecimal() and len(mtu) < 9 else mtu
    try:
        return _possible(ref, msgspec.convert(fields, DeclaredState))
    except msgspec.ValidationError as error:
        what = "--mac takes six octets as 52:54:00:12:34:56" if "$.mac" in str(error) else "--mtu takes 68 to 65535"
        raise VfNameError("understand what is declared of a VF", pf=ref.pf, vf=ref.vf, why=what) from error


def _possible(ref: VfRef, declared: DeclaredState) -> DeclaredState:
    """Refuse a MAC that no VM can have now, not when its VM has stopped."""
    mac = declared.mac
    if mac is None:
        return declared
    why = ""
    if int(mac[:2], 16) & 1 and len(mac) == len(ZERO_MAC):
        why = "it is a group address"
    elif mac == ZERO_MAC:
        why = "a zero MAC is no address"
    elif is_parking_mac(mac):
        why = "it is the parking MAC of a fence"
    if why:
        raise VfNameError(f"declare the MAC {mac}", pf=ref.pf, vf=ref.vf, why=why)
    return declared
