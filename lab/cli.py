# SPDX-License-Identifier: Apache-2.0
"""The command line of the lab: build it, look at it, use it by hand."""

from __future__ import annotations

import argparse
import cmd
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.errors import LabError, LabUnavailable
from lab.images.build import build_images, load_images, pieces, require_machine
from lab.images.cache import cache_root, clear
from lab.images.mirror import find_mirror
from lab.images.netdevsim import require_compiler
from lab.images.program import program_image
from lab.machine.host import Host, running
from lab.standard import igb_host
from lab.wire.wire import Wire


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0, 1 for a failure, or that of the command in the host."""
    options = _parser().parse_args(arguments)
    act: Callable[[argparse.Namespace], int] = options.act
    try:
        return act(options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def _build(options: argparse.Namespace) -> int:
    if options.again:
        clear()
    begin = time.monotonic()
    images = build_images(lambda line: print(f"{line}\n", end="", flush=True))
    print(f"ready after {time.monotonic() - begin:.1f} s: kernel {images.release}, in {cache_root()}")
    return 0


def _status(_options: argparse.Namespace) -> int:
    print(f"cache: {cache_root()}")
    for name, path in pieces().items():
        print(f"{name:10} {'ready   ' if path.exists() else 'missing '} {path.name}")
    for path in sorted(cache_root().glob("snapshot-*")):
        print(f"snapshot   {path.stat().st_size >> 20:4} MiB {path.name}")
    return 0


def _available(_options: argparse.Namespace) -> int:
    try:
        images = load_images()
        print(f"built: kernel {images.release}")
    except LabUnavailable:
        require_machine()
        require_compiler(may_install=False)
        find_mirror()
        print("can be built here: python -m lab build")
    return 0


def _run(options: argparse.Namespace) -> int:
    with Wire() as wire, igb_host(options.host, wire, program=_program(options.program)) as host:
        command = options.words[0] if len(options.words) == 1 else shlex.join(options.words)
        result = host.run(command, options.timeout, check=False)
        sys.stdout.write(result.out)
        sys.stderr.write(result.err)
        return result.rc if result.rc >= 0 else 128 - result.rc


def _shell(options: argparse.Namespace) -> int:
    program = _program(options.program)
    names = options.hosts.split(",")
    with Wire() as wire, running(*(igb_host(name, wire, program=program) for name in names)) as hosts:
        _Prompt(wire, hosts).cmdloop()
    return 0


def _program(directory: Path | None) -> Path | None:
    return program_image({"src": directory}) if directory else None


class _Prompt(cmd.Cmd):
    """Commands for the hosts, one a line; each runs in a shell of its own."""

    intro = "HOST COMMAND runs a command in a host; also: frames, learned, kill HOST, start HOST, quit"
    prompt = "lab> "

    def __init__(self, wire: Wire, hosts: Sequence[Host]) -> None:
        super().__init__()
        self._wire = wire
        self._hosts = {host.name: host for host in hosts}

    def onecmd(self, line: str) -> bool:
        """Run a line; an error is shown and ends nothing."""
        try:
            return super().onecmd(line)
        except LabError as error:
            print(error)
            return False

    def default(self, line: str) -> None:
        """Run a command in a host."""
        name, _, command = line.partition(" ")
        if name not in self._hosts or not command:
            print(f"{self.intro}\nhosts: {', '.join(self._hosts)}")
            return
        result = self._hosts[name].run(command, timeout=600, check=False)
        print(result.out + result.err + (f"[status {result.rc}]" if result.rc else ""))

    def emptyline(self) -> bool:
        """Do nothing."""
        return False

    def do_frames(self, _line: str) -> None:
        """Show the frames that came into the wire since the last time."""
        for frame in self._wire.frames():
            to = ",".join(frame.out) or "-"
            what = frame.lab or f"ethertype 0x{frame.ethertype:04x}, {len(frame.data)} bytes"
            print(f"{frame.time_ns / 1e9:.6f} {frame.port}->{to} {frame.src} > {frame.dst} {what}")
        self._wire.clear()

    def do_learned(self, _line: str) -> None:
        """Show which addresses the wire has seen where."""
        for (vlan, address), port in sorted(self._wire.learned().items()):
            print(f"{address} vlan {vlan} at {port}")

    def do_kill(self, line: str) -> None:
        """Cut a host's power."""
        self._hosts[line].kill()

    def do_start(self, line: str) -> None:
        """Start a host that was killed."""
        self._hosts[line].start()

    def do_quit(self, _line: str) -> bool:
        """End all hosts."""
        return True

    do_EOF = do_quit  # noqa: N815 - the name that cmd looks for


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description="virtual hosts with SR-IOV NICs on a wire")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make what is missing")
    build.set_defaults(act=_build)
    build.add_argument("--again", action="store_true", help="remove everything first")
    commands.add_parser("status", help="show what there is").set_defaults(act=_status)
    commands.add_parser("available", help="status 0 when the lab is built or can be").set_defaults(act=_available)
    shell = commands.add_parser("shell", help="start hosts and give a prompt for them")
    shell.set_defaults(act=_shell)
    shell.add_argument("--hosts", default="a,b,c")
    shell.add_argument("--program", type=Path, metavar="SRC", help="directory with the code for /opt/program/src")
    run = commands.add_parser("run", help="start a host, run a command in it, end it")
    run.set_defaults(act=_run)
    run.add_argument("host")
    run.add_argument("words", nargs="+", metavar="command")
    run.add_argument("--timeout", type=float, default=600.0, help="seconds")
    run.add_argument("--program", type=Path, metavar="SRC", help="directory with the code for /opt/program/src")
    return parser
