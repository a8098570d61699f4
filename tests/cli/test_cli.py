# SPDX-License-Identifier: Apache-2.0
"""Every verb through ``main``: exit codes, JSON, dry runs, names, messages."""

from __future__ import annotations

import errno
import functools
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.verbs.cases import RESTORES
from tests.verbs.test_crashes import crashed_worlds
from tests.verbs.world import GUEST, MACS, new_host, record_of, settings, shown, source
from vferry import __version__
from vferry.cli import session as session_module
from vferry.cli.arguments import VERBS
from vferry.cli.main import main
from vferry.cli.session import Session
from vferry.core.model import ZERO_MAC, AdminState, Attribute
from vferry.core.record import decode_json, encode_json, encode_msgpack
from vferry.ports.nic import Nic
from vferry.state.files import exclusive
from vferry.testing import (
    IGB_LIKE,
    NETDEVSIM_LIKE,
    ErrnoFault,
    Fault,
    FaultNic,
    IgnoredFault,
    MemoryJournal,
    MemoryNic,
    SimClock,
)
from vferry.verbs.context import Context, VfRef

DONE, FAILED, USAGE, REFUSED, PERSON = range(5)

SAVED = (VfRef("eth0", 3), VfRef("eth1", 2))


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Host:
    """One host, and the command line on it."""

    def __init__(
        self, nic: MemoryNic, state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.nic = nic
        self.state = state
        self.journal = MemoryJournal()
        self.faults: Sequence[Fault] = ()
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def context(self) -> Context:
        clock = SimClock()
        nic: Nic = FaultNic(self.nic, self.faults, clock=clock) if self.faults else self.nic
        return Context(nic, MemoryJournal(self.journal.storage), clock)

    def __call__(self, *words: str) -> Outcome:
        self._monkeypatch.setattr(session_module, "Session", functools.partial(Session, context=self.context()))
        self._monkeypatch.setattr("vferry.witness.FrameProber.send", _send_nothing)
        code = main([*words, "--state-dir", str(self.state)])
        captured = self._capsys.readouterr()
        return Outcome(code, captured.out, captured.err)


def _send_nothing(*_: object, **__: object) -> None:
    """Tests send no frames: a simulated eth0 may have a real namesake."""


MakeHost = Callable[[MemoryNic], Host]


@pytest.fixture
def make_host(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> MakeHost:
    return lambda nic: Host(nic, tmp_path / "state", capsys, monkeypatch)


@pytest.fixture
def a(make_host: MakeHost) -> Host:
    return make_host(source(NETDEVSIM_LIKE, SAVED))


@pytest.fixture
def b(make_host: MakeHost) -> Host:
    return make_host(new_host("b", NETDEVSIM_LIKE))


@pytest.fixture
def record(tmp_path: Path) -> str:
    """A record of two VFs, in a file."""
    path = tmp_path / "web.json"
    path.write_bytes(encode_json(record_of(source(NETDEVSIM_LIKE, SAVED), SAVED)))
    return str(path)


# The way of a VM, by hand


def test_a_move_by_hand(a: Host, b: Host, tmp_path: Path) -> None:
    before, file = settings(a.nic), str(tmp_path / "moved.json")
    macs = [f"--mac={ref}={a.nic.admin_mac(*ref)}" for ref in SAVED]
    assert a("save", "eth0/3", "eth1/2", "--vm", "web", *macs, "-o", file).code == DONE
    assert b("check", file, "eth1/1", "eth0/4").code == DONE
    assert a("fence", "eth0/3", "eth1/2").code == DONE
    assert b("verify", file, "eth1/1", "eth0/4").code == FAILED
    assert b("restore", file, "eth1/1", "eth0/4").code == DONE
    assert b("verify", file, "eth1/1", "eth0/4").code == DONE
    assert shown(b.nic, VfRef("eth1", 1)) == before["eth0"][3]
    assert shown(b.nic, VfRef("eth0", 4)) == before["eth1"][2]
    assert a("release", "eth0/3", "eth1/2").code == DONE
    assert shown(a.nic, SAVED[0]) == NETDEVSIM_LIKE.defaults
    assert a.journal.records() == b.journal.records() == ()
    assert (b.state / "capabilities").is_dir(), "what was learned on the way is kept"


def test_a_fence_and_the_way_back(a: Host) -> None:
    before = a.nic.snapshot()
    fenced = a("fence", "eth0/3")
    assert fenced.code == DONE
    assert "undo: vferry unfence eth0/3" in fenced.out
    assert "NOT covered" in fenced.out
    assert a("unfence", "eth0/3").code == DONE
    assert a.nic.snapshot() == before


# Exit codes


def test_done(a: Host) -> None:
    for words in (["list"], ["show", "eth0/3"], ["doctor"], ["probe", "eth0"], ["save", "eth0/3"]):
        outcome = a(*words)
        assert outcome.code == DONE, outcome
        assert outcome.out
        assert not outcome.err


def test_failed_and_everything_is_as_before(b: Host, record: str) -> None:
    before = b.nic.snapshot()
    b("probe", "eth0")
    b.faults = [ErrnoFault(vf=4, attribute=Attribute.TRUST, number=errno.EINVAL, times=None)]
    outcome = b("restore", record, "eth1/1", "eth0/4")
    assert outcome.code == FAILED
    assert "eth0/4" in outcome.err
    assert b.nic.snapshot() == before
    assert b.journal.records() == ()


def test_refused_and_the_findings_say_why(b: Host, record: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[allow]\ntrust = false\n")
    before = b.nic.snapshot()
    for verb in ("check", "restore"):
        outcome = b(verb, record, "eth1/1", "eth0/4", "--policy", str(policy))
        assert outcome.code == REFUSED
        assert "policy-trust" in outcome.out + outcome.err
    assert b.nic.snapshot() == before
    accepted = b("check", record, "eth1/1", "eth0/4", "--policy", str(policy), "--accept-loss", "trust")
    assert accepted.code == DONE
    assert "accepted loss: policy-trust" in accepted.out


def test_a_person_is_needed_and_is_told_the_state_and_the_next_command(a: Host) -> None:
    assert a("fence", "eth0/3").code == DONE
    a.faults = [ErrnoFault(number=errno.EINVAL, times=None)]
    outcome = a("unfence", "eth0/3")
    assert outcome.code == PERSON
    assert "between the old state and the new" in outcome.err
    assert "vferry unfence eth0/3" in outcome.err
    a.faults = ()
    assert a("doctor").code == REFUSED
    assert a("unfence", "eth0/3").code == DONE


def test_a_driver_that_was_reloaded(a: Host) -> None:
    a("fence", "eth0/3")
    a.nic.reload_driver("eth0")
    for verb in ("fence", "unfence"):
        outcome = a(verb, "eth0/3")
        assert outcome.code == PERSON
        assert "ifindex was" in outcome.err
    assert a("release", "eth0/3").code == DONE


def test_a_release_that_is_not_complete_needs_a_person(a: Host) -> None:
    a.faults = [IgnoredFault(attribute=Attribute.TRUST)]
    outcome = a("release", "eth0/3")
    assert outcome.code == PERSON
    assert "NOT brought back to its default: trust" in outcome.out
    a.faults = [ErrnoFault(number=errno.EPERM, times=None)]
    assert a("release", "eth1/2").code == FAILED


def test_an_interrupted_restore_is_taken_back(make_host: MakeHost) -> None:
    world = next(world for world, where in crashed_worlds(RESTORES[2]) if "after program" in where)
    host = make_host(world.nic)
    host.journal = world.journal
    assert host("fence", "eth0/3").code == REFUSED
    outcome = host("restore", "--undo", "eth0/3", "--json")
    assert outcome.code == DONE
    assert [vf["vf"] for vf in outcome.json["vfs"]] == ["eth0/3", "eth1/2"]
    assert world.nic.snapshot() == RESTORES[2].make().nic.snapshot()
    assert host("restore", "--undo", "eth0/3").code == REFUSED


USAGES = [
    [],
    ["nonsense"],
    ["save"],
    ["show", "eth0/5"],
    ["show", "eth0"],
    ["show", "eth0/-1"],
    ["show", "eth9/0"],
    ["show", "0000:99:00.0"],
    ["show", "eth0/³"],
    ["save", "eth0/3", "eth0/3"],
    ["save", "eth0/3", "--mac", "eth0/3"],
    ["save", "eth0/3", "--mac", "eth0/3=52:54"],
    ["save", "eth0/3", "--mac", "eth0/3=52:54:00:00:00:01", "--mac", "eth0/3=52:54:00:00:00:02"],
    ["save", "eth0/3", "--mac", "eth0/2=52:54:00:00:00:01"],
    ["save", "eth0/3", "--mtu", "eth0/3=67"],
    ["save", "eth0/3", "--mtu", "eth0/3=9k"],
    ["save", "eth0/3", "--mtu", "eth0/3=9999999999999999999999"],
    ["fence", "eth0/3", "--require", "everything"],
    ["fence", "eth0/3", "--parking-vlan", "4095"],
    ["fence", "eth0/3", "--parking-vlan", "many"],
    ["fence", "eth0/3", "--mode", "warm"],
    ["fence", "eth0/3", "--witness", "-oProxyCommand=x"],
    ["fence", "eth0/3", "--witness", "far", "--witness-command", ""],
    ["check", "/nowhere/web.json", "eth0/3"],
    ["restore", "--undo", "eth0/3", "--dry-run"],
    ["probe", "eth0", "--vf", "9"],
    ["probe", "eth9"],
    ["witness", "xyz"],
    ["witness", "00" * 4],
    ["witness", "00" * 16, "--seconds", "0"],
]


@pytest.mark.parametrize("words", USAGES, ids=" ".join)
def test_usage(a: Host, words: list[str]) -> None:
    before = a.nic.snapshot()
    outcome = a(*words)
    assert outcome.code == USAGE, outcome
    assert outcome.err
    assert a.nic.snapshot() == before
    assert a.journal.records() == ()


def test_usage_of_a_record(b: Host, record: str) -> None:
    for words in (
        ["eth1/1"],
        ["eth1/1", "eth0/4", "eth0/3"],
        [],
        ["eth1/1", "eth1/1"],
        ["eth0/3=eth1/1", "eth0/3=eth0/4"],
        ["nobody=eth1/1", "eth0/4"],
    ):
        outcome = b("restore", record, *words)
        assert outcome.code == USAGE, outcome
    assert "2 VFs (eth0/3, eth1/2), 1 are named" in b("check", record, "eth1/1").err
    assert b("check", record, "eth1/1", "eth0/4", "--accept-loss", "everything").code == USAGE
    assert b("check", record, "eth1/1", "eth0/4", "--policy", "/nowhere").code == USAGE


# JSON


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["list"], {"pfs"}),
        (["list", "eth0"], {"pfs"}),
        (["show", "eth0/3"], {"host", "pf", "vf", "has_settings", "reading", "pci", "function"}),
        (["doctor"], {"findings"}),
        (["fence", "eth0/3"], {"vfs"}),
        (["fence", "eth0/3", "--dry-run"], {"dry_run", "vfs"}),
        (["release", "eth0/3"], {"vfs"}),
        (["release", "eth0/3", "--dry-run"], {"dry_run", "vfs"}),
        (["probe", "eth0"], {"key", "learned_on", "source", "features", "defaults"}),
        (["probe", "eth0", "--dry-run"], {"dry_run", "vf", "try", "undo"}),
    ],
    ids=lambda value: " ".join(value if isinstance(value, list) else sorted(value)),
)
def test_json_shapes(a: Host, words: list[str], keys: set[str]) -> None:
    outcome = a(*words, "--json")
    assert outcome.code == DONE
    optional = {"pci", "function"}
    assert outcome.json.keys() | optional >= keys
    assert outcome.json.keys() <= keys | optional


