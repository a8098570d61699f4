# SPDX-License-Identifier: Apache-2.0
"""What the kernel, its drivers, guests and operators do, as seen in the lab and in the kernel's source."""

from __future__ import annotations

import errno
import itertools

import msgspec
import pytest

from vferry.core.model import (
    DOT1AD,
    DOT1Q,
    ZERO_MAC,
    AdminState,
    Attribute,
    EswitchMode,
    FunctionState,
    LinkState,
    PciState,
    Rate,
    Vlan,
)
from vferry.core.undo import identity_changes, vf_identity
from vferry.ports.nic import (
    BusyError,
    IncompleteReadingError,
    NicError,
    NoSuchFunctionError,
    NotPermittedError,
    NotSupportedError,
    RejectedError,
)
from vferry.testing import (
    IGB_LIKE,
    LOSSY,
    NETDEVSIM_LIKE,
    PRESETS,
    RESETTING,
    VIRTIO_LIKE,
    Behaviour,
    MemoryNic,
    MemoryPf,
)
from vferry.testing.memory_nic import MAX_VFS, MAX_VFS_WITH_STATISTICS
from vferry.testing.memory_state import NO_STATISTICS
from vferry.testing.settings import SETTERS, fields_of, only

MAC = "52:54:00:00:00:01"
GUEST_MAC = "52:54:00:99:99:99"
EVERYTHING = AdminState(
    mac=MAC,
    vlans=(Vlan(vid=100, qos=3, proto=DOT1Q),),
    rate=Rate(min_tx=10, max_tx=100),
    spoofchk=True,
    link_state=LinkState.ENABLE,
    rss_query=True,
    trust=True,
)


def make(behaviour: Behaviour = IGB_LIKE, *, num_vfs: int = 7, bus: str = "pci") -> MemoryNic:
    return MemoryNic(host="a", pfs=[MemoryPf(name="eth0", num_vfs=num_vfs, behaviour=behaviour, bus=bus)])


def admin(nic: MemoryNic, vf: int) -> AdminState:
    return nic.read("eth0").vfs[vf].admin


def program(nic: MemoryNic, vf: int, change: AdminState) -> NicError | None:
    return nic.program("eth0", {vf: change})[vf]


# What drivers answer


@pytest.mark.parametrize(
    ("change", "kind", "number"),
    [
        (AdminState(rate=Rate(min_tx=1, max_tx=2)), RejectedError, errno.EINVAL),
        (AdminState(rate=Rate(min_tx=0, max_tx=1001)), RejectedError, errno.EINVAL),
        (AdminState(link_state=LinkState.AUTO), NotSupportedError, errno.EOPNOTSUPP),
        (AdminState(link_state=LinkState.DISABLE), NotSupportedError, errno.EOPNOTSUPP),
        (AdminState(vlans=(Vlan(vid=5, proto=DOT1AD),)), RejectedError, errno.EPROTONOSUPPORT),
        (AdminState(rss_query=False), NotSupportedError, errno.EOPNOTSUPP),
        (AdminState(node_guid="00:00:00:00:00:00:00:01"), NotSupportedError, errno.EOPNOTSUPP),
        (AdminState(mac="01:00:5e:00:00:01"), RejectedError, errno.EINVAL),
    ],
)
def test_igb_refusals(change: AdminState, kind: type[NicError], number: int) -> None:
    nic = make()
    before = nic.snapshot()
    error = program(nic, 2, change)
    assert isinstance(error, NicError)
    assert type(error) is kind
    assert error.errno == number
    assert (error.pf, error.vf) == ("eth0", 2)
    assert nic.snapshot() == before


def test_igb_reads_a_link_state_that_it_cannot_set_and_no_rss_query() -> None:
    shown = admin(make(), 0)
    assert shown.link_state is LinkState.AUTO
    assert shown.rss_query is None
    assert (shown.spoofchk, shown.trust) == (True, False)


