# SPDX-License-Identifier: Apache-2.0
"""vfio-user: a device model served to a virtual machine monitor over a UNIX socket, and a client for tests.

* :mod:`.device`: what a device model is;
* :mod:`.server`: serves one to QEMU, or to
* :mod:`.client`: a client that needs no virtual machine.
"""