def test_json_of_a_fence(a: Host) -> None:
    vf = a("fence", "eth0/3", "--json").json["vfs"][0]
    assert vf["vf"] == "eth0/3"
    assert vf["evidence"]["claims"] == {"admin_unicast": "read-back"}
    assert set(vf["evidence"]["uncovered"]) == {"guest_unicast", "multicast", "guest_vlan", "transmit", "dma"}
    assert vf["before"]["mac"] == MACS[3]
    assert vf["already"] is False
    assert a("fence", "eth0/3", "--json").json["vfs"][0]["already"] is True
    assert a("unfence", "eth0/3", "--dry-run", "--json").json["vfs"][0]["set"]["mac"] == MACS[3]
    assert a("unfence", "eth0/3", "--json").json["vfs"][0]["shown"]["mac"] == MACS[3]


def test_json_of_records(b: Host, record: str) -> None:
    targets = ("eth1/1", "eth0/4")
    checked = b("check", record, *targets, "--json").json
    assert checked.keys() == {"refused", "findings", "losses", "wanted"}
    assert [one["vf"] for one in checked["wanted"]] == list(targets)
    plan = b("restore", record, *targets, "--dry-run", "--json").json
    assert plan["plan"][0]["set"]["mac"] == MACS[3]
    assert plan["plan"][0]["undo"]["mac"] == ZERO_MAC
    restored = b("restore", record, *targets, "--json").json
    assert [(one["saved"], one["vf"], one["changed"]) for one in restored["vfs"]] == [
        ("eth0/3", "eth1/1", True),
        ("eth1/2", "eth0/4", True),
    ]
    assert b("verify", record, *targets, "--json").json.keys() >= {"vfs"}


