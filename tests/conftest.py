# SPDX-License-Identifier: Apache-2.0
"""The hypothesis profile of ``make fuzz``: as the default, for much longer."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("fuzz", max_examples=100_000, deadline=None, suppress_health_check=list(HealthCheck))
