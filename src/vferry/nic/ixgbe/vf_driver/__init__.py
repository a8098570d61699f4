# SPDX-License-Identifier: Apache-2.0
"""A model of the VF driver: the behaviour of Linux' ixgbevf (Linux 6.12), without I/O and without a clock."""

from __future__ import annotations

from vferry.nic.ixgbe.vf_driver.driver import RESET_LIMIT_SECONDS, SERVICE_SECONDS, VfDriver, run
from vferry.nic.ixgbe.vf_driver.mailbox import Exchange

__all__ = ["RESET_LIMIT_SECONDS", "SERVICE_SECONDS", "Exchange", "VfDriver", "run"]
