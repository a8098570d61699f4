# SPDX-License-Identifier: Apache-2.0
"""What each pool sent and received, and how the counter registers show it.

The counts are kept whole, outside of the registers' storage: a frame costs two additions. The registers show the low
32 bits of packets and the low 36 of octets, wrap, and are cleared by no read (``ixgbe_update_stats()`` and
``ixgbevf_update_stats()``, Linux 6.12, take differences). Octets include the FCS, which frames here do not carry, as
the port's GORC does; that the pool's does is an assumption. So is that PVFMPRC leaves broadcast out, as MPRC does.
"""

from __future__ import annotations

from typing import Final

from vferry.nic.ixgbe.register_file import RegisterFile
from vferry.nic.ixgbe.registers import pf

__all__ = ["FCS", "Counters"]

FCS: Final = 4
_BROADCAST: Final = b"\xff" * 6


class Counters:
    """The counts of every pool, by pool.

    :param bar: the PF's registers, which show them.
    """

    def __init__(self, bar: RegisterFile) -> None:
        self.rx_packets: Final = [0] * pf.POOLS
        self.rx_octets: Final = [0] * pf.POOLS
        self.rx_multicast: Final = [0] * pf.POOLS
        self.tx_packets: Final = [0] * pf.POOLS
        self.tx_octets: Final = [0] * pf.POOLS
        bar.hook(pf.PVFGPRC, view=self._gprc)
        bar.hook(pf.PVFGORC_LSB, view=self._gorc_lsb)
        bar.hook(pf.PVFGORC_MSB, view=self._gorc_msb)
        bar.hook(pf.PVFMPRC, view=self._mprc)
        bar.hook(pf.PVFGPTC, view=self._gptc)
        bar.hook(pf.PVFGOTC_LSB, view=self._gotc_lsb)
        bar.hook(pf.PVFGOTC_MSB, view=self._gotc_msb)

    def count_rx(self, pool: int, frame: bytes) -> None:
        """Count a frame that reached a pool's receive queue."""
        self.rx_packets[pool] += 1
        self.rx_octets[pool] += len(frame) + FCS
        if frame[0] & 1 and frame[:6] != _BROADCAST:
            self.rx_multicast[pool] += 1

    def uncount_tx(self, pool: int, octets: int) -> None:
        """Take back a sent frame of so many octets without FCS: it was dropped before it left the pool."""
        self.tx_packets[pool] -= 1
        self.tx_octets[pool] -= octets + FCS

    def clear(self) -> None:
        """Begin at 0, as after a reset of the device."""
        for counts in (self.rx_packets, self.rx_octets, self.rx_multicast, self.tx_packets, self.tx_octets):
            counts[:] = [0] * pf.POOLS

    def _gprc(self, pool: int) -> int:
        return self.rx_packets[pool] & 0xFFFFFFFF

    def _gorc_lsb(self, pool: int) -> int:
        return self.rx_octets[pool] & 0xFFFFFFFF

    def _gorc_msb(self, pool: int) -> int:
        return self.rx_octets[pool] >> 32 & 0xF

    def _mprc(self, pool: int) -> int:
        return self.rx_multicast[pool] & 0xFFFFFFFF

    def _gptc(self, pool: int) -> int:
        return self.tx_packets[pool] & 0xFFFFFFFF

    def _gotc_lsb(self, pool: int) -> int:
        return self.tx_octets[pool] & 0xFFFFFFFF

    def _gotc_msb(self, pool: int) -> int:
        return self.tx_octets[pool] >> 32 & 0xF
