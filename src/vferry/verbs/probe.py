# SPDX-License-Identifier: Apache-2.0
"""``probe``: learn what a PF's driver can do by trying it on a free VF, and take everything back."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

from vferry.core.capability import CapabilityTable, Feature, Learned, Verdict, capability_key
from vferry.core.compare import change_needed
from vferry.core.errors import RefusedError
from vferry.core.fence import ASSUMED_PARKING_VID, parking_mac
from vferry.core.model import DOT1AD, DOT1Q, ZERO_MAC, AdminState, LinkState, Rate, Vlan
from vferry.core.undo import UndoKind, UndoRecord
from vferry.ports.nic import BusyError, NoSuchFunctionError, NotPermittedError, UnknownOutcomeError
from vferry.verbs.context import Context, VfRef, utc
from vferry.verbs.converge import Converged, converge, read_patiently
from vferry.verbs.pending import PendingChangeError, open_record, sweep
from vferry.verbs.places import Place, survey
from vferry.verbs.undo import undo

__all__ = ["NoFreeVfError", "choose_free_vf", "plan_probe", "probe", "probe_vf", "trials"]

PROBE_VID = ASSUMED_PARKING_VID - 1
"""The VLAN tried on a free VF; any one does, since nobody uses the VF."""

NOT_PERMITTED = frozenset({errno.EPERM, errno.EACCES})

ZERO_GUID = "00:00:00:00:00:00:00:00"
NODE_GUID = "02:00:00:00:76:66:00:01"
PORT_GUID = "02:00:00:00:76:66:00:02"

_UNTOUCHED = (None, ZERO_MAC)
_NOTHING = AdminState()


class NoFreeVfError(RefusedError):
    """Every VF of the PF is in use, so nothing may be tried."""


def probe(context: Context, pf: str, *, vf: int | None = None) -> CapabilityTable:
    """Learn what the driver of ``pf`` can do.

    :param vf: the VF to try on; the last free one if not given.
    :raise NoFreeVfError: the VF, or every VF, is in use.
    :raise PendingChangeError: the VF is in the hands of another verb.
    :raise PersonNeededError: the VF could not be brought back; its undo record is kept.
    """
    device = context.nic.pf(pf).device
    left = [record for record in sweep(context) if record.kind is UndoKind.PROBE and record.key.device == device]
    if left:
        undo(context, left)
    return probe_vf(context, plan_probe(context, pf, vf=vf))


def plan_probe(context: Context, pf: str, *, vf: int | None = None) -> Place:
    """Return the VF that ``probe`` would try on; changes nothing.

    :raise NoFreeVfError: the VF, or every VF, is in use.
    """
    index = choose_free_vf(context, pf) if vf is None else vf
    place = survey(context, [VfRef(pf, index)])[0]
    if place.facts.user is not None:
        raise NoFreeVfError(
            "probe a VF",
            host=place.host.hostname,
            pf=pf,
            vf=index,
            why=f"it is in use: {place.facts.user}",
            next_step="name a free VF with --vf, or create one more",
        )
    return place


def choose_free_vf(context: Context, pf: str) -> int:
    """Return the index of the last VF that nobody uses, one that nobody has set up if there is any.

    :raise NoFreeVfError: there is none.
    """
    reading = {vf.index: vf.admin for vf in read_patiently(context, pf).vfs}
    device = context.nic.pf(pf).device
    taken = {record.key.index for record in context.journal.records() if record.key.device == device}
    free = [vf.index for vf in context.nic.vfs(pf) if vf.user is None and vf.index not in taken]
    untouched = [index for index in free if reading.get(index, AdminState()).mac in _UNTOUCHED]
    for candidates in (untouched, free):
        if candidates:
            return candidates[-1]
    raise NoFreeVfError(
        "probe a VF",
        host=context.nic.host().hostname,
        pf=pf,
        why="the PF has no VF that nobody uses",
        next_step="create one more VF (sriov_numvfs), or stop a VM",
    )


def probe_vf(context: Context, place: Place) -> CapabilityTable:
    """Try every feature on one free VF, undo, and return what was learned.

    :raise RefusedError: no driver is bound to the PF, it offers no VF settings, or the VF is in another verb's hands.
    :raise PersonNeededError: the VF could not be brought back; its undo record is kept.
    """
    key = capability_key(place.host, place.pf)
    if key is None or not place.pf_reading.has_settings:
        raise RefusedError(
            "probe a VF",
            host=place.host.hostname,
            pf=place.pf.name,
            vf=place.facts.index,
            why="the PF's driver offers no VF settings" if key else "no driver is bound to the PF",
        )
    record = _record(context, place)
    try:
        features = dict(_learn(context, place))
    finally:
        undo(context, [record])
    if features and all(learned.errno in NOT_PERMITTED for learned in features.values()):
        raise NotPermittedError(
            "probe a VF",
            host=place.host.hostname,
            pf=place.pf.name,
            vf=place.facts.index,
            why="every setting was refused for want of permission, which says nothing about the driver",
            next_step="run it as root, or with CAP_NET_ADMIN",
        )
    before = place.reading.admin
    return CapabilityTable(
        key=key,
        learned_on=utc(context.clock)[:10],
        source="probe",
        features=features,
        defaults=before if _looks_untouched(before) else None,
    )


def _record(context: Context, place: Place) -> UndoRecord:
    old = open_record(context, place.key)
    if old is not None:
        raise PendingChangeError(old, host=place.host.hostname, wanted=UndoKind.PROBE)
    record = UndoRecord(
        kind=UndoKind.PROBE,
        transaction=f"probe {utc(context.clock)}",
        lead=place.key,
        identity=place.identity,
        before=place.reading.admin,
        wanted=AdminState(),
        started=utc(context.clock),
    )
    context.journal.put(record)
    return record


def _looks_untouched(state: AdminState) -> bool:
    no_rate = state.rate in (None, Rate(min_tx=0, max_tx=0))
    return state.mac in _UNTOUCHED and not state.vlans and no_rate and not state.trust


def _learn(context: Context, place: Place) -> Iterator[tuple[Feature, Learned]]:
    rates_can_be_tried = place.pf.admin_up is not False and place.pf.carrier is not False
    for feature, trial in trials(place).items():
        if feature in (Feature.MAX_TX_RATE, Feature.MIN_TX_RATE) and not rates_can_be_tried:
            continue  # refused without a link: that says nothing about the driver
        shown = _shown(context, place)
        change = change_needed(trial(shown), shown)
        if change == AdminState():
            continue  # nothing would be tried
        result = converge(context, place.pf.name, {place.facts.index: change}, known=place.pf_reading)
        learned = _verdict(result[place.facts.index])
        if learned is not None:
            yield feature, learned
        if feature is not Feature.MAC:  # the next trial takes that MAC away
            _back(context, place)


def _shown(context: Context, place: Place) -> AdminState:
    found = [vf.admin for vf in read_patiently(context, place.pf.name).vfs if vf.index == place.facts.index]
    if not found:
        raise NoSuchFunctionError("probe a VF", pf=place.pf.name, vf=place.facts.index, why="the VF is gone")
    return found[0]


def _back(context: Context, place: Place) -> None:
    converge(context, place.pf.name, {place.facts.index: place.reading.admin}, known=place.pf_reading)


def _verdict(result: Converged) -> Learned | None:
    if result.error is None:
        return Learned(verdict=Verdict.NOT_SHOWN if result.not_shown else Verdict.ACCEPTED)
    if isinstance(result.error, BusyError | UnknownOutcomeError):
        return None
    if result.error.errno is None:
        return Learned(verdict=Verdict.CHANGED, shown=result.error.why)
    return Learned(verdict=Verdict.REFUSED, errno=result.error.errno)


Trial = Callable[[AdminState], AdminState]


def trials(place: Place) -> dict[Feature, Trial]:
    """Return what to set, for each feature, given what the VF shows.

    What the driver does not show cannot be brought back: it is set to nothing but what an untouched VF has, or, where
    that would tell nothing, not at all.
    """
    mac = parking_mac(place.pf.permanent_address or place.pf.device, place.facts.index)
    return {
        Feature.MAC: lambda now: _NOTHING if now.mac is None else AdminState(mac=mac),
        Feature.MAC_ZERO: lambda _: AdminState(mac=ZERO_MAC),
        Feature.VLAN: lambda now: AdminState(vlans=()) if now.vlans is None else _vlan(now),
        Feature.VLAN_QOS: lambda now: _NOTHING if now.vlans is None else _vlan(now, qos=5),
        Feature.VLAN_DOT1AD: lambda now: _NOTHING if now.vlans is None else _vlan(now, proto=DOT1AD),
        Feature.MAX_TX_RATE: lambda now: AdminState(rate=Rate(min_tx=0, max_tx=_other_rate(now))),
        Feature.MIN_TX_RATE: lambda now: (
            _NOTHING if now.rate is None else AdminState(rate=Rate(min_tx=50, max_tx=_other_rate(now)))
        ),
        Feature.SPOOFCHK: lambda now: AdminState(spoofchk=not now.spoofchk),
        Feature.LINK_STATE_ENABLE: lambda now: _link(now, LinkState.ENABLE),
        Feature.LINK_STATE_DISABLE: lambda now: _link(now, LinkState.DISABLE),
        Feature.RSS_QUERY: lambda now: AdminState(rss_query=now.rss_query is False),
        Feature.TRUST: lambda now: AdminState(trust=now.trust is False),
        Feature.NODE_GUID: lambda now: AdminState(node_guid=ZERO_GUID if now.node_guid is None else NODE_GUID),
        Feature.PORT_GUID: lambda now: AdminState(port_guid=ZERO_GUID if now.port_guid is None else PORT_GUID),
    }


def _vlan(now: AdminState, *, qos: int = 0, proto: str = DOT1Q) -> AdminState:
    vid = PROBE_VID if not any(vlan.vid == PROBE_VID for vlan in now.vlans or ()) else PROBE_VID - 1
    return AdminState(vlans=(Vlan(vid=vid, qos=qos, proto=proto),))


def _link(now: AdminState, state: LinkState) -> AdminState:
    return _NOTHING if now.link_state is None else AdminState(link_state=state)


def _other_rate(now: AdminState) -> int:
    """Some NICs have steps of 50 or 100 Mbit/s, and none is slower than this."""
    if now.rate is None:
        return 0
    return 200 if now.rate.max_tx == 100 else 100
