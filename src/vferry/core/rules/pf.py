# SPDX-License-Identifier: Apache-2.0
"""Rules about the destination's PF and VF as devices: nothing here is a setting that could be left out."""

from __future__ import annotations

from collections.abc import Iterator

from vferry.core.model import Attribute, EswitchMode, FunctionState
from vferry.core.rules.case import Case, Issue, Wanted, is_zero
from vferry.core.rules.codes import Code

__all__ = [
    "eswitch_mode",
    "function_missing",
    "pf_down",
    "pf_in_lag",
    "pf_no_carrier",
    "pf_no_netdev",
    "rdma",
    "switchdev_wiring",
    "vectors_fewer",
    "vf_device_differs",
    "vf_in_use",
]

_RATES = frozenset({Attribute.MIN_TX_RATE, Attribute.MAX_TX_RATE})


def pf_no_netdev(case: Case) -> Iterator[Issue]:
    """Refuse a PF without a network interface: the kernel has no place to set anything."""
    pf = case.target.pf
    if pf.netdev is None:
        state = f"it is bound to {pf.driver}" if pf.driver else "no driver is bound to it"
        yield case.error(
            Code.PF_NO_NETDEV,
            f"the PF {pf.device} has no network interface ({state}), so its VFs' settings cannot be reached",
            "bind the PF to its kernel network driver; a PF driven by DPDK is not supported",
        )


def pf_in_lag(case: Case) -> Iterator[Issue]:
    """Refuse a PF that is a member of a bond or team."""
    pf = case.target.pf
    if pf.lag is not None:
        why = f"the PF {pf.name} is a member of {pf.lag}: its VFs may use the other member's port too"
        yield case.error(Code.PF_IN_LAG, why, f"choose a PF that is in no bond, or take {pf.name} out of {pf.lag}")


def pf_down(case: Case) -> Iterator[Issue]:
    """Refuse a PF that is down, where a VF hangs on it that could carry traffic."""
    pf = case.target.pf
    if _admin_up(case) is not False:
        return
    remedy = f"'ip link set dev {pf.name} up'"
    if case.target.vf.address is not None:
        why = f"the PF {pf.name} is down: the VF has no link, and some drivers refuse settings (rates) until it is up"
        yield case.error(Code.PF_DOWN, why, remedy)
    else:
        why = f"the PF {pf.name} is down; the VF is no PCI function, so nothing hangs on it that could carry traffic"
        yield case.warning(Code.PF_DOWN, why, remedy)


def pf_no_carrier(case: Case) -> Iterator[Issue]:
    """Warn of a PF that is up and has no carrier."""
    reading, pf = case.target.reading, case.target.pf
    carrier = pf.carrier if reading.carrier is None else reading.carrier
    if carrier is not False or _admin_up(case) is False:
        return
    why = f"the PF {pf.name} has no carrier: the VM will reach nobody outside this host"
    if case.differing & _RATES:
        why += ", and some drivers refuse a rate until there is one"
    yield case.warning(Code.PF_NO_CARRIER, why, f"check the cable and the switch port of {pf.name}")


def _admin_up(case: Case) -> bool | None:
    reading = case.target.reading
    return case.target.pf.admin_up if reading.admin_up is None else reading.admin_up


def rdma(case: Case) -> Iterator[Issue]:
    """Refuse a VF that is set up for RDMA; warn where the PF has RDMA devices."""
    devices = ", ".join(case.target.pf.rdma)
    signs = _rdma_signs(case)
    if signs:
        yield case.error(
            Code.RDMA_IN_USE,
            f"{case.saved.name} is set up for RDMA ({', '.join(signs)}): queue pairs and keys cannot be carried",
            f"end RDMA in the VM, take the GUIDs from {case.saved.name}, and save again",
        )
    elif devices or (case.saved.function is not None and case.saved.function.roce):
        # RoCE is on by default for the port functions of some NICs, so it says nothing about its use.
        has = f"has RDMA devices ({devices})" if devices else "is to offer RoCE"
        yield case.warning(
            Code.RDMA_PRESENT,
            f"the PF {case.target.pf.name} {has}; vferry carries no RDMA state",
            "make sure that the VM does not use RDMA on this VF",
        )


