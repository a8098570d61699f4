# SPDX-License-Identifier: Apache-2.0
"""Ways out of odd states, by the command line: a VF that has gone, a broken fence, a MAC that cannot be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_cli import Host, MakeHost, a, make_host
from tests.verbs.world import new_host
from vferry.cli import DONE, FAILED, PERSON_NEEDED, REFUSED, USAGE
from vferry.core.model import AdminState
from vferry.testing import VIRTIO_LIKE

__all__ = ("a", "make_host")


def test_the_record_of_a_vf_that_has_gone_is_dropped_by_release(a: Host) -> None:
    assert a("fence", "eth0/3").code == DONE
    a.nic.remove_vfs("eth0")
    assert a("doctor").code == REFUSED
    gone = a("unfence", "eth0/3")
    assert gone.code == PERSON_NEEDED
    assert "vferry release eth0/3" in gone.err
    planned = a("release", "eth0/3", "--dry-run")
    assert "would drop its undo record" in planned.out
    assert a.journal.records()
    assert "is dropped" in a("release", "eth0/3").out
    assert a.journal.records() == ()
    assert a("doctor").code == DONE
    assert a("release", "eth0/3").code == USAGE


def test_a_broken_fence_needs_a_person(a: Host) -> None:
    assert a("fence", "eth0/3").code == DONE
    a.nic.program("eth0", {3: AdminState(mac="52:54:00:77:77:77")})
    assert "fence-broken" in a("doctor").out
    broken = a("unfence", "eth0/3")
    assert broken.code == PERSON_NEEDED
    assert "--anyway" in broken.err
    assert a("unfence", "eth0/3", "--anyway").code == DONE


@pytest.mark.parametrize("mac", ["00:00:00:00:00:00", "01:00:5e:00:00:01", "02:76:66:01:02:03"])
def test_a_mac_that_no_vm_can_have_is_refused_at_once(a: Host, mac: str) -> None:
    outcome = a("save", "eth0/3", "--mac", f"eth0/3={mac}")
    assert outcome.code == USAGE
    assert mac in outcome.err
    assert outcome.out == ""


def test_what_has_no_settings_is_not_released(make_host: MakeHost) -> None:
    host = make_host(new_host("b", VIRTIO_LIKE))
    outcome = host("release", "eth0/0")
    assert outcome.code == REFUSED
    assert "no VF settings" in outcome.err


def test_a_damaged_capability_table_stops_nobody(a: Host) -> None:
    assert a("probe", "eth0").code == DONE
    (table,) = (a.state / "capabilities").iterdir()
    table.write_text("{")
    outcome = a("fence", "eth0/3")
    assert outcome.code == DONE
    assert str(table) in outcome.err


def test_a_full_output_is_a_failure_without_a_traceback() -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "vferry", "--version"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == FAILED
    assert b"Traceback" not in done.stderr
    assert b"No space left" in done.stderr
