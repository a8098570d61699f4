# SPDX-License-Identifier: Apache-2.0
"""``python -m lab.demo``: move a VM's VF between two hosts with igb NICs, and draw what became of every frame."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from lab.errors import LabError
from lab.images.build import build_images
from lab.images.program import project_program
from lab.move import PHASES, SENDERS, Outcome, Story, move_hosts


def main() -> int:
    """Run the demo; the exit code says whether it went as it must."""
    parser = argparse.ArgumentParser(prog="python -m lab.demo", description=__doc__)
    parser.add_argument("--unfenced", action="store_true", help="leave the fence out, to see what it is for")
    options = parser.parse_args()
    begin = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - begin:6.1f}  {line}", flush=True)

    try:
        story = _move(say, fenced=not options.unfenced)
    except LabError as error:
        print(f"the demo did not finish: {error}", file=sys.stderr)
        return 1
    print("\n".join(picture(story)))
    return 0 if options.unfenced or went_well(story) else 1


def _move(say: Callable[[str], None], *, fenced: bool) -> Story:
    images = build_images(say)
    program = project_program(images)
    say("starting hosts a, b and c: real kernels, an igb NIC each, on one wire")
    with move_hosts(images, program, say) as move:
        return move.run(fenced=fenced)


def picture(story: Story) -> list[str]:
    """Return a table: for each sender and phase, one letter for each frame.

    ``a``, ``b``: received by the VM there; ``d``: delivered to the VF that the VM has left; ``w``: left by the wire;
    ``x``: swallowed in a NIC.
    """
    width = max(len(phase) for phase in PHASES) + 2
    lines = ["", "What became of every frame to the VM's MAC:", ""]
    lines.append(" " * 16 + "".join(phase.ljust(width) for phase in PHASES))
    for sender in SENDERS:
        cells = [letters(story, phase, sender).ljust(width) for phase in PHASES]
        lines.append(sender.ljust(16) + "".join(cells))
    lines += [
        "",
        "a: received by the VM on a   b: received by the VM on b   w: left by the wire",
        "d: delivered to the dead VF on a, which the VM has left   x: swallowed inside a NIC",
    ]
    return lines


def letters(story: Story, phase: str, sender: str) -> str:
    """Return one letter for each frame of a sender in a phase."""
    outcome = story.outcomes[phase, sender]
    on_a = "a" if phase == PHASES[0] else "d"
    return "".join(_letter(outcome, number, on_a) for number in range(outcome.sent))


def _letter(outcome: Outcome, number: int, on_a: str) -> str:
    if number in outcome.inside_b:
        return "b"
    if number in outcome.inside_a:
        return on_a
    return "w" if number in outcome.wire else "x"


def went_well(story: Story) -> bool:
    """Whether no NIC swallowed a frame after the fence, and the VM received everything before and after."""
    fenced, on_b, released = PHASES[2:]
    silent = all(not story.outcomes[fenced, sender].inside_a for sender in SENDERS)
    on_the_wire = all(story.outcomes[fenced, sender].swallowed == 0 for sender in SENDERS)
    arrived = all(
        len(story.outcomes[phase, s].inside_b) == story.outcomes[phase, s].sent
        for phase in (on_b, released)
        for s in SENDERS
    )
    return silent and on_the_wire and arrived


if __name__ == "__main__":
    sys.exit(main())
