# SPDX-License-Identifier: Apache-2.0
"""Other programs: started in the cheapest way there is, so that what is measured is theirs and not ``subprocess``'s."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping

from bench.guest.contender import Sample

_NULL = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)


class FailedProgramError(Exception):
    """A program that was to be measured ended with an error."""


def find(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise FailedProgramError(f"there is no {program}")
    return found


def start(argv: list[str], env: Mapping[str, str] | None = None, *, out: int = _NULL, err: int = _NULL) -> int:
    """Start a program by ``posix_spawn`` and return its process id."""
    actions = [(os.POSIX_SPAWN_DUP2, _NULL, 0), (os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, err, 2)]
    return os.posix_spawn(argv[0], argv, os.environ if env is None else env, file_actions=actions)


def finish(process: int, argv: list[str]) -> int:
    """Wait for a program and return the nanoseconds of processor time it took."""
    _process, status, usage = os.wait4(process, 0)
    if status:
        raise FailedProgramError(f"{' '.join(argv)} ended with {os.waitstatus_to_exitcode(status)}")
    return round((usage.ru_utime + usage.ru_stime) * 1e9)


def run(argv: list[str]) -> None:
    finish(start(argv), argv)


def output(argv: list[str]) -> bytes:
    """Run a program and return what it prints."""
    reader, writer = os.pipe()
    process = start(argv, out=writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        text = pipe.read()
    finish(process, argv)
    return text


def timed_process(name: str, argv: list[str], env: Mapping[str, str], count: int) -> list[Sample]:
    """Time a program from its start to its end."""
    samples = []
    for _ in range(count):
        begin = time.perf_counter_ns()
        cpu = finish(start(argv, env), argv)
        samples.append(Sample(name, time.perf_counter_ns() - begin, cpu))
    return samples


class Floor:
    """``floor.c``, which keeps its own time."""

    def __init__(self, program: str) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command: str) -> tuple[int, list[int]]:
        """Return the number that it answers first, and its samples."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        words = self._process.stdout.readline().split()
        if not words:
            raise FailedProgramError(f"the floor did not answer {command!r}")
        return int(words[0]), [int(word) for word in words[1:]]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