@pytest.mark.parametrize("cause", ["down", "cable"])
def test_igb_rates_need_a_link(cause: str) -> None:
    nic = make()
    if cause == "down":
        nic.set_pf("eth0", admin_up=False)
    else:
        nic.set_link("eth0", up=False)
    assert nic.read("eth0").carrier is False
    assert nic.pf("eth0").speed is None
    assert isinstance(program(nic, 0, AdminState(rate=Rate(min_tx=0, max_tx=10))), RejectedError)
    assert program(nic, 0, AdminState(mac=MAC, vlans=(Vlan(vid=5),), trust=True)) is None
    nic.set_pf("eth0", admin_up=True)
    nic.set_link("eth0", up=True)
    assert program(nic, 0, AdminState(rate=Rate(min_tx=0, max_tx=10))) is None


def test_netdevsim_takes_everything() -> None:
    nic = make(NETDEVSIM_LIKE)
    assert program(nic, 0, EVERYTHING) is None
    assert admin(nic, 0) == EVERYTHING
    assert program(nic, 0, AdminState(vlans=(Vlan(vid=7, qos=2, proto=DOT1AD),))) is None
    assert admin(nic, 0).vlans == (Vlan(vid=7, qos=2, proto=DOT1AD),)


def test_a_guarantee_above_the_limit_is_refused_for_every_driver() -> None:
    nic = make(NETDEVSIM_LIKE)
    assert isinstance(program(nic, 0, AdminState(rate=Rate(min_tx=20, max_tx=10))), RejectedError)
    assert program(nic, 0, AdminState(rate=Rate(min_tx=20, max_tx=0))) is None


def test_virtio_has_no_settings() -> None:
    nic = make(VIRTIO_LIKE)
    reading = nic.read("eth0")
    assert (reading.num_vfs, reading.vfs, reading.has_settings) == (7, (), False)
    for field in SETTERS:
        change = only(msgspec.structs.replace(EVERYTHING, node_guid="0", port_guid="0"), [field])
        assert isinstance(program(nic, 0, change), NotSupportedError)


def test_bnxt_shows_dot1ad_as_dot1q() -> None:
    nic = make(LOSSY)
    assert program(nic, 0, AdminState(vlans=(Vlan(vid=7, proto=DOT1AD),))) is None
    assert admin(nic, 0).vlans == (Vlan(vid=7, proto=DOT1Q),)


def test_a_protocol_may_not_be_shown_at_all() -> None:
    nic = make(msgspec.structs.replace(LOSSY, shown_protocols={DOT1Q: None}))
    assert program(nic, 0, AdminState(vlans=(Vlan(vid=7),))) is None
    assert admin(nic, 0).vlans == (Vlan(vid=7),)


def test_vlan_zero_is_no_vlan_and_a_priority_tag_is_one() -> None:
    nic = make()
    assert program(nic, 0, AdminState(vlans=(Vlan(vid=0),))) is None
    assert admin(nic, 0).vlans == ()
    assert program(nic, 0, AdminState(vlans=(Vlan(vid=0, qos=3),))) is None
    assert admin(nic, 0).vlans == (Vlan(vid=0, qos=3, proto=DOT1Q),)


# The kernel's order


@pytest.mark.parametrize("failing", SETTERS[:7])
def test_attributes_stop_at_the_first_error(failing: str) -> None:
    values = {
        "mac": "01:00:00:00:00:00",
        "vlans": (Vlan(vid=1, proto=DOT1AD),),
        "rate": Rate(min_tx=9, max_tx=5),
    }
    bad = msgspec.structs.replace(EVERYTHING, **{failing: values.get(failing, getattr(EVERYTHING, failing))})
    number = {"vlans": errno.EPROTONOSUPPORT}.get(failing, errno.EOPNOTSUPP)
    behaviour = NETDEVSIM_LIKE
    if failing not in ("mac", "rate"):
        features = [feature for feature in behaviour.learned() if feature.attribute.value.startswith(failing[:4])]
        behaviour = msgspec.structs.replace(behaviour, refused=behaviour.refused | dict.fromkeys(features, number))
    nic = make(behaviour)
    before = admin(nic, 0)
    assert program(nic, 0, bad) is not None
    place = SETTERS.index(failing)
    assert only(admin(nic, 0), SETTERS[:place]) == only(EVERYTHING, SETTERS[:place])
    assert only(admin(nic, 0), SETTERS[place:]) == only(before, SETTERS[place:])