def test_errors_as_json(a: Host, b: Host, record: str, tmp_path: Path) -> None:
    outcome = a("show", "eth0/9", "--json")
    assert outcome.json == {
        "error": "VfNameError",
        "what": "find the VF",
        "host": "a",
        "pf": "eth0",
        "vf": 9,
        "why": "the PF has 5 VFs, counted from 0",
        "next": "'vferry list' shows what there is",
        "exit": USAGE,
    }
    assert outcome.err.startswith("vferry: find the VF (a:eth0/9)")
    broken = tmp_path / "broken.json"
    broken.write_text(Path(record).read_text().replace('"vid": 5', '"vid": 5000'))
    refused = b("check", str(broken), "eth1/1", "eth0/4", "--json")
    assert refused.code == REFUSED
    assert (refused.json["error"], refused.json["field"]) == ("RecordRangeError", "vfs[0].admin.vlans[0].vid")
    differs = b("verify", record, "eth1/1", "eth0/4", "--json")
    assert differs.code == FAILED
    assert differs.json["exit"] == FAILED
    assert any("mac" in line for line in differs.json["differences"])
    policy = tmp_path / "policy.toml"
    policy.write_text("[allow]\ntrust = false\n")
    findings = b("restore", record, "eth1/1", "eth0/4", "--policy", str(policy), "--json").json["findings"]
    assert "policy-trust" in {finding["code"] for finding in findings}
    policy.write_text("[allow]\ntrsut = false\n")
    mistaken = b("check", record, "eth1/1", "eth0/4", "--policy", str(policy), "--json")
    assert (mistaken.code, mistaken.json["key"]) == (USAGE, "allow.trsut")


