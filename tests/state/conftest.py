# SPDX-License-Identifier: Apache-2.0
"""Lets pytest explain the contract's failed assertions."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("vferry.testing.journal_contract", "vferry.testing.migrations_contract")
