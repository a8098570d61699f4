# SPDX-License-Identifier: Apache-2.0
"""Virtual hosts: QEMU's command line, talking to it and to the agent inside, snapshots, NICs."""
