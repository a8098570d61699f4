# SPDX-License-Identifier: Apache-2.0
"""VFIO and vfio-user without any I/O: numbers, layouts, framing, and the states of migration v2.

* :mod:`.constants`: the numbers, spelled as the headers spell them;
* :mod:`.layouts`: the structures, each with its source;
* :mod:`.codec`: octets in, whole messages out, and what both sides agreed on;
* :mod:`.migration_states`: what follows what in VFIO migration v2.
"""
