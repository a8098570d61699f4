# SPDX-License-Identifier: Apache-2.0
"""A VF's address map (BAR0, 16 KiB): what the guest's driver sees.

Names and addresses are those of Linux' ``ixgbevf/regs.h`` and ``ixgbevf/defines.h``. Most registers are another
address of storage that the PF sees too (``alias``): those of a VF's queue ``q`` are the PF's of global queue
``vf * queues_per_pool + q``, those of the VF itself are the PF's of pool ``vf``. ``VIEWS`` says which is which
(the ``PVF*`` macros of Intel's ``ixgbe_type.h``). The PF has views of VTIVAR, VTEITR and VTRSCINT too; how their
index counts VFs is not known, so these are the VF's alone here.

What a function level reset leaves alone is :data:`KEPT` (82599 Specification Update rev 3.1, software
clarification 5: heads and tails, PSRTYPE, SRRCTL, RXDCTL, TXDCTL, TDWBAL/H and the two DCA controls "need to be
configured by PF or VF in case of a change to a new configuration"). That a software reset (VFCTRL.RST) resets the
same registers is taken from the PF driver, which treats both alike through VFLRE.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from vferry.nic.ixgbe.registers import pf
from vferry.nic.ixgbe.registers.declare import (
    ALL_RESETS,
    PF_RESETS,
    Access,
    AddressMap,
    Field,
    Register,
    Reset,
    register,
)

__all__ = ["BAR_SIZE", "DEFINES_H", "IVAR_ALLOC_VAL", "KEPT", "NOT_BY_VFLR", "REGS_H", "RXDCTL_ENABLE", "RXDCTL_VME"]
__all__ += ["SRRCTL_DROP_EN", "TXDCTL_ENABLE", "TXDCTL_SWFLSH", "VECTORS", "VECTORS_MASK", "VFCTRL", "VFCTRL_RST"]
__all__ += ["VFDCA_RXCTRL", "VFDCA_TXCTRL", "VFFRTIMER", "VFGORC_LSB", "VFGORC_MSB", "VFGOTC_LSB", "VFGOTC_MSB"]
__all__ += ["VFGPRC", "VFGPTC", "VFLINKS", "VFLINKS_SPEED_1G", "VFLINKS_SPEED_10G", "VFLINKS_SPEED_100M"]
__all__ += ["VFLINKS_SPEED_MASK", "VFLINKS_UP", "VFMAILBOX", "VFMAILBOX_ACK", "VFMAILBOX_PFACK", "VFMAILBOX_PFSTS"]
__all__ += ["VFMAILBOX_PFU", "VFMAILBOX_R2C_BITS", "VFMAILBOX_REQ", "VFMAILBOX_RSTD", "VFMAILBOX_RSTI"]
__all__ += ["VFMAILBOX_VFU", "VFMBMEM", "VFMPRC", "VFPSRTYPE", "VFRDBAH", "VFRDBAL", "VFRDH", "VFRDLEN", "VFRDT"]
__all__ += ["VFRSCCTL", "VFRXDCTL", "VFRXMEMWRAP", "VFSRRCTL", "VFSTATUS", "VFTDBAH", "VFTDBAL", "VFTDH", "VFTDLEN"]
__all__ += ["VFTDT", "VFTDWBAH", "VFTDWBAL", "VFTXDCTL", "VF_MAP", "VF_QUEUES", "VIEWS", "VTEIAC", "VTEIAM", "VTEICR"]
__all__ += ["VTEICS", "VTEIMC", "VTEIMS", "VTEITR", "VTIVAR", "VTIVAR_MISC", "VTRSCINT", "Per", "View"]

REGS_H: Final = "Linux 6.12 ixgbevf/regs.h"
DEFINES_H: Final = "Linux 6.12 ixgbevf/defines.h"
NOT_BY_VFLR: Final = f"{REGS_H}; not reset by VFLR: {pf.SPEC_UPDATE}"

BAR_SIZE: Final = 0x4000  # 16 KiB
VF_QUEUES: Final = 8
VECTORS: Final = 3  # two queue vectors and one for the mailbox
VECTORS_MASK: Final = 0x7

# --- the function --------------------------------------------------------------------------------------------------

VFCTRL = register(
    "VFCTRL", 0x0000, access=Access.WO, fields=(Field("RST", 26, 1, Access.SC),), resets=ALL_RESETS, source=REGS_H
)
VFCTRL_RST: Final = 0x04000000
VFSTATUS = register("VFSTATUS", 0x0008, access=Access.RO, reset=pf.STATUS.reset, source=REGS_H)
VFLINKS = register(
    "VFLINKS", 0x0010, access=Access.RO, fields=(Field("SPEED", 28, 2), Field("UP", 30)), source=DEFINES_H
)
VFLINKS_UP: Final = pf.LINKS_UP
VFLINKS_SPEED_MASK: Final = pf.LINKS_SPEED_MASK
VFLINKS_SPEED_10G: Final = pf.LINKS_SPEED_10G
VFLINKS_SPEED_1G: Final = pf.LINKS_SPEED_1G
VFLINKS_SPEED_100M: Final = pf.LINKS_SPEED_100M
VFFRTIMER = register("VFFRTIMER", 0x0048, access=Access.RO, source=f"{REGS_H}; microseconds, free running")
VFRXMEMWRAP = register("VFRXMEMWRAP", 0x3190, access=Access.RO, source=REGS_H)
VFPSRTYPE = register("VFPSRTYPE", 0x0300, resets=PF_RESETS, source=NOT_BY_VFLR)

# --- interrupts ----------------------------------------------------------------------------------------------------

_CAUSES: Final = (Field("MSIX", 0, VECTORS),)
VTEICR = register("VTEICR", 0x0100, access=Access.RC_W1C, fields=_CAUSES, resets=ALL_RESETS, source=REGS_H)
VTEICS = register("VTEICS", 0x0104, access=Access.WO, fields=_CAUSES, resets=ALL_RESETS, source=REGS_H)
VTEIMS = register(
    "VTEIMS",
    0x0108,
    access=Access.RO,
    fields=(Field("MSIX", 0, VECTORS, Access.W1S),),
    resets=ALL_RESETS,
    source=REGS_H,
)
VTEIMC = register("VTEIMC", 0x010C, access=Access.WO, fields=_CAUSES, resets=ALL_RESETS, source=REGS_H)
VTEIAC = register("VTEIAC", 0x0110, fields=_CAUSES, resets=ALL_RESETS, source=REGS_H)
VTEIAM = register("VTEIAM", 0x0114, fields=_CAUSES, resets=ALL_RESETS, source=REGS_H)
VTIVAR = register("VTIVAR", 0x0120, count=4, resets=ALL_RESETS, source=REGS_H)
VTIVAR_MISC = register("VTIVAR_MISC", 0x0140, resets=ALL_RESETS, source=REGS_H)
IVAR_ALLOC_VAL: Final = 0x80  # the entry is valid
VTRSCINT = register("VTRSCINT", 0x0180, count=VECTORS, resets=ALL_RESETS, source=REGS_H)
VTEITR = register("VTEITR", 0x0820, count=VECTORS, resets=ALL_RESETS, source=REGS_H)

# --- mailbox -------------------------------------------------------------------------------------------------------

VFMBMEM = register("VFMBMEM", 0x0200, count=pf.MAILBOX_WORDS, resets=Reset.POWER_ON, source=REGS_H)
VFMAILBOX = register(
    "VFMAILBOX",
    0x02FC,
    access=Access.RO,
    fields=(
        Field("REQ", 0, 1, Access.SC, "a message is in the PF's mailbox"),
        Field("ACK", 1, 1, Access.SC, "the PF's message was taken"),
        Field("VFU", 2, 1, Access.RW, "the VF owns the buffer"),
        Field("PFU", 3, 1, Access.RO, "the PF owns the buffer"),
        Field("PFSTS", 4, 1, Access.RC, "the PF sent a message"),
        Field("PFACK", 5, 1, Access.RC, "the PF took the message"),
        Field("RSTI", 6, 1, Access.RO, "the PF's reset is under way"),
        Field("RSTD", 7, 1, Access.RC, "the PF's reset is done"),
    ),
    reset=0x40,  # RSTI, until the PF driver says CTRL_EXT.PFRSTD; a reset of the VF: see mailbox.py
    source="Linux 6.12 ixgbevf/mbx.h",
)
VFMAILBOX_REQ: Final = 0x01
VFMAILBOX_ACK: Final = 0x02
VFMAILBOX_VFU: Final = 0x04
VFMAILBOX_PFU: Final = 0x08
VFMAILBOX_PFSTS: Final = 0x10
VFMAILBOX_PFACK: Final = 0x20
VFMAILBOX_RSTI: Final = 0x40
VFMAILBOX_RSTD: Final = 0x80
VFMAILBOX_R2C_BITS: Final = 0xB0

# --- queues --------------------------------------------------------------------------------------------------------

TXDCTL_ENABLE: Final = pf.TXDCTL_ENABLE
TXDCTL_SWFLSH: Final = pf.TXDCTL_SWFLSH
RXDCTL_ENABLE: Final = pf.RXDCTL_ENABLE
RXDCTL_VME: Final = pf.RXDCTL_VME
SRRCTL_DROP_EN: Final = pf.SRRCTL_DROP_EN


def _queue(name: str, offset: int, *, kept: bool = False, fields: tuple[Field, ...] = ()) -> Register:
    """Declare a register of each queue; `kept` ones survive a reset of the VF."""
    return register(
        name,
        offset,
        count=VF_QUEUES,
        stride=0x40,
        fields=fields,
        resets=PF_RESETS if kept else ALL_RESETS,
        source=NOT_BY_VFLR if kept else REGS_H,
    )


VFRDBAL = _queue("VFRDBAL", 0x1000)
VFRDBAH = _queue("VFRDBAH", 0x1004)
VFRDLEN = _queue("VFRDLEN", 0x1008)
VFDCA_RXCTRL = _queue("VFDCA_RXCTRL", 0x100C, kept=True)
VFRDH = _queue("VFRDH", 0x1010, kept=True)
VFSRRCTL = _queue("VFSRRCTL", 0x1014, kept=True)
VFRDT = _queue("VFRDT", 0x1018, kept=True)
VFRXDCTL = _queue("VFRXDCTL", 0x1028, kept=True)
VFRSCCTL = _queue("VFRSCCTL", 0x102C)
VFTDBAL = _queue("VFTDBAL", 0x2000)
VFTDBAH = _queue("VFTDBAH", 0x2004)
VFTDLEN = _queue("VFTDLEN", 0x2008)
VFDCA_TXCTRL = _queue("VFDCA_TXCTRL", 0x200C, kept=True)
VFTDH = _queue("VFTDH", 0x2010, kept=True)
VFTDT = _queue("VFTDT", 0x2018, kept=True)
VFTXDCTL = _queue("VFTXDCTL", 0x2028, kept=True, fields=pf.PVFTXDCTL.fields)
VFTDWBAL = _queue("VFTDWBAL", 0x2038, kept=True)
VFTDWBAH = _queue("VFTDWBAH", 0x203C, kept=True)

# --- counters ------------------------------------------------------------------------------------------------------


def _counter(name: str, offset: int) -> Register:
    """Declare a counter: no read and no reset of the VF clears it."""
    return register(name, offset, access=Access.RO, resets=PF_RESETS, source=REGS_H)


VFGPRC = _counter("VFGPRC", 0x101C)
VFGORC_LSB = _counter("VFGORC_LSB", 0x1020)
VFGORC_MSB = _counter("VFGORC_MSB", 0x1024)
VFMPRC = _counter("VFMPRC", 0x1034)
VFGPTC = _counter("VFGPTC", 0x201C)
VFGOTC_LSB = _counter("VFGOTC_LSB", 0x2020)
VFGOTC_MSB = _counter("VFGOTC_MSB", 0x2024)

VF_MAP: Final = AddressMap(
    "VF BAR0", BAR_SIZE, tuple(item for item in list(vars().values()) if isinstance(item, Register))
)


class Per(enum.Enum):
    """By what the PF's storage of a VF's register is counted."""

    DEVICE = "one for the whole device"
    POOL = "one for each pool"
    POOL_WORDS = "sixteen mailbox words for each pool"
    QUEUE = "one for each global queue"


class View(msgspec.Struct, frozen=True):
    """A VF's register and the PF's register that is the same storage."""

    vf: Register
    pf: Register
    per: Per


KEPT: Final = tuple(item for item in VF_MAP if item.source == NOT_BY_VFLR)
VIEWS: Final = (
    View(VFSTATUS, pf.STATUS, Per.DEVICE),
    View(VFLINKS, pf.LINKS, Per.DEVICE),
    View(VFFRTIMER, pf.FRTIMER, Per.DEVICE),
    View(VFRXMEMWRAP, pf.RXMEMWRAP, Per.DEVICE),
    View(VFCTRL, pf.PVFCTRL, Per.POOL),
    View(VFPSRTYPE, pf.PVFPSRTYPE, Per.POOL),
    View(VTEICR, pf.PVTEICR, Per.POOL),
    View(VTEIMS, pf.PVTEIMS, Per.POOL),
    View(VTEIAC, pf.PVTEIAC, Per.POOL),
    View(VTEIAM, pf.PVTEIAM, Per.POOL),
    View(VTIVAR_MISC, pf.PVTIVAR_MISC, Per.POOL),
    View(VFMAILBOX, pf.PVFMAILBOX, Per.POOL),
    View(VFMBMEM, pf.PFMBMEM, Per.POOL_WORDS),
    *(View(item, pf.PF_MAP.named("P" + item.name), Per.QUEUE) for item in VF_MAP if item.count == VF_QUEUES),
    *(
        View(item, pf.PF_MAP.named("P" + item.name), Per.POOL)
        for item in (VFGPRC, VFGORC_LSB, VFGORC_MSB, VFMPRC, VFGPTC, VFGOTC_LSB, VFGOTC_MSB)
    ),
)
