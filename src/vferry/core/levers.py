# SPDX-License-Identifier: Apache-2.0
"""The lever matrix: what each lever covers on each kind of NIC, and what its undo costs.

Data, with its source; nothing here was seen on silicon unless the source says so. A kind of NIC is named by PCI
vendor:device and driver, or by vendor and driver for all devices of a driver; :data:`ANY` holds for NICs that have no
rows of their own, and claims only what the meaning of the kernel's interface says.

To cover a unicast column is two things: the old VF does not receive the frame, **and** a frame that the PF or a
neighbour VF sends leaves by the wire. A lever that only keeps the frame from the VF, so that the NIC swallows it, does
not cover the column. ``docs/levers.md`` has the measurements and the traps.
"""

from __future__ import annotations

from vferry.core.fence import Column, Lever, LeverRow, UndoCost
from vferry.core.model import EswitchMode, PfFacts

__all__ = ["ANY", "LEVERS", "lever_rows"]

_INTERFACE = "meaning of IFLA_VF_* in if_link.h; the data path of this NIC was not observed"
_IGB_SEEN = "QEMU igb (82576), Linux 6.12.95, frames captured in the lab, November 2026; never on silicon"
_IGB_READ = "igb_main.c, Linux 6.12.95: read, not seen"
_IXGBE = "ixgbe_sriov.c, Linux 6.12.95: read, not seen"
_IXGBE_RESET = f"{_IXGBE}; that a function in reset neither sends nor receives is PCI Express's definition of an FLR"
_I40E = "i40e_virtchnl_pf.c, Linux 6.12.95: read, not seen"
_ICE = "ice_sriov.c, ice_vf_lib.c, Linux 6.12.95: read, not seen"
_MLX5 = "mlx5/core/eswitch.c, esw/acl/*_lgcy.c, Linux 6.12.95, legacy mode: read, not seen"

_MADE_ADMINISTRATIVE = "a MAC that the guest had chosen itself becomes an administrative one"
_STRIPPING = (
    "where the guest has VLANs of its own, the NIC leaves their tags on until the guest adds a VLAN or resets; "
    "a Linux guest receives all the same"
)

_ADOPTED = (
    "a guest that resets its VF while it is fenced takes the parking MAC for its own, and is deaf after the undo until "
    "it resets once more"
)
_SWALLOWED = {
    Column.GUEST_UNICAST: "keeps them from the VF, but the filter outlives it, and the NIC swallows what its own "
    "functions send to them until the VFs are made anew"
}

_EVERY_GROUP = (Column.MULTICAST, Column.GUEST_VLAN, Column.TRANSMIT)


def _row(
    lever: Lever,
    *covers: Column,
    source: str,
    undo_cost: UndoCost = UndoCost.NONE,
    needs: frozenset[Lever] = frozenset(),
    loses: str = "",
    partly: dict[Column, str] | None = None,
) -> LeverRow:
    return LeverRow(
        lever=lever,
        covers=frozenset(covers),
        undo_cost=undo_cost,
        needs=needs,
        loses=loses,
        partly=partly or {},
        source=source,
    )


def _parking_mac(*also: Column, source: str, undo_cost: UndoCost = UndoCost.NONE) -> LeverRow:
    """A parking MAC where the driver moves the NIC's filter to it at once, and a trusted guest could move it back."""
    return _row(
        Lever.PARKING_MAC,
        Column.ADMIN_UNICAST,
        *also,
        source=source,
        undo_cost=undo_cost,
        needs=frozenset({Lever.TRUST_OFF}),
        loses=f"{_MADE_ADMINISTRATIVE}; {_ADOPTED}",
    )


def _reset(*also: Column, source: str) -> LeverRow:
    """An FLR. Its cover ends when a VF driver starts; only under a port VLAN does the driver then get nothing back."""
    return _row(
        Lever.RESET,
        *_EVERY_GROUP,
        Column.DMA,
        *also,
        source=source,
        undo_cost=UndoCost.VF_RESET,
        needs=frozenset({Lever.PARKING_VLAN}),
    )


def _spoofchk(source: str) -> LeverRow:
    """Anti-spoof that the NIC enforces: with a parking MAC, the VM's own is a foreign source address."""
    return _row(Lever.SPOOFCHK, Column.TRANSMIT, source=source, needs=frozenset({Lever.PARKING_MAC}))


