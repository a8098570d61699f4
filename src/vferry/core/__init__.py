# SPDX-License-Identifier: Apache-2.0
"""The pure core: records, checks, fence plans. No clock, no sockets, no files."""
