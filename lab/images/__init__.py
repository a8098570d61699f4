# SPDX-License-Identifier: Apache-2.0
"""Building what the virtual hosts are made of: QEMU, a kernel with modules, a root file system, the program drive."""
