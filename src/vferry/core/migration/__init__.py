# SPDX-License-Identifier: Apache-2.0
"""The migration of a VM with all its VFs, as pure machines: one table for each mode and role.

``phases`` names the phases, acts and events, ``tables`` is the truth about what follows what, ``machine`` walks a
table, ``messages`` is what the two sides tell each other, ``recovery`` judges what to do after a crash from four
witnesses, ``diagrams`` draws the tables for the documentation.
"""