def test_more_than_one_vlan_cannot_be_expressed() -> None:
    nic = make()
    with pytest.raises(NotSupportedError):
        nic.arm("eth0", {0: AdminState(vlans=(Vlan(vid=1), Vlan(vid=2)))})


def test_arming_is_bound_to_the_ifindex() -> None:
    nic = make()
    armed = nic.arm("eth0", {0: AdminState(mac=MAC), 1: AdminState(mac=MAC)})
    nic.rename("eth0", "uplink")
    assert armed.send() == {0: None, 1: None}
    nic.reload_driver("uplink")
    outcomes = armed.send()
    assert all(isinstance(error, NoSuchFunctionError) for error in outcomes.values())
    assert nic.read("uplink").vfs[0].admin.mac == ZERO_MAC


def test_a_later_change_of_the_mapping_does_not_reach_an_armed_request() -> None:
    nic = make()
    changes = {0: AdminState(mac=MAC)}
    armed = nic.arm("eth0", changes)
    changes[1] = AdminState(trust=True)
    assert armed.send() == {0: None}


@pytest.mark.parametrize(("statistics", "limit"), [(False, MAX_VFS), (True, MAX_VFS_WITH_STATISTICS)])
def test_lists_that_would_wrap_are_refused(limit: int, statistics: bool) -> None:
    assert len(make(num_vfs=limit).read("eth0", statistics=statistics).vfs) == limit
    with pytest.raises(IncompleteReadingError):
        make(num_vfs=limit + 1).read("eth0", statistics=statistics)


def test_counters_are_zeros_where_the_driver_has_none() -> None:
    counted = msgspec.structs.replace(NO_STATISTICS, rx_packets=5)
    for behaviour, shown in ((IGB_LIKE, NO_STATISTICS), (RESETTING, counted)):
        nic = make(behaviour)
        nic.set_statistics("eth0", 0, counted)
        assert nic.read("eth0", statistics=True).vfs[0].statistics == shown


# Resets


def test_some_setters_reset_the_vf_and_it_is_busy_for_a_while() -> None:
    nic = make(RESETTING)
    change = AdminState(mac=MAC, spoofchk=False)
    assert program(nic, 0, change) is None
    assert admin(nic, 0).spoofchk is False
    assert nic.resets("eth0", 0) == 1
    for _ in range(RESETTING.busy_requests):
        error = program(nic, 0, change)
        assert isinstance(error, BusyError)
        assert error.errno == errno.EBUSY
    assert program(nic, 0, change) is None
    assert nic.resets("eth0", 0) == 1, "the same MAC again resets nothing"
    assert program(nic, 0, AdminState(spoofchk=True)) is None
    assert program(nic, 1, AdminState(rate=Rate(min_tx=0, max_tx=5))) is None
    assert (nic.resets("eth0", 0), nic.resets("eth0", 1)) == (1, 0)


def test_a_vf_in_reset_may_be_missing_from_the_reading() -> None:
    nic = make(msgspec.structs.replace(RESETTING, busy_shortens_reading=True))
    assert program(nic, 3, AdminState(trust=True)) is None
    for _ in range(RESETTING.busy_requests):
        with pytest.raises(IncompleteReadingError, match=r"\[3\]"):
            nic.read("eth0")
    assert admin(nic, 3).trust is True


def test_an_flr_drops_what_the_guest_asked_for() -> None:
    nic = make()
    assert nic.guest_sets_mac("eth0", 0, GUEST_MAC)
    nic.reset_vf("eth0", 0)
    assert admin(nic, 0).mac == ZERO_MAC
    assert nic.resets("eth0", 0) == 1


