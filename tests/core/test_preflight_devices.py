# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.core.preflight_cases import FRESH, MAC, codes, only, pf_facts, run, saved_vf, table, target, vf_facts
from vferry.core.findings import Severity
from vferry.core.model import Attribute, DeclaredState, EswitchMode, FunctionState, Rate

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
ROCE = FunctionState(roce=True)


@pytest.mark.parametrize(
    ("facts", "code", "severity"),
    [
        ({"netdev": None, "driver": "vfio-pci"}, "pf-no-netdev", ERROR),
        ({"netdev": None, "driver": None}, "pf-no-netdev", ERROR),
        ({"lag": "bond0"}, "pf-in-lag", ERROR),
        ({"admin_up": False}, "pf-down", ERROR),
        ({"admin_up": False, "carrier": False}, "pf-down", ERROR),
        ({"carrier": False}, "pf-no-carrier", WARNING),
        ({"rdma": ("mlx5_0",)}, "rdma-present", WARNING),
        ({"eswitch_mode": EswitchMode.SWITCHDEV}, "eswitch-mode", ERROR),
    ],
)
def test_the_pf(facts: dict[str, Any], code: str, severity: Severity) -> None:
    finding = only(run((saved_vf(), target(pf=pf_facts(**facts)))))
    assert (finding.code, finding.severity) == (code, severity)
    assert finding.remedy


def test_legacy_is_what_a_pf_without_an_eswitch_has() -> None:
    assert run((saved_vf(), target(pf=pf_facts(eswitch_mode=EswitchMode.LEGACY)))).findings == ()


def test_the_reading_is_newer_than_the_facts() -> None:
    assert codes(run((saved_vf(), target(admin_up=False)))) == ["pf-down"]
    assert (
        run((saved_vf(), target(pf=pf_facts(admin_up=False, carrier=False), admin_up=True, carrier=True))).findings
        == ()
    )


def test_a_pf_that_is_down_harms_no_vf_that_is_no_pci_function() -> None:
    finding = only(run((saved_vf(), target(pf=pf_facts(admin_up=False), vf=vf_facts(0, address=None)))))
    assert (finding.code, finding.severity) == ("pf-down", WARNING)


def test_no_carrier_may_refuse_a_rate() -> None:
    saved = saved_vf(admin=msgspec.structs.replace(FRESH, mac=MAC, rate=Rate(min_tx=0, max_tx=100)))
    assert "refuse a rate" in only(run((saved, target(pf=pf_facts(carrier=False))))).why


@pytest.mark.parametrize("field", ["node_guid", "port_guid"])
def test_rdma_in_use(field: str) -> None:
    admin = msgspec.structs.replace(FRESH, mac=MAC, **{field: "00:11:22:33:44:55:66:77"})
    assert "rdma-in-use" in codes(run((saved_vf(admin=admin), target()), accept=Attribute), ERROR)
    zero = msgspec.structs.replace(admin, **{field: "00:00:00:00:00:00:00:00"})
    assert codes(run((saved_vf(admin=zero), target())), ERROR) == []


def test_switchdev_on_both_sides() -> None:
    switchdev = pf_facts(eswitch_mode=EswitchMode.SWITCHDEV)
    saved = saved_vf(pf=switchdev, function=FunctionState(tx_max=1))
    found = run((saved, target(pf=switchdev)))
    assert codes(found) == ["switchdev-wiring"]
    assert found.wanted_function == (FunctionState(tx_max=1),)
    roce = run((msgspec.structs.replace(saved, function=ROCE), target(pf=switchdev)))
    assert codes(roce, WARNING) == ["rdma-present", "switchdev-wiring"]
    assert not roce.refused


def test_port_function_attributes_have_no_place_in_legacy_mode() -> None:
    pair = (saved_vf(function=FunctionState(tx_max=1, migratable=True)), target())
    finding = only(run(pair))
    assert (finding.code, finding.attribute) == ("function-missing", Attribute.FUNCTION)
    assert "migratable, tx_max" in finding.why
    found = run(pair, accept=[Attribute.FUNCTION])
    assert not found.refused
    assert found.wanted_function == (None,)
    assert run((saved_vf(function=FunctionState()), target())).findings == ()


def test_a_target_in_use() -> None:
    finding = only(run((saved_vf(), target(vf=vf_facts(0, user="qemu (4711)")))))
    assert (finding.code, finding.severity) == ("vf-in-use", WARNING)
    assert "qemu (4711)" in finding.why


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"vectors": 2}, [("vectors-fewer", ERROR)]),
        ({"vectors": 2, "device_id": None}, [("vectors-fewer", ERROR)]),
        ({"vectors": 2, "device_id": "154c"}, [("vf-device-differs", WARNING), ("vectors-fewer", WARNING)]),
        ({"vectors": 9, "device_id": "154c"}, [("vf-device-differs", WARNING)]),
        ({"vectors": None}, []),
        ({"vectors": 9}, []),
    ],
)
def test_vectors(changes: dict[str, Any], expected: list[tuple[str, Severity]]) -> None:
    found = run((saved_vf(), target(vf=vf_facts(0, **changes))))
    assert [(finding.code, finding.severity) for finding in found.findings] == expected


def test_a_record_that_is_not_final() -> None:
    finding = only(run((saved_vf(), target()), final=False))
    assert (finding.code, finding.severity) == ("record-not-final", INFO)


@pytest.mark.parametrize(
    ("source", "declared", "destination", "jumbo_rule", "expected"),
    [
        (1500, None, 1500, False, []),
        (1500, None, 9000, False, []),
        (9000, None, 1500, False, [("mtu-smaller", ERROR)]),
        (9000, 1500, 1500, False, []),
        (9000, 2000, 1500, False, [("mtu-smaller", ERROR)]),
        (1500, 2000, 1500, False, [("mtu-smaller", ERROR)]),
        (None, None, 1500, False, [("mtu-unknown", WARNING)]),
        (None, 1500, 1500, False, []),
        (1500, None, None, False, [("mtu-unknown", WARNING)]),
        (1500, 1500, None, False, [("mtu-unknown", WARNING)]),
        (9000, None, 1500, True, [("mtu-jumbo-rule", ERROR)]),
        (9000, 1500, 1500, True, []),
        (9000, 1501, 1500, True, [("mtu-jumbo-rule", ERROR)]),
        (9000, None, 8000, True, [("mtu-smaller", ERROR)]),
        (9000, None, 9000, True, []),
        (1500, None, 1500, True, []),
        (1500, None, 9000, True, [("mtu-jumbo-session", ERROR)]),
        (1500, 1500, 9000, True, [("mtu-jumbo-session", WARNING)]),
    ],
)
def test_mtu(
    source: int | None,
    declared: int | None,
    destination: int | None,
    jumbo_rule: bool,
    expected: list[tuple[str, Severity]],
) -> None:
    saved = saved_vf(pf=pf_facts(name="src", mtu=source), declared=DeclaredState(mac=MAC, mtu=declared))
    capabilities = msgspec.structs.replace(table(), jumbo_rule=jumbo_rule)
    found = run((saved, target(pf=pf_facts(mtu=destination), capabilities=capabilities)), accept=Attribute)
    assert [(finding.code, finding.severity) for finding in found.findings] == expected


def test_the_way_out_of_a_smaller_mtu() -> None:
    finding = only(run((saved_vf(pf=pf_facts(name="src", mtu=9000)), target())))
    assert "ip link set dev eth0 mtu 9000" in finding.remedy
    assert "vferry save --mtu src/0=N" in finding.remedy
