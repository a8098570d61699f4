# SPDX-License-Identifier: Apache-2.0
from lab.fixtures import lab_images, lab_program, netdevsim_host, three_hosts, two_hosts, wire

__all__ = ("lab_images", "lab_program", "netdevsim_host", "three_hosts", "two_hosts", "wire")
