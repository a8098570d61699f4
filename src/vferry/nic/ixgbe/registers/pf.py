# SPDX-License-Identifier: Apache-2.0
"""The PF's address map (BAR0, 128 KiB): what the switch, the mailbox, the queues and a PF driver model use.

Names are the datasheet's, as Linux' ``ixgbe_type.h`` spells them; the bits of a register stand beside it as plain
ints named ``REGISTER_BIT``. Addresses and bits are those of ``ixgbe_type.h`` unless a line says otherwise; a reset
value that is not 0 says where it is from. Registers of the X540 and X550 only are left out.

Three tables are reached by software through a select register and so have no address in the BAR. They are declared
behind it (``QUEUE_RATE``, ``QUEUE_DROP``): ``peek`` reads them there without disturbing the selection.
"""

from __future__ import annotations

from typing import Final

from vferry.nic.ixgbe.registers.declare import Access, AddressMap, Alias, Field, Register, Reset, register

__all__ = ["BAR_SIZE", "CTRL", "CTRL_EXT", "CTRL_EXT_DRV_LOAD", "CTRL_EXT_PFRSTD", "CTRL_GIO_DIS", "CTRL_LNK_RST"]
__all__ += ["CTRL_RST", "DCA_RXCTRL", "DMATXCTL", "DMATXCTL_TE", "EIAC", "EIAM", "EICR", "EICR_LSC", "EICR_MAILBOX"]
__all__ += ["EICS", "EIMC", "EIMS", "EIMS_LSC", "EIMS_MAILBOX", "EITR", "ETQF", "ETQF_TX_ANTISPOOF", "FCTRL"]
__all__ += ["FCTRL_BAM", "FCTRL_MPE", "FCTRL_SBP", "FCTRL_UPE", "FRTIMER", "GCR_EXT", "GCR_EXT_BUFFERS_CLEAR"]
__all__ += ["GCR_EXT_MSIX_EN", "GCR_EXT_VT_MODE_16", "GCR_EXT_VT_MODE_32", "GCR_EXT_VT_MODE_64"]
__all__ += ["GCR_EXT_VT_MODE_MASK", "GPIE", "HIDDEN", "HLREG0", "HLREG0_JUMBOEN", "HLREG0_LPBK", "IVAR", "IVAR_MISC"]
__all__ += ["LINKS", "LINKS_SPEED_1G", "LINKS_SPEED_10G", "LINKS_SPEED_100M", "LINKS_SPEED_MASK", "LINKS_UP"]
__all__ += ["LVMMC_RX", "LVMMC_TX", "MAILBOX_WORDS", "MAXFRS", "MAXFRS_MFS_MASK", "MAXFRS_MFS_SHIFT", "MCSTCTRL"]
__all__ += ["MCSTCTRL_MFE", "MCSTCTRL_MO_MASK", "MHADD", "MHADD_MFS_MASK", "MHADD_MFS_SHIFT", "MPSAR_HI", "MPSAR_LO"]
__all__ += ["MRQC", "MRQC_MRQE_MASK", "MRQC_VMDQRSS32EN", "MRQC_VMDQRSS64EN", "MRQC_VMDQRT4TCEN", "MRQC_VMDQRT8TCEN"]
__all__ += ["MTA", "MTQC", "MTQC_32VF", "MTQC_64VF", "MTQC_RT_ENA", "MTQC_VT_ENA", "OOT", "PFDTXGSWC"]
__all__ += ["PFDTXGSWC_VT_LBEN", "PFMAILBOX", "PFMAILBOX_ACK", "PFMAILBOX_PFU", "PFMAILBOX_RVFU", "PFMAILBOX_STS"]
__all__ += ["PFMAILBOX_VFU", "PFMBICR", "PFMBICR_SHIFT", "PFMBICR_VFACK", "PFMBICR_VFREQ", "PFMBIMR", "PFMBMEM"]
__all__ += ["PFVFSPOOF", "PFVFSPOOF_MAC_MASK", "PFVFSPOOF_VLAN_MASK", "PFVFSPOOF_VLAN_SHIFT", "PF_MAP", "POOLS"]
__all__ += ["PSRTYPE", "PVFCTRL", "PVFDCA_RXCTRL", "PVFDCA_TXCTRL", "PVFGORC_LSB", "PVFGORC_MSB", "PVFGOTC_LSB"]
__all__ += ["PVFGOTC_MSB", "PVFGPRC", "PVFGPTC", "PVFMAILBOX", "PVFMPRC", "PVFPSRTYPE", "PVFRDBAH", "PVFRDBAL"]
__all__ += ["PVFRDH", "PVFRDLEN", "PVFRDT", "PVFRSCCTL", "PVFRXDCTL", "PVFSRRCTL", "PVFTDBAH", "PVFTDBAL", "PVFTDH"]
__all__ += ["PVFTDLEN", "PVFTDT", "PVFTDWBAH", "PVFTDWBAL", "PVFTXDCTL", "PVTEIAC", "PVTEIAM", "PVTEICR", "PVTEICS"]
__all__ += ["PVTEIMC", "PVTEIMS", "PVTIVAR_MISC", "QDE", "QDE_ENABLE", "QDE_HIDE_VLAN", "QDE_IDX_MASK"]
__all__ += ["QDE_IDX_SHIFT", "QDE_READ", "QDE_WRITE", "QUEUES", "QUEUE_DROP", "QUEUE_RATE", "RAH", "RAH_AV", "RAL"]
__all__ += ["RAR_ENTRIES", "RETA", "RSSRK", "RTTBCNRC", "RTTBCNRC_RF_DEC_MASK", "RTTBCNRC_RF_INT_MASK"]
__all__ += ["RTTBCNRC_RF_INT_SHIFT", "RTTBCNRC_RS_ENA", "RTTBCNRM", "RTTDQSEL", "RTTDQSEL_TXDQ_IDX_MASK", "RXCTRL"]
__all__ += ["RXCTRL_RXEN", "RXDCTL_ENABLE", "RXDCTL_VME", "RXMEMWRAP", "SPEC_UPDATE", "SRRCTL", "SRRCTL_DROP_EN"]
__all__ += ["SSVPC", "STATUS", "STATUS_GIO", "TXDCTL_ENABLE", "TXDCTL_SWFLSH", "TYPE_H", "UTA", "VFLRE", "VFLREC"]
__all__ += ["VFRE", "VFTA", "VFTE", "VLNCTRL", "VLNCTRL_VFE", "VLNCTRL_VME", "VLVF", "VLVFB", "VLVF_ENTRIES"]
__all__ += ["VLVF_VIEN", "VLVF_VLANID_MASK", "VMECM", "VMOLR", "VMOLR_AUPE", "VMOLR_BAM", "VMOLR_MPE", "VMOLR_ROMPE"]
__all__ += ["VMOLR_ROPE", "VMOLR_UPE", "VMOLR_VPE", "VMTXSW", "VMVIR", "VMVIR_VLANA_DEFAULT", "VMVIR_VLANA_MASK"]
__all__ += ["VMVIR_VLANA_NEVER", "VMVIR_VLAN_PRIO_SHIFT", "VMVIR_VLAN_TAG_MASK", "VMVIR_VLAN_VID_MASK", "VT_CTL"]
__all__ += ["VT_CTL_DIS_DEFPL", "VT_CTL_POOL_MASK", "VT_CTL_POOL_SHIFT", "VT_CTL_REPLEN", "VT_CTL_VT_ENABLE"]
__all__ += ["WQBR_RX", "WQBR_TX"]

