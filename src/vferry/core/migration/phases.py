# SPDX-License-Identifier: Apache-2.0
"""The words of a migration: roles, phases, acts and events.

A *phase* is what stands in the journal. In each phase a machine does exactly one *act*; its outcome, a message, or
something that the outside does is an *event*, and the table says which phase follows. Every act is idempotent: after a
crash the act of the journalled phase is simply done again.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

__all__ = ["Act", "DestinationPhase", "Event", "Phase", "Role", "SourcePhase"]


class Role(enum.Enum):
    """The side of a migration."""

    SOURCE = "source"
    DESTINATION = "destination"


class SourcePhase(enum.Enum):
    """Where the source is."""

    CLAIM = "claim"
    """Opens the migration in the registry."""
    OFFER = "offer"
    """Saves, offers the record, waits for an answer."""
    UNPLUG = "unplug"
    """Failover: takes the VFs from the running guest; the standby carries on."""
    SHUTDOWN = "shutdown"
    """Cold: the guest shuts down."""
    PRECOPY = "pre-copy"
    """The hypervisor copies memory, until the VM is stopped for the switch-over."""
    FENCE = "fence"
    """Saves for the last time, fences all VFs, stops and saves their own state."""
    STANDBY = "standby"
    """Failover: the VM's MAC is forwarded to its standby here."""
    LEAVE = "leave"
    """Failover: the VM is stopped; the standby's forwarding entry is taken out, nothing here receives for it."""
    HANDOVER = "handover"
    """Sends the final record, waits until the destination is ready."""
    SWITCH = "switch"
    """Lets the hypervisor send the rest."""
    AWAIT = "await"
    """Silent, until the registry says whose the VM is."""
    ABORT = "abort"
    """Calls the migration off in the registry; the registry's answer decides."""
    RECALL = "recall"
    """Calls it off where the destination may have programmed the MAC already: it must be silent first."""
    RETRACT = "retract"
    """Waits until the registry says that the destination is silent."""
    REJOIN = "rejoin"
    """Failover, after an abort: the standby's forwarding entry is in place again."""
    UNFENCE = "unfence"
    """Brings the VFs back to what they were."""
    RESUME = "resume"
    """Lets the VM run on here."""
    REPLUG = "replug"
    """Failover, after an abort: VFs back from the standby to the guest."""
    RELEASE = "release"
    """The VM runs elsewhere: its VFs go back to defaults, what is left of it here is ended."""
    RELEASED = "released"
    """Over: the VM has moved."""
    KEPT = "kept"
    """Over: the VM stays here, as before."""
    REFUSED = "refused"
    """Over: nothing was begun."""
    BLOCKED = "blocked"
    """A person decides; nothing here runs or receives meanwhile that did not before."""


class DestinationPhase(enum.Enum):
    """Where the destination is."""

    CHECK = "check"
    """Holds the record against NICs, policy, registry and hypervisor; reserves VFs."""
    STAGE = "stage"
    """Programs what harms nobody while the VM is elsewhere: never the MAC."""
    INCOMING = "incoming"
    """Has a VM that waits; accepts, and awaits the final record."""
    PREPARE = "prepare"
    """Validates the final record and the VFs' state, whole."""
    READY = "ready"
    """Says so; waits until the VM is complete and held."""
    COMMIT = "commit"
    """One compare-and-swap: the VM is ours, or it is not."""
    ACTIVATE = "activate"
    """MAC and the rest, the VFs' own state, read back."""
    START = "start"
    """Lets the VM run. The point of no return."""
    FINISH = "finish"
    """Announces the VM, reads everything back, ends the migration in the registry."""
    PLUG = "plug"
    """Failover: programs the VFs and gives them to the guest, in place of the standby."""
    SILENCE = "silence"
    """Ends the waiting VM, takes out what was programmed."""
    GIVE_BACK = "give-back"
    """Says in the registry that the VM is the source's; a reverse commit where it was ours already."""
    ARRIVED = "arrived"
    """Over: the VM runs here."""
    ON_STANDBY = "on-standby"
    """Over, with a fault: the VM runs here, on its standby; the VFs could not be plugged."""
    RETURNED = "returned"
    """Over: silent here, the VM is the source's."""
    DECLINED = "declined"
    """Over: the offer was refused, nothing was changed."""
    BLOCKED = "blocked"
    """A person decides: it cannot be proven whether the VM ran here, or that it is silent."""


Phase: TypeAlias = SourcePhase | DestinationPhase


class Act(enum.Enum):
    """What a machine asks its host to do; each is idempotent."""

    # Source
    OPEN = "open the migration in the registry"
    OFFER = "save the VFs and offer the record"
    SEND_MEMORY = "begin to copy the VM's memory"
    UNPLUG = "take the VFs from the guest"
    SHUT_DOWN = "shut the guest down"
    FENCE = "save for the last time, fence the VFs, take their own state"
    FORWARD_STANDBY = "forward the VM's MAC to its standby"
    STOP_STANDBY = "take the standby's forwarding entry out"
    HAND_OVER = "send the final record"
    SWITCH = "let the hypervisor send the rest"
    WATCH = "read the registry until it is decided"
    ABORT = "call the migration off in the registry"
    RECALL = "call it off, and wait for the destination's silence"
    UNFENCE = "bring the VFs back"
    RESUME = "let the VM run on here"
    START_AGAIN = "start the VM again here"
    REPLUG = "give the VFs back to the guest"
    RELEASE = "bring the VFs to defaults and end what is left of the VM"
    # Destination
    CHECK = "check the record and reserve VFs"
    STAGE = "program what harms nobody"
    RECEIVE = "make a VM that waits, and accept"
    VALIDATE = "validate the final record and state"
    PROGRAM_EARLY = "validate, and program everything: a later setting would reset the VF"
    SAY_READY = "say that everything is ready"
    COMMIT = "swap the ownership to this host"
    ACTIVATE = "program the MAC and the rest, load the VFs' state, read back"
    ACTIVATE_LOADED = "load the VFs' state into what was programmed early, read back"
    START = "let the VM run here"
    FINISH = "announce, read back, end the migration in the registry"
    PLUG = "program the VFs and give them to the guest"
    SILENCE = "end the waiting VM and take out what was programmed"
    GIVE_BACK = "say in the registry that the VM is the source's"


class Event(enum.Enum):
    """What makes a machine go on."""

    # Outcomes of acts
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    """The act found a reason not to begin; or the other side says so."""
    LOST = "lost"
    """Commit: the source has called the migration off."""
    UNPROVEN = "unproven"
    """Start: it cannot be known whether the VM ran."""
    # What the registry says
    ABORTED = "aborted"
    """Settled on the source."""
    COMMITTED = "committed"
    """The destination's, not finished."""
    FINISHED = "finished"
    """Settled on the destination."""
    # What the other side says
    ACCEPTED = "accepted"
    FINAL = "final"
    READY = "ready"
    # What the hypervisor says
    STOPPED = "stopped"
    """The VM is stopped for the switch-over."""
    HELD = "held"
    """The VM is complete and not running."""
    # The rest
    TIMEOUT = "timeout"
    CANCEL = "cancel"
    """The operator wants the VM to stay."""
    RESTARTED = "restarted"
    """The process was started again; VM and NIC are as they were left."""
    VM_GONE = "vm-gone"
    """The process was started again, and the VM is not here any more."""
    VM_RUNS = "vm-runs"
    """The process was started again, and the VM runs here."""
