# SPDX-License-Identifier: Apache-2.0
"""The rules of ``check``, by subject; :mod:`vferry.core.preflight` puts them in order."""
