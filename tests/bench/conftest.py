# SPDX-License-Identifier: Apache-2.0
from lab.fixtures import lab_images

__all__ = ("lab_images",)