def _rdma_signs(case: Case) -> list[str]:
    admin = case.saved.admin
    guids = {"node GUID": admin.node_guid, "port GUID": admin.port_guid}
    return [f"{name} {guid}" for name, guid in guids.items() if guid is not None and not is_zero(guid)]


def eswitch_mode(case: Case) -> Iterator[Issue]:
    """Refuse another eswitch mode: what is set in one has no place in the other."""
    source = case.saved.pf.eswitch_mode or EswitchMode.LEGACY
    if source is not case.target_mode:
        pf = case.target.pf
        yield case.error(
            Code.ESWITCH_MODE,
            f"the source PF's eswitch is in {source.value} mode, the one of {pf.name} in {case.target_mode.value} mode",
            f"choose another PF, or 'devlink dev eswitch set {pf.bus}/{pf.device} mode {source.value}'",
        )


def switchdev_wiring(case: Case) -> Iterator[Issue]:
    """Warn that in switchdev mode the network is wired by others."""
    source = case.saved.pf.eswitch_mode or EswitchMode.LEGACY
    if source is case.target_mode and source is not EswitchMode.LEGACY:
        yield case.warning(
            Code.SWITCHDEV_WIRING,
            f"{case.target.pf.name} is in {source.value} mode: vferry carries port-function attributes, not the wiring",
            "add the VF's representor to the bridge or OVS that the VM needs",
        )


def function_missing(case: Case) -> Iterator[Issue]:
    """Refuse port-function attributes where VFs have none."""
    function = case.wanted.function
    if function is None or function == FunctionState() or case.target_mode is not EswitchMode.LEGACY:
        return
    names = ", ".join(name for name in FunctionState.__struct_fields__ if getattr(function, name) is not None)
    yield case.error(
        Code.FUNCTION_MISSING,
        f"the record holds port-function attributes ({names}); VFs of {case.target.pf.name} have no port function",
        "choose a PF in switchdev mode",
        attribute=Attribute.FUNCTION,
        lose=without_function,
        instead="no port-function attribute is programmed",
    )


def without_function(case: Case) -> Wanted:
    """Return what is wanted without the port function."""
    return Wanted(admin=case.wanted.admin, function=None)


def vf_in_use(case: Case) -> Iterator[Issue]:
    """Warn of a target that somebody uses."""
    user, pf, vf = case.target.vf.user, case.target.pf, case.target.vf
    if user is not None:
        why = f"{pf.name}/{vf.index} is in use: {user}"
        yield case.warning(Code.VF_IN_USE, why, "make sure that this is the VM that the record is for")


def vf_device_differs(case: Case) -> Iterator[Issue]:
    """Warn of another kind of VF: the guest needs a driver for it."""
    source, target = _kinds(case)
    if source and target and source != target:
        why = f"the VM had a VF {source}, and {case.target.pf.name}/{case.target.vf.index} is {target}"
        yield case.warning(
            Code.VF_DEVICE_DIFFERS, why, "the guest needs a driver for it, and device state cannot be carried"
        )


def vectors_fewer(case: Case) -> Iterator[Issue]:
    """Refuse fewer interrupt vectors: a running driver keeps using those it has configured.

    With another kind of VF the guest loads another driver, which asks for what is there: then it is a warning.
    """
    before, now = case.saved.facts.vectors, case.target.vf.vectors
    if before is None or now is None or now >= before:
        return
    source, target = _kinds(case)
    why = f"the VM had a VF with {before} interrupt vectors, and {case.target.pf.name}/{case.target.vf.index} has {now}"
    remedy = f"choose a PF whose VFs have {before} vectors or more, or write {before} to the VF's sriov_vf_msix_count"
    if source and target and source != target:
        yield case.warning(Code.VECTORS_FEWER, why, remedy)
    else:
        yield case.error(Code.VECTORS_FEWER, why, remedy)


def _kinds(case: Case) -> tuple[str | None, str | None]:
    def kind(vendor: str | None, device_id: str | None) -> str | None:
        return f"{vendor}:{device_id}" if vendor and device_id else None

    source, target = case.saved.facts, case.target.vf
    return kind(source.vendor, source.device_id), kind(target.vendor, target.device_id)
