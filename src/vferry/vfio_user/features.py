# SPDX-License-Identifier: Apache-2.0
"""DEVICE_FEATURE and the data of a migration: states, sessions, and the dirty log.

Rules: ``VFIO_DEVICE_FEATURE`` in ``<linux/vfio.h>`` (6.12) and vfio-user, "VFIO_USER_DEVICE_FEATURE". What moves from
where to where is :mod:`vferry.core.vfio.migration_states`; here the model is called, arc by arc.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from vferry.core.vfio import migration_states
from vferry.core.vfio.codec import MalformedError, body, counted
from vferry.core.vfio.constants import VFIO_DEVICE_FEATURE_MASK, Feature, FeatureFlags, MigrationFlags
from vferry.core.vfio.dirty_log import DirtyLog, bitmap_size
from vferry.core.vfio.layouts import (
    DEVICE_FEATURE,
    DMA_LOGGING_CONTROL,
    DMA_LOGGING_RANGE,
    DMA_LOGGING_REPORT,
    FEATURE_MIG_STATE,
    FEATURE_MIGRATION,
    MIG_DATA,
    DeviceFeature,
)
from vferry.core.vfio.migration_states import IllegalTransitionError, Session
from vferry.vfio_user.device import DeviceError, DeviceLostError, Migration
from vferry.vfio_user.dma import GuestMemory

__all__ = ["Features", "MigrationControl"]

# Plain numbers: the complement of an IntFlag has no unknown bits (Python 3.11).
_GET: Final = int(FeatureFlags.GET)
_SET: Final = int(FeatureFlags.SET)
_PROBE: Final = int(FeatureFlags.PROBE)
_METHODS: Final[Mapping[int, int]] = MappingProxyType(
    {
        Feature.MIGRATION: _GET,
        Feature.MIG_DEVICE_STATE: _GET | _SET,
        Feature.DMA_LOGGING_START: _SET,
        Feature.DMA_LOGGING_STOP: _SET,
        Feature.DMA_LOGGING_REPORT: _GET,
    }
)
_OF_MIGRATION: Final = frozenset({Feature.MIGRATION, Feature.MIG_DEVICE_STATE})


class MigrationControl:
    """Drives the migration states of one device model; outlives sessions, as the device does."""

    def __init__(self, model: Migration | None) -> None:
        self.model = model
        self.at = migration_states.Migration(model.flags if model else MigrationFlags(0))

    def go(self, target: int) -> None:
        """Go to a state, arc by arc.

        :raise IllegalTransitionError: it cannot be reached; the model was not called.
        :raise DeviceError: an arc failed; the state is where the arcs before it led, or ERROR.
        """
        if self.model is None:
            raise IllegalTransitionError(self.at.state, target, "the device cannot migrate")
        for state in self.at.path(target):
            try:
                self.model.arc(self.at.state, state)
            except DeviceLostError:
                self.at = self.at.failed()
                raise
            self.at = self.at.at(state)

    def data(self, session: Session) -> Migration:
        """Return the model, in a session that goes this way.

        :raise MalformedError: there is no such session.
        """
        if self.model is None or self.at.session is not session:
            raise MalformedError(f"no {session.value} session in state {self.at.state.name}")
        return self.model

    def reset(self) -> None:
        """Note that the device was reset."""
        self.at = self.at.reset()


class Features:
    """Answers DEVICE_FEATURE, MIG_DATA_READ and MIG_DATA_WRITE in one session.

    :param largest: data octets of one answer at most.
    """

    def __init__(self, control: MigrationControl, memory: GuestMemory, largest: int) -> None:
        self._control = control
        self._memory = memory
        self._largest = largest
        self._get: Mapping[int, Callable[[bytes], bytes]] = {
            Feature.MIGRATION: self._get_migration,
            Feature.MIG_DEVICE_STATE: self._get_state,
            Feature.DMA_LOGGING_REPORT: self._report,
        }
        self._set: Mapping[int, Callable[[bytes], bytes]] = {
            Feature.MIG_DEVICE_STATE: self._set_state,
            Feature.DMA_LOGGING_START: self._start,
            Feature.DMA_LOGGING_STOP: self._stop,
        }

    def handle(self, payload: bytes) -> bytes:
        """Answer DEVICE_FEATURE.

        :raise MalformedError: ENOTTY (no such feature), EINVAL (not like that), or what a feature says.
        :raise DeviceError: an arc failed.
        """
        request = body(DEVICE_FEATURE, payload)
        feature, methods = request.flags & VFIO_DEVICE_FEATURE_MASK, request.flags & ~VFIO_DEVICE_FEATURE_MASK
        self._check(feature, methods)
        data = payload[DEVICE_FEATURE.size :]
        if methods == _GET:
            return self._answer_get(feature, request, data)
        _fit(len(payload), request.argsz)
        if methods & _PROBE:
            return payload
        return payload[: DEVICE_FEATURE.size] + self._set[feature](data)

    def _answer_get(self, feature: int, request: DeviceFeature, data: bytes) -> bytes:
        # Before anything is done: a report that does not arrive must not have forgotten its pages.
        size = DEVICE_FEATURE.size + self._size_of(feature, data)
        _fit(size, request.argsz)
        return DEVICE_FEATURE.pack(size, request.flags) + self._get[feature](data)

    def _size_of(self, feature: int, data: bytes) -> int:
        """Return the octets of what a feature has to say."""
        if feature != Feature.DMA_LOGGING_REPORT:
            return FEATURE_MIGRATION.size if feature == Feature.MIGRATION else FEATURE_MIG_STATE.size
        wanted = body(DMA_LOGGING_REPORT, data)
        size = bitmap_size(wanted.length, wanted.page_size)
        if size > self._largest:
            raise MalformedError(f"a dirty bitmap of {size} octets; at most {self._largest}")
        return DMA_LOGGING_REPORT.size + size

    def _check(self, feature: int, methods: int) -> None:
        supported = _METHODS.get(feature, 0)
        if not supported or (feature in _OF_MIGRATION and self._control.model is None):
            raise MalformedError(f"no feature {feature}", errno.ENOTTY)
        wanted = methods & ~_PROBE
        if not methods or wanted & ~supported or (not methods & _PROBE and wanted == _GET | _SET):
            raise MalformedError(f"feature {feature}: flags {methods:#x}")

    def _get_migration(self, _: bytes) -> bytes:
        return FEATURE_MIGRATION.pack(int(self._control.at.flags))

    def _get_state(self, _: bytes) -> bytes:
        return FEATURE_MIG_STATE.pack(int(self._control.at.state), -1)

    def _set_state(self, data: bytes) -> bytes:
        wanted = body(FEATURE_MIG_STATE, data)
        try:
            self._control.go(wanted.device_state)
        except IllegalTransitionError as error:
            raise MalformedError(str(error)) from error
        return data

    def _start(self, data: bytes) -> bytes:
        wanted = body(DMA_LOGGING_CONTROL, data)
        rest = counted(DMA_LOGGING_CONTROL, data, wanted.num_ranges * DMA_LOGGING_RANGE.size)
        if self._memory.log is not None:
            raise MalformedError("DMA is logged already")
        ranges = [DMA_LOGGING_RANGE.unpack(rest, at) for at in range(0, len(rest), DMA_LOGGING_RANGE.size)]
        self._memory.log = DirtyLog(wanted.page_size, ranges)
        return DMA_LOGGING_CONTROL.pack(self._memory.log.page_size, wanted.num_ranges, wanted.reserved) + rest

    def _stop(self, data: bytes) -> bytes:
        if self._memory.log is None:
            raise MalformedError("DMA is not logged")
        self._memory.log = None
        return data

    def _report(self, data: bytes) -> bytes:
        wanted = body(DMA_LOGGING_REPORT, data)
        if self._memory.log is None:
            raise MalformedError("DMA is not logged")
        return data[: DMA_LOGGING_REPORT.size] + self._memory.log.report(wanted.iova, wanted.length, wanted.page_size)

    def read_data(self, payload: bytes) -> bytes:
        """Answer MIG_DATA_READ.

        :raise MalformedError: no session, or sizes that make no sense.
        :raise DeviceError: refused by the model.
        """
        request = body(MIG_DATA, payload)
        if request.size > self._largest or request.argsz < MIG_DATA.size + request.size:
            raise MalformedError(f"a read of {request.size} octets of device state into argsz {request.argsz}")
        data = self._control.data(Session.SAVING).read(request.size)
        if len(data) > request.size:
            raise DeviceError("read the device state", why=f"it gave {len(data)} octets, not {request.size}")
        return MIG_DATA.pack(MIG_DATA.size + len(data), len(data)) + data

    def write_data(self, payload: bytes) -> bytes:
        """Answer MIG_DATA_WRITE; no payload.

        :raise MalformedError: no session, or sizes that make no sense.
        :raise DeviceError: refused by the model.
        """
        request = body(MIG_DATA, payload)
        data = counted(MIG_DATA, payload, request.size)
        self._control.data(Session.LOADING).write(data)
        return b""


def _fit(size: int, argsz: int) -> None:
    if size > argsz:
        raise MalformedError(f"an answer of {size} octets does not fit into argsz {argsz}")
