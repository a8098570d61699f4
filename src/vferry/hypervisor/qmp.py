# SPDX-License-Identifier: Apache-2.0
"""A QMP connection to one VM: every command has a deadline, and a connection that drops is made again once.

The library ``qemu.qmp`` (extra ``qemu``) speaks the protocol; it runs on asyncio only, so the acts run in AnyIO's
asyncio backend. QEMU serves one client a socket: vferry wants a QMP socket of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import TypeVar

import anyio
import msgspec
from qemu.qmp import ConnectError, ExecInterruptedError, ExecuteError, QMPClient, QMPError, StateError

from vferry.ports.hypervisor import HypervisorError, VmAbsentError

__all__ = [
    "AnswerLostError",
    "CommandRefusedError",
    "NoAnswerError",
    "QmpConnection",
    "UnreadableAnswerError",
    "WrongVmError",
]

T = TypeVar("T")

# What the library logs is raised here as well; without a handler Python would print it to stderr.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())

_READING = ("query-", "qom-list")
"""Commands that change nothing: they may be sent again where it is not known whether they were carried out."""


class NoAnswerError(HypervisorError):
    """QEMU did not answer in time; whether it carried out the command is not known."""


class _EndedEarlyError(NoAnswerError):
    """The other side ended a connection that had just been made."""


class AnswerLostError(HypervisorError):
    """The connection dropped under a command; whether it was carried out is not known."""


class UnreadableAnswerError(HypervisorError):
    """QEMU's answer is not what its documentation says."""


class WrongVmError(HypervisorError):
    """Another VM answers at the socket."""


class CommandRefusedError(HypervisorError):
    """QEMU refused a command; nothing was changed.

    :param reason: QEMU's own words.
    :param kind: the QAPI error class: ``GenericError``, ``DeviceNotFound``, ...
    """

    def __init__(self, what: str, *, host: str, reason: str, kind: str) -> None:
        self.reason = reason
        self.kind = kind
        super().__init__(what, host=host, why=f"QEMU says: {reason}")


