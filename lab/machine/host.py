# SPDX-License-Identifier: Apache-2.0
"""A virtual host: a Debian kernel in QEMU, with an agent that runs commands in it."""

from __future__ import annotations

import base64
import itertools
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab.errors import CommandFailed, HostDied, HostError, LabError, Timeout
from lab.images.build import Images, load_images
from lab.images.cache import cache_root, write_atomically
from lab.machine import devices, snapshot
from lab.machine.agent import AgentClient
from lab.machine.command import Command, Process, Result, argv, one_line
from lab.machine.commandline import Machine
from lab.machine.devices import Vf
from lab.machine.log import HostLog
from lab.machine.nics import Nic, pf_address, port_names, qemu_device, wires
from lab.machine.process import QemuProcess
from lab.machine.qmp import Qmp
from lab.machine.witness import Witness

_BOOT_SECONDS = 120.0
_REQUEST_SECONDS = 30.0


class Host:
    """A virtual host; a context manager that starts it and takes it away.

    :param name: its host name; hosts of different names can run at the same time.
    :param nics: what is in its slots.
    :param images: the build; default: the finished one.
    :param program: the image of its program drive, see :func:`lab.images.program.program_image`.
    :param memory: MiB.
    :param cold: boot it and leave snapshots alone.
    """

    def __init__(
        self,
        name: str,
        *,
        nics: tuple[Nic, ...] = (),
        images: Images | None = None,
        program: Path | None = None,
        memory: int = 512,
        cold: bool = False,
    ) -> None:
        self.name = name
        self.nics = nics
        #: How the running host came up, ``"restored"`` or ``"booted"``.
        self.origin = ""
        #: Seconds from the start of QEMU to the first answer, and to the end of :meth:`start`.
        self.answer_seconds = 0.0
        self.start_seconds = 0.0
        self._machine = Machine(images=images or load_images(), name=name, nics=nics, memory=memory)
        self._program = program
        self._cold = cold
        self._scratch = tempfile.TemporaryDirectory(prefix=f"vfl-{name[:8]}-", ignore_cleanup_errors=True)
        self._directory = Path(self._scratch.name)
        self._log = HostLog(name, self._directory)
        self._spawned = itertools.count(1)
        self._process: QemuProcess | None = None
        self._qmp: Qmp | None = None
        self._agent: AgentClient | None = None
        self._witness: Witness | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Its life.

    def start(self) -> None:
        """Start the host: from its snapshot where there is one, otherwise by booting it, which makes the snapshot.

        Every start is a boot of its own to programs in the host: ``/proc/sys/kernel/random/boot_id`` is new each
        time, also after a restore, and the wall clock is this machine's.

        :raise HostDied: When it does not come up.
        """
        begin = time.monotonic()
        key = self._machine.key(devices.LOAD_DRIVERS)
        if self._cold or not (snapshot.snapshot_path(self.name, key).exists() and self._try_restore(key)):
            self._boot()
            if not self._cold:
                assert self._qmp is not None
                snapshot.save(self._qmp, self.name, key)
        self._witness = self._connect_witness()
        self.run(_after_start(with_program=self._program is not None))
        self.start_seconds = time.monotonic() - begin

    def kill(self) -> None:
        """End the host at once, as a power failure would. :meth:`start` brings it back from the beginning."""
        for part in (self._witness, self._agent, self._qmp):
            if part is not None:
                part.close()
        self._witness = self._agent = self._qmp = None
        if self._process is not None:
            self._process.kill()
            self._process = None

    def close(self) -> None:
        """Take the host away, with its logs."""
        self.kill()
        self._scratch.cleanup()

    @property
    def alive(self) -> bool:
        """Whether QEMU runs and its agent is connected."""
        if self._process is None or self._agent is None:
            return False
        return self._process.alive and not self._agent.gone

    @property
    def pid(self) -> int:
        """The process id of QEMU on this machine.

        :raise HostDied: When the host does not run.
        """
        if self._process is None:
            raise HostDied(self.name, "not running", self.console())
        return self._process.pid

    def console(self) -> str:
        """Return the end of the console log and of QEMU's own messages."""
        return self._log.tail()

    def qmp(self, command: str, /, **arguments: object) -> Any:
        """Give QEMU a command and return its result; underscores in argument names become hyphens.

        :raise QmpError: When QEMU refuses.
        :raise HostDied: When the host has ended.
        """
        if self._qmp is None:
            raise HostDied(self.name, "not running", self.console())
        return self._qmp.execute(command, **arguments)

    # Commands and files.

    def run(
        self,
        command: Command,
        timeout: float = 60.0,
        *,
        check: bool = True,
        stdin: bytes | str = b"",
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Run a command to its end.

        :param timeout: seconds; then it is killed, with all it has started.
        :raise CommandFailed: When it ends with a status other than 0 and ``check`` is set.
        :raise Timeout: When it takes too long.
        :raise HostDied: When the host ends.
        """
        given = stdin.encode() if isinstance(stdin, str) else stdin
        answer = self._connected.request(
            "run",
            argv=argv(command),
            stdin=base64.b64encode(given).decode(),
            env=dict(env or {}),
            limit=timeout,
            timeout=timeout + _REQUEST_SECONDS,
        )
        out, err = (base64.b64decode(answer[name]).decode(errors="replace") for name in ("out", "err"))
        if answer["timed_out"]:
            message = f"not finished in {timeout} s: {one_line(command)}\n{out}{err}"
            raise Timeout(self.name, message.rstrip(), self.console())
        if check and answer["rc"]:
            raise CommandFailed(
                self.name, command=one_line(command), rc=answer["rc"], out=out, err=err, console=self.console()
            )
        return Result(rc=answer["rc"], out=out, err=err, seconds=answer["seconds"])

    def spawn(self, command: Command, *, env: Mapping[str, str] | None = None) -> Process:
        """Start a command in the background.

        :raise AgentError: When there is no such program.
        :raise HostDied: When the host has ended.
        """
        agent = self._connected
        path = f"/tmp/lab-output-{next(self._spawned)}"  # noqa: S108 - a path in the host
        answer = agent.request("spawn", argv=argv(command), output=path, env=dict(env or {}), timeout=_REQUEST_SECONDS)
        return Process(agent, self._log, pid=answer["pid"], path=path, read=self.read)

    def vferry(self, *arguments: str, check: bool = True, timeout: float = 120.0, stdin: bytes | str = b"") -> Result:
        """Run vferry from the program drive; parameters as in :meth:`run`."""
        return self.run(["vferry", *arguments], timeout, check=check, stdin=stdin)

    def write(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        """Write a file, and make its directory.

        :raise AgentError: When the host refuses.
        """
        raw = content.encode() if isinstance(content, str) else content
        data = base64.b64encode(raw).decode()
        self._connected.request("write", path=path, data=data, mode=mode, timeout=_REQUEST_SECONDS)

    def read(self, path: str) -> bytes:
        """Return a file's content.

        :raise AgentError: When there is none.
        """
        return base64.b64decode(self._connected.request("read", path=path, timeout=_REQUEST_SECONDS)["data"])

    # Its NICs.

    def pf_address(self, nic: int = 0) -> str:
        """Return the PCI address of a NIC's PF, NICs counted from 0."""
        return pf_address(nic)

    def pf(self, nic: int = 0) -> str:
        """Return the interface of a NIC's PF.

        :raise LabError: When it has none.
        """
        name = devices.netdev_of(self, pf_address(nic))
        if name is None:
            raise LabError(f"{self.name}: NIC {nic} has no interface")
        return name

    def make_vfs(self, number: int, nic: int = 0) -> tuple[Vf, ...]:
        """Give a NIC VFs, which their driver takes at once; those it had go away."""
        return devices.make_vfs(self, pf_address(nic), number)

    igb_vfs = make_vfs

    def vfs(self, nic: int = 0) -> tuple[Vf, ...]:
        """Return the VFs that a NIC has."""
        return devices.list_vfs(self, pf_address(nic))

    def vf_namespace(self, vf: Vf, namespace: str, *addresses: str) -> None:
        """Put a VF's interface into a network namespace of its own, up, with IP addresses and carrier."""
        devices.into_namespace(self, vf, namespace, addresses)

    def bind_vfio(self, vf: Vf) -> int:
        """Give a VF to vfio-pci and return its IOMMU group, the number of its file in ``/dev/vfio``."""
        devices.bind_driver(self, vf.address, "vfio-pci")
        return devices.iommu_group(self, vf.address)

    def bind(self, vf: Vf, driver: str) -> None:
        """Give a VF to a driver."""
        devices.bind_driver(self, vf.address, driver)

    def unbind(self, vf: Vf) -> None:
        """Take a VF from its driver."""
        devices.unbind_driver(self, vf.address)

    def netdevsim(self, number: int = 1, *, ports: int = 1, vfs: int = 0) -> str:
        """Make a simulated device with ``vfs`` VFs and return the interface of its first port."""
        return devices.make_netdevsim(self, number, ports=ports, vfs=vfs)

    def set_link(self, *, up: bool, nic: int = 0) -> None:
        """Pull or plug a NIC's cable: its PF loses or gets the carrier."""
        self.qmp("set_link", name=qemu_device(nic), up=up)

    # What a start is made of.

    @property
    def _connected(self) -> AgentClient:
        if self._agent is None:
            raise HostDied(self.name, "not running", self.console())
        return self._agent

    def _try_restore(self, key: str) -> bool:
        """Start from the snapshot; where that fails, remove it and say so by `False`."""
        path = snapshot.snapshot_path(self.name, key)
        try:
            self._launch(snapshot.INCOMING)
            assert self._qmp is not None
            snapshot.restore(self._qmp, self.name, path)
            self._meet_agent(_REQUEST_SECONDS)
        except HostError:
            self.kill()
            snapshot.discard(self.name, key)
            return False
        self.origin = "restored"
        path.touch()
        return True

    def _boot(self) -> None:
        self._launch(())
        self._meet_agent(_BOOT_SECONDS)
        self.origin = "booted"
        self.run(devices.LOAD_DRIVERS)
        for number, _nic in enumerate(self.nics):
            devices.bring_up(self, self.pf(number))

    def _launch(self, extra: Sequence[str]) -> None:
        for name in ("agent", "console", "qemu.log", "qmp", "wire"):
            (self._directory / name).unlink(missing_ok=True)
        command = self._machine.command(self._directory, self._program or _empty_program())
        self._began = time.monotonic()
        self._process = QemuProcess([*command, *extra], self._machine.environment(), self._log)
        self._qmp = Qmp(self._process.connect(self._directory / "qmp"), self._log)

    def _meet_agent(self, seconds: float) -> None:
        assert self._process is not None
        self._agent = AgentClient(self._process.connect(self._directory / "agent"), self._log)
        self._agent.request("ping", timeout=seconds)
        self.answer_seconds = time.monotonic() - self._began

    def _connect_witness(self) -> Witness:
        assert self._process is not None
        found = wires(self.nics)
        wire = found.pop() if len(found) == 1 else None
        return Witness(self._process.connect(self._directory / "wire"), wire, port_names(self.nics))


@contextmanager
def running(*hosts: Host) -> Iterator[tuple[Host, ...]]:
    """Start several hosts side by side and take them away at the end.

    :raise HostDied: When one does not come up.
    """
    with ExitStack() as stack:
        for host in hosts:
            stack.callback(host.close)
        with ThreadPoolExecutor(max_workers=len(hosts)) as pool:
            for started in [pool.submit(host.start) for host in hosts]:
                started.result()
        yield hosts


def _empty_program() -> Path:
    """Return an image for hosts without a program."""
    path = cache_root() / "no-program"
    if not path.exists():
        write_atomically(path, bytes(1 << 16))
    return path


def _after_start(*, with_program: bool) -> str:
    """Return what a host does after every start, also after a restore.

    Its disk driver meets the program drive anew, for the image may differ from the one at the time of the snapshot.
    """
    lines = [
        "set -e",
        f"date -u -s @{time.time():.3f} >/dev/null",
        f"echo {uuid.uuid4()} >/run/boot_id",
        "mount --bind /run/boot_id /proc/sys/kernel/random/boot_id",
    ]
    if with_program:
        lines += [
            "program() { for d in /sys/block/vd*; do [ $(cat $d/serial) = lab-program ] && echo $d; done; true; }",
            "device=$(basename $(readlink -f $(program)/device))",
            "echo $device >/sys/bus/virtio/drivers/virtio_blk/unbind",
            "echo $device >/sys/bus/virtio/drivers/virtio_blk/bind",
            "mount -t erofs -o ro /dev/$(basename $(program)) /opt/program",
        ]
    return "\n".join(lines)
