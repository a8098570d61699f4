# SPDX-License-Identifier: Apache-2.0
"""What keeps a source's VM stopped when its stream dies after the switch-over began.

QEMU lets a VM that ran before the migration run on as soon as the migration fails or is cancelled
(``migration_iteration_finish()``), with one exception: where it cannot take its block devices back, "do not start VM",
for the destination may have them. The guard makes this exception hold: two block nodes over one small image of its
own, of which the second is inactive, as on a destination. Each needs the image's write lock, so both are never active;
activating all fails, and the VM stays in ``finish-migrate``. Experiments: ``docs/hypervisor.md``.

The guard lives in QEMU: it holds where vferry's process ends. It costs nothing while the VM is stopped, and is taken
out before the VM runs.
"""

from __future__ import annotations

import os
import struct

import anyio

from vferry.hypervisor.qemu_states import VmStatus, vm_state
from vferry.hypervisor.qmp import CommandRefusedError, QmpConnection
from vferry.ports.hypervisor import HypervisorError, VmState

__all__ = ["NODES", "StillStoppedError", "add_guard", "drop_file", "empty_qcow2", "release", "remove_guard"]

NODES = ("vferry-guard-held", "vferry-guard-wanted")
"""The active node and the inactive one."""

_CLUSTER_BITS = 16
_CLUSTER = 1 << _CLUSTER_BITS
_SIZE = 65536  # bytes, of the disk that the image stands for

_DETACH = b"$D#44"
"""GDB's remote protocol: detach and let the target run; "44" is the sum of its bytes modulo 256, in hexadecimal."""


class StillStoppedError(HypervisorError):
    """The VM could not be let run again."""


def empty_qcow2() -> bytes:
    """Return an empty image (QEMU ``docs/interop/qcow2.rst``, version 2): header, refcount table and block, L1 table.

    qcow2, for a format takes the write lock although nothing uses the node; ``raw`` takes what its users take.
    """
    header = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb",
        2,
        *(0, 0),  # no backing file
        _CLUSTER_BITS,
        _SIZE,
        0,  # not encrypted
        *(1, 3 * _CLUSTER),  # L1 entries, offset
        *(_CLUSTER, 1),  # refcount table, clusters
        *(0, 0),  # no snapshots
    )
    refcounts = struct.pack(">4H", 1, 1, 1, 1)
    clusters = (header, struct.pack(">Q", 2 * _CLUSTER), refcounts, b"")
    return b"".join(content.ljust(_CLUSTER, b"\0") for content in clusters)


async def add_guard(connection: QmpConnection, path: str) -> None:
    """Put the guard in, where it is not; the VM must be stopped.

    :param path: where the image is made, in a directory that QEMU may open files in.
    :raise HypervisorError: it is not in; a part of it does nothing and does no harm.
    """
    present = await _nodes(connection)
    held, wanted = NODES
    if held not in present:
        _make_image(path)
        await connection.run("blockdev-add", {"node-name": held, "driver": "qcow2", "file": _file(path)})
    if wanted not in present:
        inactive = {"active": False, "file": {**_file(path), "active": False}}
        await connection.run("blockdev-add", {"node-name": wanted, "driver": "qcow2", **inactive})


async def remove_guard(connection: QmpConnection, path: str) -> None:
    """Take the guard out, where it is; QEMU may start the VM by itself from here on.

    :raise HypervisorError: a part of it may still be in.
    """
    present = await _nodes(connection)
    for node in reversed(NODES):
        if node in present:
            await connection.run("blockdev-del", {"node-name": node})
    drop_file(path)


def drop_file(path: str) -> None:
    """Remove a file that the guard made, where it is."""
    if os.path.lexists(path):
        os.unlink(path)


async def release(connection: QmpConnection, path: str, *, host: str, vm: str, seconds: float) -> None:
    """Let a VM run that is left in ``finish-migrate``, which ``cont`` refuses ("Migration is not finalized yet").

    GDB's "detach" ends in the same ``vm_start()`` as ``cont``. The block devices are taken back first, as by ``cont``.

    :param path: where the debugger's socket is made, for that moment.
    :param seconds: how long the VM may take to run.
    :raise StillStoppedError: it did not.
    """
    await connection.run("blockdev-set-active", {"active": True})
    drop_file(path)
    said = await _monitor(connection, f"gdbserver unix:{path},server=on,wait=off")
    try:
        with anyio.fail_after(seconds):
            stream = await anyio.connect_unix(path)
            async with stream:
                await stream.send(_DETACH)
                while not await _runs(connection):  # noqa: ASYNC110 -- QEMU is asked, for events may be lost
                    await anyio.sleep(0.005)
    except (OSError, anyio.BrokenResourceError) as error:  # TimeoutError is an OSError
        raise StillStoppedError(
            f"let VM {vm} run",
            host=host,
            why=f"it is left in 'finish-migrate', and QEMU's GDB stub did not let it run: {said.strip() or error}",
            next_step="its memory and devices are complete: attach gdb to the VM and detach",
        ) from error
    finally:
        await _monitor(connection, "gdbserver none")


async def _runs(connection: QmpConnection) -> bool:
    return vm_state((await connection.ask("query-status", VmStatus)).status) is VmState.RUNNING


def _file(path: str) -> dict[str, object]:
    return {"driver": "file", "filename": path, "locking": "on"}


def _make_image(path: str) -> None:
    """Make the image, or a new one where a guard that is gone has left it."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o660)
    try:
        os.write(handle, empty_qcow2())
        owner = os.stat(os.path.dirname(os.path.abspath(path)))
        if os.geteuid() == 0:  # QEMU may run as another user, whose directory it is
            os.fchown(handle, owner.st_uid, owner.st_gid)
    finally:
        os.close(handle)


async def _nodes(connection: QmpConnection) -> set[str]:
    found = await connection.ask("query-named-block-nodes", list[dict[str, object]], {"flat": True})
    return {str(node.get("node-name")) for node in found} & set(NODES)


async def _monitor(connection: QmpConnection, line: str) -> str:
    try:
        return str(await connection.run("human-monitor-command", {"command-line": line}))
    except CommandRefusedError as error:
        return error.reason