def test_an_flr_may_lose_settings() -> None:
    nic = make(msgspec.structs.replace(NETDEVSIM_LIKE, lost_at_flr=frozenset({Attribute.MAX_TX_RATE})))
    assert program(nic, 0, EVERYTHING) is None
    nic.reset_vf("eth0", 0)
    assert admin(nic, 0) == msgspec.structs.replace(EVERYTHING, rate=Rate(min_tx=0, max_tx=0))


def test_a_vf_that_is_no_pci_function_cannot_be_reset() -> None:
    nic = make(NETDEVSIM_LIKE, bus="netdevsim")
    assert nic.read_pci("eth0", 0) is None
    assert nic.vfs("eth0")[0].address is None
    with pytest.raises(NotSupportedError):
        nic.reset_vf("eth0", 0)
    with pytest.raises(NotSupportedError):
        nic.write_pci("eth0", 0, PciState(command=4))


# Guests


def test_the_reading_shows_the_guests_mac_and_cannot_tell() -> None:
    nic = make()
    assert nic.guest_sets_mac("eth0", 0, GUEST_MAC)
    assert (admin(nic, 0).mac, nic.admin_mac("eth0", 0)) == (GUEST_MAC, ZERO_MAC)
    assert program(nic, 0, AdminState(mac=MAC)) is None
    assert not nic.guest_sets_mac("eth0", 0, GUEST_MAC)
    assert (admin(nic, 0).mac, nic.admin_mac("eth0", 0)) == (MAC, MAC)


@pytest.mark.parametrize(("behaviour", "after"), [(IGB_LIKE, GUEST_MAC), (NETDEVSIM_LIKE, MAC)])
def test_a_trusted_guest_overrides_the_admin_mac(behaviour: Behaviour, after: str) -> None:
    nic = make(behaviour)
    assert program(nic, 0, AdminState(mac=MAC, trust=True)) is None
    assert nic.guest_sets_mac("eth0", 0, GUEST_MAC)
    assert admin(nic, 0).mac == GUEST_MAC
    nic.reset_vf("eth0", 0)
    assert admin(nic, 0).mac == after


# PCI, drivers and lives


def test_vf_addresses_follow_offset_and_stride() -> None:
    addresses = [vf.address for vf in make().vfs("eth0")]
    assert addresses[:5] == ["0000:01:10.0", "0000:01:10.2", "0000:01:10.4", "0000:01:10.6", "0000:01:11.0"]


def test_pci_words_are_the_drivers_while_there_is_one() -> None:
    nic = make()
    nic.bind_driver("eth0", 0, "vfio-pci", user="qemu 42")
    assert nic.read_pci("eth0", 0) == PciState(command=0x0406, msix_control=0x8002)
    assert (nic.vfs("eth0")[0].driver, nic.vfs("eth0")[0].user) == ("vfio-pci", "qemu 42")
    with pytest.raises(NotPermittedError):
        nic.write_pci("eth0", 0, PciState(command=0))
    nic.unbind_driver("eth0", 0)
    assert nic.read_pci("eth0", 0) == PciState(command=0x0402, msix_control=0x0002)
    nic.write_pci("eth0", 0, PciState(command=0xFFFF, msix_control=0xFFFF))
    assert nic.read_pci("eth0", 0) == PciState(command=0x0547, msix_control=0xC002)
    nic.write_pci("eth0", 0, PciState(command=0))
    assert nic.read_pci("eth0", 0) == PciState(command=0, msix_control=0xC002)
    nic.reset_vf("eth0", 0)
    assert nic.read_pci("eth0", 0) == PciState(command=0, msix_control=0x0002)


def test_vfs_may_be_born_with_a_driver() -> None:
    nic = MemoryNic(pfs=[MemoryPf(name="eth0", vf_driver="igbvf")])
    assert {vf.driver for vf in nic.vfs("eth0")} == {"igbvf"}
    nic.set_num_vfs("eth0", 0)
    nic.set_num_vfs("eth0", 2)
    assert [vf.driver for vf in nic.vfs("eth0")] == ["igbvf", "igbvf"]


