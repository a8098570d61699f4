# SPDX-License-Identifier: Apache-2.0
"""Snapshots: a host's state as a file, from which the next host of the same kind starts in less than a second.

A snapshot is taken when the agent answers, all drivers are loaded and the PFs are up, with ``sriov_numvfs`` 0: QEMU
does not save the PCI configuration of VFs, so VFs are made after the restore. There is one for each host name,
because the MAC address of the PF is part of the state.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from lab.errors import HostDied, HostError
from lab.images.cache import cache_root, locked
from lab.machine.qmp import Qmp

INCOMING = ("-incoming", "defer")
"""QEMU's options for a host that is to be restored."""

_KEPT = 16
_POLL_SECONDS = 0.01
_SAVE_SECONDS = 60.0
_RESTORE_SECONDS = 60.0


def snapshot_path(host: str, key: str) -> Path:
    """Return where the snapshot of a host stands, if there is one."""
    return cache_root() / f"snapshot-{host}-{key}"


def save(qmp: Qmp, host: str, key: str) -> None:
    """Save a running host, which runs on afterwards.

    :raise HostError: When QEMU cannot.
    """
    path = snapshot_path(host, key)
    with locked("snapshot"):
        scratch = path.with_name(f".making-{path.name}-{os.getpid()}")
        qmp.execute("stop")
        try:
            qmp.execute("migrate-set-parameters", max_bandwidth=1 << 40)
            qmp.execute("migrate", uri=f"file:{scratch}")
            _wait_saved(qmp, host)
            scratch.rename(path)
        finally:
            scratch.unlink(missing_ok=True)
            qmp.execute("cont")
        _forget_old()


def _wait_saved(qmp: Qmp, host: str) -> None:
    end = time.monotonic() + _SAVE_SECONDS
    while time.monotonic() < end:
        state = qmp.execute("query-migrate")
        if state.get("status") == "completed":
            return
        if state.get("status") == "failed":
            raise HostError(host, f"snapshot failed: {state.get('error-desc')}")
        time.sleep(_POLL_SECONDS)
    raise HostError(host, "snapshot not finished in time")


def restore(qmp: Qmp, host: str, path: Path) -> None:
    """Have QEMU, started with :data:`INCOMING`, read a snapshot, and let the host run.

    QEMU's own announcement of the NICs after a migration (RARP frames) is switched off: nothing but the host itself
    may be heard on the wire.

    :raise HostError: When QEMU does not accept it.
    """
    qmp.execute("migrate-set-parameters", announce_rounds=0)
    qmp.execute("migrate-incoming", uri=f"file:{path}")
    end = time.monotonic() + _RESTORE_SECONDS
    while qmp.execute("query-status")["status"] == "inmigrate":
        if time.monotonic() > end:
            raise HostDied(host, "snapshot not read in time")
        time.sleep(_POLL_SECONDS)
    qmp.execute("cont")


def discard(host: str, key: str) -> None:
    """Remove a snapshot that does not work."""
    snapshot_path(host, key).unlink(missing_ok=True)


def _forget_old() -> None:
    found = sorted(cache_root().glob("snapshot-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found[_KEPT:]:
        path.unlink(missing_ok=True)