TYPE_H: Final = "Linux 6.12 ixgbe_type.h"
OOT: Final = "Intel ixgbe 6.3.4 ixgbe_type.h"
SPEC_UPDATE: Final = "82599 Specification Update rev 3.1, software clarification 5"

BAR_SIZE: Final = 0x20000  # 128 KiB: the last register used is below 0x1_1054
POOLS: Final = 64
QUEUES: Final = 128

# --- the device ------------------------------------------------------------------------------------------------

CTRL = register("CTRL", 0x00000, fields=(Field("RST", 26, 1, Access.SC, "software reset"),), source=TYPE_H)
CTRL_GIO_DIS: Final = 1 << 2
CTRL_LNK_RST: Final = 1 << 3
CTRL_RST: Final = 1 << 26

STATUS = register(
    "STATUS",
    0x00008,
    access=Access.RO,
    fields=(Field("LAN_ID", 2, 2), Field("GIO", 19, doc="master requests are enabled")),
    reset=1 << 19,  # bus mastering is on as soon as a driver may look
    source=TYPE_H,
)
STATUS_GIO: Final = 1 << 19

CTRL_EXT = register(
    "CTRL_EXT",
    0x00018,
    fields=(Field("PFRSTD", 14, doc="PF reset done: clears RSTI and sets RSTD of every VF"), Field("DRV_LOAD", 28)),
    source=TYPE_H,
)
CTRL_EXT_PFRSTD: Final = 1 << 14
CTRL_EXT_DRV_LOAD: Final = 1 << 28

