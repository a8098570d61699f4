# SPDX-License-Identifier: Apache-2.0
"""``vferry witness``: the far end of ``fence --witness``."""

from __future__ import annotations

import json

from vferry.cli import DONE
from vferry.cli.session import Session
from vferry.core.errors import UsageError
from vferry.witness import FrameWatch

__all__ = ["run"]


def run(session: Session) -> int:
    """Say ``ready``, wait for the probe, say how many frames came."""
    arguments = session.arguments
    try:
        nonce = bytes.fromhex(arguments.nonce)
    except ValueError as error:
        raise UsageError("wait for a probe", why=f"{arguments.nonce!r} is not hexadecimal") from error
    if not 8 <= len(nonce) <= 64 or not 0 < arguments.seconds <= 60:
        raise UsageError("wait for a probe", why="NONCE takes 8 to 64 octets, --seconds takes up to 60")
    with FrameWatch(nonce, interface=arguments.interface, seconds=arguments.seconds) as watch:
        print(json.dumps({"ready": True}), flush=True)
        print(json.dumps({"received": watch.received()}), flush=True)
    return DONE
