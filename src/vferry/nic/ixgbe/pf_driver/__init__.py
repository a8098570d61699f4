# SPDX-License-Identifier: Apache-2.0
"""A model of the PF driver: the behaviour of Linux' ixgbe towards VFs and the administrator (Linux 6.12)."""

from __future__ import annotations

from vferry.nic.ixgbe.pf_driver.driver import PfDriver
from vferry.nic.ixgbe.pf_driver.errors import DriverError
from vferry.nic.ixgbe.pf_driver.programmed import ProgrammedVf
from vferry.nic.ixgbe.pf_driver.rss import DEFAULT_RSS_KEY
from vferry.nic.ixgbe.pf_driver.vfinfo import LinkState, MacType, VfConfig, VfDataStorage, VfSession, VfStats

__all__ = [
    "DEFAULT_RSS_KEY",
    "DriverError",
    "LinkState",
    "MacType",
    "PfDriver",
    "ProgrammedVf",
    "VfConfig",
    "VfDataStorage",
    "VfSession",
    "VfStats",
]
