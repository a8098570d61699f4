# SPDX-License-Identifier: Apache-2.0
"""The wire: a switch between hosts, in a process of its own, that records every frame."""
