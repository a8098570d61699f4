# SPDX-License-Identifier: Apache-2.0
"""Receive side scaling of the port: the key, the table and the fields, which a PF and its VFs share.

``drivers/net/ethernet/intel/ixgbe/ixgbe_main.c``, ``ixgbe_setup_mrqc()``, ``ixgbe_setup_reta()`` and
``ixgbe_store_key()`` (Linux 6.12). How many of the table's queues a VF uses is the VF's own choice (PSRTYPE). Not
modelled: RSS without VFs, where this PF has one queue, and the X550's table of each VF (PFVFRETA).
"""

from __future__ import annotations

import struct
from typing import Final

from vferry.nic.ixgbe.pf_driver.registers import Registers
from vferry.nic.ixgbe.registers import pf

__all__ = ["DEFAULT_RSS_KEY", "RSS_FIELDS", "RSS_KEY_OCTETS", "program_rss"]

RSS_KEY_OCTETS: Final = 40
"""``IXGBE_RSS_KEY_SIZE``."""

DEFAULT_RSS_KEY: Final = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)
"""The key of the published test values (Microsoft, "Verifying the RSS hash calculation"). The kernel's driver has
another one after each boot of its host (``netdev_rss_key_fill()``); a fixed one lets a run be repeated."""

RSS_FIELDS: Final = 1 << 16 | 1 << 17 | 1 << 20 | 1 << 21
"""IPv4 with TCP, IPv4, IPv6, IPv6 with TCP (``IXGBE_MRQC_RSS_FIELD_*``); UDP ports only if ``ethtool -N`` asks."""

RETA_ENTRIES: Final = 128
RETA_QUEUES: Final = 4
"""With VFs the table names at least 4 queues, so that each VF can use all that it has; a pool of 2 cuts them off."""


def program_rss(registers: Registers, key: bytes, mode: int) -> None:
    """Write the key (40 octets), a table that goes round the queues, and `mode` (MRQC.MRQE) with the fields."""
    for index, (word,) in enumerate(struct.iter_unpack("<I", key)):
        registers.write(pf.RSSRK, word, index)
    for index in range(RETA_ENTRIES // 4):
        queues = bytes((4 * index + place) % RETA_QUEUES for place in range(4))
        registers.write(pf.RETA, int.from_bytes(queues, "little"), index)
    registers.write(pf.MRQC, mode | RSS_FIELDS)
