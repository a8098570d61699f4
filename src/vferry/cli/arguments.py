# SPDX-License-Identifier: Apache-2.0
"""The command line's grammar."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from vferry.state.files import DEFAULT_STATE_DIRECTORY

__all__ = ["make_parser"]

DESCRIPTION = """\
Carries the SR-IOV virtual functions (VFs) of a VM across a migration: saves what the physical function (PF)
holds for each VF, checks the destination, fences the source, restores and verifies.

A VF is named eth0/3 (PF's network interface / index from 0), 0000:3b:00.0/3 (PF's address / index), or by its
own PCI address, 0000:3b:02.3."""

EXIT_CODES = """\
exit codes:
  0  done
  1  failed, and everything is as it was before (verify: something differs)
  2  usage: the request makes no sense
  3  refused: the findings say why, nothing was changed
  4  a person is needed: the message names the state and the next command"""

EXAMPLE = """\
example: move a VM's VF by hand
  a$ vferry save eth0/3 --vm web --mac eth0/3=52:54:00:12:34:56 -o web.json
  b$ vferry check web.json eth1/0
  a$ vferry fence eth0/3                 # the VM has stopped
  b$ vferry restore web.json eth1/0
  b$ vferry verify web.json eth1/0
  a$ vferry release eth0/3"""


class _Verb(NamedTuple):
    name: str
    what: str
    example: str


VERBS = {
    verb.name: verb
    for verb in (
        _Verb("list", "PFs and VFs, one line each", "vferry list\n  vferry list eth0 --json"),
        _Verb("show", "everything known of one VF", "vferry show eth0/3"),
        _Verb(
            "save",
            "a record of VFs, to a file or standard output; a pure read",
            "vferry save eth0/3 eth1/3 --vm web --mac eth0/3=52:54:00:12:34:56 -o web.json",
        ),
        _Verb(
            "check",
            "may these records live on these VFs? changes nothing",
            "vferry check web.json eth1/0 --accept-loss min_tx_rate,link_state",
        ),
        _Verb(
            "restore",
            "check, program, read back; undo on any failure",
            "vferry restore web.json eth1/0\n  vferry restore web.json eth0/3=eth1/0 eth1/3=eth2/0 --dry-run",
        ),
        _Verb("verify", "read back and compare with a record; changes nothing", "vferry verify web.json eth1/0"),
        _Verb(
            "fence",
            "keep frames from VFs, and show the evidence",
            "vferry fence eth0/3 --dry-run\n  vferry fence eth0/3 --witness far-host",
        ),
        _Verb("unfence", "bring fenced VFs back to exactly what they were", "vferry unfence eth0/3"),
        _Verb("release", "bring VFs back to defaults; the next tenant inherits nothing", "vferry release eth0/3"),
        _Verb("probe", "learn what a PF's driver can do, on a free VF, undone", "vferry probe eth0"),
        _Verb("doctor", "look for hazards on this host; changes nothing", "vferry doctor"),
        _Verb(
            "recover",
            "judge migrations that a crash has interrupted, by four witnesses; changes nothing",
            "vferry recover --here web=paused --there web=absent\n  vferry recover --table",
        ),
        _Verb(
            "resolve",
            "say who owns a VM, where no machine can know it",
            "vferry resolve web --owner a --i-have-fenced b",
        ),
        _Verb("witness", "wait for a probe on this host (started by 'fence --witness')", "vferry witness NONCE"),
        _Verb(
            "demo",
            "move a VM between two simulated hosts, three ways on the same traffic; needs no NIC and no privileges",
            "vferry demo\n  vferry demo --run vferry --mode failover --seed 7 --html demo.html",
        ),
    )
}


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Text as it is written; knows its width without argparse's way, which imports a module for it."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"width": _columns(), **options})


def _columns() -> int:
    try:
        return int(os.environ["COLUMNS"]) - 2
    except (KeyError, ValueError):
        pass
    try:
        return os.get_terminal_size(1).columns - 2
    except OSError:
        return 78


def make_parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser of the command line.

    :param words: the command line; where it begins with a verb, only that verb's own parser is made.
    """
    parser = argparse.ArgumentParser(
        prog="vferry",
        description=DESCRIPTION,
        epilog=f"{EXAMPLE}\n\n{EXIT_CODES}",
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action="store_true", help="print the version and exit")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    chosen = words[:1] if words and words[0] in VERBS else VERBS
    for name in chosen:
        _OPTIONS[name](_add(verbs, VERBS[name]))
    return parser


