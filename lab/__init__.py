# SPDX-License-Identifier: Apache-2.0
"""The lab: virtual hosts with real kernels and SR-IOV NICs, joined by a wire that records every frame.

::

    with Wire() as wire, running(
        Host("a", nics=(Igb(mac="52:54:00:aa:00:01", port=wire.port("a")),)),
        Host("b", nics=(Igb(mac="52:54:00:aa:00:02", port=wire.port("b")),)),
    ) as (a, b):
        vf = a.make_vfs(2)[0]
        a.vf_namespace(vf, "guest", "10.0.0.1/24")

``lab/README.md`` says what it is good for, what it needs and what it does not do.
"""

from __future__ import annotations

from lab.errors import (
    AgentError,
    BuildFailed,
    CommandFailed,
    HostDied,
    HostError,
    LabError,
    LabUnavailable,
    QmpError,
    Timeout,
    WireDied,
)
from lab.images.build import Images, build_images, load_images
from lab.images.program import program_image
from lab.machine.command import Process, Result
from lab.machine.devices import Vf
from lab.machine.host import Host, running
from lab.machine.nics import Igb, Nic, VirtioSriov
from lab.wire.wire import Frame, Port, PortCount, Wire

__all__ = (
    "AgentError",
    "BuildFailed",
    "CommandFailed",
    "Frame",
    "Host",
    "HostDied",
    "HostError",
    "Igb",
    "Images",
    "LabError",
    "LabUnavailable",
    "Nic",
    "Port",
    "PortCount",
    "Process",
    "QmpError",
    "Result",
    "Timeout",
    "Vf",
    "VirtioSriov",
    "Wire",
    "WireDied",
    "build_images",
    "load_images",
    "program_image",
    "running",
)
