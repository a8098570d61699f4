# SPDX-License-Identifier: Apache-2.0
"""Files that a crash leaves whole, the lock, and learned capabilities."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from vferry.core.capability import CapabilityKey, CapabilityTable, Feature, Learned, Verdict, find_table
from vferry.core.reference_tables import REFERENCE_TABLES
from vferry.state.capabilities import CapabilityDirectory, CapabilityFileError
from vferry.state.files import StateBusyError, exclusive, make_directory, write_durably

KEY = CapabilityKey(vendor="8086", device_id="1572", driver="i40e", kernel_release="6.12.0")
TABLE = CapabilityTable(
    key=KEY, learned_on="2026-01-01", source="probe", features={Feature.MAC: Learned(verdict=Verdict.ACCEPTED)}
)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_durably(str(path), b"old")
    write_durably(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_the_mode_is_private_unless_told(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        write_durably(str(tmp_path / "a"), b"")
        write_durably(str(tmp_path / "b"), b"", mode=0o644)
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o644


def test_a_path_without_a_directory_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_durably("file", b"x")
    make_directory("directory")
    assert sorted(os.listdir(tmp_path)) == ["directory", "file"]


@pytest.mark.parametrize("signals", [5])
def test_kill_9_at_any_moment_leaves_the_old_content_or_the_new(tmp_path: Path, signals: int) -> None:
    """A process that writes without end, killed: what is there is one of the two, whole."""
    path = tmp_path / "file"
    program = (
        "import sys; from vferry.state.files import write_durably\n"
        "write_durably(sys.argv[1], b'a' * 100000); print('ready', flush=True)\n"
        "while True:\n"
        "    for letter in b'ab': write_durably(sys.argv[1], bytes([letter]) * 100000)\n"
    )
    for number in range(signals):
        with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(0.005 * number)
            process.send_signal(signal.SIGKILL)
        assert path.read_bytes() in (b"a" * 100000, b"b" * 100000)


def test_the_lock_is_exclusive_and_given_back(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    with exclusive(state), pytest.raises(StateBusyError, match="another vferry"), exclusive(state):
        pytest.fail("two at once")
    with exclusive(state):
        pass
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_the_lock_holds_between_processes_and_ends_with_its_holder(tmp_path: Path) -> None:
    program = (
        "import sys; from vferry.state.files import exclusive\n"
        "with exclusive(sys.argv[1]):\n    print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(StateBusyError), exclusive(str(tmp_path)):
            pytest.fail("two at once")
        process.kill()
    with exclusive(str(tmp_path)):
        pass


def test_learned_tables_come_first_and_are_kept(tmp_path: Path) -> None:
    directory = CapabilityDirectory(str(tmp_path / "state"))
    assert directory.tables() == (REFERENCE_TABLES, ())
    path = directory.put(TABLE)
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert CapabilityDirectory(str(tmp_path / "state")).tables() == ((TABLE, *REFERENCE_TABLES), ())
    newer = msgspec.structs.replace(TABLE, learned_on="2026-02-01")
    directory.put(newer)
    assert find_table(KEY, directory.tables()[0]) == newer


def test_tables_of_odd_names_do_not_leave_the_directory(tmp_path: Path) -> None:
    directory = CapabilityDirectory(str(tmp_path / "state"))
    directory.put(msgspec.structs.replace(TABLE, key=CapabilityKey(driver="../../x", kernel_release="/6.12")))
    assert [path.parent.name for path in tmp_path.rglob("*.json")] == ["capabilities"]


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    directory = CapabilityDirectory(str(tmp_path))
    path = directory.put(TABLE)
    Path(path).write_bytes(b'{"version"')
    tables, (problem,) = directory.tables()
    assert tables == REFERENCE_TABLES, "what can be read still counts"
    assert path in problem.what
    assert "vferry probe" in problem.next_step


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "capabilities").write_text("a file stands here")
    directory = CapabilityDirectory(str(tmp_path))
    tables, (problem,) = directory.tables()
    assert tables == REFERENCE_TABLES
    assert "list capability tables" in problem.what
    with pytest.raises(CapabilityFileError):
        directory.put(TABLE)
