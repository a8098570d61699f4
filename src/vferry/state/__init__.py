# SPDX-License-Identifier: Apache-2.0
"""The state directory of a host: undo records and learned capabilities, one file each, replaced atomically."""
