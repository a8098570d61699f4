# SPDX-License-Identifier: Apache-2.0
"""A software Intel 82599: its registers, PF and VF mailbox, switch, and models of the drivers on both sides."""
