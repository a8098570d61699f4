# SPDX-License-Identifier: Apache-2.0
"""Rules about who the VF is: its MAC, and that each VF of the record has a VF of its own."""

from __future__ import annotations

from collections.abc import Iterator

from vferry.core.model import AdminState, Attribute, FunctionState
from vferry.core.record import SavedVf
from vferry.core.rules.case import Case, Issue, Wanted, is_zero
from vferry.core.rules.codes import Code

__all__ = [
    "initial_wanted",
    "mac_ambiguous",
    "mac_declared",
    "mac_in_use",
    "mac_invalid",
    "saved_twice",
    "target_twice",
    "wanted_macs",
]

_ETHERNET_OCTETS = 6


def initial_wanted(saved: SavedVf) -> Wanted:
    """Return what the record asks for, before any loss.

    The declared MAC decides. An undeclared one that is not zero may be the guest's own: it is left out here, so that
    no path through the check can make it an administrative MAC.
    """
    read = saved.admin.mac
    mac = saved.declared.mac or (read if read is not None and is_zero(read) else None)
    admin = {field: getattr(saved.admin, field) for field in AdminState.__struct_fields__}
    return Wanted(admin=AdminState(**{**admin, "mac": mac}), function=_declared_function(saved))


def _declared_function(saved: SavedVf) -> FunctionState | None:
    function, mac = saved.function, saved.declared.mac
    if function is None or function.hw_addr is None or mac is None:
        return function
    fields = {field: getattr(function, field) for field in FunctionState.__struct_fields__}
    return FunctionState(**{**fields, "hw_addr": mac})


def wanted_macs(wanted: Wanted) -> frozenset[str]:
    """Return the MACs by which the VF will own frames."""
    macs = (wanted.admin.mac, wanted.function.hw_addr if wanted.function else None)
    return frozenset(mac for mac in macs if mac is not None and not is_zero(mac))


def mac_ambiguous(case: Case) -> Iterator[Issue]:
    """Refuse a MAC that was read and not declared: the PF may be showing the guest's own choice."""
    read = case.saved.admin.mac
    if case.saved.declared.mac is not None or read is None or is_zero(read):
        return
    reason = "trust is on" if case.saved.admin.trust else "nothing says that an administrator set it"
    name = case.saved.name
    yield case.error(
        Code.MAC_AMBIGUOUS,
        f"the source PF shows MAC {read} for {name}, which may be the guest's own choice: {reason}",
        f"declare the VM's MAC: 'vferry save --mac {name}={read}', if that is the VM's",
        attribute=Attribute.MAC,
        lose=lambda case: case.wanted,
        instead="the rest is restored, and no MAC is programmed",
    )


def mac_declared(case: Case) -> Iterator[Issue]:
    """Say when the declared MAC is not the one that was read."""
    declared, read = case.saved.declared.mac, case.saved.admin.mac
    if declared is not None and read is not None and declared != read:
        why = f"MAC {declared} was declared for {case.saved.name}; the source PF showed {read}; the declared one counts"
        yield case.info(Code.MAC_DECLARED, why, attribute=Attribute.MAC)


def mac_invalid(case: Case) -> Iterator[Issue]:
    """Refuse a declared MAC that no station may have on this PF."""
    declared = case.saved.declared.mac
    fault = declared and _fault(declared, _octets(case))
    if not declared or not fault:
        return
    yield case.error(
        Code.MAC_INVALID,
        f"the declared MAC {declared} {fault}",
        f"declare the VM's MAC: 'vferry save --mac {case.saved.name}=MAC'",
        attribute=Attribute.MAC,
        lose=_without_mac,
        instead="no MAC is programmed",
    )


def _octets(case: Case) -> int:
    own = case.target.reading.address or case.target.pf.address
    return len(own.split(":")) if own else _ETHERNET_OCTETS


def _fault(mac: str, octets: int) -> str:
    if is_zero(mac):
        return "is zero, which lets the guest choose one"
    if len(mac.split(":")) != octets:
        return f"has {len(mac.split(':'))} octets, and addresses of this PF have {octets}"
    # The group bit (IEEE 802, first octet) says nothing in an IP-over-InfiniBand address.
    if octets == _ETHERNET_OCTETS and int(mac[:2], 16) & 1:
        return "is a group address, and a station has a unicast one"
    return ""


def _without_mac(case: Case) -> Wanted:
    function = case.wanted.function
    if function is not None:
        fields = {field: getattr(function, field) for field in FunctionState.__struct_fields__}
        function = FunctionState(**{**fields, "hw_addr": None})
    return Wanted(admin=case.keep(mac=None).admin, function=function)


def mac_in_use(case: Case) -> Iterator[Issue]:
    """Refuse a MAC that the PF itself or another of its VFs will have as well."""
    for mac in sorted(wanted_macs(case.wanted) - case.policy.shared_macs):
        holder = _holder(case, mac)
        if holder is None:
            continue
        yield case.error(
            Code.MAC_IN_USE,
            f"MAC {mac} is also that of {holder}: the NIC would deliver the VM's frames to either",
            "release the other VF ('vferry release PF/VF'), choose another PF, or name the MAC under [shared] macs in "
            "the policy file if it stands twice on purpose",
            attribute=Attribute.MAC,
            lose=_without_mac,
            instead="no MAC is programmed",
        )


def _holder(case: Case, mac: str) -> str | None:
    pf, reading = case.target.pf, case.target.reading
    # The permanent address does not count: a PF that was given another one does not listen to it any more.
    if mac in {reading.address, pf.address}:
        return f"the PF {pf.name} itself"
    for vf in case.neighbours:
        if mac in vf.macs:
            landing = f", where {vf.saved} is to land" if vf.saved else ""
            return f"{pf.name}/{vf.index}{landing}"
    return None


def target_twice(case: Case) -> Iterator[Issue]:
    """Refuse two saved VFs on one target."""
    pf, index = case.target.pf, case.target.vf.index
    names = [vf.saved for vf in case.occupants.get(pf.device, ()) if vf.index == index and vf.saved is not None]
    if len(names) > 1:
        why = f"{' and '.join(names)} are all to land on {pf.name}/{index}"
        yield case.error(Code.TARGET_TWICE, why, "give each saved VF a VF of its own")


def saved_twice(case: Case) -> Iterator[Issue]:
    """Refuse one saved VF on two targets: two VFs would claim to be it."""
    landings = [vf for pf in case.occupants.values() for vf in pf if vf.saved == case.saved.name]
    if len(landings) > 1:
        why = f"{case.saved.name} is to land on {len(landings)} VFs"
        yield case.error(Code.SAVED_TWICE, why, "choose one VF for it")