def identity(nic: MemoryNic, vf: int = 0) -> tuple[str, ...]:
    fresh = make()
    then = vf_identity(fresh.host(), fresh.pf("eth0"), fresh.read("eth0"), fresh.vfs("eth0")[vf])
    now = vf_identity(nic.host(), nic.pf("eth0"), nic.read("eth0"), nic.vfs("eth0")[vf])
    return identity_changes(then, now)


def test_a_reloaded_driver_has_forgotten_everything() -> None:
    nic = make()
    program(nic, 0, AdminState(mac=MAC, trust=True))
    nic.reload_driver("eth0")
    assert admin(nic, 0) == IGB_LIKE.defaults
    assert identity(nic) == ("PF's ifindex was 2, is 3",)


def test_a_reloaded_driver_has_forgotten_removed_vfs_too() -> None:
    nic = make(NETDEVSIM_LIKE)
    assert program(nic, 6, EVERYTHING) is None
    nic.set_num_vfs("eth0", 6)
    nic.reload_driver("eth0")
    nic.set_num_vfs("eth0", 7)
    assert admin(nic, 6) == NETDEVSIM_LIKE.defaults


def test_a_reboot_has_another_boot_id_and_nothing_else() -> None:
    nic = make()
    fresh = nic.snapshot()
    program(nic, 0, AdminState(mac=MAC, trust=True))
    nic.reload_driver("eth0")
    nic.set_num_vfs("eth0", 2)
    nic.reboot()
    assert identity(nic) == ("boot id was a-boot-1, is a-boot-2",)
    assert nic.snapshot().replace(b"a-boot-2", b"a-boot-1") == fresh
    assert nic.resets("eth0", 0) == 0


@pytest.mark.parametrize(("behaviour", "kept"), [(IGB_LIKE, False), (NETDEVSIM_LIKE, True)])
def test_removed_vfs_and_their_settings(behaviour: Behaviour, kept: bool) -> None:
    nic = make(behaviour)
    wanted = AdminState(mac=MAC, trust=True)
    for vf in (0, 6):
        assert program(nic, vf, wanted) is None
    before = nic.read("eth0").vfs
    armed = nic.arm("eth0", {0: wanted})
    nic.remove_vfs("eth0")
    assert (nic.vfs("eth0"), nic.read("eth0").num_vfs) == ((), 0)
    with pytest.raises(NoSuchFunctionError):
        nic.arm("eth0", {0: wanted})
    error = armed.send()[0]
    assert isinstance(error, RejectedError)
    assert error.errno == errno.EINVAL, "all that a driver says of a VF that it does not have"
    nic.set_num_vfs("eth0", 7)
    assert (nic.read("eth0").vfs == before) is kept


def test_the_pfs_of_two_hosts_differ() -> None:
    pf = MemoryPf(name="eth0")
    addresses = {MemoryNic(host=host, pfs=[pf]).read("eth0").permanent_address for host in ("a", "b")}
    assert len(addresses) == 2


def test_a_pf_keeps_to_its_mtu_range() -> None:
    nic = make()
    nic.set_pf("eth0", mtu=9000)
    assert nic.read("eth0").mtu == nic.pf("eth0").mtu == 9000
    for mtu in (67, 9217):
        with pytest.raises(RejectedError):
            nic.set_pf("eth0", mtu=mtu)


# Port functions


def test_port_functions_live_in_switchdev_mode() -> None:
    nic = make(NETDEVSIM_LIKE)
    with pytest.raises(NotSupportedError, match="legacy"):
        nic.program_function("eth0", 0, FunctionState(tx_max=5))
    nic.set_eswitch_mode("eth0", EswitchMode.SWITCHDEV)
    nic.program_function("eth0", 0, FunctionState(tx_max=5))
    assert nic.read_function("eth0", 0) == FunctionState(tx_share=0, tx_max=5)
    with pytest.raises(NotSupportedError, match="roce"):
        nic.program_function("eth0", 0, FunctionState(roce=False, tx_max=6))
    assert nic.read_function("eth0", 0) == FunctionState(tx_share=0, tx_max=5)
    nic.set_eswitch_mode("eth0", EswitchMode.LEGACY)
    assert nic.read_function("eth0", 0) is None
    nic.set_eswitch_mode("eth0", EswitchMode.SWITCHDEV)
    assert nic.read_function("eth0", 0) == FunctionState(tx_share=0, tx_max=0)


