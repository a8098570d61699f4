# SPDX-License-Identifier: Apache-2.0
"""A QMP peer that speaks the real protocol over a socket, and answers what a test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Self, TypeAlias

Answer: TypeAlias = Callable[[str, dict[str, object]], object]
"""Gives what is returned for a command; :data:`SILENT` and :data:`DROP` are answers, too."""

SILENT = object()
DROP = object()


class RefusedByPeerError(Exception):
    """Raised by an answer: QEMU refuses."""


async def _messages(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, object]]:
    """Give each JSON object as soon as it is whole: nothing stands between them."""
    text = ""
    while data := await reader.read(65536):
        text = (text + data.decode()).lstrip()
        while text:
            try:
                message, end = json.JSONDecoder().raw_decode(text)
            except ValueError:
                break
            text = text[end:].lstrip()
            yield message


class FakeQmp:
    """Serves one VM.

    :ivar commands: what was asked, in order, greetings left out.
    :ivar connections: how many there were.
    """

    def __init__(self, path: str, answer: Answer, *, name: str = "tiny") -> None:
        self.path = path
        self.answer = answer
        self.name = name
        self.commands: list[str] = []
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def end(self) -> None:
        """End as a killed QEMU: nothing listens, nothing is connected."""
        self.stop_listening()
        self.drop()
        await asyncio.sleep(0)

    def stop_listening(self) -> None:
        """Take no more connections."""
        assert self._server is not None
        self._server.close()

    def drop(self) -> None:
        """Drop every connection."""
        for writer in list(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        version = {"qemu": {"major": 11, "minor": 1, "micro": 3}, "package": ""}
        self._say(writer, {"QMP": {"version": version, "capabilities": ["oob"]}})
        try:
            async for message in _messages(reader):
                if not self._reply(writer, message):
                    return
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _reply(self, writer: asyncio.StreamWriter, message: dict[str, object]) -> bool:
        command = str(message.get("execute") or message.get("exec-oob"))
        arguments = message.get("arguments") or {}
        assert isinstance(arguments, dict)
        reply: dict[str, object] = {"id": message["id"]} if "id" in message else {}
        if command == "qmp_capabilities":
            self._say(writer, {**reply, "return": {}})
            return True
        if command == "query-name":
            self._say(writer, {**reply, "return": {"name": self.name}})
            return True
        self.commands.append(command)
        try:
            found = self.answer(command, arguments)
        except RefusedByPeerError as error:
            self._say(writer, {**reply, "error": {"class": "GenericError", "desc": str(error)}})
            return True
        if found is DROP:
            return False
        if found is not SILENT:
            self._say(writer, {**reply, "return": found})
        return True

    @staticmethod
    def _say(writer: asyncio.StreamWriter, message: dict[str, object]) -> None:
        if not writer.is_closing():
            writer.write(json.dumps(message).encode() + b"\r\n")
