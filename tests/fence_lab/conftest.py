# SPDX-License-Identifier: Apache-2.0
from lab.fixtures import lab_images, lab_program, two_hosts, wire

__all__ = ("lab_images", "lab_program", "two_hosts", "wire")