# A dry run changes nothing


@pytest.mark.parametrize("verb", ["fence", "unfence", "release", "probe", "restore"])
def test_a_dry_run_changes_nothing(a: Host, verb: str, record: str) -> None:
    if verb == "unfence":
        a("fence", "eth0/3")
    before, undo_records = a.nic.snapshot(), a.journal.snapshot()
    words = {"probe": ["eth0"], "restore": [record, "eth0/3", "eth1/2"]}.get(verb, ["eth0/3"])
    a.nic.calls.clear()
    outcome = a(verb, *words, "--dry-run")
    assert outcome.code == DONE, outcome
    assert "would" in outcome.out
    assert (a.nic.snapshot(), a.journal.snapshot()) == (before, undo_records)
    assert {call.method for call in a.nic.calls} <= {"host", "pfs", "pf", "vfs", "read", "read_pci", "read_function"}


def test_a_dry_run_needs_no_lock_and_makes_no_directory(a: Host) -> None:
    assert a("fence", "eth0/3", "--dry-run").code == DONE
    assert not a.state.exists()
    with exclusive(str(a.state)):
        assert a("fence", "eth0/3", "--dry-run").code == DONE
        busy = a("fence", "eth0/3")
    assert busy.code == REFUSED
    assert "another vferry" in busy.err


def test_a_probe_says_beforehand_that_a_vf_is_in_use(a: Host) -> None:
    for words in (["--dry-run"], []):
        assert a("probe", "eth0", "--vf", "0", *words).code == REFUSED


# Names


def test_a_vf_has_three_names(a: Host) -> None:
    """By interface, by the PF's address, by its own."""
    nic = source(IGB_LIKE, SAVED)
    a.nic = nic
    device, address = nic.pf("eth0").device, nic.vfs("eth0")[3].address
    assert address is not None
    expected = a("show", "eth0/3").out
    for name in (f"{device}/3", f"{device.removeprefix('0000:')}/3", address, address.removeprefix("0000:"), "eth0/03"):
        assert a("show", name).out == expected, name
    assert a("show", address.upper()).out == expected
    assert a("save", "eth0/3", address).code == USAGE, "one VF by two names"
    assert a("list", device).code == DONE


