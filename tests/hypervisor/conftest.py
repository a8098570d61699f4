# SPDX-License-Identifier: Apache-2.0
import pytest

from lab.fixtures import lab_images

__all__ = ("lab_images",)


@pytest.fixture
def anyio_backend() -> str:
    """qemu.qmp needs asyncio."""
    return "asyncio"
