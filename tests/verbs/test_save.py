# SPDX-License-Identifier: Apache-2.0
"""``save`` is a pure read."""

from __future__ import annotations

import pytest

from tests.verbs.world import FENCE, GUEST, MACS, context_of, new_host, pf_of, source
from vferry.core.errors import RefusedError, UsageError
from vferry.core.model import DeclaredState, EswitchMode, FunctionState, VfStatistics
from vferry.core.record import decode_json, decode_msgpack, encode_json, encode_msgpack
from vferry.ports.nic import IncompleteReadingError, NoSuchFunctionError
from vferry.testing import (
    IGB_LIKE,
    NETDEVSIM_LIKE,
    PRESETS,
    RESETTING,
    VIRTIO_LIKE,
    Behaviour,
    MemoryJournal,
    MemoryNic,
    MemoryPf,
    ShortReadingFault,
)
from vferry.verbs.context import VfRef
from vferry.verbs.fence import fence
from vferry.verbs.pending import PendingChangeError
from vferry.verbs.save import NothingToSaveError, save

VF = VfRef("eth0", 3)
READS = {"host", "pfs", "pf", "vfs", "read", "read_pci", "read_function"}


@pytest.mark.parametrize("behaviour", [kind for kind in PRESETS if kind.has_settings], ids=lambda kind: kind.name)
def test_the_state_is_byte_identical_before_and_after(behaviour: Behaviour) -> None:
    nic = source(behaviour)
    before = nic.snapshot()
    nic.calls.clear()
    journal = MemoryJournal()
    record = save(context_of(nic, journal), [VF, VfRef("eth1", 1)], vm="web", statistics=True)
    assert nic.snapshot() == before
    assert journal.snapshot() == b""
    assert {call.method for call in nic.calls} <= READS
    assert [vf.name for vf in record.vfs] == ["eth0/3", "eth1/1"]
    assert decode_json(encode_json(record)) == record
    assert decode_msgpack(encode_msgpack(record)) == record


def test_all_vfs_of_one_pf_are_of_one_reading() -> None:
    nic = source()
    nic.calls.clear()
    save(context_of(nic, MemoryJournal()), [VfRef("eth0", index) for index in range(5)])
    assert [call.method for call in nic.calls].count("read") == 1


def test_every_attribute_that_the_driver_reports_is_in_the_record() -> None:
    record = save(context_of(source(), MemoryJournal()), [VF], vm="web")
    saved = record.vfs[0]
    assert saved.admin == GUEST
    assert saved.admin.rss_query is None, "not reported is absent"
    assert saved.pci is not None
    assert saved.facts.address is not None
    assert record.vm == "web"
    assert not record.final
    assert record.saved_at == "2023-11-14T22:13:20.000Z"


def test_a_guests_own_mac_is_a_reading_and_never_a_declaration() -> None:
    nic = new_host()
    assert nic.guest_sets_mac("eth0", 2, MACS[8])
    record = save(context_of(nic, MemoryJournal()), [VfRef("eth0", 2)])
    assert record.vfs[0].admin.mac == MACS[8]
    assert record.vfs[0].declared == DeclaredState()


def test_declarations_are_kept() -> None:
    declared = {VF: DeclaredState(mac=MACS[1], mtu=9000)}
    record = save(context_of(source(), MemoryJournal()), [VF], declared=declared)
    assert record.vfs[0].declared == declared[VF]


def test_counters_are_kept_when_asked_for() -> None:
    nic = source(RESETTING)
    counters = VfStatistics(**dict.fromkeys(VfStatistics.__struct_fields__, 7))
    nic.set_statistics("eth0", 3, counters)
    assert save(context_of(nic, MemoryJournal()), [VF], statistics=True).vfs[0].statistics == counters
    assert save(context_of(nic, MemoryJournal()), [VF]).vfs[0].statistics is None


def test_port_functions_are_saved_in_switchdev_mode_only() -> None:
    nic = source(NETDEVSIM_LIKE)
    assert save(context_of(nic, MemoryJournal()), [VF]).vfs[0].function is None
    nic.set_eswitch_mode("eth0", EswitchMode.SWITCHDEV)
    nic.program_function("eth0", 3, FunctionState(tx_max=100))
    function = save(context_of(nic, MemoryJournal()), [VF]).vfs[0].function
    assert function is not None
    assert function.tx_max == 100


def test_a_vf_named_twice_and_a_declaration_of_another_vf_are_usage_errors() -> None:
    context = context_of(source(), MemoryJournal())
    with pytest.raises(UsageError, match="twice"):
        save(context, [VF, VF])
    with pytest.raises(UsageError, match="not among those"):
        save(context, [VF], declared={VfRef("eth0", 1): DeclaredState(mtu=1500)})


def test_a_driver_without_settings_has_nothing_to_save() -> None:
    nic = MemoryNic(host="a", pfs=[pf_of("eth0", VIRTIO_LIKE)])
    with pytest.raises(NothingToSaveError, match="nothing to carry"):
        save(context_of(nic, MemoryJournal()), [VF])


def test_a_vf_that_is_not_there() -> None:
    for ref in (VfRef("eth0", 5), VfRef("eth9", 0)):
        with pytest.raises(NoSuchFunctionError):
            save(context_of(source(), MemoryJournal()), [ref])


def test_a_short_reading_is_tried_again_and_then_refused() -> None:
    record = save(context_of(source(), MemoryJournal(), faults=[ShortReadingFault(times=3)]), [VF])
    assert record.vfs[0].admin == GUEST
    with pytest.raises(IncompleteReadingError):
        save(context_of(source(), MemoryJournal(), faults=[ShortReadingFault(times=None)]), [VF])


def test_more_vfs_than_the_kernel_can_list_are_refused() -> None:
    nic = MemoryNic(host="a", pfs=[MemoryPf(name="eth0", num_vfs=335, behaviour=IGB_LIKE)])
    with pytest.raises(IncompleteReadingError, match="334"):
        save(context_of(nic, MemoryJournal()), [VF])


def test_what_cannot_be_written_as_a_record_is_refused_as_one() -> None:
    record = save(context_of(source(), MemoryJournal()), [VF], vm="x" * 257)
    with pytest.raises(RefusedError) as raised:
        encode_json(record)
    assert getattr(raised.value, "field", None) == "vm"


def test_what_a_fence_has_set_is_not_the_vm_s() -> None:
    nic, journal = source(), MemoryJournal()
    fence(context_of(nic, journal), [VF], FENCE)
    with pytest.raises(PendingChangeError, match="unfence"):
        save(context_of(nic, journal), [VF])
    with pytest.raises(NothingToSaveError, match="parking MAC"):
        save(context_of(nic, MemoryJournal()), [VF])
