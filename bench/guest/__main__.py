# SPDX-License-Identifier: Apache-2.0
"""``python3 -m bench.guest SPEC``: measure one group in this process, print the samples as JSON."""

from __future__ import annotations

import base64
import json
import os
import platform
import socket
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.guest.contender import Contender, run_rounds

Spec = dict[str, Any]

ENVIRONMENT = {"PYTHONPATH": "/opt/program/src:/opt/program/site-packages", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
"""The environment of whole processes."""
MAC = "02:00:00:00:00:01"


def read(spec: Spec, _directory: Path) -> list[Contender]:
    from bench.guest.read import Readers  # noqa: PLC0415 -- each group imports what it needs

    return Readers(spec["pf"], spec["vfs"], spec["floor"], everything=spec["everything"]).contenders()


def program(spec: Spec, directory: Path) -> list[Contender]:
    from bench.guest.program import Programmers  # noqa: PLC0415

    programmers = Programmers(spec["pf"], spec["vfs"], spec["floor"], directory, everything=spec["everything"])
    return programmers.contenders()


def fence(spec: Spec, directory: Path) -> list[Contender]:
    from bench.guest.fence import Fences  # noqa: PLC0415

    return Fences(spec["pf"], spec["vfs"], directory, everything=spec["everything"]).contenders()


def startup(spec: Spec, directory: Path) -> list[Contender]:
    from bench.guest.startup import process_contenders  # noqa: PLC0415

    return process_contenders(_commands(spec, directory), ENVIRONMENT)


def _commands(spec: Spec, directory: Path) -> dict[str, list[str]]:
    """Return the processes to measure; the record that ``verify`` reads is made here."""
    from bench.guest.processes import find, finish, run, start  # noqa: PLC0415
    from bench.guest.startup import BARE, ITS_LIBRARIES, LIBRARIES  # noqa: PLC0415

    python = sys.executable
    vferry = [python, "-m", "vferry"]
    commands = {
        BARE: [python, "-c", "pass"],
        ITS_LIBRARIES: [python, "-c", LIBRARIES],
        "vferry --version": [*vferry, "--version"],
    }
    for name, pf in spec["pfs"].items():
        record = str(directory / f"{name}.json")
        run([find("ip"), "link", "set", "dev", pf, "vf", "0", "mac", MAC])
        save = [*vferry, "save", f"{pf}/0", "--mac", f"{pf}/0={MAC}", "-o", record]
        finish(start(save, ENVIRONMENT, err=2), save)
        commands[f"vferry save ({name})"] = save
        commands[f"vferry verify ({name})"] = [*vferry, "verify", record, f"{pf}/0"]
    return commands


GROUPS: dict[str, Callable[[Spec, Path], list[Contender]]] = {
    "fence": fence,
    "program": program,
    "read": read,
    "startup": startup,
}


def imports(spec: Spec, directory: Path) -> dict[str, Any]:
    """Return what the verbs import."""
    from bench.guest.startup import imports_of  # noqa: PLC0415

    return {name: imports_of(argv, ENVIRONMENT) for name, argv in _commands(spec, directory).items()}


def capture(spec: Spec) -> str:
    """Return the kernel's answer to a reading, in base64; its sequence number is 1."""
    body = struct.pack("=BBHiII", 0, 0, 0, socket.if_nametoindex(spec["pf"]), 0, 0) + struct.pack("=HHI", 8, 29, 9)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.send(struct.pack("=IHHII", 16 + len(body), 18, 1, 1, 0) + body)
        return base64.b64encode(sock.recv(1 << 20)).decode()


def facts() -> dict[str, str]:
    from bench.guest.processes import find, output  # noqa: PLC0415

    return {
        "kernel": os.uname().release,
        "python": platform.python_version(),
        "iproute2": output([find("ip"), "-V"]).decode().split("iproute2-")[1].split(",")[0].strip(),
    }


def main() -> None:
    spec: Spec = json.loads(sys.argv[1])
    what = spec["group"]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if what == "imports":
            result: object = imports(spec, directory)
        elif what == "capture":
            result = capture(spec)
        elif what == "facts":
            result = facts()
        else:
            result = run_rounds(GROUPS[what](spec, directory), spec["rounds"], spec["seconds"])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
