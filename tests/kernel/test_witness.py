# SPDX-License-Identifier: Apache-2.0
"""A witness on another host of the segment: here a network namespace at the other end of a veth pair."""

from __future__ import annotations

import json

import pytest

from lab.machine.devices import wait_carrier
from lab.machine.host import Host

pytestmark = pytest.mark.lab

# What ssh would do: run the words after the host's name over there.
OVER_THERE = '#!/bin/sh\nshift\nexec ip netns exec far sh -c "$*"\n'

PROGRAM = """
import json, secrets
from vferry.ports.witness import WitnessError
from vferry.witness import FrameProber, RemoteWitness

def ask(command, destination, interface=None, seconds=3.0, same_nonce=True):
    nonce = secrets.token_bytes(16)
    try:
        with RemoteWitness([command], "far", interface).watch(nonce, seconds=seconds) as watch:
            FrameProber().send("here", destination, nonce if same_nonce else secrets.token_bytes(16), count=3)
            return watch.received()
    except WitnessError as error:
        return str(error)

print(json.dumps([
    ask("/tmp/over-there", "52:54:00:00:00:99"),
    ask("/tmp/over-there", "52:54:00:00:00:99", interface="there"),
    ask("/tmp/over-there", "52:54:00:00:00:99", same_nonce=False),
    ask("/bin/false", "52:54:00:00:00:99"),
    ask("/no/such/program", "52:54:00:00:00:99"),
]))
"""


def test_a_witness_counts_the_probes_that_reach_it(sim: Host) -> None:
    sim.run(
        "ip netns add far && ip link add here type veth peer name there && ip link set there netns far && "
        "ip link set here up && ip -n far link set there up"
    )
    wait_carrier(sim, "here")
    sim.write("/tmp/over-there", OVER_THERE, 0o755)
    sim.write("/tmp/ask.py", PROGRAM)
    result = sim.run("PYTHONPATH=/opt/program/src:/opt/program/site-packages python3 -S /tmp/ask.py")
    all_interfaces, one_interface, another_probe, dies, missing = json.loads(result.out)
    # The frames are for a MAC that nobody has: only a promiscuous listener takes them.
    assert (all_interfaces, one_interface) == (3, 3)
    assert another_probe == 0
    assert "ended early with exit code 1" in dies
    assert "No such file" in missing