FRTIMER = register("FRTIMER", 0x00048, access=Access.RO, source=f"{TYPE_H}; microseconds, free running")

LINKS = register("LINKS", 0x042A4, access=Access.RO, fields=(Field("SPEED", 28, 2), Field("UP", 30)), source=TYPE_H)
LINKS_UP: Final = 0x40000000
LINKS_SPEED_MASK: Final = 0x30000000
LINKS_SPEED_10G: Final = 0x30000000
LINKS_SPEED_1G: Final = 0x20000000
LINKS_SPEED_100M: Final = 0x10000000

GCR_EXT = register(
    "GCR_EXT",
    0x11050,
    fields=(Field("VT_MODE", 0, 2), Field("BUFFERS_CLEAR", 30), Field("MSIX_EN", 31)),
    source=TYPE_H,
)
GCR_EXT_VT_MODE_MASK: Final = 0x3
GCR_EXT_VT_MODE_16: Final = 1
GCR_EXT_VT_MODE_32: Final = 2
GCR_EXT_VT_MODE_64: Final = 3
GCR_EXT_BUFFERS_CLEAR: Final = 1 << 30
GCR_EXT_MSIX_EN: Final = 1 << 31

RXCTRL = register("RXCTRL", 0x03000, fields=(Field("RXEN", 0),), source=TYPE_H)
RXCTRL_RXEN: Final = 1
RXMEMWRAP = register("RXMEMWRAP", 0x03190, access=Access.RO, source=TYPE_H)
DMATXCTL = register("DMATXCTL", 0x04A80, fields=(Field("TE", 0),), source=TYPE_H)
DMATXCTL_TE: Final = 1

# --- interrupts ------------------------------------------------------------------------------------------------

EICR = register(
    "EICR",
    0x00800,
    access=Access.RC_W1C,
    fields=(Field("RTX_QUEUE", 0, 16), Field("MAILBOX", 19), Field("LSC", 20)),
    source=f"{TYPE_H}; cleared by a read or by writing 1, as ixgbe_msix_other() relies on",
)
EICR_MAILBOX: Final = 0x00080000
EICR_LSC: Final = 0x00100000
EICS = register("EICS", 0x00808, access=Access.W1S, source=f"{TYPE_H}; reads EICR without clearing it")
EIMS = register("EIMS", 0x00880, access=Access.W1S, source=TYPE_H)
EIMC = register("EIMC", 0x00888, access=Access.WO, source=f"{TYPE_H}; writing 1 clears the bit in EIMS")
EIAC = register("EIAC", 0x00810, source=TYPE_H)
EIAM = register("EIAM", 0x00890, source=TYPE_H)
GPIE = register("GPIE", 0x00898, source=TYPE_H)
EITR = register("EITR", 0x00820, count=24, source=TYPE_H)
IVAR = register("IVAR", 0x00900, count=64, source=TYPE_H)
IVAR_MISC = register("IVAR_MISC", 0x00A00, source=TYPE_H)
EIMS_MAILBOX: Final = EICR_MAILBOX
EIMS_LSC: Final = EICR_LSC

# --- receive filters of the port ---------------------------------------------------------------------------------

FCTRL = register(
    "FCTRL", 0x05080, fields=(Field("SBP", 1), Field("MPE", 8), Field("UPE", 9), Field("BAM", 10)), source=TYPE_H
)
FCTRL_SBP: Final = 1 << 1
FCTRL_MPE: Final = 1 << 8
FCTRL_UPE: Final = 1 << 9
FCTRL_BAM: Final = 1 << 10
VLNCTRL = register(
    "VLNCTRL",
    0x05088,
    fields=(Field("VET", 0, 16, doc="VLAN Ether type"), Field("VFE", 30), Field("VME", 31)),
    reset=0x8100,  # the 802.1Q Ether type
    source=TYPE_H,
)
VLNCTRL_VFE: Final = 1 << 30
VLNCTRL_VME: Final = 1 << 31
MCSTCTRL = register("MCSTCTRL", 0x05090, fields=(Field("MO", 0, 2), Field("MFE", 2)), source=TYPE_H)
MCSTCTRL_MO_MASK: Final = 0x3
MCSTCTRL_MFE: Final = 1 << 2
ETQF = register("ETQF", 0x05128, count=8, source=TYPE_H)
ETQF_TX_ANTISPOOF: Final = 1 << 29
MTA = register("MTA", 0x05200, count=128, source=TYPE_H)
UTA = register("UTA", 0x0F400, count=128, source=TYPE_H)
VFTA = register("VFTA", 0x0A000, count=128, source=TYPE_H)

