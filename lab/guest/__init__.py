# SPDX-License-Identifier: Apache-2.0
"""Programs that run inside a virtual host. Each is a file of its own that needs nothing but Python or a shell."""
