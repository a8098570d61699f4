# SPDX-License-Identifier: Apache-2.0
"""The VF's queues and interrupt vectors, in the order the driver writes their registers.

``drivers/net/ethernet/intel/ixgbevf/ixgbevf_main.c``, ``ixgbevf_configure_tx_ring()``,
``ixgbevf_configure_rx_ring()`` and ``ixgbevf_configure_msix()`` (Linux 6.12).
"""

from __future__ import annotations

from typing import Final

from vferry.nic.ixgbe.bar import VfBar
from vferry.nic.ixgbe.registers import vf
from vferry.nic.ixgbe.vf_driver.mailbox import Steps

__all__ = ["TXDCTL_ON", "Queues"]

TX_DESCRIPTORS: Final = 1024
RX_DESCRIPTORS: Final = 512
DESCRIPTOR_OCTETS: Final = 16
ENABLE_LOOKS: Final = 10
ENABLE_SECONDS: Final = 1e-3
"""A queue has ten times 1 to 2 ms to come up; the driver always waits once."""
DISABLE_LOOKS: Final = 10
DISABLE_SECONDS: Final = 10e-6

TXDCTL_ON: Final = vf.TXDCTL_ENABLE | 8 << 16 | 1 << 8 | 32
"""WTHRESH 8, HTHRESH 1, PTHRESH 32."""
SRRCTL: Final = vf.SRRCTL_DROP_EN | 0x02000000 | 4 << 8 | 2
"""One buffer for a packet, 256 octets of header, 2 KiB of packet."""
DCA_RXCTRL: Final = 1 << 9  # relaxed ordering of descriptor reads
DCA_TXCTRL: Final = 1 << 9 | 1 << 11 | 1 << 13
PSRTYPE: Final = 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 12


class Queues:
    """The queues of an open VF.

    :param dma_base: the bus address of the first ring; the others follow.
    """

    def __init__(self, bar: VfBar, dma_base: int) -> None:
        self._bar = bar
        self._dma_base = dma_base
        self.count = 1

    @property
    def mailbox_vector(self) -> int:
        """The MSI-X vector behind those of the queues."""
        return self.count

    def rebind(self, bar: VfBar) -> None:
        """Go on over another device's queues."""
        self._bar = bar

    def start_transmit(self) -> Steps:
        """Configure and enable the transmit queues."""
        for queue in range(self.count):
            self._write(vf.VFTXDCTL.address(queue), vf.TXDCTL_SWFLSH)
            self._write_ring(vf.VFTDBAL.address(queue), 2 * queue, TX_DESCRIPTORS)
            self._write(vf.VFTDWBAH.address(queue), 0)
            self._write(vf.VFTDWBAL.address(queue), 0)
            self._write(vf.VFDCA_TXCTRL.address(queue), DCA_TXCTRL)
            self._write(vf.VFTDH.address(queue), 0)
            self._write(vf.VFTDT.address(queue), 0)
            self._write(vf.VFTXDCTL.address(queue), TXDCTL_ON)
            if not (yield from self._wait_enabled(vf.VFTXDCTL.address(queue), vf.TXDCTL_ENABLE)):
                return False
        return True

    def start_receive(self) -> Steps:
        """Configure and enable the receive queues."""
        self._write(vf.VFPSRTYPE.offset, PSRTYPE | (1 << 29 if self.count > 1 else 0))
        for queue in range(self.count):
            yield from self._disable(queue)
            self._write_ring(vf.VFRDBAL.address(queue), 2 * queue + 1, RX_DESCRIPTORS)
            self._write(vf.VFDCA_RXCTRL.address(queue), DCA_RXCTRL)
            self._write(vf.VFRDH.address(queue), 0)
            self._write(vf.VFRDT.address(queue), 0)
            self._write(vf.VFSRRCTL.address(queue), SRRCTL)
            control = vf.VFRXDCTL.address(queue)
            self._write(control, self._bar.read(control) | vf.RXDCTL_ENABLE | vf.RXDCTL_VME)
            if not (yield from self._wait_enabled(control, vf.RXDCTL_ENABLE)):
                return False
            self._write(vf.VFRDT.address(queue), RX_DESCRIPTORS - 1)
        return True

    def stop_receive(self) -> Steps:
        """Disable the receive queues."""
        stopped = True
        for queue in range(self.count):
            stopped = (yield from self._disable(queue)) and stopped
        return stopped

    def flush_transmit(self) -> None:
        """Write back what the transmit queues hold, and disable them."""
        for queue in range(self.count):
            self._write(vf.VFTXDCTL.address(queue), vf.TXDCTL_SWFLSH)

    def configure_msix(self) -> None:
        """Give each queue pair a vector, and the mailbox the next one."""
        for queue in range(self.count):
            vector = queue | vf.IVAR_ALLOC_VAL
            offset, shift = vf.VTIVAR.address(queue // 2), 16 * (queue & 1)
            entry = vector | vector << 8
            self._write(offset, self._bar.read(offset) & ~(0xFFFF << shift) | entry << shift)
        self._write(vf.VTIVAR_MISC.offset, self.mailbox_vector | vf.IVAR_ALLOC_VAL)

    def enable_interrupts(self) -> None:
        """Drop what is pending and unmask all vectors."""
        self._bar.read(vf.VTEICR.offset)
        mask = (1 << self.mailbox_vector + 1) - 1
        for register in (vf.VTEIAM, vf.VTEIAC, vf.VTEIMS):
            self._write(register.offset, mask)

    def disable_interrupts(self) -> None:
        """Mask all vectors."""
        self._write(vf.VTEIAM.offset, 0)
        self._write(vf.VTEIMC.offset, vf.VECTORS_MASK)
        self._write(vf.VTEIAC.offset, 0)

    def unmask_mailbox(self) -> None:
        """Let the mailbox vector fire again."""
        self._write(vf.VTEIMS.offset, 1 << self.mailbox_vector)

    def _write(self, offset: int, value: int) -> None:
        self._bar.write(offset, value)

    def _write_ring(self, base_register: int, ring: int, descriptors: int) -> None:
        """Write address and length of a ring: three neighbouring registers."""
        octets = descriptors * DESCRIPTOR_OCTETS
        address = self._dma_base + ring * TX_DESCRIPTORS * DESCRIPTOR_OCTETS
        self._write(base_register, address & 0xFFFFFFFF)
        self._write(base_register + 4, address >> 32)
        self._write(base_register + 8, octets)

    def _wait_enabled(self, offset: int, bit: int) -> Steps:
        for _ in range(ENABLE_LOOKS):
            yield ENABLE_SECONDS
            if self._bar.read(offset) & bit:
                return True
        return False

    def _disable(self, queue: int) -> Steps:
        offset = vf.VFRXDCTL.address(queue)
        self._write(offset, self._bar.read(offset) & ~vf.RXDCTL_ENABLE)
        for _ in range(DISABLE_LOOKS):
            yield DISABLE_SECONDS
            if not self._bar.read(offset) & vf.RXDCTL_ENABLE:
                return True
        return False