RAR_ENTRIES: Final = 128
_RAR_HIGH: Final = 0xA200 + 8 * 16  # entries 16 to 127 stand at 0xA200 + 8 i
RAL = register("RAL", 0x05400, count=16, stride=8, then=((_RAR_HIGH, 112),), source=TYPE_H)
RAH = register(
    "RAH",
    0x05404,
    count=16,
    stride=8,
    then=((_RAR_HIGH + 4, 112),),
    fields=(Field("RAH", 0, 16), Field("AV", 31, doc="address valid")),
    source=TYPE_H,
)
RAH_AV: Final = 1 << 31
MPSAR_LO = register("MPSAR_LO", 0x0A600, count=RAR_ENTRIES, stride=8, source=f"{TYPE_H}; pools 0 to 31")
MPSAR_HI = register("MPSAR_HI", 0x0A604, count=RAR_ENTRIES, stride=8, source=f"{TYPE_H}; pools 32 to 63")

HLREG0 = register("HLREG0", 0x04240, fields=(Field("JUMBOEN", 2), Field("LPBK", 15)), source=TYPE_H)
HLREG0_JUMBOEN: Final = 1 << 2
HLREG0_LPBK: Final = 1 << 15
MHADD = register(
    "MHADD",
    0x04268,
    fields=(Field("MFS", 16, 16, doc="greatest frame, in octets with the FCS"),),
    reset=1518 << 16,  # the greatest untagged Ethernet frame (IEEE 802.3); the PF driver only ever raises it
    source=TYPE_H,
)
MAXFRS: Final = MHADD
MHADD_MFS_SHIFT: Final = 16
MHADD_MFS_MASK: Final = 0xFFFF0000
MAXFRS_MFS_SHIFT: Final = MHADD_MFS_SHIFT
MAXFRS_MFS_MASK: Final = MHADD_MFS_MASK

RETA = register("RETA", 0x05C00, count=32, source=TYPE_H)
RSSRK = register("RSSRK", 0x05C80, count=10, source=TYPE_H)
MRQC = register("MRQC", 0x05818, fields=(Field("MRQE", 0, 4),), source=TYPE_H)
MRQC_MRQE_MASK: Final = 0xF
MRQC_VMDQRSS32EN: Final = 0xA
MRQC_VMDQRSS64EN: Final = 0xB
MRQC_VMDQRT8TCEN: Final = 0xC
MRQC_VMDQRT4TCEN: Final = 0xD
MTQC = register("MTQC", 0x08120, source=TYPE_H)
MTQC_RT_ENA: Final = 0x1
MTQC_VT_ENA: Final = 0x2
MTQC_64VF: Final = 0x4
MTQC_32VF: Final = 0x8

# --- pools and the internal switch ---------------------------------------------------------------------------------

