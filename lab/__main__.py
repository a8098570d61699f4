# SPDX-License-Identifier: Apache-2.0
"""``python -m lab``: see :mod:`lab.cli`."""

import sys

from lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
