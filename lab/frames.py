# SPDX-License-Identifier: Apache-2.0
"""Numbered test frames: building and reading them.

The code lives in :mod:`lab.guest.frames`, which also runs on its own in a host; here are the names for the driver.
"""

from __future__ import annotations

from lab.guest.frames import BROADCAST, ETHERTYPE, LabFrame, decode, encode, marker

__all__ = ("BROADCAST", "ETHERTYPE", "LabFrame", "decode", "encode", "marker")
