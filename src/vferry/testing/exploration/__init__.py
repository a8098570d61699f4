# SPDX-License-Identifier: Apache-2.0
"""Every way a migration can go, tried: the real tables and the real recovery in an abstract world of two hosts.

``world`` is the world as a small tuple, ``acts`` what each act does to it step by step, ``sides`` what one side can do
next, ``invariants`` what must hold, ``explorer`` the search. ``python -m vferry.testing.exploration`` runs it;
``docs/migration.md`` says what it covers.
"""