def test_saved_vfs_are_paired_by_name_or_in_their_order(b: Host, record: str) -> None:
    for words in (
        ["eth1/1", "eth0/4"],
        ["eth0/3=eth1/1", "eth1/2=eth0/4"],
        ["eth1/2=eth0/4", "eth0/3=eth1/1"],
        ["eth1/2=eth0/4", "eth1/1"],
        ["eth1/1", "0000:02:00.0/2=eth0/4"],
    ):
        wanted = b("check", record, *words, "--json")
        pairs = {one["saved"]: one["vf"] for one in wanted.json["wanted"]}
        assert pairs == {"eth0/3": "eth1/1", "eth1/2": "eth0/4"}, words


# Records in and out


def test_a_record_on_standard_output_and_from_standard_input(
    a: Host, b: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original = record_of(source(NETDEVSIM_LIKE, SAVED), SAVED)
    for data in (encode_json(original), encode_msgpack(original)):
        stdin = io.TextIOWrapper(io.BytesIO(data))
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(session_module, "Session", functools.partial(Session, context=b.context()))
        assert main(["check", "-", "eth1/1", "eth0/4", "--state-dir", str(tmp_path)]) == DONE
    capsys.readouterr()
    monkeypatch.setattr(session_module, "Session", functools.partial(Session, context=a.context()))
    assert main(["save", "eth0/3", "--state-dir", str(tmp_path)]) == DONE
    saved = decode_json(capsys.readouterr().out.encode())
    assert saved.vfs[0].admin.mac == GUEST.mac


def test_declarations(a: Host, tmp_path: Path) -> None:
    file = tmp_path / "web.json"
    words = ["--mac", "eth0/3=52-54-00-AB-CD-EF", "--mtu", "eth0/3=9000", "--vm", "web"]
    assert a("save", "eth0/3", *words, "-o", str(file)).code == DONE
    declared = decode_json(file.read_bytes()).vfs[0].declared
    assert (declared.mac, declared.mtu) == ("52:54:00:ab:cd:ef", 9000)


def test_a_file_is_written_whole_or_not_at_all(a: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "web.json"
    file.write_text("an older record")
    bystander = tmp_path / "web.json.new"
    bystander.write_text("somebody else's")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("vferry.state.files.os.replace", fail)
        outcome = a("save", "eth0/3", "-o", str(file))
    assert outcome.code == FAILED
    assert "No space left" in outcome.err
    assert file.read_text() == "an older record"
    assert a("save", "eth0/3", "-o", str(file)).code == DONE
    decode_json(file.read_bytes())
    assert bystander.read_text() == "somebody else's"
    assert {path.name for path in tmp_path.iterdir()} <= {"web.json", "web.json.new", "state"}
    assert a("save", "eth0/3", "-o", str(tmp_path / "nowhere" / "web.json")).code == FAILED


def test_a_device_or_a_pipe_is_written_to_and_never_replaced(a: Host, tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    assert a("save", "eth0/3", "-o", str(link)).code == DONE
    assert link.is_symlink()
    decode_json(target.read_bytes())
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert a("save", "eth0/3", "-o", str(pipe)).code == DONE
    assert pipe.is_fifo()
    decode_json(os.read(reader, 1 << 16))
    os.close(reader)


# Words for people


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_has_an_example_and_the_exit_codes(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == DONE
    text = capsys.readouterr().out
    assert f"vferry {verb}" in text.partition("example:")[2]
    assert "4  a person is needed" in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_the_overall_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == DONE
    text = capsys.readouterr().out
    assert "example: move a VM's VF by hand" in text
    assert all(verb in text for verb in VERBS)


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([option]) == DONE
    assert capsys.readouterr().out == f"vferry {__version__}\n"


def test_names_cannot_command_the_terminal(a: Host) -> None:
    a.nic.bind_driver("eth0", 3, "vfio-pci", user="qemu \x1b[2J\nfence: done")
    for words in (["list"], ["show", "eth0/3"], ["release", "eth0/3"]):
        out = a(*words).out
        assert "\x1b" not in out
        assert "\nfence: done" not in out
        assert "\\x1b[2J\\n" in out


def test_a_host_without_anything(make_host: MakeHost) -> None:
    host = make_host(MemoryNic(host="a"))
    assert "no device of this host can have VFs" in host("list").out
    assert "no hazard found" in host("doctor").out


def test_what_was_learned_and_cannot_be_kept_does_not_make_a_restore_fail(b: Host, record: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vferry.state.capabilities.write_durably", _no_space)
        outcome = b("restore", record, "eth1/1", "eth0/4")
    assert outcome.code == DONE
    assert "not kept" in outcome.err


def _no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# Interrupted


class Interrupting(FaultNic):
    """Ctrl-C at one of its calls."""

    def __init__(self, inner: Nic, at: int) -> None:
        super().__init__(inner)
        self._at = at

    def _enter(self, method: str) -> None:
        super()._enter(method)
        if len(self.calls) == self._at:
            raise KeyboardInterrupt


def test_ctrl_c_at_any_call(
    a: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either nothing is changed (1), or a person is told what is in between (4) and the same command completes it."""
    codes = set()
    for verb in ("fence", "unfence", "restore", "release", "list"):
        for at in range(1, 40):
            nic, journal = source(NETDEVSIM_LIKE, SAVED), MemoryJournal()
            host = Host(nic, tmp_path / "state", capsys, monkeypatch)
            host.journal = journal
            if verb == "unfence":
                host("fence", "eth0/3", "eth1/2")
            file = tmp_path / "web.json"
            file.write_bytes(encode_json(record_of(source(NETDEVSIM_LIKE, SAVED), SAVED)))
            if verb == "restore":
                for number, ref in enumerate(SAVED):
                    nic.program(ref.pf, {ref.vf: AdminState(mac=MACS[13 + number])})
            words = {"restore": [str(file), "eth0/4", "eth1/4"], "list": []}.get(verb, ["eth0/3", "eth1/2"])
            before = nic.snapshot()
            context = Context(Interrupting(nic, at), MemoryJournal(journal.storage), SimClock())
            monkeypatch.setattr(session_module, "Session", functools.partial(Session, context=context))
            code = main([verb, *words, "--state-dir", str(tmp_path / "state")])
            error = capsys.readouterr().err
            codes.add((verb, code))
            if code == FAILED:
                assert nic.snapshot() == before, (verb, at)
                assert "interrupted" in error
            elif code == PERSON and any(not record.completed for record in journal.records()):
                assert "vferry doctor" in error
                assert host(verb, *words).code == DONE, (verb, at)
            elif code == PERSON:
                assert "complete, or taken back" in error
                assert host(verb, *words).code in (DONE, REFUSED), (verb, at)
            if code == DONE:
                break
    assert {(verb, PERSON) for verb in ("fence", "unfence", "restore", "release")} <= codes
    assert ("list", PERSON) not in codes


def test_ctrl_c_of_a_reader_does_not_speak_of_an_old_interruption(
    make_host: MakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world = next(world for world, where in crashed_worlds(RESTORES[2]) if "after program" in where)
    context = Context(Interrupting(world.nic, 1), MemoryJournal(world.journal.storage), SimClock())
    monkeypatch.setattr(session_module, "Session", functools.partial(Session, context=context))
    assert main(["list", "--state-dir", str(tmp_path)]) == FAILED


# The reader of our output


PROGRAM = """
import sys
from vferry.cli.session import Session
import vferry.cli.session as module, functools, vferry.witness
from tests.verbs.world import source
from vferry.testing import MemoryJournal, SimClock
from vferry.verbs.context import Context
from vferry.cli.main import main
context = Context(source(), MemoryJournal(), SimClock())
vferry.witness.FrameProber.send = lambda *_, **__: None
module.Session = functools.partial(Session, context=context)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [(["list"], DONE), (["list", "--json"], DONE), (["save", "eth0/3"], DONE), (["show", "eth0/9", "--json"], USAGE)],
    ids=str,
)
def test_a_reader_that_went_away_is_no_error(words: list[str], code: int, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", PROGRAM, *words, "--state-dir", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(writing)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


def test_a_full_disk_under_our_output_does_not_undo_what_was_done(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for words, code in ((["fence", "eth0/3"], DONE), (["save", "eth0/3"], FAILED)):
        command = [sys.executable, "-c", PROGRAM, *words, "--state-dir", str(tmp_path)]
        with open("/dev/full", "wb") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment, check=False)
        assert done.returncode == code, done.stderr
        assert b"No space left" in done.stderr
        assert b"Traceback" not in done.stderr
