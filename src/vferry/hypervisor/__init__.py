# SPDX-License-Identifier: Apache-2.0
"""Hypervisors: adapters of :class:`vferry.ports.hypervisor.Hypervisor`."""