class QmpConnection:
    """The way to one VM.

    :param vm: the name that QEMU was given (``-name``); another name there is refused, none is accepted.
    :param path: of the QMP socket.
    :param seconds: deadline of one command, and of connecting.
    """

    def __init__(self, host: str, vm: str, path: str, *, seconds: float) -> None:
        self._host = host
        self._vm = vm
        self._path = path
        self._seconds = seconds
        self._client: QMPClient | None = None
        self._lock = anyio.Lock()

    async def ask(self, command: str, answer: type[T], arguments: Mapping[str, object] | None = None) -> T:
        """Run a command and return its answer as ``answer``.

        :raise HypervisorError: as :meth:`run`, or the answer cannot be read.
        """
        found = await self.run(command, arguments)
        try:
            return msgspec.convert(found, answer)
        except msgspec.ValidationError as error:
            raise UnreadableAnswerError(
                self._act(command), host=self._host, why=f"{error}", next_step="see which QEMU versions are supported"
            ) from error

    async def run(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        seconds: float | None = None,
        oob: bool = False,
    ) -> object:
        """Run a command and return what QEMU returns.

        :param seconds: a deadline other than the connection's.
        :param oob: out of band: QEMU answers even while its main loop is blocked.
        :raise VmAbsentError: nothing listens at the socket.
        :raise CommandRefusedError: QEMU refused.
        :raise NoAnswerError: it did not answer in time.
        :raise AnswerLostError: the connection dropped, and again after it was made again; for a command that changes
            something, at once.
        """
        limit = self._seconds if seconds is None else seconds
        for last in (False, True):
            client = await self._connected()
            try:
                async with asyncio.timeout(limit):
                    return await client.execute(command, dict(arguments or {}), oob=oob)
            except TimeoutError as error:
                raise NoAnswerError(
                    self._act(command),
                    host=self._host,
                    why=f"QEMU did not answer in {limit:g} s",
                    next_step="see whether the VM's process is stopped, or blocked on storage or on the destination",
                ) from error
            except ExecuteError as error:
                raise CommandRefusedError(
                    self._act(command), host=self._host, reason=str(error), kind=error.error_class
                ) from error
            except StateError:  # it had dropped before the command was sent
                await self._forget(client)
            except (ExecInterruptedError, QMPError, OSError, EOFError) as error:
                await self._forget(client)
                if last or not command.startswith(_READING):
                    raise await self._lost(command) from error
        raise await self._lost(command)

    async def gone(self, seconds: float) -> bool:
        """Wait until nothing listens at the socket any more; return whether that came in time."""
        with anyio.move_on_after(seconds):
            while True:
                try:
                    await self.run("query-name", seconds=self._seconds)
                except VmAbsentError:
                    return True
                except HypervisorError:
                    pass  # on its way out
                await anyio.sleep(0.02)
        return False

    async def close(self) -> None:
        """End the connection; the VM stays."""
        if self._client is not None:
            await self._forget(self._client)

    async def _connected(self) -> QMPClient:
        async with self._lock:
            if self._client is None:
                try:
                    self._client = await self._connect()
                except _EndedEarlyError:  # a QEMU that ends closes its connections first; then it is absent
                    self._client = await self._connect()
            return self._client

    async def _connect(self) -> QMPClient:
        client = QMPClient(f"vferry/{self._vm}")
        with anyio.CancelScope(shield=True):  # the library's own cleaning up does not bear being cancelled again
            try:
                async with asyncio.timeout(self._seconds):
                    await client.connect(self._path)
                    await self._prove_name(client)
            except BaseException as error:
                await _disconnect(client)
                if isinstance(error, ConnectError | TimeoutError | QMPError | OSError | EOFError):
                    raise self._unreachable(error) from error
                raise
        return client

    async def _prove_name(self, client: QMPClient) -> None:
        found = await client.execute("query-name")
        name = found.get("name", self._vm) if isinstance(found, dict) else self._vm
        if name != self._vm:
            raise WrongVmError(
                f"connect to VM {self._vm}",
                host=self._host,
                why=f"VM '{name}' answers at '{self._path}'",
                next_step="correct the VM's QMP socket in the configuration",
            )

    async def _lost(self, command: str) -> HypervisorError:
        """Return the error for a connection that dropped; the VM may be gone with it."""
        try:
            await self._connected()
        except VmAbsentError as error:
            return error
        except HypervisorError:
            pass
        return AnswerLostError(
            self._act(command),
            host=self._host,
            why="the QMP connection dropped, and whether QEMU carried it out is not known",
            next_step="try again: every act looks first",
        )

    async def _forget(self, client: QMPClient) -> None:
        if self._client is client:
            self._client = None
        await _disconnect(client)

    def _unreachable(self, error: BaseException) -> HypervisorError:
        cause = error.exc if isinstance(error, ConnectError) else error
        if isinstance(cause, FileNotFoundError | ConnectionRefusedError):
            return VmAbsentError(
                f"connect to VM {self._vm}",
                host=self._host,
                why=f"nothing listens at '{self._path}'",
                next_step="see whether the VM is defined with this QMP socket, and has been started",
            )
        kind = (
            _EndedEarlyError if isinstance(cause, EOFError | ConnectionResetError | BrokenPipeError) else NoAnswerError
        )
        why = f"no greeting in {self._seconds:g} s" if isinstance(cause, TimeoutError) else repr(cause)
        return kind(
            f"connect to VM {self._vm}",
            host=self._host,
            why=f"'{self._path}': {why}",
            next_step="a QMP socket serves one client at a time: give vferry one of its own",
        )

    def _act(self, command: str) -> str:
        return f"run '{command}' on VM {self._vm}"


async def _disconnect(client: QMPClient) -> None:
    """End a connection; how it ended is told by the command that it ended under."""
    with anyio.CancelScope(shield=True), contextlib.suppress(QMPError, OSError, EOFError, asyncio.CancelledError):
        await client.disconnect()