VT_CTL = register(
    "VT_CTL",
    0x051B0,
    fields=(Field("VT_ENABLE", 0), Field("POOL", 7, 6), Field("DIS_DEFPL", 29), Field("REPLEN", 30)),
    source=TYPE_H,
)
VT_CTL_VT_ENABLE: Final = 1
VT_CTL_POOL_SHIFT: Final = 7
VT_CTL_POOL_MASK: Final = 0x3F << 7
VT_CTL_DIS_DEFPL: Final = 1 << 29
VT_CTL_REPLEN: Final = 1 << 30
VFRE = register("VFRE", 0x051E0, count=2, source=TYPE_H)
VFTE = register("VFTE", 0x08110, count=2, source=TYPE_H)
VMECM = register("VMECM", 0x08790, count=2, source=TYPE_H)
SSVPC = register(
    "SSVPC", 0x08780, access=Access.RC, source=f"{TYPE_H}; cleared by a read (82599 datasheet, statistics)"
)
PFVFSPOOF = register("PFVFSPOOF", 0x08200, count=8, source=f"{TYPE_H}; eight VFs each")
PFVFSPOOF_MAC_MASK: Final = 0x000000FF
PFVFSPOOF_VLAN_SHIFT: Final = 8
PFVFSPOOF_VLAN_MASK: Final = 0x0000FF00
PFDTXGSWC = register("PFDTXGSWC", 0x08220, fields=(Field("VT_LBEN", 0),), source=TYPE_H)
PFDTXGSWC_VT_LBEN: Final = 1
VMTXSW = register("VMTXSW", 0x05180, count=2, source=TYPE_H)
VMOLR = register(
    "VMOLR",
    0x0F000,
    count=POOLS,
    fields=tuple(
        Field(name, low)
        for name, low in (("UPE", 22), ("VPE", 23), ("AUPE", 24), ("ROMPE", 25), ("ROPE", 26), ("BAM", 27), ("MPE", 28))
    ),
    source=TYPE_H,
)
VMOLR_UPE: Final = 1 << 22
VMOLR_VPE: Final = 1 << 23
VMOLR_AUPE: Final = 1 << 24
VMOLR_ROMPE: Final = 1 << 25
VMOLR_ROPE: Final = 1 << 26
VMOLR_BAM: Final = 1 << 27
VMOLR_MPE: Final = 1 << 28
VMVIR = register(
    "VMVIR",
    0x08000,
    count=POOLS,
    fields=(Field("VID", 0, 12), Field("PRIO", 13, 3), Field("VLANA", 30, 2)),
    source=TYPE_H,
)
VMVIR_VLAN_VID_MASK: Final = 0x0FFF
VMVIR_VLAN_PRIO_SHIFT: Final = 13
VMVIR_VLAN_TAG_MASK: Final = 0xFFFF
VMVIR_VLANA_DEFAULT: Final = 0x40000000
VMVIR_VLANA_NEVER: Final = 0x80000000
VMVIR_VLANA_MASK: Final = 0xC0000000
VLVF_ENTRIES: Final = 64
VLVF = register("VLVF", 0x0F100, count=VLVF_ENTRIES, fields=(Field("VID", 0, 12), Field("VIEN", 31)), source=TYPE_H)
VLVF_VIEN: Final = 1 << 31
VLVF_VLANID_MASK: Final = 0x0FFF
VLVFB = register("VLVFB", 0x0F200, count=2 * VLVF_ENTRIES, source=f"{TYPE_H}; entry i, pool p: word 2 i + p / 32")

# --- malicious drivers -----------------------------------------------------------------------------------------------

WQBR_RX = register("WQBR_RX", 0x02FB0, count=4, access=Access.W1C, source=TYPE_H)
WQBR_TX = register("WQBR_TX", 0x08130, count=4, access=Access.W1C, source=TYPE_H)
LVMMC_RX = register("LVMMC_RX", 0x02FA8, access=Access.RC, source=f"{TYPE_H}; the driver only ever reads it")
LVMMC_TX = register("LVMMC_TX", 0x08108, access=Access.RC, source=f"{TYPE_H}; the driver only ever reads it")

# --- tables behind a select register ---------------------------------------------------------------------------------

QDE = register(
    "QDE",
    0x02F04,
    fields=(
        Field("ENABLE", 0),
        Field("HIDE_VLAN", 1),
        Field("QUEUE", 8, 7),
        Field("WRITE", 16, 1, Access.SC, "stores ENABLE and HIDE_VLAN for QUEUE"),
        Field("READ", 17, 1, Access.SC, "fetches ENABLE and HIDE_VLAN of QUEUE"),
    ),
    source=f"{TYPE_H}; READ: {OOT}",
)
QDE_ENABLE: Final = 1
QDE_HIDE_VLAN: Final = 1 << 1
QDE_IDX_SHIFT: Final = 8
QDE_IDX_MASK: Final = 0x7F << 8
QDE_WRITE: Final = 1 << 16
QDE_READ: Final = 1 << 17
RTTDQSEL = register("RTTDQSEL", 0x04904, fields=(Field("TXDQ_IDX", 0, 7),), source=TYPE_H)
RTTDQSEL_TXDQ_IDX_MASK: Final = 0x7F
RTTBCNRM = register("RTTBCNRM", 0x04980, source=TYPE_H)
RTTBCNRC = register(
    "RTTBCNRC",
    0x04984,
    fields=(Field("RF_DEC", 0, 14), Field("RF_INT", 14, 14), Field("RS_ENA", 31)),
    source=f"{TYPE_H}; of the queue selected by RTTDQSEL",
)
RTTBCNRC_RS_ENA: Final = 1 << 31
RTTBCNRC_RF_INT_SHIFT: Final = 14
RTTBCNRC_RF_DEC_MASK: Final = 0x00003FFF
RTTBCNRC_RF_INT_MASK: Final = 0x0FFFC000
QUEUE_RATE = register("QUEUE_RATE", BAR_SIZE, count=QUEUES, source="RTTBCNRC of each transmit queue")
QUEUE_DROP = register(
    "QUEUE_DROP", BAR_SIZE + 4 * QUEUES, count=QUEUES, source="QDE's low two bits of each receive queue"
)

