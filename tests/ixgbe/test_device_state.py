# SPDX-License-Identifier: Apache-2.0
"""A VF's state: what it holds, and that nothing wrong in it is ever applied."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ixgbe.nic_rig import VM_MAC, Host
from vferry.core.model import AdminState, Vlan
from vferry.nic.ixgbe import device_state, tlv
from vferry.nic.ixgbe.carrier import IxgbeCarrier
from vferry.nic.ixgbe.device_state import ConfigState, DeviceState, MailboxState, decode, encode, queue_offsets
from vferry.nic.ixgbe.messages import Api, XcastMode
from vferry.nic.ixgbe.pf_driver import VfSession, VfStats
from vferry.nic.ixgbe.registers import vf
from vferry.ports.carrier import BadStateError

GROUP = bytes.fromhex("01005e010203")


def saved(*, session: bool = True, resume_extension: bool = False) -> bytes:
    """The state of a VF at work."""
    host = Host(resume_extension=resume_extension)
    host.nic.program("eth0", {1: AdminState(mac=VM_MAC, trust=True)})
    driver = host.guest(1)
    assert host.run(driver.add_vlan(7))
    host.run(driver.set_rx_mode(multicasts=[GROUP], unicasts=[bytes.fromhex("02aa00000099")], xcast_mode=2))
    carrier = IxgbeCarrier(host.nic)
    carrier.stop("eth0", 1)
    return carrier.save("eth0", 1, session=session)


CARRIED = saved()
REBUILT = saved(session=False)
TO_RESUME = saved(session=False, resume_extension=True)
KNOWN = range(1, 10)


def test_a_carried_state_holds_the_session() -> None:
    state = decode(CARRIED)
    assert state.session == VfSession(
        clear_to_send=True,
        api_version=Api.V1_4,
        mac=bytes.fromhex(VM_MAC.replace(":", "")),
        macvlans=(bytes.fromhex("02aa00000099"),),
        vlans=(7,),
        mc_hashes=((GROUP[4] >> 4 | GROUP[5] << 4) & 0xFFF,),
        xcast_mode=XcastMode.ALLMULTI,
        max_frame=1518,
        anti_spoof=False,
    )
    assert state.mailbox is not None
    assert state.resume is None


def test_a_rebuilt_state_holds_none() -> None:
    state = decode(REBUILT)
    assert (state.session, state.mailbox, state.resume) == (None, None, None)
    assert state.registers == decode(CARRIED).registers
    assert state.queue_registers == decode(CARRIED).queue_registers


def test_a_state_to_resume_keeps_what_the_pf_is_to_program() -> None:
    state = decode(TO_RESUME)
    assert state.session is None
    assert state.resume == decode(CARRIED).session


def test_a_state_is_small() -> None:
    assert len(CARRIED) < 2048


WORDS = st.integers(0, 0xFFFFFFFF)
MACS = st.binary(min_size=6, max_size=6)
SESSIONS = st.builds(
    VfSession,
    clear_to_send=st.booleans(),
    api_version=st.sampled_from(Api),
    mac=st.none() | MACS,
    macvlans=st.lists(MACS, max_size=5).map(tuple),
    vlans=st.lists(st.integers(0, 0xFFFF), max_size=6, unique=True).map(sorted).map(tuple),
    mc_hashes=st.lists(st.integers(0, 0xFFFF), max_size=30).map(tuple),
    xcast_mode=st.sampled_from(XcastMode),
    max_frame=st.none() | WORDS,
    anti_spoof=st.booleans(),
)
BARS = st.integers(0, (1 << 50) - 1).map(lambda number: number << 14 | 4)


@st.composite
def states(draw: st.DrawFn) -> DeviceState:
    queues = draw(st.sampled_from([2, 4, 8]))
    value = draw(st.integers(0, 7))  # what every register of the function can hold
    other = draw(WORDS) & ~vf.TXDCTL_SWFLSH
    session = draw(st.none() | SESSIONS)
    mailbox = MailboxState(
        control=draw(st.sampled_from([0, 4, 0x10, 0xB4])), unsent=draw(st.integers(0, 3)), words=(other,) * 16
    )
    return DeviceState(
        queues=queues,
        config=ConfigState(
            command=draw(st.sampled_from([0, 2, 4, 6])),
            msix_control=draw(st.sampled_from([2, 0x8002, 0xC002])),
            bar0=draw(BARS),
            bar3=draw(BARS),
        ),
        table=tuple(draw(st.lists(WORDS, min_size=12, max_size=12))),
        pending=value,
        registers=(value,) * len(device_state.FUNCTION_OFFSETS),
        queue_registers=(other,) * len(queue_offsets(queues)),
        mailbox=None if session is None else mailbox,
        session=session,
        resume=draw(st.none() | SESSIONS),
        counters=draw(st.none() | st.builds(VfStats, *[st.integers(0, (1 << 63) - 1)] * 5)),
    )


@given(states())
def test_what_is_encoded_is_decoded(state: DeviceState) -> None:
    assert decode(encode(state)) == state


Change = Callable[[dict[int, bytes]], object]


def changed(change: Change, state: bytes = CARRIED) -> bytes:
    """A state whose header and CRC are true, with other entries."""
    entries = tlv.decode(state, KNOWN)
    change(entries)
    return tlv.encode(tlv.Tlv(kind, data) for kind, data in sorted(entries.items()))


def put(kind: int, place: int, layout: str, value: int) -> Change:
    def change(entries: dict[int, bytes]) -> None:
        data = bytearray(entries[kind])
        struct.pack_into(layout, data, place, value)
        entries[kind] = bytes(data)

    return change


def without(kind: int) -> Change:
    return lambda entries: entries.pop(kind)


def longer(kind: int) -> Change:
    return lambda entries: entries.update({kind: entries[kind] + b"\0"})


def shorter(kind: int) -> Change:
    return lambda entries: entries.update({kind: entries[kind][:-1]})


WRONG: list[tuple[str, Change]] = [
    *((f"without entry {kind}", without(kind)) for kind in range(1, 8)),
    *((f"entry {kind} too long", longer(kind)) for kind in (1, 2, 3, 4, 5, 6, 7, 9)),
    *((f"entry {kind} too short", shorter(kind)) for kind in (1, 2, 3, 4, 5, 6, 7, 9)),
    ("another vendor", put(device_state.DEVICE, 0, "<H", 0x15B3)),
    ("another device", put(device_state.DEVICE, 2, "<H", 0x1515)),
    ("three queues", put(device_state.DEVICE, 4, "<H", 3)),
    ("two queues here", put(device_state.DEVICE, 4, "<H", 2)),
    ("five vectors", put(device_state.DEVICE, 6, "<H", 5)),
    ("COMMAND with I/O", put(device_state.CONFIG, 0, "<H", 1)),
    ("MSI-X of another size", put(device_state.CONFIG, 2, "<H", 3)),
    ("a BAR off its boundary", put(device_state.CONFIG, 4, "<Q", 0x1004)),
    ("a 32-bit BAR", put(device_state.CONFIG, 12, "<Q", 0x4000)),
    ("a fourth vector pending", put(device_state.TABLE, 0, "<I", 8)),
    ("another register", put(device_state.REGISTERS, 0, "<I", 0x200)),
    ("a cause that VTEICR has not", put(device_state.REGISTERS, 12, "<I", 8)),
    ("another queue register", put(device_state.QUEUES, 0, "<I", 0x1004)),
    ("VFMAILBOX with PFU", put(device_state.MAILBOX, 0, "<I", 8)),
    ("VFMAILBOX with REQ stored", put(device_state.MAILBOX, 0, "<I", 1)),
    ("unknown bits on the way", put(device_state.MAILBOX, 4, "<I", 4)),
    ("unknown flags", put(device_state.SESSION, 0, "<B", 0x1F)),
    ("a MAC that is not there", put(device_state.SESSION, 0, "<B", 0x0D)),
    ("a frame size that is not there", put(device_state.SESSION, 0, "<B", 0x0B)),
    ("API 9", put(device_state.SESSION, 1, "<B", 9)),
    ("API 1.5", put(device_state.SESSION, 1, "<B", Api.V1_5)),
    ("xcast mode 4", put(device_state.SESSION, 2, "<B", 4)),
    ("promiscuous", put(device_state.SESSION, 2, "<B", 3)),
    ("a reserved octet", put(device_state.SESSION, 3, "<B", 1)),
    ("a frame of 9729 octets", put(device_state.SESSION, 4, "<I", 9729)),
    ("a group address", put(device_state.SESSION, 8, "<B", 0x53)),
    ("more addresses than there are", put(device_state.SESSION, 14, "<H", 2)),
    ("more addresses than fit", put(device_state.SESSION, 14, "<H", 0xFFFF)),
    ("VLAN 4096", put(device_state.SESSION, 26, "<H", 4096)),
    ("VLAN 0", put(device_state.SESSION, 26, "<H", 0)),
    ("a counter of 64 bits", put(device_state.COUNTERS, 0, "<Q", 1 << 63)),
]


@functools.cache
def target() -> tuple[Host, IxgbeCarrier]:
    """A host whose VF 2 could have the state; nothing that follows may change it."""
    host = Host("b")
    host.nic.program("eth0", {2: AdminState(mac=VM_MAC, trust=True)})
    host.guest(0)
    return host, IxgbeCarrier(host.nic)


def refused_everywhere(state: bytes) -> bool:
    """Try to load a state; whether it was refused, with nothing changed."""
    host, carrier = target()
    before = host.snapshot()
    for act in (carrier.validate, carrier.load):
        try:
            act("eth0", 2, state)
        except BadStateError as error:
            assert (error.host, error.pf, error.vf) == ("b", "eth0", 2)  # noqa: PT017
            assert error.why  # noqa: PT017
            assert host.snapshot() == before
        else:
            target.cache_clear()
            return False
    return True


@pytest.mark.parametrize(("what", "change"), WRONG, ids=[what for what, _ in WRONG])
def test_what_is_wrong_is_refused_whole(what: str, change: Change) -> None:
    assert not refused_everywhere(changed(lambda _entries: None)), "the test itself is at fault"
    assert refused_everywhere(changed(change))


def test_nonsense_is_refused_without_a_vf_to_hold_it_against() -> None:
    state = decode(CARRIED)
    assert state.session is not None
    mac = bytes.fromhex("02aa00000001")
    sessions = [
        {"vlans": tuple(range(1, 66))},
        {"vlans": (8, 7)},
        {"vlans": (7, 7)},
        {"mc_hashes": (1,) * 31},
        {"macvlans": (mac,) * 129},
        {"api_version": 9},
        {"xcast_mode": 4},
    ]
    wrong = [
        msgspec.structs.replace(state, session=msgspec.structs.replace(state.session, **change))  # type: ignore[arg-type]
        for change in sessions
    ]
    registers = (0,) * len(queue_offsets(3))
    wrong.append(msgspec.structs.replace(state, queues=3, queue_registers=registers))
    for one in wrong:
        with pytest.raises(BadStateError):
            decode(encode(one))


@pytest.mark.fuzz
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    assert refused_everywhere(data)


MUTABLE = st.sampled_from([CARRIED, REBUILT, TO_RESUME])


@pytest.mark.fuzz
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(MUTABLE, st.data())
def test_mutated_states_are_refused_or_sound(state: bytes, data: st.DataObject) -> None:
    """Behind a true CRC: one entry changed, cut, or put in another's place."""
    entries = tlv.decode(state, KNOWN)
    kind = data.draw(st.sampled_from(sorted(entries)))
    octets = bytearray(entries[kind])
    for _ in range(data.draw(st.integers(0, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del octets[data.draw(st.integers(0, len(octets))) :]
    entries[data.draw(st.sampled_from([kind, *KNOWN]))] = bytes(octets)
    mutated = tlv.encode(tlv.Tlv(one, what) for one, what in sorted(entries.items()))
    host, carrier = target()
    before = host.snapshot()
    try:
        carrier.load("eth0", 2, mutated)
    except BadStateError:
        assert host.snapshot() == before
        return
    assert decode(mutated) == decode(carrier_saved(host, carrier, mutated))


def carrier_saved(host: Host, carrier: IxgbeCarrier, loaded: bytes) -> bytes:
    """What a save gives after a load; where the session was not carried, what was to be resumed is not there yet."""
    state = decode(carrier.save("eth0", 2, session=decode(loaded).session is not None))
    wanted = decode(loaded)
    session = state.session
    if session is not None and wanted.session is not None and wanted.session.mac is None:
        session = msgspec.structs.replace(session, mac=None)  # the administrator's stands
    counters = wanted.counters and state.counters
    return encode(msgspec.structs.replace(state, session=session, resume=wanted.resume, counters=counters))


@pytest.mark.fuzz
@given(st.data())
def test_a_cut_or_flipped_state_is_refused(data: st.DataObject) -> None:
    """Without a new CRC: damage on the way."""
    state = bytearray(data.draw(MUTABLE))
    if data.draw(st.booleans()):
        del state[data.draw(st.integers(0, len(state) - 1)) :]
    else:
        bit = data.draw(st.integers(0, 8 * len(state) - 1))
        state[bit // 8] ^= 1 << bit % 8
    assert refused_everywhere(bytes(state))


def test_a_port_vlan_here_forbids_vlans_of_the_vf() -> None:
    host = Host("b")
    carrier = IxgbeCarrier(host.nic)
    host.nic.program("eth0", {2: AdminState(mac=VM_MAC, trust=True, vlans=(Vlan(vid=5),))})
    with pytest.raises(BadStateError, match="port VLAN"):
        carrier.validate("eth0", 2, CARRIED)
