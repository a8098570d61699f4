# SPDX-License-Identifier: Apache-2.0
"""Where Debian packages come from: the archive this machine's own apt already uses, and the key it trusts for it.

``VFERRY_LAB_MIRROR`` replaces the address; the key stays the machine's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabUnavailable
from lab.images.command import run

_TARGET_FORMAT = "$(REPO_URI)|$(CODENAME)|$(SOURCESENTRY)"


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """A Debian archive.

    :ivar uri: the directory that holds ``dists`` and ``pool``.
    :ivar signed_by: the value of the ``Signed-By`` field, as the machine has it; `None` means apt's default keys.
    """

    uri: str
    signed_by: str | None


def find_mirror() -> Mirror:
    """Ask this machine's apt for its Debian archive.

    :raise LabUnavailable: When apt knows none, which it does not before its first ``apt-get update``.
    """
    targets = _debian_targets()
    if not targets and os.geteuid() == 0:
        run(["apt-get", "update", "-q"])
        targets = _debian_targets()
    named = os.environ.get("VFERRY_LAB_MIRROR")
    if not targets:
        if named:
            return Mirror(uri=named, signed_by=None)
        raise LabUnavailable("apt knows no Debian archive: run 'apt-get update', or name one in VFERRY_LAB_MIRROR")
    uri, _, entry = min(targets, key=lambda target: target[1] != "bookworm")
    return Mirror(uri=named or uri, signed_by=_signed_by(Path(entry.rpartition(":")[0]), uri))


def _debian_targets() -> list[tuple[str, str, str]]:
    """Return (address, codename, source entry) of the package lists of Debian main that apt has."""
    filters = ["Created-By: Packages", "Component: main", "Origin: Debian", "Label: Debian"]
    listing = run(["apt-get", "indextargets", "--format", _TARGET_FORMAT, *filters]).decode()
    rows = [line.split("|") for line in listing.splitlines() if line.count("|") == 2]
    return [(uri, codename, entry) for uri, codename, entry in rows]


def _signed_by(source: Path, uri: str) -> str | None:
    """Return the key that ``source`` names for ``uri``, in the syntax of a deb822 field."""
    try:
        text = source.read_text()
    except OSError:
        return None
    if source.suffix == ".sources":
        return _signed_by_deb822(text, uri)
    return _signed_by_one_line(text, uri)


def _signed_by_deb822(text: str, uri: str) -> str | None:
    for stanza in text.split("\n\n"):
        fields = _fields(stanza)
        uris = [word.rstrip("/") for word in fields.get("uris", "").split()]
        if uri.rstrip("/") in uris:
            return fields.get("signed-by")
    return None


def _fields(stanza: str) -> dict[str, str]:
    """Return the fields of a deb822 stanza; continuation lines keep their leading blank."""
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace() and name:
            fields[name] += "\n" + line
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def _signed_by_one_line(text: str, uri: str) -> str | None:
    for line in text.splitlines():
        if line.startswith("deb") and uri.rstrip("/") in line and "[" in line:
            options = line.partition("[")[2].partition("]")[0].split()
            for option in options:
                key, _, value = option.partition("=")
                if key.lower() == "signed-by":
                    return value.replace(",", " ")
    return None