def _add(verbs: argparse._SubParsersAction[argparse.ArgumentParser], verb: _Verb) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        verb.name,
        help=verb.what,
        description=verb.what[0].upper() + verb.what[1:] + ".",
        epilog=f"example:\n  {verb.example}\n\n{EXIT_CODES}",
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print the result, or the error, as JSON")
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        default=DEFAULT_STATE_DIRECTORY,
        help="undo records and learned capabilities of this host (default: %(default)s)",
    )
    return parser


def _list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pf", metavar="PF", nargs="?", help="only this PF")


def _show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("vf", metavar="VF", help="eth0/3, 0000:3b:00.0/3 or the VF's PCI address")


def _doctor(parser: argparse.ArgumentParser) -> None:
    """Take no more than every verb."""


def _unfence(parser: argparse.ArgumentParser) -> None:
    _change(parser)
    parser.add_argument(
        "--anyway", action="store_true", help="also bring back a VF that somebody else has set since it was fenced"
    )


def _change(parser: argparse.ArgumentParser) -> None:
    _vfs(parser)
    _dry_run(parser)


def _vfs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("vfs", metavar="VF", nargs="+", help="eth0/3, 0000:3b:00.0/3 or the VF's PCI address")


def _dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print the plan with its undo, change nothing")


def _save(parser: argparse.ArgumentParser) -> None:
    _vfs(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="write the record to FILE (default: standard output)")
    parser.add_argument("--vm", metavar="NAME", help="the VM that uses the VFs")
    parser.add_argument(
        "--mac",
        metavar="VF=MAC",
        action="append",
        default=[],
        help="declare the VM's MAC on a VF: a PF may show the guest's own choice instead (repeatable)",
    )
    parser.add_argument(
        "--mtu",
        metavar="VF=N",
        action="append",
        default=[],
        help="declare the VM's MTU on a VF, 68 to 65535 octets: no reading can tell it (repeatable)",
    )
    parser.add_argument("--statistics", action="store_true", help="keep the VFs' counters too, as facts")


def _vfs_of_record(parser: argparse.ArgumentParser, *, vfs: str = "+") -> None:
    parser.add_argument("file", metavar="FILE", help="a record, as 'vferry save' wrote it; - for standard input")
    parser.add_argument(
        "vfs",
        metavar="VF",
        nargs=vfs,
        help="where the saved VFs are to live, in their order; SAVED=VF names a pair",
    )
    parser.add_argument("--policy", metavar="FILE", help="what this host may grant (default: /etc/vferry/policy.toml)")
    parser.add_argument(
        "--accept-loss",
        metavar="ATTR,...",
        action="append",
        default=[],
        help="go on without these settings where the destination cannot hold them",
    )


def _restore(parser: argparse.ArgumentParser) -> None:
    _vfs_of_record(parser, vfs="*")  # none for --undo of a single VF, which takes the place of FILE
    _dry_run(parser)
    parser.usage = (
        "vferry restore [-h] [--json] [--state-dir DIR] [--policy FILE] [--accept-loss ATTR,...] [--dry-run]\n"
        "                      FILE VF [VF ...]\n"
        "       vferry restore --undo VF [VF ...]"
    )
    parser.add_argument("--undo", action="store_true", help="take an interrupted restore of these VFs back (no FILE)")


