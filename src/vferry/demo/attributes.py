# SPDX-License-Identifier: Apache-2.0
"""Compares the VM's VFs on B with what they were on A: what the PF shows, what its registers hold, and the session."""

from __future__ import annotations

from typing import NamedTuple

from vferry.core.model import AdminState
from vferry.demo.report import AttributeFate, Verdict
from vferry.nic.ixgbe.host import SoftwarePf
from vferry.nic.ixgbe.messages import Api, XcastMode
from vferry.nic.ixgbe.pf_driver import ProgrammedVf, VfSession
from vferry.nic.ixgbe.settings import shown_settings

__all__ = ["Snapshot", "compare", "snapshot"]


class _Value(NamedTuple):
    """One attribute: in words, and the registers that make it real (None: there are none)."""

    words: str
    registers: object


Snapshot = dict[tuple[str, str], _Value]
"""By kind and name."""


def snapshot(software: SoftwarePf, vf: int) -> Snapshot:
    """Return what a VF has now; changes nothing."""
    driver = software.driver
    admin, session = shown_settings(driver.get_vf_config(vf)), driver.session(vf)
    return {**_admin(admin, driver.programmed(vf)), **_session(session, driver.programmed(vf))}


def _admin(admin: AdminState, held: ProgrammedVf) -> Snapshot:
    assert admin.rate is not None  # noqa: S101 -- this driver shows it
    assert admin.link_state is not None  # noqa: S101 -- this driver shows it
    vlan = ", ".join(f"{one.vid} qos {one.qos}" for one in admin.vlans or ()) or "none"
    return {
        ("admin", "MAC"): _Value(str(admin.mac), held.macs),
        ("admin", "VLAN"): _Value(vlan, (held.port_vlan, held.vlans)),
        ("admin", "max rate"): _Value(f"{admin.rate.max_tx or 'no'} Mbit/s".replace("no Mbit/s", "none"), held.rates),
        ("admin", "spoofchk"): _Value(_on(admin.spoofchk), (held.mac_anti_spoof, held.vlan_anti_spoof)),
        ("admin", "trust"): _Value(_on(admin.trust), None),
        ("admin", "link state"): _Value(admin.link_state.value, None),
        ("admin", "RSS query"): _Value(_on(admin.rss_query), None),
    }


def _session(session: VfSession, held: ProgrammedVf) -> Snapshot:
    modes = (held.hashed_multicast, held.all_multicast)
    return {
        ("session", "works"): _Value(_on(session.clear_to_send), (held.receive, held.transmit)),
        ("session", "API"): _Value(Api(session.api_version).name.removeprefix("V").replace("_", "."), None),
        ("session", "multicast"): _Value(
            ", ".join(f"{value:#06x}" for value in session.mc_hashes) or "none", held.hashed_multicast
        ),
        ("session", "xcast mode"): _Value(XcastMode(session.xcast_mode).name.lower(), modes),
        ("session", "frame size"): _Value(str(session.max_frame), None),
    }


def _on(value: bool | None) -> str:  # noqa: FBT001 -- it is the value that is worded
    return "on" if value else "off"


def compare(vf: int, before: Snapshot, after: Snapshot) -> tuple[AttributeFate, ...]:
    """Return what became of every attribute of one of the VM's VFs."""
    return tuple(
        AttributeFate(
            vf=vf,
            kind=kind,
            name=name,
            before=was.words,
            after=after[kind, name].words,
            verdict=_verdict(was, after[kind, name]),
        )
        for (kind, name), was in before.items()
    )


def _verdict(was: _Value, now: _Value) -> Verdict:
    if was.words != now.words:
        return Verdict.LOST
    return Verdict.KEPT if was.registers == now.registers else Verdict.ON_RECORD
