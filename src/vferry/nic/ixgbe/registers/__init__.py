# SPDX-License-Identifier: Apache-2.0
"""The 82599's registers as declared data: ``declare`` holds the words, ``pf`` and ``vf`` the two address maps."""
