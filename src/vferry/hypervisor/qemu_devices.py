# SPDX-License-Identifier: Apache-2.0
"""Devices that come and go while the guest runs."""

from __future__ import annotations

import anyio

from vferry.hypervisor.qmp import CommandRefusedError, QmpConnection
from vferry.ports.hypervisor import HypervisorError

__all__ = ["UnplugError", "device_ids", "take_device"]

_LOOK_SECONDS = 0.02


class UnplugError(HypervisorError):
    """The guest has not let go of a device."""


async def device_ids(connection: QmpConnection) -> set[str]:
    """Return the ids of the devices that have one."""
    found = await connection.ask("qom-list", list[dict[str, object]], {"path": "/machine/peripheral"})
    return {str(entry["name"]) for entry in found if str(entry.get("type", "")).startswith("child<")}


async def take_device(connection: QmpConnection, device: str, *, host: str, vm: str, seconds: float) -> None:
    """Ask the guest to let go of a device, and wait until it has: QEMU takes it out only then (``DEVICE_DELETED``).

    What is there is looked at, for an event may be lost with a connection. A device that has gone is no error, nor one
    that the guest was asked for before.

    :param seconds: how long the guest may take.
    :raise UnplugError: it took longer; it may still let go later.
    """
    if device not in await device_ids(connection):
        return
    try:
        await connection.run("device_del", {"id": device})
    except CommandRefusedError as error:
        if error.kind != "DeviceNotFound" and "in the process of unplug" not in error.reason:
            raise
    with anyio.move_on_after(seconds):
        while device in await device_ids(connection):  # noqa: ASYNC110 -- see above
            await anyio.sleep(_LOOK_SECONDS)
        return
    raise UnplugError(
        f"take device {device} from VM {vm}",
        host=host,
        why=f"its guest has not let go of it in {seconds:g} s",
        next_step="see whether the guest's hot-plug driver is loaded; it may still let go later",
    )
