# SPDX-License-Identifier: Apache-2.0
"""Save a VF of one netdevsim device in a random state, restore it on another device, compare as ip(8) shows both.

random_states.py SOURCE_PF DESTINATION_PF COUNT SEED; prints a JSON object.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys

from vferry.clock import SystemClock
from vferry.core.model import DOT1AD, DOT1Q, AdminState, DeclaredState, LinkState, Rate, Vlan
from vferry.core.policy import Policy
from vferry.core.record import decode_json, encode_json
from vferry.core.reference_tables import REFERENCE_TABLES
from vferry.nic.linux import LinuxNic
from vferry.testing.memory_journal import MemoryJournal
from vferry.verbs.check import Terms
from vferry.verbs.context import Context, VfRef
from vferry.verbs.restore import restore
from vferry.verbs.save import save
from vferry.verbs.verify import verify

IP_EVERY = 20
"""A fork of ip takes longer than everything else, so not every state is compared with it."""


def random_state(rng: random.Random) -> AdminState:
    max_tx = rng.randrange(1, 0x10000)  # netdevsim keeps 16 bits
    mac = [rng.randrange(256) & 0xFC | 2, *(rng.randrange(256) for _ in range(5))]
    return AdminState(
        mac=bytes(mac).hex(":"),
        vlans=(Vlan(vid=rng.randrange(1, 4095), qos=rng.randrange(8), proto=rng.choice((DOT1Q, DOT1AD))),),
        rate=Rate(min_tx=rng.randrange(max_tx + 1), max_tx=max_tx),
        spoofchk=rng.choice((True, False)),
        link_state=rng.choice(tuple(LinkState)),
        rss_query=rng.choice((True, False)),
        trust=rng.choice((True, False)),
    )


def as_ip_shows(pf: str, vf: int) -> dict[str, object]:
    shown = subprocess.run(["ip", "-d", "-j", "link", "show", pf], check=True, capture_output=True).stdout
    (entry,) = [entry for entry in json.loads(shown)[0]["vfinfo_list"] if entry["vf"] == vf]
    del entry["vf"]
    return dict(entry)


def main() -> None:
    source, destination, count, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    context = Context(LinuxNic(), MemoryJournal(), SystemClock())
    terms = Terms(policy=Policy(), tables=REFERENCE_TABLES)
    rng = random.Random(seed)
    compared = 0
    wrong: list[object] = []
    for number in range(count):
        i, j = rng.randrange(4), rng.randrange(4)
        state = random_state(rng)
        assert context.nic.program(source, {i: state}) == {i: None}
        before = context.nic.read(source)
        record = save(context, [VfRef(source, i)], declared={VfRef(source, i): DeclaredState(mac=state.mac)})
        assert context.nic.read(source) == before
        record = decode_json(encode_json(record))
        restore(context, record, [(record.vfs[0], VfRef(destination, j))], terms)
        verify(context, record, [(record.vfs[0], VfRef(destination, j))], terms)
        if number % IP_EVERY == 0:
            compared += 1
            if as_ip_shows(source, i) != as_ip_shows(destination, j):
                wrong.append([as_ip_shows(source, i), as_ip_shows(destination, j)])
        elif context.nic.read(source).vfs[i].admin != context.nic.read(destination).vfs[j].admin:
            wrong.append(number)
    print(json.dumps({"states": count, "by_ip": compared, "wrong": wrong}))


main()
