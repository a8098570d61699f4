# SPDX-License-Identifier: Apache-2.0
"""The command line. Only this layer exits, prints and parses arguments."""
