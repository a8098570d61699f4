# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests: contracts that explain their failures, and hypothesis profiles."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# Before anything imports them.
pytest.register_assert_rewrite(
    *(f"vferry.testing.{name}_contract" for name in ("fdb", "journal", "migrations", "nic", "registry"))
)

# No test is timed: how long an example takes says how busy the machine is.
settings.register_profile("vferry", deadline=None)
settings.load_profile("vferry")

# The same, for much longer.
settings.register_profile("fuzz", max_examples=100_000, deadline=None, suppress_health_check=list(HealthCheck))