def _fence(parser: argparse.ArgumentParser) -> None:
    _vfs(parser)
    _dry_run(parser)
    parser.add_argument(
        "--mode",
        choices=("device-state", "failover", "cold"),
        default="device-state",
        help="how the VM moves; failover and cold allow a reset of the VF (default: %(default)s)",
    )
    parser.add_argument(
        "--require",
        metavar="COLUMN,...",
        action="append",
        default=[],
        help="refuse unless these are covered: admin_unicast (always), guest_unicast, multicast, guest_vlan, "
        "transmit, dma",
    )
    parser.add_argument(
        "--guest-stopped",
        action="store_true",
        help="the VM is stopped and stays so: a trusted VF can be fenced without a reset, since nobody can undo it",
    )
    parser.add_argument(
        "--parking-vlan",
        metavar="VID",
        type=int,
        default=4094,
        help="VLAN to park in, 1 to 4094 (default: %(default)s)",
    )
    parser.add_argument(
        "--witness",
        metavar="HOST[%IF]",
        help="a host on the same segment, by SSH, that waits for the probe (on interface IF)",
    )
    parser.add_argument(
        "--witness-command",
        metavar="CMD",
        default="ssh",
        help="called as CMD HOST vferry witness ... (default: %(default)s)",
    )


def _probe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pf", metavar="PF")
    parser.add_argument("--vf", metavar="INDEX", type=int, help="try on this VF (default: the last free one)")
    _dry_run(parser)


def _recover(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--table", action="store_true", help="print the truth table, and judge nothing")
    for side, words in (("here", "this host's"), ("there", "the other host's")):
        parser.add_argument(
            f"--{side}",
            metavar="VM=STATE",
            action="append",
            default=[],
            help=f"what {words} hypervisor says: running, paused, incoming, migrated, absent, unknown",
        )
    parser.add_argument("--journal", metavar="FILE", help="migration journal (default: migrations.sqlite there)")
    parser.add_argument("--registry", metavar="FILE", help="registry (default: registry.sqlite in the state directory)")


def _resolve(parser: argparse.ArgumentParser) -> None:
    _dry_run(parser)
    parser.add_argument("vm", metavar="VM")
    parser.add_argument("--owner", metavar="HOST", required=True, help="the host that owns the VM from now on")
    parser.add_argument(
        "--i-have-fenced",
        metavar="HOST",
        dest="fenced",
        help="the other host: nothing of the VM runs there, and nothing there receives for it",
    )
    parser.add_argument("--registry", metavar="FILE", help="registry (default: registry.sqlite in the state directory)")
    parser.add_argument("--journal", metavar="FILE", help="migration journal (default: migrations.sqlite there)")


def _witness(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("nonce", metavar="NONCE", help="what the probe carries, in hexadecimal")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to wait (default: %(default)s)")
    parser.add_argument("--interface", metavar="IF", help="listen on this one only (default: all)")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", metavar="N", type=int, default=1, help="decides what is left to chance (default: 1)")
    parser.add_argument(
        "--mode",
        choices=("device-state", "failover", "cold"),
        default="device-state",
        help="how the VM moves (default: %(default)s)",
    )
    parser.add_argument(
        "--run",
        choices=("copied", "early", "vferry", "all"),
        default="all",
        help="copied: the PF driver's table is copied, nothing is fenced; early: the destination is programmed "
        "before the VM comes, the source is cleaned late; vferry; or all of them (default: %(default)s)",
    )
    parser.add_argument("--html", metavar="FILE", help="write a page that shows the runs to FILE, too")


_OPTIONS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "list": _list,
    "show": _show,
    "save": _save,
    "check": _vfs_of_record,
    "restore": _restore,
    "verify": _vfs_of_record,
    "fence": _fence,
    "unfence": _unfence,
    "release": _change,
    "probe": _probe,
    "doctor": _doctor,
    "recover": _recover,
    "resolve": _resolve,
    "witness": _witness,
    "demo": _demo,
}
"""What each verb takes beside what all take."""
