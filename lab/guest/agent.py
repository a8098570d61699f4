# SPDX-License-Identifier: Apache-2.0
"""The agent in a host: does what the driver asks over a virtio-serial port.

A request is a JSON object on a line, ``{"id": n, "do": name, ...}``; the answer has the same ``id`` and either
``"ok"`` with the result or ``"error"`` with a text. Bytes travel in base64. Every request runs in a thread of its own,
so a long one does not hold up the next; answers come as they are ready.

Requests: ``ping``; ``run`` (argv, stdin, limit, cwd, env); ``spawn`` (argv, output, cwd, env); ``wait`` (pid,
limit); ``signal`` (pid, number); ``read`` (path); ``write`` (path, data, mode).
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Request = dict[str, Any]

PORT_NAME = "lab"

_children: dict[int, subprocess.Popen[bytes]] = {}


def find_port(name: str) -> str:
    """Return the device of the virtio-serial port that is called ``name``."""
    for entry in Path("/sys/class/virtio-ports").iterdir():
        if (entry / "name").read_text().strip() == name:
            return f"/dev/{entry.name}"
    raise FileNotFoundError(f"no virtio-serial port {name}")


def _environment(request: Request) -> dict[str, str]:
    return {**os.environ, **request.get("env", {})}


def _ping(_request: Request) -> Request:
    return {"uptime": time.clock_gettime(time.CLOCK_BOOTTIME)}


def _run(request: Request) -> Request:
    begin = time.monotonic()
    child = subprocess.Popen(
        request["argv"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=request.get("cwd"),
        env=_environment(request),
        start_new_session=True,
    )
    timed_out = False
    try:
        out, err = child.communicate(base64.b64decode(request.get("stdin", "")), timeout=request["limit"])
    except subprocess.TimeoutExpired:
        timed_out = True
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate()
    return {
        "rc": child.returncode,
        "out": base64.b64encode(out).decode(),
        "err": base64.b64encode(err).decode(),
        "seconds": time.monotonic() - begin,
        "timed_out": timed_out,
    }


def _spawn(request: Request) -> Request:
    with open(request["output"], "wb") as output:
        child = subprocess.Popen(
            request["argv"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=request.get("cwd"),
            env=_environment(request),
            start_new_session=True,
        )
    _children[child.pid] = child
    return {"pid": child.pid}


def _wait(request: Request) -> Request:
    child = _children[request["pid"]]
    try:
        return {"rc": child.wait(timeout=request["limit"])}
    except subprocess.TimeoutExpired:
        return {"rc": None}


def _signal(request: Request) -> Request:
    child = _children[request["pid"]]
    if child.poll() is None:
        os.killpg(child.pid, request["number"])
    return {}


def _read(request: Request) -> Request:
    return {"data": base64.b64encode(Path(request["path"]).read_bytes()).decode()}


def _write(request: Request) -> Request:
    path = Path(request["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(request["data"]))
    path.chmod(request["mode"])
    return {}


_REQUESTS: dict[str, Callable[[Request], Request]] = {
    "ping": _ping,
    "read": _read,
    "run": _run,
    "signal": _signal,
    "spawn": _spawn,
    "wait": _wait,
    "write": _write,
}


class Agent:
    """Serves one port."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._sending = threading.Lock()

    def serve(self) -> None:
        """Answer requests for ever."""
        pending = b""
        while True:
            chunk = os.read(self._descriptor, 65536)
            if not chunk:
                # The driver is not connected: the port reads as empty and does not block.
                time.sleep(0.02)
                continue
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                threading.Thread(target=self._answer, args=(line,), daemon=True).start()

    def _answer(self, line: bytes) -> None:
        try:
            request = json.loads(line)
        except ValueError:
            return
        answer: Request = {"id": request.get("id")}
        try:
            answer["ok"] = _REQUESTS[request["do"]](request)
        except Exception as error:  # noqa: BLE001 - whatever went wrong is the answer
            answer["error"] = f"{type(error).__name__}: {error}"
        raw = json.dumps(answer).encode() + b"\n"
        with self._sending:
            while raw:
                raw = raw[os.write(self._descriptor, raw) :]


def main() -> None:
    """Open the port and serve it."""
    Agent(os.open(find_port(PORT_NAME), os.O_RDWR | os.O_CLOEXEC)).serve()


if __name__ == "__main__":
    main()