def _igb(source: str) -> tuple[LeverRow, ...]:
    """No row covers GUEST_UNICAST: the filter of a MAC that the guest asked for outlives every lever."""
    return (
        _parking_mac(source=source),
        _row(
            Lever.PARKING_VLAN,
            Column.MULTICAST,
            Column.TRANSMIT,
            source=source,
            undo_cost=UndoCost.SETTING,
            loses=_STRIPPING,
            partly=_SWALLOWED,
        ),
        _row(Lever.SPOOFCHK, source=source),
        _row(Lever.TRUST_OFF, source=source),
        _reset(source=source),
    )


def _resetting(source: str, *, link_state: LeverRow) -> tuple[LeverRow, ...]:
    """i40e and ice: MAC, VLAN and trust each reset the VF, and its filters are made anew from what the PF holds."""
    vf_reset = UndoCost.VF_RESET
    return (
        _parking_mac(Column.GUEST_UNICAST, source=source, undo_cost=vf_reset),
        _row(Lever.PARKING_VLAN, *_EVERY_GROUP, source=source, undo_cost=vf_reset),
        _spoofchk(source),
        _row(Lever.TRUST_OFF, source=source, undo_cost=vf_reset),
        link_state,
        _reset(Column.GUEST_UNICAST, source=source),
    )


ANY = (
    _parking_mac(source=_INTERFACE),
    _row(Lever.TRUST_OFF, source=_INTERFACE),
)
"""Any NIC: only the one thing that most PF drivers mean by an administrative MAC. mlx5_core is known to differ."""

LEVERS: dict[tuple[str | None, str | None, str], tuple[LeverRow, ...]] = {
    ("8086", "10c9", "igb"): _igb(_IGB_SEEN),
    ("8086", None, "igb"): _igb(_IGB_READ),
    ("8086", None, "ixgbe"): (
        _parking_mac(source=_IXGBE),
        _row(Lever.PARKING_VLAN, Column.MULTICAST, Column.TRANSMIT, source=_IXGBE),
        _spoofchk(_IXGBE),
        _row(Lever.TRUST_OFF, source=_IXGBE, undo_cost=UndoCost.VF_RESET),
        # VFTE and VFRE off. The filters stay, so unicast is still switched to the dead pool.
        _row(Lever.LINK_STATE, *_EVERY_GROUP, source=_IXGBE, undo_cost=UndoCost.VF_RESET),
        _reset(Column.GUEST_UNICAST, source=_IXGBE_RESET),
    ),
    ("8086", None, "i40e"): _resetting(
        _I40E,
        # The PF stops the VF's rings; the way back resets the VF.
        link_state=_row(Lever.LINK_STATE, *_EVERY_GROUP, source=_I40E, undo_cost=UndoCost.VF_RESET),
    ),
    ("8086", None, "ice"): _resetting(
        _ICE,
        # Only a message to the VF's driver.
        link_state=_row(Lever.LINK_STATE, source=_ICE, undo_cost=UndoCost.LINK_FLAP),
    ),
    # The switch's unicast rules follow the list that the VF's driver keeps, whatever the administrative MAC: while
    # that driver is loaded no lever covers ADMIN_UNICAST, and a fence is refused.
    ("15b3", None, "mlx5_core"): (
        _row(Lever.PARKING_MAC, source=_MLX5, loses=_MADE_ADMINISTRATIVE),
        _row(Lever.PARKING_VLAN, *_EVERY_GROUP, source=_MLX5),
        _spoofchk(_MLX5),
        _row(Lever.TRUST_OFF, source=_MLX5),
    ),
}
"""Kinds of NIC whose levers were observed or read in the driver's source; device ``None`` is any device."""


def lever_rows(pf: PfFacts) -> tuple[LeverRow, ...]:
    """Return what each lever does on the kind of NIC that ``pf`` is.

    With an eswitch in switchdev mode there is none: rules that are not vferry's decide where frames go.
    """
    if pf.eswitch_mode not in (None, EswitchMode.LEGACY):
        return ()
    driver = pf.driver or ""
    return LEVERS.get((pf.vendor, pf.device_id, driver)) or LEVERS.get((pf.vendor, None, driver)) or ANY