def test_an_eswitch_is_not_everywhere() -> None:
    nic = make(IGB_LIKE)
    assert nic.pf("eth0").eswitch_mode is None
    with pytest.raises(NotSupportedError):
        nic.set_eswitch_mode("eth0", EswitchMode.SWITCHDEV)


# The PF's own forwarding entries


def test_forwarding_entries_last_as_long_as_the_pfs_driver() -> None:
    nic = make()
    empty = nic.snapshot()
    nic.add_fdb("eth0", MAC)
    assert nic.snapshot() != empty
    nic.set_pf("eth0", admin_up=False)
    nic.set_num_vfs("eth0", 0)
    nic.rename("eth0", "eth9")
    assert nic.read_fdb("eth9") == (MAC,)
    nic.reload_driver("eth9")
    assert nic.read_fdb("eth9") == ()
    nic.add_fdb("eth9", MAC)
    nic.reboot()
    assert nic.read_fdb("eth0") == ()


def test_a_full_table_takes_no_other_entry() -> None:
    nic = MemoryNic(host="a", pfs=[MemoryPf(name="eth0", fdb_capacity=1)])
    nic.add_fdb("eth0", MAC)
    nic.add_fdb("eth0", MAC)
    with pytest.raises(RejectedError, match="room for 1") as full:
        nic.add_fdb("eth0", GUEST_MAC)
    assert full.value.errno == errno.ENOMEM
    nic.remove_fdb("eth0", MAC)
    nic.add_fdb("eth0", GUEST_MAC)
    assert nic.read_fdb("eth0") == (GUEST_MAC,)


# Log and snapshot


def test_every_port_call_is_logged() -> None:
    nic = make()
    change = {1: AdminState(trust=True)}
    nic.arm("eth0", change).send()
    nic.program("eth0", change)
    nic.read("eth0")
    nic.reset_vf("eth0", 2)
    nic.add_fdb("eth0", MAC)
    nic.remove_fdb("eth0", MAC)
    nic.read_fdb("eth0")
    assert [(call.method, call.pf, call.vfs) for call in nic.calls] == [
        ("arm", "eth0", (1,)),
        ("send", "eth0", (1,)),
        ("program", "eth0", (1,)),
        ("read", "eth0", ()),
        ("reset_vf", "eth0", (2,)),
        ("add_fdb", "eth0", ()),
        ("remove_fdb", "eth0", ()),
        ("read_fdb", "eth0", ()),
    ]
    assert nic.calls[1].changes == change


@pytest.mark.parametrize("behaviour", PRESETS, ids=lambda behaviour: behaviour.name)
def test_reading_leaves_the_snapshot_alone(behaviour: Behaviour) -> None:
    nic = make(behaviour)
    before = nic.snapshot()
    nic.host()
    nic.pfs()
    nic.pf("eth0")
    nic.vfs("eth0")
    nic.read("eth0", statistics=True)
    nic.read_pci("eth0", 0)
    nic.read_function("eth0", 0)
    nic.read_fdb("eth0")
    nic.arm("eth0", {0: AdminState(trust=True)})
    assert nic.snapshot() == before


def test_every_single_change_shows_in_the_snapshot() -> None:
    nic = make(NETDEVSIM_LIKE)
    seen = {nic.snapshot()}
    for count, (vf, field) in enumerate(itertools.product(range(2), fields_of(EVERYTHING)), start=2):
        assert program(nic, vf, only(EVERYTHING, [field])) is None
        seen.add(nic.snapshot())
        assert len(seen) == count
    nic.guest_sets_mac("eth0", 0, GUEST_MAC)
    assert nic.snapshot() not in seen
