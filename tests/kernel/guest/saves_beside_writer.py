# SPDX-License-Identifier: Apache-2.0
"""Save a VF many times while a writer alternates two complete states, one RTM_SETLINK each.

saves_beside_writer.py PF SAVES; prints a JSON object: how often each state was saved, and what was neither.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from vferry.clock import SystemClock
from vferry.core.model import DOT1AD, DOT1Q, AdminState, LinkState, Rate, Vlan
from vferry.nic.linux import LinuxNic
from vferry.testing.memory_journal import MemoryJournal
from vferry.verbs.context import Context, VfRef
from vferry.verbs.save import save

STATES = (
    AdminState(
        mac="52:54:00:11:11:11",
        vlans=(Vlan(vid=111, qos=1, proto=DOT1Q),),
        rate=Rate(min_tx=1, max_tx=111),
        spoofchk=True,
        link_state=LinkState.ENABLE,
        rss_query=True,
        trust=True,
    ),
    AdminState(
        mac="52:54:00:22:22:22",
        vlans=(Vlan(vid=222, qos=2, proto=DOT1AD),),
        rate=Rate(min_tx=2, max_tx=222),
        spoofchk=False,
        link_state=LinkState.DISABLE,
        rss_query=False,
        trust=False,
    ),
)


def write_for_ever(pf: str) -> None:
    armed = [LinuxNic().arm(pf, {0: state}) for state in STATES]
    while True:
        for request in armed:
            assert request.send() == {0: None}


def main() -> None:
    pf, saves = sys.argv[1], int(sys.argv[2])
    LinuxNic().program(pf, {0: STATES[0]})
    writer = os.fork()
    if writer == 0:
        write_for_ever(pf)
    context = Context(LinuxNic(), MemoryJournal(), SystemClock())
    counts = [0, 0]
    neither: list[str] = []
    changes = 0
    last = None
    try:
        for _ in range(saves):
            admin = save(context, [VfRef(pf, 0)]).vfs[0].admin
            if admin in STATES:
                counts[STATES.index(admin)] += 1
            else:
                neither.append(repr(admin))
            changes += admin != last
            last = admin
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    print(json.dumps({"counts": counts, "changes": changes, "neither": neither[:3]}))


main()
