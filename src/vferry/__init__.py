# SPDX-License-Identifier: Apache-2.0
"""vferry carries the SR-IOV virtual functions of a VM across a migration.

The package is layered; an import goes down only:

``cli``, ``testing`` > ``verbs`` > adapters (``nic``, ``journal``, ``witness``) > ``ports`` > ``core``

``docs/architecture.md`` describes each layer.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
