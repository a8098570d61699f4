# SPDX-License-Identifier: Apache-2.0
"""The program drive: the project's code and its dependencies as a read-only image, mounted on ``/opt/program``.

Each directory is first mirrored into the cache and compiled there with the hosts' Python, file by file as they change,
so that a host need not compile and a second image of the same directories takes a moment.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lab.errors import LabUnavailable
from lab.images.boot import make_erofs
from lab.images.build import Images, load_images
from lab.images.cache import cache_root, digest, locked, make_piece, scratch
from lab.images.command import run
from lab.images.packages import root_path
from lab.images.sysroot import Sysroot

_UNWANTED = frozenset({".git", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".venv", "__pycache__"})
_KEPT_IMAGES = 8
_PROJECT = Path(__file__).resolve().parents[2]


def program_image(content: Mapping[str, Path | Sequence[Path]], images: Images | None = None) -> Path:
    """Return an image that holds each directory under its name.

    :param content: for example ``{"src": ..., "site-packages": [..., ...]}``: a directory, whose content goes under
        the name, or some files and directories, which go there as they are (see :func:`installed`).
    :param images: the build; default: the finished one.
    :raise LabUnavailable: When something named does not exist, or there is no build.
    :raise BuildFailed: When the image cannot be made.
    """
    places = _places(content)
    for path in places.values():
        if not path.exists():
            raise LabUnavailable(f"there is no {path} for the program drive")
    described = [f"{place}={_fingerprint(path)}" for place, path in sorted(places.items())]
    piece = make_piece("program", described, lambda work: _make(places, images or load_images(), work))
    os.utime(piece)
    _forget_old()
    return piece / "program.erofs"


def project_program(images: Images | None = None) -> Path:
    """Return an image with this project's code and the distributions that it depends on.

    :raise LabUnavailable: When one of them is not installed, or there is no build.
    """
    project = tomllib.loads((_PROJECT / "pyproject.toml").read_text())["project"]
    names = [distribution_name(requirement) for requirement in project["dependencies"]]
    return program_image({"src": _PROJECT / "src", "site-packages": installed(*names)}, images)


def installed(*names: str) -> list[Path]:
    """Return the files and directories of installed distributions and of all that they require.

    A requirement that is not installed is left out: its marker may exclude it here.

    :raise LabUnavailable: When one of ``names`` is not installed.
    """
    found: dict[Path, None] = {}
    done: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as error:
            if name in names:
                raise LabUnavailable(f"the distribution {name!r} is not installed") from error
            continue
        if distribution.metadata["Name"] in done:
            continue
        done.add(distribution.metadata["Name"])
        tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        found.update(dict.fromkeys(Path(str(distribution.locate_file(top))) for top in sorted(tops)))
        waiting += [distribution_name(text) for text in distribution.requires or () if "extra ==" not in text]
    return list(found)


def distribution_name(requirement: str) -> str:
    """Return the distribution's name in a requirement (PEP 508)."""
    match = re.match(r"[\w.-]+", requirement)
    return match.group(0) if match else requirement


def _places(content: Mapping[str, Path | Sequence[Path]]) -> dict[str, Path]:
    """Return what goes where in the image."""
    places: dict[str, Path] = {}
    for name, what in content.items():
        if isinstance(what, Path):
            places[name] = what
        else:
            places |= {f"{name}/{path.name}": path for path in what}
    return places


def _make(places: Mapping[str, Path], images: Images, work: Path) -> None:
    with scratch("program-tree") as tree:
        for place, path in places.items():
            target = tree / place
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(_compiled_mirror(path), target, symlinks=True, copy_function=_link)
            else:
                shutil.copy2(path, target)
        make_erofs(images.tools, tree, work / "program.erofs")


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def _files(top: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield (relative path, status) of the regular files below a directory, sorted, without caches; or of a file."""
    if top.is_file():
        yield "", top.stat()
    for directory, names, files in os.walk(top):
        names[:] = sorted(name for name in names if name not in _UNWANTED)
        for name in sorted(files):
            path = Path(directory, name)
            if path.is_file():
                yield str(path.relative_to(top)), path.stat()


def _fingerprint(top: Path) -> str:
    return digest([f"{name}:{status.st_size}:{status.st_mtime_ns}" for name, status in _files(top)])


def _compiled_mirror(directory: Path) -> Path:
    """Return a copy of ``directory`` in the cache, brought up to date and compiled."""
    name = f"mirror-{digest([str(directory.resolve())])}"
    mirror = cache_root() / name
    with locked(name):
        mirror.mkdir(exist_ok=True)
        wanted = dict(_files(directory))
        gone = [path for path, _status in _files(mirror) if path not in wanted]
        for path in gone:
            (mirror / path).unlink()
        changed = [_refresh(directory / path, mirror / path, status) for path, status in wanted.items()]
        if gone or any(changed):
            _compile(mirror)
    return mirror


def _refresh(source: Path, target: Path, status: os.stat_result) -> bool:
    """Copy a file where size or time differ, and say so. The new one does not overwrite: images share the old one."""
    if target.exists():
        have = target.stat()
        if (have.st_size, have.st_mtime_ns) == (status.st_size, status.st_mtime_ns):
            return False
        target.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
    return True


def _compile(mirror: Path) -> None:
    """Compile what has changed; files that are not valid Python are the business of whoever imports them."""
    root = Sysroot(root_path())
    options = ["-qq", "-j0", "-s", str(mirror), "-p", "/opt/program"]
    python = ["sh", "-c", '"$@" || true', "compile", *root.command("python3.11", "-I", "-m", "compileall")]
    run([*python, *options, mirror], env={"PYTHONHOME": str(root.path("usr"))})


def _forget_old() -> None:
    """Keep the newest images; a running host keeps the file that it has open."""
    found = sorted(cache_root().glob("program-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found[_KEPT_IMAGES:]:
        shutil.rmtree(path, ignore_errors=True)
