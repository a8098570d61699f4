# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno

import pytest

from vferry.nic.linux.failure import typed_error
from vferry.testing.kernel_errors import ENOTSUPP, kernel_error


@pytest.mark.parametrize("number", [*errno.errorcode, ENOTSUPP])
def test_simulated_nics_name_errors_as_the_real_one_does(number: int) -> None:
    simulated = kernel_error(number, "try", pf="eth0", vf=1)
    real = typed_error(OSError(number, ""), "try", host="a", pf="eth0", vf=1)
    assert type(simulated) is type(real)
    assert (simulated.errno, simulated.pf, simulated.vf) == (real.errno, real.pf, real.vf)
