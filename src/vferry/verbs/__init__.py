# SPDX-License-Identifier: Apache-2.0
"""The verbs: save, check, restore, verify, fence, unfence, release, probe, doctor. They see the world by ports only."""
