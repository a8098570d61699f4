# SPDX-License-Identifier: Apache-2.0
"""NIC adapters: implementations of :class:`vferry.ports.nic.Nic`."""
