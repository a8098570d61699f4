# SPDX-License-Identifier: Apache-2.0
"""The firmware version of a NIC, by ``ETHTOOL_GDRVINFO``: sysfs has no generic place for it.

Numbers: ``include/uapi/linux/ethtool.h``, ``sockios.h``, ``if.h``.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct

__all__ = ["firmware_version"]

SIOCETHTOOL = 0x8946
ETHTOOL_GDRVINFO = 0x3

_DRVINFO_SIZE = 196
"""``sizeof(struct ethtool_drvinfo)``."""
_FW_VERSION = slice(68, 68 + 32)
"""``fw_version``, ``ETHTOOL_FWVERS_LEN`` octets, behind the command, ``driver[32]`` and ``version[32]``."""
_UNKNOWN = ("", "N/A", "n/a")


def firmware_version(netdev: str) -> str | None:
    """Return the firmware version that a network interface's driver reports; None where it reports none."""
    information = array.array("B", struct.pack("=I", ETHTOOL_GDRVINFO).ljust(_DRVINFO_SIZE, b"\0"))
    address, _length = information.buffer_info()
    request = struct.pack("@16sP16x", netdev.encode()[:15], address)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            fcntl.ioctl(sock, SIOCETHTOOL, request)
    except OSError:
        return None
    text = information.tobytes()[_FW_VERSION].split(b"\0")[0].decode("utf-8", "replace").strip()
    return None if text in _UNKNOWN else text