# --- mailbox and VF resets -------------------------------------------------------------------------------------------

MAILBOX_WORDS: Final = 16
PFMAILBOX = register(
    "PFMAILBOX",
    0x04B00,
    count=POOLS,
    fields=(
        Field("STS", 0, 1, Access.SC, "a message is in the VF's mailbox"),
        Field("ACK", 1, 1, Access.SC, "the VF's message was taken"),
        Field("VFU", 2, 1, Access.RO, "the VF owns the buffer"),
        Field("PFU", 3, 1, Access.RW, "the PF owns the buffer"),
        Field("RVFU", 4, 1, Access.SC, "take the buffer away from the VF"),
    ),
    access=Access.RO,
    source=TYPE_H,
)
PFMAILBOX_STS: Final = 0x01
PFMAILBOX_ACK: Final = 0x02
PFMAILBOX_VFU: Final = 0x04
PFMAILBOX_PFU: Final = 0x08
PFMAILBOX_RVFU: Final = 0x10
PVFMAILBOX = register(
    "PVFMAILBOX",
    0x04C00,
    count=POOLS,
    access=Access.RO,
    reset=0x40,  # RSTI, until the PF driver says CTRL_EXT.PFRSTD
    source=f"{OOT}; whether reading the view clears as reading VFMAILBOX does is not known: here it does not",
)
PFMBMEM = register(
    "PFMBMEM", 0x13000, count=POOLS * MAILBOX_WORDS, resets=Reset.POWER_ON, source=f"{TYPE_H}; word i of VF v: 16 v + i"
)
PFMBICR = register(
    "PFMBICR",
    0x00710,
    count=4,
    access=Access.W1C,
    fields=(Field("VFREQ", 0, 16), Field("VFACK", 16, 16)),
    source=f"{TYPE_H}; sixteen VFs each",
)
PFMBICR_VFREQ: Final = 0x00000001
PFMBICR_VFACK: Final = 0x00010000
PFMBICR_SHIFT: Final = 4  # VF v stands in word v >> 4, bit v & 15
PFMBIMR = register(
    "PFMBIMR",
    0x00720,
    count=4,
    reset=0xFFFFFFFF,  # the Linux driver never writes it and still gets the interrupts
    source=TYPE_H,
)
VFLRE = register(
    "VFLRE", 0x00600, then=((0x001C0, 1),), access=Access.RO, source=f"{TYPE_H}; the 82599's two addresses"
)
VFLREC = register("VFLREC", 0x00700, count=2, access=Access.WO, source=f"{TYPE_H}; writing 1 clears the bit in VFLRE")

# --- the PF's view of the VFs (P = pool) -----------------------------------------------------------------------------

PVFCTRL = register("PVFCTRL", 0x00300, count=POOLS, access=Access.WO, source=OOT)
PVTEICR = register("PVTEICR", 0x00B00, count=POOLS, access=Access.RC_W1C, fields=(Field("MSIX", 0, 3),), source=OOT)
PVTEICS = register("PVTEICS", 0x00C00, count=POOLS, access=Access.WO, source=OOT)
PVTEIMS = register(
    "PVTEIMS", 0x00D00, count=POOLS, access=Access.RO, fields=(Field("MSIX", 0, 3, Access.W1S),), source=OOT
)
PVTEIMC = register("PVTEIMC", 0x00E00, count=POOLS, access=Access.WO, source=OOT)
PVTEIAC = register("PVTEIAC", 0x00F00, count=POOLS, source=OOT)
PVTEIAM = register("PVTEIAM", 0x04D00, count=POOLS, source=OOT)
PVTIVAR_MISC = register("PVTIVAR_MISC", 0x04E00, count=POOLS, source=OOT)
PVFPSRTYPE = register("PVFPSRTYPE", 0x0EA00, count=POOLS, source=TYPE_H)
PSRTYPE: Final = PVFPSRTYPE

