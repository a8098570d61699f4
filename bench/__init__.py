# SPDX-License-Identifier: Apache-2.0
"""The benchmark: vferry beside its peers and beside the floor, in one run; see ``docs/performance.md``."""
