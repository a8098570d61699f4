# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests: contracts that explain their failures, and the hypothesis profile of ``make fuzz``."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# Before anything imports them.
pytest.register_assert_rewrite(
    *(f"vferry.testing.{name}_contract" for name in ("fdb", "journal", "migrations", "nic", "registry"))
)

# As the default, for much longer.
settings.register_profile("fuzz", max_examples=100_000, deadline=None, suppress_health_check=list(HealthCheck))
