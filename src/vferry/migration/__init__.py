# SPDX-License-Identifier: Apache-2.0
"""Carries migrations out: one coordinator for each side, which asks the pure machine what comes next.

``host`` names the ports of one host, ``coordinator`` is the loop, ``ownership`` takes steps in the registry,
``source_acts`` and ``destination_acts`` do what a phase asks for, ``witnesses`` gathers what a recovery is judged by.
"""
