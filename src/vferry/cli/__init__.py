# SPDX-License-Identifier: Apache-2.0
"""The command line. Only this layer exits, prints and parses arguments."""

__all__ = ["DONE", "FAILED", "PERSON_NEEDED", "REFUSED", "USAGE"]

DONE, FAILED, USAGE, REFUSED, PERSON_NEEDED = range(5)
"""Exit codes: done; failed and everything is as before; usage; refused, findings say why; a person is needed."""
