# SPDX-License-Identifier: Apache-2.0
"""``python -m vferry``."""

from __future__ import annotations

import sys

from vferry.cli.main import main

sys.exit(main())
