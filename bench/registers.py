# SPDX-License-Identifier: Apache-2.0
"""Register accesses a second, of what drivers really do; see ``recording``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.rates import Work
from bench.recording import VFS, Access, bars_of_nothing, bars_of_storage, batch, check, record

MIX: Final = "a VF's probe, open and 100 messages"
MIX_OF_MANY: Final = f"{MIX}, 63 VFs"
STORAGE: Final = "bare storage"


def works() -> list[Work]:
    """Return each part of the recording, on the device and on bare storage."""
    recording, many = record(VFS), record(63)
    bars = check(recording)
    parts: dict[str, Sequence[Access]] = {
        MIX: recording.mix,
        "its accesses with a side effect": recording.with_effect,
        "the PF driver's bring-up": recording.bring_up,
    }
    storage, bars_of_many = bars_of_storage(), check(many)
    found = [Work("the loop and the calls alone", batch(bars_of_nothing().play(recording.mix)))]
    for name, accesses in parts.items():
        floor = f"{name}: {STORAGE}"
        found += [Work(floor, batch(storage.play(accesses))), Work(name, batch(bars.play(accesses)), floor)]
    floor = f"{MIX_OF_MANY}: {STORAGE}"
    found.append(Work(floor, batch(storage.play(many.mix))))
    found.append(Work(MIX_OF_MANY, batch(bars_of_many.play(many.mix)), floor))
    return found
