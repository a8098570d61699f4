# SPDX-License-Identifier: Apache-2.0
"""Runs the adapter inside a host of the lab."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab import Host, Result

ENVIRONMENT = {"PYTHONPATH": "/opt/program/src:/opt/program/site-packages:/opt/program", "PYTHONDONTWRITEBYTECODE": "1"}

PREAMBLE = """
import json, os, subprocess, sys, time
import msgspec
from vferry.core.model import *
from vferry.nic.linux import LinuxNic
from vferry.ports.nic import *
nic = LinuxNic()
def tell(value):
    print(msgspec.json.encode(value).decode())
def ip(pf):
    result = subprocess.run(["ip", "-d", "-j", "link", "show", pf], capture_output=True, check=True)
    return json.loads(result.stdout)[0]
def outcomes(found):
    return {str(vf): None if e is None else [type(e).__name__, e.errno, e.why] for vf, e in found.items()}
def attempt(act, *arguments, **keywords):
    try:
        act(*arguments, **keywords)
    except NicError as error:
        return [type(error).__name__, error.errno, error.why]
"""


def inside(host: Host, code: str, *, user: int | None = None) -> Any:
    """Run Python in the host, with ``nic`` at hand, and return what it told."""
    command = ["python3", "-S", "-c", PREAMBLE + code]
    if user is not None:
        command = ["setpriv", "--reuid", str(user), "--clear-groups", *command]
    lines = host.run(command, env=ENVIRONMENT).out.splitlines()
    told = [json.loads(line) for line in lines]
    return told[0] if len(told) == 1 else told


def contract(host: Host, name: str, pf: str) -> Result:
    """Run one class of the contract suite in the host."""
    suite = f"/opt/program/tests/nic_linux/guest/contract.py::{name}"
    options = ["-q", "--noconftest", "-p", "no:cacheprovider", "--import-mode=importlib", "-W", "error"]
    return host.run(
        ["python3", "-m", "pytest", *options, suite], 300, check=False, env={**ENVIRONMENT, "VFERRY_TEST_PF": pf}
    )
