# SPDX-License-Identifier: Apache-2.0
"""The kernel's NICs: rtnetlink, devlink and sysfs behind :class:`vferry.ports.nic.Nic`.

========== =========================================================================================================
module     what it knows
========== =========================================================================================================
nic        :class:`LinuxNic`, which puts the others together
netlink    the socket, messages, attributes and acknowledgements, whatever the family
link       the requests to rtnetlink: RTM_GETLINK, RTM_SETLINK, and the armed change
linkinfo   decoding of RTM_NEWLINK into a reading
vfinfo     the VF attributes: their values, one block at a time, and their encoding
vfcolumns  the same list at once, where all its blocks have one layout
devlink    eswitch mode, port functions and rates by generic netlink
sysfs      PFs, VFs and their facts
users      who uses a VF
fdb        the PF's own forwarding entries: RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH
pci        configuration space: the words that a migration carries, capabilities, reset
ethtool    the firmware version
failure    errno to the typed errors of the port
========== =========================================================================================================

Reading and programming VF settings imports nothing beyond ``struct``, ``socket``, ``os`` and ``msgspec``: these verbs
run while a VM stands still.
"""

from __future__ import annotations

from vferry.nic.linux.nic import LinuxNic

__all__ = ["LinuxNic"]
