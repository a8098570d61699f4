# SPDX-License-Identifier: Apache-2.0
"""The world outside, as small protocols: adapters implement them, verbs and machines use them."""