# --- queues (Q = global queue: pool * queues per pool + queue) -------------------------------------------------------


def _receive(name: str, low: int) -> Register:
    """Declare a receive queue register: queues 0 to 63 in one page, 64 to 127 in another."""
    return register(name, 0x1000 + low, count=64, stride=0x40, then=((0xD000 + low, 64),), source=TYPE_H)


def _transmit(name: str, low: int, fields: tuple[Field, ...] = ()) -> Register:
    """Declare a transmit queue register."""
    return register(name, 0x6000 + low, count=QUEUES, stride=0x40, fields=fields, source=TYPE_H)


PVFRDBAL = _receive("PVFRDBAL", 0x00)
PVFRDBAH = _receive("PVFRDBAH", 0x04)
PVFRDLEN = _receive("PVFRDLEN", 0x08)
PVFDCA_RXCTRL = _receive("PVFDCA_RXCTRL", 0x0C)
PVFRDH = _receive("PVFRDH", 0x10)
PVFSRRCTL = _receive("PVFSRRCTL", 0x14)
PVFRDT = _receive("PVFRDT", 0x18)
PVFRXDCTL = _receive("PVFRXDCTL", 0x28)
PVFRSCCTL = _receive("PVFRSCCTL", 0x2C)
SRRCTL = register("SRRCTL", 0x02100, count=16, source=f"{TYPE_H}; queues 0 to 15", alias=Alias(PVFSRRCTL))
DCA_RXCTRL = register("DCA_RXCTRL", 0x02200, count=16, source=f"{TYPE_H}; queues 0 to 15", alias=Alias(PVFDCA_RXCTRL))
PVFTDBAL = _transmit("PVFTDBAL", 0x00)
PVFTDBAH = _transmit("PVFTDBAH", 0x04)
PVFTDLEN = _transmit("PVFTDLEN", 0x08)
PVFDCA_TXCTRL = _transmit("PVFDCA_TXCTRL", 0x0C)
PVFTDH = _transmit("PVFTDH", 0x10)
PVFTDT = _transmit("PVFTDT", 0x18)
PVFTXDCTL = _transmit(
    "PVFTXDCTL", 0x28, (Field("ENABLE", 25), Field("SWFLSH", 26, 1, Access.SC, "write back what is held"))
)
PVFTDWBAL = _transmit("PVFTDWBAL", 0x38)
PVFTDWBAH = _transmit("PVFTDWBAH", 0x3C)
TXDCTL_ENABLE: Final = 1 << 25
TXDCTL_SWFLSH: Final = 1 << 26
RXDCTL_ENABLE: Final = 1 << 25
RXDCTL_VME: Final = 1 << 30
SRRCTL_DROP_EN: Final = 1 << 28

# --- counters of a pool ----------------------------------------------------------------------------------------------


def _counter(name: str, offset: int, stride: int, fields: tuple[Field, ...] = ()) -> Register:
    """Declare a counter: it wraps and no read clears it (the driver takes differences)."""
    return register(name, offset, count=POOLS, stride=stride, access=Access.RO, fields=fields, source=TYPE_H)


_MSB: Final = (Field("MSB", 0, 4, doc="bits 35:32 of the octets"),)
PVFGPRC = _counter("PVFGPRC", 0x0101C, 0x40)
PVFGORC_LSB = _counter("PVFGORC_LSB", 0x01020, 0x40)
PVFGORC_MSB = _counter("PVFGORC_MSB", 0x0D020, 0x40, _MSB)
PVFMPRC = _counter("PVFMPRC", 0x0D01C, 0x40)
PVFGPTC = _counter("PVFGPTC", 0x08300, 4)
PVFGOTC_LSB = _counter("PVFGOTC_LSB", 0x08400, 8)
PVFGOTC_MSB = _counter("PVFGOTC_MSB", 0x08404, 8, _MSB)

HIDDEN: Final = (QUEUE_RATE, QUEUE_DROP)
PF_MAP: Final = AddressMap(
    "PF BAR0",
    BAR_SIZE,
    tuple(
        {id(item): item for item in list(vars().values()) if isinstance(item, Register) and item not in HIDDEN}.values()
    ),
    HIDDEN,
)
