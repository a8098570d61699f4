# SPDX-License-Identifier: Apache-2.0
"""Mailbox handshakes a second: a VF's request, the PF's reply, the VF's acknowledgement, and all between.

The floor is the accesses of the same handshakes on bare storage; between it and the drivers stand the same accesses
on the device, without drivers.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.rates import Work
from bench.recording import MESSAGES, Drivers, bars_of_storage, batch, check, record


def works() -> list[Work]:
    """Return handshakes by drivers with 8 and 63 VFs, and a VF driver's whole start."""
    found: list[Work] = []
    for vfs in (8, 63):
        recording = record(vfs)
        floor = f"{vfs} VFs: its accesses on bare storage"
        each = len(recording.messages) / MESSAGES
        found += [
            Work(floor, _per_message(batch(bars_of_storage().play(recording.messages)), each)),
            Work(
                f"{vfs} VFs: its accesses on the device",
                _per_message(batch(check(recording).play(recording.messages)), each),
                floor,
            ),
            Work(f"{vfs} VFs: both drivers", _by_drivers(vfs), floor),
        ]
    found.append(Work("8 VFs: a VF driver probes, opens and closes", _starts(8)))
    return found


def _per_message(run_it: Callable[[], int], accesses: float) -> Callable[[], int]:
    def batch_of_messages() -> int:
        return round(run_it() / accesses)

    return batch_of_messages


def _by_drivers(vfs: int) -> Callable[[], int]:
    drivers = Drivers(vfs)
    drivers.start()

    def run_it() -> int:
        drivers.vf.log.clear()
        drivers.messages()
        drivers.messages()
        assert len(drivers.vf.log) == 8
        assert all(exchange.reply for exchange in drivers.vf.log)
        return len(drivers.vf.log)

    return run_it


def _starts(vfs: int) -> Callable[[], int]:
    drivers = Drivers(vfs)

    def run_it() -> int:
        drivers.vf.log.clear()
        drivers.start()
        for seconds in drivers.vf.close():
            drivers.clock.advance(seconds)
        return 1

    return run_it
