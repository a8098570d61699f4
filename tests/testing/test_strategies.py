# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vferry.core.model import AdminState
from vferry.testing import PRESETS, Behaviour, MemoryNic, MemoryPf
from vferry.testing import strategies as vst
from vferry.testing.faults import SETTABLE
from vferry.testing.settings import fields_of, merged, only, split_before, without
from vferry.testing.strategies import admin_states

MODEL = {
    "admin": vst.admin_states(),
    "statistics": vst.vf_statistics(),
    "pci": vst.pci_states(),
    "function": vst.function_states(),
    "host": vst.host_facts(),
    "pf": vst.pf_facts(),
    "vf": vst.vf_facts(),
    "reading": vst.pf_readings(),
    "undo": vst.undo_records(),
    "fault": vst.faults(vfs=[0, 1]),
}


@pytest.mark.parametrize("strategy", MODEL.values(), ids=MODEL)
@settings(deadline=None)
@given(data=st.data())
def test_everything_drawn_is_within_the_model(strategy: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """The decoder checks every bound that the model has, so a round trip proves that the value is within."""
    value = data.draw(strategy)
    assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value


@pytest.mark.parametrize("behaviour", PRESETS, ids=lambda behaviour: behaviour.name)
@settings(deadline=None)
@given(data=st.data())
def test_states_of_a_behaviour_are_accepted(behaviour: Behaviour, data: st.DataObject) -> None:
    nic = MemoryNic(pfs=[MemoryPf(name="eth0", num_vfs=1, behaviour=behaviour)])
    state = data.draw(admin_states(behaviour))
    assert nic.program("eth0", {0: state}) == {0: None}


@settings(deadline=None)
@given(admin_states(), admin_states(), st.sampled_from(sorted(SETTABLE, key=str)))
def test_changes_can_be_split_and_merged(state: AdminState, change: AdminState, attribute: Any) -> None:
    before, rest = split_before(change, attribute)
    assert merged(before, rest) == change
    assert set(fields_of(before)).isdisjoint(fields_of(rest))
    assert only(merged(state, change), fields_of(change)) == change
    assert merged(state, AdminState()) == state
    assert without(without(state, attribute), attribute) == without(state, attribute)
