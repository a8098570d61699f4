# SPDX-License-Identifier: Apache-2.0
"""Hosts: they start, run commands, are restored from snapshots, and die audibly."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import AgentError, CommandFailed, Host, HostDied, Images, LabUnavailable, QmpError, Timeout, program_image
from lab.images.cache import cache_root
from lab.images.program import installed

pytestmark = pytest.mark.lab


@pytest.fixture
def host(netdevsim_host: Host) -> Host:
    return netdevsim_host


@pytest.fixture(scope="module")
def shared_host(lab_images: Images) -> Iterator[Host]:
    """Give a host for tests that leave nothing behind."""
    with Host("shared", images=lab_images) as host:
        yield host


def test_commands(shared_host: Host) -> None:
    result = shared_host.run("echo out; echo err >&2; exit 3", check=False)
    assert (result.rc, result.out, result.err) == (3, "out\n", "err\n")
    assert shared_host.run(["printf", "%s|", "a b", "$HOME"]).out == "a b|$HOME|"
    assert shared_host.run("cat", stdin="given").out == "given"
    assert shared_host.run("echo $WORD", env={"WORD": "x"}).out == "x\n"
    with pytest.raises(CommandFailed, match="status 7 from: exit 7") as failed:
        shared_host.run("exit 7")
    assert failed.value.rc == 7
    assert shared_host.run("kill -9 $$", check=False).rc == -9


def test_a_command_that_takes_too_long_is_killed_with_its_children(shared_host: Host) -> None:
    with pytest.raises(Timeout, match=r"not finished in 0\.3 s"):
        shared_host.run("sleep 1234 & sleep 1234", timeout=0.3)
    assert shared_host.run("pgrep -f 'sleep 1234' | wc -l").out == "1\n", "only the shell that is looking"


def test_files_keep_their_bytes(shared_host: Host) -> None:
    content = bytes(range(256)) * 4000
    shared_host.write("/tmp/deep/file", content, 0o640)
    assert shared_host.read("/tmp/deep/file") == content
    assert shared_host.run("stat -c %a /tmp/deep/file").out == "640\n"
    with pytest.raises(AgentError, match="FileNotFoundError"):
        shared_host.read("/no/such/file")


def test_background_processes(shared_host: Host) -> None:
    process = shared_host.spawn("echo started; exec sleep 1000")
    assert process.wait_for_output("started") == "started\n"
    assert process.is_running()
    with pytest.raises(Timeout):
        process.wait(0.1)
    process.kill(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
    assert not process.is_running()
    process.kill()
    assert shared_host.spawn(["false"]).wait() == 1


def test_a_long_command_does_not_hold_up_the_next(shared_host: Host) -> None:
    slow = shared_host.spawn(["sleep", "1000"])
    begin = time.monotonic()
    assert shared_host.run("echo quick").out == "quick\n"
    assert time.monotonic() - begin < 5
    slow.kill()


def test_qmp_and_its_errors(shared_host: Host) -> None:
    assert shared_host.qmp("query-status")["status"] == "running"
    with pytest.raises(QmpError, match="no-such-command"):
        shared_host.qmp("no-such-command")


def test_clock_and_boot_id_are_those_of_a_boot(host: Host) -> None:
    def boot_id() -> str:
        return host.run("cat /proc/sys/kernel/random/boot_id").out

    assert abs(float(host.run("date +%s.%N").out) - time.time()) < 5
    first = boot_id()
    host.run("touch /root/left-behind")
    host.kill()
    host.start()
    assert host.origin == "restored"
    assert boot_id() != first
    assert host.run("ls /root").out == ""


def test_without_a_whole_snapshot_a_host_boots_debians_kernel(host: Host, lab_images: Images) -> None:
    host.kill()
    snapshots = list(cache_root().glob("snapshot-sim-*"))
    for path in snapshots:
        path.write_bytes(path.read_bytes()[:100_000])
    host.start()
    assert host.origin == "booted"
    assert host.run("uname -n; uname -r").out.split() == ["sim", lab_images.release]
    assert max(path.stat().st_size for path in snapshots if path.exists()) > 1 << 20
    host.kill()
    host.start()
    assert host.origin == "restored"


def test_a_killed_host_is_reported(host: Host) -> None:
    process = host.spawn(["sleep", "1000"])
    os.kill(host.pid, signal.SIGKILL)
    with pytest.raises(HostDied, match="sim: "):
        process.wait()
    with pytest.raises(HostDied):
        host.run("true")
    assert not host.alive


def test_a_panic_is_reported_with_the_console(host: Host) -> None:
    with pytest.raises(HostDied) as died:
        host.run("echo c > /proc/sysrq-trigger")
    assert "Kernel panic" in died.value.console
    assert "Kernel panic" in str(died.value)


def test_a_host_that_does_not_start_is_reported(lab_images: Images) -> None:
    with pytest.raises(HostDied, match=r"did not start|has ended"), Host("bad", images=lab_images, memory=1, cold=True):
        pass


def test_the_program_drive_follows_its_directories(lab_images: Images, tmp_path: Path) -> None:
    """A host restored from a snapshot sees the drive of today, whatever its size was then."""
    source = tmp_path / "src"
    package = source / "vferry"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    main = package / "__main__.py"
    main.write_text("import sys, msgspec; print(sys.argv[1:], msgspec.json.encode({}))")
    content: dict[str, Path | list[Path]] = {"src": source, "site-packages": installed("msgspec")}
    with Host("sim", images=lab_images, program=program_image(content, lab_images)) as host:
        assert host.vferry("a", "b c").out == "['a', 'b c'] b'{}'\n"
        assert host.run("ls /opt/program/src/vferry/__pycache__").out.split()
    main.write_text("print('changed')")
    (source / "large").write_bytes(os.urandom(3_000_000))
    with Host("sim", images=lab_images, program=program_image(content, lab_images)) as host:
        assert host.vferry().out == "changed\n"
        assert host.read("/opt/program/src/large") == (source / "large").read_bytes()


def test_a_program_directory_that_is_missing_is_reported(lab_images: Images, tmp_path: Path) -> None:
    with pytest.raises(LabUnavailable, match="no-such"):
        program_image({"src": tmp_path / "no-such"}, lab_images)
