# SPDX-License-Identifier: Apache-2.0
"""An apt of the lab's own: own sources, own lists, an empty list of installed packages.

It resolves and downloads packages, checked against the archive's signature, and changes nothing on the machine:
packages are unpacked into a directory and never installed, so their maintainer scripts do not run.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from lab.errors import BuildFailed
from lab.images.cache import cache_root, locked
from lab.images.command import run
from lab.images.mirror import Mirror

_USR_MERGED = ("bin", "lib", "lib64", "sbin")
_DOCUMENTATION = ("doc", "info", "lintian", "locale", "man")


class PrivateApt:
    """A private view of some suites of a Debian archive.

    The package lists are fetched at the first use in a process, not before: a finished build needs no network.
    """

    def __init__(self, name: str, mirror: Mirror, suites: Sequence[str]) -> None:
        self._name = name
        self._mirror = mirror
        self._suites = tuple(suites)
        self._directory = cache_root() / f"apt-{name}"
        self._lock = threading.Lock()
        self._current = False

    def closure(self, packages: Sequence[str], into: Path, *, release: str | None = None) -> list[Path]:
        """Download packages with all they depend on (no recommendations) and return the files.

        :param into: an existing directory for the files.
        :param release: the suite preferred for ``packages``, as with ``apt-get -t``.
        :raise BuildFailed: When apt cannot resolve or fetch them.
        """
        (into / "partial").mkdir()
        target = ["-t", release] if release else []
        options = ["-o", f"Dir::Cache::archives={into}", "-o", "Debug::NoLocking=1"]
        self._apt("apt-get", "install", "-qy", "--download-only", *options, *target, *packages)
        return sorted(into.glob("*.deb"))

    def download(self, packages: Sequence[str], into: Path) -> list[Path]:
        """Download just these packages; a name may carry a suite, ``name/suite``.

        :raise BuildFailed: When one is unknown or cannot be fetched.
        """
        self._apt("apt-get", "download", "-q", *packages, cwd=into)
        return sorted(into.glob("*.deb"))

    def dependencies(self, package: str) -> list[str]:
        """Return the names that ``package`` (or ``name/suite``) depends on, as written in its control file."""
        listing = self._apt("apt-cache", "depends", "--no-recommends", "--no-suggests", package)
        return [line.split(":", 1)[1].strip() for line in listing.splitlines() if line.strip().startswith("Depends:")]

    def _apt(self, program: str, *words: str, cwd: Path | None = None) -> str:
        env = {"APT_CONFIG": str(self._update()), "DEBIAN_FRONTEND": "noninteractive"}
        return run([program, *words], env=env, cwd=cwd).decode()

    def _update(self) -> Path:
        """Bring the package lists up to date, once in the life of this object, and return the configuration."""
        config = self._directory / "apt.conf"
        with self._lock, locked(f"apt-{self._name}"):
            if not self._current:
                self._configure(config)
                run(["apt-get", "update", "-q"], env={"APT_CONFIG": str(config)})
                self._current = True
        return config

    def _configure(self, config: Path) -> None:
        for part in ("lists/partial", "cache/archives/partial", "preferences.d"):
            (self._directory / part).mkdir(parents=True, exist_ok=True)
        (self._directory / "status").touch()
        (self._directory / "lab.sources").write_text(self._sources())
        own = {
            "APT::Architecture": "amd64",
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "APT::Update::Error-Mode": "any",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Dir::Cache": str(self._directory / "cache"),
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": str(self._directory / "preferences.d"),
            "Dir::Etc::sourcelist": str(self._directory / "lab.sources"),
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State": str(self._directory),
            "Dir::State::lists": str(self._directory / "lists"),
            "Dir::State::status": str(self._directory / "status"),
        }
        lines = [f'{key} "{value}";' for key, value in own.items()]
        config.write_text("\n".join([*_machine_acquire_options(), 'APT::Architectures { "amd64"; };', *lines, ""]))

    def _sources(self) -> str:
        fields = ["Types: deb", f"URIs: {self._mirror.uri}", f"Suites: {' '.join(self._suites)}", "Components: main"]
        if self._mirror.signed_by:
            fields.append(f"Signed-By: {self._mirror.signed_by}")
        return "\n".join([*fields, ""])


def _machine_acquire_options() -> list[str]:
    """Return how this machine fetches (proxies, time limits, date checks), without its extra indexes and hooks."""
    dump = run(["apt-config", "dump", "Acquire"]).decode()
    unwanted = ("Acquire::IndexTargets", "Acquire::Languages")
    return [line for line in dump.splitlines() if line.startswith("Acquire::") and not line.startswith(unwanted)]


def unpack(packages: Sequence[Path], root: Path) -> None:
    """Unpack packages over each other into ``root``, which gets Debian's merged ``/usr``, and drop documentation.

    :raise BuildFailed: When a package is damaged.
    """
    for name in _USR_MERGED:
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    for package in packages:
        _extract(package, root)
    for name in _DOCUMENTATION:
        shutil.rmtree(root / "usr/share" / name, ignore_errors=True)


def _extract(package: Path, root: Path) -> None:
    """Unpack one package; unlike ``dpkg-deb -x`` this leaves links to directories in place."""
    tar = ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "--warning=no-timestamp", "-C", str(root)]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as reader:
        run_tar = subprocess.run(tar, stdin=reader.stdout, capture_output=True, check=False)
    if reader.returncode or run_tar.returncode:
        raise BuildFailed(f"unpacking {package.name}", run_tar.stderr.decode(errors="replace"))
